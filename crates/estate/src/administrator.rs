//! Who administers: a local user by its number, or a person who logs in.

use std::fmt;

/// `uid:0`, or `person:people/ada`: as Cedar, the tests of an estate and the ledger name an administrator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Administrator {
    /// A user of the server's machine, as its kernel says.
    Uid(u32),
    /// By the path of its identity.
    Person(String),
}

impl Administrator {
    /// Reads what [`fmt::Display`] writes, and no other spelling of it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("person:") {
            return (!path.is_empty()).then(|| Self::Person(path.to_owned()));
        }
        let uid = text.strip_prefix("uid:")?.parse().ok().map(Self::Uid)?;
        (uid.to_string() == text).then_some(uid)
    }

    /// As policies read it. INVARIANT: a person's is no user's of any machine, so that no condition on a number
    /// lets in somebody who comes from afar.
    pub(crate) fn number(&self) -> i64 {
        match self {
            Self::Uid(uid) => i64::from(*uid),
            Self::Person(_) => -1,
        }
    }
}

impl fmt::Display for Administrator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Person(path) => write!(f, "person:{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_spelling() {
        for text in ["uid:0", "uid:4294967295", "person:people/ada"] {
            assert_eq!(Administrator::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "0",
            "uid:",
            "uid:00",
            "uid:+1",
            "uid:-1",
            "uid:4294967296",
            "person:",
            "Person:a",
        ] {
            assert_eq!(Administrator::parse(text), None, "{text}");
        }
    }
}
