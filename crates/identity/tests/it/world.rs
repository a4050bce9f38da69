//! An authority with keys in files, and a ledger of one record.

use crypto::{Algorithm, KeyPair, Signer as _};
use custody::FileCustody;
use facts::Timestamp;
use identity::{Authority, Lifetimes, PreparedX509};
use ledger::body::{Issuance, SvidKind};
use ledger::{Checkpoint, Commitment, LedgerSigner, Origin, Receipt, Record, RecordType, Stamp};
use spiffe_core::{Serial, SpiffeId, TrustDomain};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) custody: FileCustody,
    pub(crate) authority: Authority,
    pub(crate) ledger: LedgerSigner,
}

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let custody = FileCustody::open(&directory.path().join("keys")).unwrap();
        let lifetimes = Lifetimes::default();
        let trust_domain = TrustDomain::new("example.org").unwrap();
        let document = Authority::create(&trust_domain, &lifetimes, &custody, NOW).unwrap();
        let key = KeyPair::generate(Algorithm::Ed25519).unwrap();
        Self {
            authority: Authority::open(document, lifetimes, &custody).unwrap(),
            ledger: LedgerSigner::new("example.org/server", Arc::new(key)).unwrap(),
            custody,
            directory,
        }
    }

    pub(crate) fn id(path: &str) -> SpiffeId {
        format!("spiffe://example.org/{path}").parse().unwrap()
    }

    pub(crate) fn prepare(&self, path: &str, key: &KeyPair, now: Timestamp) -> PreparedX509 {
        self.authority
            .prepare_x509(
                Self::id(path),
                key.public_key().clone(),
                Vec::new(),
                Serial::from_random(crypto::random()),
                now,
            )
            .unwrap()
    }

    /// The record that belongs to `prepared`, in a ledger that holds nothing else.
    pub(crate) fn record(&self, path: &str, key: &KeyPair, prepared: &PreparedX509) -> Receipt {
        self.seal(Issuance {
            kind: SvidKind::X509,
            spiffe_id: Self::id(path).to_string(),
            serial: prepared.serial().to_string(),
            tbs: prepared.digest().into(),
            issuer: prepared.issuer().into(),
            key: key.public_key().spki_sha256().into(),
            not_before: prepared.not_before().as_secs(),
            not_after: prepared.not_after().as_secs(),
            node: "m1".to_owned(),
            verdict: 1.into(),
            evidence_time: NOW.as_millis(),
            policies: vec!["p".to_owned()],
            commit: Commitment::new(&ledger::Salt([7; 16]), "facts", b"{}"),
            facts: BTreeMap::new(),
            replaces: None,
            ar4si: None,
        })
    }

    pub(crate) fn seal(&self, body: Issuance) -> Receipt {
        let origin = Origin::new("example.org/server").unwrap();
        let record = Record::builder(RecordType::Issuance, body)
            .actor("spiffe://example.org/trilith/node/m1", "svid")
            .seal(
                &origin,
                0,
                Stamp {
                    wall: NOW.as_millis(),
                    mono: 0,
                },
            )
            .unwrap();
        let checkpoint = Checkpoint {
            origin,
            size: 1,
            root: record.leaf_hash(),
        };
        Receipt {
            record: record.into_bytes(),
            index: 0,
            proof: Vec::new(),
            checkpoint: self.ledger.sign(&checkpoint).unwrap(),
        }
    }
}
