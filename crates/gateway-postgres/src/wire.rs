//! PostgreSQL's wire protocol, version 3: framing with caps, and the few messages that the gateway
//! itself writes. Not a codec: what is passed on is passed on as it came.
//!
//! What a client sends is read here, for whoever looks for bytes that should not be: `crates/hostile`.
//!
//! PostgreSQL 15 documentation, chapter 55.

mod message;
mod startup;

pub(crate) use message::{
    Notice, authentication_ok, backend_key, error, flush, negotiate, parameter_status, raw,
    ready_for_query, sqlstate, without_data,
};
pub use message::{parse, query, text_at};
pub use startup::{
    CancelKey, FirstMessage, Startup, cancel_message, first_message, startup_message,
};

/// Longest startup packet (55.2.1: the server itself accepts 10,000 bytes).
pub const MAX_STARTUP: usize = 10_000;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WireError {
    #[error("a message of type {tag:?} has {length} bytes, at most {most} are accepted")]
    TooLong {
        tag: char,
        length: usize,
        most: usize,
    },
    #[error("a message has a length of {0}, less than its own length field")]
    TooShort(usize),
    #[error("the {0} message is malformed")]
    Malformed(&'static str),
    #[error("the message type {0:?} is not known")]
    UnknownTag(char),
}

/// Tag, and length of the whole message with tag and length field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    pub tag: u8,
    pub length: usize,
}

/// The head of the message that `bytes` begin with, once its five bytes are there.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, WireError> {
    let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<5>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < 4 {
        return Err(WireError::TooShort(length));
    }
    Ok(Some(Head {
        tag,
        length: length + 1,
    }))
}

/// The first whole message in `bytes`: its head and its body. Refuses one over `most` bytes before
/// it is read.
///
/// # Errors
/// [`WireError::TooShort`], [`WireError::TooLong`].
pub fn frame(bytes: &[u8], most: usize) -> Result<Option<(Head, &[u8])>, WireError> {
    let Some(head) = head(bytes)? else {
        return Ok(None);
    };
    if head.length > most {
        return Err(WireError::TooLong {
            tag: char::from(head.tag),
            length: head.length,
            most,
        });
    }
    Ok(bytes.get(5..head.length).map(|body| (head, body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn a_length_below_four_is_refused() {
        assert_eq!(head(b"Q\0\0\0\x03"), Err(WireError::TooShort(3)));
    }

    #[test]
    fn a_long_message_is_refused_before_it_is_read() {
        let refused = frame(b"Q\x7f\xff\xff\xff", 1024);
        assert!(matches!(refused, Err(WireError::TooLong { tag: 'Q', .. })));
    }

    #[test]
    fn an_error_without_data_keeps_nothing_that_may_quote_rows() {
        let body = b"SERROR\0C23502\0Mnull value\0Drow (1, ada)\0Htry ada\0Wfor ada\0qSELECT 'ada'\0tcards\0\0";
        let mut told = BytesMut::new();
        without_data(&mut told, body, "withheld", None);
        let expected = b"SERROR\0C23502\0Mnull value\0tcards\0Dwithheld\0\0";
        assert_eq!(frame(&told, 1024).unwrap().unwrap().1, expected);
        let mut told = BytesMut::new();
        without_data(&mut told, body, "withheld", Some("no value"));
        let expected = b"SERROR\0C23502\0Mno value\0tcards\0Dwithheld\0\0";
        assert_eq!(frame(&told, 1024).unwrap().unwrap().1, expected);
    }

    #[test]
    fn a_message_is_taken_when_it_is_whole() {
        assert_eq!(frame(b"S\0\0\0", 64), Ok(None));
        let whole = frame(b"S\0\0\0\x04X", 64).unwrap().unwrap();
        assert_eq!(
            whole,
            (
                Head {
                    tag: b'S',
                    length: 5
                },
                &b""[..]
            )
        );
    }
}
