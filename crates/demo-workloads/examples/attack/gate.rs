//! Knocking: one connection to the `PostgreSQL` gateway, until it lets in or turns away.
//!
//! The PostgreSQL protocol, version 3.0: `SSLRequest`, TLS, startup, and one simple query.

use crate::mint::Forged;
use anyhow::{Context as _, bail};
use spiffe_core::Bundle;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;
use svid_tls::OwnSvid;
use svid_tls::peer::any_member;

const LIMIT: Duration = Duration::from_secs(20);
const SSL_REQUEST: u32 = 80_877_103;
const VERSION_3: u32 = 196_608;
const MAX_MESSAGE: usize = 1 << 20;

pub(crate) struct Gate {
    pub(crate) address: String,
    pub(crate) database: String,
    pub(crate) bundle: Bundle,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum Tried {
    /// Turned away for who it is.
    Refused(String),
    /// Let in, whatever happened then.
    Admitted(String),
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(what) => write!(f, "refused: {what}"),
            Self::Admitted(what) => write!(f, "ADMITTED: {what}"),
        }
    }
}

impl Gate {
    /// Presents `forged`, and asks for a row if that is enough to come in.
    pub(crate) fn enter(&self, forged: &Forged) -> anyhow::Result<Tried> {
        let own = OwnSvid::new(forged.chain.clone(), Arc::clone(&forged.key))?;
        let members = any_member(self.bundle.trust_domain().clone());
        let tls = svid_tls::client(own, Arc::new(self.bundle.clone()), members)?;
        let mut tcp = TcpStream::connect(&self.address)
            .with_context(|| format!("cannot reach {}", self.address))?;
        tcp.set_read_timeout(Some(LIMIT))?;
        tcp.set_write_timeout(Some(LIMIT))?;
        tcp.write_all(&message(None, &SSL_REQUEST.to_be_bytes()))?;
        let mut answer = [0];
        tcp.read_exact(&mut answer)?;
        if answer != *b"S" {
            bail!("the gateway does not speak TLS");
        }
        let mut session = rustls::ClientConnection::new(Arc::new(tls), svid_tls::server_name())?;
        // In TLS 1.3 the client is done before the server has seen its certificate: what fails until then
        // is no verdict on it.
        while session.is_handshaking() {
            session
                .complete_io(&mut tcp)
                .context("TLS did not come as far as the client's certificate")?;
        }
        match self.talk(&mut rustls::StreamOwned::new(session, tcp)) {
            Ok(tried) => Ok(tried),
            Err(error) => turned_away(error),
        }
    }

    fn talk(&self, stream: &mut (impl Read + Write)) -> io::Result<Tried> {
        let mut startup = VERSION_3.to_be_bytes().to_vec();
        for text in ["user", "thief", "database", &self.database] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        startup.push(0);
        stream.write_all(&message(None, &startup))?;
        stream.flush()?;
        let mut admitted = false;
        loop {
            let (kind, body) = match read(stream) {
                Ok(read) => read,
                Err(error) if admitted => {
                    return Ok(Tried::Admitted(format!("and then {error}")));
                }
                Err(error) => return Err(error),
            };
            match kind {
                b'E' => {
                    let (sqlstate, text) = told(&body);
                    // 28000: invalid authorization specification. Any other error comes to those who
                    // are known.
                    return Ok(if !admitted && sqlstate.starts_with("28") {
                        Tried::Refused(text)
                    } else {
                        Tried::Admitted(text)
                    });
                }
                b'R' => admitted = true,
                b'Z' => {
                    stream.write_all(&message(Some(b'Q'), b"select 1\0"))?;
                    stream.flush()?;
                }
                b'D' => return Ok(Tried::Admitted("a row came".to_owned())),
                _ => {}
            }
        }
    }
}

/// A TLS alert or a closed connection is an answer; anything else is none.
fn turned_away(error: io::Error) -> anyhow::Result<Tried> {
    let alert = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (alert, error.kind()) {
        (Some(rustls::Error::AlertReceived(alert)), _) => {
            Ok(Tried::Refused(format!("TLS alert {alert:?}")))
        }
        (
            None,
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe,
        ) => Ok(Tried::Refused("the connection was closed".to_owned())),
        _ => Err(error).context("no answer from the gateway"),
    }
}

/// A message of the client: its kind, except for the first two, its length, its body.
fn message(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = kind.into_iter().collect();
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn read(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let length = length.saturating_sub(4);
    if length > MAX_MESSAGE {
        return Err(io::Error::other("a message that is too long"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((kind, body))
}

/// SQLSTATE, and message and detail in one line, of an `ErrorResponse`: fields of a letter and a text.
fn told(body: &[u8]) -> (String, String) {
    let field = |wanted: u8| {
        body.split(|byte| *byte == 0).find_map(|field| {
            let (letter, text) = field.split_first()?;
            (*letter == wanted).then(|| String::from_utf8_lossy(text).into_owned())
        })
    };
    let sqlstate = field(b'C').unwrap_or_default();
    let message = field(b'M').unwrap_or_default();
    let detail = field(b'D').map_or_else(String::new, |detail| format!(" ({detail})"));
    let text = format!("SQLSTATE {sqlstate}: {message}{detail}");
    (sqlstate, text)
}
