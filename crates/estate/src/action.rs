//! The actions that policies speak of: those of `base.cedarschema`, and those that an estate adds.

use crate::resource::ResourceKind;
use crate::word::Word;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// One variant and one text for each action of the base schema.
macro_rules! base_actions {
    ($($variant:ident $text:literal),* $(,)?) => {
        /// One action. Text form is lower kebab case, the same in Cedar, CLI and records.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action {
            $($variant,)*
            /// One that the estate's own schema declares. Whether it does is for the estate to say.
            Own(Word),
        }

        enum Number { $($variant,)* }

        impl Action {
            /// Those of the base schema.
            pub const BASE: [Self; [$($text),*].len()] = [$(Self::$variant),*];

            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Own(word) => word.as_str(),
                }
            }

            /// Its place in [`Action::BASE`].
            pub(crate) const fn number(self) -> Option<usize> {
                match self {
                    $(Self::$variant => Some(Number::$variant as usize),)*
                    Self::Own(_) => None,
                }
            }
        }
    };
}

base_actions! {
    Assume "assume",
    Select "select",
    Insert "insert",
    Update "update",
    Delete "delete",
    Truncate "truncate",
    Define "define",
    Execute "execute",
    Call "call",
    Plan "plan",
    Apply "apply",
    Revoke "revoke",
    Restore "restore",
    TokenCreate "token-create",
    Readmit "readmit",
    Export "export",
    Query "query",
    Pack "pack",
    LedgerErase "ledger-erase",
}

impl Action {
    /// The actions of the base schema by which an identity uses a resource. [`crate::Estate::uses`] has
    /// the estate's own as well.
    pub const USES: [Self; 8] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Truncate,
        Self::Define,
        Self::Execute,
        Self::Call,
    ];

    /// What an action of the base schema can be done to; of an estate's own, its schema says.
    pub(crate) const fn base_kinds(self) -> &'static [ResourceKind] {
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
            Self::Call => &[ResourceKind::Tool, ResourceKind::Route],
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
            | Self::Pack
            | Self::LedgerErase => &[ResourceKind::Estate],
            Self::Own(_) => &[],
        }
    }

    /// True for what PostgreSQL can do to some columns of a table and not to others.
    #[must_use]
    pub const fn is_by_column(self) -> bool {
        matches!(self, Self::Select | Self::Insert | Self::Update)
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
                | Self::LedgerErase
        )
    }

    /// True for what an identity does to a resource.
    #[must_use]
    pub const fn is_use(self) -> bool {
        !self.is_administrative() && !matches!(self, Self::Assume)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text can name no action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` can be no action: a small letter, then letters, digits, `-`, `_`, `.` or `:`")]
pub struct UnknownAction(pub String);

/// A text that no action of the base schema has is one that an estate may declare.
impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        Self::BASE
            .into_iter()
            .find(|action| action.as_str() == text)
            .or_else(|| Word::action(text).map(Self::Own))
            .ok_or_else(|| UnknownAction(text.to_owned()))
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "One action: of the base schema, or of the estate's own in `schema/`.",
            "type": "string",
            "examples": Self::BASE.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_read_as_it_is_written() {
        for (number, action) in Action::BASE.into_iter().enumerate() {
            assert_eq!(action.number(), Some(number));
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        let own: Action = "get-object".parse().unwrap();
        assert_eq!(own.to_string(), "get-object");
        assert!(own.is_use() && own.number().is_none());
        assert!("Get".parse::<Action>().is_err());
        let json = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), own);
    }
}
