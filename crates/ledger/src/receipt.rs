//! A receipt: a record, its inclusion proof and the checkpoint. It checks offline, against one key.
//!
//! Binary form, version 1, all numbers big-endian:
//! `01 ‖ u16 length ‖ record ‖ u64 index ‖ u8 n ‖ n × 32 bytes ‖ u16 length ‖ checkpoint note`.

use crate::merkle::{self, MAX_PROOF};
use crate::{
    Checkpoint, CheckpointError, Code, Hash, LedgerKey, Note, ProofError, ProofFile, Record,
    RecordError,
};
use thiserror::Error;

/// Bytes of an encoded receipt, at most.
pub const MAX_RECEIPT: usize = 32 * 1024;
const VERSION: u8 = 1;

#[derive(Debug, Error)]
pub enum ReceiptError {
    #[error("a receipt has at most {MAX_RECEIPT} bytes, this one {length}")]
    TooLarge { length: usize },
    #[error("receipts of version {0} are not known")]
    Version(u8),
    #[error("the receipt ends early or has bytes too many")]
    Format,
    #[error("the receipt's record")]
    Record(#[source] RecordError),
    #[error("the receipt's checkpoint")]
    Checkpoint(#[source] CheckpointError),
    #[error("the receipt's inclusion proof")]
    Proof(#[source] ProofError),
    #[error("the record is of {record}, the checkpoint of {checkpoint}")]
    Origin { record: String, checkpoint: String },
}

impl Code for ReceiptError {
    fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "LEDGER-RECEIPT-SIZE",
            Self::Version(_) | Self::Format => "LEDGER-RECEIPT-FORMAT",
            Self::Record(error) => error.code(),
            Self::Checkpoint(error) => error.code(),
            Self::Proof(error) => error.code(),
            Self::Origin { .. } => "LEDGER-RECEIPT-ORIGIN",
        }
    }
}

/// Unverified. [`Receipt::verify`] makes something of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The bytes of the record.
    pub record: Vec<u8>,
    pub index: u64,
    /// Siblings from the leaf up.
    pub proof: Vec<Hash>,
    /// A signed note; its size is that of the tree that the proof is for.
    pub checkpoint: String,
}

/// A record that is in a ledger, and the checkpoint that says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedReceipt {
    pub record: Record,
    pub index: u64,
    pub checkpoint: Checkpoint,
}

impl Receipt {
    /// The compact form that stands in certificates and tokens.
    pub fn encode(&self) -> Result<Vec<u8>, ReceiptError> {
        let too_large = || ReceiptError::TooLarge {
            length: self.record.len() + self.checkpoint.len() + self.proof.len() * 32,
        };
        let record_length = u16::try_from(self.record.len()).map_err(|_too_long| too_large())?;
        let note_length = u16::try_from(self.checkpoint.len()).map_err(|_too_long| too_large())?;
        let hashes = u8::try_from(self.proof.len()).map_err(|_too_many| too_large())?;
        let mut out = Vec::with_capacity(self.record.len() + self.checkpoint.len() + 14 + 2048);
        out.push(VERSION);
        out.extend_from_slice(&record_length.to_be_bytes());
        out.extend_from_slice(&self.record);
        out.extend_from_slice(&self.index.to_be_bytes());
        out.push(hashes);
        out.extend(self.proof.iter().flatten());
        out.extend_from_slice(&note_length.to_be_bytes());
        out.extend_from_slice(self.checkpoint.as_bytes());
        match out.len() {
            0..=MAX_RECEIPT => Ok(out),
            _ => Err(too_large()),
        }
    }

    /// What of [`Receipt::encode`] whoever has the ledger can make again, as it stands there: record, place and proof.
    #[must_use]
    pub fn of_ledger(&self) -> Vec<u8> {
        let mut out = self.record.clone();
        out.extend_from_slice(&self.index.to_be_bytes());
        // INVARIANT: what `encode` takes has at most so many hashes.
        out.push(u8::try_from(self.proof.len()).unwrap_or(u8::MAX));
        out.extend(self.proof.iter().flatten());
        out
    }

    /// INVARIANT: `decode(x)?.encode()? == x`.
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let length = bytes.len();
        if length > MAX_RECEIPT {
            return Err(ReceiptError::TooLarge { length });
        }
        let (&version, rest) = bytes.split_first().ok_or(ReceiptError::Format)?;
        if version != VERSION {
            return Err(ReceiptError::Version(version));
        }
        Self::fields(rest).ok_or(ReceiptError::Format)
    }

    fn fields(rest: &[u8]) -> Option<Self> {
        let (record, rest) = crate::bundle::split_entry(rest)?;
        let (index, rest) = rest.split_first_chunk::<8>()?;
        let (&hashes, rest) = rest.split_first()?;
        if usize::from(hashes) > MAX_PROOF {
            return None;
        }
        let (proof, rest) = rest.split_at_checked(usize::from(hashes) * 32)?;
        let (checkpoint, rest) = crate::bundle::split_entry(rest)?;
        rest.is_empty().then_some(())?;
        Some(Self {
            record: record.to_vec(),
            index: u64::from_be_bytes(*index),
            proof: proof.as_chunks::<32>().0.to_vec(),
            checkpoint: String::from_utf8(checkpoint.to_vec()).ok()?,
        })
    }

    /// Size of the tree that the checkpoint states; nothing about it is verified.
    pub fn size(&self) -> Result<u64, ReceiptError> {
        let note = Note::parse(&self.checkpoint).map_err(CheckpointError::from);
        let checkpoint = note.and_then(|note| Checkpoint::parse(&note.text));
        Ok(checkpoint.map_err(ReceiptError::Checkpoint)?.size)
    }

    /// Checks that `key` signed the checkpoint and that the record is under it, at its index.
    pub fn verify(&self, key: &LedgerKey) -> Result<VerifiedReceipt, ReceiptError> {
        let checkpoint =
            Checkpoint::open(&self.checkpoint, key).map_err(ReceiptError::Checkpoint)?;
        let record = self.under(&checkpoint)?;
        Ok(VerifiedReceipt {
            record,
            index: self.index,
            checkpoint,
        })
    }

    /// As [`Receipt::verify`], for a checkpoint that the caller has already verified and compared
    /// with [`Receipt::checkpoint`]: spares the signature when many receipts share one.
    pub fn under(&self, checkpoint: &Checkpoint) -> Result<Record, ReceiptError> {
        let leaf = merkle::leaf_hash(&self.record);
        merkle::verify_inclusion(
            &leaf,
            self.index,
            checkpoint.size,
            &self.proof,
            &checkpoint.root,
        )
        .map_err(ReceiptError::Proof)?;
        let record = Record::parse(&self.record).map_err(ReceiptError::Record)?;
        if checkpoint.origin.holds(record.origin()) {
            Ok(record)
        } else {
            Err(ReceiptError::Origin {
                record: record.origin().to_owned(),
                checkpoint: checkpoint.origin.to_string(),
            })
        }
    }

    /// The receipt as a `.tlog-proof` file; the record travels beside it.
    #[must_use]
    pub fn to_proof_file(&self) -> ProofFile {
        ProofFile {
            extra: None,
            index: self.index,
            hashes: self.proof.clone(),
            checkpoint: self.checkpoint.clone(),
        }
    }
}
