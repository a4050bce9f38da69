//! Every write failing, stored or not; power lost at any moment; full disks; damaged files.

use crate::fault_disk::{Fault, MemoryDisk};
use crate::ledger_basics::copy;
use crate::support::{ORIGIN, check_whole, draft, key, open, signer, text_of};
use crypto::Signer;
use ledger::body::Stop;
use ledger::{Code, HexDigest};
use ledger_store::{Blobs, Ledger, Options, StoreError};
use proptest::prelude::*;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

static SIGNER: LazyLock<Arc<dyn Signer>> = LazyLock::new(signer);

fn open_on(disk: &MemoryDisk, reserve_bytes: u64) -> Result<Ledger, StoreError> {
    let options = Options {
        reserve_bytes,
        segment_bytes: 6_000,
        disk: Arc::new(disk.clone()),
        ..Options::default()
    };
    Ledger::open(Path::new("/ledger"), Arc::clone(&SIGNER), ORIGIN, &options)
}

/// Appends groups of one to three records; returns the groups that were acknowledged, and all.
fn appends(ledger: &Ledger, from: usize, groups: usize) -> (Vec<usize>, Vec<Vec<String>>) {
    let (mut acked, mut tried) = (Vec::new(), Vec::new());
    for group in from..from + groups {
        let texts: Vec<String> = (0..=group % 3).map(|n| format!("{group}/{n}")).collect();
        let drafts = texts.iter().map(|text| draft(text)).collect();
        if ledger.append_many(drafts).wait().is_ok() {
            acked.push(group);
        }
        tried.push(texts);
    }
    (acked, tried)
}

/// All acknowledged groups are there, in order; each other group is there as a whole or not at all.
fn check_content(ledger: &Ledger, acked: &[usize], tried: &[Vec<String>]) {
    let reader = ledger.reader();
    check_whole(reader, ledger.key());
    let found: Vec<String> = (0..reader.size())
        .map(|index| {
            let record = reader.record(index).unwrap();
            assert_eq!(record.seq(), index);
            record.expect_body::<Stop>().unwrap().reason
        })
        .collect();
    let mut rest = found.as_slice();
    for (group, texts) in tried.iter().enumerate() {
        if let Some(after) = rest.strip_prefix(texts.as_slice()) {
            rest = after;
        } else {
            assert!(
                !acked.contains(&group),
                "acknowledged group {group} is lost"
            );
        }
    }
    assert!(rest.is_empty(), "half a group: {rest:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_failed_write_loses_or_halves_anything(
        after in 0_u64..120,
        fault in prop::sample::select(vec![
            Fault::FailedAndStored,
            Fault::FailedNotStored,
            Fault::Short,
            Fault::Full,
        ]),
        crash: bool,
        seed: u64,
    ) {
        let disk = MemoryDisk::default();
        disk.fail(after, fault);
        let (mut acked, mut tried) = (Vec::new(), Vec::new());
        if let Ok(ledger) = open_on(&disk, 0) {
            (acked, tried) = appends(&ledger, 0, 40);
            if ledger.failure().is_some() {
                // Nothing at all is taken after a failure.
                let refused = ledger.append(draft("after")).wait().unwrap_err();
                prop_assert_eq!(refused.code(), "LEDGER-POISONED");
            }
        }
        let mut random = seed;
        let dice = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        let disk = if crash { disk.crash(dice) } else { disk.healed() };
        let ledger = open_on(&disk, 0).unwrap();
        check_content(&ledger, &acked, &tried);
        // It goes on as if nothing had been.
        let before = ledger.reader().size();
        ledger.append(draft("on")).wait().unwrap();
        prop_assert_eq!(text_of(ledger.reader(), before), "on");
    }

    #[test]
    fn power_lost_at_any_moment_loses_nothing_acknowledged(groups in 0_usize..60, seed: u64) {
        let disk = MemoryDisk::default();
        let ledger = open_on(&disk, 0).unwrap();
        let (acked, mut tried) = appends(&ledger, 0, groups);
        // One more is on its way while the power goes.
        let texts = vec!["last/0".to_owned(), "last/1".to_owned()];
        let pending = ledger.append_many(texts.iter().map(|text| draft(text)).collect());
        tried.push(texts);
        let mut random = seed;
        let crashed = disk.crash(|below| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        });
        pending.wait().unwrap();
        drop(ledger);
        let ledger = open_on(&crashed, 0).unwrap();
        check_content(&ledger, &acked, &tried);
    }
}

#[test]
fn each_single_operation_can_fail_in_each_way() {
    let disk = MemoryDisk::default();
    appends(&open_on(&disk, 0).unwrap(), 0, 12);
    let operations = disk.operations();
    for fault in [
        Fault::FailedAndStored,
        Fault::FailedNotStored,
        Fault::Short,
        Fault::Full,
    ] {
        for after in 0..operations {
            let disk = MemoryDisk::default();
            disk.fail(after, fault);
            let done = open_on(&disk, 0).map(|ledger| appends(&ledger, 0, 12));
            let (acked, tried) = done.unwrap_or_default();
            for disk in [disk.crash(|_| 0), disk.crash(|_| 3), disk.healed()] {
                check_content(&open_on(&disk, 0).unwrap(), &acked, &tried);
            }
        }
    }
}

#[test]
fn a_failed_sync_tells_the_shell_once_and_is_never_retried() {
    let told = Arc::new(AtomicUsize::new(0));
    let disk = MemoryDisk::default();
    let counter = Arc::clone(&told);
    let options = Options {
        reserve_bytes: 0,
        disk: Arc::new(disk.clone()),
        on_failure: Some(Arc::new(move |error: &StoreError| {
            assert!(error.is_fatal());
            counter.fetch_add(1, Ordering::SeqCst);
        })),
        ..Options::default()
    };
    let ledger = Ledger::open(Path::new("/ledger"), Arc::clone(&SIGNER), ORIGIN, &options).unwrap();
    ledger.append(draft("one")).wait().unwrap();
    // The write itself goes well, the sync behind it does not.
    disk.fail(1, Fault::FailedAndStored);
    let error = ledger.append(draft("two")).wait().unwrap_err();
    assert_eq!(error.code(), "LEDGER-POISONED");
    let operations = disk.operations();
    for _ in 0..3 {
        assert!(ledger.append(draft("three")).wait().unwrap_err().is_fatal());
    }
    assert_eq!(disk.operations(), operations);
    assert_eq!(ledger.reader().size(), 1);
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

#[test]
fn a_full_disk_still_takes_revocations() {
    let disk = MemoryDisk::default();
    let ledger = open_on(&disk, 50_000).unwrap();
    ledger.append(draft("before")).wait().unwrap();
    disk.limit(Some(disk.used() + 300));
    let refused = ledger.append(draft("ordinary")).wait().unwrap_err();
    assert_eq!(refused.code(), "LEDGER-DISK-FULL");
    for n in 0..20 {
        let revocation = draft(&format!("revocation {n}"));
        ledger.append_reserved(revocation).wait().unwrap();
        // What was kept back is for revocations alone.
        let refused = ledger.append(draft("ordinary")).wait().unwrap_err();
        assert_eq!(refused.code(), "LEDGER-DISK-FULL");
    }
    assert!(ledger.failure().is_none());
    disk.limit(None);
    ledger.append(draft("after")).wait().unwrap();
    drop(ledger);
    let ledger = open_on(&disk.crash(|_| 0), 50_000).unwrap();
    assert_eq!(ledger.reader().size(), 22);
    assert_eq!(text_of(ledger.reader(), 21), "after");
    check_whole(ledger.reader(), &key(&SIGNER));
}

/// Given up as a whole, the reserve would be taken by whatever else writes to the disk, and the second
/// revocation would find nothing.
#[test]
fn a_revocation_gives_up_no_more_of_the_reserve_than_it_needs() {
    let disk = MemoryDisk::default();
    let ledger = open_on(&disk, 200_000).unwrap();
    ledger.append(draft("before")).wait().unwrap();
    let mut capacity = disk.used() + 300;
    disk.limit(Some(capacity));
    for n in 0..3 {
        let revocation = draft(&format!("revocation {n}"));
        ledger.append_reserved(revocation).wait().unwrap();
        let room = capacity - disk.used();
        assert!(room < 20_000, "{room} bytes are open to everybody");
        // Somebody else takes what there is.
        capacity = disk.used();
        disk.limit(Some(capacity));
    }
    ledger.append_reserved(draft("one more")).wait().unwrap();
}

#[test]
fn a_full_queue_refuses_no_revocation() {
    let options = Options {
        queue_bytes: 1,
        disk: Arc::new(MemoryDisk::default()),
        ..Options::default()
    };
    let ledger = Ledger::open(Path::new("/ledger"), Arc::clone(&SIGNER), ORIGIN, &options).unwrap();
    let (mut busy, mut reserved) = (0, Vec::new());
    let mut ordinary = Vec::new();
    for _ in 0..20_000 {
        // Two at once: one of them waits, and the other finds it waiting.
        ordinary.push(ledger.append(draft("ordinary")));
        reserved.push(ledger.append_reserved(draft("revocation")));
        if busy == 0 && ordinary.len() > 100 {
            let outcomes = ordinary.drain(..).map(ledger_store::Append::wait);
            busy += outcomes.filter(Result::is_err).count();
        }
        if busy > 0 {
            break;
        }
    }
    assert!(busy > 0, "the queue was never full");
    for append in reserved {
        append.wait().unwrap();
    }
}

fn segment(dir: &Path) -> std::path::PathBuf {
    dir.join("segments/00000000000000000000.segment")
}

/// A ledger of five commits, never closed in order: no checkpoint was published.
fn five_commits() -> (tempfile::TempDir, Arc<dyn Signer>) {
    let (running, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let signer = signer();
    let ledger = open(running.path(), &signer).unwrap();
    for n in 0..5 {
        ledger.append(draft(&n.to_string())).wait().unwrap();
    }
    copy(running.path(), dir.path());
    (dir, signer)
}

#[test]
fn a_torn_last_commit_is_cut_and_nothing_else() {
    let (dir, signer) = five_commits();
    let path = segment(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let frame = whole
        .windows(4)
        .rposition(|window| window == b"TLF1")
        .unwrap();
    for cut in (frame..whole.len()).step_by(13) {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let ledger = open(copied.path(), &signer).unwrap();
        assert_eq!(ledger.reader().size(), 4);
        ledger.append(draft("again")).wait().unwrap();
        assert_eq!(text_of(ledger.reader(), 4), "again");
    }
}

#[test]
fn a_damaged_middle_is_refused_and_left_alone() {
    let (dir, signer) = five_commits();
    let path = segment(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let last = whole
        .windows(4)
        .rposition(|window| window == b"TLF1")
        .unwrap();
    for at in (0..last).step_by(7) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&path, &damaged).unwrap();
        let error = open(dir.path(), &signer).err().unwrap();
        assert_eq!(error.code(), "LEDGER-SEGMENT-CORRUPT", "byte {at}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}

#[test]
fn a_damaged_end_that_was_published_is_refused_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let signer = signer();
    let ledger = open(dir.path(), &signer).unwrap();
    for n in 0..5 {
        ledger.append(draft(&n.to_string())).wait().unwrap();
    }
    ledger.close().unwrap();
    let path = segment(dir.path());
    let whole = std::fs::read(&path).unwrap();
    let damaged = &whole[..whole.len() - 1];
    std::fs::write(&path, damaged).unwrap();
    let error = open(dir.path(), &signer).err().unwrap();
    assert_eq!(error.code(), "LEDGER-SEGMENT-CORRUPT");
    assert_eq!(std::fs::read(&path).unwrap(), damaged, "left alone");
    // Cut at a commit's boundary it looks whole, and is known to be too short.
    let frame = whole
        .windows(4)
        .rposition(|window| window == b"TLF1")
        .unwrap();
    std::fs::write(&path, &whole[..frame]).unwrap();
    let error = open(dir.path(), &signer).err().unwrap();
    assert_eq!(error.code(), "LEDGER-ROLLED-BACK");
    std::fs::remove_file(&path).unwrap();
    let error = open(dir.path(), &signer).err().unwrap();
    assert_eq!(error.code(), "LEDGER-ROLLED-BACK");
}

/// Many are forced out together: each of them is whole all the same, or not there.
#[test]
fn blobs_that_were_kept_together_survive_a_crash_and_none_is_half_there() {
    let many: Vec<Vec<u8>> = (0..5).map(|number| vec![number; 300]).collect();
    let open = |disk: &MemoryDisk| {
        Blobs::open(Path::new("/blobs"), 1_000, Arc::new(disk.clone())).unwrap()
    };
    for fault in [Fault::FailedNotStored, Fault::FailedAndStored, Fault::Short] {
        for after in 0.. {
            let disk = MemoryDisk::default();
            let blobs = open(&disk);
            disk.fail(after, fault);
            let kept = blobs.put_all(&many).is_ok();
            for dice in [0, 1, 2, 3] {
                let blobs = open(&disk.crash(|_| dice));
                for bytes in &many {
                    let found = blobs.get(&HexDigest::of(bytes)).unwrap();
                    assert!(found.is_some() || !kept, "{fault:?} {after}: it is lost");
                    assert!(found.is_none_or(|found| found == *bytes));
                }
            }
            // Whoever tries again is not in the way of what was left.
            open(&disk.healed()).put_all(&many).unwrap();
            if kept {
                break;
            }
        }
    }
}

/// What is there and may have no record is known to be so, wherever it was cut short.
#[test]
fn a_blob_that_no_record_names_yet_is_found_wherever_its_put_was_cut_short() {
    let open = |disk: &MemoryDisk| {
        Blobs::open(Path::new("/blobs"), 1_000, Arc::new(disk.clone())).unwrap()
    };
    for fault in [Fault::FailedNotStored, Fault::FailedAndStored, Fault::Short] {
        for after in 0.. {
            let disk = MemoryDisk::default();
            let blobs = open(&disk);
            disk.fail(after, fault);
            let bodies: [&[u8]; 2] = [b"login", b"quote"];
            let put = blobs.put_all_intended(&bodies, 7);
            for dice in [0, 1, 2, 3] {
                let blobs = open(&disk.crash(|_| dice));
                let intended = blobs.intended().unwrap();
                for sha256 in bodies.map(HexDigest::of) {
                    let known = intended.iter().any(|one| one.sha256 == sha256);
                    let there = blobs.get(&sha256).unwrap().is_some();
                    assert!(!there || known, "{fault:?} {after}: nobody knows of it");
                }
                for one in &intended {
                    assert!(bodies.map(HexDigest::of).contains(&one.sha256));
                    assert_eq!(one.from, 7);
                    blobs.settle(one).unwrap();
                }
                assert!(blobs.intended().unwrap().is_empty());
            }
            if put.is_ok() {
                break;
            }
        }
    }
}
