//! `[[label]]` of `server.toml`: who recognises his own in this ledger without being served its records.

use super::ConfigError;
use facts::Finding;
use ledger::label::MOST_OWNERS;
use monitor::{Owners, WatchConfig, label_key};
use schemars::JsonSchema;
use serde::Deserialize;
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
    fn watch(&self) -> WatchConfig {
        WatchConfig {
            name: self.owner.clone(),
            identities: self.identities.clone(),
            machines: self.machines.clone(),
            resources: self.resources.clone(),
            allows: Vec::new(),
        }
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
        let keyed = all
            .iter()
            .map(|label| Ok((label.watch(), label_key(&label.key_file)?)));
        Owners::new(keyed.collect::<Result<_, Finding>>()?).map_err(|finding| {
            let observed = finding.observed.unwrap_or_default();
            ConfigError::Label(
                format!("{} {observed}", finding.message)
                    .trim_end()
                    .to_owned(),
            )
            .finding()
        })
    }
}
