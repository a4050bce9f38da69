//! Writes certificates and revocation lists, with whatever fault a test wants. An issuer's key is a
//! P-256 or P-384 one; nothing here is a library's idea of what is allowed.

use crypto::{Algorithm, KeyPair, Signer};
use facts::Timestamp;
use std::collections::BTreeMap;
use std::sync::Mutex;

pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = vec![tag];
    match length {
        0..0x80 => bytes.push(length as u8),
        0x80..0x100 => bytes.extend([0x81, length as u8]),
        _ => bytes.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    bytes.extend(content);
    bytes
}

pub(crate) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    element(0x30, &parts.concat())
}

/// A number that is not negative.
pub(crate) fn integer(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
    let mut content = bytes[zeros..].to_vec();
    if content[0] >= 0x80 {
        content.insert(0, 0);
    }
    element(0x02, &content)
}

pub(crate) fn identifier(arcs: &[u64]) -> Vec<u8> {
    let mut content = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for arc in &arcs[2..] {
        let mut groups = vec![(arc & 0x7f) as u8];
        let mut rest = arc >> 7;
        while rest > 0 {
            groups.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        content.extend(groups.iter().rev());
    }
    element(0x06, &content)
}

pub(crate) fn octets(content: &[u8]) -> Vec<u8> {
    element(0x04, content)
}

fn bits(content: &[u8]) -> Vec<u8> {
    element(0x03, &[&[0], content].concat())
}

/// `UTCTime`.
fn time(at: Timestamp) -> Vec<u8> {
    let text: String = at
        .to_string()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    element(0x17, format!("{}Z", &text[2..14]).as_bytes())
}

fn name(common: &str) -> Vec<u8> {
    let attribute = sequence(&[identifier(&[2, 5, 4, 3]), element(0x0c, common.as_bytes())]);
    sequence(&[element(0x31, &attribute)])
}

fn algorithm(key: &KeyPair) -> Vec<u8> {
    let last = match key.public_key().algorithm() {
        Algorithm::EcdsaP256 => 2,
        Algorithm::EcdsaP384 => 3,
        other => panic!("no certificates by {other}"),
    };
    sequence(&[identifier(&[1, 2, 840, 10_045, 4, 3, last])])
}

/// What was signed by the key of which SPKI's digest.
type SignedBy = (Vec<u8>, [u8; 32]);

/// Signatures are random, and a root has to be the same bytes wherever it stands: each thing is signed
/// once.
static SIGNED: Mutex<BTreeMap<SignedBy, Vec<u8>>> = Mutex::new(BTreeMap::new());

fn signed(tbs: Vec<u8>, key: &KeyPair) -> Vec<u8> {
    let name = (tbs.clone(), key.public_key().spki_sha256());
    let mut cache = SIGNED.lock().unwrap();
    let signature = cache
        .entry(name)
        .or_insert_with(|| key.sign(&tbs).unwrap())
        .clone();
    sequence(&[tbs, algorithm(key), bits(&signature)])
}

pub(crate) fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        crypto::base64::encode(der)
    )
}

pub(crate) const SIGN: u8 = 0x80;
pub(crate) const CERTIFY: u8 = 0x04;
pub(crate) const CERTIFY_AND_LIST: u8 = 0x06;

/// What a certificate is to say.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) serial: u64,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// An authority, with a path length.
    pub(crate) ca: Option<Option<u64>>,
    /// The first byte of the bits.
    pub(crate) key_usage: Option<u8>,
    /// OID arcs, critical, value.
    pub(crate) extensions: Vec<(Vec<u64>, bool, Vec<u8>)>,
}

impl Certificate {
    /// An authority that may sign certificates and lists.
    pub(crate) fn authority(subject: &str, issuer: &str, serial: u64) -> Self {
        Self {
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            serial,
            not_before: Timestamp::from_secs(1_600_000_000),
            not_after: Timestamp::from_secs(2_000_000_000),
            ca: Some(None),
            key_usage: Some(CERTIFY_AND_LIST),
            extensions: Vec::new(),
        }
    }

    pub(crate) fn leaf(subject: &str, issuer: &str, serial: u64) -> Self {
        Self {
            ca: None,
            key_usage: Some(SIGN),
            ..Self::authority(subject, issuer, serial)
        }
    }

    pub(crate) fn sign(&self, key: &KeyPair, by: &KeyPair) -> Vec<u8> {
        let mut extensions = Vec::new();
        let mut extend = |arcs: &[u64], critical: bool, value: &[u8]| {
            let mut parts = vec![identifier(arcs)];
            if critical {
                parts.push(vec![0x01, 0x01, 0xff]);
            }
            parts.push(octets(value));
            extensions.push(sequence(&parts));
        };
        if let Some(limit) = &self.ca {
            let mut parts = vec![vec![0x01, 0x01, 0xff]];
            parts.extend(limit.map(integer));
            extend(&[2, 5, 29, 19], true, &sequence(&parts));
        }
        if let Some(usage) = self.key_usage {
            let unused = usage.trailing_zeros() as u8;
            extend(&[2, 5, 29, 15], true, &element(0x03, &[unused, usage]));
        }
        for (arcs, critical, value) in &self.extensions {
            extend(arcs, *critical, value);
        }
        let mut parts = vec![
            element(0xa0, &integer(2)),
            integer(self.serial),
            algorithm(by),
            name(&self.issuer),
            sequence(&[time(self.not_before), time(self.not_after)]),
            name(&self.subject),
            key.public_key().spki_der().to_vec(),
        ];
        if !extensions.is_empty() {
            parts.push(element(0xa3, &sequence(&extensions)));
        }
        signed(sequence(&parts), by)
    }
}

/// What a revocation list is to say.
#[derive(Clone)]
pub(crate) struct List {
    pub(crate) issuer: String,
    pub(crate) this_update: Timestamp,
    pub(crate) next_update: Option<Timestamp>,
    pub(crate) revoked: Vec<u64>,
    /// A critical extension that nobody knows.
    pub(crate) critical: bool,
}

impl List {
    pub(crate) fn new(issuer: &str, now: Timestamp) -> Self {
        Self {
            issuer: issuer.to_owned(),
            this_update: now.minus_secs(3600),
            next_update: Some(now.plus_secs(3600)),
            revoked: vec![4711],
            critical: false,
        }
    }

    pub(crate) fn sign(&self, by: &KeyPair) -> Vec<u8> {
        let mut parts = vec![
            integer(1),
            algorithm(by),
            name(&self.issuer),
            time(self.this_update),
        ];
        parts.extend(self.next_update.map(time));
        if !self.revoked.is_empty() {
            let entries: Vec<_> = self
                .revoked
                .iter()
                .map(|serial| sequence(&[integer(*serial), time(self.this_update)]))
                .collect();
            parts.push(sequence(&entries));
        }
        if self.critical {
            let extension = sequence(&[
                identifier(&[1, 3, 6, 1, 4, 1, 99_999, 1]),
                vec![0x01, 0x01, 0xff],
                octets(b"?"),
            ]);
            parts.push(element(0xa0, &sequence(&[extension])));
        }
        signed(sequence(&parts), by)
    }
}

/// r ‖ s of an ASN.1 signature, each in `N` bytes.
pub(crate) fn fixed<const N: usize>(der: &[u8]) -> Vec<u8> {
    let number = |bytes: &mut &[u8]| {
        let length = usize::from(bytes[1]);
        let digits = &bytes[2..2 + length];
        let digits = &digits[digits.iter().take_while(|byte| **byte == 0).count()..];
        let mut padded = vec![0; N - digits.len()];
        padded.extend(digits);
        *bytes = &bytes[2 + length..];
        padded
    };
    let mut rest = if der[1] < 0x80 { &der[2..] } else { &der[3..] };
    let r = number(&mut rest);
    [r, number(&mut rest)].concat()
}
