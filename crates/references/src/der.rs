//! DER, as far as a PE's signature needs it: one element at a time, definite lengths only.

pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const CONTEXT_0: u8 = 0xa0;

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With its tag and length.
    pub(crate) whole: &'a [u8],
}

/// The first element of `bytes`, and what follows it.
pub(crate) fn next(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    // High tag numbers occur in nothing that is read here.
    if tag & 0x1f == 0x1f {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        ..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let value = length.iter().try_fold(0_usize, |value, byte| {
                value.checked_mul(256)?.checked_add(usize::from(*byte))
            })?;
            (value, rest)
        }
        _ => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    let whole = bytes.get(..bytes.len().checked_sub(after.len())?)?;
    let element = Element {
        tag: *tag,
        content,
        whole,
    };
    Some((element, after))
}

/// The first element, if it has `tag`.
pub(crate) fn take(tag: u8, bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    next(bytes).filter(|(element, _)| element.tag == tag)
}

/// All elements of `bytes`, at most `limit`; nothing if they do not fill it.
pub(crate) fn list(bytes: &[u8], limit: usize) -> Option<Vec<Element<'_>>> {
    let mut rest = bytes;
    let mut elements = Vec::new();
    while !rest.is_empty() {
        if elements.len() == limit {
            return None;
        }
        let (element, after) = next(rest)?;
        elements.push(element);
        rest = after;
    }
    Some(elements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_definite_and_inside() {
        assert!(next(&[0x30, 0x02, 1]).is_none());
        assert!(next(&[0x30, 0x80, 0, 0]).is_none());
        assert!(next(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).is_none());
        let (element, rest) = next(&[0x04, 0x81, 0x01, 7, 9]).unwrap();
        assert_eq!((element.content, rest), (&[7][..], &[9][..]));
        assert_eq!(element.whole, &[0x04, 0x81, 0x01, 7]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            list(&bytes, 8);
        }
    }
}
