//! Blobs: what is too large for a record, kept by its SHA-256. A blob is durable before [`Blobs::put`]
//! returns, so that the record which names it can be appended. Reading checks the content.

use crate::StoreError;
use crate::disk::{Disk, read_file};
use ledger::HexDigest;
use ledger::body::BlobRef;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
        let (length, limit) = (bytes.len(), self.limit);
        if length > limit {
            return Err(StoreError::BlobTooLarge { length, limit });
        }
        let blob = BlobRef::of(bytes);
        let path = self.path(&blob.sha256);
        let dir = path.parent().unwrap_or(&self.dir);
        if self.get(&blob.sha256)?.is_none() {
            let made = self.disk.create_dir_all(dir);
            made.map_err(StoreError::io("cannot create", dir))?;
            self.write(&path, bytes)
                .map_err(StoreError::io("cannot write", &path))?;
        }
        // Also for a blob that was there: whoever put it may not have come this far.
        for dir in [dir, &self.dir] {
            let synced = self.disk.sync_dir(dir);
            synced.map_err(StoreError::io("cannot sync", dir))?;
        }
        Ok(blob)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join("tmp").join(number.to_string());
        let file = self.disk.create(&temporary)?;
        file.truncate(0)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        self.disk.rename(&temporary, path)
    }

    /// The blob, if it is there and is what its name says.
    pub fn get(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(sha256);
        let bytes = read_file(self.disk.as_ref(), &path, self.limit);
        let bytes = bytes.map_err(StoreError::io("cannot read", &path))?;
        Ok(bytes.filter(|bytes| HexDigest::of(bytes) == *sha256))
    }

    fn path(&self, sha256: &HexDigest) -> PathBuf {
        let name = sha256.to_string();
        let (shard, _) = name.split_at_checked(2).unwrap_or_default();
        self.dir.join(shard).join(&name)
    }
}
