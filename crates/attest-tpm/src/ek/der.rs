//! The frame of a certificate in the one DER spelling that it has (X.690, section 10).
//!
//! The parser above is lenient about tags and lengths outside the signed part; whoever changed those
//! bytes would have another certificate that still verifies, and records name certificates by digest.

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;

/// Whether `bytes` are `SEQUENCE { tbs, algorithm, BIT STRING }` and nothing else, the algorithm being
/// byte for byte the one inside `tbs` (RFC 5280, section 4.1).
pub(super) fn is_framed(bytes: &[u8]) -> bool {
    framed(bytes).is_some_and(|framed| framed)
}

fn framed(bytes: &[u8]) -> Option<bool> {
    let (certificate, after) = take(SEQUENCE, bytes)?;
    let (tbs, rest) = take(SEQUENCE, certificate)?;
    let (_, signature) = take(SEQUENCE, rest)?;
    let algorithm = rest.strip_suffix(signature)?;
    let (bits, after_signature) = take(BIT_STRING, signature)?;
    let (_, serial) = take(VERSION, tbs)?;
    let (_, inside) = take(INTEGER, serial)?;
    Some(
        after.is_empty()
            && after_signature.is_empty()
            && bits.first() == Some(&0)
            && inside.starts_with(algorithm),
    )
}

/// The content of the element of `tag` at the start of `bytes`, and what follows it.
fn take(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = bytes.strip_prefix(&[tag])?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(*first), rest),
        0x81 => {
            let (length, rest) = rest.split_first()?;
            (usize::from(*length), rest)
        }
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    let shortest = match length {
        ..=0x7f => *first <= 0x7f,
        0x80..=0xff => *first == 0x81,
        _ => true,
    };
    if shortest {
        rest.split_at_checked(length)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::take;

    #[test]
    fn lengths_have_one_spelling() {
        assert_eq!(take(2, &[2, 1, 7, 8]), Some((&[7][..], &[8][..])));
        for bytes in [
            &[2, 0x81, 1, 7][..],
            &[2, 0x82, 0, 1, 7],
            &[2, 0x80, 7, 0, 0],
            &[2, 2, 7],
            &[0x82, 1, 7],
            &[2],
            &[],
        ] {
            assert_eq!(take(2, bytes), None, "{bytes:x?}");
        }
    }
}
