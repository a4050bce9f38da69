//! Image manifests and indexes: OCI Image Specification 1.1, and Docker's schema 2, which it grew from.

use super::{BlobDigest, Platform, malformed};
use facts::Finding;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

const MAX_ENTRIES: usize = 4096;

/// What a blob is called elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: BlobDigest,
    /// Absent only for what the caller named by digest alone.
    pub(super) size: Option<u64>,
    pub(super) artifact_type: Option<String>,
    pub(super) annotations: BTreeMap<String, String>,
    platform: Option<PlatformEntry>,
}

/// A manifest or an index, whichever the bytes are.
#[derive(Debug)]
pub(super) enum Document {
    Manifest(Box<Manifest>),
    Index(Index),
}

#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) artifact_type: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
    pub(super) subject: Option<BlobDigest>,
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    subject: Option<RawDescriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<PlatformEntry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PlatformEntry {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Descriptor {
    /// For what is known by digest only.
    pub(super) fn named(digest: BlobDigest) -> Self {
        Self {
            media_type: String::new(),
            digest,
            size: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.get(name).map(String::as_str)
    }

    fn of(raw: RawDescriptor) -> Result<Self, Finding> {
        Ok(Self {
            media_type: raw.media_type,
            digest: BlobDigest::parse(&raw.digest)?,
            size: Some(raw.size),
            artifact_type: raw.artifact_type,
            annotations: raw.annotations.unwrap_or_default(),
            platform: raw.platform,
        })
    }
}

impl Document {
    /// # Errors
    /// `IMAGE-MANIFEST`, `IMAGE-DIGEST`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let raw: Raw =
            serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        if raw.schema_version != 2 {
            return Err(malformed(&format!("schema version {}", raw.schema_version)));
        }
        // A document that is both can be read as either, by two readers who then disagree about what runs
        // (OCI Image Specification, "Ambiguous media types").
        let (says_index, says_manifest) = raw
            .media_type
            .as_deref()
            .map_or((true, true), |kind| (is_index(kind), is_manifest(kind)));
        match (raw.config, raw.layers, raw.manifests) {
            (None, None, Some(manifests)) if says_index && manifests.len() <= MAX_ENTRIES => {
                let manifests = manifests.into_iter().map(Descriptor::of);
                Ok(Self::Index(Index {
                    manifests: manifests.collect::<Result<_, _>>()?,
                }))
            }
            (Some(config), Some(layers), None) if says_manifest && layers.len() <= MAX_ENTRIES => {
                let subject = raw.subject.map(Descriptor::of).transpose()?;
                Ok(Self::Manifest(Box::new(Manifest {
                    artifact_type: raw.artifact_type,
                    config: Descriptor::of(config)?,
                    layers: layers
                        .into_iter()
                        .map(Descriptor::of)
                        .collect::<Result<_, _>>()?,
                    subject: subject.map(|subject| subject.digest),
                })))
            }
            _ => Err(malformed(
                "neither a manifest nor an index, or both, or another than it says",
            )),
        }
    }
}

fn is_index(kind: &str) -> bool {
    matches!(
        kind,
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

fn is_manifest(kind: &str) -> bool {
    matches!(
        kind,
        "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

impl Index {
    /// The only manifest for the platform.
    ///
    /// # Errors
    /// `IMAGE-PLATFORM`.
    pub(super) fn of_platform(&self, wanted: &Platform) -> Result<Descriptor, Finding> {
        let fits = |descriptor: &&Descriptor| {
            descriptor.platform.as_ref().is_some_and(|platform| {
                platform.os == wanted.os
                    && platform.architecture == wanted.architecture
                    && (wanted.variant.is_none() || platform.variant == wanted.variant)
            })
        };
        let mut fitting = self.manifests.iter().filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Ok(only.clone()),
            (first, _) => {
                let count = if first.is_some() {
                    "more than one"
                } else {
                    "none"
                };
                Err(Finding::new(
                    "IMAGE-PLATFORM",
                    "the index does not have exactly one image for the platform",
                )
                .expected(format!("{}/{}", wanted.os, wanted.architecture))
                .observed(count)
                .next("name the manifest's digest instead of the index's"))
            }
        }
    }
}

impl Manifest {
    /// What each layer unpacks to, lowest first: the configuration lists as many as the manifest has layers.
    ///
    /// # Errors
    /// `IMAGE-CONFIG`, `IMAGE-DIGEST`.
    pub(super) fn unpacked(&self, bytes: &[u8]) -> Result<Vec<BlobDigest>, Finding> {
        let config: Value =
            serde_json::from_slice(bytes).map_err(|error| malformed(&error.to_string()))?;
        let listed = config.pointer("/rootfs/diff_ids").and_then(Value::as_array);
        if let Some(listed) = listed.filter(|listed| listed.len() == self.layers.len()) {
            let digests = listed.iter().map(|one| one.as_str().unwrap_or_default());
            return digests.map(BlobDigest::parse).collect();
        }
        let listed = listed.map(Vec::len);
        Err(Finding::new(
            "IMAGE-CONFIG",
            "the image's configuration lists other layers than its manifest",
        )
        .expected(format!("{} layers", self.layers.len()))
        .observed(listed.map_or_else(|| "no list".to_owned(), |count| format!("{count} layers"))))
    }
}
