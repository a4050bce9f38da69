//! `.tlog-proof` text files, c2sp.org/tlog-proof@v1: an inclusion proof that other tools can read.

use crate::merkle::MAX_PROOF;
use crate::scalar::{decode_base64, decode_hash, parse_decimal};
use crate::{Code, Hash, Note};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
const MAX_FILE: usize = 128 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a tlog-proof file: {0}")]
pub struct ProofFileError(&'static str);

impl Code for ProofFileError {
    fn code(&self) -> &'static str {
        "LEDGER-PROOF-FILE"
    }
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
            return Err(ProofFileError("more than 128 KiB"));
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
