//! What a start writes before anything else: what became of operations that the last run left open, and
//! that something may be missing.

use crate::recorder::PENDING;
use ledger::body::{self, Body as _};
use ledger::{Draft, Record, RecordError, RecordType};
use ledger_store::{LedgerHandle, Reader, StoreError};
use std::collections::BTreeSet;

/// Records read at once.
const CHUNK: u64 = 4_096;

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error("the gateway's ledger")]
    Ledger(#[from] StoreError),
    #[error("a record of the gateway's ledger")]
    Record(#[from] RecordError),
}

/// What the last run left.
#[derive(Debug, Default)]
struct LastRun {
    began: bool,
    stopped: bool,
    /// Open intents by number.
    open: BTreeSet<u64>,
    last_wall: u64,
}

/// Appends outcomes `unknown` for open intents, a `gap` after a run that did not stop, and `start`.
/// Returns how many intents were open.
pub(crate) fn recover(
    ledger: &LedgerHandle,
    reader: &Reader,
    trust_domain: &str,
    program: &str,
    now: u64,
) -> Result<usize, RecoveryError> {
    let head = reader.head();
    let last = last_run(reader)?;
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

/// Reads backwards to the last `start`: an intent of an earlier run was settled by the start after it.
fn last_run(reader: &Reader) -> Result<LastRun, RecoveryError> {
    let mut last = LastRun::default();
    let mut settled: Vec<u64> = Vec::new();
    let mut end = reader.size();
    'backwards: while end > 0 {
        let from = end.saturating_sub(CHUNK);
        let mut records = Vec::new();
        while from + (records.len() as u64) < end {
            records.extend(reader.read(from + records.len() as u64..end)?);
        }
        for bytes in records.into_iter().rev() {
            let record = Record::from_vec(bytes)?;
            last.last_wall = last.last_wall.max(record.stamp().wall);
            match record.kind() {
                RecordType::Start => {
                    last.began = true;
                    break 'backwards;
                }
                RecordType::Stop => last.stopped = true,
                RecordType::Outcome => {
                    let outcome = record.expect_body::<body::Outcome>()?;
                    if outcome.transaction.as_deref() != Some(PENDING) {
                        settled.push(outcome.intent.0);
                    }
                }
                RecordType::Intent => {
                    last.open.insert(record.seq());
                }
                _ => {}
            }
        }
        end = from;
    }
    for seq in settled {
        last.open.remove(&seq);
    }
    Ok(last)
}
