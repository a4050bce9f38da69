//! Reads little-endian structures, as firmware and kernel write them, out of hostile bytes. Nothing is
//! allocated; whoever reads says what was wrong.

/// What is left of some bytes, and how far into them it begins.
#[derive(Clone)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub(crate) const fn at(&self) -> usize {
        self.at
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        self.at = self.at.saturating_add(length);
        Some(head)
    }

    /// As [`Bytes::take`], for a length that the bytes themselves gave.
    pub(crate) fn take_u32(&mut self, length: u32) -> Option<&'a [u8]> {
        self.take(usize::try_from(length).ok()?)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.as_array::<N>()
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| *byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(|bytes| u16::from_le_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// UTF-16, little-endian, without the zeros at its end. Absent for an odd length or lone surrogates.
pub(crate) fn utf16(bytes: &[u8]) -> Option<String> {
    let (pairs, odd) = bytes.as_chunks::<2>();
    if !odd.is_empty() {
        return None;
    }
    let units: Vec<u16> = pairs.iter().map(|pair| u16::from_le_bytes(*pair)).collect();
    let text = String::from_utf16(&units).ok()?;
    Some(text.trim_end_matches('\0').to_owned())
}

/// Text out of evidence as a person may see it: at most 200 characters, nothing that moves a cursor.
pub(crate) fn shown(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .map(|one| if one.is_control() { '\u{fffd}' } else { one })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_short_is_absent_and_leaves_the_rest() {
        let mut bytes = Bytes::new(&[1, 2, 0, 3]);
        assert_eq!(bytes.u8(), Some(1));
        assert_eq!(bytes.u32(), None);
        assert_eq!(bytes.take_u32(u32::MAX), None);
        assert_eq!((bytes.at(), bytes.u16()), (1, Some(2)));
        assert_eq!(bytes.rest(), [3]);
        assert!(!bytes.is_empty());
    }

    #[test]
    fn text_of_an_attacker_is_shown_without_its_control_characters() {
        assert_eq!(shown("a\n\u{1b}[2Jb"), "a\u{fffd}\u{fffd}[2Jb");
        assert_eq!(shown(&"x".repeat(500)).chars().count(), 201);
    }

    #[test]
    fn utf16_ends_before_its_zeros() {
        assert_eq!(utf16(b".\0a\0\0\0").unwrap(), ".a");
        assert!(utf16(b".\0a").is_none());
        assert!(utf16(&[0, 0xd8]).is_none());
    }
}
