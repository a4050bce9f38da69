//! Ledgers whose records are made here: a server that issues, and a gateway through which tables are used.

use crypto::{Algorithm, KeyPair, Signer};
use estate::EstateFiles;
use ledger::body::{
    ActionOn, Begin, Body as _, Coverage, Decision, EstateVersion, FactValue, Intent, Issuance,
    More, OnBehalfOf, Outcome, SessionEnd, SessionStart, SvidKind,
};
use ledger::{
    Base64, Commitment, Decimal, Digest, Draft, HexDigest, LedgerSigner, RecordBuilder, Salt, Stamp,
};
use ledger_store::{Blobs, Ledger, Options, RealDisk};
use record_index::Site;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

pub(crate) const DOMAIN: &str = "example.org";
pub(crate) const START: u64 = 1_700_000_000_000;

/// A folder as a server's or a gateway's, and the ledger that is open in it.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    ledger: Option<Ledger>,
    signer: Arc<dyn Signer>,
    origin: String,
    clock: u64,
}

impl World {
    pub(crate) fn new(name: &str) -> Self {
        let signer: Arc<dyn Signer> = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            ledger: None,
            signer,
            origin: format!("{DOMAIN}/{name}"),
            clock: START,
        };
        world.open();
        let begin = Begin {
            trust_domain: DOMAIN.to_owned(),
            ledger_key: Base64(world.signer.public_key().spki_der().to_vec()),
            format: "v1".to_owned(),
        };
        world.put(begin.record().actor("test", "self"));
        world
    }

    fn open(&mut self) {
        let options = Options {
            reserve_bytes: 0,
            segment_bytes: 16 << 10,
            ..Options::default()
        };
        let dir = self.folder.path().join("ledger");
        let ledger = Ledger::open(&dir, Arc::clone(&self.signer), &self.origin, &options);
        self.ledger = Some(ledger.unwrap());
    }

    pub(crate) fn close(&mut self) {
        self.ledger = None;
    }

    pub(crate) fn reopen(&mut self) {
        self.close();
        self.open();
    }

    /// For who has stolen the ledger's key.
    pub(crate) fn signer(&self) -> LedgerSigner {
        LedgerSigner::new(&self.origin, Arc::clone(&self.signer)).unwrap()
    }

    /// The same key, for another ledger.
    pub(crate) fn signer_of(&self, origin: &str) -> LedgerSigner {
        LedgerSigner::new(origin, Arc::clone(&self.signer)).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn site(&self) -> Site {
        Site::open(self.path(), None).unwrap()
    }

    /// The record is stamped a second after the one before.
    pub(crate) fn put(&mut self, record: RecordBuilder) -> u64 {
        let draft = self.draft(record);
        self.ledger
            .as_ref()
            .unwrap()
            .append(draft)
            .wait()
            .unwrap()
            .index()
    }

    /// With the stamp that the record has already.
    pub(crate) fn put_as_is(&self, record: RecordBuilder) -> u64 {
        let draft = record.draft().unwrap();
        self.ledger
            .as_ref()
            .unwrap()
            .append(draft)
            .wait()
            .unwrap()
            .index()
    }

    fn draft(&mut self, record: RecordBuilder) -> Draft {
        self.clock += 1_000;
        let stamp = Stamp {
            wall: self.clock,
            mono: self.clock * 1_000_000,
        };
        record.at(stamp).draft().unwrap()
    }

    /// As [`World::put`], all in one commit.
    pub(crate) fn put_all(&mut self, records: Vec<RecordBuilder>) {
        let drafts = records
            .into_iter()
            .map(|record| self.draft(record))
            .collect();
        self.ledger
            .as_ref()
            .unwrap()
            .append_many(drafts)
            .wait()
            .unwrap();
    }
}

/// The example estate, for this trust domain.
pub(crate) fn shop_files() -> EstateFiles {
    fn read(folder: &Path, prefix: &str, files: &mut EstateFiles) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            if entry.file_type().unwrap().is_dir() {
                read(&entry.path(), &format!("{name}/"), files);
            } else {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                files.insert(name, text.replace("demo.trilith", DOMAIN));
            }
        }
    }
    let mut files = EstateFiles::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/estate-shop"),
        "",
        &mut files,
    );
    files
}

/// The files without the policy of this id.
pub(crate) fn without(files: &EstateFiles, id: &str) -> EstateFiles {
    let mut files = files.clone();
    let text = &files.0["policies/shop.cedar"];
    let (before, of_it) = text.split_once(&format!("@id(\"{id}\")")).unwrap();
    let (_, behind) = of_it.split_once(";\n").unwrap();
    let smaller = format!("{before}{behind}");
    files.insert("policies/shop.cedar", smaller);
    files
}

impl World {
    /// A version becomes current.
    pub(crate) fn apply(&mut self, files: &EstateFiles, author: &str) -> u64 {
        let blobs = Blobs::open(&self.path().join("blobs"), 64 << 20, Arc::new(RealDisk)).unwrap();
        let blob = blobs.put(&files.to_blob()).unwrap();
        let body = EstateVersion {
            version: blob.sha256,
            blob,
            parent: None,
            author: author.to_owned(),
            message: "a change".to_owned(),
            proof_index: None,
            floor: Decimal(0),
        };
        self.put(body.record().actor(author, "peercred"))
    }
}

pub(crate) fn id(path: &str) -> String {
    format!("spiffe://{DOMAIN}/{path}")
}

pub(crate) fn table(path: &str) -> String {
    format!("Table::\"{path}\"")
}

pub(crate) fn issuance(path: &str, node: &str, code: &str) -> RecordBuilder {
    issuance_of(path, node, code, "tpm")
}

/// On a machine that joined so.
pub(crate) fn issuance_of(path: &str, node: &str, code: &str, join: &str) -> RecordBuilder {
    let facts = [("code.sha256", code), ("machine.join", join)];
    let facts = facts.map(|(name, value)| (name.to_owned(), FactValue::Text(value.to_owned())));
    let body = Issuance {
        kind: SvidKind::X509,
        spiffe_id: id(path),
        serial: format!("{:032x}", node.len()),
        tbs: Digest([1; 32]),
        issuer: Digest([2; 32]),
        key: Digest([3; 32]),
        not_before: START / 1_000,
        not_after: START / 1_000 + 3_600,
        node: node.to_owned(),
        verdict: Decimal(0),
        evidence_time: START,
        policies: vec!["may be it".to_owned()],
        commit: Commitment::new(&Salt([7; 16]), "facts", b"kept by nobody"),
        facts: BTreeMap::from(facts),
        replaces: None,
        ar4si: None,
    };
    body.record()
        .actor("spiffe://example.org/trilith/server", "self")
}

pub(crate) fn session(session: &str, path: &str, issuance: Option<u64>) -> RecordBuilder {
    let body = SessionStart {
        session: session.to_owned(),
        spiffe_id: id(path),
        serial: "01".to_owned(),
        issuance: issuance.map(Decimal),
        resource: "postgres:shop".to_owned(),
        role: "r".to_owned(),
        application: String::new(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    // What acts is checked when a record is made; what a body says is its writer's word.
    let actor = if path.contains('\n') {
        "gateway".to_owned()
    } else {
        id(path)
    };
    body.record().actor(&actor, "x509:01")
}

pub(crate) fn ended(session: &str) -> RecordBuilder {
    let body = SessionEnd {
        session: session.to_owned(),
        reason: "closed".to_owned(),
        detail: String::new(),
        operations: Decimal(1),
    };
    body.record().actor("gateway", "self")
}

fn on(action: &str, tables: &[&str], cut: bool) -> Vec<ActionOn> {
    vec![ActionOn {
        action: action.to_owned(),
        resources: tables.iter().map(|path| table(path)).collect(),
        more: cut.then_some(More {
            count: Decimal(9),
            sha256: HexDigest([0; 32]),
        }),
        columns: Vec::new(),
    }]
}

/// `who` acts as the actor of the record; the session says whose it is.
pub(crate) fn intent(
    session: &str,
    who: &str,
    action: &str,
    tables: &[&str],
    cut: bool,
) -> RecordBuilder {
    let body = Intent {
        session: session.to_owned(),
        statement: "s".to_owned(),
        actions: on(action, tables, cut),
        decision: format!("{session}.1"),
        policies: vec![format!("{action} is fine")],
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    body.record().actor(&id(who), "x509:01")
}

/// As [`intent`], with the columns of the one table, as records name them.
pub(crate) fn intent_to(
    session: &str,
    who: &str,
    action: &str,
    path: &str,
    columns: &[&str],
) -> RecordBuilder {
    let named = columns.iter().map(|name| match *name {
        "*" if path.is_empty() => "Column::\"*\"".to_owned(),
        name => format!("Column::\"{path}/{name}\""),
    });
    let mut actions = on(action, &[path], false);
    actions[0].columns = named.collect();
    let body = Intent {
        session: session.to_owned(),
        statement: "s".to_owned(),
        actions,
        decision: format!("{session}.1"),
        policies: vec![format!("{action} is fine")],
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    body.record().actor(&id(who), "x509:01")
}

/// On whose behalf an access was made, as a session told or as it was proven, by path.
pub(crate) enum For<'a> {
    Told(&'a [&'a str]),
    Proven(&'a [&'a str]),
    /// With the issuance of the SVID by which each let the next one act.
    By(&'a [(&'a str, Option<u64>)]),
}

impl For<'_> {
    fn lists(&self) -> (Vec<String>, Vec<OnBehalfOf>) {
        match self {
            Self::Told(others) => (others.iter().map(|path| id(path)).collect(), Vec::new()),
            Self::Proven(others) => {
                let proven = others.iter().map(|path| OnBehalfOf {
                    spiffe_id: id(path),
                    jti: format!("jti-{path}"),
                    issuance: None,
                });
                (Vec::new(), proven.collect())
            }
            Self::By(others) => {
                let proven = others.iter().map(|(path, issuance)| OnBehalfOf {
                    spiffe_id: id(path),
                    jti: format!("jti-{path}"),
                    issuance: issuance.map(Decimal),
                });
                (Vec::new(), proven.collect())
            }
        }
    }
}

/// A session of the gateway that acts for others, what it did and what it was denied.
pub(crate) fn acting(
    gateway: &mut World,
    name: &str,
    (who, issuance): (&str, u64),
    whom: &For<'_>,
    allowed: &[(&str, &str)],
    refused: &[(&str, &str)],
) {
    let (claimed, proven) = whom.lists();
    let start = SessionStart {
        session: name.to_owned(),
        spiffe_id: id(who),
        serial: "01".to_owned(),
        issuance: Some(Decimal(issuance)),
        resource: "postgres:shop".to_owned(),
        role: "r".to_owned(),
        application: String::new(),
        claimed_on_behalf_of: claimed.clone(),
        on_behalf_of: proven.clone(),
    };
    gateway.put(start.record().actor(&id(who), "x509:01"));
    for (number, (action, path)) in allowed.iter().enumerate() {
        let body = Intent {
            session: name.to_owned(),
            statement: "s".to_owned(),
            actions: on(action, &[path], false),
            decision: format!("{name}.{number}"),
            policies: Vec::new(),
            coverage: Coverage::Complete,
            more_policies: None,
            claimed_on_behalf_of: claimed.clone(),
            on_behalf_of: proven.clone(),
        };
        let index = gateway.put(body.record().actor(&id(who), "x509:01"));
        gateway.put(outcome(index, "ok"));
    }
    for (number, (action, path)) in refused.iter().enumerate() {
        let body = Decision {
            session: name.to_owned(),
            statement: "s".to_owned(),
            actions: on(action, &[path], false),
            decision: format!("{name}.d{number}"),
            allow: false,
            policies: Vec::new(),
            findings: Vec::new(),
            coverage: Coverage::Complete,
            more_policies: None,
            about: None,
            claimed_on_behalf_of: claimed.clone(),
            on_behalf_of: proven.clone(),
        };
        gateway.put(body.record().actor(&id(who), "x509:01"));
    }
    gateway.put(ended(name));
}

pub(crate) fn denied(session: &str, who: &str, action: &str, tables: &[&str]) -> RecordBuilder {
    let body = Decision {
        session: session.to_owned(),
        statement: "s".to_owned(),
        actions: on(action, tables, false),
        decision: format!("{session}.2"),
        allow: false,
        policies: Vec::new(),
        findings: Vec::new(),
        coverage: Coverage::Complete,
        more_policies: None,
        about: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    body.record().actor(&id(who), "x509:01")
}

pub(crate) fn outcome(intent: u64, result: &str) -> RecordBuilder {
    let body = Outcome {
        intent: Decimal(intent),
        result: result.to_owned(),
        sqlstate: None,
        rows: None,
        tag: None,
        transaction: None,
    };
    body.record().actor("gateway", "self")
}
