//! A folder of blobs by digest, as a layout has them: `blobs/sha256/<hex>`. A blob is there whole or not at all.
//!
//! Who can write to it can withhold: what is read from it is hashed as if it had just come.

use attest_code::image::BlobDigest;
use crypto::hex;
use facts::Finding;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Read at once while hashing.
const PIECE: usize = 1 << 20;

#[derive(Clone)]
pub(crate) struct Kept {
    blobs: PathBuf,
}

pub(crate) fn unusable(observed: &str) -> Finding {
    Finding::new("REGISTRY-CACHE", "the folder for images cannot be used")
        .expected("a folder of yours that others cannot write to, with room")
        .observed(observed)
        .next("correct its owner and mode, make room, or name another as `cache` in the registries' file")
}

impl Kept {
    /// Opens the folder, which is made if it is not there.
    ///
    /// # Errors
    /// `REGISTRY-CACHE`.
    pub(crate) fn open(folder: &Path) -> Result<Self, Finding> {
        let blobs = folder.join("blobs/sha256");
        let failed = |error: &io::Error| unusable(&format!("{}: {error}", folder.display()));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&blobs);
        made.map_err(|error| failed(&error))?;
        for folder in [folder, &blobs] {
            let metadata = fs::symlink_metadata(folder).map_err(|error| failed(&error))?;
            if !metadata.is_dir() || metadata.mode() & 0o022 != 0 {
                let what = "others may write to it, or it is no folder";
                return Err(unusable(&format!("{}: {what}", folder.display())));
            }
        }
        Ok(Self { blobs })
    }

    pub(crate) fn path(&self, digest: &BlobDigest) -> PathBuf {
        self.blobs.join(hex::encode(digest.as_bytes()))
    }

    /// A blob of at most `most` bytes, if it is there and is what it is called.
    pub(crate) fn small(&self, digest: &BlobDigest, most: u64) -> Option<Vec<u8>> {
        let file = File::open(self.path(digest)).ok()?;
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).ok()?;
        let fits = u64::try_from(bytes.len()).is_ok_and(|length| length <= most);
        (fits && crypto::sha256(&bytes) == *digest.as_bytes()).then_some(bytes)
    }

    /// Whether a blob is there and is what it is called. Blocks while it is hashed.
    pub(crate) fn has(&self, digest: &BlobDigest, size: u64) -> bool {
        let hashed = || {
            let mut file = File::open(self.path(digest))?;
            if file.metadata()?.len() != size {
                return Ok(false);
            }
            let mut hash = crypto::Sha256::new();
            let mut piece = vec![0; PIECE];
            loop {
                let count = file.read(&mut piece)?;
                if count == 0 {
                    break;
                }
                hash.update(piece.get(..count).unwrap_or_default());
            }
            Ok::<_, io::Error>(hash.finish() == *digest.as_bytes())
        };
        hashed().unwrap_or(false)
    }

    /// A file to write a blob into, which nobody sees before it is whole.
    ///
    /// # Errors
    /// `REGISTRY-CACHE`.
    pub(crate) fn begin(&self, digest: &BlobDigest) -> Result<(File, Unfinished), Finding> {
        let number = u64::from_be_bytes(crypto::random());
        let name = format!(".{}.{number:016x}", hex::encode(digest.as_bytes()));
        let beside = self.blobs.join(name);
        let file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .map_err(|error| unusable(&format!("{}: {error}", beside.display())))?;
        let to = self.path(digest);
        Ok((
            file,
            Unfinished {
                beside,
                to,
                done: false,
            },
        ))
    }

    /// Keeps a blob whose digest was checked.
    ///
    /// # Errors
    /// `REGISTRY-CACHE`.
    pub(crate) fn keep(&self, digest: &BlobDigest, bytes: &[u8]) -> Result<(), Finding> {
        use std::io::Write as _;
        let (mut file, unfinished) = self.begin(digest)?;
        let written = file.write_all(bytes);
        written.map_err(|error| unusable(&error.to_string()))?;
        unfinished.finish()
    }
}

/// A blob that is being written; removed unless it is finished.
pub(crate) struct Unfinished {
    beside: PathBuf,
    to: PathBuf,
    done: bool,
}

impl Unfinished {
    /// # Errors
    /// `REGISTRY-CACHE`.
    pub(crate) fn finish(mut self) -> Result<(), Finding> {
        let moved = fs::rename(&self.beside, &self.to);
        moved.map_err(|error| unusable(&format!("{}: {error}", self.to.display())))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // Whatever is left of it is never read: its name is no digest.
            let _gone = fs::remove_file(&self.beside);
        }
    }
}
