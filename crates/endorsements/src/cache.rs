//! A folder of files within a bound, for its owner alone. A file is there whole or not at all.
//!
//! Who can write to it can withhold: what is read from it is checked as if it had just come.

use crypto::hex;
use facts::Finding;
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Longer than an entry: a MiB in base 64, and a chain.
const LONGEST: u64 = 2 << 20;
const ENDING: &str = ".json";
/// Of a file that is being written.
const UNFINISHED: &str = ".new";

pub(crate) struct Cache {
    folder: PathBuf,
    /// Bytes that the files may have together.
    most: u64,
    held: Mutex<Held>,
}

/// What there is, by name.
#[derive(Default)]
struct Held {
    files: BTreeMap<[u8; 32], Kept>,
    bytes: u64,
    /// Counts uses.
    uses: u64,
}

struct Kept {
    bytes: u64,
    used: u64,
}

impl Cache {
    /// Opens the folder, which is made if it is not there; what was being written when a process ended is
    /// removed.
    ///
    /// # Errors
    /// `TEE-FETCH-CACHE`.
    pub(crate) fn open(folder: &Path, most: u64) -> Result<Self, Finding> {
        let failed = |error: &io::Error| unusable(folder, &error.to_string());
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| failed(&error))?;
        let metadata = fs::symlink_metadata(folder).map_err(|error| failed(&error))?;
        if !metadata.is_dir() || metadata.mode() & 0o077 != 0 {
            return Err(unusable(
                folder,
                "others have access to it, or it is no folder",
            ));
        }
        let mut found = Vec::new();
        for file in fs::read_dir(folder).map_err(|error| failed(&error))? {
            let file = file.map_err(|error| failed(&error))?;
            let name = file.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(UNFINISHED) {
                fs::remove_file(file.path()).map_err(|error| failed(&error))?;
                continue;
            }
            let (Some(key), Ok(metadata)) = (named(&name), file.metadata()) else {
                continue;
            };
            found.push((metadata.mtime(), key, metadata.len()));
        }
        // In the order in which they came.
        found.sort_unstable();
        let mut held = Held::default();
        for (_, key, bytes) in found {
            held.add(key, bytes);
        }
        let cache = Self {
            folder: folder.to_owned(),
            most,
            held: Mutex::new(held),
        };
        cache.shrink(&mut cache.lock());
        Ok(cache)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    pub(crate) fn read(&self, key: &[u8; 32]) -> Option<Vec<u8>> {
        self.lock().touch(key)?;
        let file = File::open(self.path(key, ENDING)).ok()?;
        let mut bytes = Vec::new();
        file.take(LONGEST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Puts a file there, whole; the least used make room for it.
    ///
    /// # Errors
    /// The file system's.
    pub(crate) fn write(&self, key: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        let mut held = self.lock();
        let beside = self.path(key, UNFINISHED);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, self.path(key, ENDING))?;
        File::open(&self.folder)?.sync_all()?;
        held.remove(key);
        held.add(*key, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.shrink(&mut held);
        Ok(())
    }

    pub(crate) fn remove(&self, key: &[u8; 32]) {
        let mut held = self.lock();
        held.remove(key);
        drop(fs::remove_file(self.path(key, ENDING)));
    }

    fn shrink(&self, held: &mut Held) {
        while held.bytes > self.most {
            let oldest = held.files.iter().min_by_key(|(_, file)| file.used);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                return;
            };
            held.remove(&key);
            drop(fs::remove_file(self.path(&key, ENDING)));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, key: &[u8; 32], ending: &str) -> PathBuf {
        self.folder.join(hex::encode(key) + ending)
    }
}

impl Held {
    fn add(&mut self, key: [u8; 32], bytes: u64) {
        self.uses += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        let used = self.uses;
        self.files.insert(key, Kept { bytes, used });
    }

    fn touch(&mut self, key: &[u8; 32]) -> Option<()> {
        self.uses += 1;
        self.files.get_mut(key)?.used = self.uses;
        Some(())
    }

    fn remove(&mut self, key: &[u8; 32]) {
        if let Some(file) = self.files.remove(key) {
            self.bytes = self.bytes.saturating_sub(file.bytes);
        }
    }
}

fn named(file: &str) -> Option<[u8; 32]> {
    let digits = file.strip_suffix(ENDING)?;
    hex::decode(digits).ok()?.as_array().copied()
}

fn unusable(folder: &Path, observed: &str) -> Finding {
    Finding::new(
        "TEE-FETCH-CACHE",
        "the folder for endorsements cannot be used",
    )
    .expected(format!(
        "{}, a folder of mode 0700 of the server's user",
        folder.display()
    ))
    .observed(observed)
    .next("correct its owner and mode, or name another as `cache` under [tee_fetch]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_there_whole_or_not_at_all_and_for_its_owner_alone() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("a/b");
        let cache = Cache::open(&folder, 1000).unwrap();
        cache.write(&[1; 32], b"one").unwrap();
        cache.write(&[1; 32], b"two").unwrap();
        assert_eq!(cache.read(&[1; 32]).unwrap(), b"two");
        assert_eq!(cache.bytes(), 3);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!(mode(&cache.path(&[1; 32], ENDING)), 0o600);

        // Killed between write and rename: what there was counts, and the rest is gone at the next start.
        let left = cache.path(&[1; 32], UNFINISHED);
        fs::write(&left, b"thr").unwrap();
        drop(cache);
        let cache = Cache::open(&folder, 1000).unwrap();
        assert!(!left.exists());
        assert_eq!(cache.read(&[1; 32]).unwrap(), b"two");

        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        let refused = Cache::open(&folder, 1000).err().unwrap();
        assert_eq!(refused.code, "TEE-FETCH-CACHE");
    }

    #[test]
    fn the_least_used_make_room() {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("cache");
        let cache = Cache::open(&folder, 30).unwrap();
        for number in 1..=3 {
            cache.write(&[number; 32], &[number; 10]).unwrap();
        }
        cache.read(&[1; 32]).unwrap();
        cache.write(&[4; 32], &[4; 10]).unwrap();
        assert!(cache.read(&[2; 32]).is_none());
        assert!(cache.read(&[1; 32]).is_some());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        // A smaller bound holds from the start.
        let smaller = Cache::open(&folder, 10).unwrap();
        assert_eq!(smaller.bytes(), 10);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }
}
