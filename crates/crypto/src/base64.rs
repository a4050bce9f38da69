//! Base 64 of RFC 4648: the standard alphabet with padding (section 4) and the URL-safe one without
//! (section 5). Each reads only what it writes.

use crate::Error;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Standard alphabet, padded.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Standard alphabet, padded; no other spelling of the same bytes.
///
/// # Errors
/// [`Error::Base64`].
pub fn decode(text: &str) -> Result<Vec<u8>, Error> {
    STANDARD.decode(text).map_err(|_| Error::Base64)
}

/// URL-safe alphabet, no padding.
#[must_use]
pub fn encode_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// URL-safe alphabet, no padding; no other spelling of the same bytes.
///
/// # Errors
/// [`Error::Base64`].
pub fn decode_url(text: &str) -> Result<Vec<u8>, Error> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Error::Base64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_rfc_4648() {
        // RFC 4648, section 10.
        assert_eq!(encode(b"fooba"), "Zm9vYmE=");
        assert_eq!(encode_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn bytes_have_one_spelling() {
        for text in ["Zm9vYmE", "Zm9vYmF=", "Zm9v\n", "-_8="] {
            assert!(decode(text).is_err(), "{text:?}");
        }
        for text in ["-_8=", "-_9", "+/8"] {
            assert!(decode_url(text).is_err(), "{text:?}");
        }
    }
}
