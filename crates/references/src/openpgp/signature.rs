//! Signature packets of version 4 (RFC 9580, section 5.2).

use super::packet::{integer, new_length, number};
use crypto::openpgp::{Hash, VerifyingKey};
use facts::Timestamp;

/// Of a text document.
pub(super) const TEXT: u8 = 0x01;
/// Of a user ID: generic, persona, casual, positive.
pub(super) const CERTIFICATIONS: std::ops::RangeInclusive<u8> = 0x10..=0x13;
pub(super) const SUBKEY_BINDING: u8 = 0x18;
pub(super) const PRIMARY_BINDING: u8 = 0x19;
pub(super) const DIRECT: u8 = 0x1f;
pub(super) const KEY_REVOCATION: u8 = 0x20;
pub(super) const SUBKEY_REVOCATION: u8 = 0x28;
pub(super) const CERTIFICATION_REVOCATION: u8 = 0x30;

/// Key flag: may sign data.
pub(super) const MAY_SIGN: u8 = 0x02;

pub(super) struct Signature<'a> {
    pub(super) kind: u8,
    algorithm: u8,
    hash: Option<Hash>,
    /// From the version to the end of the hashed subpackets.
    hashed: &'a [u8],
    value: Value<'a>,
    pub(super) created: Option<Timestamp>,
    /// Seconds after `created`.
    expires_after: Option<u32>,
    /// Seconds after the key's creation.
    pub(super) key_expires_after: Option<u32>,
    pub(super) flags: Option<u8>,
    pub(super) issuer_fingerprint: Option<[u8; 20]>,
    pub(super) issuer: Option<[u8; 8]>,
    /// Fingerprints of keys that may revoke this one.
    pub(super) revokers: Vec<[u8; 20]>,
    pub(super) embedded: Option<&'a [u8]>,
}

enum Value<'a> {
    Rsa(&'a [u8]),
    /// R and S of EdDSA, without leading zeros.
    Pair(&'a [u8], &'a [u8]),
    Ed25519(&'a [u8]),
}

impl<'a> Signature<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, &'static str> {
        const DAMAGED: &str = "a damaged signature";
        let [4, kind, algorithm, hash, length @ ..] = body else {
            return Err("a signature that is not of version 4");
        };
        let (length, _) = length.split_first_chunk::<2>().ok_or(DAMAGED)?;
        let end = usize::from(u16::from_be_bytes(*length)) + 6;
        let (hashed, rest) = body.split_at_checked(end).ok_or(DAMAGED)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(DAMAGED)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (unhashed, rest) = rest.split_at_checked(length).ok_or(DAMAGED)?;
        // Two bytes of the digest follow, a hint that is of no use here.
        let value = value(*algorithm, rest.get(2..).ok_or(DAMAGED)?)?;
        let mut signature = Self {
            kind: *kind,
            algorithm: *algorithm,
            hash: Hash::from_id(*hash),
            hashed,
            value,
            created: None,
            expires_after: None,
            key_expires_after: None,
            flags: None,
            issuer_fingerprint: None,
            issuer: None,
            revokers: Vec::new(),
            embedded: None,
        };
        signature.subpackets(hashed.get(6..).unwrap_or_default(), true)?;
        signature.subpackets(unhashed, false)?;
        Ok(signature)
    }

    /// Section 5.2.3.7. Of what is not hashed only hints count: the issuer, and an embedded signature,
    /// which stands for itself.
    fn subpackets(&mut self, bytes: &'a [u8], hashed: bool) -> Result<(), &'static str> {
        const DAMAGED: &str = "a damaged subpacket";
        let mut rest = bytes;
        while !rest.is_empty() {
            let (length, after) = new_length(rest).ok_or(DAMAGED)?;
            let (subpacket, after) = after.split_at_checked(length).ok_or(DAMAGED)?;
            let (kind, data) = subpacket.split_first().ok_or(DAMAGED)?;
            rest = after;
            let seconds = || number(data).and_then(|seconds| u32::try_from(seconds).ok());
            match (kind & 0x7f, hashed) {
                (16, _) => self.issuer = data.try_into().ok(),
                (32, _) => self.embedded = Some(data),
                (33, _) => {
                    if let Some((4, fingerprint)) = data.split_first() {
                        self.issuer_fingerprint = fingerprint.try_into().ok();
                    }
                }
                (2, true) => {
                    self.created = seconds().map(|seconds| Timestamp::from_secs(seconds.into()));
                }
                (3, true) => self.expires_after = seconds(),
                (9, true) => self.key_expires_after = seconds(),
                (27, true) => self.flags = data.first().copied(),
                (12, true) => {
                    let fingerprint: Option<[u8; 20]> =
                        data.get(2..).and_then(|rest| rest.try_into().ok());
                    self.revokers.extend(fingerprint);
                }
                // Of no consequence here: exportable, trust, revocable, preferences, server, primary user
                // ID, policy, signer's user ID, reason, features.
                (4 | 5 | 7 | 11 | 21 | 22 | 23 | 24 | 25 | 26 | 28 | 29 | 30 | 34, true) => {}
                (_, true) if kind & 0x80 != 0 => {
                    return Err("a signature with a critical part that is not understood");
                }
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn expired(&self, now: Timestamp) -> bool {
        self.ends().is_some_and(|ends| now > ends)
    }

    /// When the signature itself expires, if it does.
    pub(super) fn ends(&self) -> Option<Timestamp> {
        let after = self.expires_after.filter(|after| *after > 0)?;
        Some(self.created?.plus_secs(after.into()))
    }

    /// Checks the signature over `data` (section 5.2.4).
    pub(super) fn verify(&self, key: &Key, data: &[u8]) -> Result<(), &'static str> {
        let hash = self.hash.ok_or("a signature by a weak or unknown hash")?;
        if !key.fits(self.algorithm) {
            return Err("a signature by another algorithm than its key's");
        }
        let length = u32::try_from(self.hashed.len()).unwrap_or(u32::MAX);
        let message = [data, self.hashed, &[4, 0xff], &length.to_be_bytes()].concat();
        let signature = match self.value {
            Value::Rsa(value) | Value::Ed25519(value) => value.to_vec(),
            Value::Pair(r, s) => {
                let mut signature = Vec::new();
                for part in [r, s] {
                    let missing = 32_usize
                        .checked_sub(part.len())
                        .ok_or("a damaged signature")?;
                    signature.resize(signature.len() + missing, 0);
                    signature.extend_from_slice(part);
                }
                signature
            }
        };
        key.key
            .verify(hash, &message, &signature)
            .map_err(|_| "a signature that does not verify")
    }
}

fn value(algorithm: u8, bytes: &[u8]) -> Result<Value<'_>, &'static str> {
    const DAMAGED: &str = "a damaged signature";
    let (value, rest) = match algorithm {
        1 | 3 => {
            let (value, rest) = integer(bytes).ok_or(DAMAGED)?;
            (Value::Rsa(value), rest)
        }
        22 => {
            let (r, rest) = integer(bytes).ok_or(DAMAGED)?;
            let (s, rest) = integer(rest).ok_or(DAMAGED)?;
            (Value::Pair(r, s), rest)
        }
        27 => (Value::Ed25519(bytes), &[][..]),
        _ => return Err("a signature by an algorithm that is not supported"),
    };
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(DAMAGED)
    }
}

/// A public key of a kind that may verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    algorithm: u8,
    key: VerifyingKey,
}

impl Key {
    /// The algorithm and its fields, as they stand in a key packet.
    pub(super) fn parse(algorithm: u8, fields: &[u8]) -> Option<Self> {
        /// 1.3.6.1.4.1.11591.15.1, Ed25519 in OpenPGP.
        const ED25519: [u8; 10] = [9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1];
        let key = match algorithm {
            1 | 3 => {
                let (modulus, rest) = integer(fields)?;
                let (exponent, rest) = integer(rest)?;
                VerifyingKey::rsa(modulus, exponent)
                    .ok()
                    .filter(|_| rest.is_empty())?
            }
            22 => {
                let (point, rest) = integer(fields.strip_prefix(&ED25519)?)?;
                let raw = point.strip_prefix(&[0x40])?.try_into().ok()?;
                rest.is_empty().then(|| VerifyingKey::ed25519(raw))?
            }
            27 => VerifyingKey::ed25519(fields.try_into().ok()?),
            _ => return None,
        };
        Some(Self { algorithm, key })
    }

    /// RSA has two numbers, of which 3 is "sign only".
    fn fits(&self, algorithm: u8) -> bool {
        let one = |algorithm: u8| if algorithm == 3 { 1 } else { algorithm };
        one(self.algorithm) == one(algorithm)
    }
}
