//! A small trust domain: a root, an issuing CA, a JWT key and a ledger with one record at a time.

use crypto::{Algorithm, KeyPair, Signer};
use facts::Timestamp;
use ledger::body::{Body as _, Issuance, SvidKind};
use ledger::{
    Checkpoint, Commitment, Decimal, Digest, LedgerKey, LedgerSigner, Receipt, Record, Salt, Stamp,
    merkle,
};
use spiffe::x509::authority::{self, AuthorityParams};
use spiffe::{Bundle, Issuer, LeafParams, Serial, SpiffeId, TrustDomain};
use std::sync::Arc;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_312_969);
const DAY: u64 = 86_400;

pub(crate) struct Domain {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) root: Issuer,
    pub(crate) issuing: Issuer,
    pub(crate) jwt: Arc<dyn Signer>,
    pub(crate) ledger: LedgerSigner,
}

pub(crate) fn key(algorithm: Algorithm) -> Arc<dyn Signer> {
    Arc::new(KeyPair::generate(algorithm).unwrap())
}

pub(crate) fn serial() -> Serial {
    Serial::from_random(crypto::random())
}

impl Domain {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, Algorithm::EcdsaP256)
    }

    pub(crate) fn with(name: &str, algorithm: Algorithm) -> Self {
        let trust_domain = TrustDomain::new(name).unwrap();
        let params = |days| AuthorityParams {
            serial: serial(),
            not_before: NOW.minus_secs(60),
            not_after: NOW.plus_secs(days * DAY),
        };
        let (root_key, issuing_key) = (key(algorithm), key(algorithm));
        let root = authority::root(&trust_domain, &params(3650), root_key.as_ref()).unwrap();
        let root = Issuer::new(&root, root_key).unwrap();
        let issuing =
            authority::issuing(&trust_domain, &params(30), issuing_key.public_key(), &root);
        let issuing = Issuer::new(&issuing.unwrap(), issuing_key).unwrap();
        let origin = format!("{name}/server");
        Self {
            trust_domain,
            root,
            issuing,
            jwt: key(Algorithm::EcdsaP256),
            ledger: LedgerSigner::new(&origin, key(Algorithm::Ed25519)).unwrap(),
        }
    }

    pub(crate) fn bundle(&self) -> Bundle {
        let mut bundle = Bundle::new(self.trust_domain.clone());
        bundle.add_x509_authority(self.root.certificate()).unwrap();
        bundle
            .add_jwt_authority("jwt-1", self.jwt.public_key())
            .unwrap();
        bundle
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        self.trust_domain.identity(path).unwrap()
    }

    /// For an hour, from a minute ago.
    pub(crate) fn leaf_params(&self, path: &str, key: &dyn Signer) -> LeafParams {
        LeafParams {
            spiffe_id: self.id(path),
            public_key: key.public_key().clone(),
            serial: serial(),
            not_before: NOW.minus_secs(60),
            not_after: NOW.plus_secs(3600),
            dns_names: Vec::new(),
        }
    }

    /// Leaf and issuing certificate, without a receipt.
    pub(crate) fn chain(&self, params: &LeafParams) -> Vec<Vec<u8>> {
        let tbs = self.issuing.leaf(params).unwrap();
        let leaf = tbs
            .without_receipt()
            .sign(self.issuing.signer().as_ref())
            .unwrap();
        vec![leaf, self.issuing.certificate().to_vec()]
    }

    /// The record that an honest server would make of `params`.
    pub(crate) fn issuance(&self, params: &LeafParams) -> Issuance {
        let tbs = self.issuing.leaf(params).unwrap();
        Issuance {
            kind: SvidKind::X509,
            spiffe_id: params.spiffe_id.to_string(),
            serial: params.serial.to_string(),
            tbs: Digest(tbs.sha256()),
            issuer: Digest(self.issuing.public_key().spki_sha256()),
            key: Digest(params.public_key.spki_sha256()),
            not_before: params.not_before.as_secs(),
            not_after: params.not_after.as_secs(),
            node: "m1".to_owned(),
            verdict: Decimal(3),
            evidence_time: NOW.as_millis(),
            policies: vec!["payments".to_owned()],
            commit: Commitment::new(&Salt([7; 16]), "facts", b"{}"),
            facts: [].into(),
            replaces: None,
            ar4si: None,
        }
    }

    pub(crate) fn receipt(&self, issuance: &Issuance) -> Vec<u8> {
        let origin = self.ledger.key().origin();
        let record = issuance.record().seal(origin, 0, Stamp::default()).unwrap();
        prove(&self.ledger, &record)
    }

    pub(crate) fn ledger_key(&self) -> &LedgerKey {
        self.ledger.key()
    }

    /// Leaf with receipt, and issuing certificate: as an honest server issues it.
    pub(crate) fn recorded_chain(&self, params: &LeafParams) -> Vec<Vec<u8>> {
        self.chain_with(params, &self.receipt(&self.issuance(params)))
    }

    pub(crate) fn chain_with(&self, params: &LeafParams, receipt: &[u8]) -> Vec<Vec<u8>> {
        let tbs = self.issuing.leaf(params).unwrap().with_receipt(receipt);
        let leaf = tbs.sign(self.issuing.signer().as_ref()).unwrap();
        vec![leaf, self.issuing.certificate().to_vec()]
    }
}

/// A receipt for `record` as the only one in its ledger.
pub(crate) fn prove(ledger: &LedgerSigner, record: &Record) -> Vec<u8> {
    let checkpoint = Checkpoint {
        origin: ledger.key().origin().clone(),
        size: 1,
        root: merkle::leaf_hash(record.bytes()),
    };
    let receipt = Receipt {
        record: record.bytes().to_vec(),
        index: 0,
        proof: Vec::new(),
        checkpoint: ledger.sign(&checkpoint).unwrap(),
    };
    receipt.encode().unwrap()
}
