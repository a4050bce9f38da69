//! The fs-verity digest of a file (Linux `Documentation/filesystems/fsverity.rst`): what the kernel
//! answers to `FS_IOC_MEASURE_VERITY`, what IMA logs as `verity:sha256:…`, what IPE compares.
//!
//! SHA-256, blocks of 4096 bytes, no salt: what `FS_IOC_ENABLE_VERITY` is given everywhere here.

use crate::Digest;

const BLOCK: usize = 4096;
const LOG_BLOCK: u8 = 12;
const HASH: usize = 32;

/// A digest that is built while bytes come in. Memory is one block a level.
#[derive(Debug, Clone, Default)]
pub struct Verity {
    /// `levels[0]` collects data, each next one the hashes of full blocks below it.
    levels: Vec<Level>,
    length: u64,
}

#[derive(Debug, Clone, Default)]
struct Level {
    block: Vec<u8>,
    full: u64,
}

impl Verity {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            levels: Vec::new(),
            length: 0,
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.length = self
            .length
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.push(0, bytes);
    }

    /// The digest: SHA-256 of the descriptor, whose root hash covers the tree.
    #[must_use]
    pub fn finish(mut self) -> Digest {
        let root = if self.length == 0 {
            [0; HASH]
        } else {
            self.root()
        };
        // struct fsverity_descriptor, 256 bytes: version, hash algorithm (1 = SHA-256), log2 of the block
        // size, salt size, four reserved bytes, file size, root hash in 64 bytes, salt and padding.
        let mut descriptor = [0_u8; 256];
        let head = [
            [1, 1, LOG_BLOCK, 0, 0, 0, 0, 0].as_slice(),
            &self.length.to_le_bytes(),
            &root,
        ]
        .concat();
        for (slot, byte) in descriptor.iter_mut().zip(head) {
            *slot = byte;
        }
        Digest::of(&descriptor)
    }

    fn push(&mut self, level: usize, mut bytes: &[u8]) {
        while self.levels.len() <= level {
            self.levels.push(Level::default());
        }
        while !bytes.is_empty() {
            let Some(here) = self.levels.get_mut(level) else {
                return;
            };
            let room = BLOCK.saturating_sub(here.block.len()).min(bytes.len());
            let (head, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            here.block.extend_from_slice(head);
            bytes = rest;
            if here.block.len() == BLOCK {
                let hash = crypto::sha256(&here.block);
                here.block.clear();
                here.full = here.full.saturating_add(1);
                self.push(level.saturating_add(1), &hash);
            }
        }
    }

    /// Pads what is left of each level from below; the root is the hash of the level that is one block.
    fn root(&mut self) -> [u8; HASH] {
        let mut level = 0;
        loop {
            let Some(here) = self.levels.get_mut(level) else {
                return [0; HASH];
            };
            let last = if here.block.is_empty() {
                None
            } else {
                here.block.resize(BLOCK, 0);
                Some(crypto::sha256(&here.block))
            };
            let full = here.full;
            here.block.clear();
            match last {
                // Everything of this level fits into one block: its hash is the root.
                Some(hash) if full == 0 => return hash,
                Some(hash) => self.push(level.saturating_add(1), &hash),
                None if full == 1 => {
                    // One full block: its hash waits alone in the level above.
                    let above = self.levels.get(level.saturating_add(1));
                    let hash = above.and_then(|above| above.block.first_chunk::<HASH>());
                    return hash.copied().unwrap_or([0; HASH]);
                }
                None => {}
            }
            level = level.saturating_add(1);
        }
    }
}

/// The digest of a whole file.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    let mut verity = Verity::new();
    verity.update(bytes);
    verity.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition, level by level, without streaming.
    fn by_definition(bytes: &[u8]) -> Digest {
        let mut level: Vec<u8> = bytes.to_vec();
        let mut root = [0; 32];
        while !level.is_empty() {
            let hashes: Vec<[u8; 32]> = level
                .chunks(BLOCK)
                .map(|chunk| {
                    let mut block = chunk.to_vec();
                    block.resize(BLOCK, 0);
                    crypto::sha256(&block)
                })
                .collect();
            if let [only] = hashes.as_slice() {
                root = *only;
                break;
            }
            level = hashes.concat();
        }
        let mut descriptor = vec![1, 1, 12, 0, 0, 0, 0, 0];
        descriptor.extend(u64::try_from(bytes.len()).unwrap().to_le_bytes());
        descriptor.extend(root);
        descriptor.resize(256, 0);
        Digest::of(&descriptor)
    }

    #[test]
    fn the_stream_is_the_definition_at_every_edge() {
        let edges = [
            0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 524_287, 524_288, 524_289, 528_384,
            1_048_576, 1_300_000,
        ];
        for length in edges {
            let bytes: Vec<u8> = (0..length)
                .map(|n: u32| n.to_le_bytes()[0] ^ 0x5a)
                .collect();
            let mut verity = Verity::new();
            for piece in bytes.chunks(1021) {
                verity.update(piece);
            }
            assert_eq!(verity.finish(), by_definition(&bytes), "{length}");
        }
    }
}
