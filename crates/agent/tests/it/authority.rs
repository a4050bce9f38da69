//! A certificate authority for tests.

use crypto::{Algorithm, KeyPair, PublicKey, Signer};
use facts::Timestamp;
use ledger::body::{Body as _, Issuance, KeyRotation, SvidKind};
use ledger::lineage::{self, Link};
use ledger::{
    Checkpoint, Commitment, Decimal, Digest, Frontier, LedgerSigner, Receipt, Salt, Stamp,
};
use proto::v1;
use spiffe_core::jwt::{JwtParams, JwtTbs};
use spiffe_core::x509::authority::{AuthorityParams, issuing, root};
use spiffe_core::{Bundle, Issuer, LeafParams, Serial, TrustDomain};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use svid_tls::OwnSvid;

pub(crate) const DOMAIN: &str = "example.org";

pub(crate) struct Authority {
    pub(crate) trust_domain: TrustDomain,
    issuer: Issuer,
    jwt: KeyPair,
    ledger: LedgerSigner,
    /// What it says of how its ledger went on.
    pub(crate) lineage: String,
    pub(crate) ledger_key: Vec<u8>,
    pub(crate) bundle: Arc<Bundle>,
    /// Whether it signs without having recorded, as who stole its key does.
    pub(crate) forgets: AtomicBool,
}

/// A certificate with its chain.
pub(crate) struct Leaf {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) serial: String,
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP256).unwrap()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let trust_domain = TrustDomain::new(DOMAIN).unwrap();
        let now = Timestamp::now();
        let params = || AuthorityParams {
            serial: Serial::from_random(crypto::random()),
            not_before: now.minus_secs(86_400),
            not_after: now.plus_secs(86_400),
        };
        let (root_key, issuing_key, jwt) = (Arc::new(key()), Arc::new(key()), key());
        let root_der = root(&trust_domain, &params(), root_key.as_ref()).unwrap();
        let parent = Issuer::new(&root_der, root_key).unwrap();
        let issuing_der =
            issuing(&trust_domain, &params(), issuing_key.public_key(), &parent).unwrap();
        let ledger = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
        let mut bundle = Bundle::new(trust_domain.clone()).with_sequence(1);
        bundle.add_x509_authority(&root_der).unwrap();
        bundle.add_jwt_authority("jwt-1", jwt.public_key()).unwrap();
        Self {
            trust_domain,
            issuer: Issuer::new(&issuing_der, issuing_key).unwrap(),
            jwt,
            ledger_key: ledger.public_key().spki_der().to_vec(),
            ledger: LedgerSigner::new(&format!("{DOMAIN}/server"), ledger).unwrap(),
            lineage: String::new(),
            bundle: Arc::new(bundle),
            forgets: AtomicBool::new(false),
        }
    }

    /// What leads from its ledger's key to that of a new log, as it is sent.
    pub(crate) fn link(&self) -> String {
        let key = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
        let next = LedgerSigner::new(&format!("{DOMAIN}/server@2"), key).unwrap();
        let link = Link::sign(&self.ledger, &next, (1 << 20, [7; 32]), "stolen").unwrap();
        lineage::to_json(&[link])
    }

    /// A succession of its ledger's key, as its owner makes one, and as whoever has read the key does.
    pub(crate) fn succession(&self) -> (LedgerSigner, KeyRotation) {
        let key = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
        let next = LedgerSigner::new(&format!("{DOMAIN}/server@2"), key).unwrap();
        let link = Link::sign(&self.ledger, &next, (40, [7; 32]), "stolen").unwrap();
        (next, link)
    }

    /// From now on it records in that log.
    pub(crate) fn goes_on(&mut self, next: LedgerSigner) {
        self.ledger = next;
    }

    /// Says that its ledger went on so.
    pub(crate) fn tells(&mut self, links: &[KeyRotation]) {
        self.lineage = lineage::to_json(links);
    }

    pub(crate) fn roots(&self) -> Vec<Vec<u8>> {
        let roots = self.bundle.x509_authorities().iter();
        roots.map(|root| root.der().to_vec()).collect()
    }

    pub(crate) fn pin(&self) -> String {
        let roots = self.roots();
        let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
        svid_tls::pin::digest(&self.trust_domain, &roots, &self.ledger_key)
    }

    pub(crate) fn message(&self) -> v1::Bundle {
        v1::Bundle {
            trust_domain: DOMAIN.to_owned(),
            sequence: 1,
            x509_authorities: self.roots(),
            jwks: self.bundle.to_jwks(),
            crl: Vec::new(),
            refresh_hint_s: 300,
        }
    }

    /// For `spki`, from `past_s` ago until `ahead_s` from now.
    pub(crate) fn leaf(&self, path: &str, spki: &[u8], past_s: u64, ahead_s: u64) -> Leaf {
        let now = Timestamp::now();
        let (not_before, not_after) = (now.minus_secs(past_s), now.plus_secs(ahead_s));
        let serial = Serial::from_random(crypto::random());
        let tbs = self
            .issuer
            .leaf(&LeafParams {
                spiffe_id: self.trust_domain.identity(path).unwrap(),
                public_key: PublicKey::from_spki_der(spki).unwrap(),
                serial,
                not_before,
                not_after,
                dns_names: Vec::new(),
            })
            .unwrap();
        let receipt = self.receipt(&Issuance {
            kind: SvidKind::X509,
            tbs: Digest(tbs.sha256()),
            issuer: Digest(self.issuer.public_key().spki_sha256()),
            key: Digest(crypto::sha256(spki)),
            not_before: not_before.as_secs(),
            not_after: not_after.as_secs(),
            ..self.issuance(path, serial)
        });
        let leaf = tbs.with_receipt(&receipt);
        let leaf = if self.forgets.load(Ordering::Relaxed) {
            tbs.without_receipt()
        } else {
            leaf
        };
        let leaf = leaf.sign(self.issuer.signer().as_ref()).unwrap();
        Leaf {
            chain: vec![leaf, self.issuer.certificate().to_vec()],
            serial: serial.to_string(),
            not_before: not_before.as_millis(),
            not_after: not_after.as_millis(),
        }
    }

    fn issuance(&self, path: &str, serial: Serial) -> Issuance {
        Issuance {
            kind: SvidKind::X509,
            spiffe_id: self.trust_domain.identity(path).unwrap().to_string(),
            serial: serial.to_string(),
            tbs: Digest([0; 32]),
            issuer: Digest([0; 32]),
            key: Digest([0; 32]),
            not_before: 0,
            not_after: 0,
            node: "m1".to_owned(),
            verdict: Decimal(0),
            evidence_time: 0,
            policies: Vec::new(),
            commit: Commitment::new(&Salt([7; 16]), "facts", b"{}"),
            facts: BTreeMap::new(),
            replaces: None,
            ar4si: None,
        }
    }

    /// Under a checkpoint of its own: agents verify the signature and do not follow the chain.
    fn receipt(&self, issuance: &Issuance) -> Vec<u8> {
        let origin = self.ledger.key().origin();
        let record = issuance.record().actor("server", "self");
        let record = record.seal(origin, 0, Stamp { wall: 1, mono: 1 }).unwrap();
        let mut tree = Frontier::new();
        tree.push(record.leaf_hash());
        let checkpoint = Checkpoint {
            origin: origin.clone(),
            size: 1,
            root: tree.root(),
        };
        let receipt = Receipt {
            record: record.into_bytes(),
            index: 0,
            proof: Vec::new(),
            checkpoint: self.ledger.sign(&checkpoint).unwrap(),
        };
        receipt.encode().unwrap()
    }

    pub(crate) fn own(&self, path: &str) -> Arc<OwnSvid> {
        let key = Arc::new(key());
        let leaf = self.leaf(path, key.public_key().spki_der(), 60, 3600);
        OwnSvid::new(leaf.chain, key).unwrap()
    }

    pub(crate) fn jwt(&self, path: &str, audience: &[String]) -> v1::JwtSvid {
        let now = Timestamp::now();
        let id = self.trust_domain.identity(path).unwrap();
        let expires_at = now.plus_secs(300);
        let serial = Serial::from_random(crypto::random());
        let tbs = JwtTbs::new(
            &JwtParams {
                spiffe_id: id.clone(),
                audience: audience.to_vec(),
                id: serial,
                issued_at: now,
                expires_at,
            },
            "jwt-1",
        )
        .unwrap();
        let receipt = self.receipt(&Issuance {
            kind: SvidKind::Jwt,
            tbs: Digest(tbs.sha256()),
            issuer: Digest(self.jwt.public_key().spki_sha256()),
            not_before: now.as_secs(),
            not_after: expires_at.as_secs(),
            ..self.issuance(path, serial)
        });
        let token = if self.forgets.load(Ordering::Relaxed) {
            tbs.without_receipt()
        } else {
            tbs.with_receipt(&receipt)
        };
        v1::JwtSvid {
            spiffe_id: id.to_string(),
            token: token.sign(&self.jwt).unwrap(),
            hint: String::new(),
            not_after: expires_at.as_millis(),
        }
    }
}
