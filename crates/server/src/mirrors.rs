//! Gateways' ledgers as this server keeps them: every record, verified as it comes.

use crate::core::Core;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::witness::origin_hash;
use ledger::{Base64, Checkpoint, Digest, LedgerKey, lineage};
use ledger_store::{Mirror, Options, Reader, StoreError};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use store::{GatewayRow, SvidRow};
use tokio::sync::OwnedMutexGuard;

/// Ledgers that one gateway identity may have anchored, on all its machines.
const ORIGINS: usize = 256;
/// Mirrors that nobody uses and that stay open: each is a thread, a few files and tiles in memory.
const IDLE: usize = 256;

/// All mirrors, opened when they are needed, and closed when they are not: those used last stay open.
pub(crate) struct Mirrors {
    dir: PathBuf,
    /// So many that nobody uses stay open.
    idle: usize,
    /// Counts openings, by which it is known what was used last.
    uses: AtomicU64,
    /// By the names of their first logs: what is mirrored of one goes on as the next.
    open: Mutex<BTreeMap<String, Arc<Kept>>>,
    /// One for each that is looked up now: held while its files are opened, so that who asks for another one waits for
    /// none of it. Taken before `open`.
    opening: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    /// The ledger that each gateway on each machine streams now, and over how many streams.
    claims: Mutex<HashMap<(String, String), (String, usize)>>,
}

pub(crate) struct Kept {
    mirror: Mutex<Mirror>,
    /// The mirror's own, which is busy while it writes.
    key: Mutex<LedgerKey>,
    reader: Reader,
    /// A record of this server's ledger names it: it is kept.
    named: AtomicBool,
    /// When it was asked for last, as [`Mirrors::uses`] counts.
    used: AtomicU64,
    /// The machine whose stream had it go on as the log that it is of, since it was opened.
    went_on_by: Mutex<Option<String>>,
    /// Held from the look at the anchor in force until the next one is in the ledger, whichever stream it comes by.
    anchoring: Arc<tokio::sync::Mutex<()>>,
    /// Nothing was here before it was opened.
    new: bool,
}

/// A gateway on a machine streams one ledger for as long as this is held.
pub(crate) struct Claim {
    core: Arc<Core>,
    holder: (String, String),
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.core.mirrors.release(&self.holder);
    }
}

impl Mirrors {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self::with_idle(dir, IDLE)
    }

    fn with_idle(dir: PathBuf, idle: usize) -> Self {
        Self {
            dir,
            idle,
            uses: AtomicU64::new(0),
            open: Mutex::default(),
            opening: Mutex::default(),
            claims: Mutex::default(),
        }
    }

    /// Reserves `origin` for the gateway that authenticated with `svid`: a gateway on one machine has one
    /// ledger, so that naming ever new ones costs nothing but the refusals.
    pub(crate) fn claim(core: &Arc<Core>, svid: &SvidRow, origin: &str) -> Result<Claim, Refusal> {
        let refused = |expected: String| {
            Refusal::Denied(
                Finding::new("FOLLOW-ORIGIN", "the ledger is not this gateway's")
                    .expected(expected)
                    .observed(origin.to_owned())
                    .next("give each gateway of a machine an identity of its own, and keep its `name`"),
            )
        };
        let anchored = {
            let state = core.state();
            let of_it = state.gateways().filter(|row| row.gateway == svid.spiffe_id);
            state.gateway(origin).is_none().then(|| of_it.count())
        };
        if anchored.is_some_and(|count| count >= ORIGINS) {
            return Err(refused(format!("at most {ORIGINS} ledgers of one gateway")));
        }
        let holder = (svid.spiffe_id.clone(), svid.node.clone());
        let mut claims = core.mirrors.claims();
        let held = claims
            .entry(holder.clone())
            .or_insert_with(|| (ledger::line(origin).to_owned(), 0));
        if held.0 != ledger::line(origin) {
            return Err(refused(format!("{}, which its other stream names", held.0)));
        }
        held.1 += 1;
        drop(claims);
        let core = Arc::clone(core);
        Ok(Claim { core, holder })
    }

    fn release(&self, holder: &(String, String)) {
        let mut claims = self.claims();
        if let Some(held) = claims.get_mut(holder) {
            held.1 = held.1.saturating_sub(1);
            if held.1 == 0 {
                claims.remove(holder);
            }
        }
    }

    /// The mirror of the ledger that `key` signs, which may be of logs before it. Blocks on the disk the first time.
    ///
    /// # Errors
    /// `FOLLOW-LEDGER-FORKED`, `FOLLOW-LEDGER-LINEAGE` if what is kept here goes on as another log.
    pub(crate) fn open(&self, key: &LedgerKey) -> Result<Arc<Kept>, Refusal> {
        let origin = ledger::line(key.origin().as_str());
        let turn = Arc::clone(self.opening().entry(origin.to_owned()).or_default());
        let kept = {
            let _alone = turn.lock().unwrap_or_else(PoisonError::into_inner);
            self.open_alone(origin, key)
        };
        let mut opening = self.opening();
        drop(turn);
        // Nobody takes another reference while the list is locked.
        if opening
            .get(origin)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            opening.remove(origin);
        }
        kept
    }

    /// By one at a time for each origin.
    fn open_alone(&self, origin: &str, key: &LedgerKey) -> Result<Arc<Kept>, Refusal> {
        let known = {
            let mut open = self.opened();
            let known = open.get(origin).map(Arc::clone);
            if known.is_none() {
                self.sweep(&mut open);
            }
            known
        };
        let use_of = self.uses.fetch_add(1, Ordering::Relaxed);
        if let Some(kept) = known {
            kept.used.store(use_of, Ordering::Relaxed);
            kept.succeed(key)?;
            return Ok(kept);
        }
        let failed = |error: StoreError| match error {
            StoreError::DiskFull => Refusal::disk_full(),
            error => Refusal::internal("opening a mirror", &error),
        };
        let dir = self.path(origin);
        // INVARIANT: the link is on the disk before anything that it leads to is. It may be there before the record of
        // the server's ledger is that tells of it.
        let key = ledger_store::lineage_in(&dir, key).map_err(|error| elsewhere(key, &error))?;
        ledger_store::keep_lineage(&dir, &key).map_err(failed)?;
        let mirror = Mirror::open(&dir, key.clone(), &Options::default()).map_err(failed)?;
        let reader = mirror.reader();
        let kept = Arc::new(Kept {
            new: reader.size() == 0,
            key: Mutex::new(key),
            reader,
            mirror: Mutex::new(mirror),
            named: AtomicBool::new(false),
            used: AtomicU64::new(use_of),
            went_on_by: Mutex::default(),
            anchoring: Arc::default(),
        });
        self.opened().insert(origin.to_owned(), Arc::clone(&kept));
        Ok(kept)
    }

    /// Closes what is not to stay open. Blocks on the disk.
    pub(crate) fn close_idle(&self) {
        self.sweep(&mut self.opened());
    }

    /// Closes what nobody streams and no record names, and takes away what came of it; of what nobody uses now, that
    /// which was used longest ago, but for as many as stay open. Whoever asks for one opens it again.
    ///
    /// INVARIANT: it is closed before anybody else sees that it is not open: two would write to one folder.
    fn sweep(&self, open: &mut BTreeMap<String, Arc<Kept>>) {
        open.retain(|origin, kept| {
            // Nobody takes another reference while the list is locked.
            if kept.named.load(Ordering::Acquire) || Arc::strong_count(kept) > 1 {
                return true;
            }
            if kept.new
                && let Err(error) = std::fs::remove_dir_all(self.path(origin))
            {
                tracing::warn!(%error, %origin, "a mirror that nothing names is not removed");
            }
            false
        });
        let idle = open.iter().filter(|(_, kept)| Arc::strong_count(kept) == 1);
        let idle = idle.map(|(origin, kept)| (kept.used.load(Ordering::Relaxed), origin.clone()));
        let mut idle: Vec<(u64, String)> = idle.collect();
        idle.sort_unstable();
        let more = idle.len().saturating_sub(self.idle);
        for (_, origin) in idle.into_iter().take(more) {
            open.remove(&origin);
        }
    }

    /// As [`Mirrors::open`], for a gateway that has anchored before. What is not here up to its anchor, or is not
    /// what was anchored, nobody reads.
    pub(crate) fn of(core: &Core, row: &GatewayRow) -> Result<Arc<Kept>, Refusal> {
        let kept = core
            .mirrors
            .open(&known_key(core, &row.origin, || key_of(row))?)?;
        kept.named();
        kept.reaches(&row.origin, row.size, &row.root)?;
        Ok(kept)
    }

    /// Which machine had that ledger go on as the newest log that is mirrored, where no record of it is named yet.
    pub(crate) fn led_on_by(&self, origin: &str) -> Option<String> {
        let kept = self.opened().get(ledger::line(origin)).map(Arc::clone)?;
        let by = kept.went_on_by.lock();
        let by = by.unwrap_or_else(PoisonError::into_inner);
        by.clone()
    }

    /// An origin is a stranger's text: it names no path. That of the first log, so that what is here stays where it is.
    fn path(&self, origin: &str) -> PathBuf {
        self.dir.join(origin_hash(origin).to_string())
    }

    fn opened(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Kept>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening(&self) -> MutexGuard<'_, HashMap<String, Arc<Mutex<()>>>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<(String, String), (String, usize)>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The key that signs a gateway's ledger.
pub(crate) fn key_of(row: &GatewayRow) -> Result<LedgerKey, Refusal> {
    let spki: Base64 = row.ledger_key.parse().unwrap_or_default();
    ledger_key(&row.origin, &spki.0)
}

/// The key of the ledger, with those before it as this server's ledger tells of them; `key` if it tells of none.
pub(crate) fn known_key(
    core: &Core,
    origin: &str,
    key: impl FnOnce() -> Result<LedgerKey, Refusal>,
) -> Result<LedgerKey, Refusal> {
    let known = core.state().gateway_key(origin);
    known.map_or_else(key, Ok)
}

pub(crate) fn ledger_key(origin: &str, spki: &[u8]) -> Result<LedgerKey, Refusal> {
    let wrong = |what: String| {
        Refusal::Invalid(
            Finding::new(
                "FOLLOW-LEDGER-KEY",
                "the gateway's ledger key cannot be used",
            )
            .expected("an Ed25519 key and an origin of this trust domain")
            .observed(what),
        )
    };
    let key = crypto::PublicKey::from_spki_der(spki).map_err(|error| wrong(error.to_string()))?;
    LedgerKey::new(origin, key).map_err(|error| wrong(error.to_string()))
}

fn elsewhere(key: &LedgerKey, error: &dyn std::error::Error) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "FOLLOW-LEDGER-LINEAGE",
            "a gateway's ledger is kept here as one that went on as another log",
        )
        .expected(key.to_string())
        .observed(error.to_string())
        .next(
            "keep the mirror as evidence, revoke the gateway and look at its machine: its ledger key is stolen, or the \
             folder of it was restored to what it was: docs/operate/new-log.md",
        ),
    )
}

impl Kept {
    /// From now on it is of the log of `key`, if that goes on from the one that it is of; of a former key nothing is
    /// taken back. Blocks on the disk when it does.
    pub(crate) fn succeed(&self, key: &LedgerKey) -> Result<(), Refusal> {
        let links = lineage::links(key);
        if links.is_empty() {
            return Ok(());
        }
        let mut held = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if lineage::links(&held) == links {
            // The usual: no signature is verified again.
            return Ok(());
        }
        let known = lineage::follow(&held, &links).map_err(|error| elsewhere(key, &error))?;
        if lineage::links(&known).len() == lineage::links(&held).len() {
            return Ok(());
        }
        self.lock()
            .succeed(known.clone())
            .map_err(|error| match error {
                StoreError::DiskFull => Refusal::disk_full(),
                error => elsewhere(key, &error),
            })?;
        *held = known;
        Ok(())
    }

    /// The key that this would be of if it went on as the log of `key`; nothing is kept of that.
    pub(crate) fn goes_on_with(&self, key: &LedgerKey) -> Result<LedgerKey, Refusal> {
        let held = self.held();
        if held == *key {
            // The usual: no signature is verified again.
            return Ok(held);
        }
        lineage::follow(&held, &lineage::links(key)).map_err(|error| elsewhere(key, &error))
    }

    /// Records of a new log came from `node`, with the link to it.
    pub(crate) fn went_on_by(&self, node: &str) {
        let by = self.went_on_by.lock();
        *by.unwrap_or_else(PoisonError::into_inner) = Some(node.to_owned());
    }

    pub(crate) fn is_of(&self, key: &LedgerKey) -> bool {
        self.held() == *key
    }

    /// Whether `note` is one that it takes as it is.
    pub(crate) fn reads(&self, note: &str) -> bool {
        Checkpoint::open(note, &self.held()).is_ok()
    }

    fn held(&self) -> LedgerKey {
        let held = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        held.clone()
    }

    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// For as long as the guard lives nobody else anchors this ledger.
    pub(crate) async fn alone(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.anchoring).lock_owned().await
    }

    /// Whether the first `size` records are those with this root. Blocks on the disk.
    pub(crate) fn has(&self, size: u64, root: &str) -> Result<bool, StoreError> {
        Ok(Digest(self.reader.root(size)?).to_string() == root)
    }

    /// INVARIANT: nobody reads a mirror that is shorter than its anchor, or is not of the ledger that was anchored: an
    /// answer from it would leave out what happened.
    pub(crate) fn reaches(&self, origin: &str, size: u64, root: &str) -> Result<(), Refusal> {
        let held = self.reader.size();
        if held < size {
            return Err(Refusal::Unavailable(
                Finding::new(
                    "LEDGER-MIRROR",
                    "a gateway's ledger is not here up to its anchor",
                )
                .expected(format!("{size} records of {origin}"))
                .observed(format!("{held} records"))
                .next("wait until the gateway is connected: its records are fetched again"),
            ));
        }
        let same = self.has(size, root);
        if same.map_err(|error| Refusal::internal("reading a mirror", &error))? {
            return Ok(());
        }
        Err(Refusal::Unavailable(
            Finding::new("LEDGER-MIRROR-OTHER", "a gateway's ledger is kept here as another than was anchored")
                .expected(format!("{size} records of {origin} with the root {root}"))
                .next("keep the mirror as evidence, revoke the gateway and look at its machine: trilith ledger search --ledger server --type anchor"),
        ))
    }

    /// A record of this server's ledger names the mirror.
    pub(crate) fn named(&self) {
        self.named.store(true, Ordering::Release);
    }

    /// Adds `records`, which lead to `note`. Blocks on the disk.
    pub(crate) fn append(
        &self,
        first: u64,
        records: &[Vec<u8>],
        note: &str,
    ) -> Result<Checkpoint, StoreError> {
        self.lock().append(first, records, note)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::body::{Body as _, Stop};
    use ledger::{Frontier, LedgerSigner, Stamp, merkle};

    struct Ledger {
        signer: LedgerSigner,
        tree: Frontier,
    }

    impl Ledger {
        fn new(number: usize) -> Self {
            let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
            let origin = format!("example.org/gateway/g{number}");
            Self {
                signer: LedgerSigner::new(&origin, Arc::new(key)).unwrap(),
                tree: Frontier::new(),
            }
        }

        fn key(&self) -> &LedgerKey {
            self.signer.key()
        }

        /// One more record of it comes.
        fn grow(&mut self, kept: &Kept) {
            let stop = Stop {
                reason: "drill".to_owned(),
            };
            let (origin, first) = (self.key().origin().clone(), self.tree.size());
            let stamp = Stamp { wall: 1, mono: 1 };
            let record = stop.record().actor("uid:0", "peercred");
            let record = record.seal(&origin, first, stamp).unwrap().into_bytes();
            self.tree.push(merkle::leaf_hash(&record));
            let checkpoint = Checkpoint {
                origin,
                size: self.tree.size(),
                root: self.tree.root(),
            };
            let note = self.signer.sign(&checkpoint).unwrap();
            kept.append(first, &[record], &note).unwrap();
        }
    }

    /// Each gateway that ever was left its folder open, with a thread, until the server was started again.
    #[test]
    fn of_mirrors_that_nobody_uses_those_used_last_stay_open() {
        const STAY: usize = 3;
        let dir = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::with_idle(dir.path().join("mirrors"), STAY);
        let mut ledgers: Vec<Ledger> = (0..10).map(Ledger::new).collect();
        let mut seen = Vec::new();
        // The first one is streamed all the time.
        let streamed = mirrors.open(ledgers[0].key()).unwrap();
        streamed.named();
        for ledger in &mut ledgers[1..] {
            let kept = mirrors.open(ledger.key()).unwrap();
            kept.named();
            ledger.grow(&kept);
            seen.push(Arc::downgrade(&kept));
        }
        mirrors.close_idle();
        assert_eq!(mirrors.opened().len(), STAY + 1);
        let open: Vec<bool> = seen.iter().map(|kept| kept.upgrade().is_some()).collect();
        let last = open.iter().rev().take_while(|open| **open).count();
        assert_eq!(
            (last, open.iter().filter(|open| **open).count()),
            (STAY, STAY)
        );
        let again = mirrors.open(ledgers[0].key()).unwrap();
        assert!(Arc::ptr_eq(&streamed, &again), "it is in use");
        // What was closed is opened again, with all that it has, and goes on.
        let kept = mirrors.open(ledgers[1].key()).unwrap();
        kept.named();
        assert_eq!(kept.reader().size(), 1);
        ledgers[1].grow(&kept);
        drop(kept);
        // Asked for last, it stays.
        mirrors.close_idle();
        assert_eq!(mirrors.opened().len(), STAY + 1);
        assert!(mirrors.opened().contains_key("example.org/gateway/g1"));
        let kept = mirrors.open(ledgers[1].key()).unwrap();
        assert_eq!(kept.reader().size(), 2);
        // What no record names does not stay, and leaves nothing behind.
        let stranger = Ledger::new(99);
        drop(mirrors.open(stranger.key()).unwrap());
        let path = mirrors.path("example.org/gateway/g99");
        assert!(path.exists());
        mirrors.close_idle();
        assert!(!path.exists());
    }

    /// Whoever asked for any mirror waited while another one was opened, which may read a segment through.
    #[test]
    fn a_mirror_that_is_being_opened_keeps_nobody_from_another() {
        let dir = tempfile::tempdir().unwrap();
        let mirrors = Arc::new(Mirrors::new(dir.path().join("mirrors")));
        let [one, other] = [Ledger::new(1), Ledger::new(2)];
        let line = one.key().origin().as_str().to_owned();
        let turn = Arc::clone(mirrors.opening().entry(line).or_default());
        let being_opened = turn.lock().unwrap();
        let (told, tells) = std::sync::mpsc::channel();
        for ledger in [one, other] {
            let (mirrors, told) = (Arc::clone(&mirrors), told.clone());
            std::thread::spawn(move || {
                let opened = mirrors.open(ledger.key()).is_ok();
                told.send((ledger.key().origin().to_string(), opened))
            });
        }
        let patience = std::time::Duration::from_secs(60);
        let next = || tells.recv_timeout(patience).unwrap();
        assert_eq!(next(), ("example.org/gateway/g2".to_owned(), true));
        drop(being_opened);
        assert_eq!(next(), ("example.org/gateway/g1".to_owned(), true));
        drop(turn);
    }

    #[test]
    fn of_many_who_ask_for_a_mirror_at_once_one_opens_it() {
        const MANY: usize = 8;
        let dir = tempfile::tempdir().unwrap();
        let mirrors = Mirrors::new(dir.path().join("mirrors"));
        let ledger = Ledger::new(1);
        let together = std::sync::Barrier::new(MANY);
        let opened: Vec<Arc<Kept>> = std::thread::scope(|scope| {
            let open = || {
                together.wait();
                mirrors.open(ledger.key()).unwrap()
            };
            let threads: Vec<_> = (0..MANY).map(|_| scope.spawn(open)).collect();
            let ended = threads.into_iter().map(|thread| thread.join().unwrap());
            ended.collect()
        });
        assert!(opened.iter().all(|kept| Arc::ptr_eq(kept, &opened[0])));
        assert!(mirrors.opening().is_empty(), "nothing of it is left");
    }
}
