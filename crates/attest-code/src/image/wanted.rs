//! What has to be fetched of an image before it can be read, for whoever brings it from elsewhere. It says what to
//! ask for, and judges nothing: [`read`](super::read) does, of what then is there.

use super::manifest::{Descriptor, Document};
use super::{BlobDigest, DEEPEST, Layout, Lookup, MAX_LAYERS, MAX_MANIFEST, Platform, fetch};
use super::{malformed, too_large};
use facts::Finding;

/// Blobs of an attachment that are looked at.
const MAX_PARTS: usize = 64;

/// One blob, as what names it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub digest: BlobDigest,
    pub size: u64,
    pub media_type: String,
}

/// The next thing that lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// A manifest or index, which says what more there is.
    Manifest(BlobDigest),
    /// All manifests are there.
    Rest {
        /// As in [`Image::names`](super::Image::names).
        names: Vec<BlobDigest>,
        /// Configuration and layers.
        parts: Vec<Part>,
    },
}

/// What is to be fetched next of the image that `digest` names.
///
/// # Errors
/// As [`read`](super::read), of the manifests that are there.
pub fn wanted<'a>(
    blobs: &'a Lookup<'a>,
    digest: BlobDigest,
    platform: &Platform,
) -> Result<Wanted, Finding> {
    let layout = Layout { index: &[], blobs };
    let mut names = vec![digest];
    let mut at = Descriptor::named(digest);
    loop {
        if blobs(&at.digest).is_none() {
            return Ok(Wanted::Manifest(at.digest));
        }
        match Document::parse(&fetch(&layout, &at, MAX_MANIFEST)?)? {
            Document::Manifest(manifest) => {
                if manifest.layers.len() > MAX_LAYERS {
                    return Err(malformed(&format!("{} layers", manifest.layers.len())));
                }
                let config = part(&manifest.config);
                let parts = [config].into_iter().chain(manifest.layers.iter().map(part));
                let parts = parts.collect();
                return Ok(Wanted::Rest { names, parts });
            }
            Document::Index(index) if names.len() <= DEEPEST => {
                at = index.of_platform(platform)?;
                names.push(at.digest);
            }
            Document::Index(_) => return Err(malformed("indexes within indexes")),
        }
    }
}

/// What a manifest of something attached consists of: its layers; of an index, the manifests that it lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    Manifest(Vec<Part>),
    Index(Vec<Part>),
}

/// Reads a document that is attached to an image, or that lists what is.
///
/// # Errors
/// `IMAGE-MANIFEST`, `IMAGE-DIGEST`, and `IMAGE-BLOB-SIZE` for a part that is larger than is read.
pub fn attached(document: &[u8]) -> Result<Attached, Finding> {
    let large = |part: &Part| usize::try_from(part.size).map_or(true, |size| size > MAX_MANIFEST);
    let parts = |of: &[Descriptor]| of.iter().take(MAX_PARTS).map(part).collect::<Vec<_>>();
    match Document::parse(document)? {
        Document::Manifest(manifest) => {
            let parts = parts(&manifest.layers);
            match parts.iter().find(|part| large(part)) {
                Some(part) => Err(too_large(&part.digest, MAX_MANIFEST)),
                None => Ok(Attached::Manifest(parts)),
            }
        }
        // One that nobody would read hides no other.
        Document::Index(index) => {
            let mut parts = parts(&index.manifests);
            parts.retain(|part| !large(part));
            Ok(Attached::Index(parts))
        }
    }
}

fn part(descriptor: &Descriptor) -> Part {
    Part {
        digest: descriptor.digest,
        size: descriptor.size.unwrap_or_default(),
        media_type: descriptor.media_type.clone(),
    }
}
