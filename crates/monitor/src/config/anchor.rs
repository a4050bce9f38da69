//! `[anchor]` of `monitor.toml`: who vouches for the ledger of a gateway, decision point or agent.

use super::{Config, Entries, lineage_of, policy_of, wrong};
use facts::Finding;
use ledger::{LedgerKey, LogKey, Policy};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::PathBuf;

/// The server that keeps this log and anchors it in its own ledger: nothing is taken that it has not anchored, and not
/// by `log.key`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchorConfig {
    /// The verifier key of the server's ledger, from its operator: `example.org/server+1234abcd+…`. It also signs the
    /// labels of this log.
    pub key: String,
    /// How the server's ledger went on from other logs: what `trilith trust` prints, in a file, absolute.
    #[serde(default)]
    pub lineage: Option<PathBuf>,
    /// A file of c2sp.org/tlog-policy, absolute: without its quorum under the server's checkpoint an anchor does not
    /// count. Absent: none is asked for.
    #[serde(default)]
    pub policy: Option<PathBuf>,
    /// Seconds that this quorum may have cosigned the server's checkpoint before now, by the witnesses' clocks: under an
    /// older one an anchor does not count, which shows that no old view is served. Absent: its age does not matter.
    #[serde(default)]
    pub max_age_s: Option<u64>,
    /// The address that `/anchor` is below: `https://SERVER/ledgers/NAME`, or that of a bucket. The first of `log.urls`
    /// by default.
    #[serde(default)]
    pub url: Option<String>,
}

impl AnchorConfig {
    /// But for the files that it names.
    pub(super) fn check(&self, config: &Config) -> Result<(), Finding> {
        self.newest()?;
        if !matches!(config.key()?, LogKey::Note(_)) || config.log.entries == Entries::Opaque {
            return Err(wrong(
                "[anchor] is of a ledger of Trilith, and `log` is another one",
            ));
        }
        if self.max_age_s.is_some() && self.policy.is_none() {
            return Err(wrong(
                "`anchor.max_age_s` is of cosignatures, and there is no `anchor.policy`",
            ));
        }
        if self.url.is_none() && config.log.urls.is_empty() {
            return Err(wrong("[anchor] has a `url` where the log has none"));
        }
        Ok(())
    }

    fn newest(&self) -> Result<LedgerKey, Finding> {
        self.key.parse::<LedgerKey>().map_err(|_error| {
            wrong("`anchor.key` is no verifier key")
                .expected(
                    "<name>+<8 hex digits>+<base64>: what `trilith trust` prints as `ledger_key`",
                )
                .observed(self.key.chars().take(100).collect::<String>())
        })
    }

    /// The key, with what the file of its lineage says.
    pub(crate) fn key(&self) -> Result<LedgerKey, Finding> {
        let newest = self.newest()?;
        match &self.lineage {
            Some(path) => lineage_of(&newest, path, "anchor.lineage"),
            None => Ok(newest),
        }
    }

    pub(crate) fn policy(&self) -> Result<Option<Policy>, Finding> {
        self.policy.as_deref().map(policy_of).transpose()
    }
}
