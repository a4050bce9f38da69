//! Generations: sets of reference values that were imported together and hold for a while, on some
//! machines. The files of an estate's `references/` folder hold them, as JSON or TOML of one shape.

mod check;
mod json;
mod rule;

pub use rule::{BootRule, Part, Parts, SecureBoot};

use crate::Digest;
use crate::time::moment;
use facts::{Finding, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ring that stands for every machine.
pub const ALL_RINGS: &str = "*";
/// As large as all files of an estate may be together.
const LARGEST: usize = 16 * 1024 * 1024;

/// One file of reference values.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceFile {
    #[serde(default, rename = "generation", skip_serializing_if = "Vec::is_empty")]
    pub generations: Vec<Generation>,
    /// How machines may boot, beside what generations predict.
    #[serde(default, rename = "boot", skip_serializing_if = "Vec::is_empty")]
    pub boots: Vec<BootRule>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<Withdrawal>,
}

/// What is good from one time to another, on the machines of some rings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Letters, digits, `.`, `_` and `-`; once in all files.
    pub name: String,
    /// Rings of machines, as `canary` and `production`; `*` is every ring.
    pub rings: Vec<String>,
    #[serde(with = "moment")]
    #[schemars(with = "String")]
    pub valid_from: Timestamp,
    /// Without it, until somebody ends it.
    #[serde(
        default,
        with = "moment::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub valid_until: Option<Timestamp>,
    #[serde(with = "moment")]
    #[schemars(with = "String")]
    pub imported_at: Timestamp,
    #[serde(rename = "source")]
    pub sources: Vec<Source>,
    #[serde(rename = "artefact")]
    pub artefacts: Vec<Artefact>,
}

/// What kind of signed, or pinned, statement values rest on.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A signed `InRelease`.
    DebianRelease,
    /// An Authenticode signature of a PE image.
    Authenticode,
    /// A signed in-toto statement.
    Slsa,
    /// A digest that the operator named.
    Pinned,
}

/// Where values come from, and who stands behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// By which artefacts refer to it, within the generation.
    pub id: String,
    pub kind: SourceKind,
    /// What a person calls it: `Debian bookworm-security`, a file's name.
    pub name: String,
    /// SHA-256 of the signed file.
    pub sha256: Digest,
    /// Fingerprints of the keys, or digests of the certificates, with names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed_by: Vec<String>,
    #[serde(
        default,
        with = "moment::option",
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(with = "Option<String>")]
    pub signed_at: Option<Timestamp>,
}

/// What an artefact is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ArtefactKind {
    Deb,
    /// A unified kernel image.
    Uki,
    /// Images that start one another, as shim, GRUB and a kernel.
    BootChain,
    /// A machine's UEFI variables.
    Uefi,
    Oci,
    /// What a provenance statement speaks of.
    Subject,
}

/// One thing that was signed, and the values that follow from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Artefact {
    pub kind: ArtefactKind,
    pub name: String,
    /// Empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// SHA-256 of the artefact itself.
    pub sha256: Digest,
    /// The id of its source.
    pub source: String,
    /// Artefacts that it was computed from: `shim-signed 1.51`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub made_of: Vec<String>,
    #[serde(default, rename = "file", skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileValue>,
    #[serde(default, rename = "pcr", skip_serializing_if = "Vec::is_empty")]
    pub pcrs: Vec<PcrValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpredicted: Vec<Unpredicted>,
    /// What booting it measures, for the rules of `[[boot]]` that draw from it.
    #[serde(default, rename = "boot", skip_serializing_if = "Parts::is_empty")]
    pub parts: Parts,
}

/// A file as machines hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileValue {
    /// Absolute, as the artefact has it.
    pub path: String,
    pub sha256: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fsverity: Option<Digest>,
    /// Authenticode SHA-256 of a PE image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticode: Option<Digest>,
}

/// A PCR of the SHA-256 bank, and what leads to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcrValue {
    pub index: u8,
    pub sha256: Digest,
    #[serde(rename = "event")]
    pub events: Vec<PcrEvent>,
}

/// One extension of a PCR.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PcrEvent {
    /// For people: `.cmdline`, `kernel`.
    pub what: String,
    pub sha256: Digest,
}

/// A PCR that could not be computed from this artefact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Unpredicted {
    pub index: u8,
    pub why: String,
}

/// From `at` on, no generation makes this version good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    /// An artefact's name.
    pub name: String,
    /// Its version; without it, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(with = "moment")]
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// For people: `CVE-2026-1234`.
    pub reason: String,
}

impl Withdrawal {
    /// Whether it is of this artefact, or of one that this was made of: a boot goes with its kernel.
    #[must_use]
    pub fn concerns(&self, artefact: &Artefact) -> bool {
        let is = |name: &str, version: &str| {
            name == self.name && self.version.as_ref().is_none_or(|own| own == version)
        };
        let parts = artefact.made_of.iter();
        is(&artefact.name, &artefact.version)
            || parts
                .filter_map(|part| part.rsplit_once(' '))
                .any(|(name, version)| is(name, version))
    }
}

impl ReferenceFile {
    /// Reads JSON (when it begins with a brace) or TOML, and checks it.
    ///
    /// # Errors
    /// `REF-FILE` when it has another shape, else what [`ReferenceFile::check`] finds.
    pub fn parse(text: &str) -> Result<Self, Vec<Finding>> {
        let refused = |observed: String| {
            vec![
                Finding::new("REF-FILE", "the references file cannot be read")
                    .expected("generations and withdrawn versions, and no other keys")
                    .observed(observed)
                    .next("import the references again, or see docs/operate/reference-values.md"),
            ]
        };
        if text.len() > LARGEST {
            return Err(refused("more than 16 MiB".to_owned()));
        }
        let file: Self = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| refused(error.to_string()))?
        } else {
            toml::from_str(text).map_err(|error| refused(error.to_string()))?
        };
        let findings = file.check();
        if findings.is_empty() {
            Ok(file)
        } else {
            Err(findings)
        }
    }

    /// The one JSON form of what it holds: everything in order, a value a line, so that two imports can be
    /// compared by `diff`.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut sorted = self.clone();
        sorted.sort();
        json::text(&sorted)
    }

    fn sort(&mut self) {
        self.generations
            .sort_by(|one, other| one.name.cmp(&other.name));
        for generation in &mut self.generations {
            generation.sort();
        }
        self.boots.sort_by(|one, other| one.name.cmp(&other.name));
        self.withdrawn
            .sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    }
}

fn is_for(rings: &[String], ring: &str) -> bool {
    rings.iter().any(|own| own == ALL_RINGS || own == ring)
}

impl Generation {
    /// SHA-256 of everything it holds, in its one order.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let file = ReferenceFile {
            generations: vec![self.clone()],
            ..ReferenceFile::default()
        };
        Digest::of(file.to_json().as_bytes())
    }

    /// Values in one order, whatever order they were imported in.
    pub fn sort(&mut self) {
        self.rings.sort();
        self.rings.dedup();
        self.sources.sort_by(|one, other| one.id.cmp(&other.id));
        self.artefacts.sort_by(|one, other| {
            let key = |artefact: &Artefact| {
                (
                    artefact.kind,
                    artefact.name.clone(),
                    artefact.version.clone(),
                    artefact.architecture.clone(),
                    artefact.sha256,
                )
            };
            key(one).cmp(&key(other))
        });
        for artefact in &mut self.artefacts {
            artefact
                .files
                .sort_by(|one, other| (&one.path, one.sha256).cmp(&(&other.path, other.sha256)));
            artefact.pcrs.sort_by_key(|pcr| (pcr.index, pcr.sha256));
            artefact.unpredicted.sort_by_key(|pcr| pcr.index);
        }
    }
}
