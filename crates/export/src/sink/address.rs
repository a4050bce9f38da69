//! Who is connected to, by TLS unless it is this machine.

use super::Secrets;
use facts::Finding;
use listen::{Peer, Stream, Unreached, Url, is_this_machine};
use std::sync::Arc;

pub(super) struct Address {
    peer: Peer,
    /// Of a URL.
    pub(super) authority: String,
    pub(super) path: String,
}

impl Address {
    /// `None`: it is none, or goes in the clear to somebody else's machine.
    pub(super) fn of_url(url: &str, secrets: &Secrets) -> Result<Option<Self>, Finding> {
        let Ok(url) = Url::parse(url) else {
            return Ok(None);
        };
        let peer = reached(url.host, url.port, url.tls, secrets)?;
        Ok(peer.map(|peer| Self {
            peer,
            authority: url.authority,
            path: url.path,
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
        let peer = reached(host.to_owned(), port, tls, secrets)?;
        Ok(peer.map(Self::of))
    }

    const fn of(peer: Peer) -> Self {
        Self {
            peer,
            authority: String::new(),
            path: String::new(),
        }
    }

    /// Host and port.
    pub(super) fn place(&self) -> (String, u16) {
        (self.peer.host().to_owned(), self.peer.port())
    }

    /// Another place, as safe as this one.
    pub(super) fn beside(&self, host: &str, port: u16) -> Option<Self> {
        self.peer.beside(host, port).map(Self::of)
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, String> {
        let (host, port) = (self.peer.host(), self.peer.port());
        self.peer.connect().await.map_err(|error| match error {
            Unreached::Connection(error) => format!("no connection to {host}:{port}: {error}"),
            Unreached::Tls(error) => format!("no TLS with {host}:{port}: {error}"),
        })
    }
}

fn reached(host: String, port: u16, tls: bool, secrets: &Secrets) -> Result<Option<Peer>, Finding> {
    let trusted = || {
        let config = crypto::client_trusting(secrets.authorities.as_deref()).map(Arc::new);
        config.map_err(|error| {
            Finding::new(
                "EXPORT-SINK-CA",
                "the authorities that may certify the sink cannot be read",
            )
            .expected(error.expected)
            .observed(error.observed)
            .next("install ca-certificates, or name a file with --ca-file")
        })
    };
    if tls {
        return Peer::by_tls(host, port, trusted);
    }
    // What records say is not for whoever listens on the way.
    let here = is_this_machine(&host);
    Ok(here.then(|| Peer::plain(host, port)))
}
