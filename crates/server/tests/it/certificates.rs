//! The certificate of a session in its pack, and a record with the session that it belongs to. The second verifier
//! says the same of each pack.

mod copied;
mod kept;

use crate::harness::{Fixture, PROGRAM, estate, program};
use crate::packs::{Recording, pack};
use ledger::body::{Body as _, Coverage, Intent, Outcome, SessionStart};
use ledger::pack::{Failure, Report, Trust, verify, verify_with, with_certificates};
use ledger::{Decimal, EstateRef, RecordType};
use recheck::{Rechecked, What};
use serde_json::{Value, json};
use spiffe_core::recorded::Certificates;
use std::path::{Path, PathBuf};
use std::process::Command;

const API: &str = "spiffe://example.org/payments/api";

struct Session {
    fixture: Fixture,
    trust: Trust,
    /// Of the workload, the leaf first.
    chain: Vec<Vec<u8>>,
    /// Place of its issuance.
    issuance: u64,
}

impl Session {
    /// A session with one access and its outcome: records 0, 1 and 2 of the gateway.
    async fn start() -> Self {
        Self::set(false).await
    }

    /// As [`Session::start`], behind the record that a gateway's ledger begins with.
    async fn begun() -> Self {
        Self::set(true).await
    }

    async fn set(begun: bool) -> Self {
        let fixture = Fixture::bare().await;
        let mut files = estate();
        files.insert(
            "resources/shop.toml",
            "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
             [[database.schema.table]]\nname = \"cards\"\n",
        );
        files.insert(
            "policies/cards.cedar",
            "@id(\"payments reads cards\")\n\
             permit (principal == Identity::\"payments/api\", action == Action::\"select\", \
             resource == Table::\"shop/public/cards\")\n\
             when { context.workload has uid && context.workload.uid == 1000 };\n",
        );
        fixture.apply(&files).await.unwrap();
        let machine = fixture.join("m1").await;
        let mut sync = machine.sync().await.unwrap();
        let asked = sync.ask("w1", &program(1000, PROGRAM), Vec::new()).await;
        let chain = asked.unwrap().1[0].svid.certificate_chain.clone();
        let (issuance, issued) = fixture.records(&["issuance"]).await.pop().unwrap();
        let (version, estate) = fixture.records(&["estate-version"]).await.pop().unwrap();
        let estate = EstateRef {
            version: estate["body"]["version"].as_str().unwrap().parse().unwrap(),
            index: version,
        };
        let mut recording = Recording::start(&fixture).await;
        if begun {
            recording.begin();
        }
        let start = session_start(API, "shop", (issuance, &issued));
        let intent = intent("shop/public/cards", "payments reads cards");
        recording.append(API, start.record());
        let seq = recording.append(API, intent.record().estate(estate));
        let outcome = Outcome {
            intent: Decimal(seq),
            result: "ok".to_owned(),
            sqlstate: None,
            rows: Some(Decimal(1)),
            tag: None,
            transaction: None,
        };
        recording.append(API, outcome.record());
        recording.anchor().await;
        let bundle = machine.joined.bundle.clone().unwrap();
        let domain = spiffe_core::TrustDomain::new("example.org").unwrap();
        let bundle = spiffe_core::Bundle::from_jwks(domain, &bundle.jwks).unwrap();
        let roots = bundle.x509_authorities().iter();
        let trust = Trust {
            trust_domain: "example.org".to_owned(),
            ledger_key: fixture.ledger_key().await,
            x509_authorities: roots.map(|root| root.der().to_vec()).collect(),
            policy: None,
        };
        Self {
            fixture,
            trust,
            chain,
            issuance,
        }
    }

    async fn pack(&self, index: u64) -> Vec<u8> {
        let question = json!({"kind": "record", "ledger": "pg", "index": index});
        pack(&self.fixture, &question.to_string()).await
    }

    /// What both verifiers say.
    fn judged(&self, pack: &[u8]) -> Result<Report, Failure> {
        let verdict = verify_with(pack, &self.trust, &Certificates);
        let Some(python) = testkit::venv_python(&["cryptography"]) else {
            testkit::skip(
                "server.python-certificates",
                "no Python with cryptography in target/venv; run cargo xtask test",
            );
            return verdict;
        };
        let told = by_python(&python, pack, &self.trust);
        match &verdict {
            Ok(report) => {
                let held = report.certificates.iter();
                let held: Vec<Value> = held
                    .map(|(sha256, at)| json!({"sha256": sha256, "issuance": at}))
                    .collect();
                assert_eq!(told["verified"], true, "{told:#}");
                assert_eq!(told["certificates"], json!(held));
                let answers = report.records.iter().filter(|item| item.answers).count();
                assert_eq!(told["answers"], answers);
                assert_eq!(told["complete"], report.is_complete());
            }
            Err(failure) => {
                assert_eq!(told["code"], failure.code, "{told:#} {failure}");
                assert_eq!(told["where"], failure.section, "{told:#} {failure}");
            }
        }
        verdict
    }
}

fn by_python(python: &Path, pack: &[u8], trust: &Trust) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../verifiers/python/trilith_verify.py");
    let output = Command::new(python)
        .arg(script)
        .arg(file("a.pack", pack))
        .arg("--trust")
        .arg(file("trust.json", &serde_json::to_vec(trust).unwrap()))
        .arg("--json")
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_brings_its_session_so_that_it_is_decided_again() {
    use RecordType::{Intent, Outcome, SessionStart};
    let session = Session::start().await;
    for (index, of_gateway) in [
        (0, vec![SessionStart]),
        (1, vec![SessionStart, Intent]),
        (2, vec![SessionStart, Intent, Outcome]),
    ] {
        let report = session.judged(&session.pack(index).await).unwrap();
        assert!(report.is_complete(), "{:?}", report.doubts);
        let held = report.records.iter().filter(|item| item.checkpoint == 1);
        let kinds: Vec<RecordType> = held.map(|item| item.record.kind()).collect();
        assert_eq!(kinds, of_gateway);
        let rechecked = recheck::pack(&report, &session.trust);
        let Rechecked(items) = &rechecked;
        let decisions = items.iter().filter(|item| item.what == What::Decision);
        assert_eq!(decisions.count(), usize::from(index > 0));
        // The machine joined by a token, which proves nothing.
        let left: Vec<_> = rechecked.not_recomputable().collect();
        assert!(
            left.iter().all(|(item, _)| item.what == What::Verdict),
            "{left:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_a_session_is_that_of_its_issuance() {
    let session = Session::start().await;
    let plain = session.pack(1).await;
    assert!(session.chain.len() > 1, "an authority stands between");
    let whole = with_certificates(&plain, &session.chain).unwrap();
    let report = session.judged(&whole).unwrap();
    let issuances: Vec<u64> = report.certificates.values().copied().collect();
    assert_eq!(issuances, [session.issuance]);
    // Whoever cannot read certificates refuses them.
    assert_eq!(
        verify(&whole, &session.trust).unwrap_err().code,
        "PACK-CERTIFICATE"
    );

    let other = Session::start().await;
    let with_root = [
        session.chain.clone(),
        session.trust.x509_authorities.clone(),
    ]
    .concat();
    let mut unsigned = session.chain.clone();
    *unsigned[0].last_mut().unwrap() ^= 1;
    let mut changed = session.chain.clone();
    let middle = changed[0].len() / 3;
    changed[0][middle] ^= 1;
    // id-ecPublicKey (RFC 5480): with one bit more it is no kind of key that anybody knows.
    let mut unknown = session.chain.clone();
    let kind = [0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    let at = unknown[1].windows(kind.len()).position(|one| one == kind);
    unknown[1][at.unwrap() + kind.len() - 1] ^= 0x40;
    for (what, certificates) in [
        ("the leaf alone", session.chain[..1].to_vec()),
        ("the authority alone", session.chain[1..].to_vec()),
        ("of another domain's key", other.chain.clone()),
        (
            "both",
            [session.chain.clone(), other.chain.clone()].concat(),
        ),
        ("a root beside them", with_root),
        ("unsigned", unsigned),
        ("changed", changed),
        ("of an authority with an unknown kind of key", unknown),
        ("nothing", vec![b"x".to_vec()]),
    ] {
        let made = with_certificates(&plain, &certificates).unwrap();
        let failure = session.judged(&made).unwrap_err();
        assert_eq!(failure.code, "PACK-CERTIFICATE", "{what}: {failure}");
    }
    // Whoever trusts another root, or none.
    let mut reader = session;
    for roots in [other.trust.x509_authorities, Vec::new()] {
        reader.trust.x509_authorities = roots;
        let failure = reader.judged(&whole).unwrap_err();
        assert_eq!(failure.code, "PACK-CERTIFICATE");
    }
}

/// The session `s1` to a database, with the certificate of this issuance.
pub(crate) fn session_start(
    spiffe_id: &str,
    database: &str,
    (issuance, issued): (u64, &serde_json::Value),
) -> SessionStart {
    SessionStart {
        session: "s1".to_owned(),
        spiffe_id: spiffe_id.to_owned(),
        serial: issued["body"]["serial"].as_str().unwrap().to_owned(),
        issuance: Some(Decimal(issuance)),
        resource: format!("postgres:{database}"),
        role: "r".to_owned(),
        application: "psql".to_owned(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    }
}

/// Its first statement: it reads a table, since this policy allows it.
pub(crate) fn intent(table: &str, policy: &str) -> Intent {
    Intent {
        session: "s1".to_owned(),
        statement: "f".to_owned(),
        actions: serde_json::from_value(json!([
            {"action": "select", "resources": [format!("Table::\"{table}\"")]}
        ]))
        .unwrap(),
        decision: "s1.1".to_owned(),
        policies: vec![policy.to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    }
}
