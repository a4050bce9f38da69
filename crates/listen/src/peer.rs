//! The other end of a connection that is made from here: read out of an address, and reached by TLS, or plain where the
//! caller gives leave. What is said then, and how long it may take, is for whoever connects.

use hyper::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection, plain or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// `http[s]://HOST[:PORT][/PATH]`, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// It is of `https`.
    pub tls: bool,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    /// As the header `Host` has it.
    pub authority: String,
    /// With the query; `/` where there is none.
    pub path: String,
}

/// Why an address is none that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It has no scheme and host.
    NoAddress,
    /// It has a user or a fragment: a secret in an address ends up in logs.
    Secret,
    /// It is of neither `https` nor `http`.
    Scheme,
}

impl Url {
    /// # Errors
    /// [`Unfit`].
    pub fn parse(url: &str) -> Result<Self, Unfit> {
        let uri: Uri = url.parse().map_err(|_error| Unfit::NoAddress)?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(Unfit::NoAddress);
        };
        if authority.as_str().contains('@') || url.contains('#') {
            return Err(Unfit::Secret);
        }
        let (tls, port) = match scheme {
            "https" => (true, 443),
            "http" => (false, 80),
            _ => return Err(Unfit::Scheme),
        };
        Ok(Self {
            tls,
            host: authority.host().trim_matches(['[', ']']).to_owned(),
            port: authority.port_u16().unwrap_or(port),
            authority: authority.to_string(),
            path: uri
                .path_and_query()
                .map_or("/", |path| path.as_str())
                .to_owned(),
        })
    }
}

/// Whether `host` is an address of this machine in numbers: a name may be anybody's tomorrow.
#[must_use]
pub fn is_this_machine(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}

/// Who is connected to.
pub struct Peer {
    host: String,
    port: u16,
    tls: Option<(ServerName<'static>, Arc<ClientConfig>)>,
}

impl Peer {
    /// In the clear.
    #[must_use]
    pub const fn plain(host: String, port: u16) -> Self {
        Self {
            host,
            port,
            tls: None,
        }
    }

    /// By TLS, as `config` says. `None`: no certificate can name this host, and `config` was not asked.
    ///
    /// # Errors
    /// Those of `config`.
    pub fn by_tls<E>(
        host: String,
        port: u16,
        config: impl FnOnce() -> Result<Arc<ClientConfig>, E>,
    ) -> Result<Option<Self>, E> {
        let Ok(name) = ServerName::try_from(host.clone()) else {
            return Ok(None);
        };
        let tls = Some((name, config()?));
        Ok(Some(Self { host, port, tls }))
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Another place, as safe as this one: with the same authorities, or on this machine as well.
    #[must_use]
    pub fn beside(&self, host: &str, port: u16) -> Option<Self> {
        let tls = match &self.tls {
            Some((_, config)) => {
                let name = ServerName::try_from(host.to_owned()).ok()?;
                Some((name, Arc::clone(config)))
            }
            None if is_this_machine(host) => None,
            None => return None,
        };
        let host = host.to_owned();
        Some(Self { host, port, tls })
    }

    /// A new connection, for as long as that takes.
    ///
    /// # Errors
    /// [`Unreached`].
    pub async fn connect(&self) -> Result<Box<dyn Stream>, Unreached> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(Unreached::Connection)?;
        let Some((name, config)) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let stream = tokio_rustls::TlsConnector::from(Arc::clone(config))
            .connect(name.clone(), stream)
            .await
            .map_err(Unreached::Tls)?;
        Ok(Box::new(stream))
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Unreached {
    Connection(io::Error),
    Tls(io::Error),
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "no connection: {error}"),
            Self::Tls(error) => write!(f, "no TLS: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_of_the_web_and_shows_no_secret() {
        let parsed = Url::parse("https://log.example.org/a/b?c=d").unwrap();
        assert!(parsed.tls);
        assert_eq!(
            (parsed.host.as_str(), parsed.port, parsed.path.as_str()),
            ("log.example.org", 443, "/a/b?c=d")
        );
        let parsed = Url::parse("http://[::1]:8080").unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port), ("::1", 8080));
        assert_eq!(
            (parsed.authority.as_str(), parsed.path.as_str()),
            ("[::1]:8080", "/")
        );
        for (bad, why) in [
            ("", Unfit::NoAddress),
            ("/path", Unfit::NoAddress),
            ("log.example.org", Unfit::NoAddress),
            ("ftp://log.example.org/", Unfit::Scheme),
            ("https://user:word@log.example.org/", Unfit::Secret),
            ("https://log.example.org/#part", Unfit::Secret),
        ] {
            assert_eq!(Url::parse(bad).unwrap_err(), why, "{bad}");
        }
    }

    #[test]
    fn this_machine_is_known_by_its_number_alone() {
        for here in ["127.0.0.1", "127.8.9.10", "::1"] {
            assert!(is_this_machine(here), "{here}");
        }
        for elsewhere in ["localhost", "127.0.0.1.example.org", "192.0.2.1", "::2", ""] {
            assert!(!is_this_machine(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn nobody_is_led_from_this_machine_to_another_in_the_clear() {
        let here = Peer::plain("127.0.0.1".to_owned(), 9092);
        assert_eq!(here.beside("::1", 9093).unwrap().port(), 9093);
        assert!(here.beside("192.0.2.1", 9092).is_none());
        assert!(here.beside("localhost", 9092).is_none());
    }
}
