//! A mirror beside the witness, c2sp.org/tlog-mirror: what the witness has cosigned is what is pending here; the log's
//! entries are proven to be of it, kept, served, and then the mirror's own keys sign that they are there.
//!
//! ```text
//! package ─proven→ files, durable ─… all of them→ tiles lead to the checkpoint's root ─signed, durable→ answered
//! ```
//! It goes forward only, and no line leaves before every entry under it is on disk.

mod gunzip;
mod receive;
mod refused;
mod tree;

pub(crate) use receive::{Receiving, encoding};
pub use refused::MirrorRefused;

use crate::state::{MAX_STATE, Standing};
use crate::store::StoreError;
use crate::witness::Witness;
use facts::Finding;
use ledger::mirror::{Info, Package, Upload};
use ledger::tile::TilePath;
use ledger::witness::origin_hash;
use ledger::{Cosigner, CosignerKey, HexDigest, Note, NoteSignature};
use ledger_store::{Disk, read_file};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;
use tree::{Files, Tree, failed, put};

/// "If `excess_entries` is too large, the mirror MUST respond with a 409": entries that are sent again, at most.
const MOST_AGAIN: u64 = 8_192;
/// The file of the mirror's checkpoint, beside the tiles.
const STATE: &str = "state";

/// A mirror of the logs of a witness.
pub struct Mirror {
    witness: Arc<Witness>,
    cosigners: Vec<Cosigner>,
    logs: BTreeMap<HexDigest, Mirrored>,
    /// Bytes of the disk that stay free.
    spare: u64,
    folder: PathBuf,
    failure: OnceLock<Arc<Finding>>,
    ended: CancellationToken,
}

struct Mirrored {
    origin: String,
    files: Files,
    /// INVARIANT: held while anything of this log is written.
    copy: Mutex<Held>,
    /// What is handed out; only ever what is durable.
    latest: RwLock<Option<Arc<str>>>,
    /// A file that is not what was kept: nothing more is taken of this log.
    damaged: OnceLock<PathBuf>,
    /// It was so at the start: nothing of this log is served either.
    unread: Option<Finding>,
}

struct Held {
    tree: Tree,
    /// The mirror checkpoint.
    standing: Option<Standing>,
}

/// An upload that was let in: under this checkpoint.
#[derive(Debug, Clone)]
pub struct Session {
    log: HexDigest,
    upload: Upload,
    target: Arc<Standing>,
}

impl Mirror {
    /// Reads what is in `folder`, of those logs of the witness that `mirrored` says. Blocks on the disk.
    ///
    /// What cannot be believed of one log is a matter of that log: nothing of it is taken, signed or served until the
    /// next start, and the others go on.
    ///
    /// # Errors
    /// If the folder of a log cannot be made or written.
    pub fn open(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        witness: Arc<Witness>,
        cosigners: Vec<Cosigner>,
        spare: u64,
        mirrored: impl Fn(&str) -> bool,
    ) -> Result<Self, StoreError> {
        let mut logs = BTreeMap::new();
        for (origin, _) in witness.sizes().filter(|(origin, _)| mirrored(origin)) {
            let log = origin_hash(origin);
            let files = Files {
                disk: Arc::clone(disk),
                folder: folder.join(log.to_string()),
            };
            let mirrored = match Mirrored::open(origin, files.clone(), log, &cosigners) {
                Err(error) if error.is_of_one_log() => Mirrored::unread(origin, files, &error),
                opened => opened?,
            };
            logs.insert(log, mirrored);
        }
        Ok(Self {
            witness,
            cosigners,
            logs,
            spare,
            folder: folder.to_owned(),
            failure: OnceLock::new(),
            ended: CancellationToken::new(),
        })
    }

    /// What checks the lines of this mirror.
    pub fn keys(&self) -> impl Iterator<Item = &CosignerKey> {
        self.cosigners.iter().map(Cosigner::key)
    }

    /// The logs that are mirrored, and whether what is kept of each was found to be damaged.
    pub fn damaged(&self) -> impl Iterator<Item = (&str, bool)> {
        let logs = self.logs.values();
        logs.map(|log| (log.origin.as_str(), log.damaged.get().is_some()))
    }

    /// Why nothing of a log is served: what was kept of it could not be believed at the start.
    #[must_use]
    pub fn unread(&self, log: &HexDigest) -> Option<&Finding> {
        self.logs.get(log)?.unread.as_ref()
    }

    /// The mirror checkpoint, with the log's lines and this mirror's.
    #[must_use]
    pub fn latest(&self, log: &HexDigest) -> Option<Arc<str>> {
        let latest = &self.logs.get(log)?.latest;
        latest
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A tile or bundle; `None` if it is not here. Blocks on the disk.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn tile(&self, log: &HexDigest, path: &TilePath) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(mirrored) = self.logs.get(log) else {
            return Ok(None);
        };
        mirrored.files.read(path)
    }

    /// Resolves when a write has failed, with why.
    pub async fn ended(&self) -> Option<Arc<Finding>> {
        self.ended.cancelled().await;
        self.failure.get().cloned()
    }

    /// Whether the upload may begin.
    ///
    /// # Errors
    /// Why not.
    pub fn begin(&self, upload: &Upload) -> Result<Session, MirrorRefused> {
        let log = origin_hash(upload.origin());
        let Some(mirrored) = self.logs.get(&log) else {
            let origin = upload.origin().to_owned();
            return Err(MirrorRefused::Origin { origin });
        };
        self.alive(mirrored)?;
        let pending = self.witness.recent(&log);
        // "If the mirror has never received a pending checkpoint signed by the log, the mirror MUST respond with a
        // 422".
        let Some(newest) = pending.last() else {
            let origin = upload.origin().to_owned();
            return Err(MirrorRefused::Nothing { origin });
        };
        let held = mirrored.held();
        let next = held.tree.next();
        let size = held.size();
        let of_size = |one: &&Arc<Standing>| one.checkpoint.size == upload.end();
        let known = pending.iter().rev().find(of_size).cloned();
        // "This MAY be implemented … by storing the signed checkpoint in the ticket. The mirror MUST authenticate any
        // information it derives from a ticket": the witness has signed it.
        let known = known.or_else(|| {
            let said = self.witness.vouched(&log, upload.ticket());
            said.filter(|one| one.checkpoint.size == upload.end())
                .map(Arc::new)
        });
        let known = known.or_else(|| {
            let standing = held.standing.as_ref();
            let same = standing.filter(|one| one.checkpoint.size == upload.end());
            same.cloned().map(Arc::new)
        });
        drop(held);
        let Some(target) = known.filter(|_| upload.end() >= size) else {
            return Err(MirrorRefused::Conflict(info(newest, next)));
        };
        let again = upload.end().min(next).checked_sub(upload.start());
        if upload.start() > next || again.is_some_and(|again| again > MOST_AGAIN) {
            return Err(MirrorRefused::Conflict(info(&target, next)));
        }
        Ok(Session {
            log,
            upload: upload.clone(),
            target,
        })
    }

    /// Proves a package and keeps it, durably. Blocks on the disk.
    ///
    /// # Errors
    /// Why not.
    pub fn save(&self, session: &Session, package: &Package) -> Result<(), MirrorRefused> {
        let mirrored = self.log(session)?;
        let span = package.span();
        let mut held = mirrored.held();
        self.alive(mirrored)?;
        let checkpoint = &session.target.checkpoint;
        let before = held.tree.before(span.bundle(), span.before());
        let before = before.map_err(|error| self.end(mirrored, error))?;
        // Somebody else's entries may have come first, never have gone.
        let before = before
            .ok_or_else(|| MirrorRefused::Conflict(info(&session.target, held.tree.next())))?;
        package
            .verify(&before, checkpoint.size, &checkpoint.root)
            .map_err(|proof| MirrorRefused::Unproved { span, proof })?;
        if span.start > held.tree.next() {
            return Err(MirrorRefused::Conflict(info(
                &session.target,
                held.tree.next(),
            )));
        }
        // A bundle and the tiles above it are written beside what is there.
        let needed = 2 * package.entries().len() as u64 + (1 << 20);
        self.room(needed)?;
        held.tree
            .save(package, &before)
            .map_err(|error| self.end(mirrored, error))
    }

    /// Ends an upload of which every package was kept: the mirror's checkpoint becomes that of its end, and its lines
    /// are given. Blocks on the disk.
    ///
    /// # Errors
    /// Why not.
    pub fn finish(&self, session: &Session) -> Result<Vec<NoteSignature>, MirrorRefused> {
        let mirrored = self.log(session)?;
        let mut held = mirrored.held();
        self.alive(mirrored)?;
        let target = &session.target;
        let (size, root) = (target.checkpoint.size, target.checkpoint.root);
        if held.tree.next() < size {
            return Err(MirrorRefused::Part(info(target, held.tree.next())));
        }
        // "In this case, the mirror MUST NOT rewind the checkpoint".
        if held.size() > size {
            return Err(MirrorRefused::Conflict(
                self.info(session, held.tree.next()),
            ));
        }
        if let Some(standing) = held.standing.as_ref() {
            let (known, time) = (standing.checkpoint.size, standing.time);
            if known == size && time >= target.time {
                return Ok(self.lines(&standing.note));
            }
        }
        self.room(1 << 20)?;
        // Nothing is signed but what the files lead to.
        let found = held.tree.edge(size);
        let found = found.map_err(|error| self.end(mirrored, error))?;
        if found != root {
            let path = mirrored.files.folder.clone();
            return Err(self.end(mirrored, StoreError::Damaged(path)));
        }
        let next = self.sign(target, held.standing.as_ref())?;
        let path = mirrored.files.folder.join(STATE);
        // "The mirror MUST persist the new checkpoint before responding."
        put(&mirrored.files, &mut BTreeSet::new(), &path, &next.file())
            .map_err(|error| self.end(mirrored, error))?;
        let lines = self.lines(&next.note);
        let latest = Some(Arc::clone(&next.served));
        *mirrored
            .latest
            .write()
            .unwrap_or_else(PoisonError::into_inner) = latest;
        held.standing = Some(next);
        Ok(lines)
    }

    /// How far the log of an upload is.
    pub(crate) fn part(&self, session: &Session) -> Result<Info, MirrorRefused> {
        let next = self.log(session)?.held().tree.next();
        Ok(info(&session.target, next))
    }

    /// As of the newest pending checkpoint.
    fn info(&self, session: &Session, next: u64) -> Info {
        let pending = self.witness.recent(&session.log);
        info(pending.last().unwrap_or(&session.target), next)
    }

    /// The checkpoint with the log's lines and ours. The time is that at which the witness had seen it: nothing
    /// larger was known then.
    fn sign(&self, target: &Standing, last: Option<&Standing>) -> Result<Standing, MirrorRefused> {
        let time = target.time.max(last.map_or(0, |last| last.time));
        let lines = self.cosigners.iter();
        let lines = lines.map(|cosigner| cosigner.cosign(&target.checkpoint, time));
        let lines: Vec<NoteSignature> = lines
            .collect::<Result<_, _>>()
            .map_err(MirrorRefused::Sign)?;
        let mut note = Note {
            text: target.note.text.clone(),
            signatures: self
                .witness
                .of_the_log(&target.checkpoint.origin, &target.note),
        };
        let merged = note
            .merge(lines)
            .ok()
            .and_then(|()| Standing::new(note, time));
        merged.ok_or(MirrorRefused::Lines)
    }

    fn lines(&self, note: &Note) -> Vec<NoteSignature> {
        let ours = |line: &&NoteSignature| self.keys().any(|key| line.is_by(key.name(), key.id()));
        note.signatures.iter().filter(ours).cloned().collect()
    }

    fn log(&self, session: &Session) -> Result<&Mirrored, MirrorRefused> {
        self.logs
            .get(&session.log)
            .ok_or_else(|| MirrorRefused::Origin {
                origin: session.upload.origin().to_owned(),
            })
    }

    /// Whether so much may still be written. Where that cannot be asked, the write says it.
    fn room(&self, needed: u64) -> Result<(), MirrorRefused> {
        let Ok(found) = rustix::fs::statvfs(&self.folder) else {
            return Ok(());
        };
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        if free < self.spare.saturating_add(needed) {
            return Err(MirrorRefused::Full {
                free,
                spare: self.spare,
            });
        }
        Ok(())
    }

    fn alive(&self, mirrored: &Mirrored) -> Result<(), MirrorRefused> {
        if let Some(path) = mirrored.damaged.get() {
            return Err(MirrorRefused::Store(StoreError::Damaged(path.clone())));
        }
        match self.failure.get() {
            None => Ok(()),
            Some(_) => Err(MirrorRefused::Store(StoreError::Ended)),
        }
    }

    /// After a write that failed nothing is written any more; one for which there was no room has not happened. A file
    /// that is not what was kept ends its log, and no other.
    fn end(&self, mirrored: &Mirrored, error: StoreError) -> MirrorRefused {
        if let StoreError::Damaged(path) | StoreError::DamagedState { path, .. } = &error {
            if mirrored.damaged.set(path.clone()).is_ok() {
                tracing::error!(finding = %error.finding(), "this log is not mirrored any more");
            }
            return MirrorRefused::Store(error);
        }
        if let StoreError::Io { source, .. } = &error
            && source.kind() == std::io::ErrorKind::StorageFull
        {
            return MirrorRefused::Full {
                free: 0,
                spare: self.spare,
            };
        }
        let _first = self.failure.set(Arc::new(error.finding()));
        self.ended.cancel();
        MirrorRefused::Store(error)
    }
}

impl Mirrored {
    fn open(
        origin: &str,
        files: Files,
        log: HexDigest,
        cosigners: &[Cosigner],
    ) -> Result<Self, StoreError> {
        let path = files.folder.join(STATE);
        let file = read_file(&*files.disk, &path, MAX_STATE);
        let file = file.map_err(|source| failed("read", &path, source))?;
        let unreadable = |why| StoreError::Damaged(path.clone()).because(why);
        let standing = file.map(|file| Standing::parse(&file, log)).transpose();
        let standing = standing.map_err(unreadable)?;
        if let Some(standing) = &standing {
            let mut keys = cosigners.iter().map(Cosigner::key);
            if keys.any(|key| key.verify(&standing.note).is_err()) {
                return Err(unreadable(crate::Unreadable::Signature));
            }
        }
        let size = standing.as_ref().map_or(0, |one| one.checkpoint.size);
        let mut tree = Tree::open(files.clone(), size)?;
        if let Some(standing) = &standing
            && tree.edge(size)? != standing.checkpoint.root
        {
            return Err(StoreError::Damaged(files.folder));
        }
        let latest = standing.as_ref().map(|one| Arc::clone(&one.served));
        Ok(Self {
            origin: origin.to_owned(),
            files,
            copy: Mutex::new(Held { tree, standing }),
            latest: RwLock::new(latest),
            damaged: OnceLock::new(),
            unread: None,
        })
    }

    /// INVARIANT: it is damaged from the start, so that nothing is ever taken for its tree or signed.
    fn unread(origin: &str, files: Files, error: &StoreError) -> Self {
        let finding = error.finding();
        tracing::error!(origin, %finding, "this log is not mirrored, and not served");
        Self {
            origin: origin.to_owned(),
            copy: Mutex::new(Held {
                tree: Tree::nothing(files.clone()),
                standing: None,
            }),
            damaged: OnceLock::from(files.folder.clone()),
            files,
            latest: RwLock::new(None),
            unread: Some(finding),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn size(&self) -> u64 {
        self.standing.as_ref().map_or(0, |one| one.checkpoint.size)
    }
}

/// "If the client's `upload_end` value was valid, the first line SHOULD contain `upload_end`."
fn info(target: &Standing, next: u64) -> Info {
    let ticket = target.served.as_bytes();
    Info {
        size: target.checkpoint.size,
        next,
        // Without it, a past checkpoint is known for as long as this process remembers it.
        ticket: match u16::try_from(ticket.len()) {
            Ok(_) => ticket.to_vec(),
            Err(_) => Vec::new(),
        },
    }
}
