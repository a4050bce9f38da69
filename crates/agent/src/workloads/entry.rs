//! One workload: who it is, what it holds, what it has asked for.

use facts::{FactSet, Finding, Timestamp};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use workload_api::{Refusal, State, X509Svid};
use zeroize::Zeroizing;

use super::{FIRST_KEYS, MAX_KEYS};

/// A process, and the program if it asks as a helper. (pid, started) is unique while the machine is up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) pid: i32,
    pub(crate) started: u64,
    pub(crate) program: Option<PathBuf>,
}

/// An attested process.
#[derive(Debug, Clone)]
pub(crate) struct Subject<P> {
    pub(crate) key: Key,
    pub(crate) process: P,
    pub(crate) uid: u32,
    pub(crate) facts: FactSet,
    /// Why facts are missing.
    pub(crate) notes: Vec<Finding>,
    /// Over what the facts say, without their age.
    pub(crate) fingerprint: [u8; 32],
}

/// A key made for a workload.
pub(crate) struct FreshKey {
    pub(crate) spki: Vec<u8>,
    pub(crate) spki_sha256: [u8; 32],
    pub(crate) pkcs8: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FreshKey").finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) svid: Arc<X509Svid>,
    pub(super) serial: String,
    pub(super) not_after: Timestamp,
    pub(super) renew_at: Timestamp,
}

type Keys = HashMap<Vec<u8>, Zeroizing<Vec<u8>>>;

/// A request under way, with the keys that it offered by SHA-256 of their SPKI.
pub(super) struct Request {
    id: u64,
    keys: Keys,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Request")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
pub(super) struct Entry<P> {
    pub(super) process: P,
    pub(super) uid: u32,
    pub(super) facts: FactSet,
    pub(super) notes: Vec<Finding>,
    pub(super) fingerprint: [u8; 32],
    pub(super) states: watch::Sender<State>,
    pub(super) held: Vec<Held>,
    pub(super) refused: Vec<(String, Vec<Finding>)>,
    pub(super) request: Option<Request>,
    /// When the last request was made or refused.
    pub(super) asked: Timestamp,
    pub(super) renew_at: Timestamp,
    /// The server has answered since the states last began.
    pub(super) answered_once: bool,
    /// Identities for which the last request had no key left.
    pub(super) lacking: usize,
    /// Dropped with the entry, which ends its watcher.
    _alive: oneshot::Sender<()>,
}

impl<P: Clone> Entry<P> {
    pub(super) fn new(
        subject: &Subject<P>,
        now: Timestamp,
    ) -> (Self, watch::Receiver<State>, oneshot::Receiver<()>) {
        let (states, receiver) = watch::channel(State::Pending);
        let (alive, watch) = oneshot::channel();
        let entry = Self {
            process: subject.process.clone(),
            uid: subject.uid,
            facts: subject.facts.clone(),
            notes: subject.notes.clone(),
            fingerprint: subject.fingerprint,
            states,
            held: Vec::new(),
            refused: Vec::new(),
            request: None,
            asked: now,
            renew_at: now,
            answered_once: false,
            lacking: 0,
            _alive: alive,
        };
        (entry, receiver, watch)
    }

    /// Begins again for new streams; those that are open keep what they were last told.
    pub(super) fn restart(&mut self) {
        self.states = watch::channel(State::Pending).0;
        self.answered_once = false;
    }

    pub(super) fn keys_wanted(&self) -> usize {
        (self.held.len() + self.lacking + 1).clamp(FIRST_KEYS, MAX_KEYS)
    }

    pub(super) fn asking(&mut self, id: u64, keys: Vec<FreshKey>, now: Timestamp) {
        let keys = keys
            .into_iter()
            .map(|key| (key.spki_sha256.to_vec(), key.pkcs8))
            .collect();
        self.request = Some(Request { id, keys });
        self.asked = now;
    }

    /// The keys of request `id`, if that is the one under way.
    pub(super) fn answered(&mut self, id: u64) -> Option<Keys> {
        self.request
            .take_if(|request| request.id == id)
            .map(|request| request.keys)
    }

    pub(super) fn is_asking(&self, id: u64) -> bool {
        self.request
            .as_ref()
            .is_some_and(|request| request.id == id)
    }

    pub(super) fn forget_request(&mut self) {
        self.request = None;
    }

    /// Within a tenth of the wait for it, and `batch` at most.
    pub(super) fn renewal_is_near(&self, now: Timestamp, batch: Duration) -> bool {
        let window = (self.renew_at.since(self.asked) / 10).min(batch);
        self.renew_at.since(now) <= window
    }

    pub(super) fn overdue(&self, now: Timestamp, patience_s: u64) -> bool {
        self.request.is_some() && self.asked.plus_secs(patience_s) <= now
    }

    pub(super) fn hold(&mut self, held: Vec<Held>, now: Timestamp) {
        self.renew_at = held.iter().map(|held| held.renew_at).min().unwrap_or(now);
        self.held = held;
        self.answered_once = true;
        self.asked = now;
    }

    /// Drops what has expired; true if anything did.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.held.len();
        self.held.retain(|held| held.not_after > now);
        let expired = self.held.len() != before;
        if expired && self.held.is_empty() {
            self.refused = vec![(
                String::new(),
                vec![Finding::new(
                    "AGENT-EXPIRED",
                    "the identity expired and could not be renewed",
                )],
            )];
        }
        expired
    }

    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.states.send_replace(State::Refused(Arc::new(refusal)));
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        let expiry = self.held.iter().map(|held| held.not_after).min();
        let patience = self
            .request
            .as_ref()
            .map(|_| self.asked.plus_secs(super::PATIENCE_S));
        let renewal = (!self.held.is_empty()).then_some(self.renew_at);
        [expiry, patience, renewal].into_iter().flatten().min()
    }
}
