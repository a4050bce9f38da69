//! An approval of what an invariant loses that two authors have not signed.

use crate::world::{LATER, World, authored, differs, lacks, signed_by};
use estate::{ApprovalSubject, GovernedChange, GovernedKind};
use ledger::body::{BlobRef, Body as _, InvariantApproval, Proof};
use ledger::{Decimal, HexDigest, RecordBuilder};
use recheck::{Outcome, What};
use std::cell::RefCell;

const NEXT: &[u8] = b"the version that is to become current";

thread_local! {
    /// What the server records; whoever makes a world hands in functions.
    static RECORDED: RefCell<Option<InvariantApproval>> = const { RefCell::new(None) };
}

fn record(_: &World) -> RecordBuilder {
    RECORDED.with_borrow(|approval| approval.clone().unwrap().record())
}

fn proof_of_another(_: &World) -> RecordBuilder {
    let proof = Proof {
        version: HexDigest::of(b"another"),
        outcome: "proved".to_owned(),
        invariants: Vec::new(),
        blob: None,
        millis: 1,
        approval_index: Some(Decimal(LATER)),
    };
    proof.record()
}

fn told(world: &World, approval: InvariantApproval) -> Outcome {
    RECORDED.set(Some(approval));
    let item = world.item(What::Approval);
    assert_eq!(item.index, LATER);
    item.outcome
}

#[test]
fn an_approval_is_two_authors_who_signed_this_version_in_this_place() {
    let (files, keys) = authored();
    let mut world = World {
        estate: files,
        later: vec![record],
        ..World::new()
    };
    let base = world.reference();
    let subject = |base_index| ApprovalSubject {
        trust_domain: "example.org".to_owned(),
        version: HexDigest::of(NEXT).to_string(),
        base: base.version.to_string(),
        base_index,
        changes: vec![GovernedChange {
            kind: GovernedKind::Removed,
            of: "nobody reads cards".to_owned(),
            before: Some("forbidden".to_owned()),
            after: None,
        }],
    };
    let mut by = |who: &[usize], subject: &ApprovalSubject| {
        let bytes = subject.to_bytes().unwrap();
        world.blobs.push(bytes.clone());
        InvariantApproval {
            version: HexDigest::of(NEXT),
            base: Some(base.version),
            base_index: Decimal(base.index),
            subject: BlobRef::of(&bytes),
            changes: 1,
            signatures: signed_by(who, &keys, subject),
        }
    };
    let good = by(&[0, 1], &subject(base.index));
    let alone = by(&[0], &subject(base.index));
    let twice = by(&[1, 1], &subject(base.index));
    let elsewhere = by(&[0, 1], &subject(base.index + 1));
    assert_eq!(told(&world, good.clone()), Outcome::Recomputed);

    let mut nobody = good.clone();
    nobody.signatures.clear();
    let mut late = good.clone();
    late.signatures[0].expires = 1;
    let mut forged = good.clone();
    forged.signatures[0].signature = forged.signatures[1].signature.clone();
    let mut other = good.clone();
    other.version = HexDigest::of(b"another");
    let mut more = good.clone();
    more.changes = 2;
    let mut first = good.clone();
    first.base = None;
    for (what, approval) in [
        ("one", alone),
        ("one twice", twice),
        ("another place", elsewhere),
        ("nobody", nobody),
        ("expired", late),
        ("another signature", forged),
        ("another version", other),
        ("more changes", more),
        ("no version before", first),
    ] {
        let told = told(&world, approval);
        assert!(matches!(told, Outcome::Differs(_)), "{what}: {told:?}");
    }
    let mut unshown = good.clone();
    unshown.subject = BlobRef::of(b"not in the pack");
    let why = lacks(told(&world, unshown));
    assert!(why.contains("what two authors signed"), "{why}");

    // What they signed is said of a version that they did not.
    world.later = vec![record, proof_of_another];
    let why = differs(told(&world, good.clone()));
    assert!(why.contains("which rests on it"), "{why}");

    // Those of a version that others had replaced long before.
    world.later = vec![|world| world.version().record(), record];
    world.late = 601_000;
    world.entry_alone = Some(LATER);
    RECORDED.set(Some(good));
    let why = differs(world.item(What::Approval).outcome);
    assert!(why.contains("a newer one, record 3"), "{why}");
}
