//! Decompression with a limit on what comes out and on the memory that it takes.
//!
//! INVARIANT: xz, gzip and zstd are handed to their decoders only after the compressed bytes were found
//! to have the digest that a signed list, or the operator, names; so no decoder of other people reads
//! what an attacker chose. LZ4, in which apt keeps its lists, is decoded here and checked after.

mod gzip;
mod lz4;

use facts::Finding;
use std::io::{self, Read};

/// The largest LZMA2 dictionary that is accepted, in KiB: xz's own presets stop at 64 MiB.
const XZ_MEMORY_KIB: u32 = 96 * 1024;
/// The largest zstd window that is accepted: what `zstd` itself takes without `--long`.
const ZSTD_WINDOW: u64 = 128 * 1024 * 1024;

/// How bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

impl Packing {
    /// By the end of a file's name; what is unknown is plain.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("gz") => Self::Gzip,
            Some("xz") => Self::Xz,
            Some("zst") => Self::Zstd,
            Some("lz4") => Self::Lz4,
            _ => Self::Plain,
        }
    }

    /// By the first bytes; what is unknown is plain.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x04, 0x22, 0x4d, 0x18, ..] => Self::Lz4,
            _ => Self::Plain,
        }
    }
}

/// A reader of what `bytes` unpack to, which fails once that is more than `limit` bytes.
///
/// # Errors
/// `REF-UNPACK` when `bytes` do not even begin as `packing` does.
pub fn reader(packing: Packing, bytes: &[u8], limit: u64) -> Result<Limited<'_>, Finding> {
    let inner: Box<dyn Read + '_> = match packing {
        Packing::Plain => Box::new(bytes),
        Packing::Gzip => Box::new(gzip::Gzip::new(bytes)),
        Packing::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            bytes,
            true,
            XZ_MEMORY_KIB,
        )),
        Packing::Zstd => Box::new(Zstd::new(bytes)),
        Packing::Lz4 => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let plain = lz4::frames(bytes, limit).ok_or_else(|| damaged("no such LZ4 frame"))?;
            Box::new(io::Cursor::new(plain))
        }
    };
    Ok(Limited {
        inner,
        left: limit,
        limit,
        failed: false,
    })
}

/// All that `bytes` unpack to.
///
/// # Errors
/// `REF-UNPACK` when they are damaged, `REF-UNPACK-SIZE` when it is more than `limit` bytes.
pub fn all(packing: Packing, bytes: &[u8], limit: u64) -> Result<Vec<u8>, Finding> {
    let mut plain = Vec::new();
    let mut reader = reader(packing, bytes, limit)?;
    reader
        .read_to_end(&mut plain)
        .map_err(|error| finding(&error))?;
    Ok(plain)
}

/// What a failed read of a [`Limited`] says to a user.
pub(crate) fn finding(error: &io::Error) -> Finding {
    if error.kind() == io::ErrorKind::FileTooLarge {
        return Finding::new(
            "REF-UNPACK-SIZE",
            "the data unpack to more than is accepted",
        )
        .expected("a file of this kind in its usual size")
        .observed(error.to_string())
        .next("get the file again; if it is right, it is too large to be a source of references");
    }
    damaged(&error.to_string())
}

fn damaged(what: &str) -> Finding {
    Finding::new("REF-UNPACK", "the data cannot be unpacked")
        .observed(what)
        .next("get the file again")
}

/// A reader with an end.
pub struct Limited<'a> {
    inner: Box<dyn Read + 'a>,
    left: u64,
    limit: u64,
    failed: bool,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A decoder that failed once is not asked again.
        if self.failed {
            return Err(io::Error::other("the data are damaged"));
        }
        let read = self
            .inner
            .read(buffer)
            .inspect_err(|_| self.failed = true)?;
        let Some(left) = self
            .left
            .checked_sub(u64::try_from(read).unwrap_or(u64::MAX))
        else {
            self.failed = true;
            let what = format!("more than {} bytes", self.limit);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
        };
        self.left = left;
        Ok(read)
    }
}

/// Zstandard frames, one after the other (RFC 8878).
struct Zstd<'a> {
    rest: &'a [u8],
    frame: Option<ruzstd::decoding::FrameDecoder>,
}

impl<'a> Zstd<'a> {
    const fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            frame: None,
        }
    }
}

impl Read for Zstd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
        let damaged = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        loop {
            if self.frame.is_none() {
                if self.rest.is_empty() {
                    return Ok(0);
                }
                let mut frame = FrameDecoder::new();
                frame.set_max_window_size(ZSTD_WINDOW);
                frame
                    .init(&mut self.rest)
                    .map_err(|error| damaged(error.to_string()))?;
                self.frame = Some(frame);
            }
            let Some(frame) = &mut self.frame else {
                return Ok(0);
            };
            while frame.can_collect() < buffer.len() && !frame.is_finished() {
                let upto = BlockDecodingStrategy::UptoBytes(buffer.len());
                frame
                    .decode_blocks(&mut self.rest, upto)
                    .map_err(|error| damaged(error.to_string()))?;
            }
            let read = frame.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if !frame.is_finished() {
                return Err(damaged("a frame without an end".to_owned()));
            }
            self.frame = None;
        }
    }
}
