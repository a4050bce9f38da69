//! Which digests were measured in a boot, for those who ask about one of them.

use super::entry::Kind;
use super::verify::Measured;
use crate::join::Boot;
use crypto::Hash;
use std::collections::HashMap;

/// Every digest that a verified list of one boot holds, gathered round by round. About 100 bytes an
/// entry; who needs no look-ups keeps none.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    boot: Option<Boot>,
    entries: HashMap<(Kind, Hash, Box<[u8]>), u64>,
}

impl Seen {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what a round verified. What was seen in another boot is forgotten.
    pub fn extend(&mut self, measured: &Measured<'_>) {
        let boot = Some(measured.progress().boot());
        if self.boot != boot {
            self.entries.clear();
            self.boot = boot;
        }
        for entry in measured.entries().iter().filter(|one| !one.is_violation()) {
            let Some(hash) = entry.hash else { continue };
            let key = (entry.kind, hash, entry.digest.clone().into_boxed_slice());
            self.entries.entry(key).or_insert(entry.index);
        }
    }

    /// The index of the entry that measured a file of this digest in this boot. SHA-1 finds nothing:
    /// it can be made to collide.
    ///
    /// With [`Kind::Verity`] the digest is the one that `FS_IOC_MEASURE_VERITY` gives for a running
    /// program: the kernel and the node agent then say the same, and only the kernel is believed.
    #[must_use]
    pub fn find(&self, kind: Kind, hash: Hash, digest: &[u8]) -> Option<u64> {
        if hash == Hash::Sha1 {
            return None;
        }
        self.entries.get(&(kind, hash, digest.into())).copied()
    }

    /// The boot that all of it is of.
    #[must_use]
    pub const fn boot(&self) -> Option<Boot> {
        self.boot
    }
}
