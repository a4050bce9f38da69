//! All that the server's entries state of gateways' ledgers: the anchor that a checkpoint rests on is one of them, and
//! the others have to be of the same history.

use super::container::Section;
use super::verify::Failure;
use crate::NewestAnchors;
use crate::body::Anchor;
use crate::merkle::{Frontier, Hash, leaf_hash};
use std::collections::BTreeMap;

/// An anchor among the server's entries.
pub(super) struct Stated {
    pub(super) index: u64,
    pub(super) origin: String,
    pub(super) size: u64,
    root: Hash,
    /// SPKI.
    key: Vec<u8>,
}

impl Stated {
    pub(super) fn new(index: u64, anchor: Anchor) -> Self {
        Self {
            index,
            origin: anchor.origin,
            size: anchor.size.0,
            root: anchor.root.0,
            key: anchor.ledger_key.0,
        }
    }
}

/// A ledger of the pack with all of its entries, as it grew.
pub(super) struct Tree<'a> {
    size: u64,
    left: Box<dyn Iterator<Item = &'a [u8]> + 'a>,
    frontier: Frontier,
}

impl<'a> Tree<'a> {
    /// Of `size` records, which are `entries`.
    pub(super) fn new(size: u64, entries: Box<dyn Iterator<Item = &'a [u8]> + 'a>) -> Self {
        Self {
            size,
            left: entries,
            frontier: Frontier::new(),
        }
    }

    /// Whether the first `size` records have this root; no fewer than were asked about before. True where there are not
    /// so many.
    fn had(&mut self, size: u64, root: &Hash) -> bool {
        if size > self.size {
            return true;
        }
        while self.frontier.size() < size
            && let Some(entry) = self.left.next()
        {
            self.frontier.push(leaf_hash(entry));
        }
        self.frontier.size() == size && self.frontier.root() == *root
    }
}

/// The newest anchor of each ledger, by the name of its first log. `anchors` are in order.
///
/// INVARIANT: a ledger has one key. Whoever leaves out what an earlier anchor states leaves it in the server's entries.
pub(super) fn newest<'a>(
    anchors: impl Iterator<Item = &'a Stated>,
    mut trees: BTreeMap<&str, Tree<'_>>,
) -> Result<NewestAnchors<&'a Stated>, Failure> {
    let mut newest = NewestAnchors::default();
    let mut keys: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for anchor in anchors {
        let wrong = |message: &str| {
            let (checkpoint, index) = (0, anchor.index);
            let section = Section::Record { checkpoint, index };
            Err(Failure::at(&section, "PACK-ANCHOR", message))
        };
        if *keys.entry(&anchor.origin).or_insert(&anchor.key) != anchor.key {
            return wrong("an anchor of this ledger before it states another key");
        }
        let before: Option<&Stated> = newest.put(&anchor.origin, anchor);
        if before.is_some_and(|before| before.size > anchor.size) {
            return wrong("an anchor of this ledger before it states more records");
        }
        let tree = trees.get_mut(crate::line(&anchor.origin));
        if tree.is_some_and(|tree| !tree.had(anchor.size, &anchor.root)) {
            return wrong("its ledger's records in the pack lead to another root");
        }
    }
    Ok(newest)
}
