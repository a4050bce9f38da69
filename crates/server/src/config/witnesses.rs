//! `[witnesses]` of `server.toml`: who looks at this ledger, and how often they are asked.

use super::{ConfigError, within};
use ledger::{LedgerKey, Policy};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Independent witnesses cosign the ledger's checkpoints: nobody who has its key can then show two histories
/// without their help.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// The file that names them, as c2sp.org/tlog-policy has it: `witness` lines with the address of each, `group`
    /// lines, and the `quorum` that is enough.
    pub policy: PathBuf,
    /// A new checkpoint is shown to them at most once in so many milliseconds. 1,000: each request is a write at
    /// every witness.
    #[serde(default = "cadence_ms")]
    pub cadence_ms: u64,
    /// A ledger that does not grow is shown again after so many seconds: gateways ask how old the newest look is.
    /// 60: a tenth of what they bear by default.
    #[serde(default = "refresh_s")]
    pub refresh_s: u64,
    /// A witness has so many milliseconds for one answer, and at a start for what it has seen of this ledger.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Start only once enough of them have cosigned, since then, the head that is here: so that a server which was restored
    /// from a backup with all its keys signs nothing either while somebody keeps its witnesses from answering. No: a
    /// server starts without its witnesses, and asks on. Their clocks and its own are within a minute of each other.
    #[serde(default)]
    pub hold: bool,
    /// A PEM file: the only authorities that may certify witnesses with an `https` address. Absent: those of the
    /// system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Names of those of the policy's witnesses that are mirrors (c2sp.org/tlog-mirror): they are sent the entries
    /// too, and sign once they have them. What is sent are the records, with what they name: see
    /// docs/operate/mirror.md before.
    #[serde(default)]
    pub mirrors: Vec<String>,
}

const fn cadence_ms() -> u64 {
    1_000
}

const fn refresh_s() -> u64 {
    60
}

const fn timeout_ms() -> u64 {
    5_000
}

impl Witnesses {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        within(&[
            ("witnesses.cadence_ms", self.cadence_ms, 50, 600_000),
            ("witnesses.refresh_s", self.refresh_s, 1, 86_400),
            ("witnesses.timeout_ms", self.timeout_ms, 100, 60_000),
        ])
    }

    pub(super) fn rebase(&mut self, base: &Path) {
        self.policy = base.join(&self.policy);
        self.ca = self.ca.as_ref().map(|path| base.join(path));
    }

    pub(crate) const fn cadence(&self) -> Duration {
        Duration::from_millis(self.cadence_ms)
    }

    pub(crate) const fn refresh(&self) -> Duration {
        Duration::from_secs(self.refresh_s)
    }

    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Reads the policy, and refuses one that could never be met by asking.
    pub(crate) fn read(&self, key: &LedgerKey) -> Result<Policy, ConfigError> {
        let wrong = |what: String| {
            ConfigError::Witnesses(format!("the policy {}: {what}", self.policy.display()))
        };
        let text = std::fs::read(&self.policy).map_err(|source| ConfigError::Read {
            path: self.policy.clone(),
            source,
        })?;
        let policy = Policy::parse(&text).map_err(|error| wrong(facts::with_causes(&error)))?;
        if policy.asks_for_none() {
            return Err(wrong(
                "its quorum is `none`: name the witnesses that are enough".to_owned(),
            ));
        }
        let logs = policy.logs();
        let ours = ledger::LogKey::Note(key.clone());
        if !logs.is_empty() && !logs.iter().any(|log| log.key == ours) {
            return Err(wrong(format!(
                "its `log` lines do not list this ledger, {key}"
            )));
        }
        if !policy.can_be_reached(|witness| witness.url.is_some()) {
            let what = "too few of its witnesses have an address for its quorum: `witness <name> <vkey> <url>`";
            return Err(wrong(what.to_owned()));
        }
        let mut mirrors = self.mirrors.iter();
        let stranger = mirrors.find(|name| {
            let mut witnesses = policy.witnesses().iter();
            !witnesses.any(|witness| witness.key.name() == *name && witness.url.is_some())
        });
        match stranger {
            Some(name) => Err(wrong(format!(
                "it has no witness of the name {name:?} with an address, which `witnesses.mirrors` names"
            ))),
            None => Ok(policy),
        }
    }
}
