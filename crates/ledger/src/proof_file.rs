//! `.tlog-proof` text files, c2sp.org/tlog-proof@v1: an inclusion proof that other tools can read, checked
//! against a log's key and the quorum of a policy.

use crate::merkle::{self, MAX_PROOF};
use crate::scalar::{decode_base64, decode_hash, parse_decimal};
use crate::{
    CheckpointError, Code, ForeignCheckpoint, Hash, LogKey, Note, Policy, ProofError, Quorum,
};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
/// A note, and what stands before it.
const MAX_FILE: usize = crate::note::MAX_NOTE + 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a tlog-proof file: {0}")]
pub struct ProofFileError(&'static str);

impl Code for ProofFileError {
    fn code(&self) -> &'static str {
        "LEDGER-PROOF-FILE"
    }
}

/// The first thing of a proof that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProofFailure {
    #[error("the proof's checkpoint")]
    Checkpoint(#[source] CheckpointError),
    #[error(
        "the policy's quorum has not cosigned the checkpoint: {cosigned} of its {witnesses} witnesses have"
    )]
    Quorum { cosigned: usize, witnesses: usize },
    #[error("the inclusion proof")]
    Inclusion(#[source] ProofError),
}

impl Code for ProofFailure {
    fn code(&self) -> &'static str {
        match self {
            Self::Checkpoint(error) => error.code(),
            Self::Quorum { .. } => "LEDGER-QUORUM",
            Self::Inclusion(error) => error.code(),
        }
    }
}

/// What a proof has shown: the leaf is in this log, and who has seen the log so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedProof {
    pub index: u64,
    pub checkpoint: ForeignCheckpoint,
    /// `None` without a policy.
    pub quorum: Option<Quorum>,
}

/// The content of a file. `extra` is authenticated by nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    pub extra: Option<Vec<u8>>,
    pub index: u64,
    pub hashes: Vec<Hash>,
    /// A signed note, verbatim.
    pub checkpoint: String,
}

impl ProofFile {
    /// "Verifying a tlog proof", steps 2 to 4: that one of `logs` signed the checkpoint, that the witnesses of
    /// `policy` are enough, and that `leaf` is under it. The leaf hash is step 1, the caller's.
    pub fn verify(
        &self,
        leaf: &Hash,
        logs: &[&LogKey],
        policy: Option<&Policy>,
    ) -> Result<VerifiedProof, ProofFailure> {
        let opened = Note::parse(&self.checkpoint)
            .map_err(CheckpointError::from)
            .and_then(|note| {
                let checkpoint = LogKey::open_any(logs, &note)?;
                let quorum = policy.map(|policy| policy.judge(&note)).transpose()?;
                Ok((checkpoint, quorum))
            });
        let (checkpoint, quorum) = opened.map_err(ProofFailure::Checkpoint)?;
        if let (Some(quorum), Some(policy)) = (&quorum, policy)
            && !quorum.reached
        {
            return Err(ProofFailure::Quorum {
                cosigned: quorum.cosignatures.len(),
                witnesses: policy.witnesses().len(),
            });
        }
        let (size, root) = (checkpoint.size, &checkpoint.root);
        merkle::verify_inclusion(leaf, self.index, size, &self.hashes, root)
            .map_err(ProofFailure::Inclusion)?;
        Ok(VerifiedProof {
            index: self.index,
            checkpoint,
            quorum,
        })
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", crypto::base64::encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.hashes {
            writeln!(f, "{}", crypto::base64::encode(hash))?;
        }
        write!(f, "\n{}", self.checkpoint)
    }
}

impl FromStr for ProofFile {
    type Err = ProofFileError;

    /// INVARIANT: `parse(x)?.to_string() == x`.
    fn from_str(file: &str) -> Result<Self, ProofFileError> {
        if file.len() > MAX_FILE {
            return Err(ProofFileError("more than 320 KiB"));
        }
        let rest = file.strip_prefix(HEADER);
        let rest = rest.ok_or(ProofFileError(
            "the first line is not c2sp.org/tlog-proof@v1",
        ))?;
        let (proof, checkpoint) = rest
            .split_once("\n\n")
            .ok_or(ProofFileError("no empty line before the checkpoint"))?;
        let mut lines = proof.split('\n').peekable();
        let extra = lines
            .next_if(|line| line.starts_with("extra "))
            .and_then(|line| line.strip_prefix("extra "))
            .map(|text| decode_base64(text).ok_or(ProofFileError("extra is not base64")))
            .transpose()?;
        let index = lines
            .next()
            .and_then(|line| parse_decimal(line.strip_prefix("index ")?))
            .ok_or(ProofFileError("no index line"))?;
        let hashes: Vec<Hash> = lines
            .map(|line| decode_hash(line).ok_or(ProofFileError("a line is not a base64 hash")))
            .collect::<Result<_, _>>()?;
        if hashes.len() > MAX_PROOF {
            return Err(ProofFileError("more than 64 hashes"));
        }
        Note::parse(checkpoint)
            .map_err(|_error| ProofFileError("the checkpoint is not a signed note"))?;
        Ok(Self {
            extra,
            index,
            hashes,
            checkpoint: checkpoint.to_owned(),
        })
    }
}
