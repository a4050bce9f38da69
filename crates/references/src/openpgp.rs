//! OpenPGP, as much as a signed package archive needs: keyrings of version 4 keys, and messages that are
//! signed in clear (RFC 4880, RFC 9580). `docs/decisions/0012-openpgp-profile.md` says why it is our own.
//!
//! Stricter than the standard: RSA from 2048 bits and Ed25519, SHA-256 and its longer siblings, nothing
//! before or behind the message, and no signature whose critical parts are not understood.

mod cleartext;
mod key;
mod packet;
mod signature;

pub use key::{Keyring, Signatory};

use facts::{Finding, Timestamp};
use signature::Signature;

/// A message, and everybody who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Exactly what the signatures cover, lines ended by `\n`.
    pub text: String,
    /// One at least.
    pub by: Vec<Signatory>,
}

/// A signer's clock may be ahead of ours by this many seconds.
const SKEW: u64 = 300;
const MOST_SIGNATURES: usize = 16;

/// Checks a message that is signed in clear, as `InRelease` is. One good signature by a key of `keyring`
/// is enough; others may be by keys that are not known.
///
/// # Errors
/// `REF-OPENPGP-MESSAGE` when it is no such message, `REF-OPENPGP-SIGNATURE` when nobody of `keyring`
/// signed it; the latter says what was wrong with each signature.
pub fn verify(message: &[u8], keyring: &Keyring, now: Timestamp) -> Result<Signed, Finding> {
    let message = cleartext::Message::parse(message).map_err(|what| {
        Finding::new(
            "REF-OPENPGP-MESSAGE",
            "the file is not a message signed in clear",
        )
        .expected("one clear-signed OpenPGP message and nothing else")
        .observed(what)
        .next("download the file again; apt-get update does")
    })?;
    let packets = packet::Packets::new(&message.signatures);
    let mut by: Vec<Signatory> = Vec::new();
    let mut wrong = Vec::new();
    for (count, packet) in packets.enumerate() {
        let parsed = match packet {
            Ok(packet) if packet.tag == packet::SIGNATURE && count < MOST_SIGNATURES => {
                Signature::parse(packet.body)
            }
            Ok(_) => Err("a packet that is no signature"),
            Err(what) => Err(what),
        };
        match parsed.and_then(|signature| check(&signature, &message.canonical, keyring, now)) {
            Ok(signatory) if !by.contains(&signatory) => by.push(signatory),
            Ok(_) => {}
            Err(what) => wrong.push(what),
        }
    }
    if by.is_empty() {
        let observed = if wrong.is_empty() {
            "no signature".to_owned()
        } else {
            wrong.join("; ")
        };
        return Err(Finding::new("REF-OPENPGP-SIGNATURE", "nobody who is trusted signed this file")
            .expected(format!("a signature by one of {} keys", keyring.len()))
            .observed(observed)
            .next("name the keyring of the archive, as /usr/share/keyrings/debian-archive-keyring.gpg, and check that nobody changed the file"));
    }
    Ok(Signed {
        text: message.text,
        by,
    })
}

fn check(
    signature: &Signature<'_>,
    canonical: &[u8],
    keyring: &Keyring,
    now: Timestamp,
) -> Result<Signatory, &'static str> {
    if signature.kind != signature::TEXT {
        return Err("a signature of another kind");
    }
    let created = signature.created.ok_or("a signature without a time")?;
    if created > now.plus_secs(SKEW) {
        return Err("a signature from the future");
    }
    if signature.expired(now) {
        return Err("a signature that has expired");
    }
    // The issuer is a hint: what counts is which key verifies.
    let candidates: Vec<_> = keyring.candidates(signature).collect();
    if candidates.is_empty() {
        return Err("a signature by a key that is not in the keyring");
    }
    let mut wrong = "a signature that does not verify";
    for key in candidates {
        let verified = signature.verify(&key.key, canonical);
        match verified.and_then(|()| key.may_sign(created, now)) {
            Ok(()) => return Ok(key.signatory(created)),
            Err(what) => wrong = what,
        }
    }
    Err(wrong)
}
