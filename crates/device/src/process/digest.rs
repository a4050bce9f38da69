//! SHA-256 of executables, remembered by file identity.
//!
//! Who can write to the cache could make any file look like any other; it lives in memory only.

use super::executable::FileId;
use crypto::Sha256;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Larger executables are not hashed: their digest is absent.
pub const MAX_EXECUTABLE: u64 = 512 << 20;

const MAX_ENTRIES: usize = 1024;
const CHUNK: usize = 64 << 10;

/// Two writes within one tick of a coarse clock leave the same change time; a file is remembered only
/// when its last change is older than this.
const SETTLED: Duration = Duration::from_secs(2);

/// A cache of digests by (device, inode, size, modification time, change time).
#[derive(Debug, Default)]
pub struct Digests {
    known: Mutex<HashMap<FileId, [u8; 32]>>,
}

impl Digests {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of the program that this process runs.
    ///
    /// # Errors
    /// When `/proc/self/exe` cannot be read.
    pub fn of_self(&self) -> io::Result<[u8; 32]> {
        let mut file = File::open("/proc/self/exe")?;
        let id = FileId::of(&file)?;
        self.digest(&mut file, &id)
    }

    pub(super) fn known(&self, id: &FileId) -> Option<[u8; 32]> {
        self.lock().get(id).copied()
    }

    /// Hashes `file`, whose identity was `id` when it was opened.
    pub(super) fn digest(&self, file: &mut File, id: &FileId) -> io::Result<[u8; 32]> {
        if let Some(digest) = self.known(id) {
            return Ok(digest);
        }
        let digest = hash(file, id.size)?;
        if FileId::of(&*file)? != *id {
            return Err(io::Error::other("it changed while it was read"));
        }
        if settled(id, SystemTime::now()) {
            let mut known = self.lock();
            if known.len() >= MAX_ENTRIES {
                known.clear();
            }
            known.insert(*id, digest);
        }
        Ok(digest)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<FileId, [u8; 32]>> {
        // A panic while it was held cannot have left half an entry.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(file: &mut File, size: u64) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK];
    let mut total = 0_u64;
    loop {
        let read = file.read(&mut chunk)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        total += bytes.len() as u64;
        if total > size {
            return Err(io::Error::other("it grew while it was read"));
        }
        hasher.update(bytes);
    }
    Ok(hasher.finish())
}

fn settled(id: &FileId, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let last = id.changed_ns.max(id.modified_ns);
    i128::try_from(now.as_nanos()).is_ok_and(|now| {
        i128::try_from(SETTLED.as_nanos()).is_ok_and(|settled| now - last > settled)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(changed_ns: i128) -> FileId {
        FileId {
            device: 1,
            inode: 1,
            size: 1,
            modified_ns: 0,
            changed_ns,
        }
    }

    #[test]
    fn a_file_changed_a_moment_ago_is_not_remembered() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        assert!(settled(&id(97_000_000_000), now));
        assert!(!settled(&id(98_500_000_000), now));
        assert!(!settled(&id(101_000_000_000), now));
    }
}
