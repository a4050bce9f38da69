//! A question in the estate's words, and why something that was asked is none.

use estate::{Action, Chain, ResourceRef};
use facts::{FactSet, Finding};
use gateway::Delegated;
use std::fmt;

/// May `subject` do `action` to `resource`?
#[derive(Debug, Clone)]
pub struct Question {
    /// Identity path, `payments/api`.
    pub subject: String,
    pub action: Action,
    pub resource: ResourceRef,
    pub facts: Known,
    /// Of one who acts for others: the whole chain, which ends with `subject`.
    pub on_behalf_of: Option<OnBehalfOf>,
}

/// On whose behalf, and how that is known. What may be done is the same by both: a chain only narrows.
#[derive(Debug, Clone)]
pub enum OnBehalfOf {
    /// Whoever asks says so, and nobody has shown that the others agreed.
    Claimed(Chain),
    /// By a delegation token that the subject presented.
    Proven(Box<Delegated>),
}

impl OnBehalfOf {
    #[must_use]
    pub fn chain(&self) -> &Chain {
        match self {
            Self::Claimed(chain) => chain,
            Self::Proven(delegated) => &delegated.chain,
        }
    }
}

/// What is known of the subject's machine, workload and code.
#[derive(Debug, Clone, Default)]
pub enum Known {
    /// Nothing: only what is allowed whatever they are is allowed.
    #[default]
    Nothing,
    /// Whoever asks says so.
    Stated(FactSet),
    /// The subject's SVID was shown: what its issuance record shows, and the index of that record.
    Issued { facts: FactSet, issuance: u64 },
}

impl Known {
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Nothing => "unknown",
            Self::Stated(_) => "stated",
            Self::Issued { .. } => "issued",
        }
    }
}

/// What was asked cannot be put to the estate. Of one question among several it is a denial.
#[derive(Debug, Clone)]
pub struct Refused {
    /// As HTTP counts: 400 is the asker's mistake, 403 is beyond its rights, 404 names what is not there.
    pub status: u16,
    pub finding: Finding,
}

impl Refused {
    #[must_use]
    pub const fn malformed(finding: Finding) -> Self {
        Self {
            status: 400,
            finding,
        }
    }

    #[must_use]
    pub const fn forbidden(finding: Finding) -> Self {
        Self {
            status: 403,
            finding,
        }
    }

    #[must_use]
    pub const fn unknown(finding: Finding) -> Self {
        Self {
            status: 404,
            finding,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.finding.fmt(f)
    }
}
