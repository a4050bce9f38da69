//! The ledger's bytes: records, Merkle math, tiles, notes, checkpoints, receipts and packs.
//!
//! A specification crate. It reads no file, no clock and no randomness: bytes, roots, keys and salts
//! are arguments. Segments and tiles on disk are the business of `ledger-store`.
//!
//! What is fixed here cannot change later; `docs/vectors/ledger` holds the same bytes as test
//! vectors for other implementers.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

pub mod about;
mod anchored;
pub mod body;
mod bundle;
mod checkpoint;
mod commitment;
pub mod completeness;
mod cosignature;
mod draft;
mod error;
mod json;
mod key;
mod kind;
pub mod label;
pub mod lineage;
pub mod merkle;
pub mod mirror;
pub mod misbehaviour;
mod note;
pub mod pack;
mod policy;
mod proof_file;
mod receipt;
mod record;
mod scalar;
pub mod tile;
pub mod witness;

pub use anchored::NewestAnchors;
pub use bundle::{BundleError, decode_bundle, encode_bundle};
pub use checkpoint::{Checkpoint, CheckpointError, ForeignCheckpoint};
pub use commitment::{Commitment, Salt};
pub use cosignature::{Cosignature, Cosigner, CosignerError, CosignerKey, Scheme};
pub use draft::{Draft, RecordBuilder};
pub use error::Code;
pub use json::JsonError;
pub use key::{KeyError, LedgerKey, LedgerSigner, Origin, is_called, line};
pub use kind::{LedgerKind, trust_domain};
pub use merkle::{Frontier, Hash, Node, NodeReader, ProofError};
pub use note::{Note, NoteError, NoteSignature};
pub use policy::{LogKey, Policy, PolicyError, PolicyLog, PolicyWitness, Quorum};
pub use proof_file::{ProofFailure, ProofFile, ProofFileError, VerifiedProof};
pub use receipt::{MAX_RECEIPT, Receipt, ReceiptError, VerifiedReceipt};
pub use record::{ConnectionRef, EstateRef, MAX_RECORD, Record, RecordError, RecordType, Stamp};
pub use scalar::{Base64, Decimal, Digest, HexDigest};
