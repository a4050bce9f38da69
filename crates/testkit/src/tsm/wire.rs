//! The kernel's FUSE protocol (include/uapi/linux/fuse.h, 7.31), as far as the stand-in speaks it.

pub(super) const LOOKUP: u32 = 1;
pub(super) const FORGET: u32 = 2;
pub(super) const GETATTR: u32 = 3;
pub(super) const SETATTR: u32 = 4;
pub(super) const MKDIR: u32 = 9;
pub(super) const RMDIR: u32 = 11;
pub(super) const OPEN: u32 = 14;
pub(super) const READ: u32 = 15;
pub(super) const WRITE: u32 = 16;
pub(super) const RELEASE: u32 = 18;
pub(super) const FLUSH: u32 = 25;
pub(super) const INIT: u32 = 26;
pub(super) const OPENDIR: u32 = 27;
pub(super) const READDIR: u32 = 28;
pub(super) const RELEASEDIR: u32 = 29;
pub(super) const INTERRUPT: u32 = 36;
pub(super) const DESTROY: u32 = 38;
pub(super) const BATCH_FORGET: u32 = 42;

const HEADER: usize = 40;
/// What the kernel hands over in one write.
const MOST: u32 = 64 * 1024;
/// `FOPEN_DIRECT_IO`: lengths say nothing, and nothing is cached.
const DIRECT: u32 = 1;

/// `struct fuse_in_header` and what follows it.
pub(super) struct Request<'a> {
    pub(super) operation: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    body: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl<'a> Request<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        Some(Self {
            operation: u32_at(bytes, 4)?,
            unique: u64_at(bytes, 8)?,
            node: u64_at(bytes, 16)?,
            body: bytes.get(HEADER..)?,
        })
    }

    pub(super) fn name(&self) -> &'a str {
        self.name_after(0)
    }

    pub(super) fn name_after(&self, skip: usize) -> &'a str {
        let rest = self.body.get(skip..).unwrap_or_default();
        let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
        std::str::from_utf8(name).unwrap_or_default()
    }

    /// Of a write: its bytes.
    pub(super) fn written(&self) -> &'a [u8] {
        self.body.get(HEADER..).unwrap_or_default()
    }
}

/// What the kernel is told.
pub(super) enum Reply {
    Error(i32),
    Bytes(Vec<u8>),
}

impl Reply {
    /// `struct fuse_init_out`.
    pub(super) fn init() -> Self {
        let mut bytes = Vec::new();
        for number in [7_u32, 31, MOST, 0, 0, MOST, 1] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(64, 0);
        Self::Bytes(bytes)
    }

    /// `struct fuse_entry_out`.
    pub(super) fn entry(node: u64, folder: bool) -> Self {
        let mut bytes = Vec::new();
        for number in [node, 0, 0, 0, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(attributes(node, folder));
        Self::Bytes(bytes)
    }

    /// `struct fuse_attr_out`.
    pub(super) fn attributes(node: u64, folder: bool) -> Self {
        let mut bytes = vec![0; 16];
        bytes.extend(attributes(node, folder));
        Self::Bytes(bytes)
    }

    /// `struct fuse_open_out`.
    pub(super) fn opened() -> Self {
        let mut bytes = vec![0; 8];
        bytes.extend(DIRECT.to_le_bytes());
        bytes.resize(16, 0);
        Self::Bytes(bytes)
    }

    /// `struct fuse_write_out`.
    pub(super) fn wrote(length: usize) -> Self {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.resize(8, 0);
        Self::Bytes(bytes)
    }

    /// The part of `whole` that is read.
    pub(super) fn part(whole: &[u8], request: &Request<'_>) -> Self {
        let number = |at| usize::try_from(u64_at(request.body, at).unwrap_or(0)).unwrap_or(0);
        let size = u32_at(request.body, 16).unwrap_or(0);
        let size = usize::try_from(size).unwrap_or(0);
        let rest = whole.get(number(8)..).unwrap_or_default();
        Self::Bytes(rest.iter().take(size).copied().collect())
    }

    pub(super) fn bytes(&self, unique: u64) -> Vec<u8> {
        let (error, body) = match self {
            Self::Error(errno) => (-errno, &[][..]),
            Self::Bytes(bytes) => (0, bytes.as_slice()),
        };
        let length = u32::try_from(body.len() + 16).unwrap_or(u32::MAX);
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(error.to_le_bytes());
        bytes.extend(unique.to_le_bytes());
        bytes.extend(body);
        bytes
    }
}

/// `struct fuse_attr`.
fn attributes(node: u64, folder: bool) -> Vec<u8> {
    let mode: u32 = if folder { 0o040_755 } else { 0o100_644 };
    let mut bytes = node.to_le_bytes().to_vec();
    // Length, blocks and three times.
    bytes.resize(8 + 5 * 8 + 3 * 4, 0);
    for number in [mode, 1, 0, 0, 0, 512, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}
