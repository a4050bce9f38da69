//! That a log has signed two histories, as a file that proves it to anybody who has the log's key.
//!
//! Two notes that the log signed, and where their sizes differ what the tiles of the longer one say of the size of
//! the shorter, with the proof that they are its own. Only the log's key can make such a file; or, where a checkpoint is
//! of a log that this one goes on from, whoever has the key that signed that.

use crate::config::{kept_by, log_key};
use ledger::body::KeyRotation;
use ledger::lineage;
use ledger::merkle::verify_consistency;
use ledger::{Code, Digest, ForeignCheckpoint, LogKey, Note};
use serde::{Deserialize, Serialize};

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Misbehaviour {
    pub v: u8,
    /// The first line of both checkpoints; with a `lineage`, that of the newest log.
    pub origin: String,
    /// The log's verifier key, as whoever reads this knows it from elsewhere.
    pub key: String,
    /// How the log went on from others, where one of the two is a checkpoint of such a one: the links that lead to `key`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<KeyRotation>,
    /// The shorter history, and where it was seen.
    pub first: Shown,
    /// The longer one, or another one of equal size.
    pub second: Shown,
    /// Root of the second history at the first one's size. It is not the first one's root.
    pub root: Digest,
    /// From there to the second checkpoint, RFC 6962, section 2.1.2; empty if the sizes are equal.
    pub proof: Vec<Digest>,
}

/// A signed checkpoint, and where it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    pub by: String,
    pub note: String,
}

/// Why a file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MisbehaviourError(pub String);

impl Code for MisbehaviourError {
    fn code(&self) -> &'static str {
        "MONITOR-MISBEHAVIOUR"
    }
}

impl std::fmt::Display for MisbehaviourError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Misbehaviour {
    /// Reads a file; it proves nothing before [`Misbehaviour::verify`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, MisbehaviourError> {
        let read: Self = serde_json::from_slice(bytes).map_err(|error| {
            MisbehaviourError(format!("the file shows no misbehaviour: {error}"))
        })?;
        match read.v {
            1 => Ok(read),
            other => Err(MisbehaviourError(format!("a file of version {other}"))),
        }
    }

    /// Checks that the key in the file has signed two histories. Whose key it is, is for the reader to know.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn verify(&self) -> Result<(ForeignCheckpoint, ForeignCheckpoint), MisbehaviourError> {
        let key = self.followed()?;
        let first = self.opened(&self.first, &key)?;
        let second = self.opened(&self.second, &key)?;
        if first.size > second.size {
            return Err(MisbehaviourError(
                "the first history is the longer one".to_owned(),
            ));
        }
        let proof: Vec<_> = self.proof.iter().map(|hash| hash.0).collect();
        let shown = verify_consistency(first.size, &self.root.0, second.size, &second.root, &proof);
        shown.map_err(|error| {
            MisbehaviourError(format!(
                "the second history has not that root at the first one's size: {error}"
            ))
        })?;
        if self.root.0 == first.root {
            return Err(MisbehaviourError("the two are one history".to_owned()));
        }
        Ok((first, second))
    }

    /// The key, with the logs that its own goes on from.
    fn followed(&self) -> Result<LogKey, MisbehaviourError> {
        let key = log_key(&self.key)
            .ok_or_else(|| MisbehaviourError("the key is no verifier key".to_owned()))?;
        match key {
            LogKey::Note(newest) if !self.lineage.is_empty() => {
                let followed = lineage::follow(&newest, &self.lineage);
                let followed = followed.map_err(|error| {
                    MisbehaviourError(format!(
                        "the links to the key: {}",
                        facts::with_causes(&error)
                    ))
                })?;
                match followed == newest {
                    true => Ok(LogKey::Note(followed)),
                    false => Err(MisbehaviourError(format!(
                        "the links lead on to {followed}"
                    ))),
                }
            }
            key => Ok(key),
        }
    }

    /// True if one of the two was signed by a key that was replaced since: by the log's operator while it signed for
    /// the log, or by whoever has had that key at any time.
    #[must_use]
    pub fn by_a_replaced_key(&self) -> bool {
        !self.lineage.is_empty()
    }

    fn opened(&self, shown: &Shown, key: &LogKey) -> Result<ForeignCheckpoint, MisbehaviourError> {
        let unsigned =
            |error: String| MisbehaviourError(format!("the checkpoint of {}: {error}", shown.by));
        let note = Note::parse(&shown.note).map_err(|error| unsigned(error.to_string()))?;
        kept_by(&note, key, &self.origin).map_err(|error| unsigned(error.to_string()))
    }

    /// As it is written, and a name that is its own.
    #[must_use]
    pub fn file(&self) -> (String, Vec<u8>) {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        let digest = crypto::hex::encode(&crypto::sha256(&bytes));
        let short: String = digest.chars().take(16).collect();
        (format!("misbehaviour-{short}.json"), bytes)
    }
}
