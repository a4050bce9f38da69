//! Bodies about the running of a ledger: processes, gaps, anchors, snapshots, retention, recovery.

use super::BlobRef;
use crate::{Base64, Decimal, Digest};
use serde::{Deserialize, Serialize};

/// A process began to write this ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    pub program: String,
    pub version: String,
    /// Counts the openings of this ledger.
    pub epoch: Decimal,
    /// Size and root that were found.
    pub size: Decimal,
    pub root: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    pub reason: String,
}

/// Something may have happened that no record tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// `crash`, `disk-full`, `recovery`.
    pub cause: String,
    /// Unix milliseconds, as far as it is known.
    pub from: u64,
    pub to: u64,
    /// What is missing, at most; `null` where it is not known.
    pub lost: Option<Decimal>,
    pub detail: String,
}

/// A gateway's checkpoint, in the server's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// SPIFFE ID that the gateway authenticated with.
    pub gateway: String,
    /// Origin of its ledger.
    pub origin: String,
    /// SPKI of the key that signs its ledger. All anchors of one origin state the same key.
    pub ledger_key: Base64,
    pub size: Decimal,
    pub root: Digest,
    /// The signed note.
    pub checkpoint: String,
}

/// An act of administration, allowed or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    pub principal: String,
    pub action: String,
    pub resource: String,
    pub allow: bool,
    pub policies: Vec<String>,
    pub detail: String,
}

/// The state after the first `size` records, so that snapshot and tail rebuild it. It vouches for nothing: whoever has
/// the records computes it from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    pub size: Decimal,
    pub root: Digest,
    pub state: BlobRef,
    /// Format of the blob.
    pub format: String,
}

/// From now on records below `minimum_index` may be gone (c2sp.org/tlog-tiles, "Pruning"), but for the first one. Whoever
/// mirrors the ledger keeps what he has: this lets nobody take away a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    pub minimum_index: Decimal,
    /// Index of the snapshot that stands in for what is gone; `null` in the ledger of a gateway or decision point, which
    /// no state is computed from.
    pub snapshot: Option<Decimal>,
    /// Which records might go, why, and who holds what is gone.
    pub policy: String,
    /// `uid:` and the number of who had it done.
    pub by: String,
}

/// The ledger goes on from an older copy of itself, although a longer or another history was signed and
/// seen. Who follows exactly the head that is given up here may step over to the tree that stays; nobody
/// else may, and nothing else lets him.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// The head that is given up.
    pub old_size: Decimal,
    pub old_root: Digest,
    /// Its signed note, where one is held: evidence that this key signed it.
    pub old_checkpoint: Option<String>,
    /// The tree that stays, and that the ledger goes on from.
    pub new_size: Decimal,
    pub new_root: Digest,
    pub reason: String,
    pub by: String,
    /// In a follower's own ledger: index of the server's record that it obeyed. `null` in the server's.
    pub obeyed: Option<Decimal>,
}
