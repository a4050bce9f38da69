//! DER (X.690, sections 8 and 10): a reader that takes one spelling only, and a writer. It knows tags and
//! lengths, no types.

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const NULL: u8 = 0x05;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;

/// A constructed, context-specific tag: `[number]`.
pub(crate) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Elements that stand one after another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// One element: its tag, what is in it, and all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// A reader of the only element of `bytes`, which has `tag`.
    pub(crate) fn only(tag: u8, bytes: &'a [u8]) -> Option<Self> {
        let mut outer = Self(bytes);
        let inner = outer.enter(tag)?;
        outer.end()?;
        Some(inner)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// The next element, whatever it is.
    pub(crate) fn next(&mut self) -> Option<Element<'a>> {
        let (tag, length, content) = header(self.0)?;
        let (content, rest) = content.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - rest.len())?;
        self.0 = rest;
        Some(Element {
            tag,
            content,
            whole,
        })
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next element, which has `tag`.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.peek()? != tag {
            return None;
        }
        self.next().map(|element| element.content)
    }

    /// As [`Reader::take`]; `None` in `Some` if the next element has another tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        if self.peek() == Some(tag) {
            self.take(tag).map(Some)
        } else {
            Some(None)
        }
    }

    pub(crate) fn enter(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// The next element with `tag`, header and all.
    pub(crate) fn whole(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.peek()? != tag {
            return None;
        }
        self.next().map(|element| element.whole)
    }

    /// `AlgorithmIdentifier`: the OID, and whether its parameters are absent or NULL.
    pub(crate) fn algorithm(&mut self) -> Option<&'a [u8]> {
        let mut algorithm = self.enter(SEQUENCE)?;
        let oid = algorithm.take(OID)?;
        if !algorithm.is_empty() {
            algorithm.take(NULL).filter(|content| content.is_empty())?;
            algorithm.end()?;
        }
        Some(oid)
    }
}

/// Tag, length and what follows the header. Lengths are definite, minimal (X.690, section 10.1) and
/// below 16 MiB; tags have one byte.
fn header(bytes: &[u8]) -> Option<(u8, usize, &[u8])> {
    let (tag, length, rest) = match bytes {
        [tag, short @ 0..=0x7f, rest @ ..] => (*tag, u32::from(*short), rest),
        [tag, 0x81, a @ 0x80..=0xff, rest @ ..] => (*tag, u32::from(*a), rest),
        [tag, 0x82, b @ 1..=0xff, a, rest @ ..] => (*tag, u32::from_be_bytes([0, 0, *b, *a]), rest),
        [tag, 0x83, c @ 1..=0xff, b, a, rest @ ..] => {
            (*tag, u32::from_be_bytes([0, *c, *b, *a]), rest)
        }
        _ => return None,
    };
    let long_tag = tag & 0x1f == 0x1f;
    let length = usize::try_from(length).ok()?;
    (!long_tag).then_some((tag, length, rest))
}

/// An element of `tag` around `parts`, one after another.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = Vec::with_capacity(length + 6);
    bytes.push(tag);
    push_length(&mut bytes, length);
    for part in parts {
        bytes.extend_from_slice(part);
    }
    bytes
}

fn push_length(bytes: &mut Vec<u8>, length: usize) {
    let [.., d, c, b, a] = length.to_be_bytes();
    match length {
        0..0x80 => bytes.push(a),
        0x80..0x100 => bytes.extend([0x81, a]),
        0x100..0x1_0000 => bytes.extend([0x82, b, a]),
        0x1_0000..0x100_0000 => bytes.extend([0x83, c, b, a]),
        _ => bytes.extend([0x84, d, c, b, a]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_length_has_one_spelling() {
        for bytes in [
            &[4, 0x81, 1, 0][..],
            &[4, 0x82, 0, 0x80],
            &[4, 0x83, 0, 1, 0],
            &[4, 0x80, 0, 0],
            &[4, 2, 0],
            &[0x1f, 1, 0],
            &[4],
            &[],
        ] {
            assert_eq!(Reader::new(bytes).next(), None, "{bytes:x?}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let content = vec![7; length];
            let bytes = element(OCTET_STRING, &[&content]);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.take(OCTET_STRING), Some(&content[..]), "{length}");
            assert!(reader.is_empty());
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_alike(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Some(found) = reader.next() {
                prop_assert_eq!(element(found.tag, &[found.content]), found.whole);
            }
        }
    }
}
