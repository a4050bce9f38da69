//! What is somebody's, and what of it is expected.

use super::*;
use ledger::body::{self, Body as _};
use ledger::{Decimal, Origin, RecordBuilder, Stamp};
use std::collections::BTreeMap;

const ORIGIN: &str = "example.org/server";
/// Thursday, 19 November 2026, 22:02:49 UTC.
const WALL: u64 = 1_795_125_769_123;

fn sealed(record: RecordBuilder) -> Vec<u8> {
    let stamp = Stamp {
        wall: WALL,
        mono: 1,
    };
    let record = record.seal(&Origin::new(ORIGIN).unwrap(), 3, stamp);
    record.unwrap().into_bytes()
}

fn session(identity: &str, resource: &str) -> Vec<u8> {
    let start = body::SessionStart {
        session: "s".to_owned(),
        spiffe_id: identity.to_owned(),
        serial: "01".to_owned(),
        issuance: Some(Decimal(4)),
        resource: resource.to_owned(),
        role: "r".to_owned(),
        application: String::new(),
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    sealed(start.record().actor(identity, "x509:01"))
}

fn intent(resources: &[&str], cut: bool) -> Vec<u8> {
    intent_to(resources, &[], cut)
}

fn intent_to(resources: &[&str], columns: &[&str], cut: bool) -> Vec<u8> {
    let more = cut.then_some(body::More {
        count: Decimal(7),
        sha256: ledger::HexDigest([7; 32]),
    });
    let intent = body::Intent {
        session: "s".to_owned(),
        statement: "f".to_owned(),
        actions: vec![body::ActionOn {
            action: "write".to_owned(),
            resources: resources.iter().map(|name| (*name).to_owned()).collect(),
            more,
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
        }],
        decision: "s.1".to_owned(),
        policies: Vec::new(),
        coverage: body::Coverage::Complete,
        more_policies: None,
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
    };
    sealed(intent.record().actor("spiffe://example.org/api", "x509:01"))
}

fn watch(text: &str) -> Vec<Watch> {
    #[derive(serde::Deserialize)]
    struct File {
        watch: Vec<WatchConfig>,
    }
    let text = format!("[[watch]]\nname = \"w\"\n{text}");
    watches(&toml::from_str::<File>(&text).unwrap().watch).unwrap()
}

fn told(watches: &[Watch], bytes: &[u8]) -> Vec<String> {
    let told = judge(watches, ORIGIN, 3, bytes, &Erased::default()).into_iter();
    told.flat_map(|told| told.about).collect()
}

#[test]
fn a_record_is_somebodys_by_what_it_names() {
    let record = session("spiffe://example.org/api", "postgres:shop");
    for (owned, expected) in [
        (
            "identities = [\"spiffe://example.org/api\"]",
            vec![
                "identity spiffe://example.org/api",
                "actor spiffe://example.org/api",
            ],
        ),
        ("identities = [\"spiffe://example.org/ap\"]", vec![]),
        (
            "identities = [\"spiffe://example.org/ap*\"]",
            vec![
                "identity spiffe://example.org/api",
                "actor spiffe://example.org/api",
            ],
        ),
        (
            "resources = [\"postgres:*\"]",
            vec!["resource postgres:shop"],
        ),
        ("resources = [\"postgres:shop/\"]", vec![]),
        ("machines = [\"*\"]", vec![]),
    ] {
        assert_eq!(told(&watch(owned), &record), expected, "{owned}");
    }
}

#[test]
fn a_column_is_watched_by_itself_and_expected_with_its_table() {
    let table = ["Table::\"shop/public/cards\""];
    let column = "Column::\"shop/public/cards/number\"";
    for (owned, columns, expected) in [
        (
            "shop/public/cards",
            &[column][..],
            vec!["resource shop/public/cards"],
        ),
        (
            "shop/public/cards/number",
            &[column],
            vec!["column shop/public/cards/number"],
        ),
        ("shop/public/cards/id", &[column], vec![]),
        // Any of them, and more than there is room for.
        (
            "shop/public/cards/id",
            &["Column::\"shop/public/cards/*\""],
            vec!["column shop/public/cards/*"],
        ),
        (
            "shop/public/cards/id",
            &["Column::\"*\""],
            vec!["resources that the record has no room for"],
        ),
    ] {
        let record = intent_to(&table, columns, false);
        let told = told(&watch(&format!("resources = [\"{owned}\"]")), &record);
        assert_eq!(told, expected, "{owned} {columns:?}");
    }
    // Who may write the table is expected to write its columns.
    let allowed =
        "resources = [\"shop/public/*\"]\n[[watch.allow]]\nresources = [\"shop/public/cards\"]";
    let record = intent_to(&table, &[column], false);
    assert_eq!(told(&watch(allowed), &record), Vec::<String>::new());
}

#[test]
fn a_resource_is_one_however_it_is_written() {
    for owned in [
        "resources = [\"shop/public/cards\"]",
        "resources = [\"shop/public/*\"]",
        "resources = ['Table::\"shop/public/cards\"']",
    ] {
        for named in [
            "Table::\"shop/public/cards\"",
            "table shop/public/cards",
            "shop/public/cards",
        ] {
            let told = told(&watch(owned), &intent(&[named], false));
            assert_eq!(told, ["resource shop/public/cards"], "{owned} {named}");
        }
        let other = intent(&["Table::\"shop/public/cards2\""], false);
        assert_eq!(told(&watch(owned), &other).is_empty(), !owned.contains('*'));
    }
}

#[test]
fn a_list_that_was_cut_may_have_held_anything() {
    let owned = watch("resources = [\"shop/*\"]\n[[watch.allow]]\nresources = [\"shop/public/*\"]");
    assert_eq!(
        told(&owned, &intent(&["shop/public/orders"], false)),
        Vec::<String>::new()
    );
    assert_eq!(
        told(&owned, &intent(&["other/x"], false)),
        Vec::<String>::new()
    );
    assert_eq!(
        told(&owned, &intent(&["shop/public/orders"], true)).len(),
        2
    );
    assert_eq!(
        told(&owned, &intent(&["other/x"], true)),
        ["resources that the record has no room for"]
    );
    // Every one of them has to be expected.
    assert_eq!(
        told(
            &owned,
            &intent(&["shop/public/orders", "shop/secret/keys"], false)
        )
        .len(),
        2
    );
}

#[test]
fn a_rule_takes_a_record_if_all_of_it_holds() {
    let record = session("spiffe://example.org/api", "postgres:shop");
    for (rule, takes) in [
        ("records = [\"session-start\"]", true),
        ("records = [\"intent\", \"session-start\"]", true),
        ("records = [\"intent\"]", false),
        ("resources = [\"postgres:shop\"]", true),
        ("resources = [\"postgres:other\"]", false),
        ("identities = [\"spiffe://example.org/*\"]", true),
        ("actors = [\"spiffe://example.org/api\"]", true),
        ("actors = [\"spiffe://example.org/b*\"]", false),
        // What the record does not say does not hold.
        ("machines = [\"*\"]", false),
        (
            "code = [\"0707070707070707070707070707070707070707070707070707070707070707\"]",
            false,
        ),
        (
            "issuers = [\"0707070707070707070707070707070707070707070707070707070707070707\"]",
            false,
        ),
        ("hours = [\"22:00-22:03\"]", true),
        ("hours = [\"22:03-22:02\"]", false),
        ("hours = [\"22:02-22:03\"]", true),
        ("hours = [\"20:00-02:00\"]", true),
        ("hours = [\"23:00-22:03\"]", true),
        ("hours = [\"06:00-22:02\"]", false),
        ("hours = [\"00:00-24:00\"]", true),
        ("hours = [\"01:00-02:00\", \"22:00-24:00\"]", true),
        ("days = [\"thu\"]", true),
        ("days = [\"wed\", \"fri\"]", false),
        ("days = [\"thu\"]\nrecords = [\"intent\"]", false),
    ] {
        let owned = watch(&format!("identities = [\"*\"]\n[[watch.allow]]\n{rule}"));
        assert_eq!(told(&owned, &record).is_empty(), takes, "{rule}");
    }
}

#[test]
fn issuances_say_who_issued_what_runs_and_where() {
    let issuance = body::Issuance {
        kind: body::SvidKind::X509,
        spiffe_id: "spiffe://example.org/api".to_owned(),
        serial: "01".to_owned(),
        tbs: ledger::Digest([1; 32]),
        issuer: ledger::Digest([7; 32]),
        key: ledger::Digest([2; 32]),
        not_before: 1,
        not_after: 2,
        node: "m1".to_owned(),
        verdict: Decimal(1),
        evidence_time: 1,
        policies: Vec::new(),
        commit: ledger::Commitment::new(&ledger::Salt([7; 16]), "facts", b"{}"),
        facts: [(
            facts::names::CODE_SHA256.to_owned(),
            body::FactValue::Text("07".repeat(32)),
        )]
        .into(),
        replaces: None,
        ar4si: None,
    };
    let record = sealed(
        issuance
            .record()
            .actor("spiffe://example.org/trilith/node/m1", "x509:02"),
    );
    let digest = "07".repeat(32);
    for (rule, takes) in [
        (format!("code = [\"{digest}\"]"), true),
        (format!("issuers = [\"{}\"]", digest.to_uppercase()), true),
        (format!("code = [\"{}\"]", "08".repeat(32)), false),
        ("machines = [\"m1\"]".to_owned(), true),
        ("machines = [\"m\"]".to_owned(), false),
        (
            "identities = [\"spiffe://example.org/api\"]".to_owned(),
            true,
        ),
        (
            "actors = [\"spiffe://example.org/trilith/node/m1\"]".to_owned(),
            true,
        ),
    ] {
        let owned = watch(&format!("machines = [\"m1\"]\n[[watch.allow]]\n{rule}"));
        assert_eq!(told(&owned, &record).is_empty(), takes, "{rule}");
    }
}

/// Verdicts spell a node as its SPIFFE ID, issuances by its name; both are the machine.
#[test]
fn a_machine_is_told_however_a_record_spells_it() {
    let verdict = |node: &str| {
        let verdict = body::Verdict {
            node: node.to_owned(),
            outcome: body::VerdictOutcome::Affirmed,
            facts_blob: None,
            evidence: Vec::new(),
            facts: Vec::new(),
            findings: Vec::new(),
            ar4si: None,
        };
        sealed(verdict.record())
    };
    let issuance = |node: &str| {
        let issuance = body::Issuance {
            kind: body::SvidKind::X509,
            spiffe_id: "spiffe://example.org/api".to_owned(),
            serial: "01".to_owned(),
            tbs: ledger::Digest([1; 32]),
            issuer: ledger::Digest([7; 32]),
            key: ledger::Digest([2; 32]),
            not_before: 1,
            not_after: 2,
            node: node.to_owned(),
            verdict: Decimal(1),
            evidence_time: 1,
            policies: Vec::new(),
            commit: ledger::Commitment::new(&ledger::Salt([7; 16]), "facts", b"{}"),
            facts: BTreeMap::new(),
            replaces: None,
            ar4si: None,
        };
        sealed(issuance.record())
    };
    let (name, id) = ("pay-1", "spiffe://example.org/trilith/node/pay-1");
    let records = [verdict(name), verdict(id), issuance(name), issuance(id)];
    for record in &records {
        for owned in ["pay-*", "pay-1", id, "spiffe://example.org/trilith/node/p*"] {
            let owned = watch(&format!("machines = [\"{owned}\"]"));
            assert_eq!(told(&owned, record), ["machine pay-1"]);
        }
        let allowed = watch("machines = [\"pay-*\"]\n[[watch.allow]]\nmachines = [\"pay-1\"]");
        assert_eq!(told(&allowed, record), Vec::<String>::new());
        let other = watch("machines = [\"example*\", \"ay-1\"]");
        assert_eq!(told(&other, record), Vec::<String>::new());
    }
}

/// A type of a later version, another ledger's record, or a body in another form: told, once.
#[test]
fn what_cannot_be_read_is_told_to_one_watch_and_not_passed_over() {
    let both = [watch("machines = [\"m1\"]"), watch("identities = [\"x\"]")].concat();
    let record = String::from_utf8(session("spiffe://example.org/api", "r")).unwrap();
    for (from, to) in [
        ("session-start", "session-begin"),
        ("example.org/server", "example.org/other"),
        ("\"role\":\"r\",", ""),
        (
            "{\"session\":\"s\",\"spiffe_id\":\"spiffe://example.org/api\"",
            "{\"spiffe_id\":\"spiffe://example.org/api\",\"session\":\"s\"",
        ),
    ] {
        let changed = record.replacen(from, to, 1);
        assert_ne!(changed, record);
        let told = judge(&both, ORIGIN, 3, changed.as_bytes(), &Erased::default());
        assert_eq!(told.len(), 1, "{to}");
        assert_eq!(told[0].record_type, None);
    }
    assert_eq!(
        judge(&both, ORIGIN, 3, &[0xff; 20_000], &Erased::default())[0].text,
        None
    );
}
