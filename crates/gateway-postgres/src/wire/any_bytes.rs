//! What has to hold of any bytes that a client sends: nothing panics, nothing is taken that is not whole,
//! and what is read is written again as the same bytes.

use super::{
    FirstMessage, MAX_STARTUP, cancel_message, first_message, frame, parse, query, startup_message,
    text_at,
};
use bytes::BytesMut;
use testkit::mutation::{Random, changed};

const MOST: usize = 1 << 16;
const CHANGES: u64 = 20_000;

fn first(bytes: &[u8]) {
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

fn tagged(mut bytes: &[u8]) {
    while let Ok(Some((head, body))) = frame(bytes, MOST) {
        assert!(head.length == body.len() + 5 && head.length <= MOST);
        let texts = [body, body.get(1..).unwrap_or_default()];
        for (text, rest) in texts.into_iter().filter_map(text_at) {
            assert!(!text.contains('\0') && text.len() + rest.len() < body.len());
        }
        bytes = &bytes[head.length..];
    }
}

#[test]
fn any_bytes_of_a_client_are_read_to_the_letter_or_not_at_all() {
    let mut startup = BytesMut::new();
    startup_message(&mut startup, &[("user", "a"), ("database", "shop")]);
    let mut messages = BytesMut::new();
    query(&mut messages, "SELECT 1");
    parse(&mut messages, "s1", "SELECT $1");
    messages.extend_from_slice(b"B\0\0\0\x0ep1\0s1\0\0\0\0\0");
    messages.extend_from_slice(b"D\0\0\0\x08Sp1\0C\0\0\0\x08Ps1\0S\0\0\0\x04");
    let seeds = [
        startup.to_vec(),
        b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(),
        b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02".to_vec(),
        messages.to_vec(),
    ];
    let mut random = Random::new(1);
    for seed in &seeds {
        first(seed);
        tagged(seed);
    }
    for change in 0..CHANGES {
        let bytes = changed(&seeds[random.below(seeds.len())], change);
        first(&bytes);
        tagged(&bytes);
    }
}
