//! How certificates stand in a file, one behind the other.
//!
//! `u32 length ‖ u64 index ‖ 32 bytes commitment ‖ u64 size ‖ u32 cut ‖ bytes`, all numbers big-endian: `length` is of all
//! behind it, `size` is of the tree of the receipt's checkpoint, and `cut` is where in `bytes` the record, its place and
//! its proof were taken out. One that was erased has the index 2^64-1, and zeros.

use ledger::HexDigest;

/// Bytes before `bytes`, without the length.
const HEAD: usize = 52;
/// Bytes behind the length, at most.
const MAX_FRAME: usize = 64 * 1024;

/// One certificate.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub index: u64,
    pub commit: HexDigest,
    pub size: u64,
    pub before: &'a [u8],
    pub after: &'a [u8],
}

impl<'a> Frame<'a> {
    /// `None` if it is too long.
    #[must_use]
    pub fn encode(&self) -> Option<Vec<u8>> {
        let length = HEAD + self.before.len() + self.after.len();
        if length > MAX_FRAME {
            return None;
        }
        let length = u32::try_from(length).ok()?;
        let cut = u32::try_from(self.before.len()).ok()?;
        let mut out = Vec::with_capacity(self.length());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.index.to_be_bytes());
        out.extend_from_slice(&self.commit.0);
        out.extend_from_slice(&self.size.to_be_bytes());
        out.extend_from_slice(&cut.to_be_bytes());
        out.extend_from_slice(self.before);
        out.extend_from_slice(self.after);
        Some(out)
    }

    /// Bytes of it in its file.
    #[must_use]
    pub const fn length(&self) -> usize {
        4 + HEAD + self.before.len() + self.after.len()
    }

    /// What is written in its place, once it is erased: as long, so that the next one is found.
    #[must_use]
    pub fn erased(&self) -> Vec<u8> {
        let length = self.length();
        let mut out = u32::try_from(length - 4)
            .unwrap_or(u32::MAX)
            .to_be_bytes()
            .to_vec();
        out.extend_from_slice(&u64::MAX.to_be_bytes());
        out.resize(length, 0);
        out
    }

    /// The frame at the beginning of `bytes`; `None` where it is not whole.
    fn first(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        if !(HEAD..=MAX_FRAME).contains(&length) {
            return None;
        }
        let frame = rest.get(..length)?;
        let (index, frame) = frame.split_first_chunk::<8>()?;
        let (commit, frame) = frame.split_first_chunk::<32>()?;
        let (size, frame) = frame.split_first_chunk::<8>()?;
        let (cut, kept) = frame.split_first_chunk::<4>()?;
        let cut = usize::try_from(u32::from_be_bytes(*cut)).ok()?;
        let (before, after) = kept.split_at_checked(cut)?;
        Some(Self {
            index: u64::from_be_bytes(*index),
            commit: HexDigest(*commit),
            size: u64::from_be_bytes(*size),
            before,
            after,
        })
    }
}

/// The frames of a file with their places, up to the first that is not whole.
pub fn frames(bytes: &[u8]) -> impl Iterator<Item = (usize, Frame<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let frame = Frame::first(bytes.get(at..)?)?;
        let place = at;
        at += frame.length();
        Some((place, frame))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame<'a>(index: u64, before: &'a [u8], after: &'a [u8]) -> Frame<'a> {
        Frame {
            index,
            commit: HexDigest([7; 32]),
            size: index + 1,
            before,
            after,
        }
    }

    #[test]
    fn what_is_written_is_read_up_to_where_a_crash_has_cut_it() {
        let both = [frame(3, b"before", b"after"), frame(9, b"", b"x")];
        let bytes: Vec<u8> = both.iter().flat_map(|one| one.encode().unwrap()).collect();
        let read: Vec<Frame<'_>> = frames(&bytes).map(|(_, frame)| frame).collect();
        assert_eq!(read, both);
        for end in 0..bytes.len() {
            let whole = usize::from(end >= both[0].length());
            assert_eq!(frames(&bytes[..end]).count(), whole, "{end}");
        }
        // What a file system leaves of a file that was made longer and not written.
        let holes = [bytes.as_slice(), &[0; 100]].concat();
        assert_eq!(frames(&holes).count(), 2);
    }

    #[test]
    fn an_erased_one_leaves_the_next_where_it_is() {
        let both = [frame(3, b"before", b"after"), frame(9, b"", b"x")];
        let mut bytes: Vec<u8> = both.iter().flat_map(|one| one.encode().unwrap()).collect();
        let nothing = both[0].erased();
        bytes[..nothing.len()].copy_from_slice(&nothing);
        let read: Vec<(usize, Frame<'_>)> = frames(&bytes).collect();
        assert_eq!(read[1], (both[0].length(), frame(9, b"", b"x")));
        let (_, erased) = &read[0];
        assert_eq!((erased.index, erased.commit.0), (u64::MAX, [0; 32]));
        assert!(!bytes.windows(6).any(|window| window == b"before"));
    }

    #[test]
    fn no_bytes_panic() {
        for length in [0, 3, 4, 51, 52, 53, 70_000, u32::MAX] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.resize(4 + 60, 0xff);
            assert!(frames(&bytes).count() <= 1, "{length}");
        }
    }
}
