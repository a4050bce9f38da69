//! LZ4 frames (the LZ4 frame format, version 1.6), in which apt keeps its lists where it was told to
//! keep them small. Checksums are not looked at: what comes out is compared with a signed digest.

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const LARGEST_BLOCK: usize = 4 * 1024 * 1024;
const SHORTEST_MATCH: usize = 4;

/// All frames of `bytes`; nothing when they are damaged or hold more than `limit` bytes.
pub(super) fn frames(bytes: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = bytes;
    loop {
        rest = frame(rest, &mut plain, limit)?;
        if rest.is_empty() {
            return Some(plain);
        }
    }
}

fn frame<'a>(bytes: &'a [u8], plain: &mut Vec<u8>, limit: usize) -> Option<&'a [u8]> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (&[flags, _], rest) = rest.split_first_chunk::<2>()?;
    // Version 01; a dictionary is somewhere else.
    if flags >> 6 != 1 || flags & 0x01 != 0 {
        return None;
    }
    let content_size = if flags & 0x08 != 0 { 8 } else { 0 };
    let mut rest = rest.get(content_size + 1..)?;
    let start = plain.len();
    loop {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length);
        rest = after;
        if length == 0 {
            break;
        }
        let stored = length & 0x8000_0000 != 0;
        let length = usize::try_from(length & 0x7fff_ffff).ok()?;
        if length > LARGEST_BLOCK {
            return None;
        }
        let (data, after) = rest.split_at_checked(length)?;
        rest = after.get(if flags & 0x10 != 0 { 4 } else { 0 }..)?;
        if stored {
            append(plain, data, limit)?;
        } else {
            block(data, plain, start, limit)?;
        }
    }
    rest.get(if flags & 0x04 != 0 { 4 } else { 0 }..)
}

fn append(plain: &mut Vec<u8>, data: &[u8], limit: usize) -> Option<()> {
    if plain.len().checked_add(data.len())? > limit {
        return None;
    }
    plain.extend_from_slice(data);
    Some(())
}

/// Sequences of literals and matches; a match may reach back to `start`, the beginning of its frame.
fn block(mut data: &[u8], plain: &mut Vec<u8>, start: usize, limit: usize) -> Option<()> {
    loop {
        let (token, rest) = data.split_first()?;
        let (literals, rest) = length(usize::from(token >> 4), rest)?;
        let (literals, rest) = rest.split_at_checked(literals)?;
        append(plain, literals, limit)?;
        if rest.is_empty() {
            return Some(());
        }
        let (offset, rest) = rest.split_first_chunk::<2>()?;
        let offset = usize::from(u16::from_le_bytes(*offset));
        let (copied, rest) = length(usize::from(token & 0x0f), rest)?;
        let mut left = copied.checked_add(SHORTEST_MATCH)?;
        if offset == 0 || plain.len().checked_sub(start)? < offset {
            return None;
        }
        if plain.len().checked_add(left)? > limit {
            return None;
        }
        // A match may overlap what it makes: copy no more than there is, and again.
        while left > 0 {
            let from = plain.len().checked_sub(offset)?;
            let now = left.min(offset);
            plain.extend_from_within(from..from.checked_add(now)?);
            left = left.checked_sub(now)?;
        }
        data = rest;
    }
}

/// Four bits, and while they and each byte after them are full, one byte more.
fn length(nibble: usize, mut rest: &[u8]) -> Option<(usize, &[u8])> {
    let mut length = nibble;
    if nibble == 15 {
        loop {
            let (more, after) = rest.split_first()?;
            length = length.checked_add(usize::from(*more))?;
            rest = after;
            if *more != 255 {
                break;
            }
        }
    }
    Some((length, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_match_may_overlap_itself() {
        // One literal, then it again eleven times; then the last literals.
        let block = [0x17, b'a', 1, 0, 0x20, b'b', b'c'];
        let length = u32::try_from(block.len()).unwrap().to_le_bytes();
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0x40, 0x40, 0]);
        bytes.extend(length);
        bytes.extend(block);
        bytes.extend([0; 4]);
        assert_eq!(frames(&bytes, 100).unwrap(), b"aaaaaaaaaaaabc");
        assert_eq!(frames(&bytes, 13), None);
        assert_eq!(frames(&bytes[..bytes.len() - 1], 100), None);
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let mut framed = MAGIC.to_vec();
            framed.extend([0x40, 0x40, 0]);
            framed.extend(&bytes);
            frames(&framed, 4096);
            let mut plain = vec![1, 2, 3];
            block(&bytes, &mut plain, 0, 4096);
        }
    }
}
