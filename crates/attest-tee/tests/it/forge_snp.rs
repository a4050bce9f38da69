//! An SEV-SNP machine whose every part is ours: a chain, a report key, a report.

use crate::der::{CERTIFY, Certificate, List, element, fixed, integer, pem};
use crate::evidence::day;
use attest_tee::snp::{
    By, Evidence, Expectation, Generation, Image, Policy, References, Roots, Tcb, verify,
};
use attest_tee::{Code, Revocation};
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::{Timestamp, Verdict};
use std::sync::LazyLock;

fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP384).unwrap()
}

pub(crate) static ROOT: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static AUTHORITY: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static KEY: LazyLock<KeyPair> = LazyLock::new(key);
pub(crate) static OTHER: LazyLock<KeyPair> = LazyLock::new(key);

const ARC: [u64; 8] = [1, 3, 6, 1, 4, 1, 3704, 1];
const CHIP: [u8; 64] = [0xc1; 64];
/// In the layout of the report.
const TCB: [u8; 8] = [3, 1, 0, 0, 0, 0, 0x18, 0xd9];

/// Everything that a test may change before it is signed.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) generation: Generation,
    pub(crate) root: Certificate,
    pub(crate) authority: Certificate,
    pub(crate) certificate: Certificate,
    /// None: not sent.
    pub(crate) list: Option<List>,
    /// Up to the signature.
    pub(crate) report: Vec<u8>,
    pub(crate) signed_by_other: bool,
    pub(crate) certified_by_other: bool,
    pub(crate) listed_by_other: bool,
    pub(crate) expectation: Expectation,
    pub(crate) references: References,
}

pub(crate) fn now() -> Timestamp {
    day(2026, 6, 1)
}

/// `ARC.tail`, not critical.
pub(crate) fn extension(tail: &[u64], value: Vec<u8>) -> (Vec<u64>, bool, Vec<u8>) {
    ([&ARC, tail].concat(), false, value)
}

/// The number of each byte's extension, in the order of the layout.
pub(crate) fn order(generation: Generation) -> [u64; 8] {
    match generation {
        Generation::Milan | Generation::Genoa => [1, 2, 4, 5, 6, 7, 3, 8],
        Generation::Turin => [9, 1, 2, 3, 5, 6, 7, 8],
    }
}

impl Machine {
    /// A good one.
    pub(crate) fn new(generation: Generation) -> Self {
        let name = generation.name();
        let (root, authority) = (format!("ARK-{name}"), format!("SEV-{name}"));
        let mut certificate = Certificate::leaf("SEV-VCEK", &authority, 0);
        certificate.key_usage = None;
        let chip = match generation {
            Generation::Turin => &CHIP[..8],
            _ => &CHIP,
        };
        certificate.extensions = vec![
            extension(&[1], integer(0)),
            extension(&[2], element(0x16, format!("{name}-B0").as_bytes())),
            extension(&[4], chip.to_vec()),
        ];
        for (number, svn) in order(generation).into_iter().zip(TCB) {
            certificate
                .extensions
                .push(extension(&[3, number], integer(u64::from(svn))));
        }
        let mut machine = Self {
            generation,
            root: Certificate::authority(&root, &root, 1),
            authority: Certificate {
                ca: Some(Some(0)),
                key_usage: Some(CERTIFY),
                ..Certificate::authority(&authority, &root, 2)
            },
            certificate,
            list: Some(List::new(&root, now())),
            report: vec![0; 0x2a0],
            signed_by_other: false,
            certified_by_other: false,
            listed_by_other: false,
            expectation: Expectation {
                report_data: [0x5a; 64],
                now: now(),
            },
            references: References::default(),
        };
        let (family, model) = match generation {
            Generation::Milan => (0x19, 0x01),
            Generation::Genoa => (0x19, 0xa0),
            Generation::Turin => (0x1a, 0x02),
        };
        let version: u32 = if generation == Generation::Milan {
            3
        } else {
            5
        };
        machine.put(0x00, &version.to_le_bytes());
        machine.put(0x04, &7_u32.to_le_bytes());
        machine.put(0x08, &0x3_0000_u64.to_le_bytes());
        machine.put(0x10, &[0xfa; 16]);
        machine.put(0x20, &[0x1d; 16]);
        machine.put(0x34, &1_u32.to_le_bytes());
        machine.put(0x40, &0x25_u64.to_le_bytes());
        machine.put(0x48, &1_u32.to_le_bytes());
        machine.put(0x50, &[0x5a; 64]);
        machine.put(0x90, &[0x3e; 48]);
        machine.put(0xc0, &[0x40; 32]);
        machine.put(0xe0, &[0x1e; 48]);
        machine.put(0x110, &[0xa0; 48]);
        for tcb in [0x38, 0x180, 0x1e0, 0x1f0] {
            machine.put(tcb, &TCB);
        }
        machine.put(0x188, &[family, model, 1]);
        machine.put(0x1a0, chip);
        machine.references = References {
            roots: Roots::default(),
            revocation: Revocation::Required,
            generations: vec![(generation, Tcb::read(TCB, generation))],
            code: Code::Listed(vec![Image {
                name: "prod".to_owned(),
                by: By::Measurement([0x3e; 48]),
                minimum_svn: 7,
                family_id: Some([0xfa; 16]),
                image_id: Some([0x1d; 16]),
                host_data: Some([0x40; 32]),
            }]),
            policy: Policy::default(),
        };
        machine
    }

    pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.report[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// A provider's key in place of the chip's.
    pub(crate) fn with_vlek(mut self) -> Self {
        let name = self.generation.name();
        self.authority.subject = format!("SEV-VLEK-{name}");
        self.certificate.issuer.clone_from(&self.authority.subject);
        self.certificate.subject = "SEV-VLEK".to_owned();
        let chip = extension(&[4], Vec::new()).0;
        self.certificate
            .extensions
            .retain(|(oid, _, _)| *oid != chip);
        self.certificate
            .extensions
            .push(extension(&[5], element(0x16, b"CN=cloud.example")));
        self.put(0x48, &0b101_u32.to_le_bytes());
        self.put(0x1a0, &[0; 64]);
        self
    }

    pub(crate) fn roots(&self) -> Roots {
        let mut roots = Roots::default();
        let chain = [
            pem(&self.authority.sign(&AUTHORITY, &ROOT)),
            pem(&self.root.sign(&ROOT, &ROOT)),
        ];
        roots.add(self.generation, &chain.concat()).unwrap();
        roots
    }

    pub(crate) fn signed_report(&self) -> Vec<u8> {
        let key = if self.signed_by_other { &OTHER } else { &KEY };
        let signature = fixed::<48>(&key.sign(&self.report).unwrap());
        let mut bytes = self.report.clone();
        for half in signature.chunks(48) {
            bytes.extend(half.iter().rev());
            bytes.extend([0; 24]);
        }
        bytes.resize(1184, 0);
        bytes
    }

    pub(crate) fn key_certificate(&self) -> Vec<u8> {
        let issuer = if self.certified_by_other {
            &OTHER
        } else {
            &AUTHORITY
        };
        self.certificate.sign(&KEY, issuer)
    }

    pub(crate) fn crl(&self) -> Option<Vec<u8>> {
        let issuer = if self.listed_by_other { &OTHER } else { &ROOT };
        self.list.as_ref().map(|list| list.sign(issuer))
    }

    pub(crate) fn judge(&self) -> Verdict {
        let crl = self.crl();
        self.judge_with(
            &self.signed_report(),
            &self.key_certificate(),
            crl.as_deref(),
        )
    }

    /// Judges what is presented in the place of its own.
    pub(crate) fn judge_with(&self, report: &[u8], key: &[u8], crl: Option<&[u8]>) -> Verdict {
        let references = References {
            roots: self.roots(),
            ..self.references.clone()
        };
        verify(
            &Evidence { report, key, crl },
            &self.expectation,
            &references,
        )
    }
}
