//! The scalars of record bodies: 64-bit numbers, digests and bytes as strings with one spelling.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;

/// A decimal number without sign or leading zeros.
pub(crate) fn parse_decimal(text: &str) -> Option<u64> {
    let canonical = text == "0"
        || (!text.starts_with('0') && !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
    if canonical { text.parse().ok() } else { None }
}

/// Appends `number` in decimal, without allocating.
pub(crate) fn push_decimal(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0_u8; 20];
    let mut rest = number;
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        // A remainder of ten fits any integer type.
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

/// A 64-bit number; in JSON a decimal string, because I-JSON numbers stop at 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Decimal(pub u64);

impl From<u64> for Decimal {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        parse_decimal(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("not a decimal 64-bit number"))
    }
}

/// SHA-256; in JSON standard base64 (RFC 4648, section 4) with padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// SHA-256; in JSON lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HexDigest(pub [u8; 32]);

/// Bytes of any length; in JSON standard base64 with padding.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Base64(pub Vec<u8>);

impl Digest {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(crypto::sha256(bytes))
    }
}

impl HexDigest {
    /// SHA-256 of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(crypto::sha256(bytes))
    }
}

/// The one standard-base64 spelling of some bytes; anything else is `None`.
pub(crate) fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let bytes = crypto::base64::decode(text).ok()?;
    (crypto::base64::encode(&bytes) == text).then_some(bytes)
}

/// As [`decode_base64`], for a hash.
pub(crate) fn decode_hash(text: &str) -> Option<[u8; 32]> {
    decode_base64(text)?.try_into().ok()
}

fn decode_hex(text: &str) -> Option<[u8; 32]> {
    let bytes = crypto::hex::decode(text).ok()?;
    if crypto::hex::encode(&bytes) != text {
        return None;
    }
    bytes.try_into().ok()
}

macro_rules! as_text {
    ($name:ident, $inner:ty, $encode:expr, $decode:expr, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl From<$inner> for $name {
            fn from(bytes: $inner) -> Self {
                Self(bytes)
            }
        }

        impl std::str::FromStr for $name {
            type Err = &'static str;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $decode(text).map(Self).ok_or(concat!("not ", $what))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$encode(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(deserializer)?
                    .parse()
                    .map_err(D::Error::custom)
            }
        }
    };
}

as_text!(
    Digest,
    [u8; 32],
    crypto::base64::encode,
    decode_hash,
    "a SHA-256 in standard base64"
);
as_text!(
    HexDigest,
    [u8; 32],
    crypto::hex::encode,
    decode_hex,
    "a SHA-256 in lower-case hex"
);
as_text!(
    Base64,
    Vec<u8>,
    crypto::base64::encode,
    decode_base64,
    "standard base64"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_have_one_spelling() {
        for (text, number) in [("0", 0), ("17", 17), ("18446744073709551615", u64::MAX)] {
            assert_eq!(parse_decimal(text), Some(number));
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, text.as_bytes());
        }
        for text in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1.",
            "18446744073709551616",
        ] {
            assert_eq!(parse_decimal(text), None, "{text}");
        }
    }

    #[test]
    fn base64_has_one_spelling() {
        assert_eq!(decode_base64("AA=="), Some(vec![0]));
        for text in ["AA", "AB==", "AA==\n", "_w=="] {
            assert_eq!(decode_base64(text), None, "{text}");
        }
    }
}
