//! `monitor.toml`: which log, where its state is kept, what is watched and what is expected of it. Strict: a key that
//! is not known is an error. Each default has its reason beside it.

mod anchor;

pub use anchor::AnchorConfig;

use crate::expect::{self, Watch};
use facts::Finding;
use ledger::lineage::{self, Link};
use ledger::{
    Checkpoint, CheckpointError, Code as _, CosignerKey, ForeignCheckpoint, Hash, LedgerKey,
    LogKey, Note, NoteError, Policy,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Bytes of the file and of a policy, at most.
const MAX_FILE: u64 = 8 << 20;
/// Addresses and witnesses, of each.
const MAX_EACH: usize = 16;

/// The whole file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub monitor: MonitorConfig,
    pub log: LogConfig,
    /// Of the ledger of a gateway, decision point or agent: the server whose ledger anchors it. Absent: it is watched by
    /// its own key alone.
    #[serde(default)]
    pub anchor: Option<AnchorConfig>,
    /// Where alerts go. Absent: to standard output, and the program ends with 4 at the first one.
    #[serde(default)]
    pub webhook: Option<WebhookConfig>,
    /// What is watched. Without one, the history alone.
    #[serde(default, rename = "watch")]
    pub watches: Vec<WatchConfig>,
    /// Which records are yours, of a log that does not serve them to you. Absent: labels are not asked for.
    #[serde(default)]
    pub labels: Option<LabelsConfig>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MonitorConfig {
    /// The head that was seen last, what has been looked at, alerts that are still to be sent, proofs of misbehaviour. Made if
    /// absent. Never put an older copy back.
    pub state_dir: PathBuf,
    /// Seconds between two looks, and for reading records in one; with `--once` there is one. 60: a minute is soon
    /// enough to act on, and little to ask.
    #[serde(default = "a_minute")]
    pub interval_s: u32,
    /// A whole answer must be there within so many seconds. 20.
    #[serde(default = "twenty")]
    pub timeout_s: u32,
    /// Seconds for which the log may be unreachable, or behind what a witness has seen, before that is an alert. 600.
    #[serde(default = "ten_minutes")]
    pub patience_s: u32,
    /// PEM file of the authorities that may certify `https` addresses. Absent: those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// The log that is watched.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Its verifier key, from its operator and not from its server: `example.org/server+1234abcd+…`. Of a gateway's
    /// ledger, with its `origin`, the `ledger_key` that the server's `anchor` records state of it.
    pub key: String,
    /// How it went on from other logs, of a Trilith ledger: what `trilith trust` prints. What was kept of those is
    /// kept on, and `key` is of the newest.
    #[serde(default)]
    pub lineage: Option<PathBuf>,
    /// The first line of its checkpoints. The key's name by default.
    #[serde(default)]
    pub origin: Option<String>,
    /// Its addresses, `https://ledger.example.org`: `/checkpoint` and `/tile/…` are below them. The first one is
    /// read; what the others show has to be the same history.
    #[serde(default)]
    pub urls: Vec<String>,
    /// In the place of addresses: a folder of static tiles, or the folder of a Trilith ledger.
    #[serde(default)]
    pub folder: Option<PathBuf>,
    /// What its entries are.
    #[serde(default)]
    pub entries: Entries,
    /// Where to begin on a first start: at its first record, or with what comes from now on.
    #[serde(default)]
    pub begin: Begin,
    /// A file of c2sp.org/tlog-policy, absolute. A head without its quorum is not taken. Absent: none is asked for.
    #[serde(default)]
    pub policy: Option<PathBuf>,
    /// Seconds that the policy's quorum may have been cosigned before now, by the witnesses' clocks: an older head is
    /// not taken, which shows that no old view is served. Absent: their age does not matter.
    #[serde(default)]
    pub max_age_s: Option<u64>,
    /// Monitoring prefixes of witnesses: `/<origin hash>/checkpoint` below them has to be the same history.
    #[serde(default)]
    pub witnesses: Vec<String>,
}

/// What the entries of a log are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Entries {
    /// Records of Trilith, which its server serves: each is looked at.
    #[default]
    Records,
    /// Entries of some other log: each is hashed, and means nothing here.
    Opaque,
    /// They are not served, as a Trilith server does without `http_entries`: the hashes of their tiles are checked.
    Closed,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Begin {
    #[default]
    First,
    Now,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `https://…`, or `http://` and an address of this machine in numbers. Each alert is one POST of JSON.
    pub url: String,
    /// A file, absolute, of a secret of at least 16 bytes that only this user reads, without its line's end:
    /// `Trilith-Signature: t=<seconds>,v1=<hex>` is HMAC-SHA256 by it over `<seconds>.<body>`.
    pub secret_file: PathBuf,
    /// PEM file of the authorities that may certify it. Absent: those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Alerts that wait, at most; with so many the records wait as well, and nothing is left out. 1,000.
    #[serde(default = "a_thousand")]
    pub queue: u32,
}

/// Blinded labels: the log's server has a `[[label]]` with the same key.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelsConfig {
    /// As alerts call what is yours.
    pub name: String,
    /// A file, absolute, that only this user reads: 64 hex digits, as `trilith monitor --label-key` makes it.
    pub key_file: PathBuf,
    /// A file, absolute, of the records of yours that you know: their leaf hashes in base64, one a line, as receipts and
    /// alerts have them. They are not told again; that one of them is not yours is `MONITOR-LABEL-DENIED`. Read at
    /// each look. Absent, or no such file yet: every record of yours is told.
    #[serde(default)]
    pub known: Option<PathBuf>,
    /// The address that `/labels/…` is below. The first of `log.urls` by default; a mirror has none. Of a log with an
    /// `[anchor]` they are signed by `anchor.key`.
    #[serde(default)]
    pub url: Option<String>,
}

/// Something that is owned, and what is expected of it. Names are exact, or end in `*`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchConfig {
    /// As alerts call it.
    pub name: String,
    /// SPIFFE IDs: `spiffe://example.org/payments/*`.
    #[serde(default)]
    pub identities: Vec<String>,
    /// Nodes, by name.
    #[serde(default)]
    pub machines: Vec<String>,
    /// Resources as records have them: `shop/public/orders`, `postgres:shop`.
    #[serde(default)]
    pub resources: Vec<String>,
    /// A record that one of these takes is expected; without one, nothing is.
    #[serde(default, rename = "allow")]
    pub allows: Vec<AllowConfig>,
}

/// Takes a record of which everything holds that is said here. What a record does not say does not hold.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// Types of records: `issuance`, `intent`.
    #[serde(default)]
    pub records: Vec<String>,
    /// Every SPIFFE ID that the record speaks of; of an access, who made it is among them.
    #[serde(default)]
    pub identities: Vec<String>,
    /// Who acts: of an issuance, the SPIFFE ID of the node that asked.
    #[serde(default)]
    pub actors: Vec<String>,
    /// On which nodes: every one that the record names.
    #[serde(default)]
    pub machines: Vec<String>,
    /// Every resource that the record names.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Digests of code, SHA-256 in hex: the record's `code.sha256`, where the estate makes that fact visible.
    #[serde(default)]
    pub code: Vec<String>,
    /// Issuing authorities, SHA-256 of their SPKI in hex: of issuances and delegations.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Times of day in UTC, by the log's clock: `06:00-20:00`; over midnight as `22:00-02:00`.
    #[serde(default)]
    pub hours: Vec<String>,
    /// Days of the week: `mon`, `tue`, `wed`, `thu`, `fri`, `sat`, `sun`.
    #[serde(default)]
    pub days: Vec<String>,
}

const fn a_minute() -> u32 {
    60
}

const fn twenty() -> u32 {
    20
}

const fn ten_minutes() -> u32 {
    600
}

const fn a_thousand() -> u32 {
    1_000
}

/// Of a trust file, what a monitor takes.
#[derive(Deserialize)]
struct Lineage {
    #[serde(default)]
    lineage: Vec<ledger::body::KeyRotation>,
    /// Of a whole answer of `/ledgers`: the links stand in its entries.
    #[serde(default)]
    ledgers: Option<serde::de::IgnoredAny>,
}

pub(crate) fn wrong(what: impl Into<String>) -> Finding {
    Finding::new("MONITOR-CONFIG", what)
        .next("correct monitor.toml; docs/reference/config.md lists its keys")
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Finding {
    wrong(format!("cannot read {}: {error}", path.display()))
}

/// A log's own key, of either form.
pub(crate) fn log_key(text: &str) -> Option<LogKey> {
    let ours = text.parse::<LedgerKey>().map(LogKey::Note).ok();
    ours.or_else(|| text.parse::<CosignerKey>().map(LogKey::Cosigner).ok())
}

/// A checkpoint that a former key of the lineage signed, of more than the log that goes on has kept.
pub(crate) struct GivenUp {
    pub(crate) checkpoint: ForeignCheckpoint,
    /// Records that stayed, and their root: both keys have signed it.
    pub(crate) end: u64,
    pub(crate) root: Hash,
}

/// `None`: `key` leads to no later log, or the note is not one of a former key beyond its end.
pub(crate) fn given_up(note: &str, key: &LogKey) -> Option<GivenUp> {
    let LogKey::Note(newest) = key else {
        return None;
    };
    let Err(CheckpointError::Ended { .. }) = Checkpoint::open(note, newest) else {
        return None;
    };
    let checkpoint = Checkpoint::open_beyond(note, newest).ok()?;
    let end = newest.end_of(checkpoint.origin.as_str())?;
    let links = lineage::links(newest);
    let mut links = links.iter().filter_map(|link| Link::open(link).ok());
    Some(GivenUp {
        checkpoint: (&checkpoint).into(),
        end,
        root: links.find(|link| link.size == end)?.root,
    })
}

/// Of a note that was verified: whether it counts by its signature alone. What a key has signed that was replaced does as
/// the very tree that its log ended with.
pub(crate) fn counts(note: &str, key: &LogKey) -> bool {
    let LogKey::Note(newest) = key else {
        return true;
    };
    let first = note.split('\n').next().unwrap_or_default();
    newest.end_of(first).is_none() || Checkpoint::open_shown(note, newest).is_ok()
}

/// As [`signed_by`], of a note that was taken once: also one of another history of all that a log ended with, which
/// shows the fork.
pub(crate) fn kept_by(
    note: &Note,
    key: &LogKey,
    origin: &str,
) -> Result<ForeignCheckpoint, CheckpointError> {
    match (signed_by(note, key, origin), key) {
        (Err(CheckpointError::EndForked { .. }), LogKey::Note(newest)) => {
            Checkpoint::open_beyond(&note.to_string(), newest).map(|forked| (&forked).into())
        }
        (signed, _) => signed,
    }
}

/// The checkpoint of a note that `key` has signed for the log `origin`.
pub(crate) fn signed_by(
    note: &Note,
    key: &LogKey,
    origin: &str,
) -> Result<ForeignCheckpoint, CheckpointError> {
    // What a log that this one goes on from has signed, up to its end.
    let first = note.text.split('\n').next().unwrap_or_default();
    if let LogKey::Note(newest) = key
        && newest.end_of(first).is_some()
    {
        return Checkpoint::open(&note.to_string(), newest).map(|former| (&former).into());
    }
    if !key.signed(note)? {
        return Err(NoteError::Unsigned {
            expected: key.name().to_owned(),
        }
        .into());
    }
    let checkpoint = ForeignCheckpoint::parse(&note.text)?;
    if checkpoint.origin == origin {
        Ok(checkpoint)
    } else {
        let (expected, found) = (origin.to_owned(), checkpoint.origin);
        Err(CheckpointError::Origin { expected, found })
    }
}

impl Config {
    /// Parses and checks, but for the files that it names.
    ///
    /// # Errors
    /// `MONITOR-CONFIG`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        let config: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `MONITOR-CONFIG`.
    pub fn read(path: &Path) -> Result<Self, Finding> {
        let text = String::from_utf8(read(path)?).map_err(|error| unreadable(path, error))?;
        Self::parse(&text)
    }

    fn check(&self) -> Result<(), Finding> {
        let (monitor, log) = (&self.monitor, &self.log);
        let (webhook, labels) = (self.webhook.as_ref(), self.labels.as_ref());
        let anchor = self.anchor.as_ref();
        let paths = [
            Some(&monitor.state_dir),
            monitor.ca_file.as_ref(),
            log.lineage.as_ref(),
            log.folder.as_ref(),
            log.policy.as_ref(),
            anchor.and_then(|anchor| anchor.lineage.as_ref()),
            anchor.and_then(|anchor| anchor.policy.as_ref()),
            labels.map(|labels| &labels.key_file),
            labels.and_then(|labels| labels.known.as_ref()),
            webhook.map(|webhook| &webhook.secret_file),
            webhook.and_then(|webhook| webhook.ca_file.as_ref()),
        ];
        if let Some(path) = paths.into_iter().flatten().find(|path| path.is_relative()) {
            return Err(wrong("paths are absolute").observed(path.display().to_string()));
        }
        if log.urls.is_empty() == log.folder.is_none() {
            return Err(wrong("a log has `urls` or a `folder`, and not both"));
        }
        if log.urls.len() > MAX_EACH || log.witnesses.len() > MAX_EACH {
            return Err(wrong(format!(
                "`urls` and `witnesses` are {MAX_EACH} each at most"
            )));
        }
        if log.max_age_s.is_some() && log.policy.is_none() {
            return Err(wrong(
                "`max_age_s` is of cosignatures, and there is no `policy`",
            ));
        }
        if monitor.interval_s == 0 || monitor.timeout_s == 0 {
            return Err(wrong("`interval_s` and `timeout_s` are 1 at least"));
        }
        if webhook.is_some_and(|webhook| webhook.queue == 0) {
            return Err(wrong("a `queue` of 0 takes nothing"));
        }
        if log.entries != Entries::Records && !self.watches.is_empty() {
            return Err(wrong(
                "what entries say is looked at where `entries` is `records` alone, so a [[watch]] sees nothing",
            ));
        }
        if labels.is_some() && log.entries != Entries::Closed {
            return Err(wrong(
                "[labels] stand for records that are not served, where `entries` is `closed`; else a [[watch]] reads them",
            ));
        }
        if labels.is_some_and(|labels| labels.name.is_empty()) {
            return Err(wrong("[labels] has a `name`"));
        }
        self.key()?;
        if let Some(anchor) = anchor {
            anchor.check(self)?;
        }
        self.watched()?;
        Ok(())
    }

    pub(crate) fn key(&self) -> Result<LogKey, Finding> {
        let text = &self.log.key;
        // As the records of a server have the keys of its gateways' ledgers.
        let recorded = || {
            let der = crypto::base64::decode(text).ok()?;
            let key = crypto::PublicKey::from_spki_der(&der).ok()?;
            let origin = self.log.origin.as_deref()?;
            LedgerKey::new(origin, key).ok().map(LogKey::Note)
        };
        log_key(text).or_else(recorded).ok_or_else(|| {
            wrong("`log.key` is no verifier key")
                .expected("<name>+<8 hex digits>+<base64>; or the base64 of a `ledger_key`, with `origin`")
                .observed(self.log.key.chars().take(100).collect::<String>())
        })
    }

    /// The key, with what the file of its lineage says.
    pub(crate) fn lineage(&self) -> Result<LogKey, Finding> {
        let key = self.key()?;
        let (Some(path), LogKey::Note(newest)) = (&self.log.lineage, &key) else {
            return Ok(key);
        };
        lineage_of(newest, path, "log.lineage").map(LogKey::Note)
    }

    /// The key as verifier keys are written.
    pub(crate) fn vkey(&self) -> Result<String, Finding> {
        Ok(match self.key()? {
            LogKey::Note(key) => key.to_string(),
            LogKey::Cosigner(key) => key.to_string(),
        })
    }

    /// The first line of the log's checkpoints.
    pub(crate) fn origin(&self) -> Result<String, Finding> {
        match &self.log.origin {
            Some(origin) if origin.is_empty() || origin.contains('\n') => {
                Err(wrong("`log.origin` is one line"))
            }
            Some(origin) => Ok(origin.clone()),
            None => Ok(self.key()?.name().to_owned()),
        }
    }

    pub(crate) fn policy(&self) -> Result<Option<Policy>, Finding> {
        self.log.policy.as_deref().map(policy_of).transpose()
    }

    pub(crate) fn watched(&self) -> Result<Vec<Watch>, Finding> {
        expect::watches(&self.watches)
    }
}

/// What the file at `path` says of how a ledger went on to `newest`.
fn lineage_of(newest: &LedgerKey, path: &Path, named: &str) -> Result<LedgerKey, Finding> {
    let unsound = |what: String| {
        wrong(format!("`{named}`: {what}"))
            .expected(format!("the links that lead to {newest}"))
            .observed(path.display().to_string())
            .next(format!(
                "give what `trilith trust` prints; of a gateway's ledger, its own entry of what the server lists at \
                 `/ledgers`: `jq '.ledgers[] | select(.origin == \"{}\")'`",
                newest.origin()
            ))
    };
    let trust: Lineage = serde_json::from_slice(&read(path)?)
        .map_err(|error| unsound(format!("it does not parse: {error}")))?;
    let followed = lineage::follow(newest, &trust.lineage)
        .map_err(|error| unsound(format!("{}: {error}", error.code())))?;
    if followed != *newest {
        return Err(unsound(format!("it goes on to {followed}")));
    }
    if trust.ledgers.is_some() {
        return Err(unsound("it is a list of several ledgers".to_owned()));
    }
    let leading = lineage::links(&followed);
    let leads = |link: &ledger::body::KeyRotation| {
        leading.iter().any(|led| led.statement == link.statement)
    };
    // INVARIANT: a later log without its links is no other log that begins with nothing.
    if !trust.lineage.iter().all(leads) || (leading.is_empty() && newest.origin().place().1 > 1) {
        return Err(unsound("its links do not lead to `key`".to_owned()));
    }
    Ok(followed)
}

fn policy_of(path: &Path) -> Result<Policy, Finding> {
    let policy = Policy::parse(&read(path)?);
    policy.map_err(|error| unreadable(path, facts::with_causes(&error)))
}

/// A file, whole.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Finding> {
    ledger_store::read_whole(path, MAX_FILE).map_err(|error| unreadable(path, error))
}

/// The published schema of `monitor.toml`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
