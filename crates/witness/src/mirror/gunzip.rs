//! `Content-Encoding: gzip`, RFC 1952, as it comes: what is held is what came last and a window. How much comes out
//! is the reader's to bound: it takes a piece at a time.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZError, MZFlush, MZStatus};

/// Bytes of a piece.
const PIECE: usize = 64 * 1024;
/// Bytes of a member's header, at most: it may have a name and a comment, which nobody reads.
const LONGEST_HEADER: usize = 8 * 1024;
/// Members that may give nothing, and bytes that each of those after them gives, on average and at least. Each costs
/// what a state costs, and whoever sends them has not been asked for anything yet.
const FREE_MEMBERS: u64 = 64;
const LEAST_OF_MEMBER: u64 = 512;
/// Bytes that may give nothing, and bytes of those after them of which one comes out, on average and at least: blocks
/// may be empty too.
const FREE_BYTES: u64 = 64 * 1024;
const MOST_OF_BYTE: u64 = 4;

/// The bytes are not gzip, or not whole, or give too little for what they cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

#[derive(Default)]
pub(super) struct Gunzip {
    held: Vec<u8>,
    /// Of `held`, what was read.
    at: usize,
    stage: Stage,
    state: Option<Box<InflateState>>,
    /// Room for what comes out.
    room: Vec<u8>,
    crc: u32,
    length: u32,
    members: u64,
    read: u64,
    written: u64,
}

#[derive(Default, Clone, Copy)]
enum Stage {
    #[default]
    Header,
    Body,
    Trailer,
}

impl Gunzip {
    /// Bytes that came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.held.drain(..self.at.min(self.held.len()));
        self.at = 0;
        self.held.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        self.held.get(self.at..).unwrap_or_default()
    }

    fn advance(&mut self, bytes: usize) -> Result<(), Damaged> {
        self.at = self.at.saturating_add(bytes).min(self.held.len());
        self.read = self.read.saturating_add(bytes as u64);
        let most = FREE_BYTES.saturating_add(self.written.saturating_mul(MOST_OF_BYTE));
        (self.read <= most).then_some(()).ok_or(Damaged)
    }

    fn member(&mut self) -> Result<(), Damaged> {
        self.members = self.members.saturating_add(1);
        if self.members > FREE_MEMBERS.saturating_add(self.written / LEAST_OF_MEMBER) {
            return Err(Damaged);
        }
        (self.crc, self.length) = (0, 0);
        match &mut self.state {
            Some(state) => state.reset(DataFormat::Raw),
            none => *none = Some(InflateState::new_boxed(DataFormat::Raw)),
        }
        Ok(())
    }

    /// The next piece; `None` if more has to come.
    pub(super) fn pull(&mut self) -> Result<Option<Vec<u8>>, Damaged> {
        loop {
            match self.stage {
                Stage::Header => {
                    let Some(length) = header(self.rest())? else {
                        return Ok(None);
                    };
                    self.advance(length)?;
                    self.member()?;
                    self.stage = Stage::Body;
                }
                Stage::Body => {
                    let state = self.state.as_mut().ok_or(Damaged)?;
                    self.room.resize(PIECE, 0);
                    let rest = self.held.get(self.at..).unwrap_or_default();
                    let done = inflate(state, rest, &mut self.room, MZFlush::None);
                    let piece = self.room.get(..done.bytes_written).unwrap_or_default();
                    let piece = piece.to_vec();
                    self.written = self.written.saturating_add(piece.len() as u64);
                    self.advance(done.bytes_consumed)?;
                    self.crc = crc32(self.crc, &piece);
                    let written = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    self.length = self.length.wrapping_add(written);
                    match done.status {
                        Ok(MZStatus::StreamEnd) => self.stage = Stage::Trailer,
                        Ok(_) | Err(MZError::Buf) => {
                            if piece.is_empty() && done.bytes_consumed == 0 {
                                return Ok(None);
                            }
                        }
                        Err(_) => return Err(Damaged),
                    }
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                Stage::Trailer => {
                    let Some(trailer) = self.rest().first_chunk::<8>() else {
                        return Ok(None);
                    };
                    let (crc, length) = (self.crc.to_le_bytes(), self.length.to_le_bytes());
                    if [crc, length].as_flattened() != trailer {
                        return Err(Damaged);
                    }
                    self.advance(8)?;
                    self.stage = Stage::Header;
                }
            }
        }
    }
}

/// Section 2.3: how long the header is; `None` if more of it has to come.
fn header(held: &[u8]) -> Result<Option<usize>, Damaged> {
    let magic = [0x1f, 0x8b, 8];
    let wrong = held.iter().zip(magic).any(|(found, magic)| *found != magic);
    if wrong || held.get(3).is_some_and(|flags| flags & 0xe0 != 0) {
        return Err(Damaged);
    }
    let length = (|| {
        let (fixed, mut rest) = held.split_first_chunk::<10>()?;
        let [_, _, _, flags, ..] = *fixed;
        if flags & 0x04 != 0 {
            let (length, extra) = rest.split_first_chunk::<2>()?;
            rest = extra.get(usize::from(u16::from_le_bytes(*length))..)?;
        }
        for _field in [0x08, 0x10].iter().filter(|field| flags & **field != 0) {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
        if flags & 0x02 != 0 {
            rest = rest.get(2..)?;
        }
        Some(held.len() - rest.len())
    })();
    match length {
        None if held.len() > LONGEST_HEADER => Err(Damaged),
        length => Ok(length),
    }
}

/// Of what came before, and of these bytes: the reflected polynomial 0xedb88320.
fn crc32(before: u32, bytes: &[u8]) -> u32 {
    let mut crc = !before;
    for byte in bytes {
        let place = usize::from((crc.to_le_bytes()[0]) ^ byte);
        crc = TABLE.get(place).copied().unwrap_or_default() ^ (crc >> 8);
    }
    !crc
}

static TABLE: [u32; 256] = table();

#[expect(
    clippy::indexing_slicing,
    reason = "at compile time, within its length"
)]
const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte: u32 = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf hello | gzip -n`.
    const HELLO: &str = "1f8b0800000000000003cb48cdc9c9070086a6103605000000";

    fn unpack(bytes: &[u8], step: usize) -> Result<Vec<u8>, Damaged> {
        let (mut gunzip, mut all) = (Gunzip::default(), Vec::new());
        for piece in bytes.chunks(step) {
            gunzip.push(piece);
            while let Some(piece) = gunzip.pull()? {
                all.extend(piece);
            }
        }
        Ok(all)
    }

    #[test]
    fn members_come_out_however_they_come_in() {
        assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
        let hello = crypto::hex::decode(HELLO).unwrap();
        let twice = [hello.clone(), hello.clone()].concat();
        for step in 1..twice.len() {
            assert_eq!(unpack(&twice, step).unwrap(), b"hellohello");
        }
        // With a name: `printf hello > a; gzip a`.
        let mut named = hello.clone();
        named[3] = 0x08;
        named.splice(10..10, *b"a\0");
        assert_eq!(unpack(&named, 3).unwrap(), b"hello");
        for at in [0, 1, 2, 3, 15, 18, 22] {
            let mut changed = hello.clone();
            changed[at] ^= 0x80;
            assert_ne!(unpack(&changed, 1), Ok(b"hello".to_vec()), "byte {at}");
        }
    }

    /// What gives nothing costs its sender more than us: it is refused after 64 members, or 64 KiB.
    #[test]
    fn members_and_blocks_that_give_nothing_are_refused() {
        // `gzip -n < /dev/null`.
        let empty = crypto::hex::decode("1f8b080000000000000303000000000000000000").unwrap();
        assert_eq!(unpack(&empty.repeat(64), 1000), Ok(Vec::new()));
        assert_eq!(unpack(&empty.repeat(65), 1000), Err(Damaged));
        // Of five bytes each.
        let hello = crypto::hex::decode(HELLO).unwrap();
        let many = hello.repeat(64);
        assert_eq!(unpack(&many, 1000).unwrap().len(), 64 * 5);
        assert_eq!(unpack(&hello.repeat(70), 1000), Err(Damaged));
        // One member with empty stored blocks, without an end.
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        let blocks = |count| [0, 0, 0, 0xff, 0xff].repeat(count);
        let nothing = |count| [head.as_slice(), &blocks(count)].concat();
        assert_eq!(unpack(&nothing(13_000), 16_000), Ok(Vec::new()));
        assert_eq!(unpack(&nothing(14_000), 16_000), Err(Damaged));
    }

    /// A megabyte of nothing comes out in pieces.
    #[test]
    fn no_more_than_a_piece_comes_out_at_once() {
        let zeros = vec![0; 1 << 20];
        let deflated = miniz_oxide::deflate::compress_to_vec(&zeros, 9);
        let head = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        let trailer = [crc32(0, &zeros).to_le_bytes(), (1_u32 << 20).to_le_bytes()];
        let mut gunzip = Gunzip::default();
        gunzip.push(&[&head, &*deflated, trailer.as_flattened()].concat());
        let mut found = 0;
        while let Some(piece) = gunzip.pull().unwrap() {
            assert!(piece.len() <= PIECE);
            found += piece.len();
        }
        assert_eq!(found, 1 << 20);
    }
}
