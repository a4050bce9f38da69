//! Erasing: the bytes are nowhere, and every proof is what it was.

mod racing;

use crate::approving::{Authors, HOUR_MS, now};
use crate::attesting::{SLOW, connect};
use crate::harness::{
    Fixture, PATIENCE, PROGRAM, all_seen, config, config_text, estate, estate_of_two, finding,
    program,
};
use crate::kernel::{Kernel, question};
use crate::packs::{pack, trust, verified};
use crate::surviving::{copy, spawn};
use estate::{ApprovalSubject, EstateFiles};
use proto::v1;
use proto::v1::node_message::Message;
use recheck::{Outcome, Rechecked, What};
use serde_json::Value;
use std::path::Path;
use tonic::Status;

/// Stands in no record: in versions of the estate alone.
const SUBJECT: &str = "auth0|ada.lovelace@example.org";
pub(crate) const ADA: &str = "people/ada";
const REASON: &str = "case 2026-117";

pub(crate) fn with_ada(mut files: EstateFiles) -> EstateFiles {
    files.insert(
        "identities/people.toml",
        format!(
            "[[identity]]\npath = \"{ADA}\"\nkind = \"person\"\nowner = \"people\"\n\
             login = {{ issuer = \"https://login.example.org\", subject = \"{SUBJECT}\" }}\n"
        ),
    );
    files
}

pub(crate) fn of(identity: &str, act: bool) -> v1::EraseRequest {
    v1::EraseRequest {
        identity: identity.to_owned(),
        reason: REASON.to_owned(),
        act,
        ..v1::EraseRequest::default()
    }
}

fn of_record(index: u64) -> v1::EraseRequest {
    v1::EraseRequest {
        records: vec![index],
        reason: REASON.to_owned(),
        act: true,
        ..v1::EraseRequest::default()
    }
}

pub(crate) async fn erase(fixture: &Fixture, request: v1::EraseRequest) -> Result<Value, Status> {
    let answer = fixture.admin().await.erase(request).await?;
    Ok(serde_json::from_str(&answer.into_inner().json).unwrap())
}

async fn refused(fixture: &Fixture, request: v1::EraseRequest) -> String {
    let refused = erase(fixture, request).await.unwrap_err();
    let finding = finding(&refused);
    assert!(finding.next.is_some(), "{finding}");
    finding.code.into_owned()
}

/// Files below `dir` that hold these bytes. A server that runs there takes files away and puts others in their place: what
/// is gone by the time that it is looked at holds nothing.
fn holding(dir: &Path, bytes: &[u8]) -> Vec<String> {
    fn there<T>(read: std::io::Result<T>) -> Option<T> {
        match read {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            read => Some(read.unwrap()),
        }
    }
    let mut found = Vec::new();
    for entry in there(std::fs::read_dir(dir)).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if path.is_file() {
            let content = there(std::fs::read(&path)).unwrap_or_default();
            if content.windows(bytes.len()).any(|window| window == bytes) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

/// Once, looking through the folder of a running server failed where a file of it was just replaced.
#[test]
fn looking_through_a_folder_bears_that_files_vanish() {
    let dir = tempfile::tempdir().unwrap();
    let (kept, passing) = (dir.path().join("kept"), dir.path().join("passing"));
    std::fs::write(&kept, SUBJECT).unwrap();
    let looking = std::thread::spawn({
        let dir = dir.path().to_owned();
        move || {
            (0..5_000)
                .map(|_| holding(&dir, SUBJECT.as_bytes()))
                .collect::<Vec<_>>()
        }
    });
    while !looking.is_finished() {
        std::fs::write(&passing, "x").unwrap();
        std::fs::remove_file(&passing).unwrap();
    }
    for found in looking.join().unwrap() {
        assert_eq!(found, [kept.display().to_string()]);
    }
}

fn blob(fixture: &Fixture, sha256: &str) -> std::path::PathBuf {
    let blobs = fixture.dir.path().join("data/blobs");
    blobs.join(sha256.split_at(2).0).join(sha256)
}

fn record(index: u64) -> String {
    format!("{{\"kind\":\"record\",\"ledger\":\"server\",\"index\":{index}}}")
}

pub(crate) fn kinds(document: &Value, of: &str) -> Vec<String> {
    let items = document[of].as_array().unwrap().iter();
    let mut kinds: Vec<String> = items
        .map(|item| item["kind"].as_str().unwrap().to_owned())
        .collect();
    kinds.sort();
    kinds
}

/// The commitment of the newest issuance of an identity: index, and digest of its opening.
async fn issued(fixture: &Fixture, path: &str) -> (u64, String) {
    let id = format!("spiffe://example.org/{path}");
    let records = fixture.records(&["issuance"]).await;
    let mut theirs = records
        .into_iter()
        .filter(|(_, record)| record["body"]["spiffe_id"] == id.as_str());
    let (index, record) = theirs.next_back().unwrap();
    let commit = record["body"]["commit"].as_str().unwrap();
    let digest = crypto::base64::decode(commit).unwrap();
    (index, crypto::hex::encode(&digest))
}

async fn revoke(fixture: &Fixture, path: &str) {
    let request = v1::RevokeRequest {
        kind: "identity".to_owned(),
        value: path.to_owned(),
        reason: "left".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_goes_and_every_proof_stays() {
    let mut fixture = Fixture::bare().await;
    fixture.apply(&with_ada(estate())).await.unwrap();
    fixture.join("m1").await;
    let data = fixture.dir.path().join("data");
    assert_eq!(refused(&fixture, of(ADA, true)).await, "ERASE-IN-FORCE");
    fixture.apply(&estate()).await.unwrap();
    let (old, _) = fixture.records(&["estate-version"]).await[0].clone();
    let before = verified(&fixture, &record(old)).await;
    assert!(before.is_complete() && before.erased.is_empty());
    assert_eq!(holding(&data, SUBJECT.as_bytes()).len(), 1);

    let plan = erase(&fixture, of(ADA, false)).await.unwrap();
    assert_eq!(kinds(&plan, "erased"), ["estate", "proof"], "{plan}");
    assert_eq!(
        (&plan["done"], &plan["in_clear"]),
        (&false.into(), &0.into())
    );
    assert!(fixture.records(&["erasure"]).await.is_empty());
    // However it is written, and whichever way the version is named.
    for who in [SUBJECT, "Ada.Lovelace@example.org"] {
        for request in [of(ADA, true), of_record(old)] {
            let telling = v1::EraseRequest {
                reason: format!("as {who} asked"),
                ..request
            };
            assert_eq!(refused(&fixture, telling).await, "ERASE-REASON", "{who}");
        }
    }
    let done = erase(&fixture, of(ADA, true)).await.unwrap();
    assert_eq!(done["removed"], 2, "{done}");
    assert_eq!(holding(&data, SUBJECT.as_bytes()), Vec::<String>::new());

    // The record names digests and the reason, and nobody.
    let erasures = fixture.records(&["erasure"]).await;
    assert_eq!(erasures.len(), 1);
    let (index, erasure) = &erasures[0];
    assert_eq!(done["index"], *index);
    assert_eq!(erasure["body"]["reason"], REASON);
    assert!(!erasure.to_string().contains("ada"), "{erasure}");

    let after = verified(&fixture, &record(old)).await;
    assert!(after.is_complete(), "{:?}", after.doubts);
    assert_eq!(after.erased.len(), 2);
    assert!(
        after
            .erased
            .iter()
            .all(|one| one.by_record == *index && one.reason == REASON)
    );
    for item in &before.records {
        assert!(
            after
                .records
                .iter()
                .any(|other| other.record == item.record)
        );
    }
    let export = v1::EstateExportRequest {
        version: before
            .records
            .iter()
            .find_map(|item| {
                let version = item
                    .record
                    .expect_body::<ledger::body::EstateVersion>()
                    .ok()?;
                Some(version.version.to_string())
            })
            .unwrap(),
    };
    let gone = fixture
        .admin()
        .await
        .estate_export(export)
        .await
        .unwrap_err();
    let told = finding(&gone);
    assert_eq!(told.code, "LEDGER-ERASED");
    let observed = told.observed.unwrap();
    assert!(
        observed.starts_with(&format!("erased by record {index} on 20")),
        "{observed}"
    );
    assert!(observed.ends_with(REASON), "{observed}");
    let planned = v1::EstateRequest {
        files: with_ada(estate()).to_blob(),
        ..all_seen()
    };
    let planned = fixture.admin().await.estate_plan(planned).await.unwrap();
    let planned: Value = serde_json::from_str(&planned.into_inner().json).unwrap();
    assert_eq!(planned["applicable"], false, "{planned}");
    assert_eq!(planned["finding"]["code"], "LEDGER-ERASED", "{planned}");
    // Byte for byte the same version does not come back; nor by a restored folder; nor in a rebuilt state.
    let again = fixture.apply(&with_ada(estate())).await.unwrap_err();
    assert_eq!(finding(&again).code, "LEDGER-ERASED");
    assert_eq!(holding(&data, SUBJECT.as_bytes()), Vec::<String>::new());
    assert_eq!(refused(&fixture, of(ADA, true)).await, "ERASE-NOTHING");
    fixture.stop().await;
    let blobs = with_ada(estate()).to_blob();
    let path = blob(&fixture, &ledger::HexDigest::of(&blobs).to_string());
    std::fs::write(&path, blobs).unwrap();
    let config = config(fixture.dir.path());
    let kept = server::state_digest(&config).unwrap();
    assert!(!path.exists());
    assert_eq!(server::rebuild_state(&config).unwrap(), kept);
    fixture.go_on().await;
    let gone = verified(&fixture, &record(old)).await;
    assert_eq!(gone.erased, after.erased);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_standing_svid_was_issued_on_stays_until_it_is_revoked() {
    let fixture = Fixture::bare().await;
    fixture.apply(&estate_of_two()).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    let (index, opening) = issued(&fixture, "payments/api").await;
    assert_eq!(issued(&fixture, "payments/job").await.1, opening, "shared");
    assert_eq!(
        refused(&fixture, of("payments/api", true)).await,
        "ERASE-LIVE"
    );
    revoke(&fixture, "payments/api").await;
    // The other identity stands, and on the same facts.
    assert_eq!(
        refused(&fixture, of("payments/api", true)).await,
        "ERASE-NEEDED"
    );
    assert_eq!(refused(&fixture, of_record(index)).await, "ERASE-NEEDED");
    let plan = erase(&fixture, of("payments/api", false)).await.unwrap();
    assert_eq!(kinds(&plan, "kept"), ["opening"], "{plan}");
    assert!(plan["in_clear"].as_u64().unwrap() >= 2, "{plan}");
    revoke(&fixture, "payments/job").await;
    let erased = std::fs::read(blob(&fixture, &opening)).unwrap();
    erase(&fixture, of("payments/api", true)).await.unwrap();
    assert!(!blob(&fixture, &opening).exists());
    // The machine's own is needed: it is admitted, and the estate is in force.
    let (verdict, _) = fixture.records(&["verdict"]).await[0].clone();
    let (version, _) = fixture.records(&["estate-version"]).await[0].clone();
    for index in [verdict, version] {
        assert_eq!(refused(&fixture, of_record(index)).await, "ERASE-NEEDED");
    }
    assert_eq!(refused(&fixture, of_record(0)).await, "ERASE-NOTHING");
    assert_eq!(refused(&fixture, of_record(9_999)).await, "ERASE-RECORD");

    // Issued on the same facts once more, it commits to them under another salt: what is gone stays gone.
    let request = v1::RestoreRequest {
        identity: "payments/api".to_owned(),
        reason: "back".to_owned(),
    };
    fixture.admin().await.restore(request).await.unwrap();
    let (answer, _) = sync
        .ask("w2", &program(1000, PROGRAM), Vec::new())
        .await
        .unwrap();
    assert_eq!(answer.svids.len(), 1, "{:?}", answer.refused);
    let (later, other) = issued(&fixture, "payments/api").await;
    assert!(later > index && other != opening);
    assert!(blob(&fixture, &other).exists() && !blob(&fixture, &opening).exists());
    let report = verified(&fixture, &record(index)).await;
    assert!(report.is_complete(), "{:?}", report.doubts);
    assert_eq!(report.erased.len(), 1);
    assert!(verified(&fixture, &record(later)).await.erased.is_empty());

    // A file that came after its erasure, or was put back, is shown to nobody.
    std::fs::write(blob(&fixture, &opening), &erased).unwrap();
    let kept = std::fs::read(blob(&fixture, &other)).unwrap();
    for (index, content, shown) in [(index, &erased, false), (later, &kept, true)] {
        let pack = pack(&fixture, &record(index)).await;
        let mut windows = pack.windows(content.len());
        assert_eq!(windows.any(|window| window == content), shown, "{index}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machines_evidence_goes_once_it_is_out_and_is_there_when_it_is_back() {
    let fixture = Fixture::start().await;
    fixture.join("m1").await;
    let (verdict, body) = fixture.records(&["verdict"]).await[0].clone();
    let facts = body["body"]["facts_blob"]["sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    let request = v1::RevokeRequest {
        kind: "machine".to_owned(),
        value: "m1".to_owned(),
        reason: "a laptop that was given back".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    erase(&fixture, of_record(verdict)).await.unwrap();
    assert!(!blob(&fixture, &facts).exists());
    let question = v1::VerdictRequest { index: verdict };
    let gone = fixture.admin().await.verdict(question).await.unwrap_err();
    assert_eq!(finding(&gone).code, "LEDGER-ERASED");
    fixture.readmit("m1").await;
    fixture.join("m1").await;
    let machine = fixture.records(&["verdict"]).await.pop().unwrap();
    let facts = machine.1["body"]["facts_blob"]["sha256"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(blob(&fixture, &facts).exists());
    assert!(verified(&fixture, &record(verdict)).await.is_complete());
    assert!(
        verified(&fixture, &record(machine.0))
            .await
            .erased
            .is_empty()
    );
}

/// Root of one machine sends what the server starts by in the place of a list: it is kept as evidence, which goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_starts_by_stays_though_a_machine_brought_it_as_evidence() {
    let Some(kernel) = Kernel::boot("server.erase-document") else {
        return;
    };
    let mut fixture = kernel.fixture(SLOW).await;
    let (_, bundle) = fixture.records(&["bundle"]).await.pop().unwrap();
    let document = bundle["body"]["blob"]["sha256"].as_str().unwrap();
    let document = blob(&fixture, document);
    let machine = kernel.join(&fixture).await.unwrap();
    let mut sync = connect(&machine).await;
    let asked = question(&mut sync).await;
    let mut answer = kernel.answer(&asked).await;
    answer.ima_list = std::fs::read(&document).unwrap();
    answer.pcr_values[10] = vec![0; 32];
    sync.send(Message::Attestation(answer)).await;
    crate::attesting::refused(&fixture, 1).await;
    let (verdict, _) = fixture.records(&["verdict"]).await.pop().unwrap();
    let request = v1::RevokeRequest {
        kind: "machine".to_owned(),
        value: "m1".to_owned(),
        reason: "it lied".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
    let request = v1::EraseRequest {
        act: false,
        ..of_record(verdict)
    };
    let plan = erase(&fixture, request).await.unwrap();
    assert_eq!(kinds(&plan, "kept"), ["evidence"], "{plan}");
    erase(&fixture, of_record(verdict)).await.unwrap();
    assert!(document.exists());
    fixture.restart().await;
    assert!(document.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_authors_sign_exactly_what_goes() {
    if testkit::tool("cvc5").is_none() {
        testkit::skip("server.approval", "cvc5 is not installed");
        return;
    }
    let fixture = Fixture::bare().await;
    let authors = Authors::new();
    fixture.apply(&with_ada(authors.estate())).await.unwrap();
    fixture.apply(&authors.estate()).await.unwrap();
    let plan = erase(&fixture, of(ADA, false)).await.unwrap();
    let subject: ApprovalSubject = serde_json::from_value(plan["subject"].clone()).unwrap();
    let [ada, bob] = authors.both(&subject);
    let with = |approvals: &[&estate::Approval]| v1::EraseRequest {
        approvals: approvals
            .iter()
            .map(|one| serde_json::to_vec(one).unwrap())
            .collect(),
        ..of(ADA, true)
    };
    assert_eq!(refused(&fixture, with(&[])).await, "ESTATE-APPROVAL-ALONE");
    assert_eq!(
        refused(&fixture, with(&[&ada, &ada])).await,
        "ESTATE-APPROVAL-ALONE"
    );
    let mut less = subject.clone();
    less.changes.pop();
    let other = authors.sign(1, &less, now() + HOUR_MS);
    assert_eq!(
        refused(&fixture, with(&[&ada, &other])).await,
        "ESTATE-APPROVAL-OTHER"
    );
    // The reason stays for good, and is signed.
    let otherwise = v1::EraseRequest {
        reason: "case 2026-118".to_owned(),
        ..with(&[&ada, &bob])
    };
    assert_eq!(refused(&fixture, otherwise).await, "ESTATE-APPROVAL-OTHER");
    assert!(fixture.records(&["erasure"]).await.is_empty());
    assert_eq!(
        holding(&fixture.dir.path().join("data"), SUBJECT.as_bytes()).len(),
        1
    );
    erase(&fixture, with(&[&ada, &bob])).await.unwrap();
    let (index, record) = fixture.records(&["erasure"]).await.pop().unwrap();
    assert_eq!(record["body"]["signatures"].as_array().unwrap().len(), 2);
    let signed = record["body"]["subject"]["sha256"].as_str().unwrap();
    assert_eq!(
        std::fs::read(blob(&fixture, signed)).unwrap(),
        subject.to_bytes().unwrap()
    );
    let report = verified(&fixture, &self::record(index)).await;
    assert!(report.is_complete());
    // Whoever verifies finds the two authors by the estate that the record names.
    let Rechecked(items) = recheck::pack(&report, &trust(&fixture).await);
    let erasure = items.iter().find(|item| item.what == What::Erasure);
    assert_eq!(erasure.unwrap().outcome, Outcome::Recomputed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_whom_no_policy_lets_erases_nothing() {
    let fixture = Fixture::bare().await;
    let mut files = estate();
    files.insert(
        "policies/no_erasure.cedar",
        "@id(\"nobody erases\")\nforbid (principal, action == Action::\"ledger-erase\", resource);\n",
    );
    fixture.apply(&with_ada(files.clone())).await.unwrap();
    fixture.apply(&files).await.unwrap();
    for act in [false, true] {
        let refused = erase(&fixture, of(ADA, act)).await.unwrap_err();
        assert_eq!(finding(&refused).code, "ADMIN-DENIED");
    }
    assert_eq!(
        holding(&fixture.dir.path().join("data"), SUBJECT.as_bytes()).len(),
        1
    );
}

/// Killed between the record and the removal, which is the one place where the two disagree; and before the record.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_the_record_erases_nothing_and_one_after_it_everything() {
    let mut fixture = Fixture::bare().await;
    fixture.apply(&with_ada(estate())).await.unwrap();
    fixture.apply(&estate()).await.unwrap();
    let data = fixture.dir.path().join("data");
    let blobs = fixture.dir.path().join("blobs");
    copy(&data.join("blobs"), &blobs);
    fixture.restart().await;
    assert_eq!(holding(&data, SUBJECT.as_bytes()).len(), 1);
    erase(&fixture, of(ADA, true)).await.unwrap();
    fixture.stop().await;
    std::fs::remove_dir_all(data.join("blobs")).unwrap();
    copy(&blobs, &data.join("blobs"));
    assert_eq!(holding(&data, SUBJECT.as_bytes()).len(), 1);
    fixture.go_on().await;
    assert_eq!(holding(&data, SUBJECT.as_bytes()), Vec::<String>::new());
}

/// Killed anywhere, it is done or it is not: what a record says to be gone is gone once the server is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_erasure_is_done_or_not_done() {
    let mut fixture = Fixture::bare().await;
    fixture.stop().await;
    let path = fixture.dir.path().join("server.toml");
    std::fs::write(&path, config_text(fixture.dir.path())).unwrap();
    let data = fixture.dir.path().join("data");
    let socket = data.join("admin.sock");
    let (mut done, mut not) = (0, 0);
    // How long a whole one took last, so that kills fall before, into and after the next.
    let mut took = std::time::Duration::from_millis(40);
    for round in 0..10_u32 {
        let (process, _) = spawn(&path);
        let mut admin = crate::harness::admin(&socket).await;
        let comment = format!("# {round}\n");
        let mut with = with_ada(estate());
        with.insert("identities/round.toml", comment.clone());
        for files in [with, estate()] {
            let request = v1::EstateRequest {
                files: files.to_blob(),
                ..all_seen()
            };
            admin.estate_apply(request).await.unwrap();
        }
        let act = tokio::spawn(async move { admin.erase(of(ADA, true)).await.is_ok() });
        tokio::time::sleep(took.mul_f64(f64::from(round) / 6.0)).await;
        drop(process);
        let told = tokio::time::timeout(PATIENCE, act).await.unwrap().unwrap();
        fixture.go_on().await;
        let left = holding(&data.join("blobs"), comment.trim().as_bytes()).len();
        let plan = erase(&fixture, of(ADA, false)).await.unwrap();
        let recorded = plan["erased"].as_array().unwrap().is_empty();
        assert_eq!(left, usize::from(!recorded), "round {round}: {plan}");
        assert!(recorded || !told, "what was acknowledged is done");
        if recorded {
            done += 1
        } else {
            not += 1
        }
        if !recorded {
            let begun = std::time::Instant::now();
            erase(&fixture, of(ADA, true)).await.unwrap();
            took = begun.elapsed();
        }
        assert_eq!(holding(&data, SUBJECT.as_bytes()), Vec::<String>::new());
        fixture.stop().await;
    }
    println!("killed: {done} done, {not} not done");
    assert!(done + not == 10);
}

/// Issued and erased at once, on the same facts: whoever holds an SVID that stands has what it was issued on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_is_left_with_an_svid_whose_facts_are_gone() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let (mut gone, mut needed, mut overtaken) = (0, 0, 0);
    for round in 0..40 {
        let workload = format!("w{round}");
        let (answer, _) = sync
            .ask(&workload, &program(1000, PROGRAM), Vec::new())
            .await
            .unwrap();
        let (index, _) = issued(&fixture, "payments/api").await;
        // None of before stands: what is issued next decides whether the opening may go.
        let records = fixture.records(&["issuance"]).await;
        let api = "spiffe://example.org/payments/api";
        for (_, record) in records
            .iter()
            .filter(|(_, one)| one["body"]["spiffe_id"] == api)
        {
            let request = v1::RevokeRequest {
                kind: "serial".to_owned(),
                value: record["body"]["serial"].as_str().unwrap().to_owned(),
                reason: "for the test".to_owned(),
            };
            drop(fixture.admin().await.revoke(request).await);
        }
        drop(answer);
        let next = format!("x{round}");
        let facts = program(1000, PROGRAM);
        // However busy this machine is, some of them are done before it is asked for.
        let (erased, asked) = if round % 8 == 0 {
            let erased = erase(&fixture, of_record(index)).await;
            (erased, sync.ask(&next, &facts, Vec::new()).await)
        } else {
            tokio::join!(
                erase(&fixture, of_record(index)),
                sync.ask(&next, &facts, Vec::new())
            )
        };
        match erased {
            Ok(_) => gone += 1,
            Err(status) => {
                let code = finding(&status).code.into_owned();
                assert!(
                    ["ERASE-NEEDED", "ERASE-NOTHING"].contains(&code.as_str()),
                    "{code}"
                );
                needed += 1;
            }
        }
        let answer = match asked {
            Ok((answer, _)) if answer.svids.is_empty() => {
                assert_eq!(crate::harness::refusal(&answer)[0].code, "ISSUE-OVERTAKEN");
                overtaken += 1;
                continue;
            }
            Ok((answer, _)) => answer,
            Err(finding) => {
                assert_eq!(finding.code, "ISSUE-OVERTAKEN");
                overtaken += 1;
                continue;
            }
        };
        for svid in &answer.svids {
            let records = fixture.records(&["issuance"]).await;
            let record = records
                .iter()
                .find(|(_, one)| one["body"]["serial"] == svid.serial.as_str());
            let commit = record.unwrap().1["body"]["commit"]
                .as_str()
                .unwrap()
                .to_owned();
            let commit = crypto::hex::encode(&crypto::base64::decode(&commit).unwrap());
            assert!(
                blob(&fixture, &commit).exists(),
                "round {round}: its facts are gone"
            );
        }
    }
    println!("{gone} erased, {needed} needed, {overtaken} overtaken");
    assert!(gone > 0, "{needed} {overtaken}");
}
