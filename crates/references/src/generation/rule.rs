//! What machines of a ring may boot, as lists: the values of a PCR whose order or repetition nobody can foretell
//! are judged one by one. Not a prediction; beside one, both have to fit.

use super::{Artefact, Generation};
use crate::Digest;
use crate::time::moment;
use facts::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A digest, and what a person calls what it is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// `initrd of web-1`, `Microsoft UEFI CA 2011`.
    pub what: String,
    pub sha256: Digest,
}

impl Part {
    #[must_use]
    pub fn new(what: impl Into<String>, sha256: Digest) -> Self {
        Self {
            what: what.into(),
            sha256,
        }
    }
}

/// What booting an artefact measures, for rules that draw from it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// Authenticode SHA-256.
    #[serde(default, rename = "image", skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Part>,
    /// SHA-256 of files that boot loaders read.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Part>,
    /// SHA-256 of certificates, or Authenticode digests, by which its images start.
    #[serde(default, rename = "authority", skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<Part>,
    /// SHA-256 of the lists that its shim measures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mok: Vec<Part>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_lines: Vec<String>,
    /// Name (`.linux`) and SHA-256 of each section of a unified kernel image that its stub measures.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sections: BTreeMap<String, Digest>,
}

impl Parts {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All digests among them.
    pub fn digests(&self) -> impl Iterator<Item = (&str, Digest)> {
        let lists = [&self.images, &self.files, &self.authorities, &self.mok];
        let listed = lists.into_iter().flatten();
        let sections = self.sections.iter();
        listed
            .map(|part| (part.what.as_str(), part.sha256))
            .chain(sections.map(|(name, digest)| (name.as_str(), *digest)))
    }
}

/// What is asked of Secure Boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecureBoot {
    /// It was on, and each authority that was used is listed.
    #[default]
    Required,
    /// Nothing.
    Any,
}

/// One way in which machines of some rings may boot. A machine has to fit one rule of its ring as a whole; what
/// a list does not name is not allowed, and an empty one allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootRule {
    /// Letters, digits, `.`, `_` and `-`; once in all files.
    pub name: String,
    /// As those of a generation.
    pub rings: Vec<String>,
    /// Without it, from the beginning.
    #[serde(
        default,
        with = "moment::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub valid_from: Option<Timestamp>,
    /// Without it, until somebody ends it.
    #[serde(
        default,
        with = "moment::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub valid_until: Option<Timestamp>,
    /// Names of artefacts whose parts are allowed as well, as long as a generation for the machine's ring makes
    /// them good: `shim-grub-linux`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// PCR 7. `required` unless it says `any`.
    #[serde(default)]
    pub secure_boot: SecureBoot,
    /// PCR 4: Authenticode SHA-256 of what may start.
    #[serde(default, rename = "image", skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Part>,
    /// PCR 2: the same of drivers on add-in cards.
    #[serde(default, rename = "driver", skip_serializing_if = "Vec::is_empty")]
    pub drivers: Vec<Part>,
    /// PCR 7: SHA-256 of certificates, or Authenticode digests, by which images may start.
    #[serde(default, rename = "authority", skip_serializing_if = "Vec::is_empty")]
    pub authorities: Vec<Part>,
    /// PCR 7: what the firmware's dbx has to hold at least: Authenticode digests, or SHA-256 of certificates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dbx: Vec<Part>,
    /// PCR 7: the lowest level of shim's revocations, by component; of `sbat` itself the date, as 2025021800.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sbat: BTreeMap<String, u64>,
    /// PCR 14: SHA-256 of shim's lists of keys. Nothing enrolled is always allowed, and so is the list of a
    /// certificate that is among the authorities.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mok: Vec<Part>,
    /// PCR 8, 9, 11, 12: the kernel's command lines, each as a whole, without the path that GRUB puts before
    /// it. There are no patterns: one word more can take a machine over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command_lines: Vec<String>,
    /// PCR 8: every command that GRUB may run. Empty: its commands are not looked at, only its configuration
    /// file and what it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grub_commands: Vec<String>,
    /// PCR 9, 12, 13: SHA-256 of kernels, initial ramdisks and GRUB's configuration as files; of credentials
    /// and extensions.
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Part>,
    /// PCR 11: for each unified kernel image the name and SHA-256 of all sections that its stub measures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sections: Vec<BTreeMap<String, Digest>>,
    /// PCRs that may hold anything. Facts that rest on them stay asserted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unjudged: BTreeSet<u8>,
}

impl BootRule {
    /// Whether it is for machines of `ring`.
    #[must_use]
    pub fn is_for(&self, ring: &str) -> bool {
        super::is_for(&self.rings, ring)
    }

    /// Whether it draws from `artefact`.
    #[must_use]
    pub fn draws_from(&self, artefact: &Artefact) -> bool {
        self.from.contains(&artefact.name)
    }

    pub(super) fn values(&self) -> usize {
        let lists = [
            &self.images,
            &self.drivers,
            &self.authorities,
            &self.dbx,
            &self.mok,
            &self.files,
        ];
        let lists: usize = lists.iter().map(|list| list.len()).sum();
        let texts = self
            .command_lines
            .len()
            .saturating_add(self.grub_commands.len());
        let sections: usize = self.sections.iter().map(BTreeMap::len).sum();
        lists.saturating_add(texts).saturating_add(sections)
    }
}

impl Generation {
    /// Whether it holds values for machines of `ring`.
    #[must_use]
    pub fn is_for(&self, ring: &str) -> bool {
        super::is_for(&self.rings, ring)
    }
}
