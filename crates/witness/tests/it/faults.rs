//! Each write of a witness fails, stored or not stored or by half, and the power goes; whatever it had answered
//! stands afterwards, and no other history is cosigned.

use crate::fault_disk::{Fault, MemoryDisk};
use crate::support::{FOLDER, Log, ask, hash, logs, open, size, status};
use std::path::Path;
use std::sync::Arc;
use testkit::mutation::Random;
use witness::Refused;

const SIZES: [u64; 5] = [3, 5, 5, 8, 13];

/// Asks for one size after the other, as a log does; the last size that was answered.
fn grow(disk: &MemoryDisk, log: &Log) -> (bool, Option<u64>) {
    let Ok(witness) = open(
        Arc::new(disk.clone()),
        Path::new(FOLDER),
        false,
        &logs(&[log]),
    ) else {
        return (false, None);
    };
    let mut answered = None;
    for new in SIZES {
        match ask(&witness, &log.request(answered.unwrap_or(0), new)) {
            Ok(cosigned) => answered = Some(cosigned.size),
            Err(refused) => {
                assert!(matches!(refused, Refused::Store(_)), "{refused:?}");
                assert_eq!(refused.answer().status(), 503);
                assert_eq!(refused.finding().code, "WITNESS-DISK");
                // What was handed out before is still what is handed out, and no more is signed.
                let served = witness.latest(&hash());
                assert_eq!(served.is_some(), answered.is_some());
                assert!(!witness.is_alive());
                let again = ask(&witness, &log.request(answered.unwrap_or(0), new));
                assert!(matches!(again, Err(Refused::Store(_))), "{again:?}");
                break;
            }
        }
    }
    (true, answered)
}

/// Whatever is on the disk now: a start believes it, and it is not behind what was answered.
fn judge(disk: MemoryDisk, log: &Log, keys: bool, answered: Option<u64>, what: &str) {
    let witness = open(Arc::new(disk), Path::new(FOLDER), keys, &logs(&[log]));
    let witness = witness.unwrap_or_else(|error| panic!("{what}: {error}"));
    let stands = size(&witness);
    assert!(
        stands >= answered,
        "{what}: {stands:?} stands, {answered:?} was answered"
    );
    let forked = Log::forked();
    let old = stands.unwrap_or(0);
    if old > 0 {
        for request in [
            forked.request(old, 20),
            forked.request(0, old),
            forked.request(old, old),
        ] {
            assert_ne!(status(&witness, &request).0, 200, "{what}");
        }
    }
    assert_eq!(
        status(&witness, &log.request(old, 20)),
        (200, None),
        "{what}"
    );
}

#[test]
fn each_write_fails_stored_or_not_and_nothing_that_was_answered_is_forgotten() {
    let log = Log::honest();
    let mut failed = 0;
    for fault in [
        Fault::FailedAndStored,
        Fault::FailedNotStored,
        Fault::Short,
        Fault::Full,
    ] {
        for at in 0.. {
            let disk = MemoryDisk::default();
            disk.fail(at, fault);
            let (started, answered) = grow(&disk, &log);
            if answered == SIZES.last().copied() {
                assert!(at >= 30, "only {at} writes");
                break;
            }
            failed += 1;
            let what = format!("{fault:?} at write {at}");
            for seed in 1..6 {
                let mut random = Random::new(seed);
                let crashed = disk.crash(|below| random.below(below as usize) as u64);
                judge(
                    crashed,
                    &log,
                    started,
                    answered,
                    &format!("{what}, crash {seed}"),
                );
            }
            judge(disk.healed(), &log, started, answered, &what);
        }
    }
    assert!(failed >= 120, "{failed}");
}

#[test]
fn the_power_goes_after_any_answer() {
    let log = Log::honest();
    for seed in 1..40 {
        let disk = MemoryDisk::default();
        let (started, answered) = grow(&disk, &log);
        let mut random = Random::new(seed);
        let crashed = disk.crash(|below| random.below(below as usize) as u64);
        judge(crashed, &log, started, answered, &format!("crash {seed}"));
    }
}

/// A lost answer is no deadlock: the log asks again and hears which size there is.
#[test]
fn what_was_stored_and_not_answered_is_answered_by_its_size() {
    let log = Log::honest();
    let disk = MemoryDisk::default();
    let witness = open(
        Arc::new(disk.clone()),
        Path::new(FOLDER),
        false,
        &logs(&[&log]),
    )
    .unwrap();
    ask(&witness, &log.request(0, 3)).unwrap();
    // The last of the five steps of a write: the folder is forced to disk.
    disk.fail(4, Fault::FailedAndStored);
    assert_eq!(status(&witness, &log.request(3, 5)), (503, None));
    drop(witness);
    let witness = open(Arc::new(disk), Path::new(FOLDER), true, &logs(&[&log])).unwrap();
    assert_eq!(status(&witness, &log.request(3, 5)), (409, Some(5)));
    assert_eq!(status(&witness, &log.request(5, 5)), (200, None));
}
