//! A process that cosigns is killed after each single step of its writes, also when all is durable and nothing
//! answered yet: what it had answered stands, on a real disk.

use crate::support::{Log, Told, ask, hash, logs, open, size, status};
use ledger_store::RealDisk;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DIR: &str = "TRILITH_WITNESS_KILL_DIR";
const STEP: &str = "TRILITH_WITNESS_KILL_STEP";

/// Not a test of its own: what the killed process runs.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let last: u64 = std::env::var(STEP).unwrap().parse().unwrap();
    let steps = AtomicU64::new(0);
    let disk = Told {
        disk: Arc::new(RealDisk),
        done: Arc::new(move |_, _| {
            if steps.fetch_add(1, Ordering::SeqCst) == last {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
            }
        }),
    };
    let log = Log::honest();
    let witness = open(Arc::new(disk), Path::new(&dir), false, &logs(&[&log])).unwrap();
    eprintln!("answered 0");
    for (old, new) in [(0, 3), (3, 8), (8, 13)] {
        ask(&witness, &log.request(old, new)).unwrap();
        eprintln!("answered {new}");
    }
    eprintln!("answered all");
}

#[test]
fn a_witness_killed_at_any_step_remembers_what_it_answered() {
    let log = Log::honest();
    let (mut kills, mut unanswered) = (0, 0);
    for step in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(STEP, step.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr).into_owned();
        if said.contains("answered all") {
            break;
        }
        assert!(!child.status.success(), "{said}");
        kills += 1;
        let answered = said
            .lines()
            .filter_map(|line| line.strip_prefix("answered "));
        let answered: Vec<u64> = answered.map(|size| size.parse().unwrap()).collect();
        let keys = !answered.is_empty();
        let answered = answered.last().copied().unwrap_or(0);
        let witness = open(Arc::new(RealDisk), dir.path(), keys, &logs(&[&log])).unwrap();
        let stands = size(&witness).unwrap_or(0);
        assert!(
            stands >= answered,
            "step {step}: {stands} stands, {answered} was answered"
        );
        unanswered += u64::from(stands > answered);
        // Whoever has heard nothing asks again; nobody is told another history.
        let forked = Log::forked();
        if stands > 0 {
            assert_eq!(status(&witness, &forked.request(stands, 20)).0, 422);
            assert_eq!(status(&witness, &log.request(0, 20)), (409, Some(stands)));
            let served = witness.latest(&hash()).unwrap();
            assert!(served.contains(&format!("\n{stands}\n")), "{served}");
        }
        assert_eq!(status(&witness, &log.request(stands, 20)), (200, None));
    }
    assert!(kills >= 20, "{kills} kills");
    // Renamed, or durable, and not answered: for each of the three sizes.
    assert!(
        unanswered >= 6,
        "{unanswered} sizes stood that nobody had heard of"
    );
}
