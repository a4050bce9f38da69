//! An enclave and a NitroTPM whose every part is ours: a chain and a document.

use crate::der::{CERTIFY, Certificate, fixed, pem};
use crate::evidence::day;
use attest_tee::Code;
use attest_tee::nitro::{Expectation, Image, References, Roots, verify};
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::{Timestamp, Verdict};
use std::collections::BTreeMap;
use std::sync::LazyLock;

fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP384).unwrap()
}

pub(crate) static ROOT: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static ZONE: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static INSTANCE: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static LEAF: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static OTHER: LazyLock<KeyPair> = LazyLock::new(key);

pub(crate) fn now() -> Timestamp {
    day(2026, 6, 1)
}

fn head(major: u8, value: usize) -> Vec<u8> {
    match value {
        0..24 => vec![major << 5 | value as u8],
        24..256 => vec![major << 5 | 24, value as u8],
        _ => vec![major << 5 | 25, (value >> 8) as u8, value as u8],
    }
}

pub(crate) fn bytes(content: &[u8]) -> Vec<u8> {
    [head(2, content.len()), content.to_vec()].concat()
}

pub(crate) fn text(content: &str) -> Vec<u8> {
    [head(3, content.len()), content.as_bytes().to_vec()].concat()
}

pub(crate) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len()), items.concat()].concat()
}

pub(crate) fn number(value: u64) -> Vec<u8> {
    match value {
        0..0x1_0000 => head(0, value as usize),
        0x1_0000..0x1_0000_0000 => [&[0x1a][..], &(value as u32).to_be_bytes()].concat(),
        _ => [&[0x1b][..], &value.to_be_bytes()].concat(),
    }
}

pub(crate) const NULL: u8 = 0xf6;

/// Everything that a test may change before it is signed.
#[derive(Clone)]
pub(crate) struct Enclave {
    /// Name and encoded value, in order, beside registers, certificate and bundle.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// Those three by name, where they are to be left out.
    pub(crate) without: Vec<String>,
    pub(crate) pcrs: BTreeMap<u8, [u8; 48]>,
    pub(crate) pcrs_name: &'static str,
    pub(crate) open_ended: bool,
    pub(crate) root: Certificate,
    pub(crate) zone: Certificate,
    pub(crate) instance: Certificate,
    pub(crate) leaf: Certificate,
    /// None: the leaf's chain, root first.
    pub(crate) bundle: Option<Vec<Vec<u8>>>,
    pub(crate) protected: Vec<u8>,
    pub(crate) unprotected: Vec<u8>,
    pub(crate) before: Vec<u8>,
    pub(crate) after: Vec<u8>,
    pub(crate) signed_by_other: bool,
    pub(crate) leaf_by_other: bool,
    pub(crate) expectation: Expectation,
    pub(crate) references: References,
}

impl Enclave {
    /// A good one.
    pub(crate) fn new() -> Self {
        let pcrs: BTreeMap<u8, [u8; 48]> = (0..16)
            .map(|index| (index, [if index < 9 { index + 1 } else { 0 }; 48]))
            .collect();
        let authority = |subject: &str, issuer: &str, serial, below| Certificate {
            ca: Some(Some(below)),
            key_usage: Some(CERTIFY),
            ..Certificate::authority(subject, issuer, serial)
        };
        let images = vec![Image {
            name: "prod".to_owned(),
            pcrs: BTreeMap::from([(0, pcrs[&0]), (8, pcrs[&8])]),
        }];
        Self {
            fields: vec![
                ("module_id".to_owned(), text("i-0123-enc4567")),
                ("digest".to_owned(), text("SHA384")),
                ("timestamp".to_owned(), number(now().as_millis() - 1000)),
                ("public_key".to_owned(), bytes(b"public key")),
                ("user_data".to_owned(), vec![NULL]),
                ("nonce".to_owned(), bytes(b"nonce")),
            ],
            without: Vec::new(),
            pcrs,
            pcrs_name: "pcrs",
            open_ended: false,
            root: authority("aws.nitro-enclaves", "aws.nitro-enclaves", 1, 2),
            zone: authority("zone", "aws.nitro-enclaves", 2, 1),
            instance: authority("instance", "zone", 3, 0),
            leaf: Certificate::leaf("enclave", "instance", 4),
            bundle: None,
            protected: vec![0xa1, 0x01, 0x38, 0x22],
            unprotected: vec![0xa0],
            before: Vec::new(),
            after: Vec::new(),
            signed_by_other: false,
            leaf_by_other: false,
            expectation: Expectation {
                nonce: Some(b"nonce".to_vec()),
                user_data: None,
                public_key: Some(b"public key".to_vec()),
                max_age: 300,
                now: now(),
            },
            references: References {
                roots: Roots::default(),
                code: Code::Listed(images),
            },
        }
    }

    /// The form of a NitroTPM.
    pub(crate) fn tpm() -> Self {
        Self {
            pcrs_name: "nitrotpm_pcrs",
            ..Self::new()
        }
    }

    pub(crate) fn set(&mut self, name: &str, value: Vec<u8>) {
        self.fields.retain(|(other, _)| other != name);
        self.fields.push((name.to_owned(), value));
    }

    fn chain(&self) -> Vec<Vec<u8>> {
        vec![
            self.root.sign(&ROOT, &ROOT),
            self.zone.sign(&ZONE, &ROOT),
            self.instance.sign(&INSTANCE, &ZONE),
        ]
    }

    pub(crate) fn payload(&self) -> Vec<u8> {
        let mut pcrs = head(5, self.pcrs.len());
        for (index, value) in &self.pcrs {
            pcrs.extend(number(u64::from(*index)));
            pcrs.extend(bytes(value));
        }
        let instance = if self.leaf_by_other {
            &OTHER
        } else {
            &INSTANCE
        };
        let bundle = self.bundle.clone().unwrap_or_else(|| self.chain());
        let bundle: Vec<_> = bundle.iter().map(|der| bytes(der)).collect();
        let mut fields = vec![
            (self.pcrs_name.to_owned(), pcrs),
            (
                "certificate".to_owned(),
                bytes(&self.leaf.sign(&LEAF, instance)),
            ),
            ("cabundle".to_owned(), array(&bundle)),
        ];
        fields.retain(|(name, _)| !self.without.contains(name));
        fields.extend(self.fields.iter().cloned());
        let pairs: Vec<u8> = fields
            .iter()
            .flat_map(|(name, value)| [text(name), value.clone()].concat())
            .collect();
        if self.open_ended {
            [vec![0xbf], pairs, vec![0xff]].concat()
        } else {
            [head(5, fields.len()), pairs].concat()
        }
    }

    pub(crate) fn document(&self) -> Vec<u8> {
        let payload = self.payload();
        let signed = array(&[
            text("Signature1"),
            bytes(&self.protected),
            bytes(&[]),
            bytes(&payload),
        ]);
        let key = if self.signed_by_other { &OTHER } else { &LEAF };
        let signature = fixed::<48>(&key.sign(&signed).unwrap());
        [
            self.before.clone(),
            vec![0x84],
            bytes(&self.protected),
            self.unprotected.clone(),
            bytes(&payload),
            bytes(&signature),
            self.after.clone(),
        ]
        .concat()
    }

    pub(crate) fn references(&self) -> References {
        let root = pem(&self.root.sign(&ROOT, &ROOT));
        References {
            roots: Roots::from_pem(&root).unwrap(),
            ..self.references.clone()
        }
    }

    pub(crate) fn judge_document(&self, document: &[u8]) -> Verdict {
        verify(document, &self.expectation, &self.references())
    }

    pub(crate) fn judge(&self) -> Verdict {
        self.judge_document(&self.document())
    }
}
