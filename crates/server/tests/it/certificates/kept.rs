//! The certificates that the server keeps of what it issues: in packs by themselves, and gone with what was issued on.

use super::{API, Session};
use crate::harness::{Fixture, PROGRAM, config, estate, program};
use ledger::pack::{Report, with_certificates};
use proto::v1::{EraseRequest, PackRequest, RevokeRequest};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A pack with what is kept.
pub(super) async fn pack(fixture: &Fixture, question: &Value) -> Vec<u8> {
    let request = PackRequest {
        question: question.to_string(),
        certificates: true,
    };
    let stream = fixture.admin().await.pack(request).await;
    let mut stream = stream.unwrap().into_inner();
    let mut pack = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        pack.extend(chunk.data);
    }
    pack
}

fn issuances(report: &Report) -> Vec<u64> {
    let mut issuances: Vec<u64> = report.certificates.values().copied().collect();
    issuances.sort_unstable();
    issuances
}

pub(super) fn places(bytes: &[u8], part: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(part.len()).enumerate();
    let found = windows.filter(|(_, window)| *window == part);
    found.map(|(at, _)| at).collect()
}

/// Files below `dir`.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

/// The file below `dir` that holds `part`, and where.
pub(super) fn holding(dir: &Path, part: &[u8]) -> Option<(PathBuf, usize)> {
    files(dir).into_iter().find_map(|path| {
        let at = *places(&std::fs::read(&path).unwrap(), part).first()?;
        Some((path, at))
    })
}

impl Session {
    fn folder(&self) -> PathBuf {
        self.fixture.dir.path().join("data/certificates")
    }

    /// The end of the SVID's signature: nothing else has it.
    fn signature(&self) -> &[u8] {
        let leaf = &self.chain[0];
        &leaf[leaf.len() - 24..]
    }

    /// What the record of the issuance says.
    pub(super) async fn issued(&self) -> Value {
        let records = self.fixture.records(&["issuance"]).await;
        let (_, record) = records
            .into_iter()
            .find(|(index, _)| *index == self.issuance)
            .unwrap();
        record["body"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_each_question_have_the_certificates_by_themselves() {
    let mut session = Session::start().await;
    let issued = session.issued().await;
    let serial = issued["serial"].as_str().unwrap();
    let verdict: u64 = issued["verdict"].as_str().unwrap().parse().unwrap();
    let now = facts::Timestamp::now().as_millis();
    let questions = [
        json!({"kind": "record", "ledger": "pg", "index": 1}),
        json!({"kind": "range", "ledger": "pg", "from": 1, "to": 2}),
        json!({"kind": "session", "ledger": "pg", "session": "s1"}),
        json!({"kind": "access", "identity": API}),
        json!({"kind": "issuance", "serial": serial}),
        json!({"kind": "lifetime", "identity": API}),
        json!({"kind": "verdict", "index": verdict}),
        json!({"kind": "period", "from": now - 3_600_000, "to": now + 3_600_000}),
    ];
    for again in [false, true] {
        for question in &questions {
            let pack = pack(&session.fixture, question).await;
            let report = session.judged(&pack).unwrap();
            assert!(
                issuances(&report).contains(&session.issuance),
                "{again} {question}: {:?}",
                report.certificates
            );
            // The very one that the workload was given.
            assert_eq!(places(&pack, &session.chain[0]).len(), 1, "{question}");
            assert!(report.is_complete(), "{question}: {:?}", report.doubts);
        }
        // All the same after another start.
        session.fixture.restart().await;
    }
    // Whoever holds the chain puts in nothing new.
    let pack = pack(&session.fixture, &questions[0]).await;
    assert_eq!(with_certificates(&pack, &session.chain).unwrap(), pack);
    // The file lacks what the ledger has.
    let (path, _) = holding(&session.folder(), session.signature()).unwrap();
    let issuance = session
        .fixture
        .records(&["issuance"])
        .await
        .pop()
        .unwrap()
        .1;
    let tbs = issuance["body"]["tbs"].as_str().unwrap();
    assert!(places(&std::fs::read(path).unwrap(), tbs.as_bytes()).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_was_kept_is_in_no_pack() {
    let mut session = Session::start().await;
    let question = json!({"kind": "record", "ledger": "pg", "index": 1});
    let whole = pack(&session.fixture, &question).await;
    assert_eq!(
        issuances(&session.judged(&whole).unwrap()),
        [session.issuance]
    );
    session.fixture.stop().await;
    let (path, at) = holding(&session.folder(), session.signature()).unwrap();
    let kept = std::fs::read(&path).unwrap();
    // A signature, a length, a place, and half of the file: of whatever was changed there is no certificate, and the
    // server starts and answers.
    for change in [at, 0, 5, 30] {
        let mut changed = kept.clone();
        changed[change] ^= 1;
        let end = match change {
            30 => kept.len() / 2,
            _ => kept.len(),
        };
        std::fs::write(&path, &changed[..end]).unwrap();
        session.fixture.go_on().await;
        let pack = pack(&session.fixture, &question).await;
        let report = session.judged(&pack).unwrap();
        if change == at {
            assert!(report.certificates.is_empty());
        }
        assert!(report.is_complete());
        session.fixture.stop().await;
    }
    // Nothing was written to what was cut but behind its last whole one.
    std::fs::write(&path, &kept).unwrap();
    session.fixture.go_on().await;
    let again = pack(&session.fixture, &question).await;
    assert_eq!(
        issuances(&session.judged(&again).unwrap()),
        [session.issuance]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_goes_with_the_facts_that_it_was_issued_on() {
    let mut session = Session::start().await;
    let question = json!({"kind": "record", "ledger": "pg", "index": 1});
    let before = pack(&session.fixture, &question).await;
    assert_eq!(
        issuances(&session.judged(&before).unwrap()),
        [session.issuance]
    );
    let folder = session.folder();
    assert!(holding(&folder, session.signature()).is_some());
    let copy: Vec<(PathBuf, Vec<u8>)> = files(&session.fixture.dir.path().join("data/blobs"))
        .into_iter()
        .chain(files(&folder))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();

    let revoked = RevokeRequest {
        kind: "identity".to_owned(),
        value: "payments/api".to_owned(),
        reason: "left".to_owned(),
    };
    session.fixture.admin().await.revoke(revoked).await.unwrap();
    let request = EraseRequest {
        identity: "payments/api".to_owned(),
        reason: "case 1".to_owned(),
        act: true,
        ..EraseRequest::default()
    };
    let answer = session.fixture.admin().await.erase(request).await.unwrap();
    let done: Value = serde_json::from_str(&answer.into_inner().json).unwrap();
    assert_eq!(
        (&done["removed"], &done["certificates"]),
        (&json!(1), &json!(1)),
        "{done}"
    );
    assert_eq!(holding(&folder, session.signature()), None);

    let erased = |report: &Report| {
        assert!(report.certificates.is_empty() && report.is_complete());
        assert_eq!(report.erased.len(), 1);
        assert_eq!(
            (report.erased[0].index, report.erased[0].reason.as_str()),
            (session.issuance, "case 1")
        );
    };
    erased(
        &session
            .judged(&pack(&session.fixture, &question).await)
            .unwrap(),
    );
    // What was made before verifies as it did, and whoever has the certificate may still show it.
    assert_eq!(
        issuances(&session.judged(&before).unwrap()),
        [session.issuance]
    );
    let shown = with_certificates(&pack(&session.fixture, &question).await, &session.chain);
    assert_eq!(
        issuances(&session.judged(&shown.unwrap()).unwrap()),
        [session.issuance]
    );

    // A backup brings both back, or this folder alone: the next start clears them.
    for alone in [false, true] {
        session.fixture.stop().await;
        for (path, bytes) in &copy {
            if !alone || path.starts_with(&folder) {
                std::fs::write(path, bytes).unwrap();
            }
        }
        assert!(holding(&folder, session.signature()).is_some());
        session.fixture.go_on().await;
        assert_eq!(holding(&folder, session.signature()), None, "{alone}");
    }
    let pack = pack(&session.fixture, &question).await;
    assert!(session.judged(&pack).unwrap().certificates.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_kept_where_nothing_is_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.keep_certificates = false;
    let server = Some(server::start(config).await.unwrap());
    let fixture = Fixture { dir, server };
    fixture.apply(&estate()).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let asked = sync.ask("w1", &program(1000, PROGRAM), Vec::new()).await;
    assert_eq!(asked.unwrap().1.len(), 1);
    let question = json!({"kind": "lifetime", "identity": API});
    let pack = pack(&fixture, &question).await;
    assert!(places(&pack, b" certificate/").is_empty());
    assert!(files(&fixture.dir.path().join("data/certificates")).is_empty());
}
