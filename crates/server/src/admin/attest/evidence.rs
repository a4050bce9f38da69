//! Where evidence is: verdicts of a node in the ledger, and their blobs.

use crate::core::Core;
use crate::refusal::Refusal;
use appraise::Blobs;
use facts::Finding;
use ledger::body::{self, VerdictOutcome};
use ledger::{Record, RecordType};
use ledger_store::StoreError;

/// Records read at once.
const BATCH: u64 = 4_096;
/// Records that are looked through for one verdict.
const MOST_RECORDS: u64 = 1 << 20;
/// A verdict's evidence in memory: the longest list and log, and some.
const MOST_BYTES: usize = 48 << 20;

/// A verdict, and where it stands.
pub(super) struct Recorded {
    pub(super) index: u64,
    pub(super) record: Record,
    pub(super) verdict: body::Verdict,
}

/// Why there is nothing to look at.
pub(super) fn none(what: &str) -> Refusal {
    Refusal::Unknown(
        Finding::new("VERDICT-UNKNOWN", "there is no verdict at that place")
            .observed(what.to_owned())
            .next("trilith ledger search --type verdict"),
    )
}

pub(super) fn verdict_at(core: &Core, index: u64) -> Result<Recorded, Refusal> {
    let record = core.journal.reader().record(index);
    let record = record.map_err(|error| match error {
        StoreError::Pruned { .. } => Refusal::internal("reading a verdict", &error),
        _ => none(&index.to_string()),
    })?;
    let verdict = record.expect_body().map_err(|_| none(&index.to_string()))?;
    Ok(Recorded {
        index,
        record,
        verdict,
    })
}

/// The newest verdict of a node, a refused one as well.
pub(super) fn newest(core: &Core, node: &str) -> Result<Recorded, Refusal> {
    let row = core.state().node(node).cloned();
    let row = row.ok_or_else(|| {
        Refusal::Unknown(
            Finding::new("NODE-UNKNOWN", "no node of that name ever joined")
                .observed(node.to_owned())
                .next("trilith agent list"),
        )
    })?;
    let id = core.node_id(node)?;
    let head = core.journal.reader().head().checkpoint.size;
    if row.locked.is_some() {
        let found = before(core, head, row.verdict, |verdict| {
            verdict.node == id.as_str()
        })?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    verdict_at(core, row.verdict)
}

/// The last verdict that `wanted` says yes to before record `end`, and not before `first`.
fn before(
    core: &Core,
    end: u64,
    first: u64,
    wanted: impl Fn(&body::Verdict) -> bool,
) -> Result<Option<Recorded>, Refusal> {
    // The verdict of a machine that lives is kept when others are pruned.
    let first = first
        .max(end.saturating_sub(MOST_RECORDS))
        .max(lowest(core));
    let mut end = end;
    while end > first {
        let from = end.saturating_sub(BATCH).max(first);
        let mut last = None;
        let mut index = from;
        while index < end {
            let records = core.journal.reader().read(index..end);
            let records = records.map_err(|error| Refusal::internal("reading records", &error))?;
            if records.is_empty() {
                break;
            }
            for bytes in records {
                let at = index;
                index += 1;
                if let Some(found) = verdict_in(at, bytes).filter(|one| wanted(&one.verdict)) {
                    last = Some(found);
                }
            }
        }
        if last.is_some() {
            return Ok(last);
        }
        end = from;
    }
    Ok(None)
}

/// The lowest index from which on every record is there.
fn lowest(core: &Core) -> u64 {
    let pruned = core.journal.reader().pruned();
    pruned.map_or(0, |pruned| pruned.minimum)
}

fn verdict_in(index: u64, bytes: Vec<u8>) -> Option<Recorded> {
    let record = Record::from_vec(bytes).ok()?;
    if record.kind() != RecordType::Verdict {
        return None;
    }
    let verdict = record.expect_body().ok()?;
    Some(Recorded {
        index,
        record,
        verdict,
    })
}

/// Refused verdicts from record `since` on, oldest first, until `each` says stop.
pub(super) fn refused_since(
    core: &Core,
    since: u64,
    mut each: impl FnMut(Recorded) -> bool,
) -> Result<(), Refusal> {
    let mut index = since.max(lowest(core));
    let last = index.saturating_add(MOST_RECORDS);
    while index < last {
        let end = index.saturating_add(BATCH).min(last);
        let records = core.journal.reader().read(index..end);
        let records = records.map_err(|error| Refusal::internal("reading records", &error))?;
        if records.is_empty() {
            return Ok(());
        }
        for bytes in records {
            let at = index;
            index += 1;
            let refused =
                verdict_in(at, bytes).filter(|one| one.verdict.outcome == VerdictOutcome::Refused);
            if let Some(refused) = refused
                && !each(refused)
            {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The evidence of a verdict. Keys and log of a machine that went on attesting are those of the affirmed
/// verdict before it.
pub(super) fn evidence(core: &Core, recorded: &Recorded) -> Result<Blobs, Refusal> {
    let mut blobs = blobs(core, &recorded.verdict)?;
    let is_whole = !blobs.get("tpm-ak-public").is_empty();
    if is_whole || recorded.verdict.outcome == VerdictOutcome::Affirmed {
        return Ok(blobs);
    }
    let affirmed = before(core, recorded.index, 0, |verdict| {
        verdict.node == recorded.verdict.node && verdict.outcome == VerdictOutcome::Affirmed
    })?;
    if let Some(affirmed) = affirmed {
        blobs.complete(self::blobs(core, &affirmed.verdict)?);
    }
    Ok(blobs)
}

fn blobs(core: &Core, verdict: &body::Verdict) -> Result<Blobs, Refusal> {
    let mut blobs = Blobs::default();
    let mut left = MOST_BYTES;
    for named in &verdict.evidence {
        let gone = || {
            Refusal::Unavailable(
                Finding::new("SERVER-BLOB", "the evidence of a verdict is not there")
                    .expected(format!("blob {} ({})", named.sha256, named.kind))
                    .next("restore it from a backup, or let the machine prove itself again"),
            )
        };
        let length = usize::try_from(named.length.0).map_err(|_| gone())?;
        left = left.checked_sub(length).ok_or_else(|| {
            Refusal::Precondition(
                Finding::new(
                    "ATTEST-EVIDENCE-SIZE",
                    "the evidence is too long to be read at once",
                )
                .expected(format!("at most {MOST_BYTES} bytes")),
            )
        })?;
        let bytes = core.blobs.get(&named.sha256);
        let bytes = bytes.map_err(|error| Refusal::internal("reading a blob", &error))?;
        let told = || crate::erase::told(core, &named.sha256).unwrap_or_else(gone);
        blobs.add(&named.kind, &bytes.ok_or_else(told)?);
    }
    Ok(blobs)
}
