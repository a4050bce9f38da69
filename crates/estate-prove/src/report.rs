//! What a proof came to, in the form in which it is recorded and shown.

use crate::counterexample::Counterexample;
use estate::{InvariantKind, PolicyRef, Today};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// The outcome for one version of an estate.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    pub engines: Engines,
    /// In order of file and line.
    pub invariants: Vec<InvariantReport>,
    /// Wall time of the whole.
    pub milliseconds: u64,
}

impl Report {
    /// Whether the version may become current.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.invariants.iter().all(InvariantReport::is_accepted)
    }

    /// Whether all that keeps it from being accepted is what invariants take for granted.
    #[must_use]
    pub fn lacks_only_givens(&self) -> bool {
        let mut refused = self.invariants.iter().filter(|one| !one.is_accepted());
        !self.is_accepted() && refused.all(InvariantReport::lacks_only_givens)
    }
}

/// What vouches for the outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Engines {
    /// Version of Cedar's evaluator.
    pub cedar: String,
    /// The solver's first line of `--version`; none when it could not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub solver: Option<String>,
    /// Of the second, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// How many solvers agreed on what is proved. One vouches alone.
    pub solvers: u8,
}

#[derive(Debug, Clone, Serialize)]
pub struct InvariantReport {
    pub kind: InvariantKind,
    /// Its id, place and annotations.
    pub invariant: Arc<PolicyRef>,
    /// SHA-256 of its text as written, hex.
    pub digest: String,
    /// Of all data that fits the schema.
    pub result: Result,
    /// Of what is declared now.
    pub today: Today,
    /// What the proof takes for granted, and whether that holds of what is declared now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub givens: Vec<GivenReport>,
    /// Its author asks only for `today`.
    pub about_today: bool,
    pub milliseconds: u64,
}

impl InvariantReport {
    /// INVARIANT: unknown is never accepted; nor is anything that today's declarations break, be it the
    /// invariant or what its proof takes for granted.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        if !self.givens.iter().all(GivenReport::holds) {
            return false;
        }
        let holds_today = matches!(self.today, Today::Holds { .. });
        let broken_today = matches!(self.today, Today::Broken { .. });
        (matches!(self.result, Result::Proved) && !broken_today)
            || (self.about_today && holds_today)
    }
}

impl InvariantReport {
    /// Whether two authors may take it on trust: nobody knows whether it holds, and nothing of today breaks it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.result, Result::Unknown { .. })
            && !self.is_accepted()
            && !matches!(self.today, Today::Broken { .. })
            && self.givens.iter().all(GivenReport::holds)
    }
}

impl InvariantReport {
    /// Whether it would be accepted if what it takes for granted held of what is declared.
    #[must_use]
    pub fn lacks_only_givens(&self) -> bool {
        let granted = Self {
            givens: Vec::new(),
            ..self.clone()
        };
        !self.is_accepted() && granted.is_accepted()
    }
}

/// A `given` of an invariant.
#[derive(Debug, Clone, Serialize)]
pub struct GivenReport {
    /// As written.
    pub given: String,
    pub today: Today,
}

impl GivenReport {
    #[must_use]
    pub const fn holds(&self) -> bool {
        matches!(self.today, Today::Holds { .. })
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Result {
    /// For every request and all data that fits the schema.
    Proved,
    /// By this request, which was replayed.
    Broken { counterexample: Box<Counterexample> },
    /// Not proved.
    Unknown {
        #[serde(flatten)]
        why: Unknown,
    },
}

/// Why nothing is known. The text says more; the code is stable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unknown {
    pub code: &'static str,
    pub message: String,
}

impl Unknown {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// `proved`, `broken: …`, `unknown (CODE: …)`
impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proved => f.write_str("proved"),
            Self::Broken { counterexample } => write!(f, "broken: {counterexample}"),
            Self::Unknown { why } => write!(f, "unknown ({why})"),
        }
    }
}
