//! `trilith server prune`: the oldest records of the server's own ledger go, once somebody else has them and a snapshot
//! stands in for what they say. Decision 0032.
//!
//! Order: the snapshot's blob, then what is needed still beside the segments, then the `snapshot` and `retention` records
//! in one commit, and only then segments. INVARIANT: nothing is gone before all of it was read, now, in a copy or at a
//! mirror that the policy names.

use super::open::{LARGEST_BLOB, Opened, StartError};
use super::snapshot::{self, Copied};
use crate::config::Config;
use crate::{cosign, needed, snapshots};
use facts::{Finding, Timestamp};
use ledger::Frontier;
use ledger::body::{self, Body as _};
use ledger::merkle::leaf_hash;
use ledger_store::{KEPT_BESIDE, Old, Reader, StoreError};
use std::collections::BTreeMap;
use std::path::Path;

/// Nothing younger may go, whatever is asked: monitors and exporters that follow the folder get so much time.
const LEAST_MS: u64 = 24 * 60 * 60 * 1000;
/// By so much the clock may be ahead of the time that the state goes by.
const AHEAD_MS: u64 = LEAST_MS;
/// Whoever hears how far it is hears it each time so many were read.
const TOLD: u64 = 65_536;
/// Bytes beside each record that is kept.
const KEPT_HEAD: u64 = 12;
const LONGEST_PLACE: usize = 256;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Prune<'a> {
    /// Records from then on stay.
    pub before: Timestamp,
    pub reason: &'a str,
    /// Who says so, as records name administrators: `uid:0`.
    pub by: &'a str,
    pub now: Timestamp,
    /// A folder that has every record which goes.
    pub copy: Option<&'a Path>,
    /// Do it; else only say what would go.
    pub really: bool,
}

/// How much may be kept, and who hears how far it is.
#[derive(Clone, Copy)]
pub struct PruneBounds<'a> {
    /// Bytes of records that are kept beside what stays.
    pub kept_bytes: u64,
    /// Bytes of the snapshot.
    pub snapshot_bytes: u64,
    /// Milliseconds by which `now` may be later than the time that the state goes by: what is ahead of that may be a clock
    /// that is wrong.
    pub ahead_ms: u64,
    /// Hears, now and then, how many of what goes were read where they stay, and of how many.
    pub told: &'a (dyn Fn(u64, u64) + Sync),
}

impl Default for PruneBounds<'_> {
    fn default() -> Self {
        Self {
            kept_bytes: wide(KEPT_BESIDE),
            snapshot_bytes: wide(LARGEST_BLOB),
            ahead_ms: AHEAD_MS,
            told: &untold,
        }
    }
}

const fn untold(_read: u64, _of: u64) {}

/// What goes, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// Of the ledger.
    pub origin: String,
    /// Records below it, but for the first one and those that are kept.
    pub minimum: u64,
    /// Bytes of the disk.
    pub bytes: u64,
    /// Records below it that are kept because something lives by them: how many, by what for.
    pub kept: BTreeMap<&'static str, u64>,
    /// Bytes of those: they move into the file `apart`.
    pub kept_bytes: u64,
    /// Bytes of the snapshot that stands in for what goes.
    pub snapshot_bytes: u64,
    /// Who has what goes.
    pub holder: String,
    /// The `snapshot` and the `retention` record, if it was done.
    pub records: Option<(u64, u64)>,
}

/// Prunes the ledger of a server that does not run.
///
/// # Errors
/// `PRUNE-YOUNG`, `PRUNE-NOTHING`, `PRUNE-CLOCK`, `PRUNE-NOT-COPIED`, `PRUNE-HELD`, `LEDGER-PRUNE`, `SNAPSHOT-COPY`,
/// `SNAPSHOT-LARGE`; those of opening what is on disk, and of a server that may not sign.
pub fn prune(config: &Config, ask: &Prune<'_>) -> Result<Pruning, StartError> {
    prune_within(config, ask, &PruneBounds::default())
}

/// As [`prune`], within these bounds.
///
/// # Errors
/// As [`prune`].
pub fn prune_within(
    config: &Config,
    ask: &Prune<'_>,
    bounds: &PruneBounds<'_>,
) -> Result<Pruning, StartError> {
    config.check()?;
    let youngest = ask.now.as_millis().saturating_sub(LEAST_MS);
    if ask.before.as_millis() > youngest {
        return Err(StartError::Refused(
            Finding::new("PRUNE-YOUNG", "records of the last 24 hours stay")
                .expected(format!("{} or earlier", Timestamp::from_millis(youngest)))
                .observed(ask.before.to_string())
                .next("name an earlier time, as `--before 400d`"),
        ));
    }
    let opened = Opened::open(config, None)?;
    snapshot::may_sign(config, &opened)?;
    // INVARIANT: neither this clock alone says how old a record is, nor one that a server has only begun with.
    let known = opened.state.clock();
    if ask.now.as_millis() > known.saturating_add(bounds.ahead_ms) {
        return Err(ahead(known, ask.now));
    }
    let reader = opened.ledger.reader().clone();
    let old = reader.older(u64::MAX, ask.before.as_millis())?;
    let Some(prunable) = opened.ledger.prunable(old.records)? else {
        // By their own clock there are some.
        if opened.ledger.prunable(old.stamped)?.is_some() {
            return Err(by_a_wrong_clock(ask, &old));
        }
        let old = old.records;
        return Err(StartError::Refused(
            Finding::new("PRUNE-NOTHING", "there is no whole segment of such records")
                .expected(format!("records before {}", ask.before))
                .observed(format!(
                    "{} records, the first {old} old enough",
                    reader.size()
                ))
                .next("prune later: segments of 64 MiB go as a whole"),
        ));
    };
    let minimum = prunable.minimum;
    let told = |read: u64| {
        if read.is_multiple_of(TOLD) || read == minimum {
            (bounds.told)(read, minimum);
        }
    };
    let holder = holder(config, &opened, ask.copy, (minimum, &told))?;
    let needed = needed::below(&opened.state, &reader, minimum)?;
    let mut pruning = Pruning {
        origin: opened.ledger.origin().to_string(),
        minimum,
        bytes: prunable.bytes,
        kept: counted(&needed),
        kept_bytes: length(&reader, &needed)?,
        snapshot_bytes: wide(snapshots::bytes_of(&opened.state).len()),
        holder,
        records: None,
    };
    bounds.hold(&pruning)?;
    if !ask.really {
        opened.ledger.close()?;
        return Ok(pruning);
    }
    let record = snapshot::make(&opened)?;
    let place = reader.size();
    let reason = super::new_log::reason(ask.reason);
    let policy = format!("before {}, and {}: {reason}", ask.before, pruning.holder);
    let indices: Vec<u64> = needed.into_keys().collect();
    let pruned = opened.ledger.prune_but(prunable, &indices, |minimum| {
        let retention = body::Retention {
            minimum_index: minimum.into(),
            snapshot: Some(place.into()),
            policy,
            by: ask.by.to_owned(),
        };
        let drafts = [record, retention.record()];
        let drafts = drafts.map(|record| record.actor(ask.by, super::open::UID).draft());
        drafts.into_iter().collect()
    });
    // What it could not keep beside what stays: nothing was recorded.
    let pruned = pruned.map_err(|error| match error {
        StoreError::Apart { what } => held(&pruning, &what),
        error => error.into(),
    })?;
    if let Some(pruned) = pruned {
        pruning.minimum = pruned.minimum;
        pruning.records = Some((place, pruned.record));
    }
    snapshot::remember(&opened)?;
    opened.ledger.close()?;
    Ok(pruning)
}

impl PruneBounds<'_> {
    /// Refuses what would be kept, if it is too much. Nothing is begun by then.
    fn hold(&self, pruning: &Pruning) -> Result<(), StartError> {
        let many: u64 = pruning.kept.values().sum();
        let bytes = pruning
            .kept_bytes
            .saturating_add(many.saturating_mul(KEPT_HEAD));
        if bytes > self.kept_bytes {
            let most = self.kept_bytes;
            let what = format!("{many} records of {bytes} bytes, and at most {most} are kept");
            return Err(held(pruning, &what));
        }
        if pruning.snapshot_bytes > self.snapshot_bytes {
            return Err(snapshot::too_large(
                pruning.snapshot_bytes,
                self.snapshot_bytes,
            ));
        }
        Ok(())
    }
}

/// How old anything is says a clock that no records have gone on by.
fn ahead(known: u64, now: Timestamp) -> StartError {
    StartError::Refused(
        Finding::new(
            "PRUNE-CLOCK",
            "the clock is more than a day ahead of the records that the server has made: it may be wrong, and how old they are \
             is not known",
        )
        .expected(format!(
            "a day after {} at most",
            Timestamp::from_millis(known)
        ))
        .observed(now.to_string())
        .next("set the clock if it is wrong; else let the server run for somewhat more than an hour, end it, and prune again"),
    )
}

/// More say to be old than are known to be.
fn by_a_wrong_clock(ask: &Prune<'_>, old: &Old) -> StartError {
    StartError::Refused(
        Finding::new(
            "PRUNE-CLOCK",
            "the clock was set over records that say to be old: how old they are is not known",
        )
        .expected(format!("a whole segment of records that were made before {}", ask.before))
        .observed(format!(
            "{} records say so, and of {} it is known",
            old.stamped, old.records
        ))
        .next("prune when a record behind them, later than all before, is old enough: docs/operate/pruning.md; trilith ledger completeness --folder DIR tells where the clock was set"),
    )
}

fn held(pruning: &Pruning, what: &str) -> StartError {
    let kept = pruning
        .kept
        .iter()
        .map(|(what, count)| format!("{count} for {what}"));
    let kept: Vec<String> = kept.collect();
    StartError::Refused(
        Finding::new(
            "PRUNE-HELD",
            "more is needed still than can be kept beside what stays",
        )
        .expected("64 MiB of records at most")
        .observed(format!("{what}: {}", kept.join(", ")))
        .next("name an earlier time with --before"),
    )
}

fn counted(needed: &needed::Needed) -> BTreeMap<&'static str, u64> {
    let mut counted = BTreeMap::new();
    for what in needed.values() {
        *counted.entry(*what).or_insert(0) += 1;
    }
    counted
}

fn length(reader: &Reader, needed: &needed::Needed) -> Result<u64, StoreError> {
    needed.keys().try_fold(0_u64, |sum, index| {
        let record = reader.record(*index)?.into_bytes();
        Ok(sum.saturating_add(wide(record.len())))
    })
}

pub(super) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Who has the records below `minimum`, in words.
fn holder(
    config: &Config,
    opened: &Opened,
    copy: Option<&Path>,
    (minimum, told): (u64, &(dyn Fn(u64) + Sync)),
) -> Result<String, StartError> {
    let reader = opened.ledger.reader();
    if let Some(path) = copy {
        let copy = Copied::open(path)?;
        let own = config.data_dir.join("ledger");
        if std::fs::canonicalize(copy.path()).ok() == std::fs::canonicalize(own).ok() {
            return Err(not_copied(
                minimum,
                "the folder is the server's own".to_owned(),
            ));
        }
        let mut frontier = Frontier::new();
        copy.show(0..minimum, |index, bytes| {
            frontier.push(leaf_hash(&bytes));
            told(index.saturating_add(1));
            Ok(())
        })?;
        copy.same(reader, minimum, frontier.root())?;
        let size = copy.size();
        // It stays in the ledger: whoever asks for what is gone is to find it.
        let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let place: String = place
            .display()
            .to_string()
            .chars()
            .take(LONGEST_PLACE)
            .collect();
        return Ok(format!(
            "in the copy {place} of {size} records, of which these were read"
        ));
    }
    let Some(witnesses) = config
        .witnesses
        .as_ref()
        .filter(|it| !it.mirrors.is_empty())
    else {
        let what = "server.toml names no mirror, and no copy was named";
        return Err(not_copied(minimum, what.to_owned()));
    };
    let key = opened.ledger.key();
    let held = cosign::holding(witnesses, reader, key, minimum, told);
    held.map_err(StartError::Refused)?
        .map_err(|what| not_copied(minimum, what))
}

fn not_copied(minimum: u64, what: String) -> StartError {
    StartError::Refused(
        Finding::new("PRUNE-NOT-COPIED", "nobody else is known to have what would go")
            .expected(format!(
                "the first {minimum} records in a folder that --copy names, or at one of `witnesses.mirrors`, which is asked for them"
            ))
            .observed(what)
            .next("copy `ledger`, `blobs`, `certificates`, `mirrors` and `witnessed` of the data directory elsewhere, and name the folder with --copy FOLDER; or see to it that the mirror answers, and let the server run until it has cosigned"),
    )
}
