//! How a resource is named: its kind and its path. Not whether it is declared.

use crate::word::Word;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

macro_rules! base_kinds {
    ($($variant:ident $type_name:literal $word:literal),* $(,)?) => {
        /// What a resource is: a kind of the base schema, or one that the estate adds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ResourceKind {
            $($variant,)*
            /// One that the estate's own schema declares. Whether it does is for the estate to say.
            Own(Word),
        }

        impl ResourceKind {
            /// Those of the base schema.
            pub const BASE: [Self; [$($word),*].len()] = [$(Self::$variant),*];

            /// The Cedar entity type.
            #[must_use]
            pub fn type_name(&self) -> &str {
                match self {
                    $(Self::$variant => $type_name,)*
                    Self::Own(word) => word.as_str(),
                }
            }

            /// As records write it: in small letters, but for an estate's own, which begins with a capital.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)*
                    Self::Own(word) => word.as_str(),
                }
            }
        }
    };
}

base_kinds! {
    Database "Database" "database",
    Schema "Schema" "schema",
    Table "Table" "table",
    Column "Column" "column",
    Function "Function" "function",
    Identity "Identity" "identity",
    Machine "Machine" "machine",
    Estate "Estate" "estate",
    ToolServer "ToolServer" "tool-server",
    Tool "Tool" "tool",
    Api "Api" "api",
    Route "Route" "route",
}

impl ResourceKind {
    /// A name that no kind of the base schema has is one that an estate may declare.
    #[must_use]
    pub fn from_type_name(name: &str) -> Option<Self> {
        /// Entity types of the base schema that are no resources.
        const OTHERS: [&str; 5] = ["Action", "Admin", "Group", "Pool", "Workload"];
        if OTHERS.contains(&name) {
            return None;
        }
        Self::BASE
            .into_iter()
            .find(|kind| kind.type_name() == name)
            .or_else(|| Word::kind(name).map(Self::Own))
    }

    /// True for what holds data or does something to it, and carries a classification.
    #[must_use]
    pub const fn is_classified(self) -> bool {
        !matches!(self, Self::Identity | Self::Machine | Self::Estate)
    }

    /// True for databases and what lies in them.
    #[must_use]
    pub const fn is_in_database(self) -> bool {
        matches!(
            self,
            Self::Database | Self::Schema | Self::Table | Self::Column | Self::Function
        )
    }

    /// What contains one of these by its path.
    const fn container(self) -> Option<Self> {
        match self {
            Self::Column => Some(Self::Table),
            Self::Table | Self::Function => Some(Self::Schema),
            Self::Schema => Some(Self::Database),
            Self::Tool => Some(Self::ToolServer),
            Self::Route => Some(Self::Api),
            _ => None,
        }
    }
}

impl Serialize for ResourceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ResourceKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::BASE
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .or_else(|| Word::kind(&text).map(Self::Own))
            .ok_or_else(|| {
                serde::de::Error::custom(format!("`{text}` can be no kind of resources"))
            })
    }
}

/// One resource. The path of a table is `database/schema/table`, of a column `database/schema/table/column`, of a tool `server/tool`; within a segment
/// `%`, `/`, `"`, `\` and control characters are written `%25`, `%2F`, `%22`, `%5C` and the like, so that no name can pose
/// as another's path, and none has to be quoted. The path of a route is `api/METHOD/path`, where the path is as the API
/// has it. Of an estate's own kinds it is any text.
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

    /// A column of this table, by the name that the database has for it.
    #[must_use]
    pub fn column(&self, name: &str) -> Self {
        let path = format!("{}/{}", self.path, escape(name));
        Self::new(ResourceKind::Column, path)
    }

    /// The last part of its path as the database has it: a column's own name.
    #[must_use]
    pub fn last_name(&self) -> Cow<'_, str> {
        Self::name_of(self.path.rsplit('/').next().unwrap_or_default())
    }

    /// What a version of before called so, when of a name only `%` and `/` were written otherwise; `None` if that is
    /// this one.
    pub(crate) fn spelled_anew(&self) -> Option<Self> {
        let later = |character: char| matches!(character, '"' | '\\') || character.is_control();
        let tool = matches!(self.kind, ResourceKind::ToolServer | ResourceKind::Tool);
        if !(tool || self.kind.is_in_database()) || !self.path.contains(later) {
            return None;
        }
        let mut path = String::with_capacity(self.path.len() + 8);
        for character in self.path.chars() {
            if later(character) {
                push_escaped(&mut path, character);
            } else {
                path.push(character);
            }
        }
        Some(Self::new(self.kind, path))
    }

    /// What a segment of a path stands for, as the database has it.
    #[must_use]
    pub fn name_of(segment: &str) -> Cow<'_, str> {
        if !segment.contains('%') {
            return Cow::Borrowed(segment);
        }
        let mut parts = segment.split('%');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            let written = part.split_at_checked(2);
            let escaped = written
                .filter(|(digits, _)| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
                .and_then(|(digits, rest)| Some((u8::from_str_radix(digits, 16).ok()?, rest)));
            if let Some((byte, rest)) = escaped {
                bytes.push(byte);
                bytes.extend_from_slice(rest.as_bytes());
            } else {
                bytes.push(b'%');
                bytes.extend_from_slice(part.as_bytes());
            }
        }
        String::from_utf8(bytes).map_or(Cow::Borrowed(segment), Cow::Owned)
    }

    /// What contains it, as far as its path says.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let kind = self.kind.container()?;
        let (parent, _) = match self.kind {
            ResourceKind::Route => self.path.split_once('/')?,
            _ => self.path.rsplit_once('/')?,
        };
        Some(Self::new(kind, parent))
    }

    /// Whether the path has as many non-empty segments as its kind asks for.
    pub(crate) fn is_well_formed(&self) -> bool {
        let segments = match self.kind {
            ResourceKind::Database | ResourceKind::ToolServer | ResourceKind::Api => 1,
            ResourceKind::Schema | ResourceKind::Tool => 2,
            ResourceKind::Table | ResourceKind::Function => 3,
            ResourceKind::Column => 4,
            // `api/METHOD/path`: the path itself is free.
            ResourceKind::Route => {
                let mut parts = self.path.splitn(3, '/');
                let api = parts.next().unwrap_or_default();
                let method = parts.next().unwrap_or_default();
                return !api.is_empty() && is_method(method) && parts.next().is_some();
            }
            _ => return !self.path.is_empty(),
        };
        self.path.split('/').count() == segments
            && self.path.split('/').all(|part| !part.is_empty())
    }
}

/// RFC 9110 section 9.1: a token, by custom of capital letters. An asterisk stands for none in particular.
fn is_method(text: &str) -> bool {
    text == "*"
        || (!text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte == b'-'))
}

fn escape(segment: &str) -> Cow<'_, str> {
    let is_written_otherwise =
        |character: char| matches!(character, '%' | '/' | '"' | '\\') || character.is_control();
    if !segment.contains(is_written_otherwise) {
        return Cow::Borrowed(segment);
    }
    let mut escaped = String::with_capacity(segment.len() + 8);
    for character in segment.chars() {
        if is_written_otherwise(character) {
            push_escaped(&mut escaped, character);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

fn push_escaped(path: &mut String, character: char) {
    let mut buffer = [0; 4];
    for byte in character.encode_utf8(&mut buffer).bytes() {
        path.push('%');
        path.push_str(&crypto::hex::encode(&[byte]).to_ascii_uppercase());
    }
}

/// As a policy names it: `Table::"shop/public/cards"`. Of what a path may hold only what ends or begins something in
/// quotes is written otherwise, and read so again.
impl fmt::Display for ResourceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Cow<'_, str> = if self.path.contains(['"', '\\']) {
            Cow::Owned(self.path.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            Cow::Borrowed(&self.path)
        };
        write!(f, "{}::\"{path}\"", self.kind.type_name())
    }
}

/// What [`ResourceRef`] has written in quotes; an apostrophe that a record of before has behind a backslash, too.
fn unquoted(quoted: &str) -> Option<String> {
    let mut path = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => path.push(
                characters
                    .next()
                    .filter(|next| matches!(next, '"' | '\\' | '\''))?,
            ),
            '"' => return None,
            character => path.push(character),
        }
    }
    Some(path)
}

/// The text names no resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` names no resource; write a path such as shop/public/cards or Table::\"shop/public/cards\""
)]
pub struct UnknownResource(pub String);

/// Reads `Kind::"path"`, and a bare path of one to four segments as database, schema, table, column.
impl FromStr for ResourceRef {
    type Err = UnknownResource;

    fn from_str(text: &str) -> Result<Self, UnknownResource> {
        let unknown = || UnknownResource(text.to_owned());
        let reference = match text.split_once("::") {
            Some((name, quoted)) => {
                let path = quoted
                    .strip_prefix('"')
                    .and_then(|rest| rest.strip_suffix('"'))
                    .and_then(unquoted)
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
                    4 => ResourceKind::Column,
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
    fn every_name_comes_back_as_it_was() {
        let parts = [
            "o'brien",
            "a\"b",
            "c\\",
            "d/e%2F",
            "\u{7}\n\u{85}",
            "\u{301}é",
            "%",
            "%2",
            "%zz",
            "'",
        ];
        for one in parts {
            for other in parts {
                let name = format!("{one}{other}");
                let table =
                    ResourceRef::from_segments(ResourceKind::Table, &["shop", "public", &name]);
                let column = table.column(&name);
                assert!(
                    table.is_well_formed() && column.is_well_formed(),
                    "{name:?}"
                );
                assert_eq!(
                    (table.last_name(), column.last_name()),
                    (name.as_str().into(), name.as_str().into())
                );
                for reference in [&table, &column] {
                    // Whoever looks for a path in a record finds it between quotes.
                    let written = reference.to_string();
                    assert!(
                        written.contains(&format!("\"{}\"", reference.path)),
                        "{written}"
                    );
                    assert_eq!(written.parse::<ResourceRef>().as_ref(), Ok(reference));
                }
            }
            // An estate's own kinds have any text.
            let own: ResourceRef =
                ResourceRef::new("Bucket::\"x\"".parse::<ResourceRef>().unwrap().kind, one);
            assert_eq!(own.to_string().parse::<ResourceRef>(), Ok(own));
        }
        let before: ResourceRef = "Table::\"shop/public/o\\'brien\"".parse().unwrap();
        assert_eq!(before.path, "shop/public/o'brien");
        for text in [
            "Table::\"a/b/c\\\"",
            "Table::\"a/b/\"c\"",
            "Table::\"a/b/\\c\"",
        ] {
            assert!(text.parse::<ResourceRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn reads_what_a_policy_writes() {
        let cards = ResourceRef::table("shop/public/cards");
        assert_eq!("shop/public/cards".parse::<ResourceRef>().unwrap(), cards);
        assert_eq!(cards.to_string().parse::<ResourceRef>().unwrap(), cards);
        // A name that the base schema lacks may be an estate's own; what cannot be one is refused.
        let own: ResourceRef = "Bucket::\"a/b\"".parse().unwrap();
        assert_eq!(own.kind.type_name(), "Bucket");
        assert_eq!(own.parent(), None);
        for text in [
            "table::\"a\"",
            "Bucket::a",
            "Bücher::\"a\"",
            "Route::\"api/get/x\"",
        ] {
            assert!(text.parse::<ResourceRef>().is_err(), "{text}");
        }
        let number: ResourceRef = "shop/public/cards/number".parse().unwrap();
        assert_eq!(number, cards.column("number"));
        assert_eq!(number.parent(), Some(cards.clone()));
        let odd = cards.column("50%/2F");
        assert_eq!(odd.path, "shop/public/cards/50%25%2F2F");
        assert_eq!(odd.last_name(), "50%/2F");
        assert_eq!(odd.to_string().parse::<ResourceRef>().unwrap(), odd);
        assert!("a/b/c/d/e".parse::<ResourceRef>().is_err());
        let route: ResourceRef = "Route::\"api/GET/v1/x\"".parse().unwrap();
        assert_eq!(
            route.parent(),
            Some(ResourceRef::new(ResourceKind::Api, "api"))
        );
    }
}
