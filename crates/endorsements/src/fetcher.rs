//! Documents at hand, and those that are asked for: once, however many wait, and no longer than may be waited.
//!
//! A request is a task of its own: whoever waits for it may go, and it comes to its end and is kept. Owners:
//! `flights` says what is under way, `known` what was checked; neither lock is held while something blocks.

use crate::budget::{Absence, Budget, Limits};
use crate::cache::Cache;
use crate::entry::{Entry, Key, key};
use crate::get::{Failure, get};
use crate::source::Source;
use attest_tee::{Anchors, Artefact, Endorsement};
use facts::{Finding, Timestamp};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

/// Documents that are kept checked in memory; beyond, the folder is read.
const KNOWN: usize = 4_096;
/// A list or an identity is asked for again a day after it came, so that a newer one is seen before the old
/// one ends.
const FRESH_S: u64 = 86_400;
/// What is younger is not asked for again because something else did not fit.
const YOUNG_S: u64 = 600;

/// How documents are fetched and kept.
#[derive(Debug, Clone)]
pub struct Settings {
    pub folder: PathBuf,
    /// Bytes of the folder.
    pub folder_bytes: u64,
    pub limits: Limits,
    /// Requests at once, to all sources.
    pub at_once: usize,
    /// For one whole answer.
    pub timeout: Duration,
    /// How long somebody waits.
    pub wait: Duration,
}

/// A document that something asks for, and what it has to lead to.
#[derive(Debug, Clone)]
pub struct Want {
    pub artefact: Artefact,
    pub anchors: Arc<Anchors>,
    /// The estate's name of the root; `None`: the vendor's own.
    pub root: Option<Arc<str>>,
}

impl Want {
    fn key(&self) -> Key {
        key(&self.artefact, &self.anchors)
    }
}

/// What came of asking.
#[derive(Debug, Default)]
pub struct Obtained {
    /// Something is at hand that was not.
    pub changed: bool,
    /// Why something else is not: `TEE-ENDORSEMENT-PENDING`, `-FETCH` or `-LIMIT`.
    pub problem: Option<Finding>,
}

/// What happens, for whoever counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A request to a source ended well, in an error of it, or in an answer that is not what was asked for.
    Asked(&'static str),
    /// The folder has so many bytes.
    Kept(u64),
    /// Something was at hand.
    Found,
    /// A file was not as it was written, or counts no more.
    Dropped,
}

type Watch = Box<dyn Fn(Event) + Send + Sync>;
type Outcome = Option<Result<(), Finding>>;

/// The one that asks. Share it.
pub struct Fetcher {
    settings: Settings,
    sources: Vec<Source>,
    cache: Cache,
    budget: Mutex<Budget>,
    flights: Mutex<BTreeMap<Key, watch::Receiver<Outcome>>>,
    known: Mutex<BTreeMap<Key, Entry>>,
    at_once: Semaphore,
    runtime: Handle,
    watch: Watch,
}

impl Fetcher {
    /// Opens the folder. Blocks, within a runtime; asks nobody.
    ///
    /// # Errors
    /// `TEE-FETCH-CACHE`.
    pub fn open(
        settings: Settings,
        sources: Vec<Source>,
        watch: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, Finding> {
        let cache = Cache::open(&settings.folder, settings.folder_bytes)?;
        watch(Event::Kept(cache.bytes()));
        Ok(Arc::new(Self {
            budget: Mutex::new(Budget::new(settings.limits, sources.len())),
            at_once: Semaphore::new(settings.at_once),
            settings,
            sources,
            cache,
            flights: Mutex::default(),
            known: Mutex::default(),
            runtime: Handle::current(),
            watch: Box::new(watch),
        }))
    }

    /// What is at hand and counts now. What is a day old is asked for again behind it. Reads files: for threads
    /// that may block.
    pub fn at_hand(self: &Arc<Self>, wants: &[Want], now: Timestamp) -> Vec<Endorsement> {
        let mut found = Vec::new();
        for want in wants {
            let Some(entry) = self.entry(want, now) else {
                continue;
            };
            if is_old(&entry, now) {
                let (this, want) = (Arc::clone(self), want.clone());
                self.runtime.spawn(async move {
                    drop(this.flight(&want, None));
                });
            }
            found.push(entry.endorsement);
        }
        if !found.is_empty() {
            (self.watch)(Event::Found);
        }
        found
    }

    /// Has what is not at hand asked for, in the name of `machine`, and waits for it within bounds. Where all
    /// of it is at hand, and is still not enough, it is asked for again.
    pub async fn obtain(self: &Arc<Self>, wants: &[Want], machine: &str) -> Obtained {
        let now = Timestamp::now();
        let (this, asked) = (Arc::clone(self), wants.to_vec());
        let missing = tokio::task::spawn_blocking(move || this.missing(&asked, now));
        let missing = missing.await.unwrap_or_default();
        let mut obtained = Obtained::default();
        let mut waiting = Vec::new();
        for want in missing {
            match self.flight(&want, Some(machine)) {
                Ok(flight) => waiting.push(flight),
                Err(problem) => obtained.problem = obtained.problem.or(Some(problem)),
            }
        }
        let ended = async {
            for flight in &mut waiting {
                // An error is a task that is gone.
                let ended = flight.wait_for(Option::is_some).await;
                let outcome = ended.ok().and_then(|outcome| outcome.clone());
                match outcome {
                    Some(Ok(())) => obtained.changed = true,
                    Some(Err(problem)) => {
                        obtained.problem = obtained.problem.take().or(Some(problem));
                    }
                    None => {}
                }
            }
        };
        if tokio::time::timeout(self.settings.wait, ended)
            .await
            .is_err()
        {
            obtained.problem = Some(
                Finding::new(
                    "TEE-ENDORSEMENT-PENDING",
                    "the endorsements of this machine are being fetched",
                )
                .expected(format!(
                    "an answer within {} ms",
                    self.settings.wait.as_millis()
                ))
                .observed("none yet")
                .next("nothing: the agent asks again, and finds them"),
            );
        }
        obtained
    }

    /// Of `wants`, what has to be asked for.
    fn missing(&self, wants: &[Want], now: Timestamp) -> Vec<Want> {
        let mut missing = Vec::new();
        let mut aged = Vec::new();
        for want in wants {
            match self.entry(want, now) {
                None => missing.push(want.clone()),
                Some(entry) if now >= entry.fetched.plus_secs(YOUNG_S) => aged.push(want.clone()),
                Some(_) => {}
            }
        }
        if missing.is_empty() { aged } else { missing }
    }

    /// A document that is at hand and counts now.
    fn entry(&self, want: &Want, now: Timestamp) -> Option<Entry> {
        let key = want.key();
        let known = lock(&self.known).get(&key).cloned();
        if let Some(entry) = known.filter(|entry| entry.endorsement.is_current(now)) {
            return Some(entry);
        }
        let bytes = self.cache.read(&key)?;
        match Entry::read(&bytes, &want.artefact, &want.anchors, now) {
            Ok(entry) => {
                self.remember(key, entry.clone());
                Some(entry)
            }
            Err(why) => {
                tracing::warn!(artefact = %want.artefact, why, "an endorsement that was kept counts no more");
                lock(&self.known).remove(&key);
                self.cache.remove(&key);
                (self.watch)(Event::Dropped);
                (self.watch)(Event::Kept(self.cache.bytes()));
                None
            }
        }
    }

    fn remember(&self, key: Key, entry: Entry) {
        let mut known = lock(&self.known);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(key, entry);
    }

    /// The request that is under way for a document, or a new one at the cost of `machine`.
    fn flight(
        self: &Arc<Self>,
        want: &Want,
        machine: Option<&str>,
    ) -> Result<watch::Receiver<Outcome>, Finding> {
        let (key, now) = (want.key(), Timestamp::now());
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return Ok(flight.clone());
        }
        {
            let mut budget = lock(&self.budget);
            if let Some(known) = budget.absent(&key, now) {
                return Err(known);
            }
            if let Some(machine) = machine {
                budget.admit(machine, now)?;
            }
        }
        let (tell, flight) = watch::channel(None);
        flights.insert(key, flight.clone());
        drop(flights);
        let (this, want) = (Arc::clone(self), want.clone());
        self.runtime.spawn(async move {
            let landed = Landed { this: &this, key };
            let outcome = this.fetch(&want, key).await;
            drop(landed);
            tell.send_replace(Some(outcome));
        });
        Ok(flight)
    }

    /// Asks one source after the other, and keeps what is good.
    async fn fetch(self: &Arc<Self>, want: &Want, key: Key) -> Result<(), Finding> {
        if self.came_just_now(want).await {
            return Ok(());
        }
        let _place = self.at_once.acquire().await;
        let root = want.root.as_deref();
        let mut problems = Vec::new();
        let mut why = Absence::Unknown;
        for (index, source) in self.sources.iter().enumerate() {
            if !source.has(&want.artefact, root) {
                continue;
            }
            let allowed = lock(&self.budget).source(index, Timestamp::now());
            let outcome = match allowed {
                Ok(()) => self.ask(index, source, want, key).await,
                Err(resting) => Err((Absence::Unanswered, resting)),
            };
            match outcome {
                Ok(()) => {
                    lock(&self.budget).found(&key);
                    return Ok(());
                }
                Err((absence, problem)) => {
                    // What may soon be answered is soon asked for.
                    if why == Absence::Unknown || absence == Absence::Unanswered {
                        why = absence;
                    }
                    problems.push(format!("{}: {problem}", source.host()));
                }
            }
        }
        if problems.is_empty() {
            problems.push("no source is configured for it".to_owned());
        }
        let finding = Finding::new(
            "TEE-ENDORSEMENT-FETCH",
            "an endorsement of this machine cannot be fetched",
        )
        .expected(want.artefact.to_string())
        .observed(problems.join("; "))
        .next(
            "look at [[tee_fetch.source]] of the server; or fetch it elsewhere into the server's \
             bundle: trilith attest endorsements fetch --into FILE NAME; see docs/attestation/endorsements.md",
        );
        tracing::warn!(%finding, "an endorsement was not fetched");
        lock(&self.budget).miss(key, why, finding.clone(), Timestamp::now());
        Err(finding)
    }

    /// Whether a request that ended since somebody looked has brought it.
    async fn came_just_now(self: &Arc<Self>, want: &Want) -> bool {
        let (this, want, now) = (Arc::clone(self), want.clone(), Timestamp::now());
        let entry = tokio::task::spawn_blocking(move || this.entry(&want, now)).await;
        let entry = entry.ok().flatten();
        entry.is_some_and(|entry| now < entry.fetched.plus_secs(YOUNG_S))
    }

    async fn ask(
        self: &Arc<Self>,
        index: usize,
        source: &Source,
        want: &Want,
        key: Key,
    ) -> Result<(), (Absence, String)> {
        let answer = get(source, &want.artefact, self.settings.timeout).await;
        let now = Timestamp::now();
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                let why = failure.to_string();
                let (event, absence) = match failure {
                    Failure::Unknown(_) => {
                        lock(&self.budget).answered(index);
                        ("unknown", Absence::Unknown)
                    }
                    Failure::Busy(_, wait_s) => {
                        lock(&self.budget).failed(index, wait_s, why.clone(), now);
                        ("busy", Absence::Unanswered)
                    }
                    Failure::Broken(_) => {
                        lock(&self.budget).failed(index, None, why.clone(), now);
                        ("broken", Absence::Unanswered)
                    }
                };
                (self.watch)(Event::Asked(event));
                return Err((absence, why));
            }
        };
        lock(&self.budget).answered(index);
        let (this, want) = (Arc::clone(self), want.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let checked = Endorsement::check(&want.artefact, answer, &want.anchors, now)?;
            this.keep(&want, key, checked, now)
        });
        let kept = kept.await.map_err(|error| error.to_string());
        match kept.flatten() {
            Ok(()) => {
                (self.watch)(Event::Asked("good"));
                Ok(())
            }
            Err(why) => {
                (self.watch)(Event::Asked("wrong"));
                Err((Absence::Wrong, format!("not what was asked for: {why}")))
            }
        }
    }

    /// Keeps a document, unless a later one that still counts is here: a source takes nothing back.
    fn keep(
        &self,
        want: &Want,
        key: Key,
        endorsement: Endorsement,
        fetched: Timestamp,
    ) -> Result<(), String> {
        let before = self.entry(want, fetched);
        let later = before.filter(|one| one.endorsement.issued() > endorsement.issued());
        if let Some(later) = later.filter(|_| endorsement.is_renewed()) {
            return Err(format!(
                "of {}, and one of {} was there before",
                endorsement.issued(),
                later.endorsement.issued()
            ));
        }
        let entry = Entry {
            endorsement,
            fetched,
        };
        // It counts for those who wait, whether or not the disk takes it.
        let written = entry.write().map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|bytes| self.cache.write(&key, &bytes)) {
            tracing::warn!(%error, artefact = %want.artefact, "an endorsement is not kept on disk");
        }
        self.remember(key, entry);
        (self.watch)(Event::Kept(self.cache.bytes()));
        tracing::info!(artefact = %want.artefact, "fetched an endorsement");
        Ok(())
    }
}

/// Takes a request out of those under way, however it ended.
struct Landed<'a> {
    this: &'a Fetcher,
    key: Key,
}

impl Drop for Landed<'_> {
    fn drop(&mut self) {
        lock(&self.this.flights).remove(&self.key);
    }
}

fn is_old(entry: &Entry, now: Timestamp) -> bool {
    let endorsement = &entry.endorsement;
    if !endorsement.is_renewed() || now < entry.fetched.plus_secs(YOUNG_S) {
        return false;
    }
    let life = endorsement.until().since(endorsement.issued());
    let left = endorsement.until().since(now);
    now >= entry.fetched.plus_secs(FRESH_S) || left < life / 4
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
