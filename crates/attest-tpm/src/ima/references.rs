//! Which files may run.

use super::entry::{Entry, Kind};
use crate::reference::Value;
use crypto::Hash;
use std::collections::HashMap;
use std::sync::Arc;

/// A file that may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Of what the digest is.
    pub kind: Kind,
    /// SHA-256 or longer; a SHA-1 digest allows nothing.
    pub hash: Hash,
    pub digest: Vec<u8>,
    /// Where it has to be, as the kernel sees it; anywhere if absent.
    pub path: Option<Arc<str>>,
}

/// Paths whose files are not judged: everything at or below `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exempt {
    /// Absolute, without a slash at its end.
    pub path: String,
    /// Why.
    pub label: String,
}

/// What is done about violations, which say that a file was written to while it was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Violations {
    #[default]
    Refuse,
    /// They are counted.
    Allow,
}

/// Where a file of some digest has to be.
pub(super) type Placed = Value<Option<Arc<str>>>;

/// Reference values of files, in an index. Built once, and shared by all machines.
#[derive(Debug, Clone, Default)]
pub struct References {
    by_digest: HashMap<(Kind, Hash, Vec<u8>), Vec<Placed>>,
    by_path: HashMap<Arc<str>, Vec<Value<String>>>,
    pub exempt: Vec<Exempt>,
    pub violations: Violations,
}

impl References {
    /// SHA-1 digests are left out.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = Value<File>>) -> Self {
        let mut references = Self::default();
        for Value {
            value: file,
            label,
            source,
            window,
        } in files
        {
            if file.hash == Hash::Sha1 || file.digest.len() != file.hash.length() {
                continue;
            }
            if let Some(path) = &file.path {
                let text = format!("{}:{}", file.hash, crypto::hex::encode(&file.digest));
                let value = Value::new(text, label.clone(), source.clone()).within(window);
                references
                    .by_path
                    .entry(path.clone())
                    .or_default()
                    .push(value);
            }
            let value = Value::new(file.path, label, source).within(window);
            let key = (file.kind, file.hash, file.digest);
            references.by_digest.entry(key).or_default().push(value);
        }
        references
    }

    /// Adds what is said of a path when its file is not listed, without asking that a listed one be there:
    /// a package knows its files by other names than a machine may have for them.
    #[must_use]
    pub fn hinting(mut self, hints: impl IntoIterator<Item = (Arc<str>, Value<String>)>) -> Self {
        for (path, value) in hints {
            self.by_path.entry(path).or_default().push(value);
        }
        self
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_digest.is_empty()
    }

    /// The values of an entry's digest, wherever their file has to be and whenever they count.
    pub(super) fn of(&self, entry: &Entry<'_>) -> &[Placed] {
        let Some(hash) = entry.hash.filter(|hash| *hash != Hash::Sha1) else {
            return &[];
        };
        let key = (entry.kind, hash, entry.digest.clone());
        self.by_digest.get(&key).map_or(&[], Vec::as_slice)
    }

    /// The values of the file that should be at `path`, for findings.
    pub(super) fn at(&self, path: &str) -> &[Value<String>] {
        self.by_path.get(path).map_or(&[], Vec::as_slice)
    }

    pub(super) fn is_exempt(&self, path: &str) -> bool {
        self.exempt.iter().any(|exempt| {
            path.strip_prefix(exempt.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}
