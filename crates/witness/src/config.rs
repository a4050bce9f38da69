//! `witness.toml`. Strict: a key that is not known is an error. Each default has its reason beside it.

use crate::limits::{Limits, Rate};
use crate::logs::Logs;
use facts::Finding;
use ledger::pack::Trust;
use ledger::{LedgerKey, LogKey};
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of the file, at most: ten thousand logs with a key of ML-DSA-44 fit.
const MAX_FILE: u64 = 32 << 20;
/// Bytes of a policy file that is read; `ledger` takes less.
const MAX_POLICY: u64 = 1 << 20;
/// Bytes of a trust file: the most links that a lineage has, many times over.
const MAX_TRUST: u64 = 8 << 20;

/// The whole file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub witness: WitnessConfig,
    /// Logs that are cosigned, beside those of `witness.policies`.
    #[serde(default, rename = "log")]
    pub logs: Vec<LogConfig>,
    /// How much the witness bears.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Absent: the logs' entries are not kept.
    #[serde(default)]
    pub mirror: Option<MirrorConfig>,
}

/// A mirror beside the witness: it keeps the logs' entries, serves them below `/mirror/`, and cosigns what it has.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MirrorConfig {
    /// Its name in its lines and verifier keys, another one than the witness's: `mirror.example.org/1`.
    pub name: String,
    /// What it signs with, by keys of its own. As `witness.keys`.
    #[serde(default = "default_keys")]
    pub keys: Vec<Kind>,
    /// Only the logs of these origins. All that are cosigned by default.
    #[serde(default)]
    pub origins: Vec<String>,
    /// Entries are taken while so many MiB of the disk stay free. 1,024: the witness, which writes to the same disk,
    /// needs a few.
    #[serde(default = "min_free_mib")]
    pub min_free_mib: u64,
    /// Uploads at once, each of which holds one package: mostly less than a MiB, 17 at most. 16. When there are
    /// more, the oldest of the client that has the most gives way, and goes on later.
    #[serde(default = "uploads")]
    pub uploads: u16,
}

const fn min_free_mib() -> u64 {
    1_024
}

const fn uploads() -> u16 {
    16
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WitnessConfig {
    /// Its name, as it stands in its lines and verifier keys: `witness.example.org/1`. An address without a
    /// scheme, of yours, and never given to another witness.
    pub name: String,
    /// Its keys, its state and its verifier keys live here. Made if absent. Never put an older copy back.
    pub data_dir: PathBuf,
    /// `0.0.0.0:7446`: plain HTTP, for logs and monitors. Everything that comes is checked by signature and
    /// proof; TLS, where it is wanted, ends before it.
    pub listen: SocketAddr,
    /// Health and metrics over plain HTTP. Off by default; keep it on loopback.
    #[serde(default)]
    pub http_listen: Option<SocketAddr>,
    /// What it signs with, a line each: `ml-dsa-44`, which the specification recommends, and `ed25519`, which
    /// older programs know. Both by default: a reader takes the one that its policy names.
    #[serde(default = "default_keys")]
    pub keys: Vec<Kind>,
    /// Files of c2sp.org/tlog-policy whose `log` lines are cosigned too. Absolute.
    #[serde(default)]
    pub policies: Vec<PathBuf>,
}

/// A kind of key that cosigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[serde(rename = "ml-dsa-44")]
    MlDsa44,
    Ed25519,
}

/// A log that is cosigned.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Its verifier key, from its operator: `example.org/log+1234abcd+…`.
    pub key: String,
    /// The first line of its checkpoints. The key's name by default.
    #[serde(default)]
    pub origin: Option<String>,
    /// How it went on from other logs, of a Trilith ledger: a file, absolute, with what `trilith trust` prints. `key` is of
    /// the newest. Of those before it nothing more is cosigned, and the newest is held to what was cosigned of them.
    #[serde(default)]
    pub lineage: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Requests of one client a second: an IPv4 address, or the /64 of an IPv6 one. 20: an operator with some
    /// logs behind one address. Behind a proxy all are one client: raise it, and limit there.
    pub client_per_s: u32,
    /// Of these at once. 100.
    pub client_burst: u32,
    /// New checkpoints of one log a second; each is a write and an fsync. 5: a log that publishes every second,
    /// and its second attempts.
    pub log_per_s: u32,
    /// Of these at once. 20.
    pub log_burst: u32,
    /// Seconds for which the same checkpoint is answered with the same lines, without a write: anybody can send
    /// a public one again. 1.
    pub repeat_s: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            client_per_s: 20,
            client_burst: 100,
            log_per_s: 5,
            log_burst: 20,
            repeat_s: 1,
        }
    }
}

fn check_kinds(keys: &[Kind]) -> Result<(), Finding> {
    let mut kinds = keys.to_vec();
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.is_empty() || kinds.len() != keys.len() {
        return Err(wrong("`keys` names each kind once, and at least one"));
    }
    Ok(())
}

fn default_keys() -> Vec<Kind> {
    vec![Kind::MlDsa44, Kind::Ed25519]
}

fn wrong(what: impl Into<String>) -> Finding {
    Finding::new("WITNESS-CONFIG", what)
        .next("correct witness.toml; docs/reference/config.md lists its keys")
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Finding {
    wrong(format!("cannot read {}: {error}", path.display()))
}

impl Config {
    /// Parses and checks. The logs' keys are read by [`Config::logs`].
    ///
    /// # Errors
    /// `WITNESS-CONFIG`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        let config: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `WITNESS-CONFIG`.
    pub fn read(path: &Path) -> Result<Self, Finding> {
        let bytes = read(path, MAX_FILE)?;
        let text = String::from_utf8(bytes).map_err(|error| unreadable(path, error))?;
        Self::parse(&text)
    }

    fn check(&self) -> Result<(), Finding> {
        let witness = &self.witness;
        if ledger::Origin::new(&witness.name).is_err() {
            return Err(wrong(
                "`name` has 1 to 255 characters, and no space, plus, quote or control",
            )
            .observed(witness.name.clone()));
        }
        if witness.data_dir.is_relative() {
            let found = witness.data_dir.display().to_string();
            return Err(wrong("`data_dir` is absolute").observed(found));
        }
        if let Some(path) = witness.policies.iter().find(|path| path.is_relative()) {
            return Err(wrong("`policies` are absolute").observed(path.display().to_string()));
        }
        let mut lineages = self.logs.iter().filter_map(|log| log.lineage.as_ref());
        if let Some(path) = lineages.find(|path| path.is_relative()) {
            return Err(wrong("`lineage` is absolute").observed(path.display().to_string()));
        }
        check_kinds(&witness.keys)?;
        if let Some(mirror) = &self.mirror {
            check_kinds(&mirror.keys)?;
            // "this witness service MUST be a distinct cosigner from the mirror cosigner, with a distinct name".
            if ledger::Origin::new(&mirror.name).is_err() || mirror.name == witness.name {
                return Err(
                    wrong("`mirror.name` is a name as the witness's, and another one")
                        .observed(mirror.name.clone()),
                );
            }
            if mirror.uploads == 0 {
                return Err(wrong("`mirror.uploads` of 0 lets nothing in"));
            }
        }
        if self.logs.is_empty() && witness.policies.is_empty() {
            return Err(wrong(
                "a witness without a [[log]] or `policies` cosigns nothing",
            ));
        }
        let limits = &self.limits;
        let numbers = [
            limits.client_per_s,
            limits.client_burst,
            limits.log_per_s,
            limits.log_burst,
        ];
        if numbers.contains(&0) {
            return Err(wrong("a limit of 0 lets nothing in"));
        }
        // What is answered again says an older time than the one it is asked at.
        if limits.repeat_s > 60 {
            return Err(wrong("`repeat_s` is 60 at most").observed(limits.repeat_s.to_string()));
        }
        Ok(())
    }

    /// The logs of this file, and of the policies that it names.
    ///
    /// # Errors
    /// `WITNESS-CONFIG`, `WITNESS-LOG`.
    pub fn logs(&self) -> Result<Logs, Finding> {
        let mut logs = Logs::new();
        for log in &self.logs {
            let key = Logs::key(&log.key)?;
            let origin = log.origin.clone().unwrap_or_else(|| key.name().to_owned());
            logs.add(&origin, key.clone())?;
            if let Some(path) = &log.lineage {
                logs.follow(&lineage(&key, path)?)?;
            }
        }
        for path in &self.witness.policies {
            let place = |finding: Finding| Finding {
                message: format!("{}: {}", path.display(), finding.message),
                ..finding
            };
            logs.add_policy(&read(path, MAX_POLICY)?).map_err(place)?;
        }
        let asked = self.mirror.iter().flat_map(|mirror| &mirror.origins);
        for origin in asked {
            if !logs.iter().any(|(known, _)| known == origin) {
                return Err(wrong("`mirror.origins` are of logs that are cosigned")
                    .observed(origin.clone()));
            }
        }
        Ok(logs)
    }
}

impl MirrorConfig {
    /// Whether the log of this origin is mirrored.
    pub(crate) fn mirrors(&self, origin: &str) -> bool {
        self.origins.is_empty() || self.origins.iter().any(|asked| asked == origin)
    }
}

impl LimitsConfig {
    /// As the witness takes them.
    #[must_use]
    pub const fn limits(&self) -> Limits {
        Limits {
            client: Rate {
                per_second: self.client_per_s,
                burst: self.client_burst,
            },
            log: Rate {
                per_second: self.log_per_s,
                burst: self.log_burst,
            },
            repeat: Duration::from_secs(self.repeat_s as u64),
        }
    }
}

/// What the file at `path` says of how a ledger went on to `key`.
fn lineage(key: &LogKey, path: &Path) -> Result<LedgerKey, Finding> {
    let unsound = |what: String| {
        wrong(format!("`lineage` of {}: {what}", key.name()))
            .expected("what `trilith trust` prints, with `key` as its `ledger_key`")
            .observed(path.display().to_string())
    };
    let text = String::from_utf8(read(path, MAX_TRUST)?);
    let text = text.map_err(|error| unsound(error.to_string()))?;
    let trust = Trust::from_json(&text).map_err(|error| unsound(facts::with_causes(&error)))?;
    match LogKey::Note(trust.ledger_key.clone()) == *key {
        true => Ok(trust.ledger_key),
        false => Err(unsound(format!("it is of {}", trust.ledger_key))),
    }
}

fn read(path: &Path, limit: u64) -> Result<Vec<u8>, Finding> {
    ledger_store::read_whole(path, limit).map_err(|error| unreadable(path, error))
}

/// The published schema of `witness.toml`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [witness]
        name = "witness.example.org/1"
        data_dir = "/var/lib/trilith/witness"
        listen = "127.0.0.1:7446"
        [[log]]
        key = "KEY"
    "#;

    fn file() -> String {
        let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        let key = crypto::Signer::public_key(&key).clone();
        let key = ledger::LedgerKey::new("example.org/log", key).unwrap();
        FILE.replace("KEY", &key.to_string())
    }

    #[test]
    fn a_lineage_leads_to_the_key_that_is_cosigned() {
        let signer = |origin: &str| {
            let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
            ledger::LedgerSigner::new(origin, std::sync::Arc::new(key)).unwrap()
        };
        let (first, second) = (signer("a.example/server"), signer("a.example/server@2"));
        let link = ledger::lineage::Link::sign(&first, &second, (4, [7; 32]), "").unwrap();
        let trust = Trust {
            trust_domain: "a.example".to_owned(),
            ledger_key: ledger::lineage::follow(first.key(), &[link]).unwrap(),
            x509_authorities: Vec::new(),
            policy: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trust.json");
        std::fs::write(&path, serde_json::to_string(&trust).unwrap()).unwrap();
        let with = |key: &LedgerKey, path: &str| {
            let text = FILE.replace("KEY", &key.to_string());
            Config::parse(&format!("{text}\nlineage = {path:?}\n"))
        };
        let here = path.to_str().unwrap();
        let logs = with(second.key(), here).unwrap().logs().unwrap();
        assert_eq!(logs.len(), 2, "the log before is known, as one that ended");
        assert!(logs.lineage("a.example/server").is_some());
        // The old key in its place, as before the new log, is of nobody who is told of that.
        let refused = with(first.key(), here).unwrap().logs().unwrap_err();
        assert_eq!(refused.code, "WITNESS-CONFIG");
        assert!(with(second.key(), "trust.json").is_err(), "not absolute");
        std::fs::write(&path, "{}").unwrap();
        let refused = with(second.key(), here).unwrap().logs().unwrap_err();
        assert_eq!(refused.code, "WITNESS-CONFIG");
    }

    #[test]
    fn a_small_file_is_enough() {
        let config = Config::parse(&file()).unwrap();
        assert_eq!(config.witness.keys, [Kind::MlDsa44, Kind::Ed25519]);
        let logs = config.logs().unwrap();
        let origins: Vec<&str> = logs.iter().map(|(origin, _)| origin).collect();
        assert_eq!(origins, ["example.org/log"]);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (from, to) in [
            ("listen", "listens"),
            ("[[log]]", "[limits]\nlog_per_s = 0\n[[log]]"),
            ("[[log]]", "[limits]\nlog_per_m = 1\n[[log]]"),
            ("[[log]]", "[limits]\nrepeat_s = 61\n[[log]]"),
            ("[[log]]", "keys = []\n[[log]]"),
            ("[[log]]", "keys = [\"rsa\"]\n[[log]]"),
            ("[[log]]", "keys = [\"ed25519\", \"ed25519\"]\n[[log]]"),
            ("[[log]]", "policies = [\"a.policy\"]\n[[log]]"),
            ("/var/lib", "var/lib"),
            ("witness.example.org/1", "a witness"),
            ("127.0.0.1:7446", "7446"),
            ("[[log]]", "[mirror]\n[[log]]"),
            (
                "[[log]]",
                "[mirror]\nname = \"witness.example.org/1\"\n[[log]]",
            ),
            ("[[log]]", "[mirror]\nname = \"a mirror\"\n[[log]]"),
            ("[[log]]", "[mirror]\nname = \"m\"\nkeys = []\n[[log]]"),
            ("[[log]]", "[mirror]\nname = \"m\"\nuploads = 0\n[[log]]"),
        ] {
            let changed = file().replacen(from, to, 1);
            assert_eq!(
                Config::parse(&changed).unwrap_err().code,
                "WITNESS-CONFIG",
                "{to}"
            );
        }
        let (alone, _) = FILE.split_once("[[log]]").unwrap();
        assert!(
            Config::parse(alone)
                .unwrap_err()
                .message
                .contains("[[log]]")
        );
    }

    #[test]
    fn a_log_is_named_by_its_key_or_by_its_origin() {
        let named = format!("{}\norigin = \"go.sum database tree\"", file());
        let logs = Config::parse(&named).unwrap().logs().unwrap();
        let origins: Vec<&str> = logs.iter().map(|(origin, _)| origin).collect();
        assert_eq!(origins, ["go.sum database tree"]);
        for (from, to) in [
            ("example.org/log+", "example.org/other+"),
            ("key = \"", "key = \"log "),
            ("key = \"", "origin = \"\"\nkey = \""),
            ("key = \"", "origin = \"a\\nb\"\nkey = \""),
        ] {
            let config = Config::parse(&file().replacen(from, to, 1)).unwrap();
            assert_eq!(config.logs().unwrap_err().code, "WITNESS-LOG", "{to}");
        }
    }

    #[test]
    fn logs_come_from_policies_too_and_a_wrong_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs.policy");
        let config = format!("policies = [\"{}\"]\n[[log]]", path.display());
        let config = Config::parse(&file().replace("[[log]]", &config)).unwrap();
        assert_eq!(config.logs().unwrap_err().code, "WITNESS-CONFIG");
        let pair = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        let key = crypto::Signer::public_key(&pair).clone();
        let key = ledger::LedgerKey::new("other.example/log", key).unwrap();
        std::fs::write(
            &path,
            format!("log {key} https://other.example\nquorum none\n"),
        )
        .unwrap();
        assert_eq!(config.logs().unwrap().len(), 2);
        for text in ["quorum none\n", "log x\nquorum none\n", ""] {
            std::fs::write(&path, text).unwrap();
            let finding = config.logs().unwrap_err();
            assert_eq!(finding.code, "WITNESS-LOG");
            assert!(finding.message.contains("logs.policy"), "{finding}");
        }
    }
}
