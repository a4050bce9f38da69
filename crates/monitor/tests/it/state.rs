//! The state: durable before it counts, forward only, one process at a time, and believed only if it is what was
//! written.

use crate::support::{Log, Site, WATCH, at, config, issuance, watching};
use ledger::witness::origin_hash;
use ledger_store::{Disk, DiskFile, RealDisk};
use monitor::{Failure, Monitor};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn state(folder: &Path) -> PathBuf {
    folder
        .join("state")
        .join(origin_hash(crate::support::ORIGIN).to_string())
}

fn opened(folder: &Path, site: &Site) -> Result<Monitor, Failure> {
    Monitor::open(config(folder, &[site.url()], "", WATCH))
}

fn refused(folder: &Path, site: &Site) -> String {
    match opened(folder, site).map(drop) {
        Err(Failure::Local(finding)) => {
            assert!(finding.next.is_some());
            finding.code.into_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn one_process_has_it_and_another_is_refused() {
    let site = Site::new(Log::new("a", 5)).await;
    let (folder, monitor) = watching(&site, "", WATCH).await;
    assert_eq!(refused(folder.path(), &site), "MONITOR-STATE-IN-USE");
    drop(monitor);
    opened(folder.path(), &site).unwrap();
}

#[tokio::test]
async fn what_is_not_what_was_written_is_not_believed() {
    let site = Site::new(Log::new("a", 300)).await;
    let (folder, monitor) = watching(&site, "", WATCH).await;
    drop(monitor);
    let path = state(folder.path());
    let good = std::fs::read_to_string(&path).unwrap();
    let size = "\"looked\":{\"size\":300";
    assert!(good.contains(size) && good.contains("\\n300\\n"), "{good}");
    for (what, bad) in [
        ("cut", good.split_at(good.len() / 2).0.to_owned()),
        ("empty", String::new()),
        ("another version", good.replacen("\"v\":1", "\"v\":2", 1)),
        (
            "another log",
            good.replacen("example.org/server", "example.org/other", 1),
        ),
        (
            "a head that nobody signed",
            good.replacen("\\n300\\n", "\\n301\\n", 1),
        ),
        (
            "an edge of another size",
            good.replacen(size, "\"looked\":{\"size\":299", 1),
        ),
        (
            "an unknown field",
            good.replacen("{\"v\"", "{\"w\":1,\"v\"", 1),
        ),
    ] {
        assert_ne!(bad, good, "{what}");
        std::fs::write(&path, bad).unwrap();
        assert_eq!(
            refused(folder.path(), &site),
            "MONITOR-STATE-UNREADABLE",
            "{what}"
        );
    }
    // Looked at more than there is.
    std::fs::write(&path, good.replacen(size, "\"looked\":{\"size\":308", 1)).unwrap();
    assert_eq!(refused(folder.path(), &site), "MONITOR-STATE-UNREADABLE");
    std::fs::write(&path, good).unwrap();
    opened(folder.path(), &site).unwrap();
}

/// A disk on which the operation after so many fails, as if it had been done or as if it had not.
struct Failing {
    disk: RealDisk,
    left: Arc<AtomicU64>,
    stored: bool,
}

struct File(Box<dyn DiskFile>, Arc<AtomicU64>, bool);

fn fails(left: &AtomicU64) -> bool {
    let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
        Some(left.saturating_sub(1))
    });
    before == Ok(1)
}

fn act(left: &AtomicU64, stored: bool, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if !fails(left) {
        return act();
    }
    if stored {
        act()?;
    }
    Err(io::Error::other("the disk"))
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        act(&self.1, self.2, || self.0.write_at(bytes, offset))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        act(&self.1, self.2, || self.0.truncate(length))
    }

    fn sync(&self) -> io::Result<()> {
        act(&self.1, self.2, || self.0.sync())
    }
}

impl Disk for Failing {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.disk.create(path)?;
        Ok(Box::new(File(file, Arc::clone(&self.left), self.stored)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        act(&self.left, self.stored, || self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        act(&self.left, self.stored, || self.disk.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.disk.reserve(path, bytes)
    }
}

/// Whichever write fails, stored or not: the round says so, and the next process has every alert and no record twice.
#[tokio::test]
async fn a_write_that_fails_loses_no_alert_and_goes_back_nowhere() {
    let mut log = Log::new("a", 1500);
    log.push(issuance(1500, "payments/api", "m2"));
    log.grow("a", 1600);
    let site = Site::new(log).await;
    let mut failed = 0;
    for stored in [false, true] {
        for nth in 1..40 {
            let folder = tempfile::tempdir().unwrap();
            let left = Arc::new(AtomicU64::new(0));
            let disk = Failing {
                disk: RealDisk,
                left: Arc::clone(&left),
                stored,
            };
            let config = config(folder.path(), &[site.url()], "", WATCH);
            let mut monitor = Monitor::on(config, Arc::new(disk)).unwrap();
            left.store(nth, Ordering::SeqCst);
            let round = monitor.round(at(0)).await;
            let done = left.load(Ordering::SeqCst) > 0;
            drop(monitor);
            match round {
                Ok(_) => assert!(done, "a failure was passed over: {nth} {stored}"),
                Err(failure) => {
                    assert!(matches!(failure, Failure::Local(_)), "{failure}");
                    assert_eq!(failure.finding().code, "MONITOR-STATE");
                    failed += 1;
                }
            }
            let mut monitor = opened(folder.path(), &site).unwrap();
            let seen = monitor.round(at(1)).await.unwrap();
            assert_eq!(
                (seen.size, seen.looked, monitor.waiting().len()),
                (1600, 1600, 1)
            );
            if done {
                break;
            }
        }
    }
    assert!(failed > 20, "{failed}");
}
