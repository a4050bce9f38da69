//! `trilith server snapshot` and `trilith server rebuild-state`: the state as a blob that the ledger names, and back.

use super::open::{self, Base, Opened, Opening, StartError};
use super::{Rebuilt, prune, serve};
use crate::config::Config;
use crate::cosign::Shown;
use crate::needed;
use crate::signing::Signing;
use crate::snapshots::{self, Named};
use crate::state::State;
use facts::Finding;
use ledger::merkle::leaf_hash;
use ledger::{Digest, Draft, Frontier, HexDigest, Record, RecordBuilder};
use ledger_store::{BlobFolder, Committed, Folder, Reader, StoreError};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Records read at once.
const BATCH: u64 = 8_192;

/// A snapshot that a record of the ledger names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshotted {
    /// Index of its record.
    pub index: u64,
    /// Records that the state follows from.
    pub records: u64,
    /// SHA-256 of the blob, and its length.
    pub blob: String,
    pub bytes: u64,
    /// It was there already, and nothing came after it.
    pub already: bool,
}

/// Keeps the state after all records as a blob, and records it. The server must not run.
///
/// # Errors
/// `SNAPSHOT-EMPTY` of a ledger without records; `SERVER-BEHIND-PEER` and others of a server that may not sign;
/// [`StartError`].
pub fn snapshot(config: &Config, by: &str) -> Result<Snapshotted, StartError> {
    config.check()?;
    let opened = Opened::open(config, None)?;
    may_sign(config, &opened)?;
    let reader = opened.ledger.reader();
    let size = reader.size();
    if size == 0 {
        return Err(StartError::Refused(
            Finding::new(
                "SNAPSHOT-EMPTY",
                "there is no state: the ledger has no record",
            )
            .expected("the data directory of a server that has run")
            .observed(config.data_dir.display().to_string())
            .next("start the server once, and stop it"),
        ));
    }
    if let Some(named) = standing(&opened)? {
        let done = told(&named, true);
        opened.ledger.close()?;
        return Ok(done);
    }
    let record = make(&opened)?;
    let committed = opened.ledger.append_many_reserved(vec![draft(record, by)?]);
    let index = committed.wait()?.first().map_or(size, Committed::index);
    let body = opened.ledger.reader().record(index)?.expect_body();
    let body = body.map_err(StartError::record(index))?;
    remember(&opened)?;
    opened.ledger.close()?;
    Ok(told(&Named { index, body }, false))
}

fn told(named: &Named, already: bool) -> Snapshotted {
    Snapshotted {
        index: named.index,
        records: named.body.size.0,
        blob: named.body.state.sha256.to_string(),
        bytes: named.body.state.length.0,
        already,
    }
}

/// The last record, if it is a snapshot that can be used.
fn standing(opened: &Opened) -> Result<Option<Named>, StartError> {
    let reader = opened.ledger.reader();
    let Some(named) = snapshots::before(reader, reader.size())? else {
        return Ok(None);
    };
    if named.index.saturating_add(1) != reader.size() {
        return Ok(None);
    }
    let usable = snapshots::usable(&named, reader, |sha256| opened.blobs.get(sha256))?;
    Ok(usable.is_ok().then_some(named))
}

/// Makes the blob of the state as it is, and says what a record has to say of it. INVARIANT: the blob is durable before
/// the record is there: cut short, there is a blob that nothing names, and the next snapshot is another one.
pub(super) fn make(opened: &Opened) -> Result<RecordBuilder, StartError> {
    let state = &opened.state;
    let root = opened.ledger.reader().root(state.applied())?;
    let bytes = snapshots::bytes_of(state);
    let blob = opened.blobs.put(&bytes).map_err(|error| match error {
        StoreError::BlobTooLarge { length, limit } => {
            too_large(prune::wide(length), prune::wide(limit))
        }
        error => error.into(),
    })?;
    Ok(snapshots::record(state, root, blob))
}

/// A state that is no blob any more.
pub(super) fn too_large(length: u64, limit: u64) -> StartError {
    StartError::Refused(
        Finding::new(
            "SNAPSHOT-LARGE",
            "the state is larger than a snapshot may be",
        )
        .expected(format!("{limit} bytes at most"))
        .observed(format!("{length} bytes"))
        .next("take it when fewer SVIDs live: shorten `lifetimes` in server.toml"),
    )
}

/// Refuses where the running server would sign nothing. Asks its witnesses, as that does at its start.
pub(super) fn may_sign(config: &Config, opened: &Opened) -> Result<(), StartError> {
    if let Some(finding) = opened.elsewhere.known(opened.ledger.key())? {
        return Err(StartError::Refused(finding));
    }
    let signing = Signing::default();
    let remembered = opened.head.read();
    serve::rolled_back(&opened.ledger, &opened.state, remembered, &signing)?;
    if let Some(settings) = &config.witnesses {
        let (key, here) = (opened.ledger.key(), (opened.ledger.reader(), &opened.state));
        let shown = Shown::held_blocking(settings, key, here)?;
        shown.block(key, here, (&signing, &opened.head));
    }
    match signing.blocked() {
        Some(blocked) => Err(StartError::Refused(blocked.finding)),
        None => Ok(()),
    }
}

/// From now on, this is what was published last.
pub(super) fn remember(opened: &Opened) -> Result<(), StartError> {
    open::remember(&opened.head, &opened.ledger.reader().head().checkpoint)
}

pub(super) fn draft(record: RecordBuilder, by: &str) -> Result<Draft, StartError> {
    let draft = record.actor(by, open::UID).draft();
    draft.map_err(StartError::record(0))
}

/// What a state was computed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuild {
    pub rebuilt: Rebuilt,
    /// Index of the snapshot that it began with; `None`: with the first record.
    pub snapshot: Option<u64>,
    /// Why newer snapshots were not used.
    pub refused: Vec<Finding>,
}

/// Computes the state database again, from the newest snapshot that can be used and the records after it, and puts it in
/// the place of the one that is there. The server must not run. Refused, it leaves that one as it is.
///
/// # Errors
/// `SERVER-SNAPSHOT` if records are gone and no snapshot can be used; [`StartError`].
pub fn rebuild(config: &Config) -> Result<Rebuild, StartError> {
    computed(config, Base::Snapshot)
}

/// As [`rebuild`], from the first record, whatever snapshots there are; and whether the newest of them gives the same.
///
/// # Errors
/// `SNAPSHOT-FALSE` if it does not: the state is then the one that the records give. `SERVER-SNAPSHOT` if records are
/// gone; [`StartError`].
pub fn rebuild_from_first(config: &Config) -> Result<Rebuild, StartError> {
    let mut rebuild = computed(config, Base::First)?;
    let folder = Folder::open(&config.data_dir.join("ledger"))?;
    let (reader, blobs) = (folder.reader(), blobs_in(config));
    let begun = snapshots::begin(reader, |sha256| blobs.get(sha256))?;
    rebuild.refused = begun.refused;
    let (Some(mut state), Some(index)) = (begun.state, begun.snapshot) else {
        return Ok(rebuild);
    };
    replay(reader, &mut state)?;
    if Rebuilt::of(&state) != rebuild.rebuilt {
        return Err(StartError::Refused(false_one(
            index,
            &rebuild.rebuilt.digest,
            &state.digest(),
        )));
    }
    rebuild.snapshot = Some(index);
    Ok(rebuild)
}

fn false_one(index: u64, records: &[u8; 32], snapshot: &[u8; 32]) -> Finding {
    Finding::new(
        "SNAPSHOT-FALSE",
        format!("the snapshot of record {index} is not the state that the records before it give"),
    )
    .expected(format!("by the records: {}", crypto::hex::encode(records)))
    .observed(format!("by the snapshot: {}", crypto::hex::encode(snapshot)))
    .next("keep the folder as evidence: whoever made that record had the ledger's key; go on from a backup or a copy of before it")
}

fn beyond(index: u64, size: u64) -> Finding {
    Finding::new(
        "SNAPSHOT-FALSE",
        format!("the snapshot of record {index} tells of records that came after it"),
    )
    .expected(format!("{index} records at most"))
    .observed(format!("{size}"))
    .next("keep the folder as evidence: whoever made that record had the ledger's key; go on from a backup or a copy of before it")
}

fn computed(config: &Config, base: Base) -> Result<Rebuild, StartError> {
    config.check()?;
    let mut opened = Opened::anew(config, base)?;
    let store = opened.kept.store.take();
    if let Some(error) = opened.behind {
        return Err(error.into());
    }
    // INVARIANT: what is there goes once the other is whole, and while nobody else may open it.
    drop(store);
    open::replace_state(config)?;
    Ok(Rebuild {
        rebuilt: Rebuilt::of(&opened.state),
        snapshot: opened.begun.snapshot,
        refused: opened.begun.refused,
    })
}

/// Applies what `state` has not applied yet.
fn replay(reader: &Reader, state: &mut State) -> Result<(), StartError> {
    while state.applied() < reader.size() {
        let from = state.applied();
        for (index, bytes) in (from..).zip(reader.read(from..from + BATCH)?) {
            apply(state, index, bytes)?;
        }
    }
    Ok(())
}

fn apply(state: &mut State, index: u64, bytes: Vec<u8>) -> Result<(), StartError> {
    let record = Record::from_vec(bytes).map_err(StartError::record(index))?;
    state.apply(index, &record)?;
    Ok(())
}

fn blobs_in(config: &Config) -> BlobFolder {
    BlobFolder::new(config.data_dir.join("blobs"), open::LARGEST_BLOB)
}

/// What a copy says of the snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Records that were read, of the copy and what is left behind it, and have the root that the server's ledger has.
    pub records: u64,
    /// Indices of the snapshots that are the state which the records give.
    pub sound: Vec<u64>,
    /// Of those that another version of Trilith has made, in another format: what they say was not compared.
    pub others: Vec<u64>,
    /// One of these stands in for what was pruned.
    pub stands_in: Option<u64>,
    /// Of those, the ones whose blob was lost and is there again.
    pub restored: Vec<u64>,
    /// Of those, the ones whose blob is lost or changed, and was not brought back.
    pub lost: Vec<u64>,
    /// Records of what was pruned that are kept beside what is left again.
    pub kept_again: Vec<u64>,
    /// One of those that has to be kept, is not, and was not brought back; and what it is needed for.
    pub unkept: Option<(u64, &'static str)>,
}

impl Checked {
    /// `SNAPSHOT-LOST` if a snapshot is what the records give, and its blob is not there; `SERVER-KEPT` if a record that is
    /// needed still is not; `SNAPSHOT-FORMAT` if the one that stands in for what was pruned is of another format.
    #[must_use]
    pub fn finding(&self) -> Option<Finding> {
        let Some(newest) = self.lost.last() else {
            let unkept = self
                .unkept
                .map(|(index, what)| open::unkept(index, what, "it is not there".to_owned()));
            return unkept.or_else(|| self.stands_in.map(snapshots::another_format));
        };
        let indices: Vec<String> = self.lost.iter().map(ToString::to_string).collect();
        Some(
            Finding::new(
                "SNAPSHOT-LOST",
                format!("the blob of the snapshot of record {newest} is not there, or another"),
            )
            .expected("the blob of each snapshot in the folder `blobs` of the server's data_dir")
            .observed(format!("lost or changed: those of records {}", indices.join(", ")))
            .next("with the server stopped: trilith server rebuild-state --config FILE --copy FOLDER, without --check, makes them again; or restore `blobs` from a backup"),
        )
    }
}

/// Computes the state from the records of `copy`, a folder with a whole ledger, and compares it with every snapshot that
/// the server's ledger names; where the copy ends, with what is left in the server's own folder. Changes nothing but that
/// `restore` brings back the blobs that are lost, and the records that have to be kept beside what is left; of these the
/// server must not run. Else it may.
///
/// # Errors
/// `SNAPSHOT-COPY` if the copy cannot be read, has not all records, or is of another ledger; `SNAPSHOT-FALSE` if a
/// snapshot is not what the records give.
pub fn check_snapshots(config: &Config, copy: &Path, restore: bool) -> Result<Checked, StartError> {
    config.check()?;
    let folder = Folder::open(&config.data_dir.join("ledger"))?;
    let reader = folder.reader();
    let copy = Copied::open(copy)?;
    let mut named = Vec::new();
    let mut end = reader.size();
    while let Some(one) = snapshots::before(reader, end)? {
        end = one.index;
        named.push(one);
    }
    named.sort_by_key(|one| (one.body.size.0, one.index));
    let stands = snapshots::stands_in(reader)?;
    let (mut checked, mut state, mut frontier) = (
        Checked {
            records: 0,
            sound: Vec::new(),
            others: Vec::new(),
            stands_in: None,
            restored: Vec::new(),
            lost: Vec::new(),
            kept_again: Vec::new(),
            unkept: None,
        },
        State::default(),
        Frontier::new(),
    );
    for one in named {
        let size = one.body.size.0;
        if size > one.index {
            return Err(StartError::Refused(beyond(one.index, size)));
        }
        let mut see = |index, bytes: Vec<u8>| {
            frontier.push(leaf_hash(&bytes));
            apply(&mut state, index, bytes)
        };
        let end = copy.size().max(checked.records).min(size);
        copy.show(checked.records..end, &mut see)?;
        behind(&copy, reader, end..size, &mut see)?;
        checked.records = size;
        copy.same(reader, size, frontier.root())?;
        if one.body.format != store::FORMAT {
            // It was folded otherwise. That the copy has its records is known all the same.
            checked.others.push(one.index);
            if Some(one.index) == stands {
                checked.stands_in = stands;
                kept_beside(config, &state, (reader, &copy), restore, &mut checked)?;
            }
            continue;
        }
        let bytes = snapshots::bytes_of(&state);
        if HexDigest::of(&bytes) != one.body.state.sha256 {
            let given = one.body.state.sha256.0;
            return Err(StartError::Refused(false_one(
                one.index,
                &crypto::sha256(&bytes),
                &given,
            )));
        }
        checked.sound.push(one.index);
        if Some(one.index) == stands {
            kept_beside(config, &state, (reader, &copy), restore, &mut checked)?;
        }
        // What the records give is no help to a server that has no database and no blob.
        if blobs_in(config).get(&one.body.state.sha256)?.is_none() {
            match restore {
                true => {
                    open::blobs(config)?.put(&bytes)?;
                    checked.restored.push(one.index);
                }
                false => checked.lost.push(one.index),
            }
        }
    }
    Ok(checked)
}

/// What was needed still when the records went, by the state then: that it is kept beside what is left, or is so again.
fn kept_beside(
    config: &Config,
    state: &State,
    (reader, copy): (&Reader, &Copied),
    restore: bool,
    checked: &mut Checked,
) -> Result<(), StartError> {
    let Some(pruned) = reader.pruned() else {
        return Ok(());
    };
    let read = |index| match reader.record(index) {
        Err(StoreError::Pruned { .. }) => copy.record(index).map(Some),
        read => Ok(Some(read?)),
    };
    let needed = needed::rested_on(state, reader.size(), pruned.minimum, read)?;
    let lacking = needed::lacking(needed, reader);
    if !restore {
        checked.unkept = lacking.into_iter().next();
        return Ok(());
    }
    if lacking.is_empty() {
        return Ok(());
    }
    let mut records = BTreeMap::new();
    for index in lacking.into_keys() {
        records.insert(index, copy.record(index)?.into_bytes());
    }
    let again = records.keys().copied().collect();
    // INVARIANT: nobody else has the ledger open, and each is of its tree.
    let opening = Opening::of(config)?;
    let ledger = opening.ledger(config, None)?;
    ledger.keep_beside(records)?;
    ledger.close()?;
    checked.kept_again = again;
    Ok(())
}

/// Shows the records of `range`, which begins where the copy ends, from the server's own folder. That they are of the
/// tree is seen by who is shown them.
fn behind(
    copy: &Copied,
    reader: &Reader,
    range: Range<u64>,
    mut see: impl FnMut(u64, Vec<u8>) -> Result<(), StartError>,
) -> Result<(), StartError> {
    let left = reader.pruned().map_or(0, |pruned| pruned.minimum);
    let mut index = range.start;
    while index < range.end {
        if index < left {
            let what =
                format!("it ends at record {index}, and the server has those from {left} on");
            return Err(unread(&copy.path, &what));
        }
        for bytes in reader.read(index..range.end)? {
            see(index, bytes)?;
            index = index.saturating_add(1);
        }
    }
    Ok(())
}

/// A folder that somebody says to have the records.
pub(super) struct Copied {
    path: PathBuf,
    folder: Folder,
}

impl Copied {
    /// `path`: a data directory, or the folder of its ledger.
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        if !path.is_dir() {
            let what = "there is no such folder, or this user may not look into it";
            return Err(unread(path, what));
        }
        let within = path.join("ledger");
        let dir = if within.is_dir() {
            within
        } else {
            path.to_owned()
        };
        if !dir.join("segments").is_dir() {
            let what = "it has no folder `segments`, as every ledger of Trilith has; what a mirror (`[mirror]` of \
                        `trilith witness`) keeps has none, and is no --copy";
            return Err(unread(path, what));
        }
        let folder =
            Folder::open(&dir).map_err(|error| unread(path, &facts::with_causes(&error)))?;
        Ok(Self { path: dir, folder })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn size(&self) -> u64 {
        self.folder.reader().size()
    }

    /// One record of it, which its tree has.
    fn record(&self, index: u64) -> Result<Record, StartError> {
        let read = self.folder.reader().record(index);
        read.map_err(|error| unread(&self.path, &facts::with_causes(&error)))
    }

    /// Shows the records of `range`, every one.
    pub(super) fn show(
        &self,
        range: Range<u64>,
        mut see: impl FnMut(u64, Vec<u8>) -> Result<(), StartError>,
    ) -> Result<(), StartError> {
        let mut index = range.start;
        while index < range.end {
            let read = self.folder.reader().read(index..range.end);
            let read = read.map_err(|error| unread(&self.path, &facts::with_causes(&error)))?;
            if read.is_empty() {
                return Err(unread(&self.path, &format!("it ends at record {index}")));
            }
            for bytes in read {
                see(index, bytes)?;
                index = index.saturating_add(1);
            }
        }
        Ok(())
    }

    /// That what was read of it is what the server's ledger has.
    pub(super) fn same(
        &self,
        reader: &Reader,
        size: u64,
        root: [u8; 32],
    ) -> Result<(), StartError> {
        let ours = reader.root(size)?;
        if ours == root {
            return Ok(());
        }
        Err(unread(
            &self.path,
            &format!(
                "its first {size} records have the root {}, the server's {}",
                Digest(root),
                Digest(ours)
            ),
        ))
    }
}

fn unread(path: &Path, what: &str) -> StartError {
    StartError::Refused(
        Finding::new("SNAPSHOT-COPY", "the copy has not the records of this server's ledger")
            .expected("a copy of the server's data directory, or of the folder `ledger` in it, with every record from the first on")
            .observed(format!("{}: {what}", path.display()))
            .next("name the copy of before the first pruning, grown by what came since, with --copy FOLDER: docs/operate/pruning.md"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger_store::{Blobs, RealDisk};
    use std::sync::Arc;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_state_that_is_larger_than_a_blob_may_be_makes_no_snapshot() {
        let dir = tempfile::tempdir().unwrap();
        let running = crate::trial::server(dir.path()).await;
        running.stop().await.unwrap();
        let config = Config::load(&dir.path().join("server.toml")).unwrap();
        let mut opened = Opened::open(&config, None).unwrap();
        make(&opened).map(drop).unwrap();
        let folder = dir.path().join("small");
        opened.blobs = Blobs::open(&folder, 64, Arc::new(RealDisk)).unwrap();
        let refused = make(&opened).map(drop).unwrap_err().finding();
        assert_eq!(refused.code, "SNAPSHOT-LARGE");
        assert_eq!(refused.expected.as_deref(), Some("64 bytes at most"));
    }
}
