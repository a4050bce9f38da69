//! Container images: a manifest or index that is pinned by digest, and the files that its layers leave
//! (OCI Image Format 1.1; Docker's schema 2 is the same with other names).

use crate::archive::{Kind, Tar};
use crate::debian::hash_entry;
use crate::unpack::{self, Packing};
use crate::{Digest, FileDigests};
use facts::Finding;
use serde::Deserialize;
use std::collections::BTreeMap;

const LARGEST_MANIFEST: usize = 4 * 1024 * 1024;
const LARGEST_LAYER: u64 = 64 * 1024 * 1024 * 1024;
const MOST_LAYERS: usize = 256;
const MOST_FILES: usize = 2_000_000;
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";

/// What a digest names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image for each platform.
    Index(Vec<Descriptor>),
    /// The layers of one image, lowest first.
    Manifest(Vec<Descriptor>),
}

/// A blob by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    pub media_type: String,
    pub sha256: Digest,
    pub size: u64,
    /// `linux/amd64`, in an index.
    pub platform: String,
}

/// Unknown fields are allowed: the format is not ours, and grows.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    manifests: Option<Vec<RawDescriptor>>,
    layers: Option<Vec<RawDescriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

fn refused(what: impl Into<String>) -> Finding {
    Finding::new("REF-OCI", "the image cannot be read")
        .expected("an OCI or Docker schema 2 image whose blobs are named by SHA-256")
        .observed(what)
        .next("fetch the image again, for example with skopeo copy")
}

/// Reads the manifest or index that `pinned` names.
///
/// # Errors
/// `REF-OCI-DIGEST`, `REF-OCI`.
pub fn document(bytes: &[u8], pinned: &Digest) -> Result<Document, Finding> {
    check_blob(bytes, pinned)?;
    if bytes.len() > LARGEST_MANIFEST {
        return Err(refused("a manifest of more than 4 MiB"));
    }
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| refused(error.to_string()))?;
    if raw.schema_version != 2 {
        return Err(refused("another schema version"));
    }
    match (raw.manifests, raw.layers) {
        (Some(manifests), None) => descriptors(manifests).map(Document::Index),
        (None, Some(layers)) => descriptors(layers).map(Document::Manifest),
        _ => Err(refused("neither an index nor a manifest")),
    }
}

fn descriptors(raw: Vec<RawDescriptor>) -> Result<Vec<Descriptor>, Finding> {
    if raw.len() > MOST_LAYERS {
        return Err(refused("too many blobs"));
    }
    raw.into_iter()
        .map(|raw| {
            let sha256 = raw
                .digest
                .strip_prefix("sha256:")
                .and_then(|hex| hex.parse().ok());
            let platform = raw.platform.map(|platform| {
                let variant = platform.variant.map(|variant| format!("/{variant}"));
                let variant = variant.unwrap_or_default();
                format!("{}/{}{variant}", platform.os, platform.architecture)
            });
            Ok(Descriptor {
                media_type: raw.media_type,
                sha256: sha256.ok_or_else(|| refused(format!("the digest {:?}", raw.digest)))?,
                size: raw.size,
                platform: platform.unwrap_or_default(),
            })
        })
        .collect()
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

/// The files of an image, as its layers come in.
#[derive(Debug, Clone, Default)]
pub struct ImageFiles(BTreeMap<String, FileDigests>);

impl ImageFiles {
    #[must_use]
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Lays one layer over those before it.
    ///
    /// # Errors
    /// `REF-OCI-DIGEST`, `REF-OCI`, `REF-TAR`, `REF-UNPACK`, `REF-UNPACK-SIZE`.
    pub fn apply(&mut self, layer: &Descriptor, bytes: &[u8]) -> Result<(), Finding> {
        check_blob(bytes, &layer.sha256)?;
        let kind = layer.media_type.as_str();
        let packing = match kind.rsplit_once(['+', '.']).map(|(_, end)| end) {
            Some("gzip") => Packing::Gzip,
            Some("zstd") => Packing::Zstd,
            Some("tar") => Packing::Plain,
            _ => return Err(refused(format!("a layer of type {kind:?}"))),
        };
        // Whiteouts speak of the layers below, wherever in this one they stand.
        let mut added = BTreeMap::new();
        let mut tar = Tar::new(unpack::reader(packing, bytes, LARGEST_LAYER)?);
        while let Some(entry) = tar.next_entry()? {
            let (folder, name) = entry.path.rsplit_once('/').unwrap_or_default();
            if name == OPAQUE {
                self.remove_below(folder);
            } else if let Some(hidden) = name.strip_prefix(WHITEOUT) {
                let path = format!("{folder}/{hidden}");
                self.remove_below(&path);
                self.0.remove(&path);
            } else if entry.kind == Kind::File {
                added.insert(entry.path.clone(), Some(hash_entry(&mut tar)?));
            } else if let Kind::HardLink(target) = &entry.kind {
                let linked = added.get(target).cloned().flatten();
                let linked = linked.or_else(|| self.0.get(target).cloned());
                let linked = linked.ok_or_else(|| refused("a hard link to no file"))?;
                added.insert(entry.path.clone(), Some(linked));
            } else {
                // Whatever took its place, the file is gone; under a link nothing is left either.
                added.insert(entry.path.clone(), None);
                if entry.kind != Kind::Folder {
                    self.remove_below(&entry.path);
                }
            }
            if self.0.len().saturating_add(added.len()) > MOST_FILES {
                return Err(refused("too many files"));
            }
        }
        for (path, digests) in added {
            match digests {
                Some(digests) => self.0.insert(path, digests),
                None => self.0.remove(&path),
            };
        }
        Ok(())
    }

    /// By path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &FileDigests)> {
        self.0
            .iter()
            .map(|(path, digests)| (path.as_str(), digests))
    }

    fn remove_below(&mut self, folder: &str) {
        let prefix = format!("{folder}/");
        self.0.retain(|path, _| !path.starts_with(&prefix));
    }
}
