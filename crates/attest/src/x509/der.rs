//! The frame of a certificate or revocation list in the one DER spelling that it has (X.690,
//! section 10), and the elements inside vendors' extensions.
//!
//! The parser above is lenient about tags and lengths outside the signed part; whoever changed those
//! bytes would have another certificate that still verifies, and records name certificates by digest.

/// The tag of a SEQUENCE.
pub const SEQUENCE: u8 = 0x30;
/// The tag of an INTEGER.
pub const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;

/// Whether `bytes` are `SEQUENCE { tbs, algorithm, BIT STRING }` and nothing else, the algorithm being
/// byte for byte the one inside `tbs` (RFC 5280, section 4.1).
pub(super) fn is_certificate(bytes: &[u8]) -> bool {
    frame(bytes).is_some_and(|(tbs, algorithm)| {
        let inside = take(VERSION, tbs).and_then(|(_, serial)| take(INTEGER, serial));
        inside.is_some_and(|(_, inside)| inside.starts_with(algorithm))
    })
}

/// The same for `CertificateList` (RFC 5280, section 5.1) of version 2.
pub(super) fn is_revocation_list(bytes: &[u8]) -> bool {
    frame(bytes).is_some_and(|(tbs, algorithm)| {
        take(INTEGER, tbs)
            .is_some_and(|(version, inside)| version == [1] && inside.starts_with(algorithm))
    })
}

/// What is signed, without its own tag and length, and the signature's `AlgorithmIdentifier`.
fn frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (certificate, after) = take(SEQUENCE, bytes)?;
    let (tbs, rest) = take(SEQUENCE, certificate)?;
    let (_, signature) = take(SEQUENCE, rest)?;
    let algorithm = rest.strip_suffix(signature)?;
    let (bits, after_signature) = take(BIT_STRING, signature)?;
    (after.is_empty() && after_signature.is_empty() && bits.first() == Some(&0))
        .then_some((tbs, algorithm))
}

/// The content of the element of `tag` at the start of `bytes`, and what follows it; its length is
/// spelled as DER spells it, below 64 KiB or, for revocation lists, 16 MiB.
#[must_use]
pub fn take(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
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
        0x83 => {
            let ([high, middle, low], rest) = rest.split_first_chunk::<3>()?;
            let length = u32::from_be_bytes([0, *high, *middle, *low]);
            (usize::try_from(length).ok()?, rest)
        }
        _ => return None,
    };
    let shortest = match length {
        ..=0x7f => *first <= 0x7f,
        0x80..=0xff => *first == 0x81,
        0x100..=0xffff => *first == 0x82,
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
            &[2, 0x83, 0, 0, 1, 7],
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
