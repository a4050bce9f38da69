//! `[publish]` of `server.toml`: the object store that the ledger is published to, and how often.

use super::{ConfigError, within};
use objects::{Settings, Style};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A name of S3 has 1,024 bytes at most, and one of these 74 before those of its tiles.
const LONGEST_PREFIX: usize = 400;

/// The ledger is published to a bucket of an S3-compatible object store, as c2sp.org/tlog-tiles has it: whoever may
/// read the bucket reads and checks the ledger without this server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The store: `https://s3.eu-central-1.amazonaws.com`. `http` only with an address of this machine.
    pub endpoint: String,
    pub bucket: String,
    /// Objects are named `PREFIX/checkpoint` and `PREFIX/tile/…`. Empty: at the top of the bucket.
    #[serde(default)]
    pub prefix: String,
    /// What requests are signed for. `us-east-1`: what stores without regions take.
    #[serde(default = "region")]
    pub region: String,
    /// Where a request names the bucket: `path` (`HOST/BUCKET`), which every store knows, or `host` (`BUCKET.HOST`).
    #[serde(default)]
    pub style: BucketStyle,
    /// A file of mode 0600 with the lines `aws_access_key_id = …`, `aws_secret_access_key = …` and, of credentials
    /// that end, `aws_session_token = …`; it is read again when the store refuses what it said. Absent:
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the environment.
    #[serde(default)]
    pub credentials: Option<PathBuf>,
    /// A PEM file: the only authorities that may certify the store. Absent: those of the system.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// A new checkpoint is published at most once in so many milliseconds. 10,000: each costs up to five writes, and
    /// readers are so far behind.
    #[serde(default = "interval_ms")]
    pub interval_ms: u64,
    /// The store has so many milliseconds for one request.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
    /// Publish the records too, and not only their hashes. They name identities and resources: who may read the bucket
    /// reads them. Yes, because without them nobody can check what the ledger says.
    #[serde(default = "entries")]
    pub entries: bool,
    /// Publish the ledgers of gateways, decision points and agents as well, as far as they are anchored: each below
    /// `PREFIX/ledgers/NAME`, where NAME is the SHA-256 of the name of its first log; `/ledgers` of `http_listen` lists them. No,
    /// because they say who accessed what.
    #[serde(default)]
    pub ledgers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BucketStyle {
    #[default]
    Path,
    Host,
}

fn region() -> String {
    "us-east-1".to_owned()
}

const fn interval_ms() -> u64 {
    10_000
}

const fn timeout_ms() -> u64 {
    30_000
}

const fn entries() -> bool {
    true
}

impl Publish {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.ledgers && self.prefix.len() > LONGEST_PREFIX {
            return Err(ConfigError::Publish(format!(
                "`prefix` has at most {LONGEST_PREFIX} bytes where `ledgers` stand below it"
            )));
        }
        within(&[
            ("publish.interval_ms", self.interval_ms, 50, 3_600_000),
            ("publish.timeout_ms", self.timeout_ms, 100, 600_000),
        ])
    }

    pub(super) fn rebase(&mut self, base: &Path) {
        for path in [&mut self.credentials, &mut self.ca] {
            *path = path.as_ref().map(|path| base.join(path));
        }
    }

    pub(crate) const fn interval(&self) -> Duration {
        Duration::from_millis(self.interval_ms)
    }

    /// The prefix of the ledger of that name, below the server's own.
    pub(crate) fn of_ledger(&self, name: &str) -> String {
        match self.prefix.as_str() {
            "" => format!("ledgers/{name}"),
            prefix => format!("{prefix}/ledgers/{name}"),
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            endpoint: self.endpoint.clone(),
            bucket: self.bucket.clone(),
            prefix: self.prefix.clone(),
            region: self.region.clone(),
            style: match self.style {
                BucketStyle::Path => Style::Path,
                BucketStyle::Host => Style::Host,
            },
            ca: self.ca.clone(),
            credentials: self.credentials.clone(),
            timeout: Duration::from_millis(self.timeout_ms),
            entries: self.entries,
        }
    }
}
