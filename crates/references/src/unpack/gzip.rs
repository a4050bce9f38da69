//! gzip members, one after the other (RFC 1952). The checksum is not looked at: the compressed bytes
//! were authenticated before.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};
use std::io::{self, Read};

const TEXT_FIELDS: [u8; 2] = [0x08, 0x10];

pub(super) struct Gzip<'a> {
    rest: &'a [u8],
    member: Option<Box<InflateState>>,
    length: u32,
}

impl<'a> Gzip<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            member: None,
            length: 0,
        }
    }
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl Read for Gzip<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.member.is_none() {
                if self.rest.is_empty() {
                    return Ok(0);
                }
                self.rest = after_header(self.rest).ok_or_else(|| damaged("no gzip header"))?;
                self.member = Some(InflateState::new_boxed(DataFormat::Raw));
                self.length = 0;
            }
            let Some(member) = &mut self.member else {
                return Ok(0);
            };
            let result = inflate(member, self.rest, buffer, MZFlush::None);
            self.rest = self.rest.get(result.bytes_consumed..).unwrap_or_default();
            let written = u32::try_from(result.bytes_written).unwrap_or(u32::MAX);
            self.length = self.length.wrapping_add(written);
            match result.status {
                Ok(MZStatus::StreamEnd) => self.end_member()?,
                Ok(_) if result.bytes_consumed == 0 && result.bytes_written == 0 => {
                    return Err(damaged("the gzip data end early"));
                }
                Ok(_) => {}
                Err(_) => return Err(damaged("no deflate data")),
            }
            if result.bytes_written > 0 || buffer.is_empty() {
                return Ok(result.bytes_written);
            }
        }
    }
}

impl Gzip<'_> {
    /// CRC-32 and length, of which the length is compared.
    fn end_member(&mut self) -> io::Result<()> {
        let (trailer, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or_else(|| damaged("the gzip trailer is missing"))?;
        let [_, _, _, _, length @ ..] = *trailer;
        if u32::from_le_bytes(length) != self.length {
            return Err(damaged("the gzip trailer has another length"));
        }
        self.rest = rest;
        self.member = None;
        Ok(())
    }
}

/// What follows the header of a member: section 2.3.
fn after_header(bytes: &[u8]) -> Option<&[u8]> {
    let (header, mut rest) = bytes.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *header else {
        return None;
    };
    if flags & 0xe0 != 0 {
        return None;
    }
    if flags & 0x04 != 0 {
        let (length, extra) = rest.split_first_chunk::<2>()?;
        rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for field in TEXT_FIELDS {
        if flags & field != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end.checked_add(1)?..)?;
        }
    }
    if flags & 0x02 != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}
