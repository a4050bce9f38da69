//! The JSON that bundles, envelopes and trusted roots are written in: protobuf's mapping, where bytes are
//! base64 and 64-bit numbers are texts or numbers. Unknown fields are ignored: newer writers add some, and
//! nothing is believed that is not checked.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected, Visitor};
use std::fmt;

/// Bytes in standard base64 with padding; no other spelling.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Base64(pub(crate) Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Base64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64 with padding")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Base64, E> {
                crypto::base64::decode(text)
                    .map(Base64)
                    .map_err(|_| E::custom("not base64 with padding"))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// 32 bytes in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hash(pub(crate) [u8; 32]);

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Base64::deserialize(deserializer)?.0;
        bytes
            .as_slice()
            .try_into()
            .map(Self)
            .map_err(|_| D::Error::invalid_length(bytes.len(), &"32 bytes"))
    }
}

/// A number that is not negative, as a text or as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Number(pub(crate) u64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number that is not negative")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                u64::try_from(number)
                    .map(Number)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                let plain = text.bytes().all(|byte| byte.is_ascii_digit());
                plain
                    .then(|| text.parse().ok())
                    .flatten()
                    .map(Number)
                    .ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_either_way() {
        for text in ["7", "\"7\""] {
            assert_eq!(serde_json::from_str::<Number>(text).unwrap(), Number(7));
        }
        for text in [
            "-7",
            "\"-7\"",
            "\"+7\"",
            "\"\"",
            "7.0",
            "\"18446744073709551616\"",
            "null",
        ] {
            assert!(serde_json::from_str::<Number>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn bytes_have_one_spelling() {
        assert_eq!(serde_json::from_str::<Base64>("\"Zm8=\"").unwrap().0, b"fo");
        for text in ["\"Zm8\"", "\"Zm9=\"", "\"Zm8_\"", "7"] {
            assert!(serde_json::from_str::<Base64>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Hash>("\"Zm8=\"").is_err());
    }
}
