//! The facts of an issuance, from wherever its record and blobs are.

use facts::{Fact, FactSet, Timestamp};
use ledger::body::Issuance;
use ledger::{Commitment, HexDigest, Record};

/// Has records of a server's ledger, and blobs: a pack, or a ledger's folder.
pub trait Recorded {
    type Error;

    /// The record at `index` of the server's ledger, if it is here.
    ///
    /// # Errors
    /// When it cannot be read.
    fn record(&self, index: u64) -> Result<Option<Record>, Self::Error>;

    /// The blob of this digest, if it is here.
    ///
    /// # Errors
    /// When it cannot be read.
    fn blob(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Self::Error>;
}

/// What an SVID was issued on.
#[derive(Debug, Clone)]
pub struct Issued {
    pub facts: FactSet,
    /// All that was known, not only what the record shows.
    pub whole: bool,
}

/// The facts of the issuance at `index`: from the opening of its commitment, else those that its record shows.
///
/// # Errors
/// When the record or the blob cannot be read.
pub fn issued<R: Recorded>(of: &R, index: u64) -> Result<Option<Issued>, R::Error> {
    let Some(record) = of.record(index)? else {
        return Ok(None);
    };
    let Ok(issuance) = record.expect_body::<Issuance>() else {
        return Ok(None);
    };
    let opening = of.blob(&HexDigest(issuance.commit.0.0))?;
    let opened = opening.and_then(|opening| opened(&opening, &issuance));
    Ok(Some(match opened {
        Some(facts) => Issued { facts, whole: true },
        None => Issued {
            facts: spiffe_core::shown::facts(&issuance),
            whole: false,
        },
    }))
}

/// The facts in the opening of what `issuance` commits to; `None` if it is none.
pub(crate) fn opened(opening: &[u8], issuance: &Issuance) -> Option<FactSet> {
    let at = Timestamp::from_millis(issuance.evidence_time);
    let lines = Commitment::opened(opening, "facts")?.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, source, value) = serde_json::from_slice(line).ok()?;
            Some(Fact {
                name,
                value,
                source,
                observed_at: at,
            })
        })
        .collect()
}
