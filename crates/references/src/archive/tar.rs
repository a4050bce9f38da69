//! `tar` as a stream: POSIX ustar and pax, and GNU's long names (POSIX.1-2017 pax, GNU tar manual).
//! Sparse files are refused: their content is not what stands in the archive.

use super::absolute;
use crate::unpack;
use facts::Finding;
use std::io::Read;

const BLOCK: usize = 512;
const MOST_ENTRIES: u64 = 2_000_000;
/// A pax header or a long name.
const LONGEST_EXTENSION: u64 = 64 * 1024;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    File,
    /// Another name for the file at this path.
    HardLink(String),
    /// Leads to this text, which is not judged here.
    SymbolicLink(String),
    Folder,
    /// Devices and pipes.
    Other,
}

/// The head of one entry; its data are read from the [`Tar`] that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Absolute.
    pub path: String,
    pub kind: Kind,
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
}

/// An archive that is read once, front to back.
pub struct Tar<R> {
    reader: R,
    /// Bytes of the current entry's data, and of its padding, that were not read yet.
    data: u64,
    padding: u64,
    entries: u64,
}

#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

fn refused(what: &str) -> Finding {
    Finding::new("REF-TAR", "the files of the archive cannot be read")
        .expected("a tar archive of plain entries")
        .observed(what)
        .next("get the archive again; if it is right, report its format")
}

impl<R: Read> Tar<R> {
    pub const fn new(reader: R) -> Self {
        Self {
            reader,
            data: 0,
            padding: 0,
            entries: 0,
        }
    }

    /// The next entry; whatever of the one before was not read is skipped.
    ///
    /// # Errors
    /// `REF-TAR`, `REF-UNPACK`, `REF-UNPACK-SIZE`.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Finding> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            self.entries += 1;
            if self.entries > MOST_ENTRIES {
                return Err(refused("too many entries"));
            }
            let size =
                number(&header, 124, 12).ok_or_else(|| refused("an entry without a size"))?;
            match header.get(156).copied().unwrap_or_default() {
                b'x' => self.pax(size, &mut extension)?,
                b'L' => extension.path = Some(self.long_name(size)?),
                b'K' => extension.link = Some(self.long_name(size)?),
                // Defaults for all entries; the ones that are read here never stand there.
                b'g' => self.expect(size),
                kind => return self.entry(&header, kind, size, extension).map(Some),
            }
        }
    }

    /// Data of the current entry, as [`Read::read`]; zero at its end.
    ///
    /// # Errors
    /// `REF-TAR`, `REF-UNPACK`, `REF-UNPACK-SIZE`.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Finding> {
        let want = usize::try_from(self.data)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let part = buffer.get_mut(..want).unwrap_or_default();
        let read = self
            .reader
            .read(part)
            .map_err(|error| unpack::finding(&error))?;
        if read == 0 {
            return Err(refused("the archive ends within a file"));
        }
        self.data = self
            .data
            .saturating_sub(u64::try_from(read).unwrap_or(u64::MAX));
        Ok(read)
    }

    fn expect(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % 512;
    }

    fn skip(&mut self) -> Result<(), Finding> {
        let mut buffer = vec![0; 16 * 1024];
        while self.read(&mut buffer)? > 0 {}
        let padding = std::mem::take(&mut self.padding);
        if padding == 0 {
            return Ok(());
        }
        // Some tools write neither padding nor an end behind the last file, and what unpacks images takes that
        // for the end.
        let read = self.reader.read(&mut [0]);
        let is_there = read.map_err(|error| unpack::finding(&error))? > 0;
        self.data = if is_there {
            padding.saturating_sub(1)
        } else {
            0
        };
        while self.read(&mut buffer)? > 0 {}
        Ok(())
    }

    /// Nothing at the block of zeros that ends the archive, or at the end of the data.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, Finding> {
        let mut header = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let part = header.get_mut(filled..).unwrap_or_default();
            let read = self
                .reader
                .read(part)
                .map_err(|error| unpack::finding(&error))?;
            if read == 0 && filled == 0 {
                return Ok(None);
            }
            if read == 0 {
                return Err(refused("the archive ends within a header"));
            }
            filled += read;
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let stated = number(&header, 148, 8);
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                // The checksum's own field counts as spaces.
                let counted = if (148..156).contains(&at) {
                    b' '
                } else {
                    *byte
                };
                u64::from(counted)
            })
            .sum();
        if stated != Some(sum) {
            return Err(refused("a header with a wrong checksum"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Finding> {
        if size > LONGEST_EXTENSION {
            return Err(refused("an extended header that is too long"));
        }
        self.expect(size);
        let mut bytes = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let read = self.read(&mut buffer)?;
            if read == 0 {
                return Ok(bytes);
            }
            bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, Finding> {
        let name = self.extension(size)?;
        Ok(crate::bytes::until_zero(&name).to_vec())
    }

    /// Records `LENGTH KEY=VALUE\n`.
    fn pax(&mut self, size: u64, extension: &mut Extension) -> Result<(), Finding> {
        let bytes = self.extension(size)?;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (key, value, after) =
                pax_record(rest).ok_or_else(|| refused("a damaged pax header"))?;
            rest = after;
            match key {
                b"path" => extension.path = Some(value.to_vec()),
                b"linkpath" => extension.link = Some(value.to_vec()),
                b"size" => {
                    let size = str::from_utf8(value)
                        .ok()
                        .and_then(|text| text.parse().ok());
                    extension.size = Some(size.ok_or_else(|| refused("a size that is none"))?);
                }
                key if key.starts_with(b"GNU.sparse.") => return Err(refused("a sparse file")),
                _ => {}
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        header: &[u8; BLOCK],
        kind: u8,
        size: u64,
        extension: Extension,
    ) -> Result<Entry, Finding> {
        let outside = || refused("a path that leads out of the archive, or is no text");
        let path = extension.path.unwrap_or_else(|| name(header));
        let link = extension
            .link
            .unwrap_or_else(|| field(header, 157, 100).to_vec());
        let mut size = extension.size.unwrap_or(size);
        let kind = match kind {
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink(absolute(&link).ok_or_else(outside)?),
            b'2' => Kind::SymbolicLink(String::from_utf8(link).map_err(|_| outside())?),
            b'3' | b'4' | b'6' => Kind::Other,
            b'5' => Kind::Folder,
            _ => return Err(refused("an entry of an unknown kind")),
        };
        if kind != Kind::File {
            size = 0;
        }
        self.expect(size);
        let mode = number(header, 100, 8).unwrap_or_default() & 0o7777;
        Ok(Entry {
            path: absolute(&path).ok_or_else(outside)?,
            kind,
            size,
            mode: u32::try_from(mode).unwrap_or_default(),
        })
    }
}

fn field(header: &[u8; BLOCK], at: usize, length: usize) -> &[u8] {
    crate::bytes::until_zero(crate::bytes::slice(header, at, length).unwrap_or_default())
}

/// Name, and in ustar what stands before it.
fn name(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = field(header, 0, 100);
    let ustar = crate::bytes::slice(header, 257, 6) == Some(b"ustar\0");
    let prefix = if ustar { field(header, 345, 155) } else { &[] };
    if prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    }
}

/// Octal digits, or GNU's big-endian number behind a byte 0x80.
fn number(header: &[u8; BLOCK], at: usize, length: usize) -> Option<u64> {
    let bytes = crate::bytes::slice(header, at, length)?;
    if let Some((0x80, digits)) = bytes.split_first() {
        return digits.iter().try_fold(0_u64, |value, byte| {
            value.checked_mul(256)?.checked_add(u64::from(*byte))
        });
    }
    let text = str::from_utf8(crate::bytes::until_zero(bytes)).ok()?.trim();
    if text.is_empty() {
        return Some(0);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}

type Record<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn pax_record(bytes: &[u8]) -> Option<Record<'_>> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = str::from_utf8(bytes.get(..space)?).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((
        record.get(..equals)?,
        record.get(equals.checked_add(1)?..)?,
        rest,
    ))
}
