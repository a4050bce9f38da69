//! How a resource is named: its kind and its path. Not whether it is declared.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

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
#[serde(rename_all = "lowercase")]
pub enum ResourceKind {
    Database,
    Schema,
    Table,
    Function,
    Identity,
    Machine,
    Estate,
}

impl ResourceKind {
    /// The Cedar entity type.
    #[must_use]
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::Database => "Database",
            Self::Schema => "Schema",
            Self::Table => "Table",
            Self::Function => "Function",
            Self::Identity => "Identity",
            Self::Machine => "Machine",
            Self::Estate => "Estate",
        }
    }

    pub(crate) fn from_type_name(name: &str) -> Option<Self> {
        [
            Self::Database,
            Self::Schema,
            Self::Table,
            Self::Function,
            Self::Identity,
            Self::Machine,
            Self::Estate,
        ]
        .into_iter()
        .find(|kind| kind.type_name() == name)
    }

    /// True for what lies in a database and carries a classification.
    #[must_use]
    pub const fn is_classified(self) -> bool {
        matches!(
            self,
            Self::Database | Self::Schema | Self::Table | Self::Function
        )
    }
}

/// One resource. The path of a table is `database/schema/table`; within a segment `%` and `/` are
/// written `%25` and `%2F`, so that no name can pose as another's path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRef {
    pub kind: ResourceKind,
    pub path: String,
}

impl ResourceRef {
    #[must_use]
    pub fn new(kind: ResourceKind, path: impl Into<String>) -> Self {
        Self {
            kind,
            path: path.into(),
        }
    }

    /// From an already escaped path, `shop/public/cards`.
    #[must_use]
    pub fn table(path: impl Into<String>) -> Self {
        Self::new(ResourceKind::Table, path)
    }

    /// From an already escaped path, `shop/public/area`.
    #[must_use]
    pub fn function(path: impl Into<String>) -> Self {
        Self::new(ResourceKind::Function, path)
    }

    #[must_use]
    pub fn identity(path: impl Into<String>) -> Self {
        Self::new(ResourceKind::Identity, path)
    }

    #[must_use]
    pub fn machine(name: impl Into<String>) -> Self {
        Self::new(ResourceKind::Machine, name)
    }

    #[must_use]
    pub fn estate(trust_domain: impl Into<String>) -> Self {
        Self::new(ResourceKind::Estate, trust_domain)
    }

    /// From the names as the database has them, which may hold any character.
    #[must_use]
    pub fn from_segments(kind: ResourceKind, segments: &[&str]) -> Self {
        let escaped: Vec<_> = segments.iter().map(|segment| escape(segment)).collect();
        Self::new(kind, escaped.join("/"))
    }

    /// The path of what contains it, if it lies in a database.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let kind = match self.kind {
            ResourceKind::Table | ResourceKind::Function => ResourceKind::Schema,
            ResourceKind::Schema => ResourceKind::Database,
            _ => return None,
        };
        let (parent, _) = self.path.rsplit_once('/')?;
        Some(Self::new(kind, parent))
    }

    /// Whether the path has as many non-empty segments as its kind asks for.
    pub(crate) fn is_well_formed(&self) -> bool {
        let segments = match self.kind {
            ResourceKind::Database => 1,
            ResourceKind::Schema => 2,
            ResourceKind::Table | ResourceKind::Function => 3,
            _ => return !self.path.is_empty(),
        };
        self.path.split('/').count() == segments
            && self.path.split('/').all(|part| !part.is_empty())
    }
}

fn escape(segment: &str) -> Cow<'_, str> {
    if segment.contains(['%', '/']) {
        Cow::Owned(segment.replace('%', "%25").replace('/', "%2F"))
    } else {
        Cow::Borrowed(segment)
    }
}

/// As a policy names it: `Table::"shop/public/cards"`.
impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}::\"{}\"",
            self.kind.type_name(),
            self.path.escape_debug()
        )
    }
}

/// The text names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no resource; write a path such as shop/public/cards or Table::\"shop/public/cards\""
)]
pub struct UnknownResource(pub String);

/// Reads `Kind::"path"`, and a bare path of one, two or three segments as database, schema, table.
impl FromStr for ResourceRef {
    type Err = UnknownResource;

    fn from_str(text: &str) -> Result<Self, UnknownResource> {
        let unknown = || UnknownResource(text.to_owned());
        let reference = match text.split_once("::") {
            Some((name, quoted)) => {
                let path = quoted
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'))
                    .ok_or_else(unknown)?;
                Self::new(
                    ResourceKind::from_type_name(name).ok_or_else(unknown)?,
                    path,
                )
            }
            None => {
                let kind = match text.split('/').count() {
                    1 => ResourceKind::Database,
                    2 => ResourceKind::Schema,
                    3 => ResourceKind::Table,
                    _ => return Err(unknown()),
                };
                Self::new(kind, text)
            }
        };
        if reference.is_well_formed() {
            Ok(reference)
        } else {
            Err(unknown())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_in_a_name_is_not_a_separator() {
        let odd = ResourceRef::from_segments(ResourceKind::Table, &["shop", "public", "a/b%2Fc"]);
        assert_eq!(odd.path, "shop/public/a%2Fb%252Fc");
        assert!(odd.is_well_formed());
        assert!(!ResourceRef::table("shop/public").is_well_formed());
    }

    #[test]
    fn reads_what_a_policy_writes() {
        let cards = ResourceRef::table("shop/public/cards");
        assert_eq!("shop/public/cards".parse::<ResourceRef>().unwrap(), cards);
        assert_eq!(cards.to_string().parse::<ResourceRef>().unwrap(), cards);
        assert!(
            "Tabel::\"shop/public/cards\""
                .parse::<ResourceRef>()
                .is_err()
        );
    }
}
