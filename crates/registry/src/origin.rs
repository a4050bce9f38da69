//! A place of the web: scheme, host and port; how it is written, and how it is connected to.

use crate::address::is_public;
use crate::exchange::Failure;
use http::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

const CONNECT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// `None`: plain, to this machine.
    name: Option<ServerName<'static>>,
}

/// Which addresses a name may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The operator named it.
    Any,
    /// Somebody else did.
    Public,
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Origin {
    /// Of `https://HOST[:PORT]/…`, or `http://` and a loopback address, with the path and query that follow.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub(crate) fn parse(url: &str) -> Result<(Self, String), &'static str> {
        let uri: Uri = url.parse().map_err(|_| "it cannot be read")?;
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') || url.contains('#') {
            return Err("it has a user or a fragment");
        }
        let named = authority.as_str().len() > authority.host().len();
        if named && authority.port_u16().is_none() {
            return Err("it has no port of TCP");
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it is not of the web"),
        };
        let loopback = host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        if !secure && !loopback {
            return Err("it is neither encrypted nor on this machine");
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| "its host is no name")?;
        let default = if secure { 443 } else { 80 };
        let origin = Self {
            host,
            port: authority.port_u16().unwrap_or(default),
            name: secure.then_some(name),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok((origin, path.to_owned()))
    }

    /// As a request's `Host` has it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Connects to an address of this host that was looked at: the one that is checked is the one that is used.
    pub(crate) async fn connect(
        &self,
        reach: Reach,
        tls: &Arc<ClientConfig>,
    ) -> Result<Box<dyn Stream>, Failure> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<SocketAddr> = addresses
            .map_err(|error| Failure::broken(format!("{} has no address: {error}", self.host)))?
            .collect();
        let inside = addresses.iter().find(|one| !is_public(one.ip()));
        if let (Reach::Public, Some(inside)) = (reach, inside) {
            return Err(Failure::Inside(format!("{} at {}", self.host, inside.ip())));
        }
        let connecting = TcpStream::connect(addresses.as_slice());
        let stream = tokio::time::timeout(CONNECT, connecting)
            .await
            .map_err(|_| Failure::broken(format!("no connection within {} s", CONNECT.as_secs())))?
            .map_err(|error| Failure::broken(format!("no connection: {error}")))?;
        let Some(name) = &self.name else {
            return Ok(Box::new(stream));
        };
        let secured =
            tokio_rustls::TlsConnector::from(Arc::clone(tls)).connect(name.clone(), stream);
        let secured = tokio::time::timeout(CONNECT, secured)
            .await
            .map_err(|_| Failure::broken(format!("no TLS within {} s", CONNECT.as_secs())))?
            .map_err(|error| Failure::broken(format!("no TLS: {error}")))?;
        Ok(Box::new(secured))
    }
}

#[cfg(test)]
mod tests {
    use super::Origin;

    #[test]
    fn only_what_is_encrypted_or_on_this_machine_is_a_place() {
        for (url, authority, path) in [
            ("https://registry.example", "registry.example:443", "/"),
            (
                "https://[2606::1]:8443/v2/?a=b",
                "[2606::1]:8443",
                "/v2/?a=b",
            ),
            ("http://127.0.0.1:5000/token", "127.0.0.1:5000", "/token"),
        ] {
            let (origin, rest) = Origin::parse(url).unwrap();
            assert_eq!(
                (origin.authority().as_str(), rest.as_str()),
                (authority, path)
            );
        }
        for bad in [
            "",
            "registry.example",
            "/v2/",
            "ftp://registry.example",
            "file:///etc/passwd",
            "http://registry.example",
            "http://localhost:5000",
            "http://169.254.169.254",
            "https://user:word@registry.example",
            "https://registry.example/#x",
            "https://registry.example:99999",
        ] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }
}
