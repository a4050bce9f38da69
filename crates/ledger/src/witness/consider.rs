//! Whether a witness may cosign: the checks of c2sp.org/tlog-witness, in their order. The witness compares and
//! replaces its state in one step around them, and makes the new one durable before it answers.

use super::{AddCheckpoint, Answer};
use crate::merkle::{self, Hash};
use crate::{CheckpointError, Code, LogKey, ProofError};
use thiserror::Error;

/// What a witness knows of one origin.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The keys that it trusts for this origin, whatever their names are.
    pub keys: &'a [LogKey],
    /// Size and root of the checkpoint that it cosigned last.
    pub last: Option<(u64, Hash)>,
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("{origin:?} is not a log that this witness cosigns")]
    Origin { origin: String },
    #[error("no key that is trusted for {origin:?} has signed the checkpoint")]
    Unsigned { origin: String },
    #[error("a line of a trusted key does not verify")]
    Signature(#[source] CheckpointError),
    #[error("the old size {old} is above the checkpoint's, {size}")]
    Old { old: u64, size: u64 },
    #[error("the last checkpoint that was cosigned has {size} records, not {old}")]
    Conflict { old: u64, size: u64 },
    #[error("a checkpoint of no record has the root of the empty tree")]
    EmptyRoot,
    /// The log has signed two histories, where the sizes are equal; else the proof may just be wrong.
    #[error(
        "the checkpoint is not shown to extend the one of {old} records that was cosigned last"
    )]
    Inconsistent {
        old: u64,
        #[source]
        proof: ProofError,
    },
}

impl Code for Refusal {
    fn code(&self) -> &'static str {
        match self {
            Self::Origin { .. } => "LEDGER-WITNESS-ORIGIN",
            Self::Unsigned { .. } | Self::Signature(_) => "LEDGER-WITNESS-SIGNATURE",
            Self::Old { .. } => "LEDGER-WITNESS-OLD",
            Self::Conflict { .. } => "LEDGER-WITNESS-CONFLICT",
            Self::EmptyRoot | Self::Inconsistent { .. } => "LEDGER-WITNESS-INCONSISTENT",
        }
    }
}

impl Refusal {
    /// As it is answered.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        let status = match self {
            Self::Old { .. } => 400,
            Self::Unsigned { .. } | Self::Signature(_) => 403,
            Self::Origin { .. } => 404,
            Self::Conflict { size, .. } => return Answer::Conflict { size: *size },
            Self::EmptyRoot | Self::Inconsistent { .. } => 422,
        };
        Answer::Refused { status }
    }
}

/// Whether the checkpoint of `request` may be cosigned, and become what is [`Known::last`]. `known` is of the
/// request's origin, or `None`.
pub fn consider(request: &AddCheckpoint, known: Option<&Known<'_>>) -> Result<(), Refusal> {
    let origin = || request.checkpoint.origin.clone();
    // "If the checkpoint origin is unknown, the witness MUST respond with a 404".
    let known = known.ok_or_else(|| Refusal::Origin { origin: origin() })?;
    let mut signed = false;
    for key in known.keys {
        // "or a signature line's key name and ID match a trusted key but the signature itself fails to verify".
        signed |= key.signed(&request.note).map_err(Refusal::Signature)?;
    }
    if !signed {
        return Err(Refusal::Unsigned { origin: origin() });
    }
    let (old, size, root) = (
        request.old,
        request.checkpoint.size,
        request.checkpoint.root,
    );
    if old > size {
        return Err(Refusal::Old { old, size });
    }
    // "(or zero if it never cosigned a checkpoint for that origin)".
    let (last, last_root) = known.last.unwrap_or((0, merkle::empty_root()));
    if old != last {
        return Err(Refusal::Conflict { old, size: last });
    }
    if size == 0 && root != merkle::empty_root() {
        return Err(Refusal::EmptyRoot);
    }
    merkle::verify_consistency(old, &last_root, size, &root, &request.proof)
        .map_err(|proof| Refusal::Inconsistent { old, proof })
}
