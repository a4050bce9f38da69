//! An `add-entries` request taken apart as it comes, a package at a time: what is held is one package and what came
//! last, however long the request is.

use super::package::{entry_at, proof_at};
use super::{MirrorError, Package, Span, Upload};
use crate::merkle::{Hash, leaf_hash};

/// The bytes that came and were not taken yet.
#[derive(Debug, Default)]
pub struct Incoming {
    held: Vec<u8>,
    upload: Option<Upload>,
    /// Where the next package begins.
    next: u64,
    /// What is known of it: where its next entry begins in `held`, and the hashes of those before.
    at: usize,
    leaves: Vec<Hash>,
}

impl Incoming {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that came. What comes after the last package is dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.is_whole() {
            self.held.extend_from_slice(bytes);
        }
    }

    /// The head, once it has come.
    pub fn upload(&mut self) -> Result<Option<&Upload>, MirrorError> {
        if self.upload.is_none()
            && let Some((upload, length)) = Upload::parse(&self.held)?
        {
            self.next = upload.start();
            self.drop_first(length);
            self.upload = Some(upload);
        }
        Ok(self.upload.as_ref())
    }

    /// The next package, once it has come whole.
    pub fn package(&mut self) -> Result<Option<Package>, MirrorError> {
        let span = match self.upload()? {
            None => return Ok(None),
            Some(upload) => upload.clone(),
        }
        .span(self.next);
        let Some(span) = span else {
            return Ok(None);
        };
        let count = usize::try_from(span.end - span.start).unwrap_or(usize::MAX);
        while self.leaves.len() < count {
            let Some((entry, after)) = entry_at(&self.held, self.at) else {
                return Ok(None);
            };
            let leaf = leaf_hash(entry);
            self.leaves.push(leaf);
            self.at = after;
        }
        let Some((proof, end)) = proof_at(&self.held, self.at, span)? else {
            return Ok(None);
        };
        Ok(Some(self.take(span, proof, end)))
    }

    fn take(&mut self, span: Span, proof: Vec<Hash>, end: usize) -> Package {
        let mut entries = self.held.get(..end).unwrap_or_default().to_vec();
        entries.truncate(self.at);
        self.drop_first(end);
        (self.at, self.next) = (0, span.end);
        Package::of(span, entries, std::mem::take(&mut self.leaves), proof)
    }

    /// True once all packages were taken.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.upload
            .as_ref()
            .is_some_and(|upload| self.next >= upload.end())
    }

    fn drop_first(&mut self, length: usize) {
        self.held.drain(..length.min(self.held.len()));
    }
}
