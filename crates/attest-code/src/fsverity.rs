//! fs-verity digests, computed from a file's bytes: what the kernel measures of a file with a Merkle tree and
//! what an IPE rule names (Linux, Documentation/filesystems/fsverity.rst). Blocks of 4096 bytes, no salt.

use crypto::chain::Hash;
use facts::Finding;

const BLOCK: usize = 4096;
const LOG2_BLOCK: u8 = 12;

/// The hash of a Merkle tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FsVerityAlgorithm {
    Sha256,
    Sha512,
}

/// An fs-verity digest. Shown and read as the kernel writes it: `sha256:` and hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FsVerityDigest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl FsVerityAlgorithm {
    const fn hash(self) -> Hash {
        match self {
            Self::Sha256 => Hash::Sha256,
            Self::Sha512 => Hash::Sha512,
        }
    }

    /// `FS_VERITY_HASH_ALG_…` of <linux/fsverity.h>.
    const fn number(self) -> u8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    fn wrap(self, digest: &[u8]) -> FsVerityDigest {
        // INVARIANT: digests have the length of their hash.
        match self {
            Self::Sha256 => FsVerityDigest::Sha256(digest.try_into().unwrap_or([0; 32])),
            Self::Sha512 => FsVerityDigest::Sha512(digest.try_into().unwrap_or([0; 64])),
        }
    }
}

impl FsVerityDigest {
    /// Reads a file through `read`, which fills the start of what it is given and says how much, zero at the
    /// end, as [`std::io::Read::read`] does.
    ///
    /// # Errors
    /// The reader's.
    pub fn compute<E>(
        algorithm: FsVerityAlgorithm,
        mut read: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let mut tree = Tree::new(algorithm.hash());
        let mut block = vec![0; BLOCK];
        let mut size = 0_u64;
        loop {
            let filled = fill(&mut block, &mut read)?;
            if filled == 0 {
                break;
            }
            size = size.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX));
            block.get_mut(filled..).unwrap_or_default().fill(0);
            tree.data(&block);
            if filled < BLOCK {
                break;
            }
        }
        let descriptor = descriptor(algorithm, size, &tree.root());
        Ok(algorithm.wrap(&algorithm.hash().digest(&descriptor)))
    }

    /// Of bytes in memory.
    #[must_use]
    pub fn of_bytes(algorithm: FsVerityAlgorithm, mut bytes: &[u8]) -> Self {
        let read = |into: &mut [u8]| -> Result<usize, std::convert::Infallible> {
            let length = bytes.len().min(into.len());
            let (now, rest) = bytes.split_at(length);
            into.get_mut(..length)
                .unwrap_or_default()
                .copy_from_slice(now);
            bytes = rest;
            Ok(length)
        };
        let Ok(digest) = Self::compute(algorithm, read);
        digest
    }

    /// Reads `sha256:` or `sha512:` and lower-case hexadecimal.
    ///
    /// # Errors
    /// `CODE-FSVERITY`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        let parsed = || {
            let (name, digits) = text.split_once(':')?;
            let algorithm = match name {
                "sha256" => FsVerityAlgorithm::Sha256,
                "sha512" => FsVerityAlgorithm::Sha512,
                _ => return None,
            };
            let bytes = crypto::hex::decode(digits).ok()?;
            let whole = bytes.len() == algorithm.hash().length();
            let lower = !digits.bytes().any(|digit| digit.is_ascii_uppercase());
            (whole && lower).then(|| algorithm.wrap(&bytes))
        };
        parsed().ok_or_else(|| {
            Finding::new("CODE-FSVERITY", "not an fs-verity digest")
                .expected("sha256: or sha512: and lower-case hexadecimal")
                .observed(text.chars().take(160).collect::<String>())
        })
    }

    /// As the kernel gives it: `FS_VERITY_HASH_ALG_…` and the bytes. `None` for an algorithm that is not one
    /// of these, or another length.
    #[must_use]
    pub fn measured(algorithm: u16, digest: &[u8]) -> Option<Self> {
        let algorithms = [FsVerityAlgorithm::Sha256, FsVerityAlgorithm::Sha512];
        let algorithm = algorithms
            .into_iter()
            .find(|known| u16::from(known.number()) == algorithm)?;
        (digest.len() == algorithm.hash().length()).then(|| algorithm.wrap(digest))
    }

    #[must_use]
    pub const fn algorithm(&self) -> FsVerityAlgorithm {
        match self {
            Self::Sha256(_) => FsVerityAlgorithm::Sha256,
            Self::Sha512(_) => FsVerityAlgorithm::Sha512,
        }
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }
}

impl std::fmt::Display for FsVerityDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Sha256(_) => "sha256",
            Self::Sha512(_) => "sha512",
        };
        write!(f, "{name}:{}", crypto::hex::encode(self.as_bytes()))
    }
}

/// Reads until the block is full or the file ends.
fn fill<E>(
    block: &mut [u8],
    read: &mut impl FnMut(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let room = rest.len();
        let count = read(rest)?;
        if count == 0 {
            break;
        }
        filled += count.min(room);
    }
    Ok(filled)
}

/// The right edge of the tree: at each level the hashes of the block that is not full yet.
struct Tree {
    hash: Hash,
    levels: Vec<Vec<u8>>,
}

impl Tree {
    const fn new(hash: Hash) -> Self {
        Self {
            hash,
            levels: Vec::new(),
        }
    }

    fn data(&mut self, block: &[u8]) {
        let digest = self.hash.digest(block);
        self.push(0, &digest);
    }

    fn push(&mut self, level: usize, digest: &[u8]) {
        if self.levels.len() == level {
            self.levels.push(Vec::with_capacity(BLOCK));
        }
        let Some(hashes) = self.levels.get_mut(level) else {
            return;
        };
        hashes.extend_from_slice(digest);
        if hashes.len() == BLOCK {
            let digest = self.hash.digest(hashes);
            hashes.clear();
            self.push(level + 1, &digest);
        }
    }

    /// "For an empty file … the root hash is all zeroes"; that of a file of one block is the block's.
    fn root(mut self) -> Vec<u8> {
        let one = self.hash.length();
        let mut level = 0;
        while level < self.levels.len() {
            let top = level + 1 == self.levels.len();
            let hashes = self.levels.get(level).cloned().unwrap_or_default();
            if top && hashes.len() == one {
                return hashes;
            }
            if !hashes.is_empty() {
                let mut block = hashes;
                block.resize(BLOCK, 0);
                let digest = self.hash.digest(&block);
                self.push(level + 1, &digest);
            }
            level += 1;
        }
        vec![0; one]
    }
}

/// `struct fsverity_descriptor`: 256 bytes, little-endian.
fn descriptor(algorithm: FsVerityAlgorithm, size: u64, root: &[u8]) -> Vec<u8> {
    const VERSION: u8 = 1;
    const SALT_SIZE: u8 = 0;
    const LENGTH: usize = 256;
    let mut bytes = Vec::with_capacity(LENGTH);
    bytes.extend([VERSION, algorithm.number(), LOG2_BLOCK, SALT_SIZE]);
    bytes.extend([0; 4]);
    bytes.extend(size.to_le_bytes());
    bytes.extend(root);
    bytes.resize(LENGTH, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_depend_on_the_pieces() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect();
        let whole = FsVerityDigest::of_bytes(FsVerityAlgorithm::Sha256, &bytes);
        for piece in [1, 7, BLOCK - 1, BLOCK, BLOCK + 1] {
            let mut rest = bytes.as_slice();
            let read = |into: &mut [u8]| -> Result<usize, ()> {
                let length = rest.len().min(into.len()).min(piece);
                into[..length].copy_from_slice(&rest[..length]);
                rest = &rest[length..];
                Ok(length)
            };
            let found = FsVerityDigest::compute(FsVerityAlgorithm::Sha256, read);
            assert_eq!(found, Ok(whole), "{piece}");
        }
    }

    #[test]
    fn a_reader_that_fails_gives_no_digest() {
        let mut calls = 0;
        let read = |_: &mut [u8]| {
            calls += 1;
            if calls > 2 { Err("broken") } else { Ok(BLOCK) }
        };
        assert_eq!(
            FsVerityDigest::compute(FsVerityAlgorithm::Sha256, read),
            Err("broken")
        );
    }

    #[test]
    fn what_the_kernel_measured_is_taken_only_whole() {
        let digest = FsVerityDigest::of_bytes(FsVerityAlgorithm::Sha512, b"x");
        let bytes = digest.as_bytes();
        assert_eq!(FsVerityDigest::measured(2, bytes), Some(digest));
        assert_eq!(FsVerityDigest::measured(1, bytes), None);
        assert_eq!(FsVerityDigest::measured(3, bytes), None);
        assert_eq!(FsVerityDigest::measured(2, &bytes[1..]), None);
    }

    #[test]
    fn a_digest_is_read_as_it_is_shown() {
        for algorithm in [FsVerityAlgorithm::Sha256, FsVerityAlgorithm::Sha512] {
            let digest = FsVerityDigest::of_bytes(algorithm, b"x");
            assert_eq!(FsVerityDigest::parse(&digest.to_string()), Ok(digest));
            let upper = digest.to_string().to_uppercase();
            assert!(FsVerityDigest::parse(&upper).is_err());
        }
        for text in ["", "sha256:", "sha256:00", "sha1:00", "sha512:", "é"] {
            assert!(FsVerityDigest::parse(text).is_err(), "{text}");
        }
    }
}
