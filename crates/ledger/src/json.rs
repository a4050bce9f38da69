//! Strict I-JSON (RFC 7493) with exactly one spelling for each value. It checks and finds its way
//! through text; it builds no values: typed bodies are left to serde.
//!
//! Stricter than RFC 8259 in that no whitespace stands between tokens, numbers are integers of at
//! most 2^53-1 in magnitude, object keys differ at every depth, and each character of a string has
//! exactly one encoding (RFC 8785, section 3.2.2.2), so that keys can be compared as raw bytes.

use thiserror::Error;

/// Arrays and objects within one another, the outermost counted.
pub(crate) const MAX_DEPTH: usize = 16;
/// Members of one object.
pub(crate) const MAX_KEYS: usize = 512;

/// Why a text is not strict I-JSON. `at` is a byte offset.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonError {
    #[error("expected {expected} at byte {at}")]
    Unexpected { at: usize, expected: &'static str },
    #[error("the key {key:?} stands twice in one object, the second time at byte {at}")]
    DuplicateKey { at: usize, key: String },
    #[error("more than {MAX_DEPTH} levels of nesting at byte {at}")]
    TooDeep { at: usize },
    #[error("more than {MAX_KEYS} keys in one object at byte {at}")]
    TooManyKeys { at: usize },
    #[error("the number at byte {at} is not an integer of magnitude below 2^53")]
    Number { at: usize },
    #[error(
        "the string at byte {at} has a control character or an escape that is not the shortest"
    )]
    Escape { at: usize },
    #[error("the string at byte {at} has a code point that Unicode reserves as noncharacter")]
    Noncharacter { at: usize },
    #[error("not UTF-8 from byte {at} on")]
    Utf8 { at: usize },
}

/// A position in a text. Every method that succeeds has moved past what it read.
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, JsonError> {
        let text = std::str::from_utf8(bytes).map_err(|error| JsonError::Utf8 {
            at: error.valid_up_to(),
        })?;
        Ok(Self { text, at: 0 })
    }

    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The text from `start` to here.
    pub(crate) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(crate) fn literal(&mut self, expected: &'static str) -> Result<(), JsonError> {
        if self.take(expected) {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    /// Moves past `literal` if it stands here.
    pub(crate) fn take(&mut self, literal: &str) -> bool {
        let here = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let found = here.starts_with(literal.as_bytes());
        if found {
            self.at += literal.len();
        }
        found
    }

    pub(crate) fn end(&self) -> Result<(), JsonError> {
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(self.unexpected("the end"))
        }
    }

    /// A string without escapes, as it stands between its quotes.
    pub(crate) fn plain_string(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        let raw = self.string()?;
        if raw.contains('\\') {
            return Err(JsonError::Escape { at: start });
        }
        Ok(raw)
    }

    /// A string that holds a canonical decimal number of 64 bits.
    pub(crate) fn decimal(&mut self) -> Result<u64, JsonError> {
        let at = self.at;
        crate::scalar::parse_decimal(self.plain_string()?).ok_or(JsonError::Unexpected {
            at,
            expected: "a decimal 64-bit number in quotes",
        })
    }

    /// Any string, returned as it stands between its quotes.
    pub(crate) fn string(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.literal("\"")?;
        let mut ascii = true;
        loop {
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0x20..=0x7f) => self.at += 1,
                Some(0x80..) => {
                    ascii = false;
                    self.at += 1;
                }
                Some(_) => return Err(JsonError::Escape { at: self.at }),
                None => return Err(self.unexpected("a closing quote")),
            }
        }
        let raw = self.since(start + 1);
        self.at += 1;
        if !ascii && raw.chars().any(is_noncharacter) {
            return Err(JsonError::Noncharacter { at: start });
        }
        Ok(raw)
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let at = self.at;
        for short in [r#"\""#, r"\\", r"\b", r"\f", r"\n", r"\r", r"\t"] {
            if self.take(short) {
                return Ok(());
            }
        }
        let code = self.text.as_bytes().get(at..at + 6);
        let Some(&[b'\\', b'u', b'0', b'0', high @ (b'0' | b'1'), low]) = code else {
            return Err(JsonError::Escape { at });
        };
        let shorter = high == b'0' && matches!(low, b'8' | b'9' | b'a' | b'c' | b'd');
        if shorter || !matches!(low, b'0'..=b'9' | b'a'..=b'f') {
            return Err(JsonError::Escape { at });
        }
        self.at += 6;
        Ok(())
    }

    /// Any value, inside `depth` arrays or objects.
    pub(crate) fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(drop),
            Some(b'{') => self.object(depth, |cursor, _key| cursor.value(depth + 1)),
            Some(b'[') => self.array(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// An object; `member` reads the value of each key.
    pub(crate) fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, &'a str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.enter(depth)?;
        self.literal("{")?;
        if self.take("}") {
            return Ok(());
        }
        let mut keys: Vec<&'a str> = Vec::with_capacity(16);
        loop {
            let at = self.at;
            let key = self.string()?;
            if keys.contains(&key) {
                let key = key.to_owned();
                return Err(JsonError::DuplicateKey { at, key });
            }
            if keys.len() == MAX_KEYS {
                return Err(JsonError::TooManyKeys { at });
            }
            keys.push(key);
            self.literal(":")?;
            member(self, key)?;
            if self.take("}") {
                return Ok(());
            }
            self.literal(",")?;
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.enter(depth)?;
        self.literal("[")?;
        if self.take("]") {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.take("]") {
                return Ok(());
            }
            self.literal(",")?;
        }
    }

    const fn enter(&self, depth: usize) -> Result<(), JsonError> {
        if depth < MAX_DEPTH {
            Ok(())
        } else {
            Err(JsonError::TooDeep { at: self.at })
        }
    }

    /// RFC 7493, section 2.2: "an I-JSON sender cannot expect a receiver to treat an integer whose
    /// absolute value is greater than 9007199254740991 as an exact value".
    fn number(&mut self) -> Result<(), JsonError> {
        let at = self.at;
        let negative = self.take("-");
        let digits_from = self.at;
        while matches!(
            self.peek(),
            Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
        ) {
            self.at += 1;
        }
        match crate::scalar::parse_decimal(self.since(digits_from)) {
            Some(0) if negative => Err(JsonError::Number { at }),
            Some(magnitude) if magnitude < 1 << 53 => Ok(()),
            _ => Err(JsonError::Number { at }),
        }
    }

    const fn unexpected(&self, expected: &'static str) -> JsonError {
        JsonError::Unexpected {
            at: self.at,
            expected,
        }
    }
}

/// Unicode 16, section 23.7: U+FDD0..U+FDEF and the last two code points of each plane.
fn is_noncharacter(character: char) -> bool {
    let code = u32::from(character);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

/// Appends `text` as a JSON string. The caller has checked that nothing in it needs an escape.
pub(crate) fn push_plain(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// True if `text` stands in JSON as it is and is fit for an envelope field.
pub(crate) fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| !matches!(byte, 0..=0x1f | b'"' | b'\\' | 0x7f))
        && (text.is_ascii() || !text.chars().any(is_noncharacter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), JsonError> {
        let mut cursor = Cursor::new(text.as_bytes())?;
        cursor.value(0)?;
        cursor.end()
    }

    #[test]
    fn accepts_what_serde_json_writes() {
        for text in [
            r#"{}"#,
            r#"[]"#,
            r#"{"a":[1,-2,"x",true,false,null,{}],"b":{"a":1}}"#,
            r#""a\n\t\"\\\u0000\u001fé\u000b""#,
            "9007199254740991",
            "-9007199254740991",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn refuses_every_second_spelling() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"[{"a":1,"b":1,"a":2}]"#,
            r#"{ }"#,
            r#"{"a": 1}"#,
            "[1 ]",
            "[1,]",
            r#"{"a":1,}"#,
            "1.0",
            "1e3",
            "01",
            "-0",
            "-",
            "9007199254740992",
            "18446744073709551616",
            r#""\u0041""#,
            r#""\u000a""#,
            r#""\u001F""#,
            r#""\/""#,
            r#""\ud800""#,
            "\"\u{1}\"",
            "\"\u{ffff}\"",
            "\"\u{fdd0}\"",
            "\"abc",
            "nul",
            "",
            "{}{}",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn caps_depth_and_keys() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert!(matches!(
            check(&nested(MAX_DEPTH + 1)),
            Err(JsonError::TooDeep { .. })
        ));
        let keys: Vec<String> = (0..=MAX_KEYS).map(|key| format!("\"{key}\":0")).collect();
        assert!(matches!(
            check(&format!("{{{}}}", keys.join(","))),
            Err(JsonError::TooManyKeys { .. })
        ));
    }
}
