//! What comes of making something again.

use serde::Serialize;
use std::fmt;

/// What is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// May an identity do this to that?
    Decision,
    /// May a workload become an identity?
    Issuance,
    /// Is a machine what it says?
    Verdict,
    /// Have two authors signed what went, where there are two?
    Erasure,
    /// Have two authors signed what an invariant loses?
    Approval,
}

impl What {
    /// Code and message of a difference.
    #[must_use]
    pub const fn difference(self) -> (&'static str, &'static str) {
        match self {
            Self::Decision | Self::Issuance => (
                "PACK-DECISION",
                "what was decided does not follow from the estate and the facts that the record names",
            ),
            Self::Verdict => (
                "PACK-VERDICT",
                "what was concluded does not follow from the evidence and the estate that the record names",
            ),
            Self::Erasure => (
                "PACK-ERASURE",
                "two authors of the estate in force have not signed what the record says to be erased",
            ),
            Self::Approval => (
                "PACK-APPROVAL",
                "two authors of the estate in force have not signed what the record says to be approved",
            ),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decision => "decision",
            Self::Issuance => "issuance",
            Self::Verdict => "verdict",
            Self::Erasure => "erasure",
            Self::Approval => "approval",
        })
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "why", rename_all = "kebab-case")]
pub enum Outcome {
    /// The same as was recorded.
    Recomputed,
    /// Something else, and what.
    Differs(String),
    /// Something lacks, and what.
    NotRecomputable(String),
}

/// Ends early: anything but the same.
pub(crate) type Again = Result<(), Outcome>;

pub(crate) fn differs<T>(what: impl Into<String>) -> Result<T, Outcome> {
    Err(Outcome::Differs(what.into()))
}

pub(crate) fn lacks<T>(what: impl Into<String>) -> Result<T, Outcome> {
    Err(Outcome::NotRecomputable(what.into()))
}

/// A list for people.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    if quoted.is_empty() {
        "no policy".to_owned()
    } else {
        quoted.join(", ")
    }
}
