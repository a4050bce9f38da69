//! Container images by digest, from a registry-shaped layout (OCI Image Layout 1.1), with the signatures and
//! attestations that are attached to them. The caller looks blobs up; every one is checked here against the
//! digest and the size by which it was named.

mod attached;
mod manifest;
mod wanted;

use crate::judge::{CodeEvidence, Running};
use crate::references::CodeDigest;
use crate::{CodeReferences, judge};
use facts::{Finding, Timestamp, Verdict};
use manifest::{Descriptor, Document};
use std::borrow::Cow;

pub use wanted::{Attached, Part, Wanted, attached, wanted};

/// "A registry SHOULD enforce some limit … at least 4 MiB" (OCI Distribution 1.1): no larger manifest is read.
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
const MAX_LAYERS: usize = 512;
/// Indexes within indexes.
const DEEPEST: usize = 3;

/// SHA-256 of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobDigest([u8; 32]);

impl BlobDigest {
    #[must_use]
    pub const fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// Reads `sha256:` and 64 lower-case hexadecimal digits: the only algorithm that names images here.
    ///
    /// # Errors
    /// `IMAGE-DIGEST`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        let parsed = || {
            let digits = text.strip_prefix("sha256:")?;
            let lower = !digits.bytes().any(|digit| digit.is_ascii_uppercase());
            let bytes = crypto::hex::decode(digits).ok().filter(|_| lower)?;
            bytes.try_into().ok().map(Self)
        };
        parsed().ok_or_else(|| {
            Finding::new("IMAGE-DIGEST", "not the digest of a blob")
                .expected("sha256: and 64 lower-case hexadecimal digits")
                .observed(text.chars().take(160).collect::<String>())
        })
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", crypto::hex::encode(&self.0))
    }
}

/// Finds a blob: `blobs/sha256/<hex>` of a layout. It may be mapped instead of read.
pub type Lookup<'a> = dyn Fn(&BlobDigest) -> Option<Cow<'a, [u8]>> + 'a;

/// A layout: its `index.json`, and its blobs.
#[derive(Clone, Copy)]
pub struct Layout<'a> {
    pub index: &'a [u8],
    pub blobs: &'a Lookup<'a>,
}

/// Which of an index's images runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

/// How much of an image is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Manifests and configuration: who unpacks the layers checks them.
    Manifest,
    /// Every layer's bytes as well.
    Layers,
}

/// One layer of an image: an archive, packed as its media type says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub digest: BlobDigest,
    pub media_type: String,
    /// Of the archive that it unpacks to, which is not looked at here.
    pub unpacked: BlobDigest,
}

/// An image whose blobs are what their digests say, and what is attached to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Every digest that names it, the one that was asked for first, its own manifest's last.
    pub names: Vec<BlobDigest>,
    pub config: BlobDigest,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// None of it is verified.
    pub evidence: Vec<CodeEvidence>,
    /// Attached things that say nothing about who approved the image, or not in a way that is read here.
    pub passed_over: Vec<Finding>,
}

/// Reads the image that `digest` names, which is its manifest's or that of an index that holds it.
///
/// # Errors
/// `IMAGE-BLOB-MISSING`, `IMAGE-BLOB-DIGEST`, `IMAGE-BLOB-SIZE`, `IMAGE-DIGEST`, `IMAGE-MANIFEST`, `IMAGE-CONFIG`,
/// `IMAGE-PLATFORM`.
pub fn read(
    layout: &Layout<'_>,
    digest: BlobDigest,
    platform: &Platform,
    depth: Depth,
) -> Result<Image, Finding> {
    let mut names = vec![digest];
    let mut at = Descriptor::named(digest);
    let manifest = loop {
        match Document::parse(&fetch(layout, &at, MAX_MANIFEST)?)? {
            Document::Manifest(manifest) => break manifest,
            Document::Index(index) if names.len() <= DEEPEST => {
                at = index.of_platform(platform)?;
                names.push(at.digest);
            }
            Document::Index(_) => {
                return Err(malformed("indexes within indexes"));
            }
        }
    };
    if manifest.layers.len() > MAX_LAYERS {
        return Err(malformed(&format!("{} layers", manifest.layers.len())));
    }
    let config = fetch(layout, &manifest.config, MAX_MANIFEST)?;
    let unpacked = manifest.unpacked(&config)?;
    if depth == Depth::Layers {
        for layer in &manifest.layers {
            fetch(layout, layer, usize::MAX)?;
        }
    }
    let (evidence, passed_over) = attached::find(layout, &names);
    Ok(Image {
        names,
        config: manifest.config.digest,
        layers: manifest
            .layers
            .into_iter()
            .zip(unpacked)
            .map(|(layer, unpacked)| Layer {
                digest: layer.digest,
                media_type: layer.media_type,
                unpacked,
            })
            .collect(),
        evidence,
        passed_over,
    })
}

impl Image {
    /// What runs, where this image does.
    #[must_use]
    pub fn running(&self) -> Running {
        let named = |digest: &BlobDigest| CodeDigest::Image(*digest.as_bytes());
        Running {
            digests: self.names.iter().map(named).collect(),
        }
    }

    /// Judges the image by what is attached to it.
    #[must_use]
    pub fn judge(&self, references: &CodeReferences, now: Timestamp) -> Verdict {
        let verdict = judge(&self.running(), &self.evidence, references, now);
        if verdict.findings.is_empty() {
            return verdict;
        }
        let said = verdict.into_stated();
        let passed_over = self.passed_over.iter().cloned();
        let findings = said.findings.into_iter().chain(passed_over).collect();
        Verdict::refused(findings, said.evidence)
    }
}

/// The blob that a descriptor names, of at most `limit` bytes.
fn fetch<'a>(
    layout: &Layout<'a>,
    descriptor: &Descriptor,
    limit: usize,
) -> Result<Cow<'a, [u8]>, Finding> {
    let digest = &descriptor.digest;
    if descriptor
        .size
        .is_some_and(|size| usize::try_from(size).map_or(true, |size| size > limit))
    {
        return Err(too_large(digest, limit));
    }
    let blob = (layout.blobs)(digest).ok_or_else(|| {
        Finding::new("IMAGE-BLOB-MISSING", "the layout lacks a blob of the image")
            .expected(digest.to_string())
            .next("copy the whole image, for example by `skopeo copy --all`")
    })?;
    if blob.len() > limit {
        return Err(too_large(digest, limit));
    }
    let length = u64::try_from(blob.len()).unwrap_or(u64::MAX);
    if let Some(size) = descriptor.size.filter(|size| *size != length) {
        return Err(
            Finding::new("IMAGE-BLOB-SIZE", "a blob has another size than it should")
                .expected(format!("{digest} of {size} bytes"))
                .observed(format!("{length} bytes")),
        );
    }
    let found = BlobDigest(crypto::sha256(&blob));
    if found != *digest {
        return Err(
            Finding::new("IMAGE-BLOB-DIGEST", "a blob is not what it is named")
                .expected(digest.to_string())
                .observed(found.to_string())
                .next("copy the image again, from a registry that you trust"),
        );
    }
    Ok(blob)
}

fn too_large(digest: &BlobDigest, limit: usize) -> Finding {
    Finding::new("IMAGE-BLOB-SIZE", "a blob is larger than is read")
        .expected(format!("at most {limit} bytes"))
        .observed(digest.to_string())
}

fn malformed(observed: &str) -> Finding {
    Finding::new("IMAGE-MANIFEST", "a manifest of the image cannot be read")
        .expected("an OCI or Docker image manifest or index")
        .observed(observed)
}
