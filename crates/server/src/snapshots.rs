//! Snapshots: the state after the first records of this ledger, as a blob that a record of it names.
//!
//! A snapshot vouches for nothing. It is as good as the key that signed the ledger: whoever has the records computes the
//! state from them, and finds one that they do not give (`trilith server rebuild-state --config FILE --check --copy FOLDER`).

use crate::start::StartError;
use crate::state::State;
use facts::Finding;
use ledger::body::{self, Body as _};
use ledger::{Digest, HexDigest, Record, RecordType};
use ledger_store::{Reader, StoreError};

/// Records read at once.
const BATCH: u64 = 8_192;
/// Snapshots that are tried, the newest first, before the state is computed from the first record.
const MOST_TRIED: usize = 8;

/// What to do about a snapshot of another format, with every record there.
const OTHERS_LEFT_OUT: &str = "nothing is lost: the state is computed from the records; take another one: trilith server snapshot --config FILE";
/// The same, after a pruning.
const OTHERS_NEEDED: &str = "start the version of Trilith that has made it, or restore the data directory of before the pruning";

/// A snapshot, as a record of the ledger names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) index: u64,
    pub(crate) body: body::Snapshot,
}

/// Where a state is computed from.
#[derive(Debug, Default)]
pub(crate) struct Begun {
    /// The state that a snapshot gives; `None`: from the first record.
    pub(crate) state: Option<State>,
    /// Index of its record.
    pub(crate) snapshot: Option<u64>,
    /// Why newer ones were not taken.
    pub(crate) refused: Vec<Finding>,
}

/// The newest snapshot that a record below `end` names.
pub(crate) fn before(reader: &Reader, end: u64) -> Result<Option<Named>, StoreError> {
    let lowest = reader.pruned().map_or(0, |pruned| pruned.minimum);
    let mut end = end.min(reader.size());
    while end > lowest {
        let from = end.saturating_sub(BATCH).max(lowest);
        let mut last = None;
        let mut index = from;
        while index < end {
            let records = reader.read(index..end)?;
            if records.is_empty() {
                break;
            }
            for bytes in records {
                last = named(index, &bytes).or(last);
                index = index.saturating_add(1);
            }
        }
        // By then it is in the tree.
        if let Some(found) = last {
            reader.record(found.index)?;
            return Ok(Some(found));
        }
        end = from;
    }
    Ok(None)
}

fn named(index: u64, bytes: &[u8]) -> Option<Named> {
    // Most records are not even looked into.
    let name = RecordType::Snapshot.as_str().as_bytes();
    bytes
        .windows(name.len())
        .any(|window| window == name)
        .then_some(())?;
    let body = Record::parse(bytes).ok()?.expect_body().ok()?;
    Some(Named { index, body })
}

/// The state of the newest snapshot that can be used; `get` yields blobs.
pub(crate) fn begin(
    reader: &Reader,
    get: impl Fn(&HexDigest) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Begun, StoreError> {
    let mut begun = Begun::default();
    let mut end = reader.size();
    for _ in 0..MOST_TRIED {
        let Some(named) = before(reader, end)? else {
            break;
        };
        end = named.index;
        match usable(&named, reader, &get)? {
            Ok(state) => {
                begun.state = Some(state);
                begun.snapshot = Some(named.index);
                break;
            }
            Err(finding) => begun.refused.push(finding),
        }
    }
    Ok(begun)
}

/// The snapshot that stands in for what was pruned: the index of its record, as the `retention` record names it. `None` if
/// nothing was pruned.
///
/// # Errors
/// `SERVER-RETENTION` if that record cannot be read, or names none.
pub(crate) fn stands_in(reader: &Reader) -> Result<Option<u64>, StartError> {
    let Some(pruned) = reader.pruned() else {
        return Ok(None);
    };
    let retention: Result<body::Retention, _> = reader.record(pruned.record)?.expect_body();
    let retention = retention.map_err(|error| unnamed(reader, facts::with_causes(&error)))?;
    match retention.snapshot {
        Some(index) => Ok(Some(index.0)),
        None => Err(unnamed(reader, "it names no snapshot".to_owned())),
    }
}

/// Why the snapshot that stands in for what was pruned cannot be used, if it cannot.
///
/// # Errors
/// As [`stands_in`]; and if what is named is no snapshot.
pub(crate) fn lost(
    reader: &Reader,
    get: impl Fn(&HexDigest) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Option<Finding>, StartError> {
    let Some(index) = stands_in(reader)? else {
        return Ok(None);
    };
    let record = reader.record(index);
    let record = record.map_err(|error| unnamed(reader, facts::with_causes(&error)))?;
    let body = record.expect_body();
    let body = body.map_err(|error| {
        let what = facts::with_causes(&error);
        unnamed(reader, format!("it names record {index}: {what}"))
    })?;
    Ok(usable(&Named { index, body }, reader, get)?.err())
}

/// Records are gone by a record that does not say what stands in for them.
fn unnamed(reader: &Reader, observed: String) -> StartError {
    let record = reader.pruned().map_or(0, |pruned| pruned.record);
    StartError::Refused(
        Finding::new(
            "SERVER-RETENTION",
            format!("record {record} takes records away and does not name the snapshot that stands in for them"),
        )
        .expected("a `retention` record as `trilith server prune` makes it, with the index of a `snapshot` record")
        .observed(observed)
        .next(
            "keep the folder as evidence: whoever made that record had the ledger's key; go on from a backup or a copy of \
             before it. Where a later version of Trilith has pruned, start that one",
        ),
    )
}

/// That the snapshot of record `index`, which stands in for what was pruned, is not one that this version reads.
pub(crate) fn another_format(index: u64) -> Finding {
    Finding::new(
        "SNAPSHOT-FORMAT",
        format!("the snapshot of record {index}, which stands in for what was pruned, is of another version of Trilith"),
    )
    .expected(format!("the format {:?}", store::FORMAT))
    .next(OTHERS_NEEDED)
}

/// The state that a snapshot gives, or why it gives none.
pub(crate) fn usable(
    named: &Named,
    reader: &Reader,
    get: impl Fn(&HexDigest) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Result<State, Finding>, StoreError> {
    let Named { index, body } = named;
    let (size, digest) = (body.size.0, body.state.sha256);
    let refused = |code: &'static str, what: String| {
        Ok(Err(Finding::new(
            code,
            format!("the snapshot of record {index} cannot be used"),
        )
        .expected(format!("the state after {size} records, in the blob {digest}"))
        .observed(what)
        .next(match reader.pruned() {
            None => "restore its blob from a backup, or let the state be computed from all records: trilith server rebuild-state --config FILE --from-first-record",
            Some(_) => "restore its blob from a backup, or make it again from a copy of the ledger: trilith server rebuild-state --config FILE --copy FOLDER",
        })))
    };
    if body.format != store::FORMAT {
        let observed = format!("the format {:?}", body.format);
        let finding = Finding::new(
            "SNAPSHOT-FORMAT",
            format!("the snapshot of record {index} is of another version of Trilith"),
        );
        let finding = finding.expected(format!("the format {:?}", store::FORMAT));
        return Ok(Err(finding.observed(observed).next(
            match reader.pruned() {
                None => OTHERS_LEFT_OUT,
                Some(_) => OTHERS_NEEDED,
            },
        )));
    }
    if size > *index {
        return refused(
            "SNAPSHOT-FALSE",
            "it tells of records that came after it".to_owned(),
        );
    }
    let root = Digest(reader.root(size)?);
    if root != body.root {
        return refused(
            "SNAPSHOT-FALSE",
            format!("it names another root than {root}, which these records have"),
        );
    }
    let Some(bytes) = get(&digest)? else {
        return refused(
            "SNAPSHOT-LOST",
            "the blob is not there, or another".to_owned(),
        );
    };
    match read(&bytes) {
        Ok(state) if state.applied() == size => Ok(Ok(state)),
        Ok(state) => refused(
            "SNAPSHOT-FALSE",
            format!("a state after {} records", state.applied()),
        ),
        Err(what) => refused("SNAPSHOT-FALSE", what),
    }
}

/// The state with these bytes, and no other.
fn read(bytes: &[u8]) -> Result<State, String> {
    let (applied, rows) = store::Snapshot::from_bytes(bytes).map_err(|error| error.to_string())?;
    let state = State::from_snapshot(applied, rows);
    // Rows out of order, or twice, make a state that is written otherwise.
    match bytes_of(&state) == bytes {
        true => Ok(state),
        false => Err("its rows are not those of a state".to_owned()),
    }
}

/// As it is written: the same state has the same bytes.
pub(crate) fn bytes_of(state: &State) -> Vec<u8> {
    state.snapshot().to_bytes(state.applied())
}

/// What a record says of `state`, whose blob these bytes are, in a ledger whose first records have this root.
pub(crate) fn record(state: &State, root: [u8; 32], blob: body::BlobRef) -> ledger::RecordBuilder {
    let body = body::Snapshot {
        size: state.applied().into(),
        root: Digest(root),
        state: blob,
        format: store::FORMAT.to_owned(),
    };
    body.record()
}
