//! Little-endian fields out of hostile bytes: nothing is read that is not there.

/// `length` bytes at `offset`.
pub(crate) fn slice(bytes: &[u8], offset: usize, length: usize) -> Option<&[u8]> {
    bytes.get(offset..offset.checked_add(length)?)
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk::<N>().copied()
}

pub(crate) fn u16(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_le_bytes)
}

pub(crate) fn u32(bytes: &[u8], offset: usize) -> Option<u32> {
    array(bytes, offset).map(u32::from_le_bytes)
}

/// A 32-bit field that is an offset or a length.
pub(crate) fn size(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u32(bytes, offset)?).ok()
}

pub(crate) fn guid(bytes: &[u8], offset: usize) -> Option<[u8; 16]> {
    array(bytes, offset)
}

/// Up to the first zero byte, or all.
pub(crate) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// UTF-16LE of `text` with its terminating zero, as UEFI hands strings on.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}
