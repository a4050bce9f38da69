//! OpenPGP keys and signatures of our own, right and wrong in every way: a signer for tests.

use crypto::openpgp::Hash;
use crypto::{Algorithm, KeyPair, Signer as _};

/// When the forged keys were made, and when they sign.
pub(crate) const MADE: u32 = 1_700_000_000;
pub(crate) const SIGNED: u32 = 1_750_000_000;

/// What a test changes.
#[derive(Clone)]
pub(crate) struct How {
    /// Of the primary key: 0x01 certifies, 0x02 signs.
    pub(crate) flags: u8,
    /// Seconds after `MADE`; 0 is never.
    pub(crate) key_expires: u32,
    pub(crate) revoked: bool,
    /// Sign with a subkey, whose flags these are.
    pub(crate) subkey: Option<u8>,
    pub(crate) subkey_agrees: bool,
    pub(crate) subkey_revoked: bool,
    pub(crate) signed: u32,
    /// Seconds after `signed`; 0 is never.
    pub(crate) expires: u32,
    pub(crate) kind: u8,
    pub(crate) hash: u8,
    /// A critical notation in the signature.
    pub(crate) notation: bool,
}

impl Default for How {
    fn default() -> Self {
        Self {
            flags: 0x03,
            key_expires: 0,
            revoked: false,
            subkey: None,
            subkey_agrees: true,
            subkey_revoked: false,
            signed: SIGNED,
            expires: 0,
            kind: 0x01,
            hash: 10,
            notation: false,
        }
    }
}

pub(crate) struct Forged {
    primary: KeyPair,
    subkey: KeyPair,
    how: How,
}

impl Forged {
    pub(crate) fn new() -> Self {
        Self::with(How::default())
    }

    pub(crate) fn with(how: How) -> Self {
        let key = || KeyPair::generate(Algorithm::Ed25519).unwrap();
        Self {
            primary: key(),
            subkey: key(),
            how,
        }
    }

    pub(crate) fn keyring(&self) -> Vec<u8> {
        let how = &self.how;
        let own = hashed_key(&self.primary);
        let mut keyring = packet(6, &key_body(&self.primary));
        if how.revoked {
            keyring.extend(packet(
                2,
                &self.sign(&self.primary, 0x20, 10, MADE, &[], &own),
            ));
        }
        let user = b"Forged <forged@example.org>";
        let over_user = [&own, &[0xb4][..], &(user.len() as u32).to_be_bytes(), user].concat();
        let mut parts = vec![(27, vec![how.flags])];
        if how.key_expires > 0 {
            parts.push((9, how.key_expires.to_be_bytes().to_vec()));
        }
        keyring.extend(packet(13, user));
        keyring.extend(packet(
            2,
            &self.sign(&self.primary, 0x13, 10, MADE, &parts, &over_user),
        ));
        let Some(flags) = how.subkey else {
            return keyring;
        };
        let both = [own, hashed_key(&self.subkey)].concat();
        let agrees = if how.subkey_agrees {
            &self.subkey
        } else {
            &self.primary
        };
        let back = self.sign(agrees, 0x19, 10, MADE, &[], &both);
        let parts = [(27, vec![flags]), (32, back)];
        keyring.extend(packet(14, &key_body(&self.subkey)));
        keyring.extend(packet(
            2,
            &self.sign(&self.primary, 0x18, 10, MADE, &parts, &both),
        ));
        if how.subkey_revoked {
            keyring.extend(packet(
                2,
                &self.sign(&self.primary, 0x28, 10, MADE, &[], &both),
            ));
        }
        keyring
    }

    /// `text` signed in clear.
    pub(crate) fn message(&self, text: &str) -> String {
        let how = &self.how;
        let lines: Vec<&str> = text
            .lines()
            .map(|line| line.trim_end_matches([' ', '\t']))
            .collect();
        let mut parts = Vec::new();
        if how.expires > 0 {
            parts.push((3, how.expires.to_be_bytes().to_vec()));
        }
        if how.notation {
            // Type 20 with the critical bit: a notation that nobody knows.
            let body = [&[0x80, 0, 0, 0, 0, 1, 0, 1][..], b"nv"].concat();
            parts.push((20 | 0x80, body));
        }
        let key = if how.subkey.is_some() {
            &self.subkey
        } else {
            &self.primary
        };
        let canonical = lines.join("\r\n");
        let signature = self.sign(
            key,
            how.kind,
            how.hash,
            how.signed,
            &parts,
            canonical.as_bytes(),
        );
        let body = crypto::base64::encode(&packet(2, &signature));
        let wrapped: Vec<&str> = body
            .as_bytes()
            .chunks(64)
            .map(|line| str::from_utf8(line).unwrap())
            .collect();
        let escaped: Vec<String> = lines
            .iter()
            .map(|line| {
                if line.starts_with('-') {
                    format!("- {line}")
                } else {
                    (*line).to_owned()
                }
            })
            .collect();
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: {}\n\n{}\n-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n",
            match how.hash {
                2 => "SHA1",
                8 => "SHA256",
                9 => "SHA384",
                _ => "SHA512",
            },
            escaped.join("\n"),
            wrapped.join("\n"),
        )
    }

    /// The body of a signature packet of version 4.
    fn sign(
        &self,
        key: &KeyPair,
        kind: u8,
        hash: u8,
        created: u32,
        parts: &[(u8, Vec<u8>)],
        data: &[u8],
    ) -> Vec<u8> {
        let fingerprint = crypto::openpgp::fingerprint(&hashed_key(key));
        let issuer = [&[4][..], &fingerprint].concat();
        // Not hashed, and what GnuPG goes by.
        let hint = subpacket(16, &fingerprint[12..]);
        let mut hashed_parts = subpacket(2, &created.to_be_bytes());
        hashed_parts.extend(subpacket(33, &issuer));
        for (kind, body) in parts {
            hashed_parts.extend(subpacket(*kind, body));
        }
        let mut head = vec![4, kind, 22, hash];
        head.extend((hashed_parts.len() as u16).to_be_bytes());
        head.extend(&hashed_parts);
        let trailer = [&[4, 0xff][..], &(head.len() as u32).to_be_bytes()].concat();
        let message = [data, &head, &trailer].concat();
        // A hash that is not known is signed as if it were SHA-256: it has to be refused before.
        let digest = Hash::from_id(hash).unwrap_or(Hash::Sha256).digest(&message);
        let signature = key.sign(&digest).unwrap();
        let (r, s) = signature.split_at(32);
        [
            head,
            (hint.len() as u16).to_be_bytes().to_vec(),
            hint,
            digest[..2].to_vec(),
            integer(r),
            integer(s),
        ]
        .concat()
    }
}

fn key_body(key: &KeyPair) -> Vec<u8> {
    let mut body = vec![4];
    body.extend(MADE.to_be_bytes());
    body.extend([22, 9, 0x2b, 6, 1, 4, 1, 0xda, 0x47, 0x0f, 1]);
    body.extend(integer(&[&[0x40], key.public_key().raw()].concat()));
    body
}

fn hashed_key(key: &KeyPair) -> Vec<u8> {
    let body = key_body(key);
    [&[0x99][..], &(body.len() as u16).to_be_bytes(), &body].concat()
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len());
    let value = &bytes[start..];
    let bits = value
        .first()
        .map_or(0, |first| value.len() * 8 - first.leading_zeros() as usize);
    [&(bits as u16).to_be_bytes()[..], value].concat()
}

fn subpacket(kind: u8, body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 190);
    [&[body.len() as u8 + 1, kind][..], body].concat()
}

pub(crate) fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_be_bytes();
    [&[0xc0 | tag, 0xff][..], &length, body].concat()
}
