//! The manifest beside a policy: which fs-verity digests machines should find, under which labels, until when.
//! For people and tools; the kernel reads the policy alone.

use crate::CodeReferences;
use crate::fsverity::FsVerityDigest;
use crate::ipe::SignedPolicy;
use crate::references::{CodeDigest, Window};
use facts::{Finding, Timestamp};
use serde::{Deserialize, Serialize};

const MAX_MANIFEST: usize = 16 * 1024 * 1024;

/// All fs-verity digests of the references that count now or later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    v: u32,
    /// The policy that was emitted with it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub policy: Option<ManifestPolicy>,
    pub files: Vec<ManifestFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestPolicy {
    pub name: String,
    pub version: String,
    /// SHA-256 of the signed policy, lower-case hex: the kernel's `policy_digest`.
    pub sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// As the kernel writes it: `sha256:` and hexadecimal.
    pub fsverity: String,
    pub label: String,
    pub source: String,
    /// Where machines have it, if that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path: Option<String>,
    /// Milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
}

impl Manifest {
    /// What `references` approve from `now` on.
    #[must_use]
    pub fn new(references: &CodeReferences, policy: Option<&SignedPolicy>, now: Timestamp) -> Self {
        let files = references.digests().filter_map(|reference| {
            let CodeDigest::FsVerity(digest) = reference.digest else {
                return None;
            };
            let Window { from, until } = reference.window;
            (!reference.window.is_over(now)).then(|| ManifestFile {
                fsverity: digest.to_string(),
                label: reference.label.clone(),
                source: reference.source.clone(),
                path: None,
                from,
                until,
            })
        });
        Self {
            v: 1,
            policy: policy.map(|policy| ManifestPolicy {
                name: policy.name().to_owned(),
                version: policy.version().to_string(),
                sha256: crypto::hex::encode(&policy.sha256()),
            }),
            files: files.collect(),
        }
    }

    /// The same, with the paths that `of` has for a digest.
    #[must_use]
    pub fn placed(mut self, of: impl Fn(&str) -> Vec<String>) -> Self {
        let files = self.files.into_iter().flat_map(|file| {
            let paths = of(&file.fsverity);
            if paths.is_empty() {
                return vec![file];
            }
            let placed = paths.into_iter().map(|path| ManifestFile {
                path: Some(path),
                ..file.clone()
            });
            placed.collect()
        });
        self.files = files.collect();
        self
    }

    /// JSON, one spelling for the same references.
    #[must_use]
    pub fn to_json(&self) -> String {
        // INVARIANT: texts, numbers and lists always serialise.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads a manifest; every digest in it is one.
    ///
    /// # Errors
    /// `CODE-MANIFEST`, `CODE-FSVERITY`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let malformed = |observed: String| {
            Finding::new("CODE-MANIFEST", "the manifest cannot be read")
                .expected("JSON of version 1")
                .observed(observed)
        };
        if bytes.len() > MAX_MANIFEST {
            return Err(malformed(format!("{} bytes", bytes.len())));
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if manifest.v != 1 {
            return Err(malformed(format!("version {}", manifest.v)));
        }
        for file in &manifest.files {
            FsVerityDigest::parse(&file.fsverity)?;
        }
        Ok(manifest)
    }
}
