//! What a witness reads of its own: its configuration, and the state that it wrote. The disk is not trusted to give
//! back what it was given.

use crate::seeds;
use ledger::{HexDigest, Note};
use witness::{Config, Roster, Standing};

/// Either it is refused by a code and with what to do next, or its logs have keys.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    match Config::parse(text) {
        Err(finding) => assert!(finding.code == "WITNESS-CONFIG" && finding.next.is_some()),
        Ok(config) => {
            assert!(config.limits.limits().log.per_second > 0);
            // A policy is a file that these bytes name: it is not read here.
            if config.witness.policies.is_empty() {
                match config.logs() {
                    Err(finding) => assert!(finding.next.is_some()),
                    Ok(logs) => {
                        assert!(!logs.is_empty() && logs.iter().all(|(_, keys)| !keys.is_empty()));
                    }
                }
            }
        }
    }
}

pub(crate) fn config_seeds() -> Vec<Vec<u8>> {
    let mut keys = seeds::vectors("ledger/witness.json", &["log_key"]);
    keys.extend(seeds::vectors("ledger/peers.json", &["key"]));
    let file = |key: &String| {
        format!(
            "[witness]\nname = \"witness.example/1\"\ndata_dir = \"/var/lib/witness\"\n\
             listen = \"127.0.0.1:7446\"\nkeys = [\"ed25519\"]\n[[log]]\nkey = \"{key}\"\n\
             origin = \"a log\"\n[limits]\nrepeat_s = 2\n"
        )
    };
    keys.iter().map(|key| file(key).into_bytes()).collect()
}

/// A state and a roster have one spelling each, and a state is of the log that it is read for.
pub(crate) fn state(bytes: &[u8]) {
    if let Ok(roster) = Roster::parse(bytes) {
        assert_eq!(roster.file(), bytes);
    }
    let named = str::from_utf8(bytes).ok().and_then(origin);
    let log = named.unwrap_or_else(|| HexDigest::of(b""));
    if let Ok(standing) = Standing::parse(bytes, log) {
        assert_eq!(standing.file(), bytes);
        assert!(Standing::parse(bytes, HexDigest::of(b"another")).is_err());
    }
    // What is sealed anew is read as far as it is a state: behind the digest nothing is taken for granted.
    let body = str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.splitn(3, '\n').nth(2));
    if let Some(body) = body {
        let head = bytes
            .split(|byte| *byte == b'\n')
            .next()
            .unwrap_or_default();
        let mut sealed = [head, b"\nsha256 "].concat();
        sealed.extend_from_slice(HexDigest::of(body.as_bytes()).to_string().as_bytes());
        sealed.push(b'\n');
        sealed.extend_from_slice(body.as_bytes());
        if let Ok(standing) = Standing::parse(&sealed, log) {
            assert_eq!(standing.file(), sealed);
        }
        if let Ok(roster) = Roster::parse(&sealed) {
            assert_eq!(roster.file(), sealed);
        }
    }
}

/// Of the fourth line: behind the kind, the digest and the time.
fn origin(text: &str) -> Option<HexDigest> {
    Some(HexDigest::of(text.split('\n').nth(3)?.as_bytes()))
}

pub(crate) fn state_seeds() -> Vec<Vec<u8>> {
    let mut notes = seeds::vectors("ledger/cosignatures.json", &["note"]);
    notes.extend(seeds::vectors(
        "ledger/peers.json",
        &["cosigned", "foreign_checkpoint"],
    ));
    let states = notes.iter().filter_map(|note| {
        let standing = Standing::new(Note::parse(note).ok()?, 1_795_312_969)?;
        Some(standing.file())
    });
    let mut all: Vec<Vec<u8>> = states.collect();
    let roster = |count: u8| Roster((0..count).map(|n| HexDigest::of(&[n])).collect()).file();
    all.extend([0, 1, 5].map(roster));
    all
}
