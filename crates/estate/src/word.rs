//! A short name that an estate gives to what it adds to the schema: copied, never allocated.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

const MOST: usize = 62;

/// At most 62 bytes of ASCII. Made only by the types that say what such a name looks like:
/// [`ResourceKind`](crate::ResourceKind) and [`Action`](crate::Action).
///
/// INVARIANT: the first `length` bytes are ASCII, the others zero.
#[derive(Clone, Copy)]
pub struct Word {
    length: u8,
    bytes: [u8; MOST],
}

impl Word {
    /// A kind of resources: a capital letter, then letters, digits and `_`. Each is an identifier of Cedar.
    pub(crate) fn kind(text: &str) -> Option<Self> {
        let capital = text.starts_with(|first: char| first.is_ascii_uppercase());
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (capital && text.bytes().all(fits))
            .then(|| Self::of(text))
            .flatten()
    }

    /// An action: a small letter, then letters, digits, `-`, `_`, `.` and `:`.
    pub(crate) fn action(text: &str) -> Option<Self> {
        let small = text.starts_with(|first: char| first.is_ascii_lowercase());
        let fits =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
        (small && text.bytes().all(fits))
            .then(|| Self::of(text))
            .flatten()
    }

    fn of(text: &str) -> Option<Self> {
        let mut bytes = [0; MOST];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self {
            length: u8::try_from(text.len()).ok()?,
            bytes,
        })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        self.bytes
            .get(..usize::from(self.length))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Word {}

impl PartialOrd for Word {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Word {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Word {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        for (text, kind, action) in [
            ("Bucket", true, false),
            ("read-all", false, true),
            ("s3:Get_Object", false, true),
            ("", false, false),
            ("Büro", false, false),
            ("Bu\0ro", false, false),
            ("A::B", false, false),
            ("9Lives", false, false),
        ] {
            assert_eq!(Word::kind(text).is_some(), kind, "{text:?}");
            assert_eq!(Word::action(text).is_some(), action, "{text:?}");
        }
        let longest = format!("A{}", "a".repeat(MOST - 1));
        assert_eq!(Word::kind(&longest).unwrap().as_str(), longest);
        assert!(Word::kind(&format!("{longest}a")).is_none());
    }

    #[test]
    fn words_are_in_the_order_of_their_texts() {
        let [short, long] = ["Ab", "Abc"].map(|text| Word::kind(text).unwrap());
        assert!(short < long);
        assert_ne!(short, long);
    }
}
