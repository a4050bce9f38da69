//! Appending, reading, proofs, tiles, reopening.

use crate::support::{ORIGIN, check_whole, draft, key, open, options, signer, text_of};
use ledger::Code;
use ledger::merkle::verify_consistency;
use ledger::tile::check::check;
use ledger_store::{Ledger, Options};
use std::sync::Arc;

#[test]
fn what_is_appended_is_there_with_a_receipt_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    let committed = ledger.append(draft("first")).wait().unwrap();
    assert_eq!((committed.index(), committed.seq()), (0, 0));
    let many = ledger
        .append_many((0..700).map(|n| draft(&format!("r{n}"))).collect())
        .wait()
        .unwrap();
    for committed in &many {
        let verified = committed.receipt().verify(&key(&signer)).unwrap();
        assert_eq!(verified.index, committed.index());
        assert_eq!(verified.record.seq(), committed.seq());
    }
    assert_eq!(many.last().unwrap().index(), 700);
    check_whole(ledger.reader(), &key(&signer));
    let receipt = ledger.reader().receipt(0).unwrap();
    receipt.verify(&key(&signer)).unwrap();
}

#[test]
fn receipts_verify_at_every_size() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    let mut heads = vec![ledger.reader().head()];
    for round in 0..40_usize {
        let drafts = (0..=round % 7).map(|n| draft(&format!("{round}/{n}")));
        for committed in ledger.append_many(drafts.collect()).wait().unwrap() {
            committed.receipt().verify(&key(&signer)).unwrap();
        }
        heads.push(ledger.reader().head());
    }
    for old in &heads {
        for new in heads
            .iter()
            .filter(|new| new.checkpoint.size >= old.checkpoint.size)
        {
            let (old, new) = (&old.checkpoint, &new.checkpoint);
            let proof = ledger.reader().consistency(old.size, new.size).unwrap();
            verify_consistency(old.size, &old.root, new.size, &new.root, &proof).unwrap();
        }
    }
}

#[test]
fn reopening_finds_everything_whatever_was_tiled() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let small = || Options {
        segment_bytes: 40_000,
        ..options()
    };
    let mut size = 0;
    for round in 0..5 {
        let ledger = Ledger::open(dir.path(), Arc::clone(&signer), ORIGIN, &small()).unwrap();
        assert_eq!(ledger.reader().size(), size);
        assert_eq!(ledger.epoch(), round + 1);
        for _ in 0..9 {
            let drafts = (size..size + 67).map(|n| draft(&format!("r{n}"))).collect();
            ledger.append_many(drafts).wait().unwrap();
            size += 67;
        }
        check_whole(ledger.reader(), &key(&signer));
        ledger.close().unwrap();
        if round == 2 {
            // Tiles are derived: losing or damaging them loses nothing.
            std::fs::remove_file(dir.path().join("tile/0/001")).unwrap();
            std::fs::write(dir.path().join("tile/0/000"), [7_u8; 8192]).unwrap();
        }
    }
    let ledger = open(dir.path(), &signer).unwrap();
    assert_eq!(text_of(ledger.reader(), 3000), "r3000");
    assert!(
        std::fs::read_dir(dir.path().join("segments"))
            .unwrap()
            .count()
            > 5
    );
}

#[test]
fn tiles_and_bundles_lead_to_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    for round in 0..7 {
        let drafts = (0..301).map(|n| draft(&format!("{round}/{n}"))).collect();
        ledger.append_many(drafts).wait().unwrap();
    }
    let head = ledger.reader().head();
    let fetch = |path: &ledger::tile::TilePath| ledger.reader().tile(path).unwrap();
    check(&head.checkpoint, true, fetch).unwrap();
}

#[test]
fn a_lost_tile_is_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    let drafts = (0..1100).map(|n| draft(&n.to_string())).collect();
    ledger.append_many(drafts).wait().unwrap();
    let tiled = dir.path().join("tiled");
    // The tiler works when nobody commits; it is given all the time that it wants.
    while std::fs::read_to_string(&tiled).unwrap_or_default() != "1024\n" {
        std::thread::yield_now();
    }
    drop(ledger);
    let ledger = open(dir.path(), &signer).unwrap();
    for lost in ["tile/0/002", "tile/0/003"] {
        std::fs::remove_file(dir.path().join(lost)).unwrap();
    }
    check_whole(ledger.reader(), &key(&signer));
}

#[test]
fn a_second_process_cannot_open_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let _ledger = open(dir.path(), &signer).unwrap();
    let error = open(dir.path(), &signer).err().unwrap();
    assert_eq!(error.code(), "LEDGER-LOCKED");
}

#[test]
fn a_holder_whose_lock_was_taken_away_signs_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let first = open(dir.path(), &signer).unwrap();
    first.append(draft("before")).wait().unwrap();
    std::fs::remove_file(dir.path().join("lock")).unwrap();
    let second = open(dir.path(), &signer).unwrap();
    let error = first.append(draft("fork")).wait().unwrap_err();
    assert_eq!(error.code(), "LEDGER-EPOCH-TAKEN");
    second.append(draft("after")).wait().unwrap();
    assert_eq!(second.reader().size(), 2);
}

#[test]
fn another_key_or_origin_does_not_open_the_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let ours = signer();
    let ledger = open(dir.path(), &ours).unwrap();
    ledger.append(draft("ours")).wait().unwrap();
    drop(ledger);
    assert_eq!(
        open(dir.path(), &signer()).err().unwrap().code(),
        "LEDGER-NOT-OURS"
    );
    let renamed = Ledger::open(dir.path(), ours, "example.org/other", &options());
    assert_eq!(renamed.err().unwrap().code(), "LEDGER-NOT-OURS");
}

#[test]
fn a_ledger_behind_what_a_peer_remembers_does_not_open() {
    let (dir, backup) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    ledger.append(draft("one")).wait().unwrap();
    drop(ledger);
    copy(dir.path(), backup.path());
    let ledger = open(dir.path(), &signer).unwrap();
    ledger.append(draft("two")).wait().unwrap();
    let seen = ledger.reader().head();
    drop(ledger);

    let at_least = |dir: &std::path::Path, root| {
        let expected_at_least = Some((seen.checkpoint.size, root));
        let options = Options {
            expected_at_least,
            ..options()
        };
        Ledger::open(dir, Arc::clone(&signer), ORIGIN, &options)
    };
    let restored = at_least(backup.path(), seen.checkpoint.root);
    assert_eq!(restored.err().unwrap().code(), "LEDGER-ROLLED-BACK");
    let forked = at_least(dir.path(), [1; 32]);
    assert_eq!(forked.err().unwrap().code(), "LEDGER-FORKED");
    at_least(dir.path(), seen.checkpoint.root).unwrap();
}

#[test]
fn subscribers_see_new_heads_and_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), &signer()).unwrap();
    let mut heads = ledger.reader().subscribe(0);
    let follower = std::thread::spawn(move || {
        let mut last = 0;
        while let Some(head) = heads.wait() {
            assert!(head.checkpoint.size > last);
            last = head.checkpoint.size;
        }
        last
    });
    for n in 0..50 {
        ledger.append(draft(&n.to_string())).wait().unwrap();
    }
    drop(ledger);
    assert_eq!(follower.join().unwrap(), 50);
}

pub(crate) fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A frame without records was written, after which the ledger did not open any more.
#[test]
fn a_commit_of_nothing_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    ledger.append(draft("one")).wait().unwrap();
    assert!(ledger.append_many(Vec::new()).wait().unwrap().is_empty());
    assert!(
        ledger
            .append_many_reserved(Vec::new())
            .wait()
            .unwrap()
            .is_empty()
    );
    ledger.append(draft("two")).wait().unwrap();
    ledger.close().unwrap();
    let ledger = open(dir.path(), &signer).unwrap();
    check_whole(ledger.reader(), &key(&signer));
    assert_eq!(text_of(ledger.reader(), 1), "two");
}

/// A full disk kept a server from starting, from its first new log on.
#[test]
fn a_lineage_that_is_told_already_is_not_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let named = |origin: &str| ledger::LedgerSigner::new(origin, signer()).unwrap();
    let (first, second) = (named("a.example/server"), named("a.example/server@2"));
    let link = ledger::lineage::Link::sign(&first, &second, (4, [7; 32]), "").unwrap();
    let key = ledger::lineage::follow(first.key(), &[link]).unwrap();
    ledger_store::keep_lineage(dir.path(), &key).unwrap();
    let told = std::fs::read(dir.path().join("lineage")).unwrap();
    // Whatever is written goes by here.
    let blocked = dir.path().join("lineage.tmp");
    std::fs::create_dir(&blocked).unwrap();
    ledger_store::keep_lineage(dir.path(), &key).unwrap();
    for other in [&b""[..], b"[]", &told[1..]] {
        std::fs::write(dir.path().join("lineage"), other).unwrap();
        assert!(ledger_store::keep_lineage(dir.path(), &key).is_err());
    }
    std::fs::remove_dir(&blocked).unwrap();
    ledger_store::keep_lineage(dir.path(), &key).unwrap();
    assert_eq!(std::fs::read(dir.path().join("lineage")).unwrap(), told);
}
