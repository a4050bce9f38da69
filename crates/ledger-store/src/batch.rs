//! One commit: its frame, and every node of the tree that it completes. Receipts for its records
//! are made from it alone, in the thread of whoever wants one.

use crate::frame::FrameBuilder;
use ledger::merkle::{self, Hash, Node, NodeReader};
use ledger::{Checkpoint, Frontier, Receipt};
use std::ops::Range;
use std::sync::Arc;

/// Records that are being put together; the tree grows along.
pub(crate) struct BatchBuilder {
    frame: FrameBuilder,
    ranges: Vec<Range<usize>>,
    before: Frontier,
    after: Frontier,
    /// Nodes completed by this batch, by level; the first of level k has the index
    /// `before.size() >> k`.
    levels: Vec<Vec<Hash>>,
}

impl BatchBuilder {
    pub(crate) fn new(before: Frontier, capacity: usize) -> Self {
        Self {
            frame: FrameBuilder::new(before.size(), capacity),
            ranges: Vec::new(),
            after: before.clone(),
            before,
            levels: vec![Vec::new()],
        }
    }

    /// Adds the record that `write` appends to its buffer.
    pub(crate) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let range = self.frame.record(write);
        let leaf = merkle::leaf_hash(self.frame.get(range.clone()));
        self.ranges.push(range);
        let levels = &mut self.levels;
        self.after.push_with(leaf, |node, hash| {
            let level = usize::from(node.level);
            if level == levels.len() {
                levels.push(Vec::new());
            }
            if let Some(nodes) = levels.get_mut(level) {
                nodes.push(hash);
            }
        });
    }

    pub(crate) const fn after(&self) -> &Frontier {
        &self.after
    }

    pub(crate) fn finish(self, checkpoint: Checkpoint, note: &str) -> Batch {
        let leaves = self.levels.first().map(Vec::as_slice).unwrap_or_default();
        Batch {
            bytes: self.frame.finish(leaves, note),
            ranges: self.ranges,
            before: self.before,
            after: self.after,
            levels: self.levels,
            checkpoint,
            note: note.into(),
        }
    }
}

pub(crate) struct Batch {
    /// The frame.
    pub(crate) bytes: Vec<u8>,
    ranges: Vec<Range<usize>>,
    before: Frontier,
    pub(crate) after: Frontier,
    pub(crate) levels: Vec<Vec<Hash>>,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: Arc<str>,
}

impl Batch {
    pub(crate) const fn first(&self) -> u64 {
        self.before.size()
    }

    pub(crate) fn record(&self, at: usize) -> &[u8] {
        let range = self.ranges.get(at).cloned().unwrap_or_default();
        self.bytes.get(range).unwrap_or_default()
    }

    pub(crate) fn receipt(&self, at: usize) -> Receipt {
        let index = self.first() + at as u64;
        let proof = merkle::inclusion_proof(index, self.after.size(), self);
        Receipt {
            record: self.record(at).to_vec(),
            index,
            // INVARIANT: the batch has every node of the path of each of its records.
            proof: proof.ok().flatten().unwrap_or_default(),
            checkpoint: self.note.as_ref().to_owned(),
        }
    }
}

/// Siblings on the path of a record of this batch were completed by it, or are peaks before it.
impl NodeReader for Batch {
    type Error = Node;

    fn node(&self, node: Node) -> Result<Hash, Node> {
        let completed = || {
            let first = self.before.size() >> node.level;
            let at = usize::try_from(node.index.checked_sub(first)?).ok()?;
            self.levels.get(usize::from(node.level))?.get(at).copied()
        };
        completed().or_else(|| self.before.peak(node)).ok_or(node)
    }
}
