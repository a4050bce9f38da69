//! `[tee_fetch]` of `server.toml`: who may be asked for endorsements of confidential machines, and how much.

use super::ConfigError;
use endorsements::{Fetcher, Kind, Limits, Settings, Source, SourceTerms};
use facts::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Asks vendors, or a mirror, for endorsements of machines that have proved their TPM and whose pool asks for
/// hardware. All that comes is checked before it is kept, and again where it is used.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeeFetch {
    /// What came is kept here, with mode 0700. Default: `endorsements` in the data directory.
    #[serde(default)]
    pub cache: Option<PathBuf>,
    /// Bytes of that folder; the least used give way. 64 MiB: the certificates of 20,000 chips.
    #[serde(default = "cache_bytes")]
    pub cache_bytes: u64,
    /// A join waits for so many milliseconds; then it is refused, and finds what came when it is tried again.
    /// 5,000: below what agents wait for an answer.
    #[serde(default = "wait_ms")]
    pub wait_ms: u64,
    /// A whole answer must be there within so many milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Requests at once, to all sources.
    #[serde(default = "at_once")]
    pub at_once: usize,
    /// Requests a minute to each source. 60: AMD's key server turns away who asks more often.
    #[serde(default = "per_source")]
    pub per_source: u32,
    /// Documents an hour that one machine may cause to be asked for. 16: a trust domain needs four, and a
    /// machine whose chip is another each time is not one.
    #[serde(default = "per_machine")]
    pub per_machine: u32,
    /// Asked in this order. Nobody else is ever connected to.
    pub source: Vec<TeeSource>,
}

/// A place that may be asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeeSource {
    pub vendor: TeeVendor,
    /// `https://HOST[:PORT][/PREFIX]` of a mirror or a caching service (PCCS) that answers as the vendor does;
    /// `http://` for an address of this machine alone. Absent: the vendor's own service.
    #[serde(default)]
    pub url: Option<String>,
    /// A PEM file: the only authorities that may certify it. Absent: those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// The `[[tee_root]]` that its documents lead to. Absent: the vendor's own root.
    #[serde(default)]
    pub root: Option<String>,
}

/// Whose documents it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TeeVendor {
    Amd,
    Intel,
}

const fn cache_bytes() -> u64 {
    64 << 20
}

const fn wait_ms() -> u64 {
    5_000
}

const fn timeout_ms() -> u64 {
    10_000
}

const fn at_once() -> usize {
    4
}

const fn per_source() -> u32 {
    60
}

const fn per_machine() -> u32 {
    16
}

impl TeeFetch {
    pub(super) fn rebase(&mut self, base: &Path) {
        self.cache = self.cache.as_ref().map(|path| base.join(path));
        for source in &mut self.source {
            source.ca = source.ca.as_ref().map(|path| base.join(path));
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let at_once = u64::try_from(self.at_once).unwrap_or(u64::MAX);
        for (key, value, low, high) in [
            ("tee_fetch.cache_bytes", self.cache_bytes, 1 << 20, 1 << 40),
            ("tee_fetch.wait_ms", self.wait_ms, 0, 30_000),
            ("tee_fetch.timeout_ms", self.timeout_ms, 100, 60_000),
            ("tee_fetch.at_once", at_once, 1, 64),
            (
                "tee_fetch.per_source",
                u64::from(self.per_source),
                1,
                10_000,
            ),
            (
                "tee_fetch.per_machine",
                u64::from(self.per_machine),
                1,
                1_000,
            ),
        ] {
            if !(low..=high).contains(&value) {
                return Err(ConfigError::Range {
                    key,
                    value,
                    low,
                    high,
                });
            }
        }
        Ok(())
    }

    /// Reads authorities and opens the folder. Blocks, within a runtime; asks nobody.
    ///
    /// # Errors
    /// `TEE-FETCH-CONFIG`, `TEE-FETCH-CACHE`.
    pub(crate) fn open(
        &self,
        data_dir: &Path,
        watch: impl Fn(endorsements::Event) + Send + Sync + 'static,
    ) -> Result<Arc<Fetcher>, Finding> {
        let sources = self.source.iter().map(|source| {
            Source::open(&SourceTerms {
                kind: match source.vendor {
                    TeeVendor::Amd => Kind::Amd,
                    TeeVendor::Intel => Kind::Intel,
                },
                url: source.url.clone(),
                ca: source.ca.clone(),
                root: source.root.clone(),
            })
        });
        let folder = self.cache.clone();
        let settings = Settings {
            folder: folder.unwrap_or_else(|| data_dir.join("endorsements")),
            folder_bytes: self.cache_bytes,
            limits: Limits {
                per_source: self.per_source,
                per_machine: self.per_machine,
            },
            at_once: self.at_once,
            timeout: Duration::from_millis(self.timeout_ms),
            wait: Duration::from_millis(self.wait_ms),
        };
        Fetcher::open(settings, sources.collect::<Result<_, _>>()?, watch)
    }
}
