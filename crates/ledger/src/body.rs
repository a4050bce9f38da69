//! What each type of record says. Every struct refuses unknown fields; the order of its fields is
//! the order in the record. 64-bit numbers are [`Decimal`]; times of day are Unix milliseconds,
//! validity of certificates Unix seconds, both below 2^53 and so plain numbers.
//!
//! Fields that may be personal or reveal topology are commitments or digests, never plain.

mod access;
mod attestation;
mod authority;
mod delegation;
mod erasure;
mod estate;
mod issuance;
mod misbehaviour;
mod upkeep;

pub use access::{
    About, ActionOn, Coverage, Decision, Intent, More, OnBehalfOf, Outcome, SessionEnd,
    SessionStart,
};
pub use attestation::{
    Attested, Counted, Evidence, FactItem, FactValue, Finding, JoinRefused, Lock, NodeState,
    Readmit, TokenCreated, TokenSpent, Verdict, VerdictOutcome,
};
pub use authority::{Begin, Bundle, JwtAuthority, KeyRotation, PcrItem, SealApproval};
pub use delegation::Delegation;
pub use erasure::{ErasedItem, Erasure};
pub use estate::{
    AuthorSignature, BlobRef, EstateVersion, InvariantApproval, InvariantResult, Proof,
};
pub use issuance::{AssumeRefused, Issuance, Revocation, SvidKind, Target, TargetKind};
pub use misbehaviour::{Misbehaviour, SignedHead};
pub use upkeep::{Admin, Anchor, Gap, Recovery, Retention, Snapshot, Start, Stop};

use crate::{Record, RecordBuilder, RecordError, RecordType};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A body that knows the type of its record.
pub trait Body: Serialize + DeserializeOwned {
    const KIND: RecordType;

    /// Begins the record with this body.
    fn record(&self) -> RecordBuilder
    where
        Self: Sized,
    {
        Record::builder(Self::KIND, self)
    }
}

macro_rules! bodies {
    ($($name:ident),* $(,)?) => {
        $(impl Body for $name {
            const KIND: RecordType = RecordType::$name;
        })*

        /// Checks that the body of `record` has the shape of its type, in the one form that the
        /// type's struct writes.
        pub fn check(record: &Record) -> Result<(), RecordError> {
            match record.kind() {
                $(RecordType::$name => check_as::<$name>(record),)*
            }
        }
    };
}

bodies!(
    Begin,
    Start,
    Stop,
    Gap,
    Bundle,
    KeyRotation,
    EstateVersion,
    Proof,
    Verdict,
    Attested,
    JoinRefused,
    Issuance,
    AssumeRefused,
    TokenCreated,
    TokenSpent,
    NodeState,
    Lock,
    Readmit,
    Revocation,
    Intent,
    Outcome,
    Decision,
    SessionStart,
    SessionEnd,
    Anchor,
    Admin,
    Snapshot,
    Retention,
    Recovery,
    SealApproval,
    InvariantApproval,
    Delegation,
    Misbehaviour,
    Erasure,
);

fn check_as<T: Body>(record: &Record) -> Result<(), RecordError> {
    let body: T = record.body_as()?;
    let canonical = serde_json::to_string(&body).map_err(RecordError::Serialize)?;
    if canonical == record.body() {
        Ok(())
    } else {
        let kind = record.kind();
        Err(RecordError::NotCanonical { kind })
    }
}
