//! What is told: one document for each thing that its owner has to look at.

use facts::Finding;
use serde::{Deserialize, Serialize};

/// A record that no rule expects, or something that is wrong with the log itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    pub v: u8,
    /// The same each time that it is sent: whoever takes it can tell a second copy.
    pub id: String,
    pub kind: Kind,
    /// Origin of the log.
    pub log: String,
    /// When it was found, Unix milliseconds by this machine's clock.
    pub found: u64,
    pub finding: Finding,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Told>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A record of what is watched, and no `[[watch.allow]]` takes it.
    Unexpected,
    /// What the log shows is not what it has signed, or it cannot be reached for long.
    Log,
    /// The log has signed two histories.
    Misbehaviour,
}

/// The record that an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    pub index: u64,
    /// Name of the `[[watch]]`.
    pub watch: String,
    /// Type of the record; absent where this version cannot read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record_type: Option<String>,
    /// When it was made, by the log's clock, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<u64>,
    /// Which of what is watched it is about.
    pub about: Vec<String>,
    /// SHA-256 of the leaf, in base64: with the tiles it proves that the record is there.
    pub leaf_hash: String,
    /// The record byte for byte, if it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}
