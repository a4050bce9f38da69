//! What a kernel measured while it ran, told file by file.

use crate::naming::Naming;
use attest_tpm::ima::{Entry, Kind, List, Measured};
use crypto::{Hash, hex};
use serde::{Deserialize, Serialize};

/// Entries that are told; lists of machines in the field have some thousands.
const MOST: usize = 100_000;

/// A list, or the part of it that is there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Files {
    /// Index of the first entry that is there.
    pub first: u64,
    /// Whether a quote stands behind each of `listed`.
    pub verified: bool,
    pub listed: Vec<Listed>,
    /// Entries that are not told, being too many.
    pub more: usize,
    /// Entries behind what was quoted, which are not told either.
    pub pending: usize,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub entry: u64,
    /// As the kernel saw it.
    pub path: String,
    /// `sha256:…`, or `verity:sha256:…` for the root of a file's fs-verity tree.
    pub digest: String,
    /// Written to while it was measured.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub violation: bool,
    /// What reference values call the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

impl Files {
    /// Entries that a quote stands behind.
    #[must_use]
    pub fn measured(measured: &Measured<'_>, naming: &Naming<'_>) -> Self {
        let entries = measured.entries();
        let first = entries.first().map_or(0, |entry| entry.index);
        Self {
            verified: true,
            ..Self::told(first, entries, measured.pending(), naming)
        }
    }

    /// Entries that nobody stands behind.
    #[must_use]
    pub fn claimed(list: &List<'_>, naming: &Naming<'_>) -> Self {
        Self::told(list.first(), list.entries(), 0, naming)
    }

    /// Whether there is more before the end than is told.
    #[must_use]
    pub const fn is_part(&self) -> bool {
        self.first > 0 || self.more > 0
    }

    fn told(first: u64, entries: &[Entry<'_>], pending: usize, naming: &Naming<'_>) -> Self {
        let listed = entries.iter().take(MOST).map(|entry| Listed {
            entry: entry.index,
            path: entry.path.clone(),
            digest: digest(entry),
            violation: entry.is_violation(),
            known: sha256(entry).and_then(|digest| naming.file(&digest)),
        });
        Self {
            first,
            verified: false,
            listed: listed.collect(),
            more: entries.len().saturating_sub(MOST),
            pending,
        }
    }
}

/// The digest, if it is one that reference values may know.
pub(crate) fn sha256(entry: &Entry<'_>) -> Option<[u8; 32]> {
    let digest = (entry.hash == Some(Hash::Sha256)).then_some(entry.digest.as_slice())?;
    digest.as_array::<32>().copied()
}

fn digest(entry: &Entry<'_>) -> String {
    let of = match entry.kind {
        Kind::Content => "",
        Kind::Verity => "verity:",
    };
    let hash = entry.hash.map_or("unknown", Hash::name);
    format!("{of}{hash}:{}", hex::encode(&entry.digest))
}
