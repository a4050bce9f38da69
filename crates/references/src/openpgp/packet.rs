//! Packets: a tag and a body (RFC 9580, section 4). Partial and indeterminate lengths are refused; only
//! streamed data has them.

pub(super) const SIGNATURE: u8 = 2;
pub(super) const PUBLIC_KEY: u8 = 6;
pub(super) const PUBLIC_SUBKEY: u8 = 14;
pub(super) const USER_ID: u8 = 13;

pub(super) struct Packet<'a> {
    pub(super) tag: u8,
    pub(super) body: &'a [u8],
}

/// All packets, until the first that cannot be read.
pub(super) struct Packets<'a>(&'a [u8]);

impl<'a> Packets<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some((packet, rest)) = packet(self.0) else {
            self.0 = &[];
            return Some(Err("a damaged packet"));
        };
        self.0 = rest;
        Some(Ok(packet))
    }
}

fn packet(bytes: &[u8]) -> Option<(Packet<'_>, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    if first & 0x80 == 0 {
        return None;
    }
    let (tag, length, rest) = if first & 0x40 != 0 {
        let (length, rest) = new_length(rest)?;
        (first & 0x3f, length, rest)
    } else {
        let width = match first & 0x03 {
            0 => 1,
            1 => 2,
            2 => 4,
            _ => return None,
        };
        let (length, rest) = rest.split_at_checked(width)?;
        ((first >> 2) & 0x0f, number(length)?, rest)
    };
    let (body, rest) = rest.split_at_checked(length)?;
    Some((Packet { tag, body }, rest))
}

/// The length of a packet in the current format, and of a subpacket.
pub(super) fn new_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        ..=191 => Some((usize::from(*first), rest)),
        192..=223 => {
            let (second, rest) = rest.split_first()?;
            let length = (usize::from(*first) - 192) * 256 + usize::from(*second) + 192;
            Some((length, rest))
        }
        255 => {
            let (length, rest) = rest.split_at_checked(4)?;
            Some((number(length)?, rest))
        }
        _ => None,
    }
}

/// Big-endian, at most four bytes.
pub(super) fn number(bytes: &[u8]) -> Option<usize> {
    if bytes.len() > 4 {
        return None;
    }
    bytes.iter().try_fold(0_usize, |value, byte| {
        value.checked_mul(256)?.checked_add(usize::from(*byte))
    })
}

/// A multiprecision integer (section 3.2), without leading zeros.
pub(super) fn integer(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bits, rest) = bytes.split_first_chunk::<2>()?;
    let bits = usize::from(u16::from_be_bytes(*bits));
    let (value, rest) = rest.split_at_checked(bits.div_ceil(8))?;
    // The first bit that is set is where the length says.
    let first = value.first().copied().unwrap_or_default();
    let expected = bits.checked_sub(1).map_or(0, |top| top % 8 + 1);
    let set = usize::try_from(u8::BITS.checked_sub(first.leading_zeros())?).ok()?;
    (set == expected).then_some((value, rest))
}
