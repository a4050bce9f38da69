//! A verified pack in memory: a server's ledger with an estate, a machine's verdict and an issuance, and a gateway's.

use estate::{Approval, ApprovalSubject, EstateFiles};
use facts::{FactSet, Source, Timestamp, Value, names};
use ledger::body::{
    self, ActionOn, AuthorSignature, BlobRef, Body, Coverage, Decision, EstateVersion, Intent,
    Issuance, SessionStart, SvidKind, Verdict, VerdictOutcome,
};
use ledger::pack::{Dated, PackRecord, Question, Report, Trust};
use ledger::{
    Base64, Commitment, Decimal, Digest, EstateRef, HexDigest, LedgerKey, LedgerSigner, Origin,
    RecordBuilder, Salt, Stamp,
};
use recheck::{Item, Outcome, Rechecked, What};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const API: &str = "spiffe://example.org/payments/api";
pub(crate) const CARDS: &str = "Table::\"shop/public/cards\"";
pub(crate) const SALARIES: &str = "Table::\"shop/public/salaries\"";
pub(crate) const READS: &str = "payments reads cards";
pub(crate) const NEVER: &str = "nobody deletes";

const AUTHORS: [&str; 2] = ["ada", "bob"];
const HOUR_MS: u64 = 3_600_000;
pub(crate) const AT: u64 = 1_795_312_969_123;
const ESTATE: u64 = 0;
const VERDICT: u64 = 1;
pub(crate) const ISSUANCE: u64 = 2;
/// The first of what the server recorded later.
pub(crate) const LATER: u64 = 3;

pub(crate) fn estate() -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"example.org\"\n[[administrator]]\nuid = 0\n",
    );
    files.insert(
        "identities/all.toml",
        "[[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"payments\"\n\
         visible = [\"workload.uid\"]\n\
         [[identity]]\npath = \"people/ada\"\nkind = \"service\"\nowner = \"ada\"\n\
         visible = [\"workload.uid\"]\n",
    );
    files.insert(
        "resources/shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"cards\"\n[[database.schema.table]]\nname = \"salaries\"\n",
    );
    files.insert("references/all.toml", "[[pool]]\nname = \"demo\"\n");
    files.insert(
        "policies/all.cedar",
        format!(
            "@id(\"payments is uid 1000\")\n\
             permit (principal in Pool::\"demo\", action == Action::\"assume\", \
             resource == Identity::\"payments/api\")\n\
             when {{ principal has uid && principal.uid == 1000 }};\n\
             @id(\"{READS}\")\n\
             permit (principal == Identity::\"payments/api\", action == Action::\"select\", \
             resource == {CARDS})\n\
             when {{ context.workload has uid && context.workload.uid == 1000 }};\n\
             @id(\"payments writes cards\")\n\
             permit (principal == Identity::\"payments/api\", action == Action::\"insert\", \
             resource == {CARDS});\n\
             @id(\"{NEVER}\")\n\
             forbid (principal, action == Action::\"delete\", resource);\n"
        ),
    );
    files
}

/// The same with two authors, who have these keys.
pub(crate) fn authored() -> (EstateFiles, [crypto::KeyPair; 2]) {
    let keys = [0, 1].map(|_| crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap());
    let mut files = estate();
    let mut text = files.0["estate.toml"].clone();
    for (name, key) in AUTHORS.iter().zip(&keys) {
        let spki = crypto::Signer::public_key(key).spki_der().to_vec();
        let spki = crypto::base64::encode(&spki);
        text += &format!(
            "[[author]]\nname = \"{name}\"\nkey = \"\"\"\n-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n\"\"\"\n"
        );
    }
    files.insert("estate.toml", text);
    (files, keys)
}

/// What these have signed under `subject`, good for an hour.
pub(crate) fn signed_by(
    who: &[usize],
    keys: &[crypto::KeyPair; 2],
    subject: &ApprovalSubject,
) -> Vec<AuthorSignature> {
    let expires = AT + HOUR_MS;
    let signatures = who.iter().map(|who| {
        let (name, key) = (AUTHORS[*who], &keys[*who]);
        let approval = Approval::sign(subject.clone(), name, expires, key).unwrap();
        AuthorSignature {
            author: name.to_owned(),
            key: Base64(crypto::Signer::public_key(key).spki_der().to_vec()),
            expires,
            signature: approval.signature.parse().unwrap(),
        }
    });
    signatures.collect()
}

/// What is told of the workload and its machine.
pub(crate) fn facts(uid: u32) -> FactSet {
    let mut facts = machine();
    let at = Timestamp::from_millis(AT);
    facts.state(names::WORKLOAD_UID, uid, Source::Asserted, at);
    facts
}

pub(crate) fn machine() -> FactSet {
    let (mut facts, at) = (FactSet::new(), Timestamp::from_millis(AT));
    for (name, value) in [
        (names::MACHINE_JOIN, "token"),
        (names::MACHINE_NAME, "m1"),
        (names::MACHINE_POOL, "demo"),
        (names::MACHINE_KEY, "memory"),
    ] {
        facts.state(name, value, Source::Verified, at);
    }
    facts
}

pub(crate) fn verdict(facts: &FactSet) -> (Verdict, Vec<u8>) {
    let blob = serde_json::to_vec(facts).unwrap();
    let verdict = Verdict {
        node: "spiffe://example.org/trilith/node/m1".to_owned(),
        outcome: VerdictOutcome::Affirmed,
        facts_blob: Some(BlobRef::of(&blob)),
        evidence: Vec::new(),
        facts: facts
            .iter()
            .map(|fact| body::FactItem {
                name: fact.name.clone(),
                value: shown(&fact.value),
                source: fact.source.to_string(),
            })
            .collect(),
        findings: Vec::new(),
        ar4si: None,
    };
    (verdict, blob)
}

fn shown(value: &Value) -> body::FactValue {
    match value {
        Value::Bool(value) => body::FactValue::Bool(*value),
        Value::Integer(value) => body::FactValue::Integer(*value),
        Value::Text(value) => body::FactValue::Text(value.clone()),
        Value::List(values) => body::FactValue::List(values.clone()),
    }
}

/// As the server writes the facts that it decided on.
pub(crate) fn opening(facts: &FactSet) -> Vec<u8> {
    let mut lines = Vec::new();
    for fact in facts.iter() {
        let line = (&fact.name, &fact.source, &fact.value);
        lines.extend(serde_json::to_vec(&line).unwrap());
        lines.push(b'\n');
    }
    Commitment::opening(&Salt([7; 16]), "facts", &lines)
}

pub(crate) fn issuance(opening: &[u8]) -> Issuance {
    Issuance {
        kind: SvidKind::X509,
        spiffe_id: API.to_owned(),
        serial: "a1".to_owned(),
        tbs: Digest::of(b"tbs"),
        issuer: Digest::of(b"issuer"),
        key: Digest::of(b"key"),
        not_before: 1_795_312_909,
        not_after: 1_795_316_569,
        node: "m1".to_owned(),
        verdict: Decimal(VERDICT),
        evidence_time: AT,
        policies: vec!["payments is uid 1000".to_owned()],
        commit: Commitment(Digest(crypto::sha256(opening))),
        facts: BTreeMap::from([("workload.uid".to_owned(), body::FactValue::Integer(1000))]),
        replaces: None,
        ar4si: None,
    }
}

pub(crate) fn intent(action: &str, resource: &str, policies: &[&str]) -> Intent {
    Intent {
        session: "s1".to_owned(),
        statement: "f".to_owned(),
        actions: vec![on(action, &[resource])],
        decision: "s1.1".to_owned(),
        policies: policies.iter().map(|&id| id.to_owned()).collect(),
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    }
}

pub(crate) fn on(action: &str, resources: &[&str]) -> ActionOn {
    ActionOn {
        action: action.to_owned(),
        resources: resources.iter().map(|&one| one.to_owned()).collect(),
        more: None,
        columns: Vec::new(),
    }
}

pub(crate) fn denial(action: &str, resource: &str, policies: &[&str], finding: &str) -> Decision {
    let intent = intent(action, resource, policies);
    Decision {
        session: intent.session,
        statement: intent.statement,
        actions: intent.actions,
        decision: intent.decision,
        allow: false,
        policies: intent.policies,
        findings: vec![finding.to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        about: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    }
}

pub(crate) struct World {
    pub(crate) verdict: Verdict,
    pub(crate) issuance: Issuance,
    pub(crate) start: SessionStart,
    pub(crate) estate: EstateFiles,
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) erased: Vec<ledger::pack::Erased>,
    pub(crate) floor: u64,
    /// Index of the record of the estate that the issuance names.
    pub(crate) issued_under: u64,
    /// What the server recorded after the issuance, and how many milliseconds after the last of it.
    pub(crate) later: Vec<fn(&Self) -> RecordBuilder>,
    pub(crate) late: u64,
    /// Of this one the pack has the entry alone.
    pub(crate) entry_alone: Option<u64>,
    /// What came later names no version of the estate.
    pub(crate) unnamed: bool,
    pub(crate) signer: LedgerSigner,
    /// Of the trust file; that of `signer`, or one before it.
    pub(crate) trusted: LedgerKey,
}

impl World {
    pub(crate) fn new() -> Self {
        estate::Estate::compile(&estate()).unwrap();
        let (verdict, facts_blob) = verdict(&machine());
        let opening = opening(&facts(1000));
        let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        let signer = LedgerSigner::new("example.org/server", Arc::new(key)).unwrap();
        Self {
            verdict,
            issuance: issuance(&opening),
            start: SessionStart {
                session: "s1".to_owned(),
                spiffe_id: API.to_owned(),
                serial: "a1".to_owned(),
                issuance: Some(Decimal(ISSUANCE)),
                resource: "postgres:shop".to_owned(),
                role: "r".to_owned(),
                application: "psql".to_owned(),
                claimed_on_behalf_of: Vec::new(),
                on_behalf_of: Vec::new(),
            },
            estate: estate(),
            blobs: vec![facts_blob, opening],
            erased: Vec::new(),
            floor: 0,
            issued_under: ESTATE,
            later: Vec::new(),
            late: 0,
            entry_alone: None,
            unnamed: false,
            trusted: signer.key().clone(),
            signer,
        }
    }

    pub(crate) fn reference(&self) -> EstateRef {
        EstateRef {
            version: HexDigest::of(&self.estate.to_blob()),
            index: ESTATE,
        }
    }

    pub(crate) fn version(&self) -> EstateVersion {
        let blob = self.estate.to_blob();
        EstateVersion {
            version: HexDigest::of(&blob),
            blob: BlobRef::of(&blob),
            parent: None,
            author: "ada".to_owned(),
            message: String::new(),
            proof_index: None,
            floor: Decimal(self.floor),
        }
    }

    /// What is told of everything in a pack with these records of the gateway, the first of which is record 1.
    pub(crate) fn recheck(&self, of_gateway: Vec<RecordBuilder>) -> Rechecked {
        let blob = self.estate.to_blob();
        let estate = self.reference();
        let issued_under = EstateRef {
            index: self.issued_under,
            ..estate
        };
        let server = vec![
            self.version().record(),
            self.verdict.record().estate(estate),
            self.issuance.record().estate(issued_under),
        ];
        let later = self.later.iter().map(|make| match self.unnamed {
            true => make(self),
            false => make(self).estate(estate),
        });
        let mut gateway = vec![self.start.record()];
        gateway.extend(of_gateway.into_iter().map(|record| record.estate(estate)));
        let mut records = sealed(0, "example.org/server", (0, AT), server);
        let mut later: Vec<RecordBuilder> = later.collect();
        let last = later.pop();
        for (index, wall, more) in [
            (LATER, AT, later),
            (
                LATER + (self.later.len() as u64).saturating_sub(1),
                AT + self.late,
                last.into_iter().collect(),
            ),
        ] {
            records.extend(sealed(0, "example.org/server", (index, wall), more));
        }
        let dated = records.iter().map(|item| Dated {
            index: item.index,
            kind: item.record.kind(),
            wall: item.record.stamp().wall,
        });
        let dated = dated.collect();
        records.retain(|item| Some(item.index) != self.entry_alone);
        records.extend(sealed(1, "example.org/gateway/pg", (0, AT), gateway));
        let blobs = self.blobs.iter().chain([&blob]);
        let blobs = blobs.map(|blob| (HexDigest::of(blob).to_string(), blob.clone()));
        let report = Report {
            question: Question::Access {
                identity: API.to_owned(),
                resource: None,
                newest: None,
            },
            ledger_key: self.signer.key().clone(),
            checkpoints: Vec::new(),
            records,
            blobs: blobs.collect(),
            certificates: BTreeMap::new(),
            whole: Vec::new(),
            extents: Vec::new(),
            quorum: None,
            doubts: Vec::new(),
            erased: self.erased.clone(),
            dated,
        };
        let trust = Trust {
            trust_domain: "example.org".to_owned(),
            ledger_key: self.trusted.clone(),
            x509_authorities: Vec::new(),
            policy: None,
        };
        recheck::pack(&report, &trust)
    }

    /// What is told of one record of the gateway.
    pub(crate) fn of(&self, record: RecordBuilder) -> Outcome {
        let Rechecked(items) = self.recheck(vec![record]);
        let item = items.into_iter().find(|item| item.what == What::Decision);
        item.unwrap().outcome
    }

    pub(crate) fn item(&self, what: What) -> Item {
        let Rechecked(items) = self.recheck(Vec::new());
        items.into_iter().find(|item| item.what == what).unwrap()
    }
}

fn sealed(
    checkpoint: u64,
    origin: &str,
    (first, wall): (u64, u64),
    records: Vec<RecordBuilder>,
) -> Vec<PackRecord> {
    let origin = Origin::new(origin).unwrap();
    let stamp = Stamp { wall, mono: wall };
    let records = (first..).zip(records);
    records
        .map(|(index, record)| PackRecord {
            checkpoint,
            index,
            record: record
                .actor(API, "x509:a1")
                .seal(&origin, index, stamp)
                .unwrap(),
            answers: true,
        })
        .collect()
}

/// What is different.
pub(crate) fn differs(outcome: Outcome) -> String {
    match outcome {
        Outcome::Differs(why) => why,
        other => panic!("{other:?}"),
    }
}

/// What lacks.
pub(crate) fn lacks(outcome: Outcome) -> String {
    match outcome {
        Outcome::NotRecomputable(why) => why,
        other => panic!("{other:?}"),
    }
}
