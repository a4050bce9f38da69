//! Taking the oldest records of a ledger away (c2sp.org/tlog-tiles, "Pruning"): whole segments go, tiles of hashes stay,
//! so that everything that is left is still proven by them, and so is that the first record, which is kept beside.
//!
//! Order: the first record is put beside the segments, then the intent, which names the index that the `retention`
//! record will have; then that record, and only then segments go. INVARIANT: nothing is gone unless a record of the
//! ledger, proven up to its signed head, says so: cut short before the record, the intent means nothing; after it, the
//! next opening takes away what is left.

use crate::disk::{Disk, read_file, replace};
use crate::log::Log;
use crate::segment::Segments;
use crate::{Ledger, StoreError};
use ledger::body::Retention;
use ledger::merkle::{self, leaf_hash, verify_inclusion};
use ledger::tile::WIDTH;
use ledger::{Draft, Record, RecordError};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The first record, in the ledger's folder.
const BEGIN: &str = "begin";
/// Bytes of it, at most: those of any record.
const BEGIN_BYTES: usize = 1 << 20;
/// What was pruned, in the ledger's folder: `RECORD MINIMUM`, and perhaps an intent behind it.
const RETENTION: &str = "retention";
const RETENTION_BYTES: usize = 4 << 10;
/// Records that are needed still, in the ledger's folder: index, length, bytes, one after the other.
const APART: &str = "apart";
/// Bytes of what is kept beside the segments, with 12 a record, at most: all of them are held in memory.
pub const KEPT_BESIDE: usize = 64 << 20;
/// Index and length, little-endian.
const APART_HEAD: usize = 12;
/// How long tiles are waited for, before less is pruned than could be.
const TILES: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// What is gone of a ledger, and by which of its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pruned {
    /// Records below it are gone, but for the first one.
    pub minimum: u64,
    /// Index of the `retention` record that says so.
    pub record: u64,
}

/// What could go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prunable {
    /// Records below it, but for the first one.
    pub minimum: u64,
    /// Bytes of the disk that they take.
    pub bytes: u64,
}

/// What is gone, and the first record.
pub(crate) struct Kept {
    pub(crate) pruned: Pruned,
    pub(crate) begin: Vec<u8>,
    /// Others that were kept beside the segments, each of the tree.
    pub(crate) apart: BTreeMap<u64, Vec<u8>>,
}

impl Kept {
    /// A record below the minimum, if it was kept.
    pub(crate) fn beside(&self, index: u64) -> Option<&Vec<u8>> {
        match index {
            0 => Some(&self.begin),
            index => self.apart.get(&index),
        }
    }

    /// Why record `index` is not there.
    pub(crate) const fn gone(&self, index: u64) -> StoreError {
        StoreError::Pruned {
            index,
            minimum: self.pruned.minimum,
            record: self.pruned.record,
        }
    }
}

pub(crate) fn begin_path(dir: &Path) -> PathBuf {
    dir.join(BEGIN)
}

/// The first record of a ledger that has lost its first segment. Whoever takes it proves it.
pub(crate) fn begin(disk: &dyn Disk, dir: &Path) -> Result<Vec<u8>, StoreError> {
    let path = begin_path(dir);
    let read = read_file(disk, &path, BEGIN_BYTES).map_err(StoreError::io("cannot read", &path))?;
    read.ok_or_else(|| missing(dir))
}

/// The first segment is not there, and nothing says why.
pub(crate) fn missing(dir: &Path) -> StoreError {
    StoreError::Corrupt {
        path: Log::segment_dir(dir),
        at: 0,
        what: "the first segment is missing".to_owned(),
    }
}

/// What the folder says to be pruned, oldest first.
fn claims(disk: &dyn Disk, dir: &Path) -> Result<Vec<Pruned>, StoreError> {
    let path = dir.join(RETENTION);
    let read = read_file(disk, &path, RETENTION_BYTES);
    let Some(bytes) = read.map_err(StoreError::io("cannot read", &path))? else {
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(&bytes);
    let claim = |line: &str| {
        let (record, minimum) = line.split_once(' ')?;
        Some(Pruned {
            record: record.parse().ok()?,
            minimum: minimum.parse().ok()?,
        })
    };
    Ok(text.lines().filter_map(claim).collect())
}

/// What is gone of the log, as a record of it says.
pub(crate) fn kept(log: &Log) -> Result<Option<Kept>, StoreError> {
    let disk = log.disk.as_ref();
    let first = log.segments.first();
    let mut found = None;
    for claim in claims(disk, &log.dir)? {
        // A newer one counts for more than an older one.
        if says(log, claim)? {
            found = Some(claim);
        }
    }
    match found.filter(|pruned| first <= pruned.minimum) {
        Some(pruned) => {
            let begin = begin(disk, &log.dir)?;
            if proven(log, 0, &begin)? {
                let apart = apart(log, pruned.minimum)?;
                return Ok(Some(Kept {
                    pruned,
                    begin,
                    apart,
                }));
            }
            Err(StoreError::Corrupt {
                path: begin_path(&log.dir),
                at: 0,
                what: "it is not the first record of the ledger".to_owned(),
            })
        }
        None if first > 0 => Err(missing(&log.dir)),
        None => Ok(None),
    }
}

/// The records below `minimum` that are kept beside the segments. One that is not of the tree is refused, and not left
/// out: whoever needs it would be told that it was pruned.
fn apart(log: &Log, minimum: u64) -> Result<BTreeMap<u64, Vec<u8>>, StoreError> {
    let path = log.dir.join(APART);
    let read = read_file(log.disk.as_ref(), &path, KEPT_BESIDE);
    let Some(bytes) = read.map_err(StoreError::io("cannot read", &path))? else {
        return Ok(BTreeMap::new());
    };
    let corrupt = |at: u64, what: String| StoreError::Corrupt {
        path: path.clone(),
        at,
        what,
    };
    let (mut found, mut rest) = (BTreeMap::new(), bytes.as_slice());
    while !rest.is_empty() {
        let at = (bytes.len() - rest.len()) as u64;
        let (index, record, behind) =
            first_apart(rest).ok_or_else(|| corrupt(at, "a record is not whole".to_owned()))?;
        // What was kept for an intent that came to nothing is in a segment still.
        if index < minimum {
            let leaf = log.hashes(0, index, 1)?;
            if leaf.first() != Some(&leaf_hash(record)) {
                let what = format!("record {index} does not hash to its leaf in the tree");
                return Err(corrupt(at, what));
            }
            found.insert(index, record.to_vec());
        }
        rest = behind;
    }
    Ok(found)
}

/// The first record of what is kept, and what stands behind it.
fn first_apart(bytes: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(APART_HEAD)?;
    let (index, length) = head.split_at_checked(8)?;
    let index = u64::from_le_bytes(index.try_into().ok()?);
    let length = u32::from_le_bytes(length.try_into().ok()?);
    let (record, behind) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((index, record, behind))
}

fn apart_bytes(apart: &BTreeMap<u64, Vec<u8>>) -> Result<Vec<u8>, StoreError> {
    let length: usize = apart.values().map(|one| one.len() + APART_HEAD).sum();
    if length > KEPT_BESIDE {
        return Err(StoreError::Apart {
            what: format!(
                "{} records of {length} bytes are needed still, and at most {KEPT_BESIDE} bytes are kept beside what stays",
                apart.len()
            ),
        });
    }
    let mut bytes = Vec::with_capacity(length);
    for (index, record) in apart {
        let length = u32::try_from(record.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(record);
    }
    Ok(bytes)
}

/// Whether the ledger has the record, and it says this.
fn says(log: &Log, claim: Pruned) -> Result<bool, StoreError> {
    let size = log.heads.get().checkpoint.size;
    if claim.record >= size || claim.record < log.segments.first() || claim.minimum > claim.record {
        return Ok(false);
    }
    let read = log.segments.read(claim.record, claim.record + 1, 0)?;
    let Some(bytes) = read.into_iter().next() else {
        return Ok(false);
    };
    let body = Record::parse(&bytes).and_then(|record| record.expect_body::<Retention>());
    let said = body.is_ok_and(|body| body.minimum_index.0 == claim.minimum);
    Ok(said && proven(log, claim.record, &bytes)?)
}

fn proven(log: &Log, index: u64, bytes: &[u8]) -> Result<bool, StoreError> {
    let head = log.heads.get().checkpoint.clone();
    let proof = merkle::inclusion_proof(index, head.size, log)?;
    let leaf = leaf_hash(bytes);
    Ok(proof
        .is_some_and(|proof| verify_inclusion(&leaf, index, head.size, &proof, &head.root).is_ok()))
}

/// Takes away the segments whose records are all gone, the oldest first.
pub(crate) fn drop_segments(log: &Log) -> Result<(), StoreError> {
    let Some(kept) = log.kept() else {
        return Ok(());
    };
    let dir = Log::segment_dir(&log.dir);
    let mut dropped = false;
    while let Some(segment) = log.segments.below(kept.pruned.minimum) {
        match log.disk.remove(&segment.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::io("cannot remove", &segment.path)(error));
            }
            _ => log.segments.drop_first(segment.first()),
        }
        dropped = true;
    }
    if dropped {
        let synced = log.disk.sync_dir(&dir);
        synced.map_err(StoreError::io("cannot sync", &dir))?;
    }
    Ok(())
}

/// The highest index below which whole segments and whole entry bundles may go, if `keep` and what follows stay.
fn minimum(log: &Log, keep: u64) -> Option<u64> {
    let (already, tiled) = (
        log.kept().map_or(0, |kept| kept.pruned.minimum),
        log.tiled(),
    );
    let firsts = log.segments.firsts();
    let whole = firsts
        .iter()
        .skip(1)
        .map(|first| first.next_multiple_of(WIDTH));
    whole
        .filter(|minimum| *minimum <= keep && *minimum <= tiled && *minimum > already)
        .max()
}

impl Ledger {
    /// What could go if the records from `keep` on stay: whole segments, of which tiles hold every hash. `None`: nothing.
    ///
    /// # Errors
    /// If a segment cannot be read.
    pub fn prunable(&self, keep: u64) -> Result<Option<Prunable>, StoreError> {
        let log = self.reader().log();
        let waited = std::time::Instant::now();
        let size = self.reader().size();
        while log.tiled() + WIDTH <= size && waited.elapsed() < TILES {
            std::thread::sleep(LOOK);
        }
        let Some(minimum) = minimum(log, keep.min(size)) else {
            return Ok(None);
        };
        let bytes = log.segments.bytes_below(minimum)?;
        Ok(Some(Prunable { minimum, bytes }))
    }

    /// Records that what is below an index is gone, by the draft that is made of that index, and takes it away. What is
    /// gone is what [`Ledger::prunable`] says; `None`: nothing. INVARIANT: nobody else appends meanwhile.
    ///
    /// # Errors
    /// `LEDGER-PRUNE` if somebody else appended: nothing is gone then. Others: what is not gone goes at the next opening
    /// if its record is there.
    pub fn prune(
        &self,
        keep: u64,
        draft: impl FnOnce(u64) -> Result<Draft, RecordError>,
    ) -> Result<Option<Pruned>, StoreError> {
        match self.prunable(keep)? {
            Some(prunable) => self.prune_but(prunable, &[], |minimum| Ok(vec![draft(minimum)?])),
            None => Ok(None),
        }
    }

    /// Takes away what [`Ledger::prunable`] has said, and no more, whatever could go by now; but for the records `needed`,
    /// which are kept beside the segments. `drafts` are recorded in one commit, and the last one is the `retention` record.
    ///
    /// # Errors
    /// As [`Ledger::prune`]; also if what is needed is more than can be kept so, or is not there, and `LEDGER-PRUNE` if
    /// just this much cannot go.
    pub fn prune_but(
        &self,
        what: Prunable,
        needed: &[u64],
        drafts: impl FnOnce(u64) -> Result<Vec<Draft>, RecordError>,
    ) -> Result<Option<Pruned>, StoreError> {
        let log = self.reader().log();
        // INVARIANT: the caller has seen who has what goes, and what of it is needed: nothing else goes.
        if minimum(log, what.minimum.min(self.reader().size())) != Some(what.minimum) {
            return Err(StoreError::Prune {
                what: format!("the records below {} cannot go as a whole", what.minimum),
            });
        }
        let minimum = what.minimum;
        let drafts =
            drafts(minimum).map_err(|error| StoreError::Record(std::sync::Arc::new(error)))?;
        let Some(behind) = (drafts.len() as u64).checked_sub(1) else {
            return Ok(None);
        };
        let begin = self.reader().record(0)?.into_bytes();
        let mut apart = BTreeMap::new();
        for index in needed.iter().filter(|index| (1..minimum).contains(*index)) {
            apart.insert(*index, self.reader().record(*index)?.into_bytes());
        }
        let beside = apart_bytes(&apart)?;
        put(log, BEGIN, &begin)?;
        // INVARIANT: until the record is there, what an earlier pruning has kept is kept too: cut short, that one counts.
        let before = log.kept();
        let mut both = before
            .as_ref()
            .map(|kept| kept.apart.clone())
            .unwrap_or_default();
        let first = both.is_empty();
        both.extend(apart.clone());
        if !both.is_empty() {
            let all = if first {
                beside.clone()
            } else {
                apart_bytes(&both)?
            };
            put(log, APART, &all)?;
        }
        let intent = Pruned {
            minimum,
            record: self.reader().size() + behind,
        };
        let lines = log
            .kept()
            .map(|kept| kept.pruned)
            .into_iter()
            .chain([intent]);
        let lines = lines.map(|claim| format!("{} {}\n", claim.record, claim.minimum));
        put(log, RETENTION, lines.collect::<String>().as_bytes())?;

        let committed = self.append_many_reserved(drafts).wait()?;
        let record = committed.last().map(crate::Committed::index);
        if record != Some(intent.record) {
            return Err(StoreError::Prune {
                what: format!(
                    "its record is {record:?}, and was to be {}: somebody else appended",
                    intent.record
                ),
            });
        }
        if !first {
            put(log, APART, &beside)?;
        }
        log.set_kept(Kept {
            pruned: intent,
            begin,
            apart,
        });
        drop_segments(log)?;
        Ok(Some(intent))
    }

    /// Keeps `records` of what is gone, by their indices, beside the segments again, with what is kept there still.
    ///
    /// # Errors
    /// `LEDGER-PRUNE` if nothing is gone, or it is more than can be kept so; and one that is not of the tree is refused.
    pub fn keep_beside(&self, records: BTreeMap<u64, Vec<u8>>) -> Result<(), StoreError> {
        let log = self.reader().log();
        let Some(kept) = log.kept() else {
            return Err(StoreError::Prune {
                what: "no record of this ledger is gone".to_owned(),
            });
        };
        for (index, record) in &records {
            let gone = (1..kept.pruned.minimum).contains(index);
            if !gone || log.hashes(0, *index, 1)?.first() != Some(&leaf_hash(record)) {
                return Err(StoreError::Corrupt {
                    path: log.dir.join(APART),
                    at: *index,
                    what: format!(
                        "what was to be kept as record {index} is none that is gone of this ledger"
                    ),
                });
            }
        }
        let mut apart = kept.apart.clone();
        apart.extend(records);
        put(log, APART, &apart_bytes(&apart)?)?;
        log.set_kept(Kept {
            pruned: kept.pruned,
            begin: kept.begin.clone(),
            apart,
        });
        Ok(())
    }
}

fn put(log: &Log, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let (disk, path) = (log.disk.as_ref(), log.dir.join(name));
    let written = replace(disk, &path, bytes).and_then(|()| disk.sync_dir(&log.dir));
    written.map_err(StoreError::io("cannot write", &path))
}

impl Segments {
    /// Where each segment begins, in order.
    fn firsts(&self) -> Vec<u64> {
        self.all().iter().map(|segment| segment.first()).collect()
    }

    pub(crate) fn first(&self) -> u64 {
        self.firsts().first().copied().unwrap_or(0)
    }

    /// The oldest segment, if all of its records are below `minimum`.
    fn below(&self, minimum: u64) -> Option<std::sync::Arc<crate::segment::Segment>> {
        let all = self.all();
        let (oldest, next) = (all.first()?, all.get(1)?);
        (next.first() <= minimum).then(|| std::sync::Arc::clone(oldest))
    }

    fn bytes_below(&self, minimum: u64) -> Result<u64, StoreError> {
        let all = self.all();
        let pairs = all.iter().zip(all.iter().skip(1));
        pairs
            .filter(|(_, next)| next.first() <= minimum)
            .map(|(segment, _)| segment.len())
            .sum()
    }
}
