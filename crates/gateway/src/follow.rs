//! What is followed from the server: bundle, estate, revocations, chain of checkpoints.
//!
//! Everything comes as a ledger record with its receipt. It counts only if the receipt verifies, its
//! checkpoint lies on the followed chain, and it is not older than what is held. What is held survives
//! restarts, so that a gateway serves, within the estate's `max_staleness`, while the server is away.
//! The connection that it comes over is [`client`]'s; nothing here knows of one.

mod apply;
mod client;
mod recover;
mod serials;
mod store;
mod succeed;
mod witnessed;

pub(crate) use client::Client;
pub use recover::Step;
pub use witnessed::Watch;

use crate::chain::Chain;
use crate::revocations::Revocations;
use crate::{Cut, Place, Sessions};
use arc_swap::ArcSwapOption;
use estate::Estate;
use facts::{Finding, Timestamp};
use ledger::body::{FactValue, Target};
use ledger::{Checkpoint, Hash, LedgerKey, Receipt};
use serials::Serials;
use spiffe_core::{Bundle, TrustDomain};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::{Carried, Store};
use tokio::sync::{mpsc, watch};
use witnessed::{Unseen, Witnessed};

/// The estate that decides now.
pub struct Current {
    pub estate: Estate,
    /// Index of its record in the server's ledger.
    pub index: u64,
    /// SVIDs that were issued under an estate before this one are not let in.
    pub floor: u64,
}

/// Questions to the server: does this checkpoint lie on the chain? [`Following::proven`] takes the answer.
pub type Questions = mpsc::Receiver<Checkpoint>;

struct Held {
    chain: Chain,
    /// Of a log that goes on from less than is followed here; a recovery's record leads over to it.
    next: Option<LedgerKey>,
    revocations: Revocations,
    /// The receipts by which all this is held, as they are stored.
    bundle: Option<Receipt>,
    estate: Option<HeldEstate>,
    /// Of identities and machines, by index of the record.
    revoked: BTreeMap<u64, Receipt>,
    serials: Serials,
    /// Revocations whose records a recovery gave up.
    carried: Vec<Carried>,
    /// Those that were held when a recovery came and that the history which stayed has, too, unless they
    /// were lifted in it: they hold until the server has said which stand.
    unsettled: Vec<Target>,
    /// Highest record that was applied.
    applied: u64,
    /// The newest that the witnesses of `watch` have cosigned.
    witnessed: Option<Witnessed>,
    /// What they have not.
    unseen: Unseen,
}

/// The last word from the server.
#[derive(Clone, Copy)]
struct Heard {
    wall: Timestamp,
    /// By a clock that nobody sets; none when it was heard before this start.
    at: Option<Instant>,
}

/// The estate in force: its receipt and the files that the receipt's record names.
struct HeldEstate {
    receipt: Receipt,
    blob: Arc<[u8]>,
}

/// Shared by the client task and every session. Cheap to clone.
#[derive(Clone)]
pub struct Following(Arc<Inner>);

struct Inner {
    trust_domain: TrustDomain,
    /// Who has to have seen what is followed.
    watch: Option<Watch>,
    held: Mutex<Held>,
    current: ArcSwapOption<Current>,
    bundle: ArcSwapOption<Bundle>,
    sessions: Sessions,
    store: Store,
    heard: Mutex<Heard>,
    /// Index of the current estate.
    estate_changed: watch::Sender<u64>,
    /// Size of the chain's head, for those who wait for it.
    chain_changed: watch::Sender<u64>,
    questions: mpsc::Sender<Checkpoint>,
}

impl Following {
    /// Takes up what `directory` keeps of the ledger that `key` signs; nothing, in an empty one.
    ///
    /// # Errors
    /// `FOLLOW-STORE`, and the codes of [`Following::take_record`]: what is kept is verified again.
    pub fn open(
        trust_domain: TrustDomain,
        key: LedgerKey,
        directory: &Path,
    ) -> Result<(Self, Questions), Finding> {
        Self::open_watched(trust_domain, key, directory, None)
    }

    /// As [`Following::open`], and lets nobody in on what the witnesses of `watch` have not seen for long.
    ///
    /// # Errors
    /// As [`Following::open`].
    pub fn open_watched(
        trust_domain: TrustDomain,
        key: LedgerKey,
        directory: &Path,
        watch: Option<Watch>,
    ) -> Result<(Self, Questions), Finding> {
        let (questions, asked) = mpsc::channel(64);
        let following = Self(Arc::new(Inner {
            trust_domain,
            watch,
            held: Mutex::new(Held {
                chain: Chain::new(key),
                next: None,
                revocations: Revocations::default(),
                bundle: None,
                estate: None,
                revoked: BTreeMap::new(),
                serials: Serials::default(),
                carried: Vec::new(),
                unsettled: Vec::new(),
                applied: 0,
                witnessed: None,
                unseen: Unseen::default(),
            }),
            current: ArcSwapOption::empty(),
            bundle: ArcSwapOption::empty(),
            sessions: Sessions::default(),
            store: Store::new(directory.to_owned()),
            heard: Mutex::new(Heard {
                wall: Timestamp::EPOCH,
                at: None,
            }),
            estate_changed: watch::channel(0).0,
            chain_changed: watch::channel(0).0,
            questions,
        }));
        following.restore()?;
        Ok((following, asked))
    }

    /// The estate that decides now; `None` before the first one arrived.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Current>> {
        self.0.current.load_full()
    }

    /// The bundle of the gateway's own trust domain.
    #[must_use]
    pub fn bundle(&self) -> Option<Arc<Bundle>> {
        self.0.bundle.load_full()
    }

    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.0.trust_domain
    }

    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.0.sessions
    }

    /// Changes when another version of the estate decides.
    #[must_use]
    pub fn estate_changed(&self) -> watch::Receiver<u64> {
        self.0.estate_changed.subscribe()
    }

    /// How long nothing was heard of the server, by whichever clock says longer: a wall clock that is set
    /// back does not make old words new. What was heard before this start, at a time that has not come
    /// yet, was heard too long ago.
    #[must_use]
    pub fn silence(&self, now: Timestamp) -> Duration {
        let heard = *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner);
        match heard.at {
            Some(at) => now.since(heard.wall).max(at.elapsed()),
            None if heard.wall > now => Duration::MAX,
            None => now.since(heard.wall),
        }
    }

    /// Refuses when the server was silent for longer than the estate allows.
    ///
    /// # Errors
    /// `GATEWAY-STALE`, `GATEWAY-NO-ESTATE`.
    pub fn fresh(&self, now: Timestamp) -> Result<Arc<Current>, Finding> {
        let current = self.current().ok_or_else(|| {
            Finding::new(
                "GATEWAY-NO-ESTATE",
                "this gateway has not received an estate yet",
            )
            .next("look at its log, and apply one: trilith estate apply DIR")
        })?;
        let (silence, longest) = (self.silence(now), current.estate.settings().max_staleness);
        if silence > longest {
            return Err(Finding::new(
                "GATEWAY-STALE",
                "the server was silent for longer than the estate allows",
            )
            .expected(format!("at most {} s (max_staleness)", longest.as_secs()))
            .observed(format!("{} s", silence.as_secs()))
            .next("start the server, or look at the network between the two"));
        }
        Ok(current)
    }

    /// What `ask` says of the revocations that hold now.
    pub(crate) fn revocations<T>(&self, ask: impl FnOnce(&Revocations) -> T) -> T {
        ask(&self.held().revocations)
    }

    /// Size and root of the head that is followed.
    #[must_use]
    pub fn head(&self) -> (u64, Option<Hash>) {
        self.held().chain.head()
    }

    /// That head as it was signed.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        self.held().chain.note().map(str::to_owned)
    }

    #[must_use]
    pub fn ledger_key(&self) -> LedgerKey {
        self.held().chain.key().clone()
    }

    /// Waits, for at most `limit`, until it is known whether `checkpoint` lies on the chain.
    ///
    /// # Errors
    /// `FOLLOW-FORKED`, `FOLLOW-CHECKPOINT-UNKNOWN`.
    pub(crate) async fn on_chain(
        &self,
        checkpoint: &Checkpoint,
        limit: Duration,
    ) -> Result<(), Finding> {
        let mut changes = self.0.chain_changed.subscribe();
        let mut asked = false;
        let settled = tokio::time::timeout(limit, async {
            loop {
                changes.mark_unchanged();
                match self.held().chain.place(checkpoint) {
                    Place::On => return Ok(()),
                    Place::Forked => return Err(off_chain(checkpoint)),
                    Place::Unknown if !asked => {
                        asked = true;
                        // A full queue is a question that was not asked: the wait below ends it.
                        drop(self.0.questions.try_send(checkpoint.clone()));
                    }
                    Place::Unknown | Place::Ahead => {}
                }
                if changes.changed().await.is_err() {
                    return Err(unknown(checkpoint));
                }
            }
        });
        settled.await.unwrap_or_else(|_| Err(unknown(checkpoint)))
    }

    /// A revocation that acts before its record is durable.
    pub fn cut_now(&self, target: &ledger::body::Target, cut: &Cut) {
        self.held().revocations.cut(target);
        self.end_sessions(target, cut, u64::MAX);
    }

    /// Ends the sessions that `target` names and that rest on an SVID issued before the record `before`.
    fn end_sessions(&self, target: &ledger::body::Target, cut: &Cut, before: u64) {
        let count = self.0.sessions.cut(target, cut, before);
        tracing::info!(kind = ?target.kind, value = %target.value, count, "cut");
    }

    /// The SVID `serial` was renewed: sessions that rest on it go on if the facts that the successor's
    /// record shows are theirs, and end otherwise: a session decides by the facts that it began with.
    pub fn renewed(
        &self,
        serial: &str,
        successor: &str,
        not_after: Timestamp,
        facts: &BTreeMap<String, FactValue>,
    ) {
        self.0.sessions.renew(serial, successor, not_after, facts);
    }

    /// The server was heard at `now`, and all that it had said before was taken.
    pub fn heard(&self, now: Timestamp) {
        self.hear(now, Some(Instant::now()));
    }

    /// It was heard at `wall`, before this start.
    fn heard_before(&self, wall: Timestamp) {
        self.hear(wall, None);
    }

    fn hear(&self, wall: Timestamp, at: Option<Instant>) {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = Heard { wall, at };
    }

    fn last_heard(&self) -> Timestamp {
        self.0
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .wall
    }

    /// The proof of a checkpoint that was asked about.
    ///
    /// # Errors
    /// `FOLLOW-FORKED`.
    pub fn proven(
        &self,
        missed: &Checkpoint,
        new_size: u64,
        proof: &[Hash],
    ) -> Result<(), Finding> {
        let proven = self.held().chain.prove(missed, new_size, proof);
        self.0.chain_changed.send_modify(|_| {});
        proven
    }

    /// Highest record that was applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.held().applied
    }

    /// What signs the server's ledger now.
    fn newest_key(&self) -> LedgerKey {
        self.held().newest_key()
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl svid_tls::BundleSource for Following {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        let bundle = self.0.bundle.load_full()?;
        (bundle.trust_domain() == trust_domain).then_some(bundle)
    }
}

fn off_chain(checkpoint: &Checkpoint) -> Finding {
    Finding::new(
        "FOLLOW-FORKED",
        "the receipt's checkpoint is not on the chain of checkpoints that this gateway follows",
    )
    .observed(format!(
        "size {}, root {}",
        checkpoint.size,
        crypto::base64::encode(&checkpoint.root)
    ))
}

fn unknown(checkpoint: &Checkpoint) -> Finding {
    Finding::new(
        "FOLLOW-CHECKPOINT-UNKNOWN",
        "it could not be learned in time whether the receipt's checkpoint lies on the followed chain",
    )
    .observed(format!("size {}", checkpoint.size))
    .next("try again; if it goes on, look at the connection between gateway and server")
}
