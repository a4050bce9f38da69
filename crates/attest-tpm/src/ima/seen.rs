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

#[cfg(test)]
mod tests {
    use super::{Boot, ENTRIES, Kind, Seen};

    const BOOT: Boot = Boot {
        reset_count: 1,
        restart_count: 0,
    };

    fn file(number: usize) -> (Kind, [u8; 32]) {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        (Kind::Content, digest)
    }

    /// A machine measures what it likes, one file after the other, for as long as it is up.
    #[test]
    fn what_was_seen_is_bounded_and_begins_anew_with_a_boot() {
        let mut seen = Seen::new([7; 32]);
        seen.extend(BOOT, (0..ENTRIES).map(file));
        seen.extend(BOOT, [file(ENTRIES), file(ENTRIES + 1)]);
        assert_eq!(seen.files.len(), ENTRIES);
        assert!(seen.has(Kind::Content, &file(ENTRIES - 1).1));
        assert!(!seen.has(Kind::Content, &file(ENTRIES).1));
        assert!(!seen.has(Kind::Verity, &file(0).1));
        let next = Boot {
            reset_count: 2,
            ..BOOT
        };
        seen.extend(next, [file(ENTRIES)]);
        assert_eq!((seen.files.len(), seen.boot()), (1, Some(next)));
        assert!(!seen.has(Kind::Content, &file(0).1));
    }
}
