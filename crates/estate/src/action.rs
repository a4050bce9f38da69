//! The actions that policies speak of. What each applies to stands in `base.cedarschema`.

use crate::resource::ResourceKind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One action of the base schema. Text form is lower kebab case, the same in Cedar, CLI and records.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Assume,
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    Define,
    Execute,
    Plan,
    Apply,
    Revoke,
    Restore,
    TokenCreate,
    Readmit,
    Export,
    Query,
    Pack,
}

impl Action {
    pub const ALL: [Self; 17] = [
        Self::Assume,
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::Define,
        Self::Execute,
        Self::Plan,
        Self::Apply,
        Self::Revoke,
        Self::Restore,
        Self::TokenCreate,
        Self::Readmit,
        Self::Export,
        Self::Query,
        Self::Pack,
    ];

    /// The actions by which an identity uses a resource.
    pub const USES: [Self; 7] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::Define,
        Self::Execute,
    ];

    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Assume => "assume",
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
            Self::Define => "define",
            Self::Execute => "execute",
            Self::Plan => "plan",
            Self::Apply => "apply",
            Self::Revoke => "revoke",
            Self::Restore => "restore",
            Self::TokenCreate => "token-create",
            Self::Readmit => "readmit",
            Self::Export => "export",
            Self::Query => "query",
            Self::Pack => "pack",
        }
    }

    /// What it can be done to, as the base schema has it.
    #[must_use]
    pub const fn resource_kinds(self) -> &'static [ResourceKind] {
        match self {
            Self::Assume => &[ResourceKind::Identity],
            Self::Select | Self::Insert | Self::Update | Self::Delete | Self::Truncate => {
                &[ResourceKind::Table]
            }
            Self::Define => &[
                ResourceKind::Database,
                ResourceKind::Schema,
                ResourceKind::Table,
                ResourceKind::Function,
            ],
            Self::Execute => &[ResourceKind::Function],
            Self::Revoke => &[
                ResourceKind::Identity,
                ResourceKind::Machine,
                ResourceKind::Estate,
            ],
            Self::Restore => &[ResourceKind::Identity, ResourceKind::Estate],
            Self::Readmit => &[ResourceKind::Machine],
            Self::Plan
            | Self::Apply
            | Self::TokenCreate
            | Self::Export
            | Self::Query
            | Self::Pack => &[ResourceKind::Estate],
        }
    }

    /// True for what administrators do to the estate itself.
    #[must_use]
    pub const fn is_administrative(self) -> bool {
        matches!(
            self,
            Self::Plan
                | Self::Apply
                | Self::Revoke
                | Self::Restore
                | Self::TokenCreate
                | Self::Readmit
                | Self::Export
                | Self::Query
                | Self::Pack
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no action of the base schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no action")]
pub struct UnknownAction(pub String);

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::ALL
            .into_iter()
            .find(|action| action.as_str() == text)
            .ok_or_else(|| UnknownAction(text.to_owned()))
    }
}
