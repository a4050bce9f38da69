//! Base 16. Writes lower case, reads either.

use crate::Error;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// `bytes` as lower-case hexadecimal.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 0x0f])
        .map(|nibble| char::from(digit(nibble)))
        .collect()
}

/// The bytes that `text` stands for.
///
/// # Errors
/// [`Error::Hex`] for an odd length or anything but hexadecimal digits.
pub fn decode(text: &str) -> Result<Vec<u8>, Error> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::Hex);
    }
    pairs
        .iter()
        .map(|[high, low]| Some(value(*high)? << 4 | value(*low)?))
        .collect::<Option<_>>()
        .ok_or(Error::Hex)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_what_is_not_hexadecimal() {
        for text in ["0", "0g", "é", " 00", "0x00"] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn decode_undoes_encode(bytes: Vec<u8>) {
            let text = encode(&bytes);
            prop_assert_eq!(decode(&text.to_uppercase()).unwrap(), bytes.clone());
            prop_assert_eq!(decode(&text).unwrap(), bytes);
        }
    }
}
