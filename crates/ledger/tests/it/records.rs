//! Records: one spelling, refused otherwise; sizes that the design promises.

use crate::support::{SERVER, STAMP, issuance, issuance_record};
use expect_test::expect;
use ledger::body::{self, Begin, Body, Issuance, Revocation, Stop, Target, TargetKind};
use ledger::{Base64, Code, MAX_RECORD, Origin, Record, RecordType, Stamp};
use serde_json::json;

fn origin() -> Origin {
    Origin::new(SERVER).unwrap()
}

#[test]
fn an_issuance_stays_small() {
    let record = issuance_record().seal(&origin(), 1_234_567, STAMP).unwrap();
    expect!["766"].assert_eq(&record.bytes().len().to_string());
}

#[test]
fn what_is_sealed_parses_to_the_same_parts() {
    let record = issuance_record()
        .engine("cedar", "4.14.1")
        .connection("c-17", u64::MAX)
        .seal(&origin(), u64::MAX, Stamp::default())
        .unwrap();
    let parsed = Record::parse(record.bytes()).unwrap();
    assert_eq!(parsed, record);
    assert_eq!(parsed.kind(), RecordType::Issuance);
    assert_eq!(parsed.origin(), SERVER);
    assert_eq!(parsed.seq(), u64::MAX);
    assert_eq!(parsed.actor(), "spiffe://example.org/trilith/node/m1");
    assert_eq!(parsed.auth(), "x509:5f1d3a0c9be24477a1b0c9d8e7f60511");
    assert_eq!(parsed.stamp(), STAMP);
    assert_eq!(parsed.estate().unwrap().index, 3);
    assert_eq!(parsed.engines(), r#"{"cedar":"4.14.1"}"#);
    assert_eq!(parsed.connection().unwrap().counter, u64::MAX);
    assert_eq!(parsed.expect_body::<Issuance>().unwrap(), issuance());
    body::check(&parsed).unwrap();
    assert!(parsed.expect_body::<Stop>().is_err());
}

fn sample() -> String {
    let revocation = Revocation {
        target: Target {
            kind: TargetKind::Identity,
            value: "payments/api".to_owned(),
        },
        reason: "stolen\n\"laptop\"".to_owned(),
        by: "uid:0".to_owned(),
        whose: Vec::new(),
        node: None,
    };
    let record = revocation
        .record()
        .actor("uid:0", "peercred")
        .connection("c1", 4)
        .seal(&origin(), 17, STAMP)
        .unwrap();
    String::from_utf8(record.into_bytes()).unwrap()
}

#[test]
fn the_envelope_is_the_documented_one() {
    expect![[r#"{"v":1,"type":"revocation","origin":"example.org/server","seq":"17","actor":"uid:0","auth":"peercred","time":{"wall":"1795312969123","mono":"86400000000001"},"conn":{"id":"c1","counter":"4"},"body":{"target":{"kind":"identity","value":"payments/api"},"reason":"stolen\n\"laptop\"","by":"uid:0"}}"#]].assert_eq(&sample());
}

#[test]
fn every_other_spelling_is_refused() {
    let sample = sample();
    Record::parse(sample.as_bytes()).unwrap();
    for (from, to, code) in [
        ("\"v\":1", "\"v\":2", "LEDGER-RECORD-ENVELOPE"),
        ("\"v\":1,", "\"v\":1, ", "LEDGER-RECORD-ENVELOPE"),
        ("revocation", "revocatiom", "LEDGER-RECORD-TYPE"),
        ("\"seq\":\"17\"", "\"seq\":17", "LEDGER-RECORD-ENVELOPE"),
        ("\"17\"", "\"017\"", "LEDGER-RECORD-ENVELOPE"),
        (
            "\"17\"",
            "\"18446744073709551616\"",
            "LEDGER-RECORD-ENVELOPE",
        ),
        ("\"auth\":\"peercred\",", "", "LEDGER-RECORD-ENVELOPE"),
        (
            ",\"conn\":",
            ",\"engines\":{},\"conn\":",
            "LEDGER-RECORD-ENVELOPE",
        ),
        (
            ",\"conn\":",
            ",\"engines\":{\"a\":1},\"conn\":",
            "LEDGER-RECORD-ENVELOPE",
        ),
        (
            ",\"conn\":",
            ",\"engines\":{\"a\":\"1\",\"a\":\"2\"},\"conn\":",
            "LEDGER-RECORD-ENVELOPE",
        ),
        (
            ",\"conn\":",
            ",\"estate\":{},\"conn\":",
            "LEDGER-RECORD-ENVELOPE",
        ),
        (
            ",\"conn\":",
            ",\"estate\":null,\"conn\":",
            "LEDGER-RECORD-ENVELOPE",
        ),
        (
            ",\"conn\":{\"id\":\"c1\",\"counter\":\"4\"}",
            ",\"conn\":null",
            "LEDGER-RECORD-ENVELOPE",
        ),
        (
            "\"by\":\"uid:0\"",
            "\"by\":\"uid:0\",\"by\":\"uid:1\"",
            "LEDGER-RECORD-ENVELOPE",
        ),
        ("\"by\":\"uid:0\"", "\"by\":1.5", "LEDGER-RECORD-ENVELOPE"),
        (
            "\"by\":\"uid:0\"",
            "\"by\":9007199254740992",
            "LEDGER-RECORD-ENVELOPE",
        ),
        ("stolen\\n", "stolen\\u000a", "LEDGER-RECORD-ENVELOPE"),
    ] {
        assert!(sample.contains(from), "{from}");
        let error = Record::parse(sample.replacen(from, to, 1).as_bytes()).unwrap_err();
        assert_eq!(error.code(), code, "{to}: {error}");
    }
    for cut in 0..sample.len() {
        assert!(Record::parse(&sample.as_bytes()[..cut]).is_err());
    }
    for byte in ["\n", " ", "}", "\0"] {
        assert!(Record::parse(format!("{sample}{byte}").as_bytes()).is_err());
    }
}

#[test]
fn a_body_of_another_shape_is_refused() {
    for (from, to) in [
        ("\"by\":\"uid:0\"", "\"by\":\"uid:0\",\"x\":1"),
        (",\"by\":\"uid:0\"", ""),
        ("\"kind\":\"identity\"", "\"kind\":\"planet\""),
        (
            "\"kind\":\"identity\",\"value\":\"payments/api\"",
            "\"value\":\"payments/api\",\"kind\":\"identity\"",
        ),
    ] {
        let changed = sample().replacen(from, to, 1);
        let record = Record::parse(changed.as_bytes()).unwrap();
        let error = body::check(&record).unwrap_err();
        assert_eq!(error.code(), "LEDGER-RECORD-SHAPE", "{to}");
    }
}

#[test]
fn a_builder_refuses_what_a_parser_would() {
    let stop = |body: serde_json::Value| Record::builder(RecordType::Stop, body);
    let code = |builder: ledger::RecordBuilder| builder.draft().unwrap_err().code();
    assert_eq!(code(stop(json!({"x": 1.5}))), "LEDGER-RECORD-BODY");
    assert_eq!(code(stop(json!({"x": u64::MAX}))), "LEDGER-RECORD-BODY");
    assert_eq!(code(stop(json!([1]))), "LEDGER-RECORD-BODY");
    assert_eq!(code(stop(json!({"x": "\u{fffe}"}))), "LEDGER-RECORD-BODY");
    let envelope = "LEDGER-RECORD-ENVELOPE";
    assert_eq!(code(stop(json!({})).actor("a\"b", "")), envelope);
    assert_eq!(code(stop(json!({})).actor("a\nb", "")), envelope);
    assert_eq!(
        code(stop(json!({})).engine("a", "1").engine("a", "1")),
        envelope
    );
    let large = json!({"x": "y".repeat(MAX_RECORD)});
    assert_eq!(code(stop(large)), "LEDGER-RECORD-SIZE");
    for name in ["", "a b", "a+b", "a\"b", "a\u{a0}b"] {
        assert!(Origin::new(name).is_err(), "{name}");
    }
}

#[test]
fn the_largest_draft_still_seals_to_a_record() {
    let longest = Origin::new(&"o".repeat(255)).unwrap();
    let mut fits = 0;
    for length in (MAX_RECORD - 1200..MAX_RECORD).step_by(7) {
        let builder = Record::builder(RecordType::KeyRotation, json!({"x": "y".repeat(length)}));
        let Ok(draft) = builder.draft() else { continue };
        let stamp = Stamp {
            wall: u64::MAX,
            mono: u64::MAX,
        };
        Record::from_vec(draft.seal(&longest, u64::MAX, stamp)).unwrap();
        fits += 1;
    }
    assert!(fits > 10);
}

#[test]
fn every_type_has_a_name_of_its_own() {
    for kind in RecordType::ALL {
        assert_eq!(RecordType::from_name(kind.as_str()), Some(*kind));
    }
    assert_eq!(RecordType::ALL.len(), 34);
    let begin = Begin {
        trust_domain: "example.org".to_owned(),
        ledger_key: Base64(vec![1, 2, 3]),
        format: "v1".to_owned(),
    };
    let record = begin.record().seal(&origin(), 0, STAMP).unwrap();
    assert_eq!(record.kind().as_str(), "begin");
}

#[test]
fn the_tbs_of_a_sealed_issuance_is_found_whatever_its_texts_say() {
    let bait = r#"","tbs":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","body":{"kind":""#;
    let issuance = Issuance {
        spiffe_id: format!("spiffe://example.org/{bait}"),
        serial: bait.to_owned(),
        node: bait.to_owned(),
        policies: vec![bait.to_owned()],
        ..issuance()
    };
    let record = issuance.record().actor("a", "self");
    let record = record.seal(&origin(), 1, STAMP).unwrap();
    assert_eq!(Issuance::committed_tbs(record.bytes()), Some(issuance.tbs));
    let other = Stop {
        reason: bait.to_owned(),
    }
    .record()
    .actor("a", "self");
    let other = other.seal(&origin(), 1, STAMP).unwrap();
    assert_eq!(Issuance::committed_tbs(other.bytes()), None);
}
