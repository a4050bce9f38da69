//! One file, hashed in every way that something measures it.

use crate::verity::Verity;
use crate::{Digest, pe};
use std::io::{self, Read};

/// PE images are held in memory to be parsed; no boot loader, kernel or UKI is larger.
const LARGEST_PE: usize = 512 * 1024 * 1024;

/// What the machine that holds the file may present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDigests {
    pub size: u64,
    /// IMA's usual digest.
    pub sha256: Digest,
    /// [`crate::verity`].
    pub fsverity: Digest,
    /// Authenticode SHA-256, if the file is a PE image: what firmware measures.
    pub authenticode: Option<Digest>,
    /// It begins as an ELF file does.
    pub elf: bool,
}

impl FileDigests {
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    /// Reads to the end.
    ///
    /// # Errors
    /// What the reader says.
    pub fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = reader.read(&mut buffer)?;
            if read == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(buffer.get(..read).unwrap_or_default());
        }
    }
}

/// [`FileDigests`] of bytes that come in pieces.
#[derive(Debug, Default)]
pub struct Hasher {
    size: u64,
    sha256: crypto::Sha256,
    verity: Verity,
    /// The first bytes; all of them while they may be a PE image.
    held: Vec<u8>,
    too_large: bool,
}

impl Hasher {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.size = self
            .size
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.sha256.update(bytes);
        self.verity.update(bytes);
        let missing = 4_usize.saturating_sub(self.held.len()).min(bytes.len());
        let (head, tail) = bytes.split_at_checked(missing).unwrap_or((bytes, &[]));
        self.held.extend_from_slice(head);
        if !self.held.starts_with(b"MZ") || self.too_large {
            return;
        }
        if self.held.len().saturating_add(tail.len()) > LARGEST_PE {
            self.too_large = true;
            self.held.truncate(4);
        } else {
            self.held.extend_from_slice(tail);
        }
    }

    #[must_use]
    pub fn finish(self) -> FileDigests {
        let image = (!self.too_large).then(|| pe::Image::parse(&self.held).ok());
        FileDigests {
            size: self.size,
            sha256: Digest(self.sha256.finish()),
            fsverity: self.verity.finish(),
            authenticode: image.flatten().map(|image| image.authenticode()),
            elf: self.held.starts_with(b"\x7fELF"),
        }
    }
}
