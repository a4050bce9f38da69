//! Whether this server may sign: not while a peer knows a longer, or another, ledger than ours, nor while its clock is
//! wrong.
//!
//! A restored backup looks healthy from inside. Peers and a head kept beside the ledger's key remember
//! more; whoever is behind one of them refuses every signature until an operator's recorded recovery.

use crate::clock::{Clock, system_clock};
use crate::refusal::Refusal;
use facts::Finding;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::watch;

/// Heads that are remembered of what this ledger was; the longest stay. What a recovery gives up besides
/// is recorded when somebody who follows it comes.
const HEADS: usize = 64;

/// A head that somebody has seen and that is not one of this ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) size: u64,
    pub(crate) root: [u8; 32],
    /// As it was signed, where whoever has seen it could show that.
    pub(crate) note: Option<String>,
}

/// Why nothing is signed.
#[derive(Debug, Clone)]
pub(crate) struct Blocked {
    pub(crate) finding: Finding,
    /// By size and root, with the signed note where there is one.
    heads: BTreeMap<(u64, [u8; 32]), Option<String>>,
}

impl Blocked {
    pub(crate) fn heads(&self) -> impl Iterator<Item = Foreign> {
        self.heads.iter().map(|((size, root), note)| Foreign {
            size: *size,
            root: *root,
            note: note.clone(),
        })
    }
}

/// Set by whoever learns of a longer ledger, cleared by recovery.
///
/// INVARIANT: the journal queues nothing to be signed but under [`Signing::open`]. What was queued before
/// the block is signed; nothing after it is, but the recovery.
#[derive(Debug)]
pub(crate) struct Signing {
    blocked: RwLock<Option<Blocked>>,
    /// Whether a peer allows it, for those who wait for that.
    allowed: watch::Sender<bool>,
    clock: Clock,
}

impl Default for Signing {
    fn default() -> Self {
        Self::by(Clock::by(system_clock))
    }
}

/// Signing is allowed for as long as this is held.
pub(crate) struct Open<'a> {
    _blocked: RwLockReadGuard<'a, Option<Blocked>>,
}

impl Signing {
    /// Nothing is signed while `clock` is wrong.
    pub(crate) fn by(clock: Clock) -> Self {
        Self {
            blocked: RwLock::default(),
            allowed: watch::Sender::new(true),
            clock,
        }
    }

    pub(crate) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn check(&self) -> Result<(), Refusal> {
        self.open().map(drop).map_err(Refusal::Unavailable)
    }

    /// Refuses with the reason; else nobody blocks while the answer is held.
    pub(crate) fn open(&self) -> Result<Open<'_>, Finding> {
        self.clock.check()?;
        let blocked = self.read();
        match &*blocked {
            None => Ok(Open { _blocked: blocked }),
            Some(blocked) => Err(blocked.finding.clone()),
        }
    }

    pub(crate) fn blocked(&self) -> Option<Blocked> {
        self.read().clone()
    }

    /// Nothing is signed from now on. `head` is what is known of the longer ledger.
    pub(crate) fn block(&self, finding: Finding, head: Option<Foreign>) {
        let mut blocked = self.write();
        let blocked = blocked.get_or_insert_with(|| {
            tracing::error!(%finding, "refusing to sign");
            Blocked {
                finding,
                heads: BTreeMap::new(),
            }
        });
        if let Some(head) = head {
            let note = blocked.heads.entry((head.size, head.root)).or_default();
            *note = note.take().or(head.note);
            if blocked.heads.len() > HEADS {
                blocked.heads.pop_first();
            }
        }
        self.allowed.send_replace(false);
    }

    /// Goes on, unless a head has come meanwhile that `given_up` does not hold of. Returns whether it does.
    pub(crate) fn allow(&self, given_up: impl Fn(&Foreign) -> bool) -> bool {
        let mut blocked = self.write();
        let left = blocked
            .as_ref()
            .is_some_and(|blocked| !blocked.heads().all(|head| given_up(&head)));
        if left {
            return false;
        }
        *blocked = None;
        self.allowed.send_replace(true);
        true
    }

    /// Whether a peer allows it, now and at each change.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.allowed.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Blocked>> {
        self.blocked.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Blocked>> {
        self.blocked.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The finding for a ledger of `ours` records where `peer` has seen `theirs`.
pub(crate) fn behind(peer: &str, theirs: u64, ours: u64) -> Finding {
    Finding::new(
        "SERVER-BEHIND-PEER",
        "this server's ledger is not the one that a peer has seen: it was rolled back or forked",
    )
    .expected(format!("what {peer} has verified: {theirs} records"))
    .observed(format!("{ours} records, or another history"))
    .next(
        "restore the newest copy, or go on knowingly: trilith recover --reason TEXT; of a server with witnesses, \
         trilith server new-log --config FILE --give-up --reason TEXT",
    )
}

/// The highest head that was ever published, kept with the ledger's key and not with the ledger, so that
/// restoring the data directory does not take it back.
#[derive(Debug)]
pub(crate) struct HeadFile {
    path: PathBuf,
    /// Held while the file is replaced.
    writing: Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("reading {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} does not hold a size and a root")]
    Format { path: PathBuf },
}

impl HeadError {
    /// What an unreadable head means: it may have been higher than what the ledger holds now.
    pub(crate) fn finding(&self) -> Finding {
        Finding::new(
            "SERVER-HEAD-DAMAGED",
            "the head kept with the ledger's key cannot be read: whether the ledger was rolled back is not known",
        )
        .expected("a size and a root")
        .observed(self.to_string())
        .next("compare the ledger's size with what the gateways follow, then: trilith recover --reason TEXT")
    }
}

impl HeadFile {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join("highest-head"),
            writing: Mutex::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size and root, if one was ever written.
    pub(crate) fn read(&self) -> Result<Option<(u64, [u8; 32])>, HeadError> {
        let path = || self.path.clone();
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(HeadError::Read {
                    path: path(),
                    source,
                });
            }
        };
        let parsed = text.trim_end().split_once(' ').and_then(|(size, root)| {
            let root = crypto::hex::decode(root).ok()?.try_into().ok()?;
            Some((size.parse().ok()?, root))
        });
        parsed
            .map(Some)
            .ok_or_else(|| HeadError::Format { path: path() })
    }

    /// Remembers this ledger's own head, while it may sign: after a power cut the file holds one head or
    /// the other, whole. Blocks on the disk. Returns whether it was written.
    pub(crate) fn advance(
        &self,
        size: u64,
        root: &[u8; 32],
        signing: &Signing,
    ) -> std::io::Result<bool> {
        let _writing = self.lock();
        // Looked at under the lock: a foreign head that is remembered meanwhile is not overwritten.
        if signing.blocked().is_some() {
            return Ok(false);
        }
        self.write(size, root).map(|()| true)
    }

    /// Remembers a head that a peer has shown and that is not `ours`, so that the next start knows of it
    /// too; unless the one that is kept says more. Blocks on the disk.
    pub(crate) fn contradict(
        &self,
        head: &Foreign,
        ours: impl Fn(u64, &[u8; 32]) -> bool,
    ) -> std::io::Result<()> {
        let _writing = self.lock();
        match self.read() {
            Ok(Some((size, root))) if size >= head.size && !ours(size, &root) => Ok(()),
            // One that cannot be read blocks the next start by itself.
            Err(_) => Ok(()),
            Ok(_) => self.write(head.size, &head.root),
        }
    }

    fn write(&self, size: u64, root: &[u8; 32]) -> std::io::Result<()> {
        replace(
            &self.path,
            format!("{size} {}\n", crypto::hex::encode(root)).as_bytes(),
        )
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The file at `path` holds `bytes`, durably, or what it held before.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => std::fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
