//! What a question looks like and what its answer holds.

use crate::action::Action;
use crate::resource::ResourceRef;
use facts::{FactSet, Finding};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// May this identity do this to that, these being the facts of its session?
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Identity path, `payments/api`.
    pub principal: &'a str,
    pub action: Action,
    pub resource: ResourceRef,
    pub facts: &'a FactSet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    Permit,
    Forbid,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Permit => "permit",
            Self::Forbid => "forbid",
        })
    }
}

/// One policy, by where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PolicyRef {
    /// The `@id` annotation, or `file:line` without one.
    pub id: String,
    pub effect: Effect,
    pub file: String,
    /// From 1: the first line of the policy, its annotations included.
    pub line: u32,
    /// All but `@id`.
    pub annotations: BTreeMap<String, String>,
}

/// `policies/payments.cedar:14 "payments reads cards"`
impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        if self.annotations.is_empty() && self.id == format!("{}:{}", self.file, self.line) {
            return Ok(());
        }
        write!(f, " {:?}", self.id)
    }
}

/// The outcome of one request.
///
/// INVARIANT: `allow` implies that `policies` is not empty and `errors` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct Decision {
    pub allow: bool,
    /// What determined it: the permits of an allow, the forbids of a deny. Empty for a denial by
    /// default. In order of file and line.
    pub policies: Vec<Arc<PolicyRef>>,
    /// Why the request could not be evaluated: an error anywhere in the slice is a denial.
    pub errors: Vec<String>,
    /// Of a denial, the policies that came nearest. Filled by `assume` and `why`; `decide` leaves it
    /// empty, because refusing must cost no more than allowing.
    pub near: Vec<Near>,
    /// Of a refused `assume`: what was expected and seen.
    pub findings: Vec<Finding>,
    /// Of a denial of a column that by itself is allowed: its table, which is not, and of which all else here is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_table: Option<ResourceRef>,
}

impl Decision {
    pub(crate) const fn deny() -> Self {
        Self {
            allow: false,
            policies: Vec::new(),
            errors: Vec::new(),
            near: Vec::new(),
            findings: Vec::new(),
            of_table: None,
        }
    }

    pub(crate) fn error(code: &str, message: impl fmt::Display) -> Self {
        Self {
            errors: vec![format!("{code}: {message}")],
            ..Self::deny()
        }
    }

    /// What determined it for people: `policies/shop.cedar:12 "the shop reads"`.
    #[must_use]
    pub fn policy_places(&self) -> Vec<String> {
        self.policies.iter().map(ToString::to_string).collect()
    }

    /// The ids of what determined it, as records hold them.
    #[must_use]
    pub fn policy_ids(&self) -> Vec<String> {
        self.policies
            .iter()
            .map(|policy| policy.id.clone())
            .collect()
    }
}

/// A permit that would have allowed a denied request but for one condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Near {
    pub policy: Arc<PolicyRef>,
    /// The first condition that did not hold.
    pub failed: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// Cedar text: `resource.classification == "public"`, or a scope: `principal in Pool::"demo"`.
    pub text: String,
    /// What the request had where the condition looked.
    pub observed: Vec<Observed>,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        for (index, observed) in self.observed.iter().enumerate() {
            let lead = if index == 0 { ", but " } else { ", " };
            write!(f, "{lead}{} is {}", observed.name, observed.value)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Observed {
    /// `principal.code.sha256`
    pub name: String,
    /// Cedar text of the value, or `absent`.
    pub value: String,
}

/// A decision with all its reasons: what `trilith why` prints.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// `Identity::"payments/api"`
    pub principal: String,
    pub action: Action,
    pub resource: ResourceRef,
    /// Of a database object: what its classification counts as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classification: Option<String>,
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    pub decision: Decision,
    /// The source text of `decision.policies`, in their order.
    pub texts: Vec<String>,
    /// Near misses beyond those in `decision.near`: they failed at more than one place.
    pub further: usize,
}
