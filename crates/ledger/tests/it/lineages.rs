//! A ledger that goes on as another log: what links lead to, what of a former key counts, and packs across both.

use crate::judges::verify;
use crate::packs::{API, World, accesses, world};
use crate::support::{Memory, SERVER, signer};
use expect_test::expect;
use ledger::body::{Body as _, Gap, KeyRotation, Recovery, Stop};
use ledger::lineage::{self, Link, follow, links};
use ledger::pack::{PackBuilder, Question, Trust};
use ledger::{
    Checkpoint, Code as _, Decimal, Digest, Hash, LedgerKey, LedgerSigner, LogKey, Origin,
    ProofFailure, Receipt, Record, VerifiedProof, merkle,
};
use std::collections::BTreeSet;

const SECOND: &str = "example.org/server@2";
const THIRD: &str = "example.org/server@3";

fn link(old: &LedgerSigner, new: &LedgerSigner, size: u64) -> KeyRotation {
    Link::sign(old, new, (size, [7; 32]), "each year").unwrap()
}

/// With the root that [`link`] names.
fn head(signer: &LedgerSigner, size: u64) -> String {
    headed(signer, size, [7; 32])
}

fn headed(signer: &LedgerSigner, size: u64, root: Hash) -> String {
    let origin = signer.key().origin().clone();
    signer.sign(&Checkpoint { origin, size, root }).unwrap()
}

fn code(followed: Result<LedgerKey, lineage::LineageError>) -> &'static str {
    followed.unwrap_err().code()
}

#[test]
fn these_bytes_are_signed() {
    let rotation = link(&signer(SERVER, 1), &signer(SECOND, 2), 42);
    expect![[r#"
        trilith-ledger-succession-v1
        example.org/server+5d8466e4+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c
        example.org/server@2+8debf188+AYE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU
        42
        BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=
    "#]]
    .assert_eq(rotation.statement.as_deref().unwrap());
    let opened = Link::open(&rotation).unwrap();
    assert_eq!(opened.statement(), rotation.statement.clone().unwrap());
    let json = lineage::to_json(std::slice::from_ref(&rotation));
    assert_eq!(lineage::from_json(&json).unwrap(), [rotation]);
}

#[test]
fn links_lead_from_any_key_of_a_lineage_to_its_newest() {
    let (one, two, three) = (signer(SERVER, 1), signer(SECOND, 2), signer(THIRD, 3));
    let chain = [link(&two, &three, 60), link(&one, &two, 40)];
    for known in [&one, &two, &three] {
        let key = follow(known.key(), &chain).unwrap();
        assert_eq!(key, *three.key());
        assert_eq!(key.first(), one.key());
        assert_eq!(links(&key), [chain[1].clone(), chain[0].clone()]);
        // What is known needs no telling, and telling it again changes nothing.
        assert_eq!(links(&follow(&key, &[]).unwrap()).len(), 2);
        assert_eq!(links(&follow(&key, &chain).unwrap()).len(), 2);
    }
    // A stranger's lineage leads nowhere.
    let other = signer("example.net/server", 9);
    assert_eq!(follow(other.key(), &chain).unwrap(), *other.key());
    assert!(links(&follow(other.key(), &chain).unwrap()).is_empty());
}

#[test]
fn what_a_former_key_signs_beyond_its_end_is_no_checkpoint() {
    let (one, two, three) = (signer(SERVER, 1), signer(SECOND, 2), signer(THIRD, 3));
    let key = follow(one.key(), &[link(&one, &two, 40)]).unwrap();
    assert_eq!(Checkpoint::open(&head(&one, 40), &key).unwrap().size, 40);
    assert_eq!(Checkpoint::open(&head(&two, 90), &key).unwrap().size, 90);
    let stolen = Checkpoint::open(&head(&one, 41), &key).unwrap_err();
    assert_eq!(stolen.code(), "LEDGER-CHECKPOINT-ENDED");
    assert_eq!(
        Checkpoint::open_beyond(&head(&one, 41), &key).unwrap().size,
        41
    );
    assert_eq!(key.end_of(SERVER), Some(40));
    assert_eq!(key.end_of(SECOND), None);
    // The name of the new log helps the old key nothing, nor the other way round.
    for forged in [head(&signer(SECOND, 1), 20), head(&signer(SERVER, 2), 20)] {
        let refused = Checkpoint::open(&forged, &key).unwrap_err();
        assert_eq!(refused.code(), "LEDGER-NOTE-UNSIGNED");
    }
    // A later log that gave up a part of an earlier one ends that one earlier, too.
    let key = follow(&key, &[link(&two, &three, 30)]).unwrap();
    for (signer, size, counts) in [(&one, 30, true), (&one, 31, false), (&two, 31, false)] {
        let opened = Checkpoint::open(&head(signer, size), &key);
        assert_eq!(opened.is_ok(), counts, "{size}");
    }
}

#[test]
fn of_a_replaced_key_the_tree_that_its_link_names_counts_by_itself_and_nothing_else() {
    let (one, two, three) = (signer(SERVER, 1), signer(SECOND, 2), signer(THIRD, 3));
    let former = "LEDGER-CHECKPOINT-FORMER";
    let forked = "LEDGER-CHECKPOINT-END-FORKED";
    let ended = "LEDGER-CHECKPOINT-ENDED";
    let judged = |key: &LedgerKey, signer: &LedgerSigner, size, root| {
        let note = headed(signer, size, root);
        let code = |opened: Result<Checkpoint, ledger::CheckpointError>| {
            opened.map_or_else(|error| error.code(), |_checkpoint| "good")
        };
        let shown = Checkpoint::open_beyond(&note, key)
            .unwrap()
            .shown_by(key)
            .map_or_else(|error| error.code(), |()| "good");
        assert_eq!(code(Checkpoint::open_shown(&note, key)), shown);
        (code(Checkpoint::open(&note, key)), shown)
    };
    let key = follow(one.key(), &[link(&one, &two, 40)]).unwrap();
    assert_eq!(judged(&key, &one, 40, [7; 32]), ("good", "good"));
    // A follower can prove it of its own tree; who has the signature alone has nothing.
    assert_eq!(judged(&key, &one, 39, [7; 32]), ("good", former));
    assert_eq!(judged(&key, &one, 40, [9; 32]), (forked, forked));
    assert_eq!(judged(&key, &one, 41, [7; 32]), (ended, ended));
    assert_eq!(judged(&key, &two, 39, [9; 32]), ("good", "good"));
    // Where a later log goes on from less, its tree is the one that counts, and of two of one size the later.
    let shorter = Link::sign(&two, &three, (30, [3; 32]), "").unwrap();
    let shorter = follow(&key, &[shorter]).unwrap();
    for signer in [&one, &two] {
        assert_eq!(judged(&shorter, signer, 30, [3; 32]), ("good", "good"));
        assert_eq!(judged(&shorter, signer, 30, [7; 32]), (forked, forked));
        assert_eq!(judged(&shorter, signer, 40, [7; 32]), (ended, ended));
    }
    let longer = Link::sign(&two, &three, (60, [3; 32]), "").unwrap();
    let longer = follow(&key, &[longer]).unwrap();
    assert_eq!(judged(&longer, &one, 40, [7; 32]), ("good", "good"));
    assert_eq!(judged(&longer, &two, 40, [7; 32]), ("good", former));
    assert_eq!(judged(&longer, &two, 60, [3; 32]), ("good", "good"));
    assert!(longer.replaced(one.key().public_key()) && longer.replaced(two.key().public_key()));
    assert!(!longer.replaced(three.key().public_key()));
}

#[test]
fn a_link_counts_only_if_both_keys_signed_it_and_it_leads_on() {
    let (one, two) = (signer(SERVER, 1), signer(SECOND, 2));
    let good = link(&one, &two, 40);
    let with = |change: &dyn Fn(&mut KeyRotation)| {
        let mut rotation = good.clone();
        change(&mut rotation);
        code(follow(one.key(), &[rotation]))
    };
    let signature = "LEDGER-LINK-SIGNATURE";
    let format = "LEDGER-LINK-FORMAT";
    assert_eq!(
        with(&|it| it.old_signature = it.new_signature.clone()),
        signature
    );
    assert_eq!(
        with(&|it| it.new_signature = it.old_signature.clone()),
        signature
    );
    assert_eq!(with(&|it| it.new_signature = None), format);
    assert_eq!(with(&|it| it.old = it.new.clone()), format);
    assert_eq!(with(&|it| it.what = "x509-root".to_owned()), format);
    let restated = |from: &'static str, to: &'static str| {
        move |it: &mut KeyRotation| {
            let statement = it.statement.take().unwrap();
            it.statement = Some(statement.replace(from, to));
        }
    };
    assert_eq!(with(&restated("\n40\n", "\n41\n")), signature);
    assert_eq!(with(&restated("\n40\n", "\n040\n")), format);
    assert_eq!(with(&restated("-v1\n", "-v2\n")), format);
    assert_eq!(
        with(&restated(
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n",
            ""
        )),
        format
    );
    // Not back, not to itself, not to somebody else's name, and not with the same key.
    let next = |old: &LedgerSigner, origin: &str, seed: u8| {
        Link::sign(old, &signer(origin, seed), (1, [0; 32]), "").map(drop)
    };
    for (origin, seed) in [
        (SERVER, 3),
        ("example.net/server@2", 3),
        (SECOND, 1),
        ("example.org/serve@2", 3),
    ] {
        assert!(next(&one, origin, seed).is_err(), "{origin}");
    }
    assert!(next(&two, SERVER, 3).is_err() && next(&two, THIRD, 3).is_ok());
    let many = vec![good; 257];
    assert_eq!(code(follow(one.key(), &many)), format);
}

#[test]
fn a_key_that_signed_two_successions_leads_to_neither() {
    let (one, two, thief) = (signer(SERVER, 1), signer(SECOND, 2), signer(SECOND, 6));
    let (ours, theirs) = (link(&one, &two, 40), link(&one, &thief, 40));
    for pair in [
        [ours.clone(), theirs.clone()],
        [theirs.clone(), ours.clone()],
    ] {
        assert_eq!(code(follow(one.key(), &pair)), "LEDGER-LINEAGE-FORKED");
    }
    // Also from another end, and also where one of them was followed before.
    assert_eq!(
        code(follow(one.key(), &[ours.clone(), link(&one, &two, 39)])),
        "LEDGER-LINEAGE-FORKED"
    );
    let followed = follow(one.key(), &[ours]).unwrap();
    assert_eq!(code(follow(&followed, &[theirs])), "LEDGER-LINEAGE-FORKED");
}

#[test]
fn a_log_holds_records_of_those_that_it_goes_on_from_and_of_no_other() {
    let holds = |log: &str, record: &str| Origin::new(log).unwrap().holds(record);
    assert!(holds(SERVER, SERVER) && holds(SECOND, SERVER) && holds(THIRD, SECOND));
    assert!(!holds(SERVER, SECOND) && !holds(SECOND, THIRD));
    assert!(!holds(SECOND, "example.org/gateway") && !holds(SECOND, "example.org/server/2"));
    // No second spelling of a number.
    for odd in [
        "example.org/server@1",
        "example.org/server@02",
        "example.org/server@x",
        "example.org/server@",
    ] {
        assert!(!holds(THIRD, odd), "{odd}");
    }
}

/// The server of [`world`], gone on as a second log from all that it had, and a record more.
struct Succeeded {
    world: World,
    old: LedgerSigner,
    index: u64,
}

fn succeeded() -> Succeeded {
    let mut world = world();
    let (old, new) = (world.server.signer.clone(), signer(SECOND, 21));
    let tree = world.server.checkpoint();
    let link = Link::sign(&old, &new, (tree.size, tree.root), "stolen").unwrap();
    world.server.signer = new;
    world.append(0, link.record());
    let index = tree.size;
    let gap = Gap {
        cause: "recovery".to_owned(),
        from: 1,
        to: 2,
        lost: Some(Decimal(3)),
        detail: String::new(),
    };
    world.append(0, gap.record());
    Succeeded { world, old, index }
}

/// The proof that the server's tree holds its first `size` records as they are.
fn extends(server: &Memory, size: u64, pack: &mut PackBuilder) {
    let Ok(proof) = merkle::consistency_proof(size, server.records.len() as u64, server);
    pack.extends(0, size, &proof.unwrap());
}

impl Succeeded {
    fn pack(&self, question: &Question) -> PackBuilder {
        let mut pack = self.world.pack(question, true);
        pack.receipt(&self.world.server.receipt(self.index));
        extends(&self.world.server, self.index, &mut pack);
        pack
    }

    fn trust(&self, key: &LedgerKey) -> Trust {
        Trust {
            ledger_key: key.clone(),
            ..self.world.trust.clone()
        }
    }
}

#[test]
fn a_pack_across_both_logs_verifies_from_either_key() {
    let it = succeeded();
    let pack = it.pack(&accesses(API)).build();
    let (first, newest) = (it.old.key(), it.world.server.key());
    for key in [first, newest] {
        let report = verify(&pack, &it.trust(key)).unwrap();
        assert_eq!(report.checkpoints[0].origin.as_str(), SECOND);
        let origins: Vec<&str> = report
            .records
            .iter()
            .map(|item| item.record.origin())
            .collect();
        assert!(
            origins.contains(&SERVER) && origins.contains(&SECOND),
            "{origins:?}"
        );
    }
    // Without the link the first key leads nowhere; the newest needs none.
    let bare = it.world.pack(&accesses(API), true).build();
    let refused = verify(&bare, &it.trust(first)).unwrap_err();
    assert_eq!(refused.code, "LEDGER-NOTE-UNSIGNED");
    verify(&bare, &it.trust(newest)).unwrap();
    let stranger = verify(&pack, &it.trust(signer(SERVER, 33).key())).unwrap_err();
    assert_eq!(stranger.code, "LEDGER-NOTE-UNSIGNED");
}

/// The first log is one history, and the second one begins with another, in which a record is another one: both keys have
/// signed for the first.
#[test]
fn a_new_log_that_does_not_hold_the_tree_of_its_link_makes_no_pack() {
    let it = succeeded();
    let both = it.trust(&follow(it.old.key(), &[it.rotation()]).unwrap());
    let mut other = succeeded();
    let server = &mut other.world.server;
    let mut records = server.records.clone();
    let last = usize::try_from(it.index).unwrap() - 1;
    records[last] = records[last - 1].clone();
    let mut rewritten = Memory::new(SECOND, 21);
    records
        .into_iter()
        .for_each(|bytes| rewritten.append_bytes(bytes));
    assert_ne!(rewritten.records, server.records);
    *server = rewritten;
    let question = Question::Record {
        ledger: SECOND.to_owned(),
        index: it.index,
    };
    let begun = |of: &Succeeded, proofs: &[u64]| {
        let mut pack = of.world.pack(&question, false);
        for size in proofs {
            extends(&of.world.server, *size, &mut pack);
        }
        pack
    };
    let pack = |of: &Succeeded, proofs: &[u64]| begun(of, proofs).build();
    let code = |pack: &[u8]| {
        let failure = verify(pack, &both).unwrap_err();
        (failure.code, failure.section)
    };
    verify(&pack(&it, &[it.index]), &both).unwrap();
    let section = format!("extends/0/{}", it.index);
    let refused = ("PACK-LINEAGE", section);
    assert_eq!(code(&pack(&other, &[it.index])), refused);
    // Nor without a proof, nor with another one.
    assert_eq!(code(&pack(&other, &[])), refused);
    assert_eq!(code(&pack(&it, &[])), refused);
    assert_eq!(
        code(&pack(&it, &[1, it.index])),
        ("PACK-LINEAGE", "extends/0/1".to_owned())
    );
    let mut of_nobody = begun(&it, &[it.index]);
    of_nobody.extends(1, 1, &[]);
    assert_eq!(
        code(&of_nobody.build()),
        ("PACK-LINEAGE", "extends/1/1".to_owned())
    );
}

#[test]
fn what_a_log_goes_on_from_is_what_later_ones_have_left_of_it() {
    let (one, two, three) = (signer(SERVER, 1), signer(SECOND, 2), signer(THIRD, 3));
    let sizes = |key: &LedgerKey, origin: &str| -> Vec<u64> {
        let trees = key.goes_on_from(origin).into_iter();
        trees.map(|(size, _root)| size).collect()
    };
    let key = follow(one.key(), &[link(&one, &two, 40), link(&two, &three, 60)]).unwrap();
    assert_eq!(sizes(&key, THIRD), [40, 60]);
    assert_eq!(sizes(&key, SECOND), [40]);
    assert!(sizes(&key, SERVER).is_empty());
    assert!(sizes(&key, "example.net/server").is_empty());
    // The third log gave up what the second one had of the first.
    let key = follow(one.key(), &[link(&one, &two, 40), link(&two, &three, 30)]).unwrap();
    assert_eq!(sizes(&key, THIRD), [30]);
    // Two links that name other trees of one size: no log holds both.
    let other = Link::sign(&two, &three, (40, [8; 32]), "").unwrap();
    let key = follow(one.key(), &[link(&one, &two, 40), other]).unwrap();
    assert_eq!(sizes(&key, THIRD), [40, 40]);
}

#[test]
fn a_pack_of_the_log_that_ended_verifies_by_a_trust_file_with_the_lineage() {
    let it = succeeded();
    let before = world();
    let pack = before.pack(&accesses(API), true).build();
    let newest = it.trust(it.world.server.key());
    assert_eq!(
        verify(&pack, &newest).unwrap_err().code,
        "LEDGER-NOTE-UNSIGNED"
    );
    let rotation: KeyRotation = it.rotation();
    let key = follow(it.old.key(), &[rotation]).unwrap();
    let trust = it.trust(&key);
    verify(&pack, &trust).unwrap();
    // As a file.
    let text = serde_json::to_string(&trust).unwrap();
    let read = Trust::from_json(&text).unwrap();
    assert_eq!(links(&read.ledger_key), links(&key));
    assert_eq!(read.ledger_key, *it.world.server.key());
    let first = text.replace(&key.to_string(), &it.old.key().to_string());
    assert!(
        Trust::from_json(&first).is_err(),
        "it does not end with its key"
    );
}

impl Succeeded {
    fn rotation(&self) -> KeyRotation {
        let bytes = &self.world.server.records[usize::try_from(self.index).unwrap()];
        Record::parse(bytes).unwrap().expect_body().unwrap()
    }
}

#[test]
fn whoever_has_the_old_key_makes_no_pack_after_its_end() {
    let mut it = succeeded();
    let trust = it.trust(it.old.key());
    // The thief goes on with the log that ended, and has to show the link to have anything after it believed.
    it.world.server.signer = it.old.clone();
    let refused = verify(&it.pack(&accesses(API)).build(), &trust).unwrap_err();
    assert_eq!(refused.code, "LEDGER-CHECKPOINT-ENDED");
    // A second succession beside the first.
    let mut it = succeeded();
    let tree = it.world.server.checkpoint();
    let thief = signer(SECOND, 77);
    let forged = Link::sign(&it.old, &thief, (tree.size, tree.root), "").unwrap();
    it.world.append(0, forged.record());
    let mut pack = it.pack(&accesses(API));
    pack.receipt(&it.world.server.receipt(tree.size));
    assert_eq!(
        verify(&pack.build(), &trust).unwrap_err().code,
        "LEDGER-LINEAGE-FORKED"
    );
    // One whose signature is another's.
    let mut it = succeeded();
    let mut forged = it.rotation();
    forged.old_signature = forged.new_signature.clone();
    it.world.append(0, forged.record());
    let mut pack = it.pack(&accesses(API));
    pack.receipt(
        &it.world
            .server
            .receipt(it.world.server.records.len() as u64 - 1),
    );
    assert_eq!(
        verify(&pack.build(), &trust).unwrap_err().code,
        "LEDGER-LINK-SIGNATURE"
    );
}

/// What a thief of the first key makes in a log of his own, of so many records.
fn forged(size: u64) -> (Memory, Vec<u8>) {
    let mut thief = Memory::new(SERVER, 1);
    for number in 0..size {
        let reason = format!("forged {number}");
        let stop = Stop { reason }.record().actor("server", "self");
        thief.append(stop);
    }
    let question = Question::Range {
        ledger: SERVER.to_owned(),
        from: 0,
        to: size - 1,
    };
    let mut pack = PackBuilder::new(&question, &thief.note());
    for index in 0..size {
        pack.receipt(&thief.receipt(index));
    }
    (thief, pack.build())
}

#[test]
fn a_stolen_key_that_was_replaced_makes_no_pack_of_any_size() {
    let it = succeeded();
    let end = it.index;
    let key = follow(it.old.key(), &[it.rotation()]).unwrap();
    let (before, now) = (it.trust(it.old.key()), it.trust(&key));
    for (size, code) in [
        (1, "LEDGER-CHECKPOINT-FORMER"),
        (end - 1, "LEDGER-CHECKPOINT-FORMER"),
        (end, "LEDGER-CHECKPOINT-END-FORKED"),
        (end + 1, "LEDGER-CHECKPOINT-ENDED"),
    ] {
        let (_, pack) = forged(size);
        // Who has not heard of the new log believes it.
        assert!(verify(&pack, &before).unwrap().is_complete());
        assert_eq!(verify(&pack, &now).unwrap_err().code, code, "{size}");
    }
}

#[test]
fn a_proof_under_a_replaced_key_counts_for_its_end_alone_and_no_policy_undoes_that() {
    let it = succeeded();
    let key = follow(it.old.key(), &[it.rotation()]).unwrap();
    let policy = |lines: String| Trust {
        policy: Some(format!("{lines}quorum none\n").parse().unwrap()),
        ..it.trust(&key)
    };
    let old = it.old.key();
    let whole = world().server.receipt(3);
    let newest = it.world.server.receipt(3);
    for trust in [
        it.trust(&key),
        policy(String::new()),
        policy(format!("log {key}\nlog {old}\n")),
    ] {
        let judged = |receipt: &Receipt| judged(receipt, &trust).map(|shown| shown.index);
        assert_eq!(judged(&whole).unwrap(), 3);
        assert_eq!(judged(&newest).unwrap(), 3);
        for (size, code) in [
            (5, "LEDGER-CHECKPOINT-FORMER"),
            (it.index, "LEDGER-CHECKPOINT-END-FORKED"),
            (it.index + 1, "LEDGER-CHECKPOINT-ENDED"),
        ] {
            let refused = judged(&forged(size).0.receipt(3)).unwrap_err();
            assert_eq!(refused.code(), code, "{size}");
        }
    }
}

fn judged(receipt: &Receipt, trust: &Trust) -> Result<VerifiedProof, ProofFailure> {
    let logs = trust.logs();
    let logs: Vec<&LogKey> = logs.iter().collect();
    let leaf = merkle::leaf_hash(&receipt.record);
    let file = receipt.to_proof_file();
    file.verify(&leaf, &logs, trust.policy.as_ref())
}

#[test]
fn a_long_lineage_is_read_by_both_verifiers_from_trust_file_and_pack() {
    let mut world = world();
    let numbered = |number: u8| signer(&format!("{SERVER}@{number}"), number);
    let mut before = world.server.signer.clone();
    let mut chain = Vec::new();
    for number in 2..=131 {
        let next = numbered(number);
        let tree = world.server.checkpoint();
        let link = Link::sign(&before, &next, (tree.size, tree.root), "each year").unwrap();
        world.server.signer = next.clone();
        world.append(0, link.clone().record());
        chain.push((tree.size, link));
        before = next;
    }
    let mut pack = world.pack(&accesses(API), true);
    for (index, _) in &chain {
        pack.receipt(&world.server.receipt(*index));
        extends(&world.server, *index, &mut pack);
    }
    let pack = pack.build();
    let links: Vec<KeyRotation> = chain.into_iter().map(|(_, link)| link).collect();
    let first = signer(SERVER, 1);
    for known in [&links[..], &links[..129], &[]] {
        let trust = Trust {
            ledger_key: follow(first.key(), known).unwrap(),
            ..world.trust.clone()
        };
        assert_eq!(
            verify(&pack, &trust).unwrap().checkpoints[0].origin,
            *before.key().origin()
        );
    }
}

#[test]
fn the_gap_between_two_logs_answers_for_itself() {
    let mut it = succeeded();
    let recovery = Recovery {
        old_size: Decimal(99),
        old_root: Digest([1; 32]),
        old_checkpoint: None,
        new_size: Decimal(it.index),
        new_root: Digest([2; 32]),
        reason: "restored".to_owned(),
        by: "uid:0".to_owned(),
        obeyed: None,
    };
    it.world.append(0, recovery.record());
    let last = it.world.server.records.len() as u64 - 1;
    let question = Question::Range {
        ledger: SECOND.to_owned(),
        from: it.index,
        to: last,
    };
    let mut pack = PackBuilder::new(&question, &it.world.server.note());
    extends(&it.world.server, it.index, &mut pack);
    for index in it.index..=last {
        pack.receipt(&it.world.server.receipt(index));
    }
    let (mut open, mut done) = (vec![it.index], BTreeSet::new());
    while let Some(index) = open.pop() {
        if done.insert(index) {
            let receipt = it.world.server.receipt(index);
            let record = Record::parse(&receipt.record).unwrap();
            open.extend(ledger::pack::grounds(&record).unwrap().records);
            pack.receipt(&receipt);
        }
    }
    let report = verify(&pack.build(), &it.trust(it.old.key())).unwrap();
    let kinds: Vec<&str> = report
        .records
        .iter()
        .filter(|item| item.answers)
        .map(|item| item.record.kind().as_str())
        .collect();
    assert_eq!(kinds, ["key-rotation", "gap", "recovery"]);
}
