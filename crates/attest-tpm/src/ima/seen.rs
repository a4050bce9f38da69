//! Which files were measured in a boot, for those who ask about one of them.

use super::entry::{ENTRIES, Kind};
use crate::join::Boot;
use std::collections::HashSet;

/// The digests of every file that a verified list of one boot holds, gathered round by round. Some 16 bytes
/// a file: of each digest 8 bytes are kept, under a key that nobody outside knows, so that no file can be
/// made whose digest looks like another's.
#[derive(Debug, Clone)]
pub struct Seen {
    key: [u8; 32],
    boot: Option<Boot>,
    files: HashSet<u64>,
}

impl Seen {
    /// `key` is random, and stays where this does.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            boot: None,
            files: HashSet::new(),
        }
    }

    /// Adds what was verified of the list of `boot`, up to as many files as a list may have entries. What was seen in another boot is forgotten.
    pub fn extend(&mut self, boot: Boot, files: impl IntoIterator<Item = (Kind, [u8; 32])>) {
        if self.boot != Some(boot) {
            self.files.clear();
            self.boot = Some(boot);
        }
        for (kind, digest) in files {
            if self.files.len() >= ENTRIES {
                return;
            }
            let file = self.short(kind, &digest);
            self.files.insert(file);
        }
    }

    /// Whether the kernel measured a file of this digest in this boot.
    ///
    /// With [`Kind::Verity`] the digest is the one that `FS_IOC_MEASURE_VERITY` gives for a running
    /// program: the kernel and the node agent then say the same, and only the kernel is believed.
    #[must_use]
    pub fn has(&self, kind: Kind, digest: &[u8; 32]) -> bool {
        self.files.contains(&self.short(kind, digest))
    }

    /// The boot that all of it is of.
    #[must_use]
    pub const fn boot(&self) -> Option<Boot> {
        self.boot
    }

    fn short(&self, kind: Kind, digest: &[u8; 32]) -> u64 {
        let kind = match kind {
            Kind::Content => 0_u8,
            Kind::Verity => 1,
        };
        let whole = crypto::sha256(&[&self.key, [kind].as_slice(), digest].concat());
        let short = whole.first_chunk().copied().unwrap_or_default();
        u64::from_be_bytes(short)
    }
}
