//! The records between what was looked at and the head: fetched in batches, hashed to the head's own tree, and only
//! then judged.

use crate::Failure;
use crate::alert::{Alert, Kind as AlertKind, Told};
use crate::config::Entries;
use crate::expect::{self, Watch};
use crate::labels::{Denial, Judged, Labels, Served};
use crate::source::{self, Source};
use crate::tiles::View;
use facts::{Finding, Timestamp};
use ledger::about::{self, Erased};
use ledger::merkle::leaf_hash;
use ledger::tile::{self, Kind, WIDTH};
use ledger::{ForeignCheckpoint, Frontier, Record};
use std::collections::BTreeSet;

/// Tiles of a batch: 1,024 records, of 16 KiB at most.
const TILES: u64 = 4;

/// Earlier records of a batch that are fetched because one says that their contents are gone.
const MOST_BACKWARD: usize = 64;

/// Names beside what is watched that an alert's text has; the record has all.
const MOST_NAMED: usize = 8;

/// A batch that hashes to the head, and what is not expected in it.
pub(crate) struct Batch {
    pub(crate) looked: Frontier,
    pub(crate) alerts: Vec<Alert>,
    /// A label denies its owner what is his: nothing of the batch counts.
    pub(crate) denied: Option<(Box<Denial>, Finding)>,
    /// The labels that were looked at.
    pub(crate) served: Vec<Served>,
}

/// The next records after `looked`.
pub(crate) async fn batch(
    source: &Source,
    head: &ForeignCheckpoint,
    looked: &Frontier,
    entries: Entries,
    watches: &[Watch],
    labels: Option<&Labels>,
    now: Timestamp,
) -> Result<Batch, Failure> {
    let mut view = View::new(source, head);
    let mut edge = looked.clone();
    let mut told: Vec<Told> = Vec::new();
    let (mut labelled, mut served) = (Vec::new(), Vec::new());
    let mut backward = MOST_BACKWARD;
    let first = looked.size() / WIDTH;
    for index in first..first.saturating_add(TILES) {
        if edge.size() >= head.size {
            break;
        }
        let start = index.saturating_mul(WIDTH);
        if entries == Entries::Closed {
            let (path, bytes) = view.tile(Kind::Hashes(0), index).await?;
            let rows = match labels {
                Some(labels) => Some((labels, labels.beside(source, &path).await?)),
                None => None,
            };
            let leaves: Vec<_> = tile::hashes(&bytes).into_iter().flatten().collect();
            for (at, hash) in (start..).zip(leaves.iter().copied()) {
                if at >= looked.size() {
                    edge.push(hash);
                    let rows = rows.as_ref();
                    labelled.extend(rows.map(|(labels, rows)| labels.said(rows, at, hash)));
                }
            }
            served.extend(rows.map(|(_, rows)| Served { rows, leaves }));
            continue;
        }
        let (path, bytes) = view.tile(Kind::Entries, index).await?;
        let split = source::entries(&bytes, path.width());
        let split = split.ok_or_else(|| not_split(source, &path))?;
        for (at, entry) in (start..).zip(split) {
            if at < looked.size() {
                continue;
            }
            edge.push(leaf_hash(entry));
            if entries == Entries::Records {
                let named = about::erases(&head.origin, at, entry);
                let erased = erased(&mut view, named, &mut backward).await?;
                told.extend(expect::judge(watches, &head.origin, at, entry, &erased));
            }
        }
    }
    // What was hashed is what the head's own tree has there.
    let (root, _proof) = view.root_at(edge.size()).await?;
    if edge.root() != root {
        return Err(not_hashed(source, looked.size(), edge.size()));
    }
    let told = told.into_iter();
    let mut alerts: Vec<_> = told.map(|told| alert(&head.origin, told, now)).collect();
    let mut denied = None;
    if let Some(labels) = labels {
        match labels.judge(head, &labelled, now)? {
            Judged::Alerts(more) => alerts.extend(more),
            Judged::Denied(denial, finding) => denied = Some((denial, finding)),
        }
    }
    Ok(Batch {
        looked: edge,
        alerts,
        denied,
        served,
    })
}

/// The records that an erasure names, each proved under the head. What is not served any more, or too much of it, is
/// told as not looked at.
async fn erased(
    view: &mut View<'_>,
    named: BTreeSet<u64>,
    left: &mut usize,
) -> Result<Erased, Failure> {
    let mut erased = Erased::default();
    for index in named {
        let Some(less) = left.checked_sub(1) else {
            erased.unseen = true;
            break;
        };
        *left = less;
        match view.entry(index).await? {
            Some(entry) => match Record::from_vec(entry) {
                Ok(record) => erased.records.push(record),
                Err(_) => erased.unseen = true,
            },
            None => erased.unseen = true,
        }
    }
    Ok(erased)
}

/// Whom the record names beside what is watched.
fn who(origin: &str, told: &Told) -> Vec<String> {
    let text = told.text.as_deref().unwrap_or_default();
    let read = about::read(origin, text.as_bytes(), &Erased::default());
    let Some((_record, about)) = read else {
        return Vec::new();
    };
    let named: BTreeSet<_> = about.identities.into_iter().chain(about.actor).collect();
    let said = |name: &String| {
        let mut said = told.about.iter().filter_map(|said| said.split_once(' '));
        said.any(|(_kind, said)| said == name)
    };
    let others = named.into_iter().filter(|name| !said(name));
    others.take(MOST_NAMED).collect()
}

fn alert(origin: &str, told: Told, now: Timestamp) -> Alert {
    let who = who(origin, &told);
    let observed = match who.is_empty() {
        true => told.about.join(", "),
        false => format!("{}; by or for {}", told.about.join(", "), who.join(", ")),
    };
    let kind = told.record_type.as_deref().unwrap_or("a record");
    let (code, what) = match told.record_type {
        Some(_) => (
            "MONITOR-UNEXPECTED",
            format!("nobody expected this {kind} at record {}", told.index),
        ),
        None => (
            "MONITOR-UNREADABLE",
            format!(
                "record {} cannot be read, and may be about anything",
                told.index
            ),
        ),
    };
    let finding = Finding::new(code, what)
        .expected(format!("what a [[watch.allow]] of {} takes", told.watch))
        .observed(observed)
        .next("if it is yours, add it to monitor.toml; if not, ask the operator of the log what it is, and keep this document");
    Alert {
        v: 1,
        id: format!("{origin}:{}:{}", told.index, told.watch),
        kind: AlertKind::Unexpected,
        log: origin.to_owned(),
        found: now.as_millis(),
        finding,
        record: Some(told),
    }
}

fn not_split(source: &Source, path: &tile::TilePath) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-WIDTH",
            format!(
                "{path} of {} does not split into its entries",
                source.name()
            ),
        )
        .expected(format!(
            "{} entries, each after its length, and nothing else",
            path.width()
        ))
        .next("tell the log's operator; nothing of it was taken"),
    )
}

fn not_hashed(source: &Source, from: u64, to: u64) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-RECORDS",
            format!(
                "the records from {from} to {to} that {} serves are not those of its checkpoint",
                source.name()
            ),
        )
        .expected("records that hash to the log's own tiles")
        .next(
            "keep what it serves, and tell the log's operator: nothing of it was taken, or judged",
        ),
    )
}
