//! Opening what is on disk: keys, ledger, blobs, and the state brought up to the ledger's end.

use super::new_log;
use crate::certificates;
use crate::config::{Config, ConfigError, Custody as CustodyConfig};
use crate::elsewhere::Elsewhere;
use crate::lineage;
use crate::needed;
use crate::revoke::Postponed;
use crate::signing::{HeadError, HeadFile, Signing};
use crate::snapshots::{self, Begun};
use crate::state::{FoldError, State};
use crypto::{Custody, SecretBytes};
use custody::{Alone, FileCustody, FileCustodyError, LedgerKeys};
use facts::Finding;
use identity::AuthorityError;
use ledger::{HexDigest, LedgerSigner, Record, RecordError};
use ledger_store::{Blobs, Intended, Ledger, Options, Reader, RealDisk, StoreError};
use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use store::{Kept, Store};

/// Records replayed at once.
const BATCH: u64 = 8_192;
/// Bytes of one blob: the largest estate, or an event log.
pub(crate) const LARGEST_BLOB: usize = 128 << 20;

/// Why the server does not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("preparing {path}")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the custody of keys")]
    Custody(#[from] FileCustodyError),
    #[error("a key")]
    Key(#[from] crypto::Error),
    #[error("the ledger")]
    Ledger(#[from] StoreError),
    #[error("the head that is remembered beside the ledger's key")]
    Head(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the state")]
    State(#[from] store::Error),
    #[error("the ledger's records do not make a state")]
    Fold(#[from] FoldError),
    #[error("record {index} of the ledger")]
    Record {
        index: u64,
        #[source]
        source: RecordError,
    },
    #[error("the authority")]
    Authority(#[from] AuthorityError),
    #[error("{0}")]
    Refused(facts::Finding),
    #[error("listening on {address}")]
    Listen {
        address: String,
        #[source]
        source: std::io::Error,
    },
    #[error("TLS")]
    Tls(#[from] svid_tls::Error),
    #[error("starting a thread")]
    Thread(#[source] std::io::Error),
    #[error("the server stopped: {0}")]
    Failed(String),
}

impl StartError {
    /// As a user sees it.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let finding =
            |code, next: &'static str| Finding::new(code, facts::with_causes(self)).next(next);
        match self {
            Self::Refused(finding) => finding.clone(),
            Self::Config(error) => error.finding(),
            Self::Listen { address, source } => Finding::new(
                "SERVER-LISTEN",
                format!("cannot listen on {address}: {source}"),
            )
            .next("end what listens there, or name another address in server.toml"),
            Self::Ledger(StoreError::Locked { .. }) => finding(
                "SERVER-RUNNING",
                "a server with this data_dir runs: end it first, or name another data_dir",
            ),
            Self::Ledger(StoreError::NotOurs { .. }) => finding(
                "SERVER-LINEAGE",
                "restore the newest copy of the folder of the ledger's key as a whole: the key that signs now, and `lineage` \
                 with the links to it. If a server has run here under a key that was replaced, what it has recorded is of no \
                 log: restore data_dir from a backup of before that. docs/operate/new-log.md",
            ),
            Self::Directory { .. } => finding("SERVER-DIRECTORY", "check the path and its owner"),
            Self::Custody(_) => finding(
                "SERVER-CUSTODY",
                "check [custody] in server.toml, and owner and mode of its folders",
            ),
            _ => finding(
                "SERVER-START",
                "look at the log above; docs/operate says how to restore",
            ),
        }
    }

    /// For `map_err`: record `index` is not what it should be.
    pub(super) fn record(index: u64) -> impl FnOnce(RecordError) -> Self {
        move |source| Self::Record { index, source }
    }
}

impl From<HeadError> for StartError {
    fn from(error: HeadError) -> Self {
        Self::Head(Box::new(error))
    }
}

/// Told of the error after which the ledger takes nothing more.
type OnFailure = Arc<dyn Fn(&StoreError) + Send + Sync>;

/// The ledger's folder in the data directory.
const LEDGER: &str = "ledger";

/// How records name who has a shell on this machine.
pub(super) const UID: &str = "uid";

/// What is opened first: the ledger's key, and what lies beside it.
pub(super) struct Opening {
    pub(super) keys: LedgerKeys,
    pub(super) ledger_dir: PathBuf,
    pub(super) head: HeadFile,
}

impl Opening {
    pub(super) fn of(config: &Config) -> Result<Self, StartError> {
        private_dir(&config.data_dir)?;
        let CustodyConfig::File { dir } = &config.custody.ledger;
        let custody = open_custody(&config.custody.ledger)?;
        let records = config.data_dir.join(LEDGER);
        Ok(Self {
            keys: lineage::keys(custody, &records, &config.trust_domain)?,
            ledger_dir: dir.clone(),
            head: HeadFile::in_dir(dir),
        })
    }

    /// The ledger, sound; whether it is what was published is asked by the caller.
    pub(super) fn ledger(
        &self,
        config: &Config,
        on_failure: Option<OnFailure>,
    ) -> Result<Ledger, StartError> {
        let signer = self.keys.signer();
        let options = Options {
            on_failure,
            // INVARIANT: an end that is damaged and that was published is not cut off as a commit which
            // nobody has seen. One that cannot be read is the business of the start.
            expected_at_least: self.head.read().ok().flatten(),
            ..Options::default()
        };
        let dir = config.data_dir.join(LEDGER);
        // Who reads the folder from outside has no key but what is told there.
        ledger_store::keep_lineage(&dir, signer.key())?;
        match Ledger::open_signed(&dir, signer.clone(), &options) {
            // Sound, and not what it was: it opens to be recovered, and signs nothing until then.
            Err(StoreError::RolledBack { .. } | StoreError::Forked { .. }) => {
                let options = Options {
                    expected_at_least: None,
                    ..options
                };
                Ok(Ledger::open_signed(&dir, signer.clone(), &options)?)
            }
            opened => Ok(opened?),
        }
    }
}

/// From now on `head` is what was published last.
pub(super) fn remember(file: &HeadFile, head: &ledger::Checkpoint) -> Result<(), StartError> {
    let written = file.advance(head.size, &head.root, &Signing::default());
    written.map(drop).map_err(|source| StartError::Directory {
        path: file.path().to_owned(),
        source,
    })
}

/// Everything on disk, opened.
pub(super) struct Opened {
    /// INVARIANT: held from before the keys are read until nothing more is signed with them.
    pub(super) alone: Alone,
    pub(super) ca: Arc<dyn Custody>,
    pub(super) ledger: Ledger,
    /// Of this ledger: for what is not a checkpoint.
    pub(super) signer: LedgerSigner,
    pub(super) blobs: Blobs,
    pub(super) kept: Kept,
    /// Why the database is not up to the state, if it is not: the disk took nothing.
    pub(super) behind: Option<store::Error>,
    pub(super) state: State,
    /// What the state was computed from, if the database did not have it.
    pub(super) begun: Begun,
    pub(super) head: HeadFile,
    pub(super) elsewhere: Elsewhere,
    pub(super) postponed: Postponed,
    pub(super) commitment_key: SecretBytes,
}

/// What a state is computed from where there is no database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// The newest snapshot that can be used; without one, the first record.
    Snapshot,
    /// The first record, whatever snapshots there are.
    First,
}

impl Opened {
    pub(super) fn open(config: &Config, on_failure: Option<OnFailure>) -> Result<Self, StartError> {
        let opened = Self::open_from(config, on_failure, None)?;
        let (reader, blobs) = (opened.ledger.reader(), &opened.blobs);
        if let Some(finding) = snapshots::lost(reader, |sha256| blobs.get(sha256))? {
            tracing::warn!(%finding, "the snapshot that stands in for what was pruned: make it again before it is needed");
        }
        Ok(opened)
    }

    /// With a database that is computed anew, beside the one that is there: [`replace_state`].
    pub(super) fn anew(config: &Config, base: Base) -> Result<Self, StartError> {
        Self::open_from(config, None, Some(base))
    }

    fn open_from(
        config: &Config,
        on_failure: Option<OnFailure>,
        anew: Option<Base>,
    ) -> Result<Self, StartError> {
        private_dir(&config.data_dir)?;
        let ca: Arc<dyn Custody> = Arc::new(open_custody(&config.custody.ca)?);
        let opening = Opening::of(config)?;
        let ledger = opening.ledger(config, on_failure)?;
        let key = opening.keys.signer().key();
        if new_log::unfinished(ledger.reader(), key)?.is_some() {
            return Err(StartError::Refused(
                Finding::new(
                    "SERVER-NEW-LOG-UNFINISHED",
                    "the ledger was to go on as a new log, and has not begun it",
                )
                .expected(format!("a first record of {}", key.origin()))
                .observed(format!(
                    "{} records of the log before",
                    ledger.reader().size()
                ))
                .next("the same command again: trilith server new-log --config FILE --reason TEXT"),
            ));
        }
        // A head that cannot be read is the business of the start.
        let remembered = match opening.head.read() {
            Ok(head) => head.map(|(size, _root)| size),
            Err(_) => Some(u64::MAX),
        };
        lineage::reaches(ledger.reader(), key, remembered)?;
        let blobs = blobs(config)?;
        let CaughtUp {
            kept,
            state,
            behind,
            begun,
        } = match anew {
            None => caught_up(&state_path(config), &ledger, &blobs, Base::Snapshot)?,
            Some(base) => {
                // Of a run that was cut short.
                let beside = beside(config);
                Store::drop_file(&beside)?;
                let caught = caught_up(&beside, &ledger, &blobs, base);
                if caught.is_err() {
                    drop(Store::drop_file(&beside));
                }
                caught?
            }
        };
        // What a crash has left of an erasure, or a restored folder has brought back.
        let folder = config.data_dir.join(certificates::FOLDER);
        // They go first, so that a start which is killed on the way finds them again.
        certificates::erase_left(&folder, &state.all_erased()).map_err(|source| {
            StartError::Directory {
                path: folder,
                source,
            }
        })?;
        let removed = blobs.remove_all(&state.all_erased())?;
        if removed > 0 {
            tracing::warn!(
                removed,
                "what records say to be erased was there, and is gone now"
            );
        }
        let left = unnamed(&blobs, ledger.reader())?;
        if left > 0 {
            tracing::warn!(left, "what no record names was there, and is gone now");
        }
        let Opening {
            keys,
            ledger_dir,
            head,
        } = opening;
        let (signer, alone) = keys.into_parts();
        Ok(Self {
            alone,
            ca,
            ledger,
            signer,
            blobs,
            kept,
            behind,
            state,
            begun,
            head,
            elsewhere: Elsewhere::in_dir(&ledger_dir),
            postponed: Postponed::open(&ledger_dir).map_err(|source| StartError::Directory {
                path: ledger_dir,
                source,
            })?,
            commitment_key: commitment_key(&config.data_dir)?,
        })
    }
}

pub(super) fn blobs(config: &Config) -> Result<Blobs, StartError> {
    let dir = config.data_dir.join("blobs");
    Ok(Blobs::open(&dir, LARGEST_BLOB, Arc::new(RealDisk))?)
}

/// Removes what was put for records that never came: nobody could erase it, since no record names it.
fn unnamed(blobs: &Blobs, reader: &Reader) -> Result<u64, StartError> {
    let size = reader.size();
    // Of a ledger that was rolled back nothing is known of what came behind.
    let intended = blobs.intended()?.into_iter();
    let intended: Vec<Intended> = intended.filter(|one| one.from <= size).collect();
    let Some(mut index) = intended.iter().map(|one| one.from).min() else {
        return Ok(0);
    };
    let mut unnamed: HashMap<Vec<u8>, u64> = HashMap::new();
    for one in &intended {
        let from = unnamed.entry(one.sha256.to_string().into_bytes());
        let from = from.or_insert(one.from);
        *from = one.from.max(*from);
    }
    while index < size && !unnamed.is_empty() {
        index = reader.next_there(index);
        let records = reader.read(index..size)?;
        if records.is_empty() {
            break;
        }
        for record in records {
            for name in digests(&record) {
                if unnamed.get(name).is_some_and(|from| *from <= index) {
                    unnamed.remove(name);
                }
            }
            index = index.saturating_add(1);
        }
    }
    let gone = intended.iter().map(|one| one.sha256);
    let gone = gone.filter(|sha256| unnamed.contains_key(sha256.to_string().as_bytes()));
    let removed = blobs.remove_all(&gone.collect::<Vec<HexDigest>>())?;
    for one in &intended {
        blobs.settle(one)?;
    }
    Ok(removed)
}

/// Whatever of a record may be the name of a blob.
fn digests(record: &[u8]) -> impl Iterator<Item = &[u8]> {
    const DIGITS: usize = 64;
    let digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let runs = record.split(move |byte| !digit(byte));
    runs.flat_map(|run| run.windows(DIGITS))
}

fn open_custody(config: &CustodyConfig) -> Result<FileCustody, StartError> {
    let CustodyConfig::File { dir } = config;
    if let Some(parent) = dir.parent() {
        private_dir(parent)?;
    }
    Ok(FileCustody::open(dir)?)
}

fn private_dir(path: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StartError::Directory {
            path: path.to_owned(),
            source,
        })
}

fn state_path(config: &Config) -> PathBuf {
    config.data_dir.join("state.sqlite")
}

/// Where a database is made that is to take the place of the other.
fn beside(config: &Config) -> PathBuf {
    config.data_dir.join("state.new.sqlite")
}

/// Puts the database that was computed anew, which nobody has open, in the place of the one that is there.
pub(super) fn replace_state(config: &Config) -> Result<(), StartError> {
    let path = state_path(config);
    Store::drop_file(&path)?;
    std::fs::rename(beside(config), &path).map_err(|source| StartError::Directory { path, source })
}

/// Of a pruned ledger: that what the state needs of it is kept.
fn all_there(state: &State, reader: &Reader) -> Result<(), StartError> {
    let Some((index, what)) = needed::missing(state, reader) else {
        return Ok(());
    };
    let seen = format!("{} records there", reader.kept_beside().len());
    Err(StartError::Refused(unkept(index, what, seen)))
}

/// A record is needed that a pruning has taken.
pub(super) fn unkept(index: u64, what: &str, seen: String) -> Finding {
    Finding::new(
        "SERVER-KEPT",
        "a record that is needed still was pruned, and is not kept beside what is left",
    )
    .expected(format!(
        "record {index}, for {what}, in the file `apart` of the ledger's folder"
    ))
    .observed(seen)
    .next("with the server stopped, restore that file from a backup of the data directory of after the pruning; or make it again from a copy of the ledger: trilith server rebuild-state --config FILE --copy FOLDER")
}

struct CaughtUp {
    kept: Kept,
    state: State,
    behind: Option<store::Error>,
    begun: Begun,
}

/// Where the state begins of which the database has nothing, or less than what was pruned.
fn begin(state: &State, reader: &Reader, blobs: &Blobs, base: Base) -> Result<Begun, StartError> {
    let pruned = reader.pruned();
    let gone = pruned.filter(|pruned| state.applied() < pruned.minimum);
    let empty = state.applied() == 0 && reader.size() > 0;
    if gone.is_none() && (!empty || base == Base::First) {
        return Ok(Begun::default());
    }
    let begun = match base {
        Base::Snapshot => snapshots::begin(reader, |sha256| blobs.get(sha256))?,
        Base::First => Begun::default(),
    };
    let Some(pruned) = gone.filter(|_| begun.state.is_none()) else {
        return Ok(begun);
    };
    let tried: Vec<String> = begun.refused.iter().map(ToString::to_string).collect();
    Err(StartError::Refused(
        Finding::new("SERVER-SNAPSHOT", "the state cannot be computed: its first records were pruned")
            .expected(match base {
                Base::Snapshot => "a snapshot that stands in for them",
                Base::First => "every record from the first on",
            })
            .observed(format!(
                "records 1 to {} were pruned by record {}; {}",
                pruned.minimum.saturating_sub(1),
                pruned.record,
                if tried.is_empty() { "no snapshot was tried".to_owned() } else { tried.join("; ") }
            ))
            .next(match base {
            Base::Snapshot => "restore `blobs` from a backup, or make the snapshot again from a copy of the ledger: trilith server rebuild-state --config FILE --copy FOLDER",
            Base::First => "compare the snapshots with what a copy gives: trilith server rebuild-state --config FILE --check --copy FOLDER",
        }),
    ))
}

/// As [`catch_up`], with all that the state needs.
fn caught_up(
    path: &Path,
    ledger: &Ledger,
    blobs: &Blobs,
    base: Base,
) -> Result<CaughtUp, StartError> {
    let caught = catch_up(path, ledger, blobs, base)?;
    all_there(&caught.state, ledger.reader())?;
    Ok(caught)
}

/// The store's state, with every record that it has not applied yet. A database that the disk does not
/// let us write is left behind: the ledger holds everything, and the server starts without it.
fn catch_up(
    path: &Path,
    ledger: &Ledger,
    blobs: &Blobs,
    base: Base,
) -> Result<CaughtUp, StartError> {
    let reader = ledger.reader();
    let size = reader.size();
    let (mut store, mut state, mut behind) = match load(path, size) {
        Ok((store, state)) => (Some(store), state, None),
        Err(error) if error.is_disk() => {
            tracing::error!(%error, "the state is computed from the whole ledger");
            (None, State::default(), Some(error))
        }
        Err(error) => return Err(error.into()),
    };
    let mut begun = begin(&state, reader, blobs, base)?;
    if let Some(begins) = begun.state.take() {
        state = begins;
        let written = store
            .as_mut()
            .map(|store| store.replace(state.applied(), &state.snapshot()));
        fell_behind(written, &mut store, &mut behind)?;
    }
    while state.applied() < size {
        let from = state.applied();
        let mut changes = Vec::new();
        for (index, bytes) in (from..).zip(reader.read(from..from + BATCH)?) {
            let record = Record::from_vec(bytes).map_err(StartError::record(index))?;
            changes.extend(state.apply(index, &record)?);
        }
        let written = store
            .as_mut()
            .map(|store| store.absorb(state.applied(), &changes));
        fell_behind(written, &mut store, &mut behind)?;
    }
    Ok(CaughtUp {
        kept: Kept {
            path: path.to_owned(),
            store,
        },
        state,
        behind,
        begun,
    })
}

fn fell_behind(
    written: Option<Result<(), store::Error>>,
    store: &mut Option<Store>,
    behind: &mut Option<store::Error>,
) -> Result<(), StartError> {
    match written {
        Some(Err(error)) if error.is_disk() => {
            tracing::error!(%error, "the state database falls behind");
            (*store, *behind) = (None, Some(error));
            Ok(())
        }
        Some(Err(error)) => Err(error.into()),
        Some(Ok(())) | None => Ok(()),
    }
}

fn load(path: &Path, size: u64) -> Result<(Store, State), store::Error> {
    let store = Store::open(path)?;
    let (applied, snapshot) = store.load()?;
    if applied <= size {
        return Ok((store, State::from_snapshot(applied, snapshot)));
    }
    // The ledger was rolled back behind its own projection: only the ledger counts.
    tracing::warn!(
        applied,
        size,
        "the state is ahead of the ledger and is dropped"
    );
    drop(store);
    Store::drop_file(path)?;
    Ok((Store::open(path)?, State::default()))
}

/// 32 random bytes that salts of commitments and join states follow from, made at the first start.
fn commitment_key(data_dir: &Path) -> Result<SecretBytes, StartError> {
    let dir = data_dir.join("secrets");
    private_dir(&dir)?;
    let path = dir.join("commitment");
    let failed = |source| StartError::Directory {
        path: path.clone(),
        source,
    };
    match std::fs::read(&path) {
        Ok(bytes) if bytes.len() == 32 => return Ok(SecretBytes::new(bytes)),
        Ok(_) => {
            let short = std::io::Error::other("the key is not 32 bytes");
            return Err(failed(short));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let key = crypto::random::<32>();
    let beside = dir.join("commitment.new");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)
        .map_err(failed)?;
    file.write_all(&key)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, &path))
        .and_then(|()| std::fs::File::open(&dir)?.sync_all())
        .map_err(failed)?;
    Ok(SecretBytes::new(key.to_vec()))
}
