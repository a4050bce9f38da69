//! Packs of sessions, lifetimes, ranges, periods, changes of the estate and verdicts, as the server makes them.

use crate::harness::{DOMAIN, Fixture, PROGRAM, estate_of_two, finding, program};
use crate::packs::{Recording, verified};
use ledger::pack::{Question, Report};
use proto::v1::{PackRequest, RevokeRequest};
use serde_json::{Value, json};

const API: &str = "spiffe://example.org/payments/api";

/// The types of the records that answer, in order.
fn answers(report: &Report) -> Vec<&str> {
    let answers = report.records.iter().filter(|item| item.answers);
    answers.map(|item| item.record.kind().as_str()).collect()
}

async fn whole(fixture: &Fixture, question: Value) -> Report {
    let report = verified(fixture, &question.to_string()).await;
    assert!(report.is_complete(), "{question}: {:?}", report.doubts);
    report
}

async fn refused(fixture: &Fixture, question: Value) -> facts::Finding {
    let question = question.to_string();
    let asked = fixture
        .admin()
        .await
        .pack(PackRequest {
            question,
            ..PackRequest::default()
        })
        .await;
    finding(&asked.map(drop).expect_err("refused"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_from_its_first_issuance_to_its_revocation_is_shown_whole() {
    let fixture = Fixture::start().await;
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    assert_eq!(issued.svids.len(), 1);
    let revoke = RevokeRequest {
        kind: "identity".to_owned(),
        value: "payments/api".to_owned(),
        reason: "key leaked".to_owned(),
    };
    fixture.admin().await.revoke(revoke).await.unwrap();
    let lifetime = json!({"kind": "lifetime", "identity": "payments/api"});
    let report = whole(&fixture, lifetime).await;
    let told = answers(&report);
    assert_eq!(told.first(), Some(&"issuance"), "{told:?}");
    assert!(told.contains(&"revocation"), "{told:?}");
    let identity = API.to_owned();
    assert_eq!(report.question, Question::Lifetime { identity });
    // The verdict that it was issued on is there, as what the issuance rests on.
    assert!(
        report
            .records
            .iter()
            .any(|item| item.record.kind().as_str() == "verdict")
    );
    let nobody = json!({"kind": "lifetime", "identity": "payments/apo"});
    let nobody = refused(&fixture, nobody).await;
    assert_eq!(nobody.code, "PACK-IDENTITY-UNKNOWN");
    let (verdicts, issuances) = (
        fixture.records(&["verdict"]).await,
        fixture.records(&["issuance"]).await,
    );
    let index = verdicts[0].0;
    let report = whole(&fixture, json!({"kind": "verdict", "index": index})).await;
    let told = answers(&report);
    assert_eq!(told.first(), Some(&"verdict"), "{told:?}");
    assert!(
        told.contains(&"issuance") && told.contains(&"node-state"),
        "{told:?}"
    );
    let other = json!({"kind": "verdict", "index": issuances[0].0});
    assert_eq!(refused(&fixture, other).await.code, "PACK-VERDICT-UNKNOWN");
    let beyond = json!({"kind": "verdict", "index": 99_999});
    assert_eq!(refused(&fixture, beyond).await.code, "PACK-VERDICT-UNKNOWN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_estate_is_shown_with_the_version_before_and_who_made_it() {
    let fixture = Fixture::start().await;
    fixture.apply(&estate_of_two()).await.unwrap();
    let versions = fixture.records(&["estate-version"]).await;
    let (index, newest) = versions.last().unwrap();
    let version = newest["body"]["version"].as_str().unwrap();
    let change = json!({"kind": "estate", "version": version});
    let report = whole(&fixture, change.clone()).await;
    assert_eq!(
        answers(&report),
        [
            "estate-version",
            "admin",
            "proof",
            "estate-version",
            "admin"
        ]
    );
    let last = report.records.iter().rfind(|item| item.answers).unwrap();
    assert!(last.record.body().contains(&format!("estate:{index}")));
    // Both texts and the proof are there. Asking does not become a part of the change.
    assert!(report.blobs.len() >= 3, "{}", report.blobs.len());
    assert_eq!(answers(&whole(&fixture, change).await).len(), 5);
    let unknown = json!({"kind": "estate", "version": "0".repeat(64)});
    assert_eq!(refused(&fixture, unknown).await.code, "PACK-ESTATE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_what_stands_in_a_range_or_a_time_are_shown_whole() {
    let fixture = Fixture::start().await;
    let mut recording = Recording::start(&fixture).await;
    recording.session(API, 2);
    recording.session("spiffe://example.org/reporting/nightly", 1);
    recording.anchor().await;
    let origin = format!("{DOMAIN}/gateway/pg");
    let report = whole(
        &fixture,
        json!({"kind": "session", "ledger": "pg", "session": "s0"}),
    )
    .await;
    assert_eq!(
        answers(&report),
        ["session-start", "intent", "outcome", "intent", "outcome"]
    );
    let (ledger, session) = (origin.clone(), "s0".to_owned());
    assert_eq!(report.question, Question::Session { ledger, session });
    let range = json!({"kind": "range", "ledger": "pg", "from": 1, "to": 3});
    let report = whole(&fixture, range).await;
    // With the session that they belong to.
    assert_eq!(
        answers(&report),
        ["session-start", "intent", "outcome", "intent"]
    );
    assert!(report.whole.is_empty());
    let own = whole(
        &fixture,
        json!({"kind": "range", "ledger": "server", "from": 0, "to": 0}),
    )
    .await;
    assert_eq!(answers(&own), ["begin"]);
    let ever = json!({"kind": "period", "ledger": "pg", "from": 1, "to": u64::MAX});
    let report = whole(&fixture, ever).await;
    assert_eq!(answers(&report).len(), 8);
    assert_eq!(report.checkpoints.len(), 2);
    let everywhere = whole(
        &fixture,
        json!({"kind": "period", "from": 1, "to": u64::MAX}),
    )
    .await;
    assert!(answers(&everywhere).contains(&"begin"));
    assert_eq!(everywhere.extents[1].answers, 8);
    let quiet = whole(&fixture, json!({"kind": "period", "from": 1, "to": 2})).await;
    assert!(answers(&quiet).is_empty());
    for (code, question) in [
        (
            "PACK-SESSION",
            json!({"kind": "session", "ledger": "pg", "session": "s1"}),
        ),
        (
            "PACK-SESSION",
            json!({"kind": "session", "ledger": "server", "session": "s0"}),
        ),
        (
            "LEDGER-UNKNOWN",
            json!({"kind": "session", "ledger": "pg9", "session": "s0"}),
        ),
        (
            "LEDGER-UNKNOWN",
            json!({"kind": "period", "ledger": "pg9", "from": 1, "to": 2}),
        ),
        (
            "PACK-RECORD",
            json!({"kind": "range", "ledger": "pg", "from": 1, "to": 8}),
        ),
        (
            "PACK-QUESTION",
            json!({"kind": "range", "ledger": "pg", "from": 3, "to": 1}),
        ),
        (
            "PACK-QUESTION",
            json!({"kind": "period", "from": 3, "to": 3}),
        ),
    ] {
        assert_eq!(
            refused(&fixture, question.clone()).await.code,
            code,
            "{question}"
        );
    }
}

/// A pack is made in memory: what does not fit one is refused, and what was asked for is not cut.
#[tokio::test(flavor = "multi_thread")]
async fn more_records_than_a_pack_takes_are_refused_and_not_cut() {
    let fixture = Fixture::start().await;
    let mut recording = Recording::start(&fixture).await;
    let gap = || {
        let gap = ledger::body::Gap {
            cause: "crash".to_owned(),
            from: 0,
            to: 0,
            lost: None,
            detail: String::new(),
        };
        ledger::body::Body::record(&gap).draft().unwrap()
    };
    for _ in 0..11 {
        let many = (0..1_000).map(|_| gap()).collect();
        recording.own.append_many(many).wait().unwrap();
    }
    recording.anchor().await;
    let ever = json!({"kind": "period", "ledger": "pg", "from": 1, "to": u64::MAX});
    let many = refused(&fixture, ever).await;
    assert_eq!(many.code, "PACK-MANY");
    let some = json!({"kind": "range", "ledger": "pg", "from": 10, "to": 10_009});
    assert_eq!(whole(&fixture, some).await.extents[1].answers, 10_000);
}
