//! A key that signed two histories: what two notes show by themselves, and what a pack says that tells of them.

use crate::judges::verify;
use crate::packs::{bare, world};
use crate::support::{Memory, SERVER, cosigned, signer, witness};
use ledger::body::{BlobRef, Body as _, Misbehaviour as Told, SignedHead};
use ledger::misbehaviour::{self, Misbehaviour, NotMisbehaviour};
use ledger::pack::{Doubt, PackBuilder, Question};
use ledger::{Base64, Checkpoint, Code as _, Decimal, Digest, HexDigest, merkle};

const GATEWAY: &str = "example.org/gateway/db7";

fn ledger(records: &[&str]) -> Memory {
    let mut ledger = Memory::new(GATEWAY, 7);
    for record in records {
        ledger.append_bytes(record.as_bytes().to_vec());
    }
    ledger
}

#[test]
fn two_roots_of_one_size_prove_a_fork_and_nothing_else_proves_itself() {
    let (one, two) = (ledger(&["a", "b"]), ledger(&["a", "c"]));
    let longer = ledger(&["a", "b", "c"]);
    let key = one.key();
    let judge = |first: &Memory, second: &Memory, proof: &[_]| {
        misbehaviour::judge(key, &first.note(), &second.note(), proof).map(|(kind, _)| kind)
    };
    assert_eq!(judge(&one, &two, &[]), Ok(Misbehaviour::Fork));
    assert_eq!(judge(&longer, &one, &[]), Ok(Misbehaviour::Rollback));
    assert_eq!(judge(&two, &longer, &[]), Ok(Misbehaviour::Unproven));
    let Ok(proof) = merkle::consistency_proof(2, 3, &longer);
    let proof = proof.unwrap();
    assert_eq!(judge(&two, &longer, &proof), Ok(Misbehaviour::Unproven));
    // There is nothing to blame.
    assert_eq!(
        judge(&one, &one, &[]),
        Err(NotMisbehaviour::Same { size: 2 })
    );
    assert_eq!(
        judge(&one, &longer, &proof),
        Err(NotMisbehaviour::Extends { size: 2 })
    );
    assert_eq!(
        judge(&ledger(&[]), &longer, &[]),
        Err(NotMisbehaviour::Extends { size: 0 })
    );
    let proving: Vec<Misbehaviour> = Misbehaviour::ALL
        .into_iter()
        .filter(|kind| kind.proves_itself())
        .collect();
    let of_links = [Misbehaviour::Ended, Misbehaviour::Succession];
    assert_eq!(proving[0], Misbehaviour::Fork);
    assert_eq!(proving[1..], of_links);
    for kind in Misbehaviour::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
}

#[test]
fn only_what_the_key_signed_for_its_own_ledger_is_held_against_it() {
    let one = ledger(&["a", "b"]);
    let key = one.key();
    let fork = |origin: &str, seed: u8| {
        let signer = signer(origin, seed);
        let origin = signer.key().origin().clone();
        signer
            .sign(&Checkpoint {
                origin,
                size: 2,
                root: [9; 32],
            })
            .unwrap()
    };
    let code = |first: &str, second: &str| {
        misbehaviour::judge(key, first, second, &[])
            .unwrap_err()
            .code()
    };
    assert_eq!(code(&one.note(), &fork(GATEWAY, 8)), "LEDGER-NOTE-UNSIGNED");
    assert_eq!(code(&fork(SERVER, 7), &one.note()), "LEDGER-NOTE-UNSIGNED");
    assert_eq!(code(&one.note(), "no note"), "LEDGER-NOTE-FORMAT");
    // A line of the same name and id that does not verify.
    let other = fork(GATEWAY, 7).replace("\n2\n", "\n3\n");
    assert_eq!(code(&one.note(), &other), "LEDGER-NOTE-SIGNATURE");
    // Cosignatures prove nothing of the key, and are not kept.
    let note = one.note();
    let more = cosigned(&note, &[&witness(11)], 1_795_312_969);
    assert_ne!(more, note);
    assert_eq!(misbehaviour::evidence(key, &more), note);
}

/// The record of `kind` about two notes.
fn told(first: &Memory, second: &Memory, kind: &str, proved: bool) -> Told {
    let head = |ledger: &Memory| {
        let (checkpoint, note) = (ledger.checkpoint(), ledger.note());
        SignedHead {
            size: Decimal(checkpoint.size),
            root: Digest(checkpoint.root),
            note: BlobRef {
                sha256: HexDigest::of(note.as_bytes()),
                length: Decimal(note.len() as u64),
            },
        }
    };
    Told {
        origin: GATEWAY.to_owned(),
        ledger_key: Base64(first.key().public_key().spki_der().to_vec()),
        by: "spiffe://example.org/gateway/pg".to_owned(),
        kind: kind.to_owned(),
        proved,
        first: head(first),
        second: head(second),
        detail: String::new(),
    }
}

/// A pack of what the server's only record tells, with the notes.
pub(crate) fn pack_of(
    told: &Told,
    notes: impl IntoIterator<Item = String>,
) -> (Vec<u8>, ledger::pack::Trust) {
    let mut world = bare();
    world.server.append(told.record());
    let question = Question::Record {
        ledger: String::new(),
        index: 0,
    };
    let mut pack = PackBuilder::new(&question, &world.server.note());
    pack.receipt(&world.server.receipt(0));
    for note in notes {
        pack.blob(note.into_bytes());
    }
    (pack.build(), world.trust)
}

#[test]
fn a_pack_that_tells_of_misbehaviour_has_the_notes_and_says_what_they_show() {
    let (one, two, longer) = (
        ledger(&["a", "b"]),
        ledger(&["a", "c"]),
        ledger(&["a", "b", "c"]),
    );
    let pack = |told: &Told, notes: &[&Memory]| {
        let notes = notes.iter().map(|note| note.note());
        let (pack, trust) = pack_of(told, notes);
        verify(&pack, &trust)
    };
    let good = [
        told(&one, &two, "fork", true),
        told(&longer, &one, "rollback", false),
        told(&two, &longer, "unproven", false),
    ];
    for (told, notes) in good
        .iter()
        .zip([[&one, &two], [&longer, &one], [&two, &longer]])
    {
        let report = pack(told, &notes).unwrap();
        assert!(report.is_complete(), "{:?}", report.doubts);
        let report = pack(told, &notes[..1]).unwrap();
        assert!(
            matches!(report.doubts.as_slice(), [Doubt::NoBlob { .. }]),
            "{:?}",
            report.doubts
        );
    }
    let refused = |told: &Told, notes: &[&Memory]| pack(told, notes).unwrap_err().code;
    for (kind, proved) in [
        ("fork", false),
        ("rollback", true),
        ("rollback", false),
        ("", true),
    ] {
        let told = told(&one, &two, kind, proved);
        assert_eq!(
            refused(&told, &[&one, &two]),
            "PACK-MISBEHAVIOUR",
            "{kind} {proved}"
        );
    }
    // What is claimed is no proof.
    assert_eq!(
        refused(&told(&longer, &one, "rollback", true), &[&longer, &one]),
        "PACK-MISBEHAVIOUR"
    );
    assert_eq!(
        refused(&told(&one, &one, "fork", true), &[&one]),
        "PACK-MISBEHAVIOUR"
    );
    let honest = world();
    let mut other = told(&one, &two, "fork", true);
    other.ledger_key = Base64(honest.server.key().public_key().spki_der().to_vec());
    assert_eq!(refused(&other, &[&one, &two]), "PACK-MISBEHAVIOUR");
    let mut other = told(&one, &two, "fork", true);
    other.second.size = Decimal(3);
    assert_eq!(refused(&other, &[&one, &two]), "PACK-MISBEHAVIOUR");
    let mut other = told(&one, &two, "fork", true);
    other.origin = SERVER.to_owned();
    assert_eq!(refused(&other, &[&one, &two]), "PACK-MISBEHAVIOUR");
}
