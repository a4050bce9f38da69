//! What a PostgreSQL client sends to the gateway: nothing is taken that is not whole, and what is read is written
//! again as the same bytes.

use bytes::BytesMut;
use gateway_postgres::wire::{
    FirstMessage, MAX_STARTUP, cancel_message, first_message, frame, parse, query, startup_message,
    text_at,
};

const MOST: usize = 1 << 16;

/// The message that a connection begins with.
pub(crate) fn first(bytes: &[u8]) {
    let Ok(Some((message, length))) = first_message(bytes) else {
        return;
    };
    assert!((8..=MAX_STARTUP).contains(&length) && length <= bytes.len());
    // Nothing behind it has a part in it.
    let alone = first_message(&bytes[..length]);
    assert_eq!(alone, Ok(Some((message.clone(), length))));
    assert_eq!(first_message(&bytes[..length - 1]), Ok(None));
    match message {
        FirstMessage::Cancel(key) => assert_eq!(cancel_message(key)[..], bytes[..length]),
        FirstMessage::Startup(startup) => {
            let pairs = startup.parameters.iter();
            let pairs: Vec<(&str, &str)> = pairs.map(|(a, b)| (a.as_str(), b.as_str())).collect();
            let mut out = BytesMut::new();
            startup_message(&mut out, &pairs);
            if startup.minor == 0 && startup.unsupported.is_empty() {
                assert_eq!(out[..], bytes[..length]);
            }
        }
        FirstMessage::Tls | FirstMessage::Gss => assert_eq!(length, 8),
    }
}

pub(crate) fn first_seeds() -> Vec<Vec<u8>> {
    let mut startup = BytesMut::new();
    startup_message(&mut startup, &[("user", "a"), ("database", "shop")]);
    vec![
        startup.to_vec(),
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        b"\0\0\0\x08\x04\xd2\x16\x30".to_vec(),
        b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02".to_vec(),
        b"\0\0\0\x19\0\x03\0\x02user\0a\0_pq_.x\0y\0\0".to_vec(),
    ]
}

/// Every message after that, as long as they are whole.
pub(crate) fn messages(mut bytes: &[u8]) {
    while let Ok(Some((head, body))) = frame(bytes, MOST) {
        assert!(head.length == body.len() + 5 && head.length <= MOST);
        // One that is cut off waits.
        assert_eq!(frame(&bytes[..head.length - 1], MOST), Ok(None));
        let texts = [body, body.get(1..).unwrap_or_default()];
        for (text, rest) in texts.into_iter().filter_map(text_at) {
            assert!(!text.contains('\0') && text.len() + rest.len() < body.len());
        }
        rewritten(head.tag, body, &bytes[..head.length]);
        bytes = &bytes[head.length..];
    }
}

/// The two that carry SQL say again what they said.
fn rewritten(tag: u8, body: &[u8], whole: &[u8]) {
    let mut out = BytesMut::new();
    match (tag, text_at(body)) {
        (b'Q', Some((sql, []))) => query(&mut out, sql),
        (b'P', Some((name, rest))) => match text_at(rest) {
            Some((sql, [0, 0])) => parse(&mut out, name, sql),
            _ => return,
        },
        _ => return,
    }
    assert_eq!(out[..], *whole);
}

pub(crate) fn message_seeds() -> Vec<Vec<u8>> {
    let mut messages = BytesMut::new();
    query(&mut messages, "SELECT 1");
    parse(&mut messages, "s1", "SELECT $1");
    messages.extend_from_slice(b"B\0\0\0\x0ep1\0s1\0\0\0\0\0");
    messages.extend_from_slice(b"D\0\0\0\x08Sp1\0C\0\0\0\x08Ps1\0S\0\0\0\x04");
    let mut one = BytesMut::new();
    query(&mut one, "COPY t FROM STDIN");
    one.extend_from_slice(b"d\0\0\0\x06a\nc\0\0\0\x04f\0\0\0\x05\0X\0\0\0\x04");
    vec![messages.to_vec(), one.to_vec()]
}
