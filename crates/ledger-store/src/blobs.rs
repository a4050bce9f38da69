//! Blobs: what is too large for a record, kept by its SHA-256. A blob is durable before [`Blobs::put`]
//! returns, so that the record which names it can be appended. Reading checks the content.

use crate::StoreError;
use crate::disk::{Disk, DiskFile, read_file};
use ledger::HexDigest;
use ledger::body::BlobRef;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files that are open at once.
const TOGETHER: usize = 64;

/// Where it stands what is about to be put, by its name and the size of the ledger then.
const INTENDED: &str = "intended";

/// A blob that is about to be put, or was, and that no record may name yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Intended {
    pub sha256: HexDigest,
    /// The first record that can name it.
    pub from: u64,
}

impl Intended {
    fn name(&self) -> String {
        format!("{}-{}", self.sha256, self.from)
    }

    fn parse(name: &str) -> Option<Self> {
        let (sha256, from) = name.split_once('-')?;
        Some(Self {
            sha256: sha256.parse().ok()?,
            from: from.parse().ok()?,
        })
    }
}

/// A blob that has no name yet.
struct Written {
    file: Box<dyn DiskFile>,
    temporary: PathBuf,
    path: PathBuf,
}

/// A directory of blobs. Cheap to clone.
#[derive(Clone)]
pub struct Blobs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    limit: usize,
    next: Arc<AtomicU64>,
}

impl Blobs {
    /// Uses `dir`; blobs have at most `limit` bytes.
    pub fn open(dir: &Path, limit: usize, disk: Arc<dyn Disk>) -> Result<Self, StoreError> {
        let temporary = dir.join("tmp");
        let made = disk.create_dir_all(&temporary);
        made.map_err(StoreError::io("cannot create", dir))?;
        for name in disk
            .list(&temporary)
            .map_err(StoreError::io("cannot list", &temporary))?
        {
            let path = temporary.join(name);
            disk.remove(&path)
                .map_err(StoreError::io("cannot remove", &path))?;
        }
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            limit,
            next: Arc::default(),
        })
    }

    /// Keeps `bytes` and returns what a record says of them.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        self.put_some(&[bytes], None)?;
        Ok(BlobRef::of(bytes))
    }

    /// As [`Blobs::put`], of what only a record from `from` on will name. If none does, because whoever puts it ends
    /// before, the next start finds it by [`Blobs::intended`]: nothing else would, and nobody could erase it. `None`: it
    /// was there before.
    pub fn put_intended(&self, bytes: &[u8], from: u64) -> Result<Option<Intended>, StoreError> {
        Ok(self.put_all_intended(&[bytes], from)?.pop())
    }

    /// As [`Blobs::put_intended`] for all of `many`, which the disk is waited for together. Returns those that were not
    /// there before.
    pub fn put_all_intended(
        &self,
        many: &[impl AsRef<[u8]>],
        from: u64,
    ) -> Result<Vec<Intended>, StoreError> {
        let mut intended = Vec::new();
        for some in many.chunks(TOGETHER) {
            intended.extend(self.put_some(some, Some(from))?);
        }
        Ok(intended)
    }

    /// Notes what is about to be put. INVARIANT: durably, before it is there.
    fn note(&self, intended: &[Intended]) -> std::io::Result<()> {
        if intended.is_empty() {
            return Ok(());
        }
        let dir = self.dir.join(INTENDED);
        self.disk.create_dir_all(&dir)?;
        for one in intended {
            // Its name says all, and is durable with the folder.
            self.disk.create(&dir.join(one.name()))?;
        }
        self.disk.sync_dir(&dir)?;
        self.disk.sync_dir(&self.dir)
    }

    /// What was put by [`Blobs::put_intended`] and not settled.
    pub fn intended(&self) -> Result<Vec<Intended>, StoreError> {
        let dir = self.dir.join(INTENDED);
        let names = self.disk.list(&dir);
        let names = names.map_err(StoreError::io("cannot list", &dir))?;
        Ok(names
            .iter()
            .filter_map(|name| Intended::parse(name))
            .collect())
    }

    /// A record names it, or it was removed.
    pub fn settle(&self, intended: &Intended) -> Result<(), StoreError> {
        let path = self.dir.join(INTENDED).join(intended.name());
        match self.disk.remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::io("cannot remove", &path)(error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// As [`Blobs::put`] for all of `many`. The disk is waited for once for many of them: what is written before
    /// the first is forced out goes out with it. If it fails, some may be kept.
    pub fn put_all(&self, many: &[impl AsRef<[u8]>]) -> Result<(), StoreError> {
        many.chunks(TOGETHER)
            .try_for_each(|some| self.put_some(some, None).map(drop))
    }

    /// Returns those of which it was noted that they were put for a record from `from` on.
    fn put_some(
        &self,
        some: &[impl AsRef<[u8]>],
        from: Option<u64>,
    ) -> Result<Vec<Intended>, StoreError> {
        let limit = self.limit;
        let mut lengths = some.iter().map(|bytes| bytes.as_ref().len());
        if let Some(length) = lengths.find(|length| *length > limit) {
            return Err(StoreError::BlobTooLarge { length, limit });
        }
        let (mut dirs, mut missing) = (BTreeSet::new(), Vec::new());
        for bytes in some {
            let bytes = bytes.as_ref();
            let sha256 = HexDigest::of(bytes);
            // Also of a blob that was there: whoever put it may not have come this far.
            dirs.extend(self.path(&sha256).parent().map(Path::to_owned));
            if self.get(&sha256)?.is_none() {
                missing.push((sha256, bytes));
            }
        }
        let new = missing.iter().map(|(sha256, _)| *sha256);
        let intended = from.map(|from| {
            new.map(|sha256| Intended { sha256, from })
                .collect::<Vec<_>>()
        });
        let intended = intended.unwrap_or_default();
        let noted = self.note(&intended);
        noted.map_err(StoreError::io("cannot write", &self.dir))?;
        let mut written = Vec::with_capacity(missing.len());
        let outcome = self.write_and_name(&missing, &dirs, &mut written);
        if outcome.is_err() {
            for one in &written {
                // One that has its name by now is not there any more.
                drop(self.disk.remove(&one.temporary));
            }
        }
        outcome.map(|()| intended)
    }

    fn write_and_name(
        &self,
        missing: &[(HexDigest, &[u8])],
        dirs: &BTreeSet<PathBuf>,
        written: &mut Vec<Written>,
    ) -> Result<(), StoreError> {
        for (sha256, bytes) in missing {
            let path = self.path(sha256);
            let dir = path.parent().unwrap_or(&self.dir);
            let made = self.disk.create_dir_all(dir);
            made.map_err(StoreError::io("cannot create", dir))?;
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let temporary = self.dir.join("tmp").join(number.to_string());
            let made = self.disk.create(&temporary);
            let file = made.map_err(StoreError::io("cannot write", &path))?;
            let begun = file.truncate(0).and_then(|()| file.write_at(bytes, 0));
            written.push(Written {
                file,
                temporary,
                path: path.clone(),
            });
            begun.map_err(StoreError::io("cannot write", &path))?;
        }
        for one in &*written {
            let synced = one.file.sync();
            synced.map_err(StoreError::io("cannot write", &one.path))?;
        }
        // INVARIANT: a blob has its name only once its content is durable.
        for one in &*written {
            let named = self.disk.rename(&one.temporary, &one.path);
            named.map_err(StoreError::io("cannot write", &one.path))?;
        }
        for dir in dirs.iter().chain([&self.dir]) {
            let synced = self.disk.sync_dir(dir);
            synced.map_err(StoreError::io("cannot sync", dir))?;
        }
        Ok(())
    }

    /// The blob, if it is there and is what its name says.
    pub fn get(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, StoreError> {
        read(self.disk.as_ref(), &self.dir, sha256, self.limit)
    }

    /// Removes these, as far as they are there; what is gone is gone for good when it returns. Returns how many were.
    pub fn remove_all(&self, erased: &[HexDigest]) -> Result<u64, StoreError> {
        let (mut dirs, mut removed) = (BTreeSet::new(), 0);
        for sha256 in erased {
            let path = self.path(sha256);
            match self.disk.remove(&path) {
                Ok(()) => removed += 1,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(StoreError::io("cannot remove", &path)(error)),
            }
            dirs.extend(path.parent().map(Path::to_owned));
        }
        for dir in &dirs {
            let synced = self.disk.sync_dir(dir);
            synced.map_err(StoreError::io("cannot sync", dir))?;
        }
        Ok(removed)
    }

    fn path(&self, sha256: &HexDigest) -> PathBuf {
        path(&self.dir, sha256)
    }
}

/// The blob of this name in `dir`, if it is there and is what its name says.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &Path,
    sha256: &HexDigest,
    limit: usize,
) -> Result<Option<Vec<u8>>, StoreError> {
    let path = path(dir, sha256);
    let bytes = read_file(disk, &path, limit);
    let bytes = bytes.map_err(StoreError::io("cannot read", &path))?;
    Ok(bytes.filter(|bytes| HexDigest::of(bytes) == *sha256))
}

fn path(dir: &Path, sha256: &HexDigest) -> PathBuf {
    let name = sha256.to_string();
    let (shard, _) = name.split_at_checked(2).unwrap_or_default();
    dir.join(shard).join(&name)
}
