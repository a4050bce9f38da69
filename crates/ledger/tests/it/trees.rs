//! The tree against the recursive definition of RFC 6962, and proofs against small changes.

use crate::support::{Memory, SERVER, naive_root};
use ledger::merkle::{
    Frontier, Hash, Node, consistency_proof, inclusion_proof, is_subtree, leaf_hash, root,
    root_from_inclusion, subtree_hash, subtree_proof, verify_consistency, verify_inclusion,
    verify_subtree,
};
use ledger::tile::{Kind, TilePath, TileReader, WIDTH};
use proptest::prelude::*;

fn tree(size: u64) -> (Memory, Vec<Hash>) {
    let mut ledger = Memory::new(SERVER, 1);
    for n in 0..size {
        ledger.append_bytes(n.to_be_bytes().to_vec());
    }
    let leaves = ledger.records.iter().map(|record| leaf_hash(record));
    let leaves = leaves.collect();
    (ledger, leaves)
}

#[test]
fn proofs_of_all_small_trees_verify_and_nothing_near_them_does() {
    let (ledger, leaves) = tree(40);
    for size in 0..=40_u64 {
        let new_root = naive_root(&leaves[..size as usize]);
        let Ok(found) = root(size, &ledger);
        assert_eq!(found, new_root);
        for old in 0..=size {
            let old_root = naive_root(&leaves[..old as usize]);
            let Ok(proof) = consistency_proof(old, size, &ledger);
            let proof = proof.unwrap();
            verify_consistency(old, &old_root, size, &new_root, &proof).unwrap();
            for wrong in near(&proof) {
                assert!(verify_consistency(old, &old_root, size, &new_root, &wrong).is_err());
            }
            assert!(verify_consistency(old, &[9; 32], size, &new_root, &proof).is_err());
            if old > 0 {
                assert!(verify_consistency(old, &old_root, size, &[9; 32], &proof).is_err());
            }
        }
        for index in 0..size {
            let leaf = leaves[index as usize];
            let Ok(proof) = inclusion_proof(index, size, &ledger);
            let proof = proof.unwrap();
            verify_inclusion(&leaf, index, size, &proof, &new_root).unwrap();
            for wrong in near(&proof) {
                assert!(verify_inclusion(&leaf, index, size, &wrong, &new_root).is_err());
            }
            for other in 0..size + 2 {
                let verified = verify_inclusion(&leaf, other, size, &proof, &new_root).is_ok();
                assert_eq!(verified, other == index);
            }
        }
    }
}

/// draft-ietf-plants-merkle-tree-certs-03, section 4.1: "start MUST be a multiple of BIT_CEIL(end - start)".
#[test]
fn subtrees_of_all_small_trees_verify_and_nothing_near_them_does() {
    let (ledger, leaves) = tree(34);
    for size in 0..=34_u64 {
        let whole = naive_root(&leaves[..size as usize]);
        for (start, end) in (0..=size).flat_map(|start| (0..=size).map(move |end| (start, end))) {
            let valid = start < end && start % (end - start).next_power_of_two() == 0;
            assert_eq!(is_subtree(start, end), valid);
            let Ok(proof) = subtree_proof(start, end, size, &ledger);
            let Ok(hash) = subtree_hash(start, end, &ledger);
            let (Some(proof), Some(hash)) = (proof, hash) else {
                assert!(!valid);
                continue;
            };
            assert!(valid);
            assert_eq!(hash, naive_root(&leaves[start as usize..end as usize]));
            if start == 0 {
                let Ok(consistency) = consistency_proof(end, size, &ledger);
                assert_eq!(Some(&proof), consistency.as_ref());
            }
            let subtree = (start, end);
            verify_subtree(subtree, &hash, size, &whole, &proof).unwrap();
            for wrong in near(&proof) {
                assert!(verify_subtree(subtree, &hash, size, &whole, &wrong).is_err());
            }
            assert!(verify_subtree(subtree, &[9; 32], size, &whole, &proof).is_err());
            assert!(verify_subtree(subtree, &hash, size, &[9; 32], &proof).is_err());
            // The same hash elsewhere in the tree.
            for moved in [(end, 2 * end - start), (0, end - start)] {
                if moved != subtree {
                    assert!(verify_subtree(moved, &hash, size, &whole, &proof).is_err());
                }
            }
        }
        let Ok(beyond) = subtree_proof(0, size + 1, size, &ledger);
        assert_eq!(beyond, None);
        let refused = verify_subtree((0, size + 1), &whole, size, &whole, &[]).unwrap_err();
        assert_eq!(ledger::Code::code(&refused), "LEDGER-PROOF-SUBTREE");
    }
}

/// A hash changed, one missing, one too many.
fn near(proof: &[Hash]) -> Vec<Vec<Hash>> {
    let mut wrong = Vec::new();
    for at in 0..proof.len() {
        let mut changed = proof.to_vec();
        changed[at][at % 32] ^= 1;
        wrong.push(changed);
        let mut shorter = proof.to_vec();
        shorter.remove(at);
        wrong.push(shorter);
    }
    let mut longer = proof.to_vec();
    longer.push([0; 32]);
    wrong.push(longer);
    wrong
}

#[test]
fn tiles_hold_the_nodes_of_the_tree() {
    let size = 70_000;
    let (ledger, _leaves) = tree(size);
    let fetch = |path: &TilePath| {
        let Kind::Hashes(level) = path.kind else {
            return None;
        };
        let first = path.index * WIDTH;
        let hashes = (first..first + u64::from(path.width())).map(|index| {
            let level = level * 8;
            let Ok(hash) = ledger::NodeReader::node(&ledger, Node { level, index });
            hash
        });
        Some(hashes.collect::<Vec<_>>().concat())
    };
    let tiles = TileReader::new(size, fetch);
    assert_eq!(root(size, &tiles).unwrap(), ledger.checkpoint().root);
    for index in [0, 1, 255, 256, 65_535, 65_536, 69_999] {
        let Ok(expected) = inclusion_proof(index, size, &ledger);
        assert_eq!(inclusion_proof(index, size, &tiles).unwrap(), expected);
    }
    ledger::tile::check::check(&ledger.checkpoint(), false, fetch).unwrap();
}

proptest! {
    #[test]
    fn a_frontier_goes_on_where_it_was_left(size in 0_u64..3000, more in 0_u64..300) {
        let (ledger, leaves) = tree(size + more);
        let Ok(mut frontier) = Frontier::read(size, &ledger);
        let peaks = frontier.peaks().to_vec();
        prop_assert_eq!(Frontier::from_peaks(size, peaks), Some(frontier.clone()));
        for leaf in &leaves[size as usize..] {
            frontier.push(*leaf);
        }
        prop_assert_eq!(frontier.root(), naive_root(&leaves));
    }

    #[test]
    fn proofs_of_large_numbers_do_not_panic(
        index: u64,
        size: u64,
        proof in prop::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let root = [1; 32];
        prop_assert!(verify_inclusion(&root, index, size, &proof, &[2; 32]).is_err());
        if index != size {
            prop_assert!(verify_consistency(index, &root, size, &[2; 32], &proof).is_err());
        }
        drop(root_from_inclusion(&root, index, size, &proof));
        drop(verify_subtree((index & (index >> 1), index), &root, size, &[2; 32], &proof));
        drop(verify_subtree((0, index), &root, size, &[2; 32], &proof));
        drop(verify_subtree((0, size), &root, size, &[2; 32], &proof));
    }
}
