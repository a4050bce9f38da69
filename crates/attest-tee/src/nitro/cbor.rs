//! Reads the little CBOR (RFC 8949) that attestation documents use. Lengths and numbers are spelled
//! as short as they can be (section 4.2.1), strings are of one piece; maps and arrays may be open-ended,
//! as AWS writes them.

/// Nesting of what is skipped.
const DEEPEST: usize = 8;
/// The byte that ends an open-ended map or array.
const BREAK: u8 = 0xff;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;
/// `null`, of the major type of simple values.
const NULL: u8 = 0xf6;

/// What is left to read.
#[derive(Clone)]
pub(super) struct Reader<'a>(&'a [u8]);

/// How many items, or pairs of them, are left in a map or array; open-ended ones have no number.
pub(super) struct Items(Option<u64>);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Steps over `byte` if it comes next.
    pub(super) fn skip_byte(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// The value of the next head if it is of this major type; `None` in it is open-ended.
    fn head(&mut self, major: u8) -> Option<Option<u64>> {
        let (first, rest) = self.0.split_first()?;
        if first >> 5 != major {
            return None;
        }
        let (value, rest) = match first & 0x1f {
            small @ 0..=23 => (u64::from(small), rest),
            24 => {
                let (bytes, rest) = rest.split_first_chunk::<1>()?;
                (shortest(u64::from(bytes[0]), 24)?, rest)
            }
            25 => {
                let (bytes, rest) = rest.split_first_chunk::<2>()?;
                (
                    shortest(u64::from(u16::from_be_bytes(*bytes)), 1 << 8)?,
                    rest,
                )
            }
            26 => {
                let (bytes, rest) = rest.split_first_chunk::<4>()?;
                (
                    shortest(u64::from(u32::from_be_bytes(*bytes)), 1 << 16)?,
                    rest,
                )
            }
            27 => {
                let (bytes, rest) = rest.split_first_chunk::<8>()?;
                (shortest(u64::from_be_bytes(*bytes), 1 << 32)?, rest)
            }
            31 if matches!(major, ARRAY | MAP) => {
                self.0 = rest;
                return Some(None);
            }
            _ => return None,
        };
        self.0 = rest;
        Some(Some(value))
    }

    pub(super) fn unsigned(&mut self) -> Option<u64> {
        self.head(UNSIGNED)?
    }

    pub(super) fn bytes(&mut self, longest: usize) -> Option<&'a [u8]> {
        let length = self.head(BYTES)??;
        self.take(length, longest)
    }

    pub(super) fn text(&mut self, longest: usize) -> Option<&'a str> {
        let length = self.head(TEXT)??;
        str::from_utf8(self.take(length, longest)?).ok()
    }

    /// A byte string, or `null` for none.
    pub(super) fn optional_bytes(&mut self, longest: usize) -> Option<Option<&'a [u8]>> {
        if self.skip_byte(NULL) {
            return Some(None);
        }
        self.bytes(longest).map(Some)
    }

    pub(super) fn array(&mut self) -> Option<Items> {
        self.head(ARRAY).map(Items)
    }

    pub(super) fn map(&mut self) -> Option<Items> {
        self.head(MAP).map(Items)
    }

    /// Whether another item, or pair, comes in `items`.
    pub(super) fn more(&mut self, items: &mut Items) -> bool {
        match &mut items.0 {
            None => !self.skip_byte(BREAK),
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }

    /// Steps over one item of any of the types that are read here.
    pub(super) fn skip(&mut self) -> Option<()> {
        self.skip_at(0)
    }

    fn skip_at(&mut self, depth: usize) -> Option<()> {
        if depth > DEEPEST {
            return None;
        }
        match self.0.first()? >> 5 {
            major @ (UNSIGNED | NEGATIVE) => {
                self.head(major)??;
            }
            BYTES => {
                self.bytes(usize::MAX)?;
            }
            TEXT => {
                self.text(usize::MAX)?;
            }
            ARRAY => {
                let mut items = self.array()?;
                while self.more(&mut items) {
                    self.skip_at(depth + 1)?;
                }
            }
            MAP => {
                let mut items = self.map()?;
                while self.more(&mut items) {
                    self.skip_at(depth + 1)?;
                    self.skip_at(depth + 1)?;
                }
            }
            SIMPLE => {
                // false, true, null.
                if !(self.skip_byte(0xf4) || self.skip_byte(0xf5) || self.skip_byte(NULL)) {
                    return None;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, length: u64, longest: usize) -> Option<&'a [u8]> {
        let length = usize::try_from(length).ok()?;
        if length > longest {
            return None;
        }
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }
}

fn shortest(value: u64, least: u64) -> Option<u64> {
    (value >= least).then_some(value)
}

/// The head of a byte string.
pub(super) fn bytes_head(length: usize) -> Vec<u8> {
    match u16::try_from(length) {
        Ok(length @ ..24) => vec![BYTES << 5 | length.to_be_bytes()[1]],
        Ok(length @ ..0x100) => vec![BYTES << 5 | 24, length.to_be_bytes()[1]],
        Ok(length) => [&[BYTES << 5 | 25][..], &length.to_be_bytes()].concat(),
        Err(_) => {
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            [&[BYTES << 5 | 26][..], &length.to_be_bytes()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, bytes_head};

    #[test]
    fn numbers_have_one_spelling() {
        for (bytes, number) in [
            (&[0x00][..], 0),
            (&[0x17], 23),
            (&[0x18, 24], 24),
            (&[0x19, 1, 0], 256),
            (&[0x1a, 0, 1, 0, 0], 65_536),
            (&[0x1b, 0, 0, 0, 1, 0, 0, 0, 0], 1 << 32),
        ] {
            assert_eq!(Reader::new(bytes).unsigned(), Some(number));
        }
        for bytes in [
            &[0x18, 23][..],
            &[0x19, 0, 255],
            &[0x1a, 0, 0, 255, 255],
            &[0x1b, 0, 0, 0, 0, 255, 255, 255, 255],
            &[0x1c],
            &[0x1f],
            &[0x20],
            &[0x19, 1],
            &[],
        ] {
            assert_eq!(Reader::new(bytes).unsigned(), None, "{bytes:x?}");
        }
    }

    #[test]
    fn a_head_is_read_back() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            let bytes = [bytes_head(length), vec![7; length]].concat();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.bytes(70_000).map(<[u8]>::len), Some(length));
            assert!(reader.is_empty());
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_not_followed() {
        let deep = [vec![0x81; 9], vec![0x00]].concat();
        assert!(Reader::new(&deep).skip().is_none());
        assert!(Reader::new(&deep[1..]).skip().is_some());
        // A map whose end never comes.
        assert!(Reader::new(&[0xbf, 0, 0]).skip().is_none());
    }
}
