//! What comes before the first tagged message: requests for TLS, for cancelling, and the startup.

use super::{MAX_STARTUP, WireError};
use bytes::{BufMut, BytesMut};

const PROTOCOL_3_0: u32 = 0x0003_0000;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// Names a session to be cancelled. Random for each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CancelKey {
    pub process: u32,
    pub secret: u32,
}

/// `name=value` pairs, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Startup {
    pub parameters: Vec<(String, String)>,
    /// Minor version and options of the protocol that this gateway does not speak.
    pub unsupported: Vec<String>,
    pub minor: u16,
}

impl Startup {
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What a connection begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FirstMessage {
    Tls,
    Gss,
    Cancel(CancelKey),
    Startup(Startup),
}

/// Reads the untagged message that `bytes` begin with; with it, its length. `None` until it is whole.
///
/// # Errors
/// [`WireError`] for what is no such message, as early as that shows.
pub fn first_message(bytes: &[u8]) -> Result<Option<(FirstMessage, usize)>, WireError> {
    let malformed = || WireError::Malformed("startup");
    let Some((length, rest)) = number(bytes) else {
        return Ok(None);
    };
    let length = length as usize;
    if length < 8 {
        return Err(WireError::TooShort(length));
    }
    if length > MAX_STARTUP {
        return Err(WireError::TooLong {
            tag: ' ',
            length,
            most: MAX_STARTUP,
        });
    }
    let Some(body) = rest.get(..length - 4) else {
        return Ok(None);
    };
    let (code, body) = number(body).ok_or_else(malformed)?;
    let message = match code {
        TLS if body.is_empty() => FirstMessage::Tls,
        GSS if body.is_empty() => FirstMessage::Gss,
        CANCEL => {
            let (process, body) = number(body).ok_or_else(malformed)?;
            let (secret, body) = number(body).ok_or_else(malformed)?;
            if !body.is_empty() {
                return Err(malformed());
            }
            FirstMessage::Cancel(CancelKey { process, secret })
        }
        version if version & 0xffff_0000 == PROTOCOL_3_0 => {
            FirstMessage::Startup(parameters(body, version).ok_or_else(malformed)?)
        }
        _ => return Err(WireError::Malformed("protocol version of the startup")),
    };
    Ok(Some((message, length)))
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (field, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*field), rest))
}

fn parameters(body: &[u8], version: u32) -> Option<Startup> {
    let mut startup = Startup {
        minor: u16::try_from(version & 0xffff).ok()?,
        ..Startup::default()
    };
    let mut rest = body;
    loop {
        let (name, after) = super::text_at(rest)?;
        if name.is_empty() {
            return after.is_empty().then_some(startup);
        }
        let (value, after) = super::text_at(after)?;
        if name.starts_with("_pq_.") {
            startup.unsupported.push(name.to_owned());
        } else {
            startup.parameters.push((name.to_owned(), value.to_owned()));
        }
        rest = after;
    }
}

/// The startup that the gateway sends upstream.
pub fn startup_message(out: &mut BytesMut, parameters: &[(&str, &str)]) {
    let at = out.len();
    out.put_u32(0);
    out.put_u32(PROTOCOL_3_0);
    for (name, value) in parameters {
        for part in [name, value] {
            out.extend(part.bytes().filter(|byte| *byte != 0));
            out.put_u8(0);
        }
    }
    out.put_u8(0);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// A CancelRequest for a session upstream.
#[must_use]
pub fn cancel_message(key: CancelKey) -> BytesMut {
    let mut out = BytesMut::with_capacity(16);
    for field in [16, CANCEL, key.process, key.secret] {
        out.put_u32(field);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let mut bytes = BytesMut::new();
        startup_message(&mut bytes, &[("user", "a"), ("database", "shop")]);
        let (message, length) = first_message(&bytes).unwrap().unwrap();
        assert_eq!(length, bytes.len());
        let FirstMessage::Startup(startup) = message else {
            panic!()
        };
        assert_eq!(startup.parameter("database"), Some("shop"));
    }

    #[test]
    fn every_cut_of_a_startup_waits_or_is_refused() {
        let mut bytes = BytesMut::new();
        startup_message(&mut bytes, &[("user", "a")]);
        for end in 0..bytes.len() {
            assert_eq!(first_message(&bytes[..end]), Ok(None));
        }
        let last = bytes.len() - 1;
        bytes[last] = b'x';
        assert!(first_message(&bytes).is_err());
    }

    #[test]
    fn an_endless_startup_is_refused_at_its_length() {
        let refused = first_message(&[0xff; 4]);
        assert!(matches!(refused, Err(WireError::TooLong { .. })));
    }
}
