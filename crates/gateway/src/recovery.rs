//! What a start writes before anything else: what became of operations that the last run left open, and
//! that something may be missing.

mod run;

pub(crate) use run::settle;

use ledger::body::{self, Body as _};
use ledger::{Draft, RecordError};
use ledger_store::{LedgerHandle, Reader, StoreError};
use std::path::Path;

/// Beside the ledger.
pub(crate) const NOTED: &str = "open-operations.json";

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("the gateway's ledger")]
    Ledger(#[from] StoreError),
    #[error("a record of the gateway's ledger")]
    Record(#[from] RecordError),
    #[error("the note of what the last run left open")]
    Note(#[from] std::io::Error),
}

/// Appends outcomes `unknown` for open intents, a `gap` after a run that did not stop, and `start`.
/// Returns how many intents were open.
pub(crate) fn recover(
    ledger: &LedgerHandle,
    reader: &Reader,
    noted: &Path,
    trust_domain: &str,
    program: &str,
    now: u64,
) -> Result<usize, RecoveryError> {
    let head = reader.head();
    let last = run::last(reader, noted, head.checkpoint.size)?;
    let mut drafts: Vec<Draft> = Vec::new();
    if head.checkpoint.size == 0 {
        let begin = body::Begin {
            trust_domain: trust_domain.to_owned(),
            ledger_key: ledger::Base64(ledger.key().public_key().spki_der().to_vec()),
            format: "v1".to_owned(),
        };
        drafts.push(begin.record().actor(program, "self").draft()?);
    }
    for seq in &last.open {
        let outcome = body::Outcome {
            intent: (*seq).into(),
            result: "unknown".to_owned(),
            sqlstate: None,
            rows: None,
            tag: None,
            transaction: None,
        };
        drafts.push(outcome.record().actor(program, "self").draft()?);
    }
    if last.began && !last.stopped {
        let gap = body::Gap {
            cause: "crash".to_owned(),
            from: last.last_wall,
            to: now,
            lost: None,
            detail: "reads of the last flush interval, and ends of sessions".to_owned(),
        };
        drafts.push(gap.record().actor(program, "self").draft()?);
    }
    let start = body::Start {
        program: program.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: ledger.epoch().into(),
        size: head.checkpoint.size.into(),
        root: head.checkpoint.root.into(),
    };
    drafts.push(start.record().actor(program, "self").draft()?);
    ledger.append_many(drafts).wait()?;
    Ok(last.open.len())
}

/// `stop`, so that the next start knows that nothing is missing.
pub(crate) fn stop(ledger: &LedgerHandle, program: &str) -> Result<(), RecoveryError> {
    let stop = body::Stop {
        reason: "shutdown".to_owned(),
    };
    ledger
        .append(stop.record().actor(program, "self").draft()?)
        .wait()?;
    Ok(())
}
