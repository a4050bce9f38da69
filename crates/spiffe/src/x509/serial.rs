//! The serial number of an SVID: 16 bytes, written in lower-case hex; for a JWT its `jti`.

use std::fmt;
use std::str::FromStr;

/// INVARIANT: the first byte is in 0x40..=0x7f, so that the number is positive and its DER always
/// 16 bytes long (RFC 5280, section 4.1.2.2: "The serial number MUST be a positive integer", at most
/// 20 octets).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; 16]);

impl Serial {
    /// 126 of the bits of `random`.
    #[must_use]
    pub fn from_random(mut random: [u8; 16]) -> Self {
        let [first, ..] = &mut random;
        *first = *first & 0x3f | 0x40;
        Self(random)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crypto::hex::encode(&self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text is not 32 digits of lower-case hex with the first byte in 0x40..=0x7f.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not the serial of an SVID of this authority")]
pub struct SerialError;

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let bytes = crypto::hex::decode(text).map_err(|_| SerialError)?;
        let bytes: [u8; 16] = bytes.try_into().map_err(|_| SerialError)?;
        let serial = Self(bytes);
        if Self::from_random(bytes) == serial && serial.to_string() == text {
            Ok(serial)
        } else {
            Err(SerialError)
        }
    }
}

impl serde::Serialize for Serial {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Serial {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}
