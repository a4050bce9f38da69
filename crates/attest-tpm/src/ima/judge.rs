//! Compares verified entries with reference values.

use super::entry::{Entry, List};
use super::references::{References, Violations};
use super::verify::{Measured, Progress};
use crate::bytes::shown;
use crypto::hex;
use facts::{FactSet, Finding, Source, Timestamp, names};
use std::collections::BTreeSet;

/// A machine that runs something else altogether has thousands of faults.
const MOST: usize = 16;

/// Entries whose every file may run. Only [`judge`] makes it.
#[derive(Debug, Clone)]
pub struct Approved {
    labels: BTreeSet<String>,
    progress: Progress,
    until: Option<Timestamp>,
}

/// What matched so far.
#[derive(Default)]
struct Matched {
    labels: BTreeSet<String>,
    /// The last moment at which all of it counts; absent while all of it counts for ever.
    until: Option<Timestamp>,
}

/// Judges the entries that were not verified before, at `now`.
///
/// # Errors
/// `IMA-FILE` for each entry whose digest no reference value has, with the one that its path should
/// have; `IMA-PATH` for one that has to be elsewhere; `IMA-EXPIRED` for one that counts at another time;
/// `IMA-VIOLATION` for a file that changed while it was measured. At most 16 of them.
pub fn judge(
    measured: &Measured<'_>,
    references: &References,
    now: Timestamp,
) -> Result<Approved, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut more = 0_usize;
    let mut matched = Matched::default();
    for entry in measured.fresh() {
        let is_aggregate = measured.is_aggregate(entry);
        match fault(entry, is_aggregate, references, now, &mut matched) {
            None => {}
            Some(finding) if findings.len() < MOST => findings.push(finding),
            Some(_) => more += 1,
        }
    }
    if let (Some(last), true) = (findings.last_mut(), more > 0) {
        let note = format!("; {more} more entries are not allowed");
        last.message.push_str(&note);
    }
    if findings.is_empty() {
        Ok(Approved {
            labels: matched.labels,
            progress: measured.progress(),
            until: matched.until,
        })
    } else {
        Err(findings)
    }
}

/// Which entries of a list that nobody vouches for [`judge`] would find fault with, and how; at most `most`
/// of them. For people: what follows from it is nothing.
#[must_use]
pub fn faults<'l, 'a>(
    list: &'l List<'a>,
    references: &References,
    now: Timestamp,
    most: usize,
) -> Vec<(&'l Entry<'a>, Finding)> {
    let mut matched = Matched::default();
    let faults = list.entries().iter().filter_map(|entry| {
        let is_aggregate = entry.is_claimed_aggregate();
        let finding = fault(entry, is_aggregate, references, now, &mut matched)?;
        Some((entry, finding))
    });
    faults.take(most).collect()
}

fn fault(
    entry: &Entry<'_>,
    is_aggregate: bool,
    references: &References,
    now: Timestamp,
    matched: &mut Matched,
) -> Option<Finding> {
    // First: nothing that a violation's entry says was measured, its path neither.
    if entry.is_violation() {
        return (references.violations == Violations::Refuse).then(|| violation(entry));
    }
    if references.is_exempt(&entry.path) || is_aggregate {
        return None;
    }
    let values = references.of(entry);
    let in_time = |value: &&crate::reference::Value<_>| value.window.holds(now);
    let in_place =
        |path: &Option<std::sync::Arc<str>>| path.as_ref().is_none_or(|path| **path == *entry.path);
    // Of several the one that counts longest: by it the entry stays good. For ever is longer than any.
    let end = |value: &&crate::reference::Value<_>| {
        let until = value.window.not_after;
        (until.is_none(), until)
    };
    let good = values
        .iter()
        .filter(in_time)
        .filter(|value| in_place(&value.value))
        .max_by_key(end);
    if let Some(value) = good {
        matched.labels.insert(value.label.to_string());
        let ends = [matched.until, value.window.not_after];
        matched.until = ends.into_iter().flatten().min();
        return None;
    }
    if let Some(value) = values.iter().find(|value| in_place(&value.value)) {
        return Some(
            Finding::new(
                "IMA-EXPIRED",
                format!(
                    "{}: its reference value does not count at this time",
                    entry.title()
                ),
            )
            .expected(format!("a value that counts at {now}"))
            .observed(format!(
                "that of {} ({}): {}",
                value.label,
                value.source,
                value.window.describe(now)
            ))
            .next("update the package, or run trilith refs import with this version"),
        );
    }
    if let Some(value) = values.first() {
        let path = value.value.as_deref().unwrap_or_default();
        return Some(
            Finding::new(
                "IMA-PATH",
                format!("{}: a known file runs from another place", entry.title()),
            )
            .expected(format!(
                "{} of {} ({})",
                shown(path),
                value.label,
                value.source
            ))
            .observed(shown(&entry.path))
            .next("if it is to be allowed there, run trilith refs import with this path"),
        );
    }
    Some(unlisted(entry, references, now))
}

fn unlisted(entry: &Entry<'_>, references: &References, now: Timestamp) -> Finding {
    let values = references.at(&entry.path);
    let nearest = values.iter().rev().find(|value| value.window.holds(now));
    let expected = match nearest.or_else(|| values.last()) {
        Some(value) => format!(
            "{} of {} ({}), which comes nearest",
            value.value, value.label, value.source
        ),
        None => "a file of a package that is listed; none is at this path".to_owned(),
    };
    let hash = entry.hash.map_or("an unknown hash", crypto::Hash::name);
    Finding::new(
        "IMA-FILE",
        format!(
            "{}: a file ran that is not among the reference values",
            entry.title()
        ),
    )
    .expected(expected)
    .observed(format!("{hash}:{}", hex::encode(&entry.digest)))
    .next("if it is to be allowed, run trilith refs import with its package or file")
}

fn violation(entry: &Entry<'_>) -> Finding {
    Finding::new(
        "IMA-VIOLATION",
        format!(
            "{}: the file was written to while it was measured",
            entry.title()
        ),
    )
    .expected("a file that nobody writes to while it runs")
    .observed("a violation")
    .next("find out what writes to it; restart the machine, which clears the list")
}

impl Measured<'_> {
    /// `machine.ima.state` being `measured`: nobody has said that the files are good. `root` is what
    /// stands behind the TPM.
    #[must_use]
    pub fn facts(&self, root: Source, now: Timestamp) -> FactSet {
        facts("measured", self.progress(), root, now)
    }
}

impl Approved {
    /// The labels of the reference values that matched in this round.
    #[must_use]
    pub const fn labels(&self) -> &BTreeSet<String> {
        &self.labels
    }

    /// The last moment at which every reference value of this round counts; absent if all count for ever.
    #[must_use]
    pub const fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// As [`Measured::facts`], `machine.ima.state` being `approved`. That holds of the whole list only
    /// if the rounds before were approved too, which is the caller's to know.
    #[must_use]
    pub fn facts(&self, root: Source, now: Timestamp) -> FactSet {
        facts("approved", self.progress, root, now)
    }
}

pub(super) fn facts(state: &str, progress: Progress, root: Source, now: Timestamp) -> FactSet {
    let mut facts = FactSet::new();
    facts.state(
        names::MACHINE_IMA_STATE,
        state,
        root.min(Source::Verified),
        now,
    );
    let entries = i64::try_from(progress.entries()).unwrap_or(i64::MAX);
    facts.state(names::MACHINE_IMA_ENTRIES, entries, root, now);
    let violations = i64::try_from(progress.violations()).unwrap_or(i64::MAX);
    facts.state(names::MACHINE_IMA_VIOLATIONS, violations, root, now);
    facts
}
