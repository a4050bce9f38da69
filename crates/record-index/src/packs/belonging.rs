//! What records of a gateway belong to: the beginnings of their sessions, and the intents of their outcomes. They stand
//! before, mostly a short way, and are sought backwards.

use super::{BATCH, Log, Unmade};
use ledger::{Record, RecordType, body};
use serde_json::Value;
use std::collections::{BTreeSet, HashSet};
use std::ops::RangeInclusive;

/// What is still sought.
#[derive(Default)]
struct Sought {
    sessions: HashSet<String>,
    /// `seq` of intents.
    intents: HashSet<u64>,
}

impl Sought {
    /// Looks at a record before those that were seen. True if it was sought.
    fn see(&mut self, record: &Record, asked: bool) -> bool {
        use RecordType::{Decision, Intent, Outcome, SessionEnd, SessionStart};
        let kind = record.kind();
        if !matches!(
            kind,
            Decision | Intent | Outcome | SessionEnd | SessionStart
        ) {
            return false;
        }
        let body: Value = serde_json::from_str(record.body()).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let found = match kind {
            SessionStart => text("session").is_some_and(|session| self.sessions.remove(session)),
            Intent => self.intents.remove(&record.seq()),
            _ => false,
        };
        let acts = matches!(kind, Decision | Intent | SessionEnd);
        if acts && (asked || found) {
            self.sessions.extend(text("session").map(str::to_owned));
        }
        if kind == Outcome && asked {
            let seq = text("intent").and_then(|seq| seq.parse::<u64>().ok());
            self.intents.extend(seq);
        }
        found
    }

    fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.intents.is_empty()
    }
}

/// The places before `places` that records there belong to.
pub(super) fn before(reader: &Log, places: &RangeInclusive<u64>) -> Result<BTreeSet<u64>, Unmade> {
    let (mut sought, mut found) = (Sought::default(), BTreeSet::new());
    let mut end = places.end().saturating_add(1);
    while end > 0 && (end > *places.start() || !sought.is_empty()) {
        let start = end.saturating_sub(BATCH);
        let records = reader.read(start..end)?;
        let placed: Vec<(u64, Vec<u8>)> = (start..end).zip(records).collect();
        for (index, bytes) in placed.into_iter().rev() {
            let record = Record::from_vec(bytes).ok();
            // What nobody could read in the pack is named there only where it is asked for itself.
            let Some(record) = record.filter(|record| body::check(record).is_ok()) else {
                continue;
            };
            let asked = places.contains(&index);
            if sought.see(&record, asked) && !asked {
                found.insert(index);
            }
        }
        end = start;
    }
    Ok(found)
}
