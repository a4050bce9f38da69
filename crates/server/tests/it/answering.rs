//! What live answers rest on: the record of the estate that gave them, and the facts of whoever is the identity now.

use crate::certificates::{intent, session_start};
use crate::harness::{Fixture, estate};
use estate::EstateFiles;
use facts::{FactSet, Source, Timestamp, names};
use ledger::body::Body as _;
use ledger::{Commitment, EstateRef};
use proto::v1;
use serde_json::{Value, json};

const JOB: &str = "spiffe://example.org/jobs/nightly";

fn with_jobs() -> EstateFiles {
    let mut files = estate();
    files.insert(
        "identities/jobs.toml",
        "[[identity]]\npath = \"jobs/nightly\"\nkind = \"job\"\nowner = \"platform\"\n\
         visible = [\"workload.unit\"]\n",
    );
    files.insert(
        "policies/jobs.cedar",
        "@id(\"the job\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"jobs/nightly\") when { principal has uid && principal.uid == 3000 };\n\
         @id(\"jobs read notes\") @owner(\"platform\") @reason(\"nightly figures\") @control(\"SOC2-CC6.1\")\n\
         permit (principal == Identity::\"jobs/nightly\", action == Action::\"select\", \
         resource in Schema::\"notes/public\");\n",
    );
    files.insert(
        "resources/notes.toml",
        "[[database]]\nname = \"notes\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"mine\"\n",
    );
    files
}

fn job() -> FactSet {
    let mut facts = FactSet::new();
    let now = Timestamp::now();
    facts.state(names::WORKLOAD_UID, 3000_u32, Source::Asserted, now);
    facts.state(names::WORKLOAD_UNIT, "nightly", Source::Asserted, now);
    facts
}

fn read(answer: tonic::Response<v1::Document>) -> Value {
    serde_json::from_str(&answer.into_inner().json).unwrap()
}

fn why() -> v1::WhyRequest {
    v1::WhyRequest {
        principal: "jobs/nightly".to_owned(),
        action: "select".to_owned(),
        resource: "notes/public/mine".to_owned(),
        ..v1::WhyRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_answers_name_the_record_of_their_estate_and_what_policies_say_of_themselves() {
    let fixture = Fixture::start().await;
    let mut files = with_jobs();
    fixture.apply(&files).await.unwrap();
    files.insert("policies/none.cedar", "// A second version.\n");
    let applied = fixture.apply(&files).await.unwrap();
    let index = applied["index"].as_u64().unwrap();
    let record = json!(format!("server:{index}"));
    let said = json!({"owner": "platform", "reason": "nightly figures", "control": "SOC2-CC6.1"});

    let mut admin = fixture.admin().await;
    let answer = read(admin.why(why()).await.unwrap());
    assert_eq!(answer["estate_record"], record, "{answer}");
    let policies = &answer["explanation"]["decision"]["policies"];
    assert_eq!(policies[0]["annotations"], said);
    let request = v1::WhyRequest {
        on_behalf_of: vec!["jobs/nightly".to_owned()],
        principal: "payments/api".to_owned(),
        ..why()
    };
    let answer = read(admin.why(request).await.unwrap());
    assert_eq!(answer["estate_record"], record, "{answer}");

    let request = v1::WhoCanRequest {
        action: "select".to_owned(),
        resource: "notes/public/mine".to_owned(),
        ..v1::WhoCanRequest::default()
    };
    let answer = read(admin.who_can(request).await.unwrap());
    assert_eq!(answer["estate_record"], record, "{answer}");
    assert_eq!(answer["accesses"][0]["policies"][0]["annotations"], said);
    let request = v1::WhatCanRequest {
        principal: "jobs/nightly".to_owned(),
        ..v1::WhatCanRequest::default()
    };
    let answer = read(admin.what_can(request).await.unwrap());
    assert_eq!(answer["estate_record"], record, "{answer}");

    // `blast-radius` asks the estate that is exported.
    let exported = admin.estate_export(v1::EstateExportRequest::default());
    assert_eq!(exported.await.unwrap().into_inner().index, index);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_tells_the_facts_of_the_workload_that_is_the_identity_now() {
    let fixture = Fixture::start().await;
    fixture.apply(&with_jobs()).await.unwrap();
    let mut admin = fixture.admin().await;
    let nobody = read(admin.why(why()).await.unwrap());
    assert_eq!(nobody["facts"], json!([]), "{nobody}");

    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let (issued, _) = sync.ask("w1", &job(), Vec::new()).await.unwrap();
    assert_eq!(issued.svids.len(), 1);
    let answer = read(admin.why(why()).await.unwrap());
    let facts = answer["facts"].as_array().unwrap();
    // The uid is not among what the estate lets be seen.
    assert_eq!(facts.len(), 1, "{answer}");
    assert_eq!(facts[0]["name"], "workload.unit");
    assert_eq!(facts[0]["value"], "nightly");
    assert_eq!(facts[0]["source"], "asserted");
}

/// Every fact of a recorded decision was said to be verified, also what an agent alone had said.
#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_decision_says_who_stood_behind_its_facts_while_that_is_kept() {
    let fixture = Fixture::start().await;
    let mut files = with_jobs();
    let jobs = files.0.get("identities/jobs.toml").cloned().unwrap();
    let visible = jobs.replace(
        "[\"workload.unit\"]",
        "[\"machine.name\", \"workload.unit\"]",
    );
    files.insert("identities/jobs.toml", visible);
    let applied = fixture.apply(&files).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    sync.ask("w1", &job(), Vec::new()).await.unwrap();
    let (issuance, issued) = fixture.records(&["issuance"]).await.pop().unwrap();
    let start = session_start(JOB, "notes", (issuance, &issued));
    let intent = intent("notes/public/mine", "jobs read notes");
    let estate = EstateRef {
        version: applied["version"].as_str().unwrap().parse().unwrap(),
        index: applied["index"].as_u64().unwrap(),
    };
    let mut recording = crate::packs::Recording::start(&fixture).await;
    recording.append(JOB, start.record());
    let seq = recording.append(JOB, intent.record().estate(estate));
    recording.anchor().await;
    let mut admin = fixture.admin().await;
    let mut sources = async || {
        let request = v1::WhyRequest {
            decision: format!("pg:{seq}"),
            ..v1::WhyRequest::default()
        };
        let answer = read(admin.why(request).await.unwrap());
        let facts = answer["facts"].as_array().unwrap().clone();
        let facts = facts.into_iter().map(|fact| {
            let name = fact["name"].as_str().unwrap().to_owned();
            (name, fact.get("source").cloned())
        });
        facts.collect::<Vec<_>>()
    };
    let told = |source: Option<&str>, of_unit: Option<&str>| {
        vec![
            ("machine.name".to_owned(), source.map(Value::from)),
            ("workload.unit".to_owned(), of_unit.map(Value::from)),
        ]
    };
    assert_eq!(sources().await, told(Some("verified"), Some("asserted")));
    // As an erasure leaves it: the record shows the facts, and nobody can say more of them.
    let commit: Commitment = serde_json::from_value(issued["body"]["commit"].clone()).unwrap();
    let commit = crypto::hex::encode(&commit.0.0);
    let blobs = fixture.dir.path().join("data/blobs");
    std::fs::remove_file(blobs.join(commit.split_at(2).0).join(&commit)).unwrap();
    assert_eq!(sources().await, told(None, None));
}

/// Whoever reads a column reads its table: what denies that denies the column.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_table_that_is_forbidden_is_not_said_to_be_allowed() {
    let fixture = Fixture::start().await;
    let mut files = with_jobs();
    let settings = files.0.get("estate.toml").cloned().unwrap();
    files.insert("estate.toml", format!("columns = \"decided\"\n{settings}"));
    let resources = files.0.get("resources/notes.toml").cloned().unwrap();
    let column = "[[database.schema.table.column]]\nname = \"id\"\n";
    files.insert("resources/notes.toml", format!("{resources}{column}"));
    for allowed in [true, false] {
        if !allowed {
            files.insert(
                "policies/closed.cedar",
                "@id(\"mine is closed\") forbid (principal, action == Action::\"select\", \
                 resource == Table::\"notes/public/mine\");\n",
            );
        }
        fixture.apply(&files).await.unwrap();
        let mut admin = fixture.admin().await;
        let resource = "Column::\"notes/public/mine/id\"".to_owned();
        let request = v1::WhyRequest {
            resource: resource.clone(),
            ..why()
        };
        let answer = read(admin.why(request).await.unwrap());
        let decision = &answer["explanation"]["decision"];
        assert_eq!(decision["allow"], allowed, "{answer}");
        if !allowed {
            assert_eq!(decision["policies"][0]["id"], "mine is closed", "{answer}");
            assert_eq!(
                decision["of_table"]["path"], "notes/public/mine",
                "{answer}"
            );
        }
        let request = v1::WhoCanRequest {
            action: "select".to_owned(),
            resource,
            ..v1::WhoCanRequest::default()
        };
        let answer = read(admin.who_can(request).await.unwrap());
        let found = answer["accesses"].as_array().unwrap();
        assert_eq!(found.is_empty(), !allowed, "{answer}");
        let request = v1::WhatCanRequest {
            principal: "jobs/nightly".to_owned(),
            ..v1::WhatCanRequest::default()
        };
        let answer = read(admin.what_can(request).await.unwrap());
        let told = answer["accesses"].to_string().contains("mine/id");
        assert_eq!(told, allowed, "{answer}");
    }
}
