//! Who prunes is killed at each step: before each change of the disk, and in the middle of each write. What was recorded
//! before is there, or is gone by a record; the folder opens, and the next start of the gateway finishes.

use crate::old_ledger::{ask, fill};
use crate::passing_disk::{Hands, PassingDisk};
use crate::world::World;
use facts::Timestamp;
use gateway::Core;
use gateway::retention::{Anchored, Prune, prune_with};
use ledger::merkle::leaf_hash;
use ledger_store::{DiskFile, Folder, Options, Reader};
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const DIR: &str = "TRILITH_PRUNE_KILL_DIR";
const STEP: &str = "TRILITH_PRUNE_KILL_STEP";
const DAY: u64 = 24 * 60 * 60 * 1000;

/// Changes of a disk, of which one is the last that this process makes.
#[derive(Clone)]
struct Deadly(Arc<AtomicU64>);

impl Deadly {
    /// Whether this change is the last one.
    fn is_last(&self) -> bool {
        self.0.fetch_sub(1, Ordering::SeqCst) == 0
    }
}

fn die() -> ! {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
    loop {
        std::thread::park();
    }
}

impl Hands for Deadly {
    fn write(&self, file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.is_last() {
            file.write_at(&bytes[..bytes.len() / 2], offset)?;
            die();
        }
        file.write_at(bytes, offset)
    }

    fn sync(&self, file: &dyn DiskFile) -> io::Result<()> {
        self.before();
        file.sync()
    }

    fn before(&self) {
        if self.is_last() {
            die();
        }
    }
}

/// Not a test of its own: what the killed process runs, which is all that `trilith ledger prune --yes` does.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let step = std::env::var(STEP).unwrap().parse().unwrap();
    let options = Options {
        segment_bytes: 30_000,
        reserve_bytes: 0,
        disk: Arc::new(PassingDisk(Deadly(Arc::new(AtomicU64::new(step))))),
        ..Options::default()
    };
    let now = Timestamp::now();
    let asked = Prune {
        before: Timestamp::from_millis(now.as_millis() - 5 * DAY),
        reason: "case 7",
        by: "uid:0",
        now,
        really: true,
    };
    prune_with(Path::new(&dir), &asked, &options).unwrap();
    // Whoever has started it looks whether it came so far.
    writeln!(std::io::stderr(), "pruned it").unwrap();
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(copied.unwrap().success());
}

/// Where the segments of a ledger begin.
fn firsts(dir: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(dir.join("ledger/segments")).unwrap();
    let first = |path: PathBuf| path.file_stem()?.to_str()?.parse().ok();
    let mut firsts: Vec<u64> = entries
        .filter_map(|entry| first(entry.unwrap().path()))
        .collect();
    firsts.sort_unstable();
    firsts
}

/// What was there before is there, but for what a record says to be gone. Returns below which index that is.
fn whole(reader: &Reader, before: &[ledger::Hash]) -> Option<u64> {
    let minimum = reader.pruned().map(|pruned| pruned.minimum);
    let size = before.len() as u64;
    let first = reader.read(0..1).unwrap();
    assert_eq!(leaf_hash(&first[0]), before[0]);
    let mut at = minimum.unwrap_or(0);
    while at < size {
        for record in reader.read(at..size).unwrap() {
            assert_eq!(
                leaf_hash(&record),
                before[usize::try_from(at).unwrap()],
                "{at}"
            );
            at += 1;
        }
    }
    // What is left is proven, also by hashes of what is gone.
    let head = reader.head().checkpoint.clone();
    let proof = reader.consistency(size, head.size).unwrap();
    let old = reader.root(size).unwrap();
    ledger::merkle::verify_consistency(size, &old, head.size, &head.root, &proof).unwrap();
    reader.receipt(minimum.unwrap_or(1)).unwrap();
    minimum
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_killed_while_pruning_leaves_a_folder_that_opens_and_the_next_start_finishes() {
    let world = World::new();
    let config = world.config();
    let dir = config.data_dir.clone();
    fill(&dir, &config.origin(), 300);
    let folder = Folder::open(&dir.join("ledger")).unwrap();
    Anchored::note(folder.reader(), 1_100, 77, &dir.join("anchored.json")).unwrap();
    let size = folder.reader().size();
    let mut before = Vec::new();
    while (before.len() as u64) < size {
        let read = folder.reader().read(before.len() as u64..size).unwrap();
        before.extend(read.iter().map(|record| leaf_hash(record)));
    }
    let expected = ask(&dir, 5, false).unwrap().minimum;
    assert!(expected >= 768, "{expected}");
    let kept = world.directory.path().join("kept");
    copy(&dir, &kept);

    let (mut done, mut not) = (0, 0);
    for step in 0_u64.. {
        std::fs::remove_dir_all(&dir).unwrap();
        copy(&kept, &dir);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["prune_killed::child", "--exact", "--nocapture"])
            .env(DIR, &dir)
            .env(STEP, step.to_string())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stderr).into_owned();
        if child.status.success() {
            assert!(said.contains("pruned it"), "{said}");
            break;
        }
        assert_eq!(
            child.status.code(),
            None,
            "step {step}: it was not killed: {said}"
        );
        // For whoever reads it from outside, as it lies there: what has not gone yet can be read.
        let all = firsts(&dir).first() == Some(&0);
        let folder = Folder::open(&dir.join("ledger")).unwrap();
        let seen = whole(folder.reader(), &before);

        let core = Core::open(config.clone()).await.unwrap();
        let reader = core.reader().clone();
        let minimum = whole(&reader, &before);
        core.close().await.unwrap();
        assert_eq!(seen, minimum.filter(|_| !all), "step {step}");
        match minimum {
            Some(minimum) => {
                assert_eq!(minimum, expected, "step {step}");
                let left = firsts(&dir);
                assert!(
                    left.get(1).is_none_or(|next| *next > minimum),
                    "step {step}: {left:?}"
                );
                assert_eq!(ask(&dir, 5, true).unwrap_err().code, "PRUNE-NOTHING");
                done += 1;
            }
            None => {
                let pruned = ask(&dir, 5, true).unwrap();
                assert_eq!(pruned.minimum, expected, "step {step}");
                let folder = Folder::open(&dir.join("ledger")).unwrap();
                assert_eq!(whole(folder.reader(), &before), Some(expected));
                not += 1;
            }
        }
    }
    assert!(done > 5 && not > 5, "{done} {not}");
}
