//! The Merkle tree of RFC 6962, section 2.1, with SHA-256: hashing, an incremental frontier, proofs.
//!
//! Proofs are built from a [`NodeReader`] and checked with the algorithms of RFC 9162. Where nodes
//! are kept (tiles, segments, memory) is the reader's business.

mod subtree;

pub use subtree::{is_subtree, subtree_hash, subtree_proof, verify_subtree};

use crate::Code;
use crypto::{Sha256, sha256};
use thiserror::Error;

/// SHA-256.
pub type Hash = [u8; 32];

/// Hashes of an inclusion or consistency proof, at most.
pub const MAX_PROOF: usize = 64;

/// `MTH(D[index << level : (index + 1) << level])`, a complete subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    pub level: u8,
    pub index: u64,
}

/// Where a tree keeps its nodes.
pub trait NodeReader {
    type Error;

    /// Asked only for complete subtrees of the tree that a proof is built for.
    fn node(&self, node: Node) -> Result<Hash, Self::Error>;
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofError {
    #[error("there is no record {index} in a ledger of {size} records")]
    Index { index: u64, size: u64 },
    #[error("a ledger of {new} records cannot extend one of {old}")]
    Sizes { old: u64, new: u64 },
    #[error("a ledger of {size} records has no subtree of the records {start} to {end}")]
    Subtree { start: u64, end: u64, size: u64 },
    #[error("the proof has {found} hashes, which is not what these sizes need")]
    Length { found: usize },
    #[error("the proof leads to another root than the checkpoint's")]
    Root { expected: Hash, found: Hash },
    #[error("the proof leads to another root than the older checkpoint's")]
    OldRoot { expected: Hash, found: Hash },
}

impl Code for ProofError {
    fn code(&self) -> &'static str {
        match self {
            Self::Index { .. } => "LEDGER-PROOF-INDEX",
            Self::Sizes { .. } => "LEDGER-PROOF-SIZES",
            Self::Subtree { .. } => "LEDGER-PROOF-SUBTREE",
            Self::Length { .. } => "LEDGER-PROOF-LENGTH",
            Self::Root { .. } => "LEDGER-PROOF-ROOT",
            Self::OldRoot { .. } => "LEDGER-PROOF-OLD-ROOT",
        }
    }
}

/// "MTH({d(0)}) = SHA-256(0x00 || d(0))."
#[must_use]
pub fn leaf_hash(record: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(&[0]);
    hash.update(record);
    hash.finish()
}

/// "MTH(D[n]) = SHA-256(0x01 || MTH(D[0:k]) || MTH(D[k:n]))".
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1_u8; 65];
    let (into_left, into_right) = bytes.split_at_mut(33);
    if let Some(into_left) = into_left.get_mut(1..) {
        into_left.copy_from_slice(left);
    }
    into_right.copy_from_slice(right);
    sha256(&bytes)
}

/// "The hash of an empty list is the hash of an empty string".
#[must_use]
pub fn empty_root() -> Hash {
    sha256(b"")
}

/// Root of a perfect tree over `hashes`, whose number is a power of two; `None` otherwise.
#[must_use]
pub fn perfect_root(hashes: &[Hash]) -> Option<Hash> {
    if !hashes.len().is_power_of_two() {
        return None;
    }
    let mut level = hashes.to_vec();
    while level.len() > 1 {
        level = pairs(&level).collect();
    }
    level.first().copied()
}

fn pairs(level: &[Hash]) -> impl Iterator<Item = Hash> {
    level.chunks_exact(2).filter_map(|pair| match pair {
        [left, right] => Some(node_hash(left, right)),
        _ => None,
    })
}

/// The right edge of a tree: the complete subtrees that its size decomposes into. All that is
/// needed to append and to know the root.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    /// From the largest, leftmost one on; one a set bit of `size`.
    peaks: Vec<Hash>,
}

impl Frontier {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            size: 0,
            peaks: Vec::new(),
        }
    }

    /// From stored peaks. The caller checks the root against a checkpoint.
    #[must_use]
    pub fn from_peaks(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        let expected = usize::try_from(size.count_ones()).ok()?;
        (peaks.len() == expected).then_some(Self { size, peaks })
    }

    /// The frontier of the tree of `size` records that `reader` holds.
    pub fn read<R: NodeReader>(size: u64, reader: &R) -> Result<Self, R::Error> {
        let peaks = peak_nodes(size).map(|node| reader.node(node));
        let peaks = peaks.collect::<Result<_, _>>()?;
        Ok(Self { size, peaks })
    }

    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// The peak at `node`, if it is one.
    #[must_use]
    pub fn peak(&self, node: Node) -> Option<Hash> {
        let at = peak_nodes(self.size).position(|peak| peak == node)?;
        self.peaks.get(at).copied()
    }

    /// Appends a leaf.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_node, _hash| ());
    }

    /// Appends a leaf; `completed` sees each subtree that it completes, the leaf first.
    pub fn push_with(&mut self, leaf: Hash, mut completed: impl FnMut(Node, Hash)) {
        let mut node = Node {
            level: 0,
            index: self.size,
        };
        let mut hash = leaf;
        completed(node, hash);
        while node.index & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            node = Node {
                level: node.level + 1,
                index: node.index >> 1,
            };
            completed(node, hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty_root();
        };
        peaks.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The complete subtrees that a tree of `size` leaves decomposes into, the largest first.
pub fn peak_nodes(size: u64) -> impl Iterator<Item = Node> {
    (0..64_u8).rev().filter_map(move |level| {
        let after = size >> level;
        (after & 1 == 1).then(|| Node {
            level,
            index: after - 1,
        })
    })
}

/// `MTH(D[0:size])`.
pub fn root<R: NodeReader>(size: u64, reader: &R) -> Result<Hash, R::Error> {
    Ok(Frontier::read(size, reader)?.root())
}

/// `PATH(index, D[0:size])`, the leaf's sibling first. `None` if there is no such record.
pub fn inclusion_proof<R: NodeReader>(
    index: u64,
    size: u64,
    reader: &R,
) -> Result<Option<Vec<Hash>>, R::Error> {
    if index >= size {
        return Ok(None);
    }
    let (mut low, mut high) = (0, size);
    let mut proof = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range_hash(middle, high, reader)?);
            high = middle;
        } else {
            proof.push(range_hash(low, middle, reader)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(Some(proof))
}

/// `PROOF(old, D[0:new])`; empty for `old` 0. `None` if `old` is larger than `new`.
pub fn consistency_proof<R: NodeReader>(
    old: u64,
    new: u64,
    reader: &R,
) -> Result<Option<Vec<Hash>>, R::Error> {
    if old > new {
        return Ok(None);
    }
    if old == 0 {
        return Ok(Some(Vec::new()));
    }
    let (mut low, mut high) = (0, new);
    let mut proof = Vec::new();
    while high != old {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range_hash(middle, high, reader)?);
            high = middle;
        } else {
            proof.push(range_hash(low, middle, reader)?);
            low = middle;
        }
    }
    if low > 0 {
        proof.push(range_hash(low, high, reader)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Largest power of two below `length`, which is at least 2.
const fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// `MTH(D[low:high])` where `low` is a multiple of the power of two at or above `high - low`.
fn range_hash<R: NodeReader>(low: u64, high: u64, reader: &R) -> Result<Hash, R::Error> {
    // The complete subtrees of D[low:high] are those of a tree of its length, moved by `low`.
    let nodes = peak_nodes(high - low).map(|node| Node {
        level: node.level,
        index: node.index + (low >> node.level),
    });
    let hashes: Vec<Hash> = nodes
        .map(|node| reader.node(node))
        .collect::<Result<_, _>>()?;
    let mut from_right = hashes.iter().rev();
    let last = from_right.next().copied().unwrap_or_else(empty_root);
    Ok(from_right.fold(last, |right, left| node_hash(left, &right)))
}

/// RFC 9162, section 2.1.3.2: the root that `proof` leads to from `leaf`.
pub fn root_from_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
) -> Result<Hash, ProofError> {
    if index >= size {
        return Err(ProofError::Index { index, size });
    }
    let wrong_length = || ProofError::Length { found: proof.len() };
    let (mut node, mut last) = (index, size - 1);
    let mut root = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(wrong_length());
        }
        if node & 1 == 1 || node == last {
            root = node_hash(sibling, &root);
            let up = if node == 0 { 0 } else { node.trailing_zeros() };
            node >>= up;
            last >>= up;
        } else {
            root = node_hash(&root, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 {
        Ok(root)
    } else {
        Err(wrong_length())
    }
}

/// Checks that `leaf` is record `index` of the tree of `size` records with `root`.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let found = root_from_inclusion(leaf, index, size, proof)?;
    if found == *root {
        Ok(())
    } else {
        let expected = *root;
        Err(ProofError::Root { expected, found })
    }
}

/// RFC 9162, section 2.1.4.2: checks that the tree (`new`, `new_root`) extends (`old`, `old_root`).
pub fn verify_consistency(
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::Sizes { old, new });
    }
    let wrong_length = ProofError::Length { found: proof.len() };
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(wrong_length);
        }
        let reached = if old == 0 { empty_root() } else { *new_root };
        return same_old_root(old_root, reached);
    }
    // "If first is an exact power of 2, then prepend first_hash to the consistency_path array."
    let (start, rest) = if old.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or(wrong_length.clone())?;
        (*first, rest)
    };
    let up = (old - 1).trailing_ones();
    let (mut node, mut last) = ((old - 1) >> up, (new - 1) >> up);
    let (mut old_found, mut new_found) = (start, start);
    for sibling in rest {
        if last == 0 {
            return Err(wrong_length);
        }
        if node & 1 == 1 || node == last {
            old_found = node_hash(sibling, &old_found);
            new_found = node_hash(sibling, &new_found);
            let up = if node == 0 { 0 } else { node.trailing_zeros() };
            node >>= up;
            last >>= up;
        } else {
            new_found = node_hash(&new_found, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(wrong_length);
    }
    same_old_root(old_root, old_found)?;
    if new_found == *new_root {
        Ok(())
    } else {
        Err(ProofError::Root {
            expected: *new_root,
            found: new_found,
        })
    }
}

fn same_old_root(expected: &Hash, found: Hash) -> Result<(), ProofError> {
    if found == *expected {
        Ok(())
    } else {
        let expected = *expected;
        Err(ProofError::OldRoot { expected, found })
    }
}
