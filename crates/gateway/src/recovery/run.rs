//! What a run left, read from its records; and noted beside the ledger from time to time, so that the next start reads
//! what came after the note and not the whole run.
//!
//! The note is no source of truth: it counts if the ledger has its root at its size, and a start without it reads
//! back to where the run began.

use super::RecoveryError;
use crate::recorder::PENDING;
use ledger::body;
use ledger::{Digest, Record, RecordType};
use ledger_store::{Reader, RealDisk, read_file, replace};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::MissedTickBehavior;

/// Records read at once.
const CHUNK: u64 = 4_096;
/// How often a run is noted, if it has grown.
const CADENCE: Duration = Duration::from_secs(10);
/// A note is longer only if more operations are open than a gateway has sessions for.
const LONGEST: usize = 4 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastRun {
    pub(super) began: bool,
    pub(super) stopped: bool,
    /// Open intents by number.
    pub(super) open: BTreeSet<u64>,
    /// Highest time of a record, Unix milliseconds.
    pub(super) last_wall: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// All records below it are read into `run`.
    size: u64,
    root: Digest,
    run: LastRun,
}

impl LastRun {
    /// Takes in the records of `from..to`.
    fn read(&mut self, reader: &Reader, mut from: u64, to: u64) -> Result<(), RecoveryError> {
        while from < to {
            for bytes in reader.read(from..to.min(from + CHUNK))? {
                self.take(&Record::from_vec(bytes)?)?;
                from += 1;
            }
        }
        Ok(())
    }

    fn take(&mut self, record: &Record) -> Result<(), RecoveryError> {
        self.last_wall = self.last_wall.max(record.stamp().wall);
        match record.kind() {
            // What was open before it has its outcome before it.
            RecordType::Start => {
                self.began = true;
                self.stopped = false;
                self.open.clear();
            }
            RecordType::Stop => self.stopped = true,
            RecordType::Intent => {
                self.open.insert(record.seq());
            }
            RecordType::Outcome => {
                let outcome = record.expect_body::<body::Outcome>()?;
                if outcome.transaction.as_deref() != Some(PENDING) {
                    self.open.remove(&outcome.intent.0);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// What the first `size` records amount to.
pub(super) fn last(reader: &Reader, noted: &Path, size: u64) -> Result<LastRun, RecoveryError> {
    let (mut run, from) = match note(reader, noted, size)? {
        Some(note) => (note.run, note.size),
        None => (LastRun::default(), last_start(reader, size)?),
    };
    run.read(reader, from, size)?;
    Ok(run)
}

/// The note, if it is of this ledger.
fn note(reader: &Reader, noted: &Path, size: u64) -> Result<Option<Note>, RecoveryError> {
    // Unreadable is as good as none: it saves time, and nothing rests on it.
    let read = read_file(&RealDisk, noted, LONGEST).unwrap_or_default();
    let Some(note) = read.and_then(|bytes| serde_json::from_slice::<Note>(&bytes).ok()) else {
        return Ok(None);
    };
    if note.size > size
        || note.size < minimum(reader)
        || Digest::from(reader.root(note.size)?) != note.root
    {
        return Ok(None);
    }
    Ok(Some(note))
}

/// Index of the last `start` of the first `size` records: an intent of an earlier run was settled by the start after it.
fn last_start(reader: &Reader, size: u64) -> Result<u64, RecoveryError> {
    let (mut end, minimum) = (size, minimum(reader));
    while end > minimum {
        let from = end.saturating_sub(CHUNK).max(minimum);
        let (mut at, mut found) = (from, None);
        while at < end {
            for bytes in reader.read(at..end)? {
                if Record::from_vec(bytes)?.kind() == RecordType::Start {
                    found = Some(at);
                }
                at += 1;
            }
        }
        if let Some(found) = found {
            return Ok(found);
        }
        end = from;
    }
    Ok(minimum)
}

/// Who prunes leaves a run that has ended: what is gone is of earlier ones.
fn minimum(reader: &Reader) -> u64 {
    reader.pruned().map_or(0, |pruned| pruned.minimum)
}

/// Notes what the run amounts to, every few seconds, until it is dropped.
pub(crate) async fn settle(reader: Reader, noted: PathBuf) {
    let mut known: Option<Note> = None;
    let mut ticks = tokio::time::interval(CADENCE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let size = known.as_ref().map_or(0, |note| note.size);
        if reader.size().saturating_sub(size) < CHUNK {
            continue;
        }
        let (reader, noted, last) = (reader.clone(), noted.clone(), known.take());
        let done = tokio::task::spawn_blocking(move || go_on(&reader, &noted, last)).await;
        match done {
            Ok(Ok(note)) => known = Some(note),
            Ok(Err(error)) => tracing::warn!(%error, "open operations are not noted"),
            Err(error) => tracing::warn!(%error, "open operations are not noted"),
        }
    }
}

fn go_on(reader: &Reader, noted: &Path, known: Option<Note>) -> Result<Note, RecoveryError> {
    let size = reader.size();
    let run = match known {
        Some(mut note) => {
            note.run.read(reader, note.size, size)?;
            note.run
        }
        None => last(reader, noted, size)?,
    };
    let note = Note {
        size,
        root: reader.root(size)?.into(),
        run,
    };
    let bytes = serde_json::to_vec(&note).map_err(std::io::Error::from)?;
    replace(&RealDisk, noted, &bytes)?;
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::{CHUNK, go_on, last, last_start};
    use crate::recorder::PENDING;
    use crypto::{Algorithm, KeyPair};
    use ledger::body::{self, Body as _, Coverage};
    use ledger::{Draft, RecordBuilder};
    use ledger_store::{Ledger, Options};
    use std::sync::Arc;

    fn by_gateway(record: RecordBuilder) -> Draft {
        record.actor("gateway", "self").draft().unwrap()
    }

    fn start() -> Draft {
        let start = body::Start {
            program: "gateway".to_owned(),
            version: String::new(),
            epoch: 1.into(),
            size: 0.into(),
            root: ledger::Digest([0; 32]),
        };
        by_gateway(start.record())
    }

    fn intent() -> Draft {
        let intent = body::Intent {
            session: "s".to_owned(),
            statement: String::new(),
            actions: Vec::new(),
            decision: String::new(),
            policies: Vec::new(),
            coverage: Coverage::Complete,
            more_policies: None,
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        by_gateway(intent.record())
    }

    fn outcome(of: u64, transaction: Option<&str>) -> Draft {
        let outcome = body::Outcome {
            intent: of.into(),
            result: "ok".to_owned(),
            sqlstate: None,
            rows: None,
            tag: None,
            transaction: transaction.map(str::to_owned),
        };
        by_gateway(outcome.record())
    }

    #[test]
    fn a_note_saves_reading_what_is_before_it_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let noted = dir.path().join("note");
        let key = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
        let (path, options) = (dir.path().join("ledger"), Options::default());
        let ledger = Ledger::open(&path, key, "example.org/gateway/g", &options).unwrap();
        let reader = ledger.reader();
        let append = |drafts: Vec<Draft>| {
            let first = reader.size();
            ledger.append_many(drafts).wait().unwrap();
            first
        };
        // An earlier run, two operations of this one, and more than is read at once.
        append(vec![intent(), outcome(0, None), start(), intent()]);
        append(vec![intent(), outcome(3, None)]);
        append((0..CHUNK).map(|_| outcome(1, None)).collect());
        assert_eq!(last_start(reader, reader.size()).unwrap(), 2);
        let whole = last(reader, &noted, reader.size()).unwrap();
        assert_eq!(whole.open.iter().copied().collect::<Vec<_>>(), [4]);
        assert!(whole.began && !whole.stopped);

        let note = go_on(reader, &noted, None).unwrap();
        assert_eq!((note.size, &note.run), (reader.size(), &whole));
        let six = append(vec![intent(), intent(), outcome(4, None)]);
        append(vec![outcome(six, Some(PENDING)), outcome(six + 1, None)]);
        let after = last(reader, &noted, reader.size()).unwrap();
        std::fs::rename(&noted, dir.path().join("aside")).unwrap();
        assert_eq!(last(reader, &noted, reader.size()).unwrap(), after);
        assert_eq!(after.open.iter().copied().collect::<Vec<_>>(), [six]);
        assert_eq!(go_on(reader, &noted, Some(note)).unwrap().run, after);

        // It is the note that is taken up: what it says of what is before it is not read again.
        let text = std::fs::read_to_string(&noted).unwrap();
        let other = text.replace(&format!("[{six}]"), &format!("[2,{six}]"));
        std::fs::write(&noted, &other).unwrap();
        assert!(
            last(reader, &noted, reader.size())
                .unwrap()
                .open
                .contains(&2)
        );
        // Of another ledger, of more than there is, or no note: it does not count.
        let of_another = other
            .replace("\"root\":\"", "\"root\":\"A")
            .replacen("=\"", "\"", 1);
        for not_counted in [of_another.as_str(), "{}", "", "\u{0}"] {
            std::fs::write(&noted, not_counted).unwrap();
            assert_eq!(last(reader, &noted, reader.size()).unwrap(), after);
        }
        std::fs::write(&noted, &text).unwrap();
        let early = last(reader, &noted, 3).unwrap();
        assert!(early.began && early.open.is_empty());
    }
}
