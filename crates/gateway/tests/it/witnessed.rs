//! What a gateway asks of witnesses: that enough of them have looked lately at the ledger that it follows, and that
//! they saw this one.

use crate::world::{PAYMENTS, World, ders, domain};
use crypto::{Algorithm, KeyPair};
use facts::{Finding, Timestamp};
use gateway::{Following, Watch};
use ledger::body::{Body as _, Recovery};
use ledger::{Checkpoint, Cosigner, Decimal, Digest, ForeignCheckpoint, Note};
use std::sync::Arc;
use std::time::Duration;

const LONGEST: u64 = 60;

/// Two witnesses, of which both are needed.
pub(crate) struct Witnesses([Cosigner; 2]);

impl Witnesses {
    pub(crate) fn new() -> Self {
        let one = |name, algorithm| {
            let key = Arc::new(KeyPair::generate(algorithm).unwrap());
            Cosigner::new(name, key).unwrap()
        };
        Self([
            one("witness.example/pq", Algorithm::MlDsa44),
            one("witness.example/ed", Algorithm::Ed25519),
        ])
    }

    pub(crate) fn watch(&self) -> Watch {
        let [one, two] = &self.0;
        let policy = format!(
            "witness a {}\nwitness b {}\ngroup g all a b\nquorum g\n",
            one.key(),
            two.key()
        );
        Watch {
            policy: policy.parse().unwrap(),
            longest: Duration::from_secs(LONGEST),
        }
    }

    /// `note` with the lines of the first `count` of them.
    pub(crate) fn cosign(&self, note: &str, count: usize, at: Timestamp) -> String {
        let mut note = Note::parse(note).unwrap();
        let checkpoint = ForeignCheckpoint::parse(&note.text).unwrap();
        let lines = self.0[..count].iter();
        let lines = lines.map(|one| one.cosign(&checkpoint, at.as_secs()).unwrap());
        note.merge(lines.collect()).unwrap();
        note.to_string()
    }
}

fn note(world: &World, size: u64, root: [u8; 32]) -> String {
    let origin = world.stolen.key().origin().clone();
    world
        .stolen
        .sign(&Checkpoint { origin, size, root })
        .unwrap()
}

/// The followed head, as the ledger signed it.
fn head(world: &World) -> String {
    world.following.note().unwrap()
}

fn take(world: &World, note: &str) -> Result<(), Finding> {
    take_at(world, note, world.now)
}

fn take_at(world: &World, note: &str, now: Timestamp) -> Result<(), Finding> {
    let (known, _) = world.following.head();
    world.following.take_witnessed(note, known, &[], now)
}

fn code(refused: Result<(), Finding>) -> String {
    refused.unwrap_err().code.into_owned()
}

/// Whoever has the key of the CA and that of the ledger makes a gateway follow, issues itself anything, and shows a
/// chain without a flaw; the witnesses have not seen it.
#[tokio::test]
async fn an_svid_of_a_history_that_no_witness_sees_is_let_in_for_no_longer_than_the_setting_says() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let svid = world.issue_published(PAYMENTS);
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-UNWITNESSED");
    take(&world, &witnesses.cosign(&head(&world), 2, world.now)).unwrap();
    let principal = world.admit(&svid.chain).await.unwrap();
    let session =
        world
            .following
            .sessions()
            .register(&principal, Duration::from_secs(900), world.now);

    // From here on it is the thief's.
    let theirs = world.issue_published(PAYMENTS);
    // Times of cosignatures are whole seconds.
    let last = world.now.plus_secs(LONGEST - 1);
    world.following.heard(last);
    world.admit_at(&theirs.chain, last).await.unwrap();
    let later = world.now.plus_secs(LONGEST + 1);
    world.following.heard(later);
    for chain in [&theirs.chain, &svid.chain] {
        let refused = world.admit_at(chain, later).await.unwrap_err();
        assert_eq!(refused.code, "GATEWAY-UNWITNESSED", "{refused}");
    }
    assert!(
        session.is_cut().is_none(),
        "new sessions are refused, and no others"
    );
    // The witnesses look again.
    take_at(&world, &witnesses.cosign(&head(&world), 2, later), later).unwrap();
    world.admit_at(&svid.chain, later).await.unwrap();
}

/// The thief shows the witnesses the head from before, once a minute and for ever.
#[tokio::test]
async fn a_head_that_is_cosigned_again_and_again_covers_nothing_above_it() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let svid = world.issue_published(PAYMENTS);
    let frozen = head(&world);
    take(&world, &witnesses.cosign(&frozen, 2, world.now)).unwrap();
    let theirs = world.issue_published(PAYMENTS);
    for (seconds, let_in) in [
        (LONGEST / 2, true),
        (LONGEST - 1, true),
        (LONGEST * 3 / 2, false),
        (LONGEST * 2, false),
    ] {
        let now = world.now.plus_secs(seconds);
        world.following.heard(now);
        take_at(&world, &witnesses.cosign(&frozen, 2, now), now).unwrap();
        for chain in [&theirs.chain, &svid.chain] {
            let refused = world.admit_at(chain, now).await.err();
            let refused = refused.map(|finding| finding.code.into_owned());
            let expected = (!let_in).then(|| "GATEWAY-UNWITNESSED".to_owned());
            assert_eq!(refused, expected, "{seconds} s");
        }
    }
    // The witnesses see it all.
    let now = world.now.plus_secs(LONGEST * 2);
    take_at(&world, &witnesses.cosign(&head(&world), 2, now), now).unwrap();
    world.admit_at(&svid.chain, now).await.unwrap();
}

#[tokio::test]
async fn a_start_gives_what_no_witness_sees_no_more_time() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let frozen = head(&world);
    world.issue_published(PAYMENTS);
    let followed = Timestamp::now();
    let after = |seconds: u64, millis: u64| {
        Timestamp::from_millis(followed.plus_secs(seconds).as_millis() + millis)
    };
    let half = after(LONGEST / 2, 0);
    take_at(&world, &witnesses.cosign(&frozen, 2, half), half).unwrap();
    world.following.keep().unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let key = world.stolen.key().clone();
    let watch = Some(witnesses.watch());
    let (restarted, _) = Following::open_watched(domain(), key, &world.followed(), watch).unwrap();
    restarted.seen_by_others(half).unwrap();
    let end = after(LONGEST, 100);
    assert_eq!(code(restarted.seen_by_others(end)), "GATEWAY-UNWITNESSED");
}

/// One witness's clock is ahead, or its key is in the thief's hands: a look of tomorrow would be fresh until then.
#[tokio::test]
async fn a_look_that_is_dated_ahead_or_shown_twice_is_no_fresher() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let svid = world.issue_published(PAYMENTS);
    let ahead = witnesses.cosign(&head(&world), 2, world.now.plus_secs(62));
    assert_eq!(code(take(&world, &ahead)), "FOLLOW-WITNESSED");
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-UNWITNESSED");
    let note = witnesses.cosign(&head(&world), 2, world.now);
    take(&world, &note).unwrap();
    world.admit(&svid.chain).await.unwrap();
    let later = world.now.plus_secs(LONGEST + 1);
    world.following.heard(later);
    take_at(&world, &note, later).unwrap();
    let refused = world.admit_at(&svid.chain, later).await.unwrap_err();
    assert_eq!(refused.code, "GATEWAY-UNWITNESSED");
}

/// A glitch of one witness's clock, which it can never take back: the other one is enough, and does not spoil what it says.
#[tokio::test]
async fn a_witness_whose_clock_is_ahead_does_not_spoil_what_another_one_saw() {
    let witnesses = Witnesses::new();
    let [pq, ed] = &witnesses.0;
    let policy = format!(
        "witness a {}\nwitness b {}\ngroup g any a b\nquorum g\n",
        pq.key(),
        ed.key()
    );
    let world = World::watched(Watch {
        policy: policy.parse().unwrap(),
        longest: Duration::from_secs(LONGEST),
    });
    let svid = world.issue_published(PAYMENTS);
    let ahead = witnesses.cosign(&head(&world), 1, world.now.plus_secs(400 * 86_400));
    assert_eq!(code(take(&world, &ahead)), "FOLLOW-WITNESSED");
    let both = |at: Timestamp| {
        let mut note = Note::parse(&ahead).unwrap();
        let checkpoint = ForeignCheckpoint::parse(&note.text).unwrap();
        note.merge(vec![ed.cosign(&checkpoint, at.as_secs()).unwrap()])
            .unwrap();
        note.to_string()
    };
    take(&world, &both(world.now)).unwrap();
    world.admit(&svid.chain).await.unwrap();
    // It grows old by the time of the other one.
    let later = world.now.plus_secs(LONGEST + 1);
    world.following.heard(later);
    let refused = world.admit_at(&svid.chain, later).await.unwrap_err();
    assert_eq!(refused.code, "GATEWAY-UNWITNESSED");
    take_at(&world, &both(later), later).unwrap();
    world.admit_at(&svid.chain, later).await.unwrap();
}

#[tokio::test]
async fn what_too_few_have_seen_or_another_key_signed_says_nothing() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let svid = world.issue_published(PAYMENTS);
    let good = head(&world);
    for (what, note) in [
        ("nobody", good.clone()),
        ("one of two", witnesses.cosign(&good, 1, world.now)),
        (
            "other witnesses",
            Witnesses::new().cosign(&good, 2, world.now),
        ),
        ("no note", String::new()),
        ("moved lines", {
            let lines = witnesses.cosign(&good, 2, world.now);
            let (size, root) = world.following.head();
            let other = note(&world, size + 1, root.unwrap());
            let text = Note::parse(&other).unwrap();
            let mut moved = Note::parse(&lines).unwrap();
            moved.text = text.text;
            moved.merge(text.signatures).unwrap();
            moved.to_string()
        }),
    ] {
        assert_eq!(code(take(&world, &note)), "FOLLOW-WITNESSED", "{what}");
    }
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-UNWITNESSED");
    // Of a quorum of both, the older look counts.
    let old = world.now.minus_secs(LONGEST + 1);
    let note = witnesses.cosign(&good, 2, old);
    let fresh = Note::parse(&witnesses.cosign(&good, 1, world.now)).unwrap();
    let mut mixed = Note::parse(&note).unwrap();
    mixed.merge(fresh.signatures).unwrap();
    take(&world, &mixed.to_string()).unwrap();
    assert_eq!(world.refused(&svid.chain).await, "GATEWAY-UNWITNESSED");
}

/// Two clients are shown different views: the witnesses have cosigned the other one.
#[tokio::test]
async fn what_witnesses_saw_has_to_be_what_is_followed() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let (size, _) = world.following.head();
    let fork = witnesses.cosign(&note(&world, size, [6; 32]), 2, world.now);
    assert_eq!(code(take(&world, &fork)), "FOLLOW-FORKED");
    let fork = witnesses.cosign(&note(&world, size - 1, [6; 32]), 2, world.now);
    assert_eq!(code(take(&world, &fork)), "FOLLOW-FORKED");
    assert_eq!(world.following.witnessed(), None);

    // One that was never pushed, with its proof.
    let world = World::watched(witnesses.watch());
    for _ in 0..3 {
        world.issue(PAYMENTS);
    }
    world.publish();
    let known = world.following.head().0;
    let between = known - 1;
    let root = world.ledger.reader().root(between).unwrap();
    let missed = witnesses.cosign(&note(&world, between, root), 2, world.now);
    let proof = world.proof(between, known);
    world
        .following
        .take_witnessed(&missed, known, &proof, world.now)
        .unwrap();
    assert_eq!(world.following.witnessed().unwrap().0, between);
}

#[tokio::test]
async fn what_was_witnessed_outlives_a_restart_and_grows_old_there() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let svid = world.issue_published(PAYMENTS);
    take(&world, &witnesses.cosign(&head(&world), 2, world.now)).unwrap();
    world.following.keep().unwrap();
    let again = |watch| {
        let key = world.stolen.key().clone();
        Following::open_watched(domain(), key, &world.followed(), Some(watch))
            .unwrap()
            .0
    };
    let restarted = again(witnesses.watch());
    restarted
        .admit(&ders(&svid.chain), world.now)
        .await
        .unwrap();
    let refused = async |following: &Following, now: Timestamp| {
        following.heard(now);
        following
            .admit(&ders(&svid.chain), now)
            .await
            .unwrap_err()
            .code
            .into_owned()
    };
    // A clock that was set back makes nothing fresh.
    for now in [world.now.plus_secs(LONGEST + 1), world.now.minus_secs(60)] {
        assert_eq!(refused(&restarted, now).await, "GATEWAY-UNWITNESSED");
    }
    // Another policy asks others.
    let others = again(Witnesses::new().watch());
    assert_eq!(refused(&others, world.now).await, "GATEWAY-UNWITNESSED");
}

#[tokio::test]
async fn a_recovery_that_gives_up_what_witnesses_saw_is_not_obeyed() {
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    let stays = world.ledger.reader().head().checkpoint.clone();
    world.issue(PAYMENTS);
    world.publish();
    take(&world, &witnesses.cosign(&head(&world), 2, world.now)).unwrap();
    let (size, root) = world.following.head();
    let recovery = Recovery {
        old_size: Decimal(size),
        old_root: Digest(root.unwrap()),
        old_checkpoint: None,
        new_size: Decimal(stays.size),
        new_root: Digest(stays.root),
        reason: "the disk was lost".to_owned(),
        by: "uid:0".to_owned(),
        obeyed: None,
    };
    // The record itself is as good as one can be: in the ledger, under a signed head.
    let committed = world.record(recovery.record());
    let receipt = committed.receipt();
    let next = ledger::Checkpoint::open(&receipt.checkpoint, world.stolen.key()).unwrap();
    let proof = world.proof(stays.size, next.size);
    let encoded = receipt.encode().unwrap();
    let refused = world.following.recovery(&encoded, &proof).unwrap_err();
    assert_eq!(refused.code, "FOLLOW-RECOVERY");
    assert!(
        refused
            .observed
            .unwrap()
            .contains("witnesses have cosigned")
    );
}
