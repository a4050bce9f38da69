//! What good code looks like, as data: digests with their source and how long they count, signers, trusted
//! roots, rules for provenance.

use crate::fsverity::FsVerityDigest;
use crate::provenance::ProvenanceRule;
use crate::signer::{Signer, is_plain};
use crate::sigstore::TrustedRoot;
use facts::{Finding, Timestamp};
use std::collections::BTreeMap;

/// What a digest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CodeDigest {
    /// SHA-256 of an executable's bytes.
    Sha256([u8; 32]),
    /// fs-verity digest of an executable.
    FsVerity(FsVerityDigest),
    /// SHA-256 of a container image's manifest or index.
    Image([u8; 32]),
}

impl std::fmt::Display for CodeDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "sha256:{}", crypto::hex::encode(digest)),
            Self::FsVerity(digest) => write!(f, "fsverity:{digest}"),
            Self::Image(digest) => write!(f, "image sha256:{}", crypto::hex::encode(digest)),
        }
    }
}

/// When a reference value counts: from its first moment until just before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Since ever, if absent.
    pub from: Option<Timestamp>,
    /// For good, if absent.
    pub until: Option<Timestamp>,
}

impl Window {
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= now) && !self.is_over(now)
    }

    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.from, self.until) {
            (None, None) => f.write_str("always"),
            (Some(from), None) => write!(f, "from {from}"),
            (None, Some(until)) => write!(f, "until {until}"),
            (Some(from), Some(until)) => write!(f, "{from} to {until}"),
        }
    }
}

/// Code that the owner approved by digest. The same digest may stand in several generations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestReference {
    pub digest: CodeDigest,
    /// The owner's name for it: `payments-api 1.4.2`.
    pub label: String,
    /// Where the value is from: which signed file, by which key.
    pub source: String,
    pub window: Window,
}

/// All reference values for code. What is not in them is unknown, and unknown code is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CodeReferences {
    roots: BTreeMap<String, TrustedRoot>,
    digests: BTreeMap<CodeDigest, Vec<DigestReference>>,
    signers: Vec<Signer>,
    provenance: Vec<ProvenanceRule>,
}

impl CodeReferences {
    /// The labels of all signers, in the owner's order.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.signers.iter().map(Signer::label)
    }

    /// The names under which what this signer says counts: its own, and those of provenance rules that list it.
    /// Empty if there is no such signer.
    #[must_use]
    pub fn approvals_by(&self, signer: &str) -> Vec<&str> {
        let own = self.labels().filter(|label| *label == signer);
        let rules = self.provenance.iter().filter(|rule| rule.lists(signer));
        own.chain(rules.map(ProvenanceRule::label)).collect()
    }

    /// Puts reference values together. The order of signers and of rules is the owner's preference: the first
    /// that fits speaks for the code.
    ///
    /// # Errors
    /// `CODE-REFERENCE-…` for a label that stands twice, a signer whose trusted root is missing, a rule whose
    /// signer is missing, a window that ends before it begins.
    pub fn new(
        roots: BTreeMap<String, TrustedRoot>,
        digests: Vec<DigestReference>,
        signers: Vec<Signer>,
        provenance: Vec<ProvenanceRule>,
    ) -> Result<Self, Finding> {
        for (at, signer) in signers.iter().enumerate() {
            let label = signer.label();
            if signers
                .iter()
                .skip(at + 1)
                .any(|other| other.label() == label)
            {
                return Err(unusable(format!("signer {label:?} twice")));
            }
            if let Some(root) = signer.root().filter(|root| !roots.contains_key(*root)) {
                return Err(unusable(format!(
                    "signer {label:?} needs the trusted root {root:?}"
                )));
            }
        }
        for (at, rule) in provenance.iter().enumerate() {
            let label = rule.label();
            if provenance
                .iter()
                .skip(at + 1)
                .any(|other| other.label() == label)
            {
                return Err(unusable(format!("rule {label:?} twice")));
            }
            let missing = rule
                .signers()
                .find(|name| !signers.iter().any(|signer| signer.label() == *name));
            if let Some(missing) = missing {
                return Err(unusable(format!(
                    "rule {label:?} needs the signer {missing:?}"
                )));
            }
        }
        let mut by_digest: BTreeMap<CodeDigest, Vec<DigestReference>> = BTreeMap::new();
        for reference in digests {
            let Window { from, until } = reference.window;
            if from.zip(until).is_some_and(|(from, until)| until <= from) {
                return Err(unusable(format!(
                    "{:?} counts {}",
                    reference.label, reference.window
                )));
            }
            if !is_plain(&reference.label) {
                return Err(unusable(format!("the label {:?}", reference.label)));
            }
            by_digest
                .entry(reference.digest)
                .or_default()
                .push(reference);
        }
        Ok(Self {
            roots,
            digests: by_digest,
            signers,
            provenance,
        })
    }

    /// Everything that is known of a digest, in every generation.
    pub(crate) fn known(&self, digest: &CodeDigest) -> &[DigestReference] {
        self.digests.get(digest).map_or(&[], Vec::as_slice)
    }

    /// Every approved digest, in the order of digests.
    pub fn digests(&self) -> impl Iterator<Item = &DigestReference> {
        self.digests.values().flatten()
    }

    pub(crate) fn roots(&self) -> impl Iterator<Item = (&str, &TrustedRoot)> {
        self.roots.iter().map(|(name, root)| (name.as_str(), root))
    }

    pub(crate) fn root(&self, name: &str) -> Option<&TrustedRoot> {
        self.roots.get(name)
    }

    pub(crate) fn signers(&self) -> impl Iterator<Item = &Signer> {
        self.signers.iter()
    }

    pub(crate) fn signer(&self, label: &str) -> Option<&Signer> {
        self.signers.iter().find(|signer| signer.label() == label)
    }

    pub(crate) fn provenance(&self) -> &[ProvenanceRule] {
        &self.provenance
    }
}

fn unusable(observed: String) -> Finding {
    Finding::new(
        "CODE-REFERENCE-WHOLE",
        "the reference values for code do not fit together",
    )
    .observed(observed)
    .next("correct the estate's references")
}
