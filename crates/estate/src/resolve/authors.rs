//! The authors of an estate: under which names, by which keys, what weakens an invariant is signed.

use super::Source;
use crate::declare::AuthorEntry;
use crypto::{Algorithm, PublicKey};
use std::collections::BTreeMap;

/// A name is signed as a line of its own.
const LONGEST_NAME: usize = 100;

/// INVARIANT: no key stands under two names, so two authors are never one key.
pub(super) fn resolve(
    declared: &[AuthorEntry],
    source: &mut Source<'_>,
    authors: &mut BTreeMap<String, PublicKey>,
) {
    for entry in declared {
        let name = entry.name.get_ref();
        if name.trim().is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control)
        {
            let message = format!("an author's name has 1 to {LONGEST_NAME} bytes on one line");
            source.problem("ESTATE-AUTHOR", &entry.name, message);
            continue;
        }
        let Some(key) = ed25519(entry.key.get_ref()) else {
            let message =
                "expected an Ed25519 key in PEM, as `trilith author key create` prints it";
            source.problem("ESTATE-AUTHOR", &entry.key, message);
            continue;
        };
        if let Some((other, _)) = authors.iter().find(|(_, known)| known.raw() == key.raw()) {
            let message = format!("the key of `{name}` is that of `{other}`: it would sign twice");
            source.problem("ESTATE-AUTHOR-TWICE", &entry.key, message);
            continue;
        }
        if authors.insert(name.clone(), key).is_some() {
            let message = format!("author `{name}` is declared twice");
            source.problem("ESTATE-DUPLICATE", &entry.name, message);
        }
    }
}

fn ed25519(pem: &str) -> Option<PublicKey> {
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN PUBLIC KEY-----")?
        .strip_suffix("-----END PUBLIC KEY-----")?;
    let base64: String = body.split_whitespace().collect();
    let key = PublicKey::from_spki_der(&crypto::base64::decode(&base64).ok()?).ok()?;
    (key.algorithm() == Algorithm::Ed25519).then_some(key)
}
