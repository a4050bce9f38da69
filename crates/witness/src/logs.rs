//! The logs that a witness cosigns: by origin, the keys that are trusted for it.

use facts::Finding;
use ledger::{LedgerKey, LogKey, Policy};
use std::collections::BTreeMap;

/// Logs of one witness, at most: the state of each is read at the start, and held.
const MOST: usize = 10_000;
/// Bytes of an origin, at most: an ML-DSA-44 cosignature names it with one byte of length.
const LONGEST: usize = 255;

/// Which logs, and by which keys.
#[derive(Debug, Clone, Default)]
pub struct Logs {
    keys: BTreeMap<String, Vec<LogKey>>,
    /// By the origin of each log that went on as another, and of each that went on from one: the newest key, with those
    /// before it.
    lineages: BTreeMap<String, LedgerKey>,
}

fn wrong(what: impl Into<String>) -> Finding {
    Finding::new("WITNESS-LOG", what)
        .next("correct the logs of witness.toml, or of the policies that it names")
}

impl Logs {
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            lineages: BTreeMap::new(),
        }
    }

    /// Trusts `key` for `origin`, beside those that it has; a key that is there already changes nothing.
    ///
    /// # Errors
    /// If the origin cannot be one of a log that is cosigned.
    pub fn add(&mut self, origin: &str, key: LogKey) -> Result<(), Finding> {
        let plain = !origin.chars().any(char::is_control);
        if origin.is_empty() || origin.len() > LONGEST || !plain {
            return Err(
                wrong("an origin is one line of 1 to 255 bytes").observed(format!("{origin:?}"))
            );
        }
        if self.keys.len() >= MOST && !self.keys.contains_key(origin) {
            return Err(wrong(format!("more than {MOST} logs")));
        }
        let keys = self.keys.entry(origin.to_owned()).or_default();
        if !keys.contains(&key) {
            keys.push(key);
        }
        Ok(())
    }

    /// Takes what is known of the logs that a ledger went on from: `newest` knows the keys before its own. Their last
    /// checkpoints are served on, and nothing more of them is cosigned.
    ///
    /// # Errors
    /// If one of them is known to have gone on as another log.
    pub fn follow(&mut self, newest: &LedgerKey) -> Result<(), Finding> {
        let mut next = Some(newest);
        while let Some(key) = next {
            let origin = key.origin().to_string();
            self.add(&origin, LogKey::Note(key.bare()))?;
            let known = self.lineages.insert(origin.clone(), newest.clone());
            if let Some(other) = known.filter(|known| known != newest) {
                return Err(wrong(format!("two lineages of {origin}"))
                    .expected("one `lineage` for each ledger, that of its newest log")
                    .observed(format!("{other}, and {newest}")));
            }
            next = key.before();
        }
        Ok(())
    }

    /// The newest key of the ledger that the log of this origin is of, with those before it, where that is known.
    pub(crate) fn lineage(&self, origin: &str) -> Option<&LedgerKey> {
        self.lineages.get(origin)
    }

    /// A verifier key as people write it: `example.org/log+1234abcd+…`.
    ///
    /// # Errors
    /// If it is none.
    pub fn key(text: &str) -> Result<LogKey, Finding> {
        // A policy knows every kind of key by its type, and one line is one.
        let text = text.trim();
        let policy = format!("log {text}\nquorum none\n");
        let read = Policy::parse(policy.as_bytes());
        let read = read.map_err(|error| wrong(facts::with_causes(&error)).observed(text))?;
        match read.logs() {
            [log] if log.url.is_none() => Ok(log.key.clone()),
            _ => Err(wrong("a log's key is one verifier key").observed(text)),
        }
    }

    /// The `log` lines of a policy, each under its key's name. Its witnesses and its quorum are for readers.
    ///
    /// # Errors
    /// If it is no policy, or has no log.
    pub fn add_policy(&mut self, text: &[u8]) -> Result<(), Finding> {
        let policy = Policy::parse(text).map_err(|error| wrong(facts::with_causes(&error)))?;
        if policy.logs().is_empty() {
            return Err(wrong("the policy has no `log` line"));
        }
        for log in policy.logs() {
            self.add(log.key.name(), log.key.clone())?;
        }
        Ok(())
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Each with its keys, by origin.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[LogKey])> {
        self.keys
            .iter()
            .map(|(origin, keys)| (origin.as_str(), keys.as_slice()))
    }
}
