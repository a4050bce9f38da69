//! INVARIANT 6 and 8: a gateway steps over to a restored ledger by the record that gives up its very head,
//! and by nothing else; and what was revoked before stays revoked for what was issued before.

use crate::world::{DOMAIN, PAYMENTS, Svid, World, ders, estate};
use facts::Finding;
use gateway::{CutReason, Following};
use ledger::body::{self, Body as _, FactValue, Recovery, TargetKind};
use ledger::{Checkpoint, Hash};
use ledger_store::{Committed, Ledger, Options};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The server's ledger as it was when it was copied, opened by the same key.
struct Restored {
    ledger: Ledger,
    stays: Checkpoint,
}

impl Restored {
    /// A copy of the ledger as it is now, to be opened later.
    fn copy(world: &World, name: &str) {
        let (from, to) = (
            world.directory.path().join("server-ledger"),
            world.directory.path().join(name),
        );
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([&from, &to])
            .status();
        assert!(copied.unwrap().success());
    }

    fn open(world: &World, name: &str) -> Self {
        let dir = world.directory.path().join(name);
        let origin = format!("{DOMAIN}/server");
        let key = std::sync::Arc::clone(&world.key);
        let ledger = Ledger::open(&dir, key, &origin, &Options::default()).unwrap();
        let stays = ledger.reader().head().checkpoint.clone();
        Self { ledger, stays }
    }

    fn append(&self, builder: ledger::RecordBuilder) -> Committed {
        let draft = builder.actor("server", "self").draft().unwrap();
        self.ledger.append(draft).wait().unwrap()
    }

    fn gives_up(&self, (size, root): (u64, Option<Hash>)) -> Recovery {
        Recovery {
            old_size: size.into(),
            old_root: root.unwrap().into(),
            old_checkpoint: None,
            new_size: self.stays.size.into(),
            new_root: self.stays.root.into(),
            reason: "the disk was lost".to_owned(),
            by: "uid:0".to_owned(),
            obeyed: None,
        }
    }

    fn proof(&self, to: u64) -> Vec<Hash> {
        let reader = self.ledger.reader();
        reader.consistency(self.stays.size, to).unwrap()
    }

    /// What the server sends of this record, as the gateway judges it.
    fn offer(&self, following: &Following, record: &Committed) -> Result<gateway::Step, Finding> {
        let size = record.head().checkpoint.size;
        let receipt = record.receipt().encode().unwrap();
        following.recovery(&receipt, &self.proof(size))
    }
}

fn bundle(world: &World) -> ledger::RecordBuilder {
    let roots = world.authority.roots();
    body::Bundle {
        sequence: 1.into(),
        x509_authorities: roots.map(|root| ledger::Base64(root.to_vec())).collect(),
        jwt_authorities: Vec::new(),
        blob: None,
    }
    .record()
}

fn version(blob: &[u8]) -> ledger::RecordBuilder {
    body::EstateVersion {
        version: ledger::HexDigest::of(blob),
        blob: body::BlobRef::of(blob),
        parent: None,
        author: "uid:0".to_owned(),
        message: String::new(),
        proof_index: None,
        floor: 0.into(),
    }
    .record()
}

/// The gateway learns whether `svid`'s checkpoint is on the chain, as the server would prove it.
async fn admitted(
    world: &World,
    following: &Following,
    restored: &Restored,
    svid: &Svid,
) -> Result<(), String> {
    let checkpoint = Checkpoint::open(&svid.receipt.checkpoint, world.stolen.key()).unwrap();
    let head = following.head().0;
    if checkpoint.size <= head {
        let proof = restored.ledger.reader().consistency(checkpoint.size, head);
        drop(following.proven(&checkpoint, head, &proof.unwrap()));
    }
    let admitted = following.admit(&ders(&svid.chain), world.now).await;
    admitted
        .map(drop)
        .map_err(|finding| finding.code.to_string())
}

#[tokio::test]
async fn a_gateway_steps_over_and_what_was_given_up_is_refused_also_after_a_restart() {
    let world = World::new();
    let kept = world.issue_published(PAYMENTS);
    let gone = world.issue_published(PAYMENTS);
    let lifted = world.issue_published(PAYMENTS);
    Restored::copy(&world, "backup");
    // ------------------------------------------------------------ the history that is given up
    world.revoke(TargetKind::Serial, &gone.serial.to_string());
    world.revoke(TargetKind::Identity, "reporting/nightly");
    let late = world.issue_published(PAYMENTS);
    let principal = world.admit(&late.chain).await.unwrap();
    let longest = Duration::from_secs(600);
    let sessions = world.following.sessions();
    let on_late = sessions.register(&principal, longest, world.now);
    let principal = world.admit(&kept.chain).await.unwrap();
    let on_kept = sessions.register(&principal, longest, world.now);
    let renewed = world.admit(&lifted.chain).await.unwrap();
    let on_renewed = sessions.register(&renewed, longest, world.now);
    // As its record shows them: only what the renewal rests on is not known.
    let facts = BTreeMap::from([
        ("machine.name".to_owned(), FactValue::Text("m1".to_owned())),
        ("workload.uid".to_owned(), FactValue::Integer(1000)),
    ]);
    let until = world.now.plus_secs(3_600);
    let following = &world.following;
    following.renewed(&renewed.serial, "ff", until, &facts);
    assert!(on_renewed.is_cut().is_none());

    // ------------------------------------------------------------ the step
    let restored = Restored::open(&world, "backup");
    let record = restored.append(restored.gives_up(world.following.head()).record());
    let old = world.following.head();
    let step = restored.offer(&world.following, &record).unwrap();
    assert_eq!(step.recovery.obeyed.unwrap().0, record.index());
    let evidence = step.recovery.old_checkpoint.clone().unwrap();
    let evidence = Checkpoint::open(&evidence, world.stolen.key()).unwrap();
    assert_eq!((evidence.size, Some(evidence.root)), old);
    assert_eq!(world.following.head(), old, "nothing yet");
    world.following.recover(&step).unwrap();
    let head = record.head().checkpoint;
    assert_eq!(world.following.head(), (head.size, Some(head.root)));
    assert_eq!(on_late.is_cut().unwrap().reason, CutReason::Revoked);
    assert!(
        on_renewed.is_cut().is_some(),
        "on what it rests is not known"
    );
    assert!(on_kept.is_cut().is_none());
    // What decided decides, until the server has sent what it has.
    assert!(world.following.current().is_some());

    let blob = estate(&[PAYMENTS]).to_blob();
    let (bundle, version) = (
        restored.append(bundle(&world)),
        restored.append(version(&blob)),
    );
    // The new history grows beyond the old one, so that sizes alone tell nothing.
    while restored.ledger.reader().size() <= old.0 {
        restored.append(
            body::Stop {
                reason: String::new(),
            }
            .record(),
        );
    }
    let newest = restored.ledger.reader().head();
    let size = newest.checkpoint.size;
    let proof = restored.ledger.reader().consistency(head.size, size);
    world
        .following
        .take_checkpoint(&newest.note, head.size, &proof.unwrap())
        .unwrap();
    for (index, blob) in [(bundle.index(), &[][..]), (version.index(), &blob[..])] {
        let receipt = restored.ledger.reader().receipt(index).unwrap();
        let receipt = receipt.encode().unwrap();
        world.following.take_record(&receipt, blob).unwrap();
    }
    world
        .following
        .keep_only(&BTreeSet::new(), world.now)
        .unwrap();
    let current = world.following.current().unwrap();
    assert_eq!(
        current.index,
        version.index(),
        "though the old one had a higher index"
    );

    let (restarted, _questions) = world.restarted().unwrap();
    for following in [&world.following, &restarted] {
        let of = async |svid: &Svid| admitted(&world, following, &restored, svid).await;
        assert_eq!(of(&kept).await, Ok(()));
        assert_eq!(of(&gone).await.unwrap_err(), "GATEWAY-REVOKED");
        let refused = of(&late).await.unwrap_err();
        assert!(refused.starts_with("FOLLOW-"), "{refused}");
    }
}

#[tokio::test]
async fn a_recovery_of_another_head_or_history_is_not_obeyed() {
    let world = World::new();
    Restored::copy(&world, "backup");
    for _ in 0..4 {
        world.issue(PAYMENTS);
    }
    let early = {
        world.publish();
        world.following.head()
    };
    world.issue_published(PAYMENTS);
    let restored = Restored::open(&world, "backup");
    let head = world.following.head();
    let code = |builder: ledger::RecordBuilder| {
        let record = restored.append(builder);
        let refused = restored.offer(&world.following, &record).unwrap_err();
        refused.code.to_string()
    };
    let genuine = restored.gives_up(head);
    // A head that this gateway followed once, one of another root, and what another gateway has obeyed.
    assert_eq!(code(restored.gives_up(early).record()), "FOLLOW-RECOVERY");
    let another = restored.gives_up((head.0, Some([9; 32])));
    assert_eq!(code(another.record()), "FOLLOW-RECOVERY");
    let obeyed = Recovery {
        obeyed: Some(3.into()),
        ..genuine.clone()
    };
    assert_eq!(code(obeyed.record()), "FOLLOW-RECOVERY");
    // The ledger does not go on from where it says.
    for new_root in [[7; 32], head.1.unwrap()] {
        let bent = Recovery {
            new_root: new_root.into(),
            ..genuine.clone()
        };
        assert_eq!(code(bent.record()), "FOLLOW-RECOVERY");
    }
    for new_size in [0, restored.stays.size - 1, 1_000] {
        let bent = Recovery {
            new_size: new_size.into(),
            ..genuine.clone()
        };
        assert_eq!(code(bent.record()), "FOLLOW-RECOVERY");
    }
    assert_eq!(code(bundle(&world)), "FOLLOW-RECORD");

    let record = restored.append(genuine.record());
    let receipt = record.receipt().encode().unwrap();
    let refused = world.following.recovery(&receipt, &[]).unwrap_err();
    assert_eq!(refused.code, "FOLLOW-RECOVERY", "a step without a proof");
    let stranger = World::new();
    let refused = restored.offer(&stranger.following, &record).unwrap_err();
    assert_eq!(refused.code, "FOLLOW-RECORD", "signed by another key");
    assert_eq!(world.following.head(), head);
    let step = restored.offer(&world.following, &record).unwrap();
    world.following.recover(&step).unwrap();
    // Replayed, as when the server is rolled back once more and shows the same record.
    let refused = restored.offer(&world.following, &record).unwrap_err();
    assert_eq!(refused.code, "FOLLOW-RECOVERY");
    assert_eq!(
        world.following.recover(&step).unwrap_err().code,
        "FOLLOW-RECOVERY"
    );
}
