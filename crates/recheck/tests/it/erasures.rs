//! An erasure that nobody signed, where two have to.

use crate::world::{LATER, World, authored, differs, signed_by};
use estate::{ApprovalSubject, GovernedChange, GovernedKind};
use ledger::body::{BlobRef, Body as _, ErasedItem, Erasure};
use ledger::{Decimal, HexDigest, RecordBuilder};
use recheck::{Outcome, Vouched, What};
use std::cell::RefCell;

const REASON: &str = "case 7";
const GONE: &[u8] = b"gone";

thread_local! {
    /// What the server records; whoever makes a world hands in functions.
    static RECORDED: RefCell<Option<Erasure>> = const { RefCell::new(None) };
}

fn record(_: &World) -> RecordBuilder {
    RECORDED.with_borrow(|erasure| erasure.clone().unwrap().record())
}

struct Signed {
    world: World,
    keys: [crypto::KeyPair; 2],
}

impl Signed {
    /// A world whose estate has two authors.
    fn new() -> Self {
        let (files, keys) = authored();
        let world = World {
            estate: files,
            later: vec![record],
            ..World::new()
        };
        Self { world, keys }
    }

    fn subject(&self) -> ApprovalSubject {
        let change = |of: String, before| GovernedChange {
            kind: GovernedKind::Erased,
            of,
            before,
            after: None,
        };
        let reference = self.world.reference();
        ApprovalSubject {
            trust_domain: "example.org".to_owned(),
            version: reference.version.to_string(),
            base: reference.version.to_string(),
            base_index: reference.index,
            changes: vec![
                change(
                    "opening of record 2".to_owned(),
                    Some(HexDigest::of(GONE).to_string()),
                ),
                change(format!("reason: {REASON}"), None),
            ],
        }
    }

    /// The record of an erasure for which these have signed `subject`.
    fn by(&mut self, who: &[usize], subject: &ApprovalSubject) -> Erasure {
        let bytes = subject.to_bytes().unwrap();
        let signatures = signed_by(who, &self.keys, subject);
        let erasure = Erasure {
            subject: Some(BlobRef::of(&bytes)),
            signatures,
            ..unsigned()
        };
        self.world.blobs.push(bytes);
        erasure
    }
}

fn unsigned() -> Erasure {
    Erasure {
        reason: REASON.to_owned(),
        by: "uid:0".to_owned(),
        erased: vec![ErasedItem {
            kind: "opening".to_owned(),
            sha256: HexDigest::of(GONE),
            record: Decimal(2),
        }],
        subject: None,
        signatures: Vec::new(),
    }
}

fn told(world: &World, erasure: Erasure) -> Outcome {
    RECORDED.set(Some(erasure));
    let item = world.item(What::Erasure);
    assert_eq!(item.index, LATER);
    item.outcome
}

#[test]
fn an_erasure_is_let_by_two_authors_who_signed_its_reason_and_its_contents() {
    let mut signed = Signed::new();
    let subject = signed.subject();
    let by_both = signed.by(&[0, 1], &subject);
    assert_eq!(told(&signed.world, by_both.clone()), Outcome::Recomputed);

    let mut other_reason = by_both.clone();
    other_reason.reason = "case 8".to_owned();
    let mut more = by_both.clone();
    more.erased[0].sha256 = HexDigest::of(b"another");
    let mut once = by_both.clone();
    once.signatures.pop();
    let mut twice = by_both.clone();
    twice.signatures[1] = twice.signatures[0].clone();
    let mut elsewhere = subject.clone();
    elsewhere.base_index += 1;
    let elsewhere = signed.by(&[0, 1], &elsewhere);
    let mut late = by_both;
    late.signatures[0].expires = 1;
    for (what, erasure) in [
        ("unsigned", unsigned()),
        ("another reason", other_reason),
        ("other contents", more),
        ("one", once),
        ("one twice", twice),
        ("another place", elsewhere),
        ("expired", late),
    ] {
        let told = told(&signed.world, erasure);
        assert!(matches!(told, Outcome::Differs(_)), "{what}: {told:?}");
    }
}

/// Nobody has to sign, and so nobody but the server says that it was let.
#[test]
fn where_no_two_authors_are_it_is_the_servers_word() {
    let world = World {
        later: vec![record],
        ..World::new()
    };
    let told = told(&world, unsigned());
    let Outcome::NotRecomputable(why) = told else {
        panic!("{told:?}");
    };
    assert!(why.contains("the server's word"), "{why}");
}

/// By the version that is in force stands who has to sign: without it nobody could say.
#[test]
fn an_estate_in_force_is_not_erased() {
    let erasure = |kind: &str, sha256, record| Erasure {
        erased: vec![ErasedItem {
            kind: kind.to_owned(),
            sha256,
            record: Decimal(record),
        }],
        ..unsigned()
    };
    let mut world = World {
        later: vec![record],
        ..World::new()
    };
    let gone = HexDigest::of(GONE);
    for erasure in [
        erasure("estate", gone, 0),
        erasure("estate", world.reference().version, 7),
        erasure("proof", world.reference().version, 7),
    ] {
        let why = differs(told(&world, erasure.clone()));
        assert!(why.contains("was in force"), "{erasure:?}: {why}");
    }
    assert!(matches!(
        told(&world, erasure("estate", gone, 1)),
        Outcome::NotRecomputable(_)
    ));
    // It says itself by which version it was let, or that there was none.
    world.unnamed = true;
    let why = differs(told(&world, unsigned()));
    assert!(why.contains("names no version of the estate"), "{why}");

    // The pack has the newest version's entry alone.
    let mut newer = World {
        later: vec![|world| world.version().record(), record],
        entry_alone: Some(LATER),
        ..World::new()
    };
    RECORDED.set(Some(erasure("estate", gone, LATER)));
    let why = differs(newer.item(What::Erasure).outcome);
    assert!(why.contains("was in force"), "{why}");
    newer.entry_alone = Some(0);
    newer.unnamed = true;
    let why = differs(newer.item(What::Erasure).outcome);
    assert!(why.contains("names no version of the estate"), "{why}");
}

/// A program that read `erased` alone took the server's word for what two authors are to sign.
#[test]
fn who_vouches_for_an_erasure_is_told() {
    let erased = |by_record| ledger::pack::Erased {
        origin: "example.org/server".to_owned(),
        index: 2,
        sha256: HexDigest::of(GONE),
        by_record,
        at: 0,
        by: "uid:0".to_owned(),
        reason: REASON.to_owned(),
    };
    let item = |index, checkpoint, what, outcome| recheck::Item {
        checkpoint,
        ledger: "example.org/server".to_owned(),
        index,
        what,
        outcome,
    };
    let rechecked = recheck::Rechecked(vec![
        item(7, 1, What::Decision, Outcome::Recomputed),
        item(
            7,
            0,
            What::Erasure,
            Outcome::NotRecomputable("no authors".to_owned()),
        ),
        item(8, 0, What::Erasure, Outcome::Recomputed),
    ]);
    for (by_record, vouched) in [
        (7, Vouched::Server),
        (8, Vouched::Authors),
        (9, Vouched::Server),
    ] {
        assert_eq!(
            rechecked.vouched(&erased(by_record)),
            vouched,
            "{by_record}"
        );
    }
}
