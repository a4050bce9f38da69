//! Packs whose records and proofs are good, and whose own entries say that something else was there.

use crate::completeness::without_exactly;
use crate::judges::verify;
use crate::packs::{API, GATEWAY, HELPER, World, accesses, anchor, intent, start, world};
use crate::support::{Memory, SERVER, STAMP};
use ledger::body::{BlobRef, Body as _, Misbehaviour, Recovery, SignedHead};
use ledger::pack::{Doubt, Failure, Question, Report};
use ledger::{Base64, Decimal, Digest, Record, RecordBuilder};

/// Another history of the world's gateway, of which the first records are the same.
fn other(world: &World, seed: u8, same: usize, all: usize) -> Memory {
    let mut other = Memory::new(GATEWAY, seed);
    for bytes in world.gateway.records.iter().take(same) {
        other.append_bytes(bytes.clone());
    }
    while other.records.len() < all {
        let harmless = intent("s0", "menus").record().actor(API, "x509").at(STAMP);
        other.append(harmless);
    }
    other
}

fn judged(world: &World, question: &Question) -> Result<Report, Failure> {
    verify(&world.pack(question, true).build(), &world.trust)
}

/// What a gateway had deleted was in four anchored records; three of another history were anchored behind it, and the
/// pack had those alone and was called complete.
#[test]
fn an_older_anchor_of_another_history_is_no_less_an_anchor() {
    let (first, newest) = (6, 9);
    for (what, seed, same, all, at) in [
        ("fewer records", 2, 3, 4, newest),
        ("others from the beginning", 2, 0, 8, first),
        ("others from the fourth on", 2, 3, 9, 7),
        ("another key", 9, 8, 8, newest),
    ] {
        let mut world = world();
        world.gateway = other(&world, seed, same, all);
        world.anchor(1);
        let failure = judged(&world, &accesses(API)).expect_err(what);
        let told = (failure.code, failure.section.as_str(), failure.record);
        let section = format!("record/0/{at}");
        assert_eq!(told, ("PACK-ANCHOR", section.as_str(), Some(at)), "{what}");
        // Who asks for nothing of gateways is told nothing of them.
        let serial = "a1".to_owned();
        let report = judged(&world, &Question::Issuance { serial }).unwrap();
        assert!(report.is_complete(), "{what}: {:?}", report.doubts);
    }
    let mut grown = world();
    let more = other(&grown, 2, 8, 10);
    grown.gateway = more;
    grown.anchor(1);
    let report = judged(&grown, &accesses(API)).unwrap();
    assert!(report.is_complete(), "{:?}", report.doubts);
}

/// `record` with a field that no version has yet.
fn newer(ledger: &Memory, record: RecordBuilder) -> Vec<u8> {
    let seq = ledger.records.len() as u64;
    let record = record.at(STAMP).seal(ledger.origin(), seq, STAMP).unwrap();
    let text = String::from_utf8(record.into_bytes()).unwrap();
    let text = format!("{},\"zz\":\"1\"}}}}", text.strip_suffix("}}").unwrap());
    Record::parse(text.as_bytes()).unwrap();
    text.into_bytes()
}

/// The anchor of a whole ledger was passed over, and the pack called complete without it.
#[test]
fn an_entry_that_says_more_than_its_type_has_is_not_passed_over() {
    let mut world = world();
    let mut third = Memory::new("example.org/gateway/db3", 5);
    third.append(intent("s9", "cards").record().actor(API, "x509").at(STAMP));
    let unread = newer(&world.server, anchor(&third).record());
    world.server.append_bytes(unread);
    let report = judged(&world, &accesses(API)).unwrap();
    let (origin, index) = (SERVER.to_owned(), 9);
    assert_eq!(report.doubts, [Doubt::Unreadable { origin, index }]);
    assert!(!report.extents[0].complete);
}

/// Every pack of one identity was refused for one record of one gateway.
#[test]
fn a_record_that_cannot_be_read_takes_nothing_from_those_that_can() {
    let mut world = world();
    let spoilt = start(HELPER, "s7", 5).record().actor(HELPER, "x509");
    let spoilt = newer(&world.gateway, spoilt);
    world.gateway.append_bytes(spoilt);
    world.anchor(1);
    let report = judged(&world, &accesses(HELPER)).unwrap();
    let (origin, index) = (GATEWAY.to_owned(), 8);
    assert_eq!(report.doubts, [Doubt::Unreadable { origin, index }]);
    let held = report.records.iter().filter(|item| item.checkpoint == 1);
    let held: Vec<u64> = held.map(|item| item.index).collect();
    assert_eq!(held, [3, 4, 5]);
}

fn misbehaved(kind: &str, proved: bool, of: &Memory) -> Misbehaviour {
    let head = |size: u64| SignedHead {
        size: Decimal(size),
        root: Digest([7; 32]),
        note: BlobRef::of(&[u8::try_from(size).unwrap()]),
    };
    Misbehaviour {
        origin: of.origin().to_string(),
        ledger_key: Base64(of.key().public_key().spki_der().to_vec()),
        by: API.to_owned(),
        kind: kind.to_owned(),
        proved,
        first: head(1),
        second: head(2),
        detail: String::new(),
    }
}

/// The server had recorded that the gateway's key signed two histories, and the pack of one of them was complete.
#[test]
fn a_key_that_signed_two_histories_leaves_a_doubt_about_the_one_that_is_shown() {
    let elsewhere = Memory::new("example.org/gateway/db7", 7);
    for (kind, proved, own, doubted) in [
        ("fork", true, true, true),
        ("succession", true, true, true),
        // What nobody but the server says, or of what a link had ended.
        ("rollback", false, true, false),
        ("ended", true, true, false),
        ("fork", true, false, false),
    ] {
        let mut world = world();
        let of = if own { &world.gateway } else { &elsewhere };
        let told = misbehaved(kind, proved, of).record();
        world.append(0, told);
        let report = judged(&world, &accesses(API)).unwrap();
        let (origin, index) = (GATEWAY.to_owned(), 9);
        let expected = doubted.then_some(Doubt::Misbehaved { origin, index });
        assert_eq!(report.doubts, Vec::from_iter(expected), "{kind} {own}");
        assert_eq!(report.extents[1].complete, !doubted, "{kind} {own}");
    }
}

#[test]
fn a_recovery_of_the_servers_ledger_leaves_a_doubt_about_what_was_in_it() {
    let mut world = world();
    let recovery = Recovery {
        old_size: Decimal(20),
        old_root: Digest([1; 32]),
        old_checkpoint: None,
        new_size: Decimal(9),
        new_root: Digest(world.server.checkpoint().root),
        reason: "restored".to_owned(),
        by: "uid:0".to_owned(),
        obeyed: None,
    };
    world.append(0, recovery.record());
    let serial = "a1".to_owned();
    for question in [accesses(API), Question::Issuance { serial }] {
        let report = judged(&world, &question).unwrap();
        let (origin, index) = (SERVER.to_owned(), 9);
        assert_eq!(report.doubts, [Doubt::Recovered { origin, index }]);
    }
    // One record is there, whatever else was.
    let (ledger, index) = ("db1".to_owned(), 1);
    let report = judged(&world, &Question::Record { ledger, index }).unwrap();
    assert!(report.is_complete(), "{:?}", report.doubts);
}

#[test]
fn what_touched_a_column_answers_a_question_about_it() {
    let mut world = world();
    for columns in ["number", "*", "email"] {
        let mut read = intent("s0", "cards");
        read.actions[0].columns = vec![format!("Column::\"shop/public/cards/{columns}\"")];
        world.append(1, read.record().actor(API, "x509"));
    }
    world.anchor(1);
    let question = Question::Access {
        identity: API.to_owned(),
        resource: Some("shop/public/cards/number".to_owned()),
        newest: None,
    };
    let pack = world.pack(&question, true);
    let report = verify(&pack.build(), &world.trust).unwrap();
    assert!(report.is_complete(), "{:?}", report.doubts);
    let held = report.records.iter().filter(|item| item.checkpoint == 1);
    let held: Vec<u64> = held.map(|item| item.index).collect();
    assert_eq!(held, [0, 7, 8, 9]);
    let cut = without_exactly(&pack, "record/1/8");
    let failure = verify(&cut, &world.trust).unwrap_err();
    assert_eq!(failure.code, "PACK-RECORD-MISSING");
}
