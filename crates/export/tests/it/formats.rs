//! What events say, and that each has what its specification requires.

use crate::world::{START, World, index, lines};
use export::Format;
use ledger::RecordBuilder;
use ledger::body::{
    ActionOn, Admin, Body as _, Coverage, Decision, Gap, Intent, Outcome, SessionEnd, SessionStart,
    Start, Stop,
};
use serde_json::{Value, json};

const WHO: &str = "spiffe://example.org/shop/api";

fn on(action: &str, resources: &[&str]) -> Vec<ActionOn> {
    vec![ActionOn {
        action: action.to_owned(),
        resources: resources.iter().map(|name| (*name).to_owned()).collect(),
        more: None,
        columns: Vec::new(),
    }]
}

fn intent(actions: Vec<ActionOn>) -> RecordBuilder {
    let body = Intent {
        session: "s1".to_owned(),
        statement: "f".to_owned(),
        actions,
        decision: "s1.1".to_owned(),
        policies: vec!["shop reads".to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    body.record().actor(WHO, "x509-svid:01").connection("s1", 1)
}

fn denied(actions: Vec<ActionOn>) -> RecordBuilder {
    let body = Decision {
        session: "s1".to_owned(),
        statement: "f".to_owned(),
        actions,
        decision: "s1.2".to_owned(),
        allow: false,
        policies: Vec::new(),
        findings: vec!["POLICY-NONE".to_owned()],
        coverage: Coverage::Complete,
        more_policies: None,
        about: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    body.record().actor(WHO, "x509-svid:01").connection("s1", 2)
}

fn outcome(intent: u64, result: &str) -> RecordBuilder {
    let body = Outcome {
        intent: intent.into(),
        result: result.to_owned(),
        sqlstate: (result == "error").then(|| "23505".to_owned()),
        rows: Some(2.into()),
        tag: None,
        transaction: None,
    };
    body.record().actor(WHO, "x509-svid:01").connection("s1", 3)
}

/// One record of each kind that is mapped, after the ledger's begin.
fn records() -> Vec<RecordBuilder> {
    let start = Start {
        program: "trilith-gateway".to_owned(),
        version: "0.1.0".to_owned(),
        epoch: 1.into(),
        size: 1.into(),
        root: ledger::Digest([0; 32]),
    };
    let session = SessionStart {
        session: "s1".to_owned(),
        spiffe_id: WHO.to_owned(),
        serial: "01".to_owned(),
        issuance: None,
        resource: "postgres:shop".to_owned(),
        role: "r".to_owned(),
        application: "psql".to_owned(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    let end = SessionEnd {
        session: "s1".to_owned(),
        reason: "closed".to_owned(),
        detail: String::new(),
        operations: 8.into(),
    };
    let gap = Gap {
        cause: "crash".to_owned(),
        from: START,
        to: START + 1,
        lost: None,
        detail: String::new(),
    };
    let admin = Admin {
        principal: "uid:0".to_owned(),
        action: "revoke".to_owned(),
        resource: "Identity::\"shop/api\"".to_owned(),
        allow: true,
        policies: Vec::new(),
        detail: String::new(),
    };
    let stop = Stop {
        reason: "shutdown".to_owned(),
    };
    vec![
        start.record().actor("trilith-gateway", "self"), // 1
        session
            .record()
            .actor(WHO, "x509-svid:01")
            .connection("s1", 0), // 2
        intent(on("update", &["Table::\"shop/public/orders\""])), // 3
        outcome(3, "ok"),                                // 4
        denied(on("select", &["Table::\"shop/public/cards\""])), // 5
        intent(on("call", &["Tool::\"tickets/close\""])), // 6
        outcome(6, "error"),                             // 7
        intent(Vec::new()),                              // 8
        outcome(8, "unknown"),                           // 9
        end.record().actor(WHO, "x509-svid:01").connection("s1", 8), // 10
        admin.record().actor("uid:0", "peercred"),       // 11
        gap.record().actor("trilith-gateway", "self"),   // 12
        stop.record().actor("trilith-gateway", "self"),  // 13
    ]
}

async fn exported(format: Format) -> (World, Vec<Value>, String) {
    let mut world = World::new();
    world.put(records());
    let out = world.beside("out");
    let to = format!("file:{}", out.display());
    world.export(&to, format).await.unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    let events = lines(text.as_bytes());
    (world, events, text)
}

#[tokio::test]
async fn a_cloud_event_has_the_record_byte_for_byte_and_an_id_for_ever() {
    let (world, events, text) = exported(Format::CloudEvents).await;
    assert_eq!(events.len(), 14);
    for ((number, event), line) in events.iter().enumerate().zip(text.lines()) {
        let bytes = world.bytes(number as u64);
        assert!(
            line.contains(std::str::from_utf8(&bytes).unwrap()),
            "{line}"
        );
        let fields = event.as_object().unwrap();
        // "CloudEvents attribute names MUST consist of lower-case letters ('a' to 'z') or digits": and `data_base64`.
        let plain = |name: &str| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        assert!(fields.keys().all(|name| plain(name)), "{line}");
        let leaf = ledger::merkle::leaf_hash(&bytes);
        assert_eq!(event["leafhash"], crypto::base64::encode(&leaf));
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["datacontenttype"], "application/json");
        assert_eq!(event["source"], "trilith://example.org/pg-1");
        assert_eq!(event["partitionkey"], "example.org/pg-1");
        assert_eq!(event["sequence"], format!("{number:020}"));
        assert_eq!(index(event), number as u64);
    }
    assert_eq!(events[3]["type"], "trilith.record.intent");
    assert_eq!(events[3]["subject"], WHO);
    assert_eq!(events[3]["time"], "2023-11-14T22:13:24.000Z");
    // The same again is the same.
    let again = world.beside("again");
    std::fs::remove_file(world.beside("cursor")).unwrap();
    let to = format!("file:{}", again.display());
    world.export(&to, Format::CloudEvents).await.unwrap();
    assert_eq!(std::fs::read_to_string(again).unwrap(), text);
}

/// What OCSF 1.3.0 requires of each class that is used, and one of.
const REQUIRED: &[(u64, &[&str], &[&str])] = &[
    (0, &[], &[]),
    (3002, &["user"], &["service", "dst_endpoint"]),
    (6002, &["app"], &[]),
    (6003, &["actor", "api", "src_endpoint"], &[]),
    (
        6005,
        &["actor", "src_endpoint"],
        &["database", "databucket", "table"],
    ),
];

#[tokio::test]
async fn an_ocsf_event_has_what_its_class_requires() {
    let (world, events, text) = exported(Format::Ocsf).await;
    for ((number, event), line) in events.iter().enumerate().zip(text.lines()) {
        for name in [
            "metadata",
            "category_uid",
            "class_uid",
            "activity_id",
            "type_uid",
            "severity_id",
            "time",
        ] {
            assert!(!event[name].is_null(), "{name} of {line}");
        }
        assert_eq!(event["metadata"]["version"], "1.3.0");
        assert_eq!(event["metadata"]["product"]["vendor_name"], "Trilith");
        let class = event["class_uid"].as_u64().unwrap();
        let activity = event["activity_id"].as_u64().unwrap();
        assert_eq!(event["type_uid"], class * 100 + activity);
        assert_eq!(event["category_uid"], class / 1_000);
        let (_, required, one_of) = REQUIRED.iter().find(|(known, ..)| *known == class).unwrap();
        assert!(
            required.iter().all(|name| event[*name].is_object()),
            "{line}"
        );
        assert!(
            one_of.is_empty() || one_of.iter().any(|name| event[*name].is_object()),
            "{line}"
        );
        assert_ne!(event["activity_name"], "", "{line}");
        assert_ne!(event["api"]["operation"], "", "{line}");
        // A profile's attributes are there only if it is named.
        let profile = event["metadata"]["profiles"] == json!(["security_control"]);
        assert_eq!(profile, !event["action_id"].is_null(), "{line}");
        // What was not mapped is whole all the same.
        let bytes = world.bytes(number as u64);
        assert!(
            line.contains(std::str::from_utf8(&bytes).unwrap()),
            "{line}"
        );
        assert_eq!(index(event), number as u64);
    }
}

#[tokio::test]
async fn accesses_are_told_as_what_they_are() {
    let (_world, events, _) = exported(Format::Ocsf).await;
    let told = |at: usize| {
        let event = &events[at];
        let number = |name: &str| event[name].as_u64();
        (
            number("class_uid").unwrap(),
            number("activity_id").unwrap(),
            number("status_id"),
            number("action_id"),
        )
    };
    assert_eq!(told(0), (0, 99, None, None), "begin");
    assert_eq!(told(1), (6002, 3, None, None), "start");
    assert_eq!(told(2), (3002, 1, Some(1), None), "session-start");
    // Allowed, and not known yet what comes of it.
    assert_eq!(told(3), (6005, 2, Some(0), Some(1)), "intent");
    assert_eq!(told(4), (6005, 2, Some(1), None), "its outcome");
    assert_eq!(told(5), (6005, 1, Some(2), Some(2)), "denied");
    assert_eq!(told(6), (6003, 99, Some(0), Some(1)), "a tool");
    assert_eq!(told(7), (6003, 99, Some(2), None), "it failed");
    assert_eq!(told(8), (6003, 99, Some(0), Some(1)), "of nothing");
    assert_eq!(told(9), (6003, 99, Some(0), None), "nobody knows");
    assert_eq!(told(10), (3002, 2, Some(1), None), "session-end");
    assert_eq!(told(11), (6003, 99, Some(1), Some(1)), "an administrator");
    assert_eq!(told(12), (0, 99, None, None), "a gap");
    assert_eq!(told(13), (6002, 4, None, None), "stop");
    assert_eq!(events[3]["table"]["name"], "shop/public/orders");
    assert_eq!(events[3]["database"]["name"], "shop");
    assert_eq!(events[3]["policy"]["name"], "shop reads");
    assert_eq!(
        events[4]["metadata"]["correlation_uid"],
        events[3]["metadata"]["uid"]
    );
    assert_eq!(events[5]["status_code"], "POLICY-NONE");
    assert_eq!(events[7]["status_code"], "23505");
    assert_eq!(
        events[6]["resources"][0],
        json!({ "name": "tickets/close", "type": "Tool" })
    );
}
