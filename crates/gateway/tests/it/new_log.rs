//! INVARIANT 6: the server's ledger goes on as a new log, and a gateway follows by what both keys have signed; what
//! witnesses had cosigned of the old one is given up so, and nobody is let in before they have seen the new one.

use crate::witnessed::Witnesses;
use crate::world::{DOMAIN, PAYMENTS, World};
use crypto::{Algorithm, KeyPair};
use ledger::body::{Body as _, KeyRotation, Recovery};
use ledger::lineage::{self, Link};
use ledger::{Checkpoint, LedgerKey, LedgerSigner};
use ledger_store::{Committed, Ledger, Options};
use std::sync::Arc;

const SECOND: &str = "example.org/server@2";

fn signer(origin: &str) -> LedgerSigner {
    let key = KeyPair::generate(Algorithm::Ed25519).unwrap();
    LedgerSigner::new(origin, Arc::new(key)).unwrap()
}

/// A copy of the server's ledger as it was, which went on as a second log.
struct Second {
    ledger: Ledger,
    stays: Checkpoint,
    link: KeyRotation,
}

impl Second {
    fn copy(world: &World) {
        let folder = world.directory.path();
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .args([folder.join("server-ledger"), folder.join("copy")])
            .status();
        assert!(copied.unwrap().success());
    }

    fn open(world: &World) -> Self {
        let dir = world.directory.path().join("copy");
        let first = LedgerSigner::new(&format!("{DOMAIN}/server"), Arc::clone(&world.key)).unwrap();
        let stays = {
            let before = Ledger::open_signed(&dir, first.clone(), &Options::default()).unwrap();
            before.reader().head().checkpoint.clone()
        };
        let second = signer(SECOND);
        let link = Link::sign(&first, &second, (stays.size, stays.root), "restored").unwrap();
        let key = lineage::follow(first.key(), std::slice::from_ref(&link)).unwrap();
        let second = second.with_lineage(key).unwrap();
        let ledger = Ledger::open_signed(&dir, second, &Options::default()).unwrap();
        let it = Self {
            ledger,
            stays,
            link,
        };
        it.append(it.link.clone().record());
        it
    }

    fn append(&self, builder: ledger::RecordBuilder) -> Committed {
        let draft = builder.actor("server", "self").draft().unwrap();
        self.ledger.append(draft).wait().unwrap()
    }

    fn links(&self) -> String {
        lineage::to_json(std::slice::from_ref(&self.link))
    }

    /// The record that gives up what `world`'s gateway follows.
    fn gives_up(&self, world: &World) -> Committed {
        let (size, root) = world.following.head();
        let recovery = Recovery {
            old_size: size.into(),
            old_root: root.unwrap().into(),
            old_checkpoint: None,
            new_size: self.stays.size.into(),
            new_root: self.stays.root.into(),
            reason: "the disk was lost".to_owned(),
            by: "uid:0".to_owned(),
            obeyed: None,
        };
        self.append(recovery.record())
    }

    fn offer(&self, world: &World, record: &Committed) -> Result<gateway::Step, facts::Finding> {
        let size = record.head().checkpoint.size;
        let proof = self
            .ledger
            .reader()
            .consistency(self.stays.size, size)
            .unwrap();
        world
            .following
            .recovery(&record.receipt().encode().unwrap(), &proof)
    }
}

fn followed(key: &LedgerKey) -> &str {
    key.origin().as_str()
}

#[tokio::test]
async fn what_witnesses_saw_is_given_up_by_a_new_log_alone_and_lets_nobody_in_until_they_see_that()
{
    let witnesses = Witnesses::new();
    let world = World::watched(witnesses.watch());
    Second::copy(&world);
    let svid = world.issue_published(PAYMENTS);
    let head = world.following.note().unwrap();
    let (size, _) = world.following.head();
    let cosigned = witnesses.cosign(&head, 2, world.now);
    world
        .following
        .take_witnessed(&cosigned, size, &[], world.now)
        .unwrap();
    world.admit(&svid.chain).await.unwrap();
    let second = Second::open(&world);
    let record = second.gives_up(&world);

    // Nothing of it counts before the link: the key is nobody's.
    assert_eq!(
        second.offer(&world, &record).unwrap_err().code,
        "FOLLOW-RECORD"
    );
    world.following.succeed(&second.links()).unwrap();
    assert_eq!(
        followed(&world.following.ledger_key()),
        "example.org/server",
        "it has followed more"
    );
    world.admit(&svid.chain).await.unwrap();
    let step = second.offer(&world, &record).unwrap();
    world.following.recover(&step).unwrap();
    assert_eq!(followed(&world.following.ledger_key()), SECOND);
    let refused = world.refused(&svid.chain).await;
    assert!(
        ["GATEWAY-UNWITNESSED", "GATEWAY-NO-ESTATE"].contains(&refused.as_str()),
        "{refused}"
    );
    // What they had seen of the old log does not make the new one seen.
    assert!(
        world
            .following
            .take_witnessed(&cosigned, size, &[], world.now)
            .is_err()
    );
    let note = record.head().note.to_string();
    let size = record.head().checkpoint.size;
    let cosigned = witnesses.cosign(&note, 2, world.now);
    world
        .following
        .take_witnessed(&cosigned, size, &[], world.now)
        .unwrap();
    world.following.seen_by_others(world.now).unwrap();
    let (again, _) = world.restarted().unwrap();
    assert_eq!(followed(&again.ledger_key()), SECOND, "no start goes back");
    assert_eq!(again.head(), world.following.head());
}

#[tokio::test]
async fn a_new_log_that_has_all_that_is_followed_takes_over_at_once() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    world.admit(&svid.chain).await.unwrap();
    let (size, _) = world.following.head();
    Second::copy(&world);
    let second = Second::open(&world);
    world.following.succeed(&second.links()).unwrap();
    assert_eq!(followed(&world.following.ledger_key()), SECOND);
    let head = second.ledger.reader().head();
    let proof = second
        .ledger
        .reader()
        .consistency(size, head.checkpoint.size)
        .unwrap();
    world
        .following
        .take_checkpoint(&head.note, size, &proof)
        .unwrap();
    world.admit(&svid.chain).await.unwrap();
    // The old key goes on in the server's place: neither its heads nor its own succession are taken.
    world.issue(PAYMENTS);
    let theirs = world.ledger.reader().head();
    let refused = world
        .following
        .take_checkpoint(&theirs.note, size, &[])
        .unwrap_err();
    assert_eq!(refused.code, "FOLLOW-CHECKPOINT");
    let first = LedgerSigner::new(&format!("{DOMAIN}/server"), Arc::clone(&world.key)).unwrap();
    let (size, root) = (theirs.checkpoint.size, theirs.checkpoint.root);
    let forged = Link::sign(&first, &signer(SECOND), (size, root), "").unwrap();
    let refused = world
        .following
        .succeed(&lineage::to_json(&[forged]))
        .unwrap_err();
    assert_eq!(refused.code, "FOLLOW-LINEAGE-FORKED");
    let (again, _) = world.restarted().unwrap();
    assert_eq!(followed(&again.ledger_key()), SECOND);
    again.take_checkpoint(&theirs.note, size, &[]).unwrap_err();
}

#[tokio::test]
async fn a_key_that_was_replaced_signs_no_next_head_and_no_recovery_below_its_end_either() {
    let world = World::new();
    let svid = world.issue_published(PAYMENTS);
    let (followed_size, _) = world.following.head();
    // What the thief goes on with, from what this gateway follows: also a history that the log could have had.
    world.issue(PAYMENTS);
    let theirs = world.ledger.reader().head();
    let proof = world.proof(followed_size, theirs.checkpoint.size);
    world.issue(PAYMENTS);
    Second::copy(&world);
    let second = Second::open(&world);
    world.following.succeed(&second.links()).unwrap();
    assert!(theirs.checkpoint.size < second.stays.size);
    let refused = world
        .following
        .take_checkpoint(&theirs.note, followed_size, &proof)
        .unwrap_err();
    assert_eq!(refused.code, "FOLLOW-CHECKPOINT");
    assert!(
        refused.to_string().contains("LEDGER-CHECKPOINT-FORMER"),
        "{refused}"
    );
    assert_eq!(world.following.head().0, followed_size);
    // What is followed counts as before, also after a start.
    world.admit(&svid.chain).await.unwrap();
    let (again, _) = world.restarted().unwrap();
    assert_eq!(again.head(), world.following.head());
    // An SVID of his is under a checkpoint that is not on the chain, and lets nobody in.
    let first = LedgerSigner::new(&format!("{DOMAIN}/server"), Arc::clone(&world.key)).unwrap();
    let forged = world.forked(&first, followed_size);
    assert_eq!(world.refused(&forged).await, "FOLLOW-FORKED");
    // He gives up what is followed, for a tree of his own.
    let (size, root) = world.following.head();
    let mut tree = ledger::Frontier::new();
    tree.push(ledger::merkle::leaf_hash(&1_u64.to_be_bytes()));
    let recovery = Recovery {
        old_size: size.into(),
        old_root: root.unwrap().into(),
        old_checkpoint: None,
        new_size: 1.into(),
        new_root: tree.root().into(),
        reason: "restored".to_owned(),
        by: "uid:0".to_owned(),
        obeyed: None,
    };
    let receipt = world.forged_receipt(&first, recovery.record(), 2);
    let record = ledger::Record::parse(&receipt.record).unwrap();
    let refused = world
        .following
        .recovery(&receipt.encode().unwrap(), &[record.leaf_hash()])
        .unwrap_err();
    assert_eq!(refused.code, "FOLLOW-RECORD");
    assert!(
        refused.to_string().contains("LEDGER-CHECKPOINT-FORMER"),
        "{refused}"
    );
    assert_eq!(world.following.head(), (size, root));
}
