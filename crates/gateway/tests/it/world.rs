//! A trust domain: its authority, its ledger, and a gateway that follows both.

use crypto::{Algorithm, KeyPair, Signer};
use custody::FileCustody;
use estate::EstateFiles;
use facts::{Finding, Timestamp};
use gateway::{Config, Following, Principal, Questions};
use identity::{Authority, Lifetimes, PreparedX509};
use ledger::body::{self, BlobRef, Body as _, FactValue, Issuance, SvidKind, Target, TargetKind};
use ledger::{
    Base64, Checkpoint, Commitment, EstateRef, Hash, HexDigest, LedgerSigner, Receipt,
    RecordBuilder, Salt,
};
use ledger_store::{Committed, Ledger, Options};
use rustls_pki_types::CertificateDer;
use spiffe_core::{Issuer, LeafParams, Serial, Tbs, TrustDomain};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) const DOMAIN: &str = "example.org";
pub(crate) const PAYMENTS: &str = "payments/api";
/// Of the estate, in seconds.
pub(crate) const MAX_STALENESS: u64 = 300;

pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) now: Timestamp,
    pub(crate) authority: Authority,
    pub(crate) ledger: Ledger,
    pub(crate) key: Arc<dyn Signer>,
    /// The ledger's key, for who has stolen it.
    pub(crate) stolen: LedgerSigner,
    pub(crate) following: Following,
    pub(crate) questions: Questions,
}

/// What was issued.
pub(crate) struct Svid {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) serial: Serial,
    pub(crate) receipt: Receipt,
    pub(crate) prepared: PreparedX509,
}

impl World {
    /// A gateway that follows a server whose estate declares two identities.
    pub(crate) fn new() -> Self {
        let world = Self::without_estate();
        world.apply(&estate(&[PAYMENTS, "reporting/nightly"]), 0);
        world
    }

    /// As [`World::new`], whose gateway asks for these witnesses.
    pub(crate) fn watched(watch: gateway::Watch) -> Self {
        let world = Self::begun(Some(watch));
        world.apply(&estate(&[PAYMENTS, "reporting/nightly"]), 0);
        world
    }

    pub(crate) fn without_estate() -> Self {
        Self::begun(None)
    }

    fn begun(watch: Option<gateway::Watch>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let now = Timestamp::now();
        let custody = FileCustody::open(&directory.path().join("keys-ca")).unwrap();
        let lifetimes = Lifetimes::default();
        let document = Authority::create(&domain(), &lifetimes, &custody, now).unwrap();
        let key: Arc<dyn Signer> = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
        let origin = format!("{DOMAIN}/server");
        let stolen = LedgerSigner::new(&origin, Arc::clone(&key)).unwrap();
        let ledger = directory.path().join("server-ledger");
        let signer = Arc::clone(&key);
        let ledger = Ledger::open(&ledger, signer, &origin, &Options::default()).unwrap();
        let followed = directory.path().join("followed");
        std::fs::create_dir(&followed).unwrap();
        let (following, questions) =
            Following::open_watched(domain(), stolen.key().clone(), &followed, watch).unwrap();
        let world = Self {
            authority: Authority::open(document, lifetimes, &custody).unwrap(),
            directory,
            now,
            key,
            ledger,
            stolen,
            following,
            questions,
        };
        let bundle = world.record(world.bundle_body().record());
        world.publish();
        world.push(&bundle, b"").unwrap();
        world.following.heard(now);
        world
    }

    fn bundle_body(&self) -> body::Bundle {
        let roots = self.authority.roots();
        let jwt = self.authority.document().jwt.iter();
        let jwt = jwt.map(|jwt| body::JwtAuthority {
            kid: jwt.kid.clone(),
            spki: Base64(crypto::base64::decode(&jwt.spki).unwrap()),
        });
        body::Bundle {
            sequence: 1.into(),
            x509_authorities: roots.map(|root| Base64(root.to_vec())).collect(),
            jwt_authorities: jwt.collect(),
            blob: None,
        }
    }

    pub(crate) fn followed(&self) -> PathBuf {
        self.directory.path().join("followed")
    }

    /// What a start of the gateway finds.
    pub(crate) fn restarted(&self) -> Result<(Following, Questions), Finding> {
        Following::open(domain(), self.stolen.key().clone(), &self.followed())
    }

    pub(crate) fn record(&self, builder: RecordBuilder) -> Committed {
        let draft = builder.actor("server", "self").draft().unwrap();
        self.ledger.append(draft).wait().unwrap()
    }

    /// Tells the gateway of the newest checkpoint.
    pub(crate) fn publish(&self) {
        let head = self.ledger.reader().head();
        let from = self.following.head().0;
        let proof = self.proof(from, head.checkpoint.size);
        self.following
            .take_checkpoint(&head.note, from, &proof)
            .unwrap();
    }

    pub(crate) fn proof(&self, from: u64, to: u64) -> Vec<Hash> {
        if from == 0 {
            return Vec::new();
        }
        self.ledger.reader().consistency(from, to).unwrap()
    }

    pub(crate) fn push(&self, committed: &Committed, blob: &[u8]) -> Result<u64, Finding> {
        let receipt = committed.receipt().encode().unwrap();
        self.following.take_record(&receipt, blob)
    }

    pub(crate) fn record_estate(&self, blob: &[u8], floor: u64) -> Committed {
        let version = body::EstateVersion {
            version: HexDigest::of(blob),
            blob: BlobRef::of(blob),
            parent: None,
            author: "uid:0".to_owned(),
            message: String::new(),
            proof_index: None,
            floor: floor.into(),
        };
        let committed = self.record(version.record());
        self.publish();
        committed
    }

    /// Makes an estate current, at the server and at the gateway; returns the index of its record.
    pub(crate) fn apply(&self, files: &EstateFiles, floor: u64) -> u64 {
        let blob = files.to_blob();
        let committed = self.record_estate(&blob, floor);
        self.push(&committed, &blob).unwrap()
    }

    pub(crate) fn record_revocation(&self, kind: TargetKind, value: &str) -> Committed {
        let revocation = body::Revocation {
            target: target(kind, value),
            reason: "stolen".to_owned(),
            by: "uid:0".to_owned(),
            whose: Vec::new(),
            node: None,
        };
        let committed = self.record(revocation.record());
        self.publish();
        committed
    }

    pub(crate) fn revoke(&self, kind: TargetKind, value: &str) -> u64 {
        let committed = self.record_revocation(kind, value);
        self.push(&committed, b"").unwrap()
    }

    // ------------------------------------------------------------ issuance

    pub(crate) fn issuer(&self) -> &Issuer {
        self.authority.issuer(self.now).unwrap()
    }

    /// Records and signs; the checkpoint of the record is not published.
    pub(crate) fn issue(&self, path: &str) -> Svid {
        self.issue_under(path, None)
    }

    pub(crate) fn issue_under(&self, path: &str, estate: Option<u64>) -> Svid {
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let serial = Serial::from_random(crypto::random());
        let id = domain().identity(path).unwrap();
        let public = key.public_key().clone();
        let prepared = self
            .authority
            .prepare_x509(id, public.clone(), Vec::new(), serial, self.now)
            .unwrap();
        let issuance = Issuance {
            tbs: prepared.digest().into(),
            not_before: prepared.not_before().as_secs(),
            not_after: prepared.not_after().as_secs(),
            ..self.issuance(path, serial, &public.spki_sha256())
        };
        let mut builder = issuance.record();
        if let Some(index) = estate {
            let version = HexDigest([7; 32]);
            builder = builder.estate(EstateRef { version, index });
        }
        let receipt = self.record(builder).receipt();
        Svid {
            chain: prepared.finish(&receipt).unwrap(),
            serial,
            receipt,
            prepared,
        }
    }

    /// As [`World::issue`], and the gateway knows the checkpoint.
    pub(crate) fn issue_published(&self, path: &str) -> Svid {
        let svid = self.issue(path);
        self.publish();
        svid
    }

    pub(crate) fn issuance(&self, path: &str, serial: Serial, key: &[u8; 32]) -> Issuance {
        Issuance {
            kind: SvidKind::X509,
            spiffe_id: format!("spiffe://{DOMAIN}/{path}"),
            serial: serial.to_string(),
            tbs: [0; 32].into(),
            issuer: self.issuer().public_key().spki_sha256().into(),
            key: (*key).into(),
            not_before: 0,
            not_after: 0,
            node: "m1".to_owned(),
            verdict: 0.into(),
            evidence_time: self.now.as_millis(),
            policies: vec!["payments-api".to_owned()],
            commit: Commitment::new(&Salt([7; 16]), "facts", b"{}"),
            facts: BTreeMap::from([
                ("machine.name".to_owned(), FactValue::Text("m1".to_owned())),
                ("workload.uid".to_owned(), FactValue::Integer(1000)),
            ]),
            replaces: None,
            ar4si: None,
        }
    }

    /// What who has the issuing CA's key builds for a key of his own.
    pub(crate) fn forged_tbs(&self, path: &str, key: &KeyPair, serial: Serial) -> Tbs {
        let params = LeafParams {
            spiffe_id: domain().identity(path).unwrap(),
            public_key: key.public_key().clone(),
            serial,
            not_before: self.now.minus_secs(10),
            not_after: self.now.plus_secs(3_600),
            dns_names: Vec::new(),
        };
        self.issuer().leaf(&params).unwrap()
    }

    pub(crate) fn sign(&self, tbs: &Tbs, receipt: Option<&[u8]>) -> Vec<Vec<u8>> {
        let to_sign = match receipt {
            Some(receipt) => tbs.with_receipt(receipt),
            None => tbs.without_receipt(),
        };
        let leaf = to_sign.sign(self.issuer().signer().as_ref()).unwrap();
        vec![leaf, self.issuer().certificate().to_vec()]
    }

    /// A certificate with a flawless receipt under a checkpoint of `size` that `ledger` signed over a
    /// history of its own.
    pub(crate) fn forked(&self, ledger: &LedgerSigner, size: u64) -> Vec<Vec<u8>> {
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let serial = Serial::from_random(crypto::random());
        let tbs = self.forged_tbs(PAYMENTS, &key, serial);
        let issuance = Issuance {
            tbs: tbs.sha256().into(),
            not_before: self.now.minus_secs(10).as_secs(),
            not_after: self.now.plus_secs(3_600).as_secs(),
            ..self.issuance(PAYMENTS, serial, &key.public_key().spki_sha256())
        };
        let receipt = self.forged_receipt(ledger, issuance.record(), size);
        self.sign(&tbs, Some(&receipt.encode().unwrap()))
    }

    /// A flawless receipt for `builder` as the last of `size` records of a history of its own.
    pub(crate) fn forged_receipt(
        &self,
        ledger: &LedgerSigner,
        builder: RecordBuilder,
        size: u64,
    ) -> Receipt {
        let stamp = ledger::Stamp { wall: 1, mono: 1 };
        let origin = ledger.key().origin();
        let record = builder.actor("server", "self");
        let record = record.seal(origin, size - 1, stamp).unwrap();
        // The record is the last one: its proof is the peaks of what stands before it.
        let mut tree = ledger::Frontier::new();
        for filler in 1..size {
            tree.push(ledger::merkle::leaf_hash(&filler.to_be_bytes()));
        }
        let proof = tree.peaks().iter().rev().copied().collect();
        tree.push(record.leaf_hash());
        let checkpoint = Checkpoint {
            origin: origin.clone(),
            size,
            root: tree.root(),
        };
        Receipt {
            record: record.into_bytes(),
            index: size - 1,
            proof,
            checkpoint: ledger.sign(&checkpoint).unwrap(),
        }
    }

    pub(crate) async fn admit(&self, chain: &[Vec<u8>]) -> Result<Principal, Finding> {
        self.admit_at(chain, self.now).await
    }

    pub(crate) async fn admit_at(
        &self,
        chain: &[Vec<u8>],
        now: Timestamp,
    ) -> Result<Principal, Finding> {
        self.following.admit(&ders(chain), now).await
    }

    /// The code that `chain` is refused with.
    pub(crate) async fn refused(&self, chain: &[Vec<u8>]) -> String {
        self.admit(chain).await.unwrap_err().code.to_string()
    }

    /// Configuration of a whole gateway that has followed what this one has, and now finds no server.
    pub(crate) fn config(&self) -> Config {
        let data_dir = self.directory.path().join("gateway");
        let followed = data_dir.join("followed");
        if !followed.exists() {
            std::fs::create_dir_all(&followed).unwrap();
            self.following.keep().unwrap();
            for entry in std::fs::read_dir(self.followed()).unwrap() {
                let entry = entry.unwrap();
                std::fs::copy(entry.path(), followed.join(entry.file_name())).unwrap();
            }
        }
        let roots: Vec<&[u8]> = self.authority.roots().collect();
        let key = self.stolen.key().public_key().spki_der();
        let encoded: Vec<String> = roots
            .iter()
            .map(|root| crypto::base64::encode(root))
            .collect();
        let anchors = serde_json::json!([DOMAIN, encoded, crypto::base64::encode(key)]);
        std::fs::write(data_dir.join("anchors.json"), anchors.to_string()).unwrap();
        Config {
            trust_domain: DOMAIN.to_owned(),
            name: "pg-1".to_owned(),
            identity: "gateway/pg".to_owned(),
            server: "127.0.0.1:1".to_owned(),
            pin: svid_tls::pin::digest(&domain(), &roots, key),
            workload_socket: self.directory.path().join("nobody.sock"),
            data_dir,
            http_listen: None,
            witnesses: None,
        }
    }
}

pub(crate) fn domain() -> TrustDomain {
    TrustDomain::new(DOMAIN).unwrap()
}

pub(crate) fn ders(chain: &[Vec<u8>]) -> Vec<CertificateDer<'static>> {
    chain
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect()
}

pub(crate) fn target(kind: TargetKind, value: &str) -> Target {
    Target {
        kind,
        value: value.to_owned(),
    }
}

/// An estate that declares `paths`.
pub(crate) fn estate(paths: &[&str]) -> EstateFiles {
    let mut files = EstateFiles::bootstrap(DOMAIN, 0);
    files.insert(
        "estate.toml",
        format!("trust_domain = \"{DOMAIN}\"\nmax_staleness = \"{MAX_STALENESS}s\"\n"),
    );
    let identities: String = paths
        .iter()
        .map(|path| {
            format!("[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"us\"\n")
        })
        .collect();
    files.insert("identities/all.toml", identities);
    files
}

/// Somebody at `path` whose SVID ends at `not_after`.
pub(crate) fn principal(path: &str, serial: &str, not_after: Timestamp) -> Principal {
    Principal {
        spiffe_id: domain().identity(path).unwrap(),
        path: path.to_owned(),
        serial: serial.to_owned(),
        not_after,
        node: "m1".to_owned(),
        facts: facts::FactSet::new(),
        issuance: 0,
    }
}
