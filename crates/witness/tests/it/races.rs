//! Requests of one log at the same time: the race of c2sp.org/tlog-witness, "add-checkpoint", held open at its
//! worst moment, and many of them at once.

use crate::fault_disk::MemoryDisk;
use crate::support::{FOLDER, Log, Told, ask, hash, logs, open, size, status};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// A is checked and being written when B, which is further, comes. B has to wait, and to see what A has left: else
/// one of them would take the other back.
#[test]
fn a_request_that_comes_while_another_is_written_sees_what_it_leaves() {
    let log = Log::honest();
    let (reached, at_rename) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let (armed, told) = (Arc::new(AtomicBool::new(false)), Mutex::new(told));
    let held = Arc::clone(&armed);
    let disk = Told {
        disk: Arc::new(MemoryDisk::default()),
        done: Arc::new(move |what, path| {
            if what == "rename"
                && path.ends_with(hash().to_string())
                && held.swap(false, Ordering::SeqCst)
            {
                reached.send(()).unwrap();
                told.lock().unwrap().recv().unwrap();
            }
        }),
    };
    let witness = open(Arc::new(disk), Path::new(FOLDER), false, &logs(&[&log])).unwrap();
    ask(&witness, &log.request(0, 3)).unwrap();
    let before = witness.latest(&hash());
    std::thread::scope(|scope| {
        armed.store(true, Ordering::SeqCst);
        let a = scope.spawn(|| status(&witness, &log.request(3, 5)));
        at_rename.recv_timeout(Duration::from_secs(30)).unwrap();
        let b = scope.spawn(|| status(&witness, &log.request(3, 9)));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!a.is_finished() && !b.is_finished());
        // What is not durable is shown to nobody.
        assert_eq!(witness.latest(&hash()), before);
        go_on.send(()).unwrap();
        assert_eq!(a.join().unwrap(), (200, None));
        assert_eq!(b.join().unwrap(), (409, Some(5)));
    });
    assert_eq!(size(&witness), Some(5));
    assert_eq!(status(&witness, &log.request(5, 9)), (200, None));
}

/// Another log is not held up by it.
#[test]
fn a_log_waits_for_itself_only() {
    let (log, other) = (Log::honest(), Log::new("log.example/b", 2, "record", 20));
    let (reached, at_rename) = mpsc::channel();
    let (go_on, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let disk = Told {
        disk: Arc::new(MemoryDisk::default()),
        done: Arc::new(move |what, path| {
            if what == "rename" && path.ends_with(hash().to_string()) {
                reached.send(()).unwrap();
                told.lock().unwrap().recv().unwrap();
            }
        }),
    };
    let witness = open(
        Arc::new(disk),
        Path::new(FOLDER),
        false,
        &logs(&[&log, &other]),
    )
    .unwrap();
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| status(&witness, &log.request(0, 5)));
        at_rename.recv_timeout(Duration::from_secs(30)).unwrap();
        assert_eq!(status(&witness, &other.request(0, 5)), (200, None));
        assert_eq!(status(&witness, &other.request(5, 7)), (200, None));
        assert!(!slow.is_finished());
        go_on.send(()).unwrap();
        assert_eq!(slow.join().unwrap(), (200, None));
    });
}

#[test]
fn of_many_at_once_one_goes_forward_from_each_size() {
    let log = Log::honest();
    let disk = MemoryDisk::default();
    let witness = open(Arc::new(disk), Path::new(FOLDER), false, &logs(&[&log])).unwrap();
    let cosigned = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for worker in 0..8_u64 {
            let (witness, log, cosigned) = (&witness, &log, &cosigned);
            scope.spawn(move || {
                let mut old = 0;
                while old < 60 {
                    let new = old + 1 + worker % 4;
                    match status(witness, &log.request(old, new)) {
                        (200, _) => {
                            cosigned.lock().unwrap().push((old, new));
                            old = new;
                        }
                        (409, Some(size)) => {
                            assert!(size > old, "it went back from {old} to {size}");
                            old = size;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            });
        }
    });
    // One chain: each began where another ended.
    let mut steps = cosigned.into_inner().unwrap();
    steps.sort_unstable();
    let mut at = 0;
    for (old, new) in steps {
        assert_eq!(old, at, "two were cosigned from {old}, or none");
        at = new;
    }
    assert_eq!(size(&witness), Some(at));
}
