//! Endorsements for confidential machines: a file that an operator fills wherever there is a network, and, if
//! the configuration says so, what is fetched from vendors. Neither is trusted. The file is read again when it
//! has changed, so that nobody has to tell the server.

use attest_tee::Bundle;
use endorsements::{Fetcher, Obtained, Want};
use facts::{Finding, Timestamp};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// As [`Bundle::parse`] takes it.
const LONGEST: u64 = 64 << 20;

/// What the file was when it was read: device, inode, length, and when it was written and changed.
type Mark = [i64; 7];

pub(crate) struct Endorsements {
    path: Option<PathBuf>,
    fetcher: Option<Arc<Fetcher>>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    mark: Option<Mark>,
    at_hand: AtHand,
}

/// What there is now.
#[derive(Clone, Default)]
pub(crate) struct AtHand {
    pub(crate) bundle: Arc<Bundle>,
    /// Why it is not what the file says: the one before goes on to count.
    pub(crate) problem: Option<Finding>,
}

impl Endorsements {
    /// Reads the file, if there is one. Blocks. What is wrong with it stands in the log, and in the refusals of
    /// machines that need it.
    pub(crate) fn open(path: Option<PathBuf>, fetcher: Option<Arc<Fetcher>>) -> Self {
        let endorsements = Self {
            path,
            fetcher,
            read: Mutex::default(),
        };
        if let Some(problem) = endorsements.now().problem {
            tracing::error!(%problem, "the bundle of endorsements is not read");
        }
        endorsements
    }

    /// The file's bundle below what was fetched of `wants`. Reads files: for threads of the pool.
    pub(crate) fn with(&self, bundle: &Arc<Bundle>, wants: &[Want], now: Timestamp) -> Arc<Bundle> {
        let Some(fetcher) = &self.fetcher else {
            return Arc::clone(bundle);
        };
        let kept = fetcher.at_hand(wants, now);
        if kept.is_empty() {
            return Arc::clone(bundle);
        }
        let mut above = Bundle::default();
        above.take_in(&kept);
        Arc::new(above.over(Arc::clone(bundle)))
    }

    /// Whether anybody may be asked for what is lacking.
    pub(crate) const fn may_fetch(&self) -> bool {
        self.fetcher.is_some()
    }

    /// Has `wants` asked for in the name of `machine`, and waits within bounds. No lock is held meanwhile.
    pub(crate) async fn obtain(&self, wants: &[Want], machine: &str) -> Obtained {
        match &self.fetcher {
            Some(fetcher) => fetcher.obtain(wants, machine).await,
            None => Obtained::default(),
        }
    }

    /// What there is now; the file is read again if it is another than before. Blocks: for threads of the pool.
    pub(crate) fn now(&self) -> AtHand {
        let Some(path) = &self.path else {
            return AtHand::default();
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = mark(path);
        if mark.is_some() && mark == read.mark {
            return read.at_hand.clone();
        }
        let parsed = bytes(path)
            .map_err(|error| unreadable(path, &error.to_string()))
            .and_then(|bytes| Bundle::parse(&bytes));
        match parsed {
            Ok(bundle) => {
                tracing::info!(path = %path.display(), "read the bundle of endorsements");
                read.at_hand = AtHand {
                    bundle: Arc::new(bundle),
                    problem: None,
                };
            }
            Err(problem) => read.at_hand.problem = Some(problem),
        }
        // As it was before it was read: whatever came meanwhile is read the next time.
        read.mark = mark;
        read.at_hand.clone()
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let file = fs::metadata(path).ok()?;
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    Some([
        number(file.dev()),
        number(file.ino()),
        number(file.len()),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ])
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(LONGEST.saturating_add(1))
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, why: &str) -> Finding {
    Finding::new(
        "TEE-BUNDLE-STRUCTURE",
        "the bundle of endorsements cannot be read",
    )
    .expected(format!(
        "the file {}, which server.toml names",
        path.display()
    ))
    .observed(why.to_owned())
    .next("put the bundle there; see docs/attestation/snp.md")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_is_read_again_and_a_broken_one_leaves_what_there_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle.json");
        let endorsements = Endorsements::open(Some(path.clone()), None);
        let code = |at_hand: &AtHand| at_hand.problem.as_ref().map(|it| it.code.to_string());
        let broken = Some("TEE-BUNDLE-STRUCTURE".to_owned());
        assert_eq!(code(&endorsements.now()), broken, "it is not there");

        fs::write(&path, r#"{"version":1}"#).unwrap();
        let first = endorsements.now();
        assert_eq!(code(&first), None);
        assert!(Arc::ptr_eq(&first.bundle, &endorsements.now().bundle));

        fs::write(&path, "{}").unwrap();
        let kept = endorsements.now();
        assert_eq!(code(&kept), broken);
        assert!(Arc::ptr_eq(&first.bundle, &kept.bundle));

        // As a careful operator replaces it.
        let beside = folder.path().join("new");
        fs::write(&beside, r#"{"version":1}"#).unwrap();
        fs::rename(&beside, &path).unwrap();
        let second = endorsements.now();
        assert_eq!(code(&second), None);
        assert!(!Arc::ptr_eq(&first.bundle, &second.bundle));
        assert!(Endorsements::open(None, None).now().problem.is_none());
    }
}
