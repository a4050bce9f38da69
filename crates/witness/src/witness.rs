//! The witness itself: a request in, lines or a refusal out. It knows no connection; time comes with the request.

use crate::limits::{Bucket, Limits};
use crate::logs::Logs;
use crate::refused::Refused;
use crate::state::Standing;
use crate::store::{Store, StoreError};
use facts::Finding;
use ledger::witness::{AddCheckpoint, Known, Refusal, WitnessError, consider, origin_hash};
use ledger::{
    Cosigner, CosignerKey, ForeignCheckpoint, Hash, HexDigest, LedgerKey, LogKey, Note,
    NoteSignature,
};
use ledger_store::Disk;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// Checkpoints of a log that this process remembers, for uploads to a mirror that began under an older one.
const RECENT: usize = 16;

/// When a request came.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Seconds since 1970: what is stated.
    pub unix: u64,
    /// For limits.
    pub clock: Instant,
}

impl Moment {
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            unix: since.map_or(0, |since| since.as_secs()),
            clock: Instant::now(),
        }
    }
}

/// A checkpoint that was cosigned.
#[derive(Debug, Clone)]
pub struct Cosigned {
    pub origin: Arc<str>,
    pub size: u64,
    /// This witness's, one a key.
    pub lines: Vec<NoteSignature>,
    /// False if they are those of a moment ago.
    pub new: bool,
}

/// One log.
struct Log {
    origin: Arc<str>,
    keys: Vec<LogKey>,
    /// The origin of the newest log, where this one has gone on as another.
    ended: Option<Arc<str>>,
    /// Of a log that went on from another: the tree that its first checkpoint has to extend.
    begins: Option<(u64, Hash)>,
    /// INVARIANT: held from the comparison with what stands until the new state is durable and stands, so that of
    /// two requests one sees what the other has left.
    turn: Mutex<Turn>,
    /// What is handed out, the newest last; only ever what is durable.
    recent: RwLock<VecDeque<Arc<Standing>>>,
}

#[derive(Default)]
struct Turn {
    standing: Option<Standing>,
    taken: Bucket,
    /// When this process has cosigned `standing`.
    since: Option<Instant>,
}

/// A witness with its state.
pub struct Witness {
    cosigners: Vec<Cosigner>,
    limits: Limits,
    logs: BTreeMap<HexDigest, Log>,
    store: Store,
    /// Why it has ended; from then on nothing is signed.
    failure: OnceLock<Arc<Finding>>,
    ended: CancellationToken,
}

impl Witness {
    /// Reads the state in `folder` and takes it for this process. `keys` says whether the keys were there before.
    ///
    /// # Errors
    /// If there is anything in the state that cannot be believed.
    pub fn open(disk: Arc<dyn Disk>, folder: &Path, keys: bool) -> Result<Opened, StoreError> {
        let (store, standing) = Store::open(disk, folder, keys)?;
        Ok(Opened { store, standing })
    }

    /// What checks the lines of this witness.
    pub fn keys(&self) -> impl Iterator<Item = &CosignerKey> {
        self.cosigners.iter().map(Cosigner::key)
    }

    /// Every log, with the size that was cosigned last.
    pub fn sizes(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        self.logs.values().map(|log| {
            let turn = log.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let size = turn.standing.as_ref().map(|last| last.checkpoint.size);
            (&*log.origin, size)
        })
    }

    /// The last checkpoint of the log whose origin has this hash, with the log's lines and this witness's.
    #[must_use]
    pub fn latest(&self, log: &HexDigest) -> Option<Arc<str>> {
        let newest = self.recent(log).pop()?;
        Some(Arc::clone(&newest.served))
    }

    /// The checkpoints of a log that were cosigned last, the newest at the end.
    pub(crate) fn recent(&self, log: &HexDigest) -> Vec<Arc<Standing>> {
        let Some(log) = self.logs.get(log) else {
            return Vec::new();
        };
        let recent = log.recent.read().unwrap_or_else(PoisonError::into_inner);
        recent.iter().cloned().collect()
    }

    /// A checkpoint of that log that a note shows to have been cosigned by this witness, with the log's line.
    pub(crate) fn vouched(&self, log: &HexDigest, note: &[u8]) -> Option<Standing> {
        let note = Note::parse(std::str::from_utf8(note).ok()?).ok()?;
        let mut time = None;
        for key in self.keys() {
            time = key.verify(&note).ok()?.map(|line| line.time).or(time);
        }
        let standing = Standing::new(note, time.filter(|time| *time > 0)?)?;
        let origin = &standing.checkpoint.origin;
        let keys = &self.logs.get(log)?.keys;
        let signed = keys
            .iter()
            .any(|key| matches!(key.signed(&standing.note), Ok(true)));
        (origin_hash(origin) == *log && signed).then_some(standing)
    }

    /// The lines of the log's keys.
    pub(crate) fn of_the_log(&self, origin: &str, note: &Note) -> Vec<NoteSignature> {
        let keys = self
            .logs
            .get(&origin_hash(origin))
            .map(|log| log.keys.as_slice());
        let lines = note.signatures.iter();
        let theirs = |line: &&NoteSignature| {
            let mut keys = keys.unwrap_or_default().iter();
            keys.any(|key| is_by(line, key))
        };
        lines.filter(theirs).cloned().collect()
    }

    /// Resolves when a write has failed, with why.
    pub async fn ended(&self) -> Option<Arc<Finding>> {
        self.ended.cancelled().await;
        self.failure.get().cloned()
    }

    /// True until a write has failed.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.failure.get().is_none()
    }

    /// Judges a request and cosigns what it has. Blocks on the disk, and behind other requests of the same log.
    ///
    /// # Errors
    /// Why not.
    pub fn add_checkpoint(&self, body: &[u8], now: Moment) -> Result<Cosigned, Refused> {
        let request: AddCheckpoint = std::str::from_utf8(body)
            .map_err(|_| Refused::Request(WitnessError::Request("it is not UTF-8")))?
            .parse()
            .map_err(Refused::Request)?;
        let Some(log) = self.logs.get(&origin_hash(&request.checkpoint.origin)) else {
            let origin = request.checkpoint.origin;
            return Err(Refused::Refusal {
                refusal: Refusal::Origin { origin },
                fork: None,
            });
        };
        // INVARIANT 6: whoever has the key of a log that ended is not its operator, as far as anybody can tell.
        if let Some(newest) = &log.ended {
            return Err(Refused::Ended {
                origin: Arc::clone(&log.origin),
                newest: Arc::clone(newest),
            });
        }
        let mut turn = log.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_alive() {
            return Err(Refused::Store(StoreError::Ended));
        }
        let last = turn.standing.as_ref();
        let known = Known {
            keys: &log.keys,
            last: last
                .map(|last| (last.checkpoint.size, last.checkpoint.root))
                .or(log.begins),
        };
        if let Err(refusal) = consider(&request, Some(&known)) {
            let fork = self.is_new_fork(&request, &refusal, last)?;
            let fork = fork.then(|| Arc::clone(&log.origin));
            return Err(Refused::Refusal { refusal, fork });
        }
        if let Some(again) = self.again(log, &turn, &request, now) {
            return Ok(again);
        }
        turn.taken
            .take(self.limits.log, now.clock)
            .map_err(|wait| Refused::Busy {
                origin: Arc::clone(&log.origin),
                wait,
            })?;
        let (next, lines) = self.cosign(&log.keys, &request, turn.standing.as_ref(), now)?;
        // "The witness MUST persist the new checkpoint before responding."
        self.store
            .advance(turn.standing.as_ref(), &next)
            .map_err(|error| self.end(error))?;
        log.remember(Arc::new(next.clone()));
        (turn.standing, turn.since) = (Some(next), Some(now.clock));
        Ok(Cosigned {
            origin: Arc::clone(&log.origin),
            size: request.checkpoint.size,
            lines,
            new: true,
        })
    }

    /// The lines of a moment ago, if it is the same text.
    fn again(
        &self,
        log: &Log,
        turn: &Turn,
        request: &AddCheckpoint,
        now: Moment,
    ) -> Option<Cosigned> {
        let (last, since) = turn.standing.as_ref().zip(turn.since)?;
        let recent = now.clock.saturating_duration_since(since) < self.limits.repeat;
        if !recent || last.note.text != request.note.text {
            return None;
        }
        let lines = last.note.signatures.iter();
        let ours = lines.filter(|line| self.keys().any(|key| line.is_by(key.name(), key.id())));
        Some(Cosigned {
            origin: Arc::clone(&log.origin),
            size: last.checkpoint.size,
            lines: ours.cloned().collect(),
            new: false,
        })
    }

    /// What will stand, and the lines in it that are ours. Nothing of it may be given away yet.
    fn cosign(
        &self,
        keys: &[LogKey],
        request: &AddCheckpoint,
        last: Option<&Standing>,
        now: Moment,
    ) -> Result<(Standing, Vec<NoteSignature>), Refused> {
        // "as of the specified time, the consistent tree head with the largest size": a clock that was set back
        // does not make an earlier, smaller one later than this.
        let time = now.unix.max(last.map_or(0, |last| last.time));
        // "the timestamp MUST NOT be zero".
        if time == 0 {
            return Err(Refused::Clock);
        }
        let lines = self.cosigners.iter();
        let lines = lines.map(|cosigner| cosigner.cosign(&request.checkpoint, time));
        let lines: Vec<NoteSignature> = lines.collect::<Result<_, _>>().map_err(Refused::Sign)?;
        // "the cosignature from the log key(s) that the witness verified": no line of anybody else.
        let verified = |line: &&NoteSignature| keys.iter().any(|key| is_by(line, key));
        let mut note = Note {
            text: request.note.text.clone(),
            signatures: request
                .note
                .signatures
                .iter()
                .filter(verified)
                .cloned()
                .collect(),
        };
        let unfit = |_| Refused::Request(WitnessError::Request("too many lines of its log's keys"));
        note.merge(lines.clone()).map_err(unfit)?;
        let next = Standing::new(note, time).ok_or(Refused::Request(WitnessError::Request(
            "it is no checkpoint",
        )))?;
        Ok((next, lines))
    }

    /// Two checkpoints of one size with two roots, both signed by the log: it is kept, the first time.
    fn is_new_fork(
        &self,
        request: &AddCheckpoint,
        refusal: &Refusal,
        last: Option<&Standing>,
    ) -> Result<bool, Refused> {
        let asked: &ForeignCheckpoint = &request.checkpoint;
        let forked = last.is_some_and(|last| {
            last.checkpoint.size == asked.size && last.checkpoint.root != asked.root
        });
        // Whatever else is wrong with the request, once the log's signature is good.
        let signed = !matches!(refusal, Refusal::Unsigned { .. } | Refusal::Signature(_));
        if !forked || !signed {
            return Ok(false);
        }
        let note = request.note.to_string();
        self.store
            .keep_fork(&asked.origin, &note)
            .map_err(|error| self.end(error))
    }

    /// After a write that failed nothing is signed any more.
    fn end(&self, error: StoreError) -> Refused {
        let _first = self.failure.set(Arc::new(error.finding()));
        self.ended.cancel();
        Refused::Store(error)
    }
}

impl Log {
    fn remember(&self, next: Arc<Standing>) {
        let mut recent = self.recent.write().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|known| known.checkpoint.size != next.checkpoint.size);
        recent.push_back(next);
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }
}

/// A state that was read.
pub struct Opened {
    store: Store,
    standing: BTreeMap<HexDigest, Standing>,
}

impl Opened {
    /// The witness of these keys and logs.
    ///
    /// # Errors
    /// If a line in the state that says it is by one of the keys is not.
    pub fn witness(
        mut self,
        cosigners: Vec<Cosigner>,
        logs: &Logs,
        limits: Limits,
    ) -> Result<Witness, StoreError> {
        let folder = self.store.folder().to_owned();
        let mut known = BTreeMap::new();
        let begins: BTreeMap<String, (u64, Hash)> = logs
            .iter()
            .filter_map(|(origin, _)| {
                let begins = begins(origin, logs.lineage(origin)?, &self.standing)?;
                Some((origin.to_owned(), begins))
            })
            .collect();
        for (origin, keys) in logs.iter() {
            let hash = origin_hash(origin);
            let standing = self.standing.remove(&hash);
            let forged = standing.as_ref().is_some_and(|standing| {
                let mut keys = cosigners.iter().map(Cosigner::key);
                keys.any(|key| key.verify(&standing.note).is_err())
            });
            if forged {
                let (path, why) = (folder.join(hash.to_string()), crate::Unreadable::Signature);
                return Err(StoreError::Unreadable { path, why });
            }
            let recent = standing.iter().cloned().map(Arc::new).collect();
            let log = Log {
                origin: origin.into(),
                keys: keys.to_vec(),
                ended: logs
                    .lineage(origin)
                    .map(|newest| newest.origin().as_str())
                    .filter(|newest| *newest != origin)
                    .map(Arc::from),
                begins: begins.get(origin).copied(),
                turn: Mutex::new(Turn {
                    standing,
                    ..Turn::default()
                }),
                recent: RwLock::new(recent),
            };
            known.insert(hash, log);
        }
        Ok(Witness {
            cosigners,
            limits,
            logs: known,
            store: self.store,
            failure: OnceLock::new(),
            ended: CancellationToken::new(),
        })
    }
}

/// What the first checkpoint of the log `origin` has to extend: the longest that was cosigned of those that it goes on
/// from, or what both keys have signed that it goes on from. `None` if it is the first of its lineage.
fn begins(
    origin: &str,
    newest: &LedgerKey,
    standing: &BTreeMap<HexDigest, Standing>,
) -> Option<(u64, Hash)> {
    let (end, root) = newest.goes_on_from(origin).pop()?;
    let seen = before(origin, newest).filter_map(|former| {
        let last = &standing.get(&origin_hash(former))?.checkpoint;
        Some((last.size, last.root))
    });
    let (seen, gone): (Vec<_>, Vec<_>) = seen.partition(|(size, _root)| *size <= end);
    let longest = seen.into_iter().max_by_key(|(size, _root)| *size);
    if let Some((size, _root)) = gone.first() {
        tracing::warn!(
            origin,
            size,
            end,
            "more was cosigned of the log before than its link names: both keys gave that up"
        );
    }
    // INVARIANT 6: what was cosigned is in what goes on from it, unless both keys have signed that it was given up.
    let begins = longest.filter(|_| gone.is_empty()).unwrap_or((end, root));
    let none = standing.contains_key(&origin_hash(origin));
    if begins.0 == end && !none {
        tracing::warn!(
            origin,
            end,
            "the log is taken first from the tree that its link names"
        );
    }
    Some(begins)
}

/// The origins of the logs that the log `origin` goes on from.
fn before<'a>(origin: &str, newest: &'a LedgerKey) -> impl Iterator<Item = &'a str> {
    let keys = std::iter::successors(Some(newest), |key| key.before());
    let keys = keys.skip_while(move |key| key.origin().as_str() != origin);
    keys.skip(1).map(|key| key.origin().as_str())
}

fn is_by(line: &NoteSignature, key: &LogKey) -> bool {
    let id = match key {
        LogKey::Note(key) => key.id(),
        LogKey::Cosigner(key) => key.id(),
    };
    line.is_by(key.name(), id)
}
