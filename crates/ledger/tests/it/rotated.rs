//! A gateway's ledger that went on as a new log: what a pack has to hold of that, and what two things show that one of its
//! keys signed.

use crate::judges::verify;
use crate::misbehaving;
use crate::packs::{API, World, accesses, records, world};
use crate::support::signer;
use ledger::body::{BlobRef, Body as _, KeyRotation, Misbehaviour as Told, SignedHead};
use ledger::lineage::{self, Link};
use ledger::misbehaviour::{self, Misbehaviour, NotMisbehaviour};
use ledger::pack::{Doubt, PackBuilder, Question};
use ledger::{Base64, Checkpoint, Decimal, Digest, HexDigest, LedgerSigner, RecordType};

const SECOND: &str = "example.org/gateway/db1@2";

/// The world's first gateway goes on under another key, and the server has recorded that and the new head.
fn succeeded(world: &mut World, seed: u8) -> KeyRotation {
    let tree = world.gateway.checkpoint();
    let second = signer(SECOND, seed);
    let link = Link::sign(
        &world.gateway.signer,
        &second,
        (tree.size, tree.root),
        "each year",
    );
    let link = link.unwrap();
    world.gateway.signer = second;
    world.append(1, link.record());
    world.append(0, lineage::told(link.clone()).record());
    world.anchor(1);
    link
}

/// The server's records that tell of gateways' keys.
fn links(world: &World) -> Vec<u64> {
    let told = records(&world.server).filter(|(_, record)| {
        let rotation = record.expect_body::<KeyRotation>().ok();
        rotation.and_then(lineage::of_gateway).is_some()
    });
    told.map(|(index, _)| index).collect()
}

fn with_links(world: &World, mut pack: PackBuilder) -> Vec<u8> {
    for index in links(world) {
        pack.receipt(&world.server.receipt(index));
    }
    pack.build()
}

fn code(world: &World, pack: &[u8]) -> &'static str {
    verify(pack, &world.trust).unwrap_err().code
}

#[test]
fn a_pack_over_both_logs_of_a_gateway_holds_one_head_and_the_link() {
    let mut world = world();
    let before = world.gateway.checkpoint().size;
    succeeded(&mut world, 12);
    let question = accesses(API);
    let pack = with_links(&world, world.pack(&question, true));
    let report = verify(&pack, &world.trust).unwrap();
    assert!(report.is_complete(), "{:?}", report.doubts);
    let of_gateway = report
        .checkpoints
        .iter()
        .find(|head| head.origin.as_str() == SECOND);
    assert_eq!(of_gateway.unwrap().size, before + 1);
    assert!(
        report
            .records
            .iter()
            .any(|item| item.answers && item.record.origin() != SECOND)
    );
    // By whichever name it is asked for.
    for ledger in ["db1", "db1@2", "example.org/gateway/db1", SECOND] {
        for index in [0, before] {
            let ledger = ledger.to_owned();
            let question = Question::Record { ledger, index };
            let pack = with_links(&world, world.pack(&question, false));
            let report = verify(&pack, &world.trust).unwrap();
            assert!(report.is_complete(), "{question:?}: {:?}", report.doubts);
        }
    }
    // Without the link nothing leads from the key that was anchored first to the one that signed the head.
    assert_eq!(
        code(&world, &world.pack(&question, true).build()),
        "PACK-ANCHOR"
    );
}

#[test]
fn a_head_of_before_the_new_log_is_an_early_one() {
    let mut world = world();
    let mut old = crate::support::Memory::new(world.gateway.origin().as_str(), 2);
    for record in world.gateway.records.clone() {
        old.append_bytes(record);
    }
    succeeded(&mut world, 12);
    std::mem::swap(&mut world.gateway, &mut old);
    let pack = with_links(&world, world.pack(&accesses(API), true));
    let report = verify(&pack, &world.trust).unwrap();
    let early = |doubt: &Doubt| matches!(doubt, Doubt::Early { origin, .. } if origin == world.gateway.origin().as_str());
    assert!(report.doubts.iter().any(early), "{:?}", report.doubts);
    assert!(!report.extents[1].complete);
}

#[test]
fn what_is_anchored_against_a_link_is_refused() {
    // A head of the key that was replaced, of more records than its log had.
    let mut against = world();
    let first = against.gateway.signer.clone();
    succeeded(&mut against, 12);
    let second = std::mem::replace(&mut against.gateway.signer, first.clone());
    against.anchor(1);
    against.gateway.signer = second;
    let everything = |world: &World| {
        let (from, to) = (0, world.server.records.len() as u64 - 1);
        let ledger = String::new();
        let question = Question::Range { ledger, from, to };
        world.pack(&question, false).build()
    };
    assert_eq!(
        code(&against, &everything(&against)),
        "LEDGER-CHECKPOINT-ENDED"
    );

    // Two logs that one goes on as.
    let mut forked = world();
    let tree = forked.gateway.checkpoint();
    succeeded(&mut forked, 12);
    let other = Link::sign(&first, &signer(SECOND, 13), (tree.size, tree.root), "").unwrap();
    forked.append(0, lineage::told(other).record());
    assert_eq!(code(&forked, &everything(&forked)), "LEDGER-LINEAGE-FORKED");

    // A link that nobody signed.
    let mut unsigned = world();
    let mut forged = succeeded(&mut unsigned, 12);
    forged.old_signature = forged.new_signature.clone();
    unsigned.append(0, lineage::told(forged).record());
    assert_eq!(
        code(&unsigned, &everything(&unsigned)),
        "LEDGER-LINK-SIGNATURE"
    );
}

/// What leads the server's ledger on is never taken from what it tells of a gateway's, nor the other way round.
#[test]
fn a_record_of_a_gateways_link_is_no_link_of_the_servers() {
    let mut world = world();
    let tree = world.server.checkpoint();
    let thief = signer("example.org/server@2", 66);
    let stolen = &world.server.signer;
    let link = Link::sign(stolen, &thief, (tree.size, tree.root), "").unwrap();
    assert!(!lineage::is_link(&lineage::told(link.clone())));
    assert!(lineage::of_gateway(link.clone()).is_none());
    world.append(0, lineage::told(link).record());
    let at = world.server.records.len() as u64 - 1;
    let question = Question::Record {
        ledger: String::new(),
        index: at,
    };
    let report = verify(&world.pack(&question, false).build(), &world.trust).unwrap();
    let told = report.records.iter().find(|item| item.answers).unwrap();
    assert_eq!(
        (told.index, told.record.kind()),
        (at, RecordType::KeyRotation)
    );
    assert_eq!(
        report.checkpoints[0].origin,
        *world.trust.ledger_key.origin()
    );
}

fn head(signer: &LedgerSigner, size: u64, root: [u8; 32]) -> String {
    let origin = signer.key().origin().clone();
    signer.sign(&Checkpoint { origin, size, root }).unwrap()
}

#[test]
fn links_and_heads_of_one_key_show_what_it_did() {
    let first = signer("example.org/gateway/db7", 7);
    let (one, other) = (
        signer("example.org/gateway/db7@2", 8),
        signer("example.org/gateway/db7@3", 9),
    );
    let link = |to: &LedgerSigner, size| {
        misbehaviour::link_evidence(&Link::sign(&first, to, (size, [5; 32]), "").unwrap())
    };
    let judge = |first_shown: &str, second: &str| {
        misbehaviour::judge(first.key(), first_shown, second, &[]).map(|(kind, _)| kind)
    };
    let ended = link(&one, 5);
    let within = |size| Err(NotMisbehaviour::Within { size, end: 5 });
    assert_eq!(judge(&ended, &head(&first, 4, [1; 32])), within(4));
    assert_eq!(judge(&ended, &head(&first, 5, [5; 32])), within(5));
    for beyond in [head(&first, 5, [6; 32]), head(&first, 6, [6; 32])] {
        assert_eq!(judge(&ended, &beyond), Ok(Misbehaviour::Ended));
        assert_eq!(judge(&beyond, &ended), Ok(Misbehaviour::Ended));
    }
    assert_eq!(
        judge(&ended, &link(&other, 5)),
        Ok(Misbehaviour::Succession)
    );
    assert_eq!(judge(&ended, &link(&one, 6)), Ok(Misbehaviour::Succession));
    // The reason is signed by nobody.
    let again = ended.replace("\"reason\":\"\"", "\"reason\":\"another\"");
    assert_ne!(again, ended);
    assert_eq!(
        judge(&ended, &again),
        Err(NotMisbehaviour::Same { size: 5 })
    );
    // Only what the key itself signed is held against it.
    let theirs = Link::sign(&one, &other, (5, [5; 32]), "").unwrap();
    let unsigned = ended.replace("db7@2", "db7@4");
    for wrong in [
        misbehaviour::link_evidence(&theirs),
        unsigned,
        "{\"".to_owned(),
    ] {
        let code = judge(&ended, &wrong);
        assert!(matches!(code, Err(NotMisbehaviour::Link(_))), "{code:?}");
    }
    let code = judge(&ended, &head(&one, 6, [6; 32]));
    assert!(matches!(code, Err(NotMisbehaviour::Second(_))), "{code:?}");
}

/// A pack of the server's record that the ledger of `key` misbehaved, with both notes.
fn pack_of(
    key: &LedgerSigner,
    notes: [&str; 2],
    trees: [(u64, [u8; 32]); 2],
    kind: Misbehaviour,
    proved: bool,
) -> (Vec<u8>, ledger::pack::Trust) {
    let [first, second] = [0, 1].map(|at| SignedHead {
        size: Decimal(trees[at].0),
        root: Digest(trees[at].1),
        note: BlobRef {
            sha256: HexDigest::of(notes[at].as_bytes()),
            length: Decimal(notes[at].len() as u64),
        },
    });
    let told = Told {
        origin: key.key().origin().to_string(),
        ledger_key: Base64(key.key().public_key().spki_der().to_vec()),
        by: "spiffe://example.org/gateway/pg".to_owned(),
        kind: kind.to_string(),
        proved,
        first,
        second,
        detail: String::new(),
    };
    misbehaving::pack_of(&told, notes.map(str::to_owned))
}

/// Any two of what a key may have signed, in a record of each kind: only the one that they show is taken.
#[test]
fn both_judges_see_in_a_pack_what_links_and_heads_show() {
    let first = signer("example.org/gateway/db7", 7);
    let (one, other) = (
        signer("example.org/gateway/db7@2", 8),
        signer("example.org/gateway/db7@3", 9),
    );
    let link = |from: &LedgerSigner, to: &LedgerSigner, size| {
        misbehaviour::link_evidence(&Link::sign(from, to, (size, [5; 32]), "").unwrap())
    };
    let ended = link(&first, &one, 5);
    let shown = [
        (ended.clone(), (5, [5; 32])),
        (
            ended.replace("\"reason\":\"\"", "\"reason\":\"another\""),
            (5, [5; 32]),
        ),
        (ended.replace("db7@2", "db7@4"), (5, [5; 32])),
        (link(&first, &other, 6), (6, [5; 32])),
        (link(&one, &other, 5), (5, [5; 32])),
        (head(&first, 0, [1; 32]), (0, [1; 32])),
        (head(&first, 4, [1; 32]), (4, [1; 32])),
        (head(&first, 5, [5; 32]), (5, [5; 32])),
        (head(&first, 5, [6; 32]), (5, [6; 32])),
        (head(&one, 6, [6; 32]), (6, [6; 32])),
    ];
    let mut kinds = std::collections::BTreeSet::new();
    for (earlier, before) in &shown {
        for (later, after) in &shown {
            let expected = misbehaviour::judge(first.key(), earlier, later, &[]).ok();
            let expected = expected.map(|(kind, _)| (kind, kind.proves_itself()));
            for kind in Misbehaviour::ALL {
                for proved in [true, false] {
                    let trees = [*before, *after];
                    let (pack, trust) = pack_of(&first, [earlier, later], trees, kind, proved);
                    let taken = verify(&pack, &trust).is_ok();
                    assert_eq!(
                        taken,
                        expected == Some((kind, proved)),
                        "{earlier} {later} {kind}"
                    );
                    if taken {
                        kinds.insert(kind.as_str());
                    }
                }
            }
        }
    }
    assert_eq!(kinds.len(), Misbehaviour::ALL.len());
    // What is stated is what they state.
    let (pack, trust) = pack_of(
        &first,
        [&shown[0].0, &shown[3].0],
        [(5, [5; 32]), (7, [5; 32])],
        Misbehaviour::Succession,
        true,
    );
    assert_eq!(verify(&pack, &trust).unwrap_err().code, "PACK-MISBEHAVIOUR");
}
