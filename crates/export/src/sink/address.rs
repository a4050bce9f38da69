//! Who is connected to, by TLS unless it is this machine.

use super::Secrets;
use facts::Finding;
use hyper::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, plain or not.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Address {
    host: String,
    port: u16,
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
    /// Of a URL.
    pub(super) authority: String,
    pub(super) path: String,
}

impl Address {
    /// `None`: it is none, or goes in the clear to somebody else's machine.
    pub(super) fn of_url(url: &str, secrets: &Secrets) -> Result<Option<Self>, Finding> {
        let Ok(uri) = url.parse::<Uri>() else {
            return Ok(None);
        };
        let Some(authority) = uri.authority() else {
            return Ok(None);
        };
        // A secret in an address ends up in logs.
        if authority.as_str().contains('@') || url.contains('#') {
            return Ok(None);
        }
        let tls = uri.scheme_str() == Some("https");
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let address = Self::new(host, port, tls, secrets)?;
        Ok(address.map(|address| Self {
            authority: authority.to_string(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
            ..address
        }))
    }

    /// `HOST:PORT`.
    pub(super) fn of_host(
        text: &str,
        tls: bool,
        secrets: &Secrets,
    ) -> Result<Option<Self>, Finding> {
        let Some((host, port)) = text.rsplit_once(':') else {
            return Ok(None);
        };
        let Ok(port) = port.parse() else {
            return Ok(None);
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.contains('/') {
            return Ok(None);
        }
        Self::new(host.to_owned(), port, tls, secrets)
    }

    fn new(host: String, port: u16, tls: bool, secrets: &Secrets) -> Result<Option<Self>, Finding> {
        let loopback = host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
        // What records say is not for whoever listens on the way.
        if !tls && !loopback {
            return Ok(None);
        }
        let tls = if tls {
            let Ok(name) = ServerName::try_from(host.clone()) else {
                return Ok(None);
            };
            Some((name, trusted(secrets.authorities.as_deref())?))
        } else {
            None
        };
        Ok(Some(Self {
            host,
            port,
            tls,
            authority: String::new(),
            path: String::new(),
        }))
    }

    /// Host and port.
    pub(super) fn place(&self) -> (String, u16) {
        (self.host.clone(), self.port)
    }

    /// Another place, as safe as this one: with the same authorities, or on this machine as well.
    pub(super) fn beside(&self, host: &str, port: u16) -> Option<Self> {
        let tls = match &self.tls {
            Some((_, config)) => {
                let name = ServerName::try_from(host.to_owned()).ok()?;
                Some((name, Arc::clone(config)))
            }
            None if host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback()) => None,
            None => return None,
        };
        Some(Self {
            host: host.to_owned(),
            port,
            tls,
            authority: String::new(),
            path: String::new(),
        })
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("no connection to {}:{}: {error}", self.host, self.port))?;
        let Some((name, config)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), stream)
            .await
            .map_err(|error| format!("no TLS with {}:{}: {error}", self.host, self.port))?;
        Ok(Box::new(stream))
    }
}

fn trusted(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, Finding> {
    crypto::client_trusting(authorities)
        .map(Arc::new)
        .map_err(|error| {
            Finding::new(
                "EXPORT-SINK-CA",
                "the authorities that may certify the sink cannot be read",
            )
            .expected(error.expected)
            .observed(error.observed)
            .next("install ca-certificates, or name a file with --ca-file")
        })
}
