//! One package of `add-entries`: the entries of a bundle, or of a part of it, and the proof that they are the log's.

use super::{MAX_HASHES, MirrorError};
use crate::merkle::{self, Frontier, Hash, NodeReader, ProofError};
use crate::tile::WIDTH;

/// Which entries a package has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where its bundle begins: a multiple of 256.
    pub first: u64,
    /// INVARIANT: `first <= start < end <= first + 256`.
    pub start: u64,
    pub end: u64,
}

impl Span {
    /// How many entries of its bundle come before it.
    #[must_use]
    pub fn before(&self) -> usize {
        usize::try_from(self.start - self.first).unwrap_or(usize::MAX)
    }

    /// Its bundle and tile of hashes.
    #[must_use]
    pub const fn bundle(&self) -> u64 {
        self.first / WIDTH
    }
}

/// A package as it came; nothing of it is believed before [`Package::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    span: Span,
    /// The entries, each behind its length, as in a bundle.
    entries: Vec<u8>,
    leaves: Vec<Hash>,
    proof: Vec<Hash>,
}

impl Package {
    /// The package of a log that has these entries from `span.start` on and whose nodes are read from `reader`,
    /// under its checkpoint of `size` entries. `None` if it does not have so many.
    pub fn build<R: NodeReader>(
        span: Span,
        entries: &[Vec<u8>],
        size: u64,
        reader: &R,
    ) -> Result<Option<Self>, R::Error> {
        let proof = merkle::subtree_proof(span.first, span.end, size, reader)?;
        Ok(proof.and_then(|proof| Self::new(span, entries, proof)))
    }

    /// `None` if it would be none: another number of entries, one that is longer than its length says, or more
    /// hashes than there are levels.
    #[must_use]
    pub fn new(span: Span, entries: &[Vec<u8>], proof: Vec<Hash>) -> Option<Self> {
        let count = u64::try_from(entries.len()).ok()?;
        if span.end.checked_sub(span.start) != Some(count) || proof.len() > MAX_HASHES {
            return None;
        }
        let mut bytes = Vec::new();
        for entry in entries {
            bytes.extend_from_slice(&u16::try_from(entry.len()).ok()?.to_be_bytes());
            bytes.extend_from_slice(entry);
        }
        Some(Self {
            span,
            leaves: entries
                .iter()
                .map(|entry| merkle::leaf_hash(entry))
                .collect(),
            entries: bytes,
            proof,
        })
    }

    pub(super) const fn of(
        span: Span,
        entries: Vec<u8>,
        leaves: Vec<Hash>,
        proof: Vec<Hash>,
    ) -> Self {
        Self {
            span,
            entries,
            leaves,
            proof,
        }
    }

    #[must_use]
    pub const fn span(&self) -> Span {
        self.span
    }

    /// The entries, as they stand in their bundle.
    #[must_use]
    pub fn entries(&self) -> &[u8] {
        &self.entries
    }

    /// Their hashes.
    #[must_use]
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.entries.clone();
        all.push(u8::try_from(self.proof.len()).unwrap_or(u8::MAX));
        all.extend_from_slice(self.proof.as_flattened());
        all
    }

    /// Checks that these are entries of the log of `size` entries with this root. `before` are the hashes of its
    /// bundle's entries before `span.start`.
    ///
    /// "it reconstructs the subtree hash based on the received entries and entries already in the log. It then
    /// verifies the subtree consistency proof using this hash and the checkpoint at `upload_end`."
    pub fn verify(&self, before: &[Hash], size: u64, root: &Hash) -> Result<(), ProofError> {
        if before.len() != self.span.before() {
            return Err(ProofError::Subtree {
                start: self.span.first,
                end: self.span.end,
                size,
            });
        }
        let mut subtree = Frontier::new();
        for leaf in before.iter().chain(&self.leaves) {
            subtree.push(*leaf);
        }
        let range = (self.span.first, self.span.end);
        merkle::verify_subtree(range, &subtree.root(), size, root, &self.proof)
    }
}

/// The place of an entry's bytes, while a package comes in.
pub(super) fn entry_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (entry, _) = crate::bundle::split_entry(bytes.get(at..)?)?;
    Some((entry, at + 2 + entry.len()))
}

/// The hashes of a proof that begins at `at`, and where it ends; `None` if more has to come.
pub(super) fn proof_at(
    bytes: &[u8],
    at: usize,
    span: Span,
) -> Result<Option<(Vec<Hash>, usize)>, MirrorError> {
    let Some(count) = bytes.get(at).map(|count| usize::from(*count)) else {
        return Ok(None);
    };
    if count > MAX_HASHES {
        return Err(MirrorError::Package {
            start: span.start,
            end: span.end,
            what: "its proof has more than 63 hashes",
        });
    }
    let end = at + 1 + count * 32;
    let hashes = bytes.get(at + 1..end);
    Ok(hashes.map(|hashes| (hashes.as_chunks::<32>().0.to_vec(), end)))
}
