//! `[[label]]` of `server.toml`: who recognises his own in this ledger without being served its records.

use super::ConfigError;
use facts::Finding;
use ledger::about::{NameError, Theirs};
use ledger::label::{LabelKey, MOST_OWNERS, Owners};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// An owner. Beside the hashes of all records, `labels/…` says of each whether it is about what is his, to whoever has
/// his key. What is his is named as `[[watch]]` of `monitor.toml` does: exactly, or with a `*` at the end.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// A name for this file. It is not published.
    pub owner: String,
    /// The key that he has made by `trilith monitor --label-key FILE`: 64 hex digits, of mode 0600.
    pub key_file: PathBuf,
    /// SPIFFE IDs: `spiffe://partner.example/*`.
    #[serde(default)]
    pub identities: Vec<String>,
    /// Nodes, by name.
    #[serde(default)]
    pub machines: Vec<String>,
    /// Resources as records have them: `shop/public/orders`.
    #[serde(default)]
    pub resources: Vec<String>,
}

impl Label {
    fn theirs(&self) -> Result<Theirs, NameError> {
        Theirs::new(&self.identities, &self.machines, &self.resources)
    }

    pub(super) fn check(all: &[Self]) -> Result<(), ConfigError> {
        let owners = all.len();
        if owners <= MOST_OWNERS {
            return Ok(());
        }
        Err(ConfigError::Label(format!(
            "there are {owners} owners; {MOST_OWNERS} at most are served"
        )))
    }

    pub(super) fn rebase(&mut self, base: &Path) {
        self.key_file = base.join(&self.key_file);
    }

    /// Reads their keys.
    ///
    /// # Errors
    /// `LABEL-KEY`, `SERVER-CONFIG`.
    pub(crate) fn owners(all: &[Self]) -> Result<Owners, Finding> {
        let wrong = |what: String| ConfigError::Label(what).finding();
        let mut names = BTreeSet::new();
        let mut owners = Vec::new();
        for label in all {
            let name = &label.owner;
            if name.is_empty() || !names.insert(name) {
                return Err(wrong(format!("each has an `owner` of its own: {name:?}")));
            }
            let theirs = label.theirs();
            let theirs = theirs.map_err(|error| wrong(format!("{name}: {error}")))?;
            owners.push((theirs, key(&label.key_file)?));
        }
        Owners::new(owners).map_err(|error| wrong(error.to_string()))
    }
}

fn key(path: &Path) -> Result<LabelKey, Finding> {
    custody::label_key(path).map_err(|observed| {
        Finding::new("LABEL-KEY", "the key of the labels cannot be used")
            .expected("64 hex digits, in a file that nobody else reads")
            .observed(format!("{}: {observed}", path.display()))
            .next("have its owner make one with `trilith monitor --label-key FILE`, and put the copy that he gave you there")
    })
}
