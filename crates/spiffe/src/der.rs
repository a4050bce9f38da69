//! A writer for the DER that this crate builds, and a reader for the outer layers that it takes
//! apart (X.690, sections 8 and 10). It knows tags and lengths, no types.

pub(crate) const BOOLEAN_TRUE: &[u8] = &[0x01, 0x01, 0xff];
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// A constructed, context-specific tag: `[number]`.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Bytes being written, front to back.
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    /// Bytes that are DER already.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn element(&mut self, tag: u8, content: &[u8]) {
        self.0.push(tag);
        push_length(&mut self.0, content.len());
        self.0.extend_from_slice(content);
    }

    /// An element whose content `write` writes. The length is put in afterwards: for contents of
    /// 128 bytes and more that moves them by one to three bytes.
    pub(crate) fn nested(&mut self, tag: u8, write: impl FnOnce(&mut Self)) {
        self.0.push(tag);
        let start = self.0.len();
        write(self);
        let length = self.0.len() - start;
        let mut header = Vec::with_capacity(4);
        push_length(&mut header, length);
        self.0.splice(start..start, header);
    }

    /// A BIT STRING without unused bits.
    pub(crate) fn bit_string(&mut self, bits: &[u8]) {
        self.0.push(BIT_STRING);
        push_length(&mut self.0, bits.len() + 1);
        self.0.push(0);
        self.0.extend_from_slice(bits);
    }
}

/// Bytes that the header of an element of `length` takes.
pub(crate) const fn header_len(length: usize) -> usize {
    match length {
        0..0x80 => 2,
        0x80..0x100 => 3,
        0x100..0x1_0000 => 4,
        _ => 5,
    }
}

/// X.690, section 10.1: "The definite form of length encoding shall be used, encoded in the minimum
/// number of octets."
fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let [.., c, b, a] = length.to_be_bytes();
    match length {
        0..0x80 => bytes.push(a),
        0x80..0x100 => bytes.extend([0x81, a]),
        0x100..0x1_0000 => bytes.extend([0x82, b, a]),
        _ => bytes.extend([0x83, c, b, a]),
    }
}

/// The element at the start of `bytes`: its tag, its content, and what follows it.
/// `None` if there is none, it is longer than 16 MiB, or its length is not DER.
pub(crate) fn split(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, length, rest) = match bytes {
        [tag, short @ 0..=0x7f, rest @ ..] => (*tag, usize::from(*short), rest),
        [tag, 0x81, a, rest @ ..] => (*tag, number([0, 0, 0, *a]), rest),
        [tag, 0x82, b, a, rest @ ..] => (*tag, number([0, 0, *b, *a]), rest),
        [tag, 0x83, c, b, a, rest @ ..] => (*tag, number([0, *c, *b, *a]), rest),
        _ => return None,
    };
    if header_len(length) != bytes.len() - rest.len() {
        return None;
    }
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// As [`split`], for a tag that must stand there: content and rest.
pub(crate) fn take(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    split(bytes)
        .filter(|(found, ..)| *found == tag)
        .map(|(_, content, rest)| (content, rest))
}

fn number(bytes: [u8; 4]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_are_minimal() {
        for (length, header) in [
            (0, vec![0x04, 0x00]),
            (0x7f, vec![0x04, 0x7f]),
            (0x80, vec![0x04, 0x81, 0x80]),
            (0x1ff, vec![0x04, 0x82, 0x01, 0xff]),
            (0x1_0000, vec![0x04, 0x83, 0x01, 0x00, 0x00]),
        ] {
            let mut writer = Writer::with_capacity(0);
            writer.element(OCTET_STRING, &vec![7; length]);
            let bytes = writer.finish();
            assert!(bytes.starts_with(&header), "{length}");
            assert_eq!(bytes.len(), header_len(length) + length);
            let mut nested = Writer::with_capacity(0);
            nested.nested(OCTET_STRING, |writer| writer.raw(&vec![7; length]));
            assert_eq!(nested.finish(), bytes);
            assert_eq!(split(&bytes).unwrap().1.len(), length);
        }
    }

    #[test]
    fn longer_lengths_than_needed_are_refused() {
        for bytes in [
            &[0x04, 0x81, 0x01, 0x00][..],
            &[0x04, 0x82, 0x00, 0x80],
            &[0x04, 0x80, 0x00, 0x00],
            &[0x04, 0x02, 0x00],
            &[0x04],
        ] {
            assert_eq!(split(bytes), None, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_splits_is_written_alike(bytes: Vec<u8>) {
            if let Some((tag, content, rest)) = split(&bytes) {
                let mut writer = Writer::with_capacity(0);
                writer.element(tag, content);
                writer.raw(rest);
                prop_assert_eq!(writer.finish(), bytes);
            }
        }
    }
}
