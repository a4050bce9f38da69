//! Issuances, and the verdicts that they rest on.

use crate::world::{
    ISSUANCE, LATER, World, differs, facts, issuance, lacks, machine, opening, verdict,
};
use facts::{Source, Timestamp, names};
use ledger::body::{Body, Evidence, FactValue, SvidKind, VerdictOutcome};
use ledger::lineage::{self, Link};
use ledger::{Checkpoint, Decimal, HexDigest, LedgerSigner};
use recheck::{Outcome, Rechecked, What};

fn told(world: &World) -> Outcome {
    world.item(What::Issuance).outcome
}

/// A world that issued on these facts.
fn on(facts: &facts::FactSet) -> World {
    let mut world = World::new();
    let opening = opening(facts);
    world.issuance = issuance(&opening);
    world.blobs.push(opening);
    world
}

#[test]
fn an_issuance_that_the_estate_grants_is_recomputed() {
    let world = World::new();
    assert_eq!(told(&world), Outcome::Recomputed);
    let token = lacks(world.item(What::Verdict).outcome);
    assert!(token.contains("proves nothing of the machine"), "{token}");
}

#[test]
fn an_issuance_that_the_estate_does_not_grant_is_named() {
    let mut world = on(&facts(1001));
    world
        .issuance
        .facts
        .insert("workload.uid".to_owned(), FactValue::Integer(1001));
    let why = differs(told(&world));
    assert!(
        why.contains("does not let the workload become payments/api"),
        "{why}"
    );
    let mut world = World::new();
    world.issuance.spiffe_id = "spiffe://example.org/people/ada".to_owned();
    differs(told(&world));
    let mut world = World::new();
    world.issuance.policies = vec!["another".to_owned()];
    let why = differs(told(&world));
    assert!(
        why.contains("allows it by \"payments is uid 1000\""),
        "{why}"
    );
}

#[test]
fn a_fact_that_is_shown_otherwise_than_it_was_committed_to_is_named() {
    let mut world = World::new();
    world
        .issuance
        .facts
        .insert("workload.uid".to_owned(), FactValue::Integer(0));
    let why = differs(told(&world));
    assert!(why.contains("shows workload.uid otherwise"), "{why}");
}

/// The machine proved nothing of the kind.
#[test]
fn what_is_said_of_the_machine_is_what_its_verdict_says() {
    let at = Timestamp::EPOCH;
    let mut invented = facts(1000);
    invented.state(names::MACHINE_BOOT_SECURE_BOOT, true, Source::Hardware, at);
    let why = differs(told(&on(&invented)));
    assert!(why.contains("says machine.boot.secure_boot"), "{why}");

    let mut moved = facts(1000);
    moved.state(names::MACHINE_POOL, "vault", Source::Verified, at);
    let why = differs(told(&on(&moved)));
    assert!(why.contains("pool \"vault\""), "{why}");

    // What an agent reads in its kernel is its own word, and no verdict's.
    let mut enforced = facts(1000);
    enforced.state(names::MACHINE_ENFORCEMENT, "enforced", Source::Verified, at);
    assert_eq!(told(&on(&enforced)), Outcome::Recomputed);

    // A token may be of facts that an earlier verdict stated.
    let mut world = on(&invented);
    world.issuance.kind = SvidKind::Jwt;
    assert!(lacks(told(&world)).contains("earlier verdict"));
}

#[test]
fn an_issuance_rests_on_an_affirmed_verdict_of_its_machine() {
    let mut world = World::new();
    world.issuance.node = "m2".to_owned();
    let why = differs(told(&world));
    assert!(why.contains("affirms nothing of the machine m2"), "{why}");
    let mut world = World::new();
    world.verdict.outcome = VerdictOutcome::Refused;
    differs(told(&world));
}

#[test]
fn what_lacks_is_told() {
    let mut world = World::new();
    world.blobs.remove(1);
    assert!(lacks(told(&world)).contains("the opening of what it commits to"));
    let mut world = World::new();
    world.blobs.remove(0);
    assert!(lacks(told(&world)).contains("the facts of the verdict"));
}

/// What the ledger says to be erased lacks for that reason.
#[test]
fn what_was_erased_is_told_with_the_record_that_says_so() {
    for (at, what) in [
        (1, "the opening of what it commits to"),
        (0, "the facts of the verdict"),
    ] {
        let mut world = World::new();
        let gone = world.blobs.remove(at);
        world.erased.push(ledger::pack::Erased {
            origin: "example.org/server".to_owned(),
            index: ISSUANCE,
            sha256: ledger::HexDigest::of(&gone),
            by_record: 99,
            at: 0,
            by: "uid:0".to_owned(),
            reason: "case 7".to_owned(),
        });
        let why = lacks(told(&world));
        assert!(why.contains(what), "{why}");
        assert!(
            why.contains("erased by the server's record 99 on 1970-01-01"),
            "{why}"
        );
        assert!(why.ends_with("by uid:0: case 7"), "{why}");
    }
}

#[test]
fn hardware_without_evidence_is_named() {
    let mut facts = machine();
    facts.state(
        names::MACHINE_TPM_KIND,
        "discrete",
        Source::Hardware,
        Timestamp::EPOCH,
    );
    let mut world = World::new();
    let (verdict, blob) = verdict(&facts);
    world.verdict = verdict;
    world.blobs.push(blob);
    let why = differs(world.item(What::Verdict).outcome);
    assert!(
        why.contains("states machine.tpm.kind and rests on no evidence"),
        "{why}"
    );
}

/// A server that grants itself afterwards what it issued.
#[test]
fn what_an_issuance_rests_on_was_recorded_before_it() {
    let mut world = World::new();
    world.later = vec![|world| world.version().record()];
    for index in [LATER, ISSUANCE] {
        world.issued_under = index;
        let why = differs(told(&world));
        assert!(
            why.contains(&format!("record {index}, which is not before it")),
            "{why}"
        );
    }
    let mut world = World::new();
    world.later = vec![|world| world.verdict.record()];
    world.issuance.verdict = Decimal(LATER);
    let why = differs(told(&world));
    assert!(why.contains("which is not before it"), "{why}");
}

/// A server that goes on by a version that gave more.
#[test]
fn an_estate_that_was_superseded_long_before_is_named() {
    let mut world = World::new();
    world.later = vec![|world| world.version().record(), |world| {
        world.issuance.record()
    }];
    let told = |world: &World| {
        let Rechecked(items) = world.recheck(Vec::new());
        let mut items = items.into_iter();
        items.find(|item| item.index == LATER + 1).unwrap().outcome
    };
    world.late = 600_000;
    assert_eq!(told(&world), Outcome::Recomputed);
    world.late = 601_000;
    let why = differs(told(&world));
    assert!(
        why.contains("server's record 0, and a newer one, record 3"),
        "{why}"
    );
    // The pack need not have that record: it has the entry.
    world.entry_alone = Some(LATER);
    let why = differs(told(&world));
    assert!(why.contains("a newer one, record 3"), "{why}");
}

/// No machine, and so no verdict and no policy: whoever was named so got what he liked.
#[test]
fn what_was_issued_to_no_machine_is_the_servers_own() {
    let mut world = World::new();
    world.issuance.node.clear();
    let why = differs(told(&world));
    assert!(why.contains("it was issued to no machine"), "{why}");
    world.issuance.spiffe_id = "spiffe://example.org/trilith/server".to_owned();
    let why = lacks(told(&world));
    assert!(why.contains("to itself"), "{why}");
}

/// A machine of which the world's verdict says that it was asked with the first record.
fn asked(world: &mut World) {
    let asked = Checkpoint {
        origin: world.signer.key().origin().clone(),
        size: 1,
        root: [7; 32],
    };
    let note = world.signer.sign(&asked).unwrap();
    for (kind, bytes) in [
        ("tpm-quote", vec![1]),
        ("tpm-ak-public", vec![2]),
        ("join-nonce", [note.as_bytes(), &[0; 32]].concat()),
        ("join-channel", vec![0; 64]),
    ] {
        world.verdict.evidence.push(Evidence {
            kind: kind.to_owned(),
            sha256: HexDigest::of(&bytes),
            length: Decimal(bytes.len() as u64),
        });
        world.blobs.push(bytes);
    }
    world.later = vec![|world| world.verdict.record()];
}

/// Whoever trusts the first key has the links of the pack, and the machine was asked under the key that they lead to.
#[test]
fn a_machine_that_was_asked_under_the_newest_key_was_asked() {
    let mut world = World::new();
    let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
    let next = LedgerSigner::new("example.org/server@2", std::sync::Arc::new(key)).unwrap();
    let told = |world: &World| {
        let Rechecked(items) = world.recheck(Vec::new());
        let item = items.into_iter().find(|item| item.index == LATER);
        differs(item.unwrap().outcome)
    };
    let link = Link::sign(&world.signer, &next, (1, [7; 32]), "a test").unwrap();
    let followed = lineage::follow(&world.trusted, &[link]).unwrap();
    world.signer = next.with_lineage(followed).unwrap();
    asked(&mut world);
    let why = told(&world);
    assert!(
        !why.contains("no checkpoint of the server's ledger"),
        "{why}"
    );
    // A stranger's key is none of them.
    let mut world = World::new();
    let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
    let stranger = LedgerSigner::new("example.org/server", std::sync::Arc::new(key)).unwrap();
    let own = std::mem::replace(&mut world.signer, stranger);
    asked(&mut world);
    world.signer = own;
    let why = told(&world);
    assert!(
        why.contains("no checkpoint of the server's ledger"),
        "{why}"
    );
}

/// A server that has an old answer of a machine, and signs that it was given now.
#[test]
fn an_answer_to_an_old_question_is_named() {
    let mut world = World::new();
    asked(&mut world);
    let told = |world: &World| {
        let Rechecked(items) = world.recheck(Vec::new());
        let item = items.into_iter().find(|item| item.index == LATER);
        differs(item.unwrap().outcome)
    };
    world.late = 600_000;
    let why = told(&world);
    assert!(!why.contains("was asked long before"), "{why}");
    world.late = 601_000;
    let why = told(&world);
    assert!(
        why.contains("was asked long before") && why.contains("record 1 is of"),
        "{why}"
    );
}
