//! Proofs that a subtree, `D[start:end]`, is that of a tree: draft-ietf-plants-merkle-tree-certs-03,
//! sections 4.1 and 4.4. Mirrors of a log are asked for them; a consistency proof is the case of `start` 0.

use super::{Hash, NodeReader, ProofError, node_hash, range_hash, same_old_root, split};

/// True if `D[start:end]` is a subtree: not empty, and `start` a multiple of the power of two at or above its
/// length.
#[must_use]
pub const fn is_subtree(start: u64, end: u64) -> bool {
    if start >= end {
        return false;
    }
    match (end - start).checked_next_power_of_two() {
        Some(unit) => start.is_multiple_of(unit),
        None => start == 0,
    }
}

/// `MTH(D[start:end])`; `None` if that is no subtree.
pub fn subtree_hash<R: NodeReader>(
    start: u64,
    end: u64,
    reader: &R,
) -> Result<Option<Hash>, R::Error> {
    if !is_subtree(start, end) {
        return Ok(None);
    }
    range_hash(start, end, reader).map(Some)
}

/// `SUBTREE_PROOF(start, end, D[0:size])`; `None` if the tree has no such subtree.
pub fn subtree_proof<R: NodeReader>(
    start: u64,
    end: u64,
    size: u64,
    reader: &R,
) -> Result<Option<Vec<Hash>>, R::Error> {
    if !is_subtree(start, end) || end > size {
        return Ok(None);
    }
    let (mut low, mut high) = (0, size);
    let mut proof = Vec::new();
    // Whether the verifier knows the hash where it ends up.
    let mut known = true;
    while high != end || low < start {
        let middle = low + split(high - low);
        if end <= middle {
            proof.push(range_hash(middle, high, reader)?);
            high = middle;
        } else {
            known &= start >= middle;
            proof.push(range_hash(low, middle, reader)?);
            low = middle;
        }
    }
    if !known {
        proof.push(range_hash(low, high, reader)?);
    }
    proof.reverse();
    Ok(Some(proof))
}

/// Checks that `hash` is that of the subtree `D[start:end]` of the tree of `size` records with `root`.
pub fn verify_subtree(
    (start, end): (u64, u64),
    hash: &Hash,
    size: u64,
    root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if !is_subtree(start, end) || end > size {
        return Err(ProofError::Subtree { start, end, size });
    }
    let wrong_length = || ProofError::Length { found: proof.len() };
    let (mut first, mut last, mut tree) = (start, end - 1, size - 1);
    // Up to the largest complete subtree that ends where the subtree does.
    let up = if last == tree {
        // The whole right edge: up to where it is one node.
        64 - (first ^ last).leading_zeros()
    } else {
        last.trailing_ones()
            .min(64 - (first ^ last).leading_zeros())
    };
    (first, last, tree) = (shift(first, up), shift(last, up), shift(tree, up));
    let (begin, rest) = if first == last {
        (*hash, proof)
    } else {
        let (begin, rest) = proof.split_first().ok_or_else(wrong_length)?;
        (*begin, rest)
    };
    let (mut inner, mut outer) = (begin, begin);
    for sibling in rest {
        if tree == 0 {
            return Err(wrong_length());
        }
        if last & 1 == 1 || last == tree {
            if first < last {
                inner = node_hash(sibling, &inner);
            }
            outer = node_hash(sibling, &outer);
            let up = if last == 0 { 0 } else { last.trailing_zeros() };
            (first, last, tree) = (first >> up, last >> up, tree >> up);
        } else {
            outer = node_hash(&outer, sibling);
        }
        (first, last, tree) = (first >> 1, last >> 1, tree >> 1);
    }
    if tree != 0 {
        return Err(wrong_length());
    }
    same_old_root(hash, inner)?;
    if outer == *root {
        Ok(())
    } else {
        Err(ProofError::Root {
            expected: *root,
            found: outer,
        })
    }
}

/// All bits may go.
const fn shift(number: u64, by: u32) -> u64 {
    match number.checked_shr(by) {
        Some(number) => number,
        None => 0,
    }
}
