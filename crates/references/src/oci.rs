//! Container images: the files that the layers of one leave (OCI Image Format 1.1; Docker's schema 2 is the same
//! with other names). Which layers an image has, `attest_code::image` reads from its manifest.

use crate::archive::{Kind, Tar};
use crate::debian::hash_entry;
use crate::unpack::{self, Limited, Packing};
use crate::{Digest, FileDigests};
use facts::Finding;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// What the layers of one image may unpack to, together.
const LARGEST: u64 = 64 * 1024 * 1024 * 1024;
const MOST_FILES: usize = 2_000_000;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

fn refused(what: impl Into<String>) -> Finding {
    Finding::new("REF-OCI", "the image cannot be read")
        .expected("an OCI or Docker schema 2 image whose blobs are named by SHA-256")
        .observed(what)
        .next("fetch the image again, for example with skopeo copy")
}

fn check_blob(bytes: &[u8], expected: &Digest) -> Result<(), Finding> {
    let observed = Digest::of(bytes);
    if observed == *expected {
        return Ok(());
    }
    Err(Finding::new(
        "REF-OCI-DIGEST",
        "a blob of the image is not the one that was named",
    )
    .expected(format!("sha256:{expected}"))
    .observed(format!("sha256:{observed}"))
    .next("fetch the image again"))
}

/// A layer, as manifest and configuration of its image name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer<'a> {
    /// Says how it is packed.
    pub media_type: &'a str,
    pub sha256: Digest,
    /// Of the archive that it unpacks to: its `diff_id`, by which runtimes check what they unpacked.
    pub unpacked: Digest,
}

/// The files of an image, as its layers come in.
#[derive(Debug, Clone)]
pub struct ImageFiles {
    by_path: BTreeMap<String, FileDigests>,
    /// How much the layers to come may unpack to.
    left: u64,
}

impl Default for ImageFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageFiles {
    #[must_use]
    pub const fn new() -> Self {
        Self::within(LARGEST)
    }

    /// Of an image whose layers unpack to `most` bytes at most.
    #[must_use]
    pub const fn within(most: u64) -> Self {
        Self {
            by_path: BTreeMap::new(),
            left: most,
        }
    }

    /// Lays one layer over those before it. After an error nothing that was laid counts.
    ///
    /// # Errors
    /// `REF-OCI-DIGEST`, `REF-OCI`, `REF-TAR`, `REF-UNPACK`, `REF-UNPACK-SIZE`.
    pub fn apply(&mut self, layer: &Layer<'_>, bytes: &[u8]) -> Result<(), Finding> {
        check_blob(bytes, &layer.sha256)?;
        let kind = layer.media_type;
        let packing = match kind.rsplit_once(['+', '.']).map(|(_, end)| end) {
            Some("gzip") => Packing::Gzip,
            Some("zstd") => Packing::Zstd,
            Some("tar") => Packing::Plain,
            _ => return Err(refused(format!("a layer of type {kind:?}"))),
        };
        // Whiteouts speak of the layers below, wherever in this one they stand.
        let mut added = BTreeMap::new();
        let mut archive = Archive::new(unpack::reader(packing, bytes, self.left)?);
        let mut tar = Tar::new(&mut archive);
        while let Some(entry) = tar.next_entry()? {
            let (folder, name) = entry.path.rsplit_once('/').unwrap_or_default();
            if name == OPAQUE {
                self.remove_below(folder);
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                let path = format!("{folder}/{hidden}");
                self.remove_below(&path);
                self.by_path.remove(&path);
            } else if entry.kind == Kind::File {
                added.insert(entry.path.clone(), Some(hash_entry(&mut tar)?));
            } else if let Kind::HardLink(target) = &entry.kind {
                let linked = added.get(target).cloned().flatten();
                let linked = linked.or_else(|| self.by_path.get(target).cloned());
                let linked = linked.ok_or_else(|| refused("a hard link to no file"))?;
                added.insert(entry.path.clone(), Some(linked));
            } else {
                // Whatever took its place, the file is gone; under a link nothing is left either.
                added.insert(entry.path.clone(), None);
                if entry.kind != Kind::Folder {
                    self.remove_below(&entry.path);
                }
            }
            if self.by_path.len().saturating_add(added.len()) > MOST_FILES {
                return Err(refused("too many files"));
            }
        }
        let (unpacked, length) = archive.finish()?;
        if unpacked != layer.unpacked {
            return Err(Finding::new(
                "REF-OCI-DIGEST",
                "a layer does not unpack to what the image's configuration lists",
            )
            .expected(format!("sha256:{}", layer.unpacked))
            .observed(format!("sha256:{unpacked}"))
            .next("build the image again; a runtime would refuse this one"));
        }
        self.left = self.left.saturating_sub(length);
        for (path, digests) in added {
            match digests {
                Some(digests) => self.by_path.insert(path, digests),
                None => self.by_path.remove(&path),
            };
        }
        Ok(())
    }

    /// By path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FileDigests)> {
        self.by_path
            .iter()
            .map(|(path, digests)| (path.as_str(), digests))
    }

    fn remove_below(&mut self, folder: &str) {
        let prefix = format!("{folder}/");
        // What lies below stands together. A layer may have millions of whiteouts: each costs what it removes.
        let below = self.by_path.range(prefix.clone()..);
        let below: Vec<String> = below
            .take_while(|(path, _)| path.starts_with(&prefix))
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            self.by_path.remove(&path);
        }
    }
}

/// An unpacked layer that is hashed as it is read.
struct Archive<'a> {
    reader: Limited<'a>,
    hash: crypto::Sha256,
    length: u64,
}

impl<'a> Archive<'a> {
    fn new(reader: Limited<'a>) -> Self {
        Self {
            reader,
            hash: crypto::Sha256::new(),
            length: 0,
        }
    }

    /// Reads on behind the last entry: SHA-256 and length of everything.
    fn finish(mut self) -> Result<(Digest, u64), Finding> {
        io::copy(&mut self, &mut io::sink()).map_err(|error| unpack::finding(&error))?;
        Ok((Digest(self.hash.finish()), self.length))
    }
}

impl Read for Archive<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.hash.update(buffer.get(..read).unwrap_or_default());
        let length = u64::try_from(read).unwrap_or(u64::MAX);
        self.length = self.length.saturating_add(length);
        Ok(read)
    }
}
