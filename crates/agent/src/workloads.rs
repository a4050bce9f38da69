//! What each live workload holds: the agent's core. It decides and does no I/O; keys, facts, time and
//! answers of the server come in as arguments, messages for the server come out of [`Workloads::take_outbox`].
//!
//! One entry per live process, or per program behind a helper process. Streams of one process share it.
//!
//! INVARIANT: a state that withdraws something is never replaced in the same channel by one that says
//! nothing ([`State::Pending`]); an entry that asks again after a refusal gets a new channel, so that every
//! open stream sees the withdrawal.

mod entry;
mod jwt;

pub(crate) use entry::{FreshKey, Key, Subject};
pub(crate) use jwt::JwtAnswer;

use entry::{Entry, Held};
use facts::{FactSet, Finding, Timestamp};
use jwt::Jwts;
use proto::v1;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use workload_api::{JwtQuery, Refusal, State, Trust, View, X509Svid};
use zeroize::Zeroizing;

/// Entries of one uid: a fork bomb must not take the others' memory.
const MAX_ENTRIES_PER_UID: usize = 1024;
const MAX_ENTRIES: usize = 4096;
/// A request that the server has not answered by then is made again.
const PATIENCE_S: u64 = 20;
/// How soon a refused workload may cause another request by calling again.
const RETRY_S: u64 = 1;
/// Renewals due within this time of one another are asked for together, if their lives are long enough.
const BATCH: Duration = Duration::from_secs(5);
/// Keys sent for a workload of which nothing is known yet, and at most.
const FIRST_KEYS: usize = 2;
const MAX_KEYS: usize = 64;
/// What the server says of an identity for which the request had no key left.
const NO_KEY: &str = "ISSUE-KEYS";

/// The entries. `P` is whatever the shell needs to look at a process again.
#[derive(Debug)]
pub(crate) struct Workloads<P> {
    entries: BTreeMap<String, Entry<P>>,
    names: HashMap<Key, String>,
    /// Who must ask the server, in order of name.
    asks: BTreeSet<String>,
    outbox: Vec<v1::NodeMessage>,
    trust: Option<Arc<Trust>>,
    trust_sequence: u64,
    jwts: Jwts,
    next_request: u64,
    next_entry: u64,
    connected: bool,
    locked: Option<Finding>,
    /// Why the server has turned this machine away, while it does.
    turned_away: Option<Finding>,
    jitter: Jitter,
}

impl<P: Clone> Workloads<P> {
    /// `seed` spreads renewals; it need not be secret.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            names: HashMap::new(),
            asks: BTreeSet::new(),
            outbox: Vec::new(),
            trust: None,
            trust_sequence: 0,
            jwts: Jwts::default(),
            next_request: 1,
            next_entry: 1,
            connected: false,
            locked: None,
            turned_away: None,
            jitter: Jitter(seed),
        }
    }

    /// A workload was attested: where it stands, and for a new entry what tells its watcher to stop.
    pub(crate) fn attested(
        &mut self,
        subject: &Subject<P>,
        now: Timestamp,
    ) -> Result<Attached, Refusal> {
        if let Some(finding) = &self.locked {
            return Err(Refusal::Denied(vec![finding.clone()]));
        }
        if let Some(name) = self.names.get(&subject.key).cloned() {
            let same = self
                .entries
                .get(&name)
                .is_some_and(|entry| entry.fingerprint == subject.fingerprint);
            if same {
                return self.again(&name, now);
            }
            self.end(&name, &changed());
        }
        self.admit(subject, now)
    }

    fn again(&mut self, name: &str, now: Timestamp) -> Result<Attached, Refusal> {
        let connected = self.connected;
        let entry = self.entries.get_mut(name).ok_or_else(gone)?;
        let refused = matches!(*entry.states.borrow(), State::Refused(_));
        if refused && connected && entry.asked.plus_secs(RETRY_S) <= now {
            entry.restart();
            self.asks.insert(name.to_owned());
        }
        Ok(Attached {
            name: name.to_owned(),
            states: entry.states.subscribe(),
            watch: None,
        })
    }

    fn admit(&mut self, subject: &Subject<P>, now: Timestamp) -> Result<Attached, Refusal> {
        if !self.connected {
            return Err(self.offline());
        }
        let of_uid = self
            .entries
            .values()
            .filter(|entry| entry.uid == subject.uid);
        if self.entries.len() >= MAX_ENTRIES || of_uid.count() >= MAX_ENTRIES_PER_UID {
            return Err(Refusal::unavailable(
                "AGENT-FULL",
                "too many workloads on this machine",
            ));
        }
        let name = format!(
            "{}-{}-{}",
            subject.key.pid, subject.key.started, self.next_entry
        );
        self.next_entry += 1;
        let (entry, states, watch) = Entry::new(subject, now);
        self.entries.insert(name.clone(), entry);
        self.names.insert(subject.key.clone(), name.clone());
        self.asks.insert(name.clone());
        Ok(Attached {
            name,
            states,
            watch: Some(watch),
        })
    }

    /// Up to `most` workloads that must ask, with how many keys each needs. They are the caller's to ask
    /// for now: [`Workloads::ask`], [`Workloads::ask_failed`] or [`Workloads::gone`] must follow.
    pub(crate) fn take_asks(&mut self, most: usize) -> Vec<(String, P, usize)> {
        if !self.connected || self.locked.is_some() {
            return Vec::new();
        }
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(name) = self.asks.pop_first() else {
                break;
            };
            if let Some(entry) = self.entries.get(&name) {
                taken.push((name, entry.process.clone(), entry.keys_wanted()));
            }
        }
        taken
    }

    /// The workload `name` was looked at again and asks with fresh `keys`.
    pub(crate) fn ask(
        &mut self,
        name: &str,
        seen: &Subject<P>,
        keys: Vec<FreshKey>,
        now: Timestamp,
    ) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        if entry.fingerprint != seen.fingerprint {
            self.end(name, &changed());
            return;
        }
        entry.facts = seen.facts.clone();
        entry.notes.clone_from(&seen.notes);
        let Ok(facts) = serde_json::to_vec(&entry.facts) else {
            return;
        };
        let request = self.next_request;
        self.next_request += 1;
        let message = v1::WorkloadRequest {
            request,
            workload: name.to_owned(),
            facts,
            public_keys: keys.iter().map(|key| key.spki.clone()).collect(),
            held: entry
                .held
                .iter()
                .map(|held| v1::Held {
                    spiffe_id: held.svid.spiffe_id.clone(),
                    serial: held.serial.clone(),
                })
                .collect(),
        };
        entry.asking(request, keys, now);
        self.send(v1::node_message::Message::Workload(message));
    }

    /// The workload could not be looked at or no keys could be made: it is not served for now.
    pub(crate) fn ask_failed(&mut self, name: &str, finding: Finding, now: Timestamp) {
        if let Some(entry) = self.entries.get_mut(name) {
            entry.asked = now;
            if entry.held.is_empty() {
                entry.refuse(Refusal::Unavailable(finding));
            } else {
                entry.renew_at = now.plus_secs(PATIENCE_S);
            }
        }
    }

    /// The server's complete answer for one workload.
    pub(crate) fn issued(&mut self, issued: v1::Issued, now: Timestamp) {
        let name = issued.workload;
        let Some(entry) = self.entries.get_mut(&name) else {
            return;
        };
        let Some(mut keys) = entry.answered(issued.request) else {
            tracing::debug!(workload = %name, request = issued.request, "an answer to nothing was ignored");
            return;
        };
        let held: Vec<Held> = issued
            .svids
            .into_iter()
            .filter_map(|svid| {
                let key = keys.remove(svid.public_key_sha256.as_slice())?;
                Some(held(svid, key, &mut self.jitter))
            })
            .collect();
        entry.refused = issued.refused.into_iter().map(refused).collect();
        let lacking = entry.refused.iter().flat_map(|(_, findings)| findings);
        let lacking = lacking.filter(|finding| finding.code == NO_KEY).count();
        // Asked again once: a server that never has enough must not be asked for ever.
        let more = lacking > 0 && entry.lacking < lacking;
        entry.lacking = lacking;
        entry.hold(held, now);
        self.jwts.forget_workload(&name);
        if more {
            self.asks.insert(name.clone());
        }
        self.publish(&name);
    }

    /// A whole request was refused.
    pub(crate) fn refused(&mut self, request: u64, finding: Finding, now: Timestamp) {
        if self.jwts.refused(request, &finding) {
            return;
        }
        let asking = self
            .entries
            .values_mut()
            .find(|entry| entry.is_asking(request));
        let Some(entry) = asking else { return };
        entry.forget_request();
        entry.asked = now;
        if entry.held.is_empty() {
            entry.refuse(Refusal::Denied(vec![finding]));
        } else {
            entry.renew_at = now.plus_secs(PATIENCE_S);
        }
    }

    /// What `workloads` (none named: all) may hold may have changed.
    pub(crate) fn reconsider(&mut self, workloads: Vec<String>) {
        let known = &self.entries;
        if workloads.is_empty() {
            self.asks.extend(known.keys().cloned());
        } else {
            let named = workloads
                .into_iter()
                .filter(|name| known.contains_key(name));
            self.asks.extend(named);
        }
        for name in &self.asks {
            if let Some(entry) = self.entries.get_mut(name) {
                // What is on its way was decided before the change.
                entry.forget_request();
            }
        }
        self.jwts.forget_all();
    }

    /// An identity, or one SVID of it, is withdrawn: dropped at once from every workload.
    pub(crate) fn withdrawn(&mut self, withdrawn: &v1::Withdrawn) {
        let hit = |held: &Held| {
            held.svid.spiffe_id == withdrawn.spiffe_id
                && (withdrawn.serial.is_empty() || withdrawn.serial == held.serial)
        };
        let finding = Finding::new("AGENT-WITHDRAWN", "the identity was withdrawn")
            .observed(withdrawn.reason.clone());
        let mut touched = Vec::new();
        for (name, entry) in &mut self.entries {
            let before = entry.held.len();
            entry.held.retain(|held| !hit(held));
            if entry.held.len() != before {
                entry.refused = vec![(withdrawn.spiffe_id.clone(), vec![finding.clone()])];
                entry.forget_request();
                touched.push(name.clone());
            }
        }
        self.jwts.forget_identity(&withdrawn.spiffe_id);
        for name in touched {
            self.publish(&name);
        }
    }

    /// The trust bundle, unless it is older than the one known. Returns whether it was taken.
    pub(crate) fn trusted(&mut self, trust: Trust, sequence: u64) -> bool {
        if self.trust.is_some() && sequence < self.trust_sequence {
            return false;
        }
        self.trust_sequence = sequence;
        if self.trust.as_deref() == Some(&trust) {
            return true;
        }
        self.trust = Some(Arc::new(trust));
        let names: Vec<String> = self.entries.keys().cloned().collect();
        for name in names {
            self.publish(&name);
        }
        true
    }

    pub(crate) const fn trust_sequence(&self) -> u64 {
        self.trust_sequence
    }

    /// A stream to the server begins: it knows nothing of what runs here, so every workload asks. A lock
    /// is over, since the server has accepted this node.
    pub(crate) fn connected(&mut self) {
        self.connected = true;
        self.locked = None;
        self.turned_away = None;
        self.outbox.clear();
        self.reconsider(Vec::new());
    }

    /// The stream has ended. What is held goes on being served until it expires.
    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
        self.outbox.clear();
        let offline = self.offline();
        self.jwts.disconnected(&offline);
        for entry in self.entries.values_mut() {
            entry.forget_request();
            if matches!(*entry.states.borrow(), State::Pending) {
                entry.refuse(offline.clone());
            }
        }
    }

    /// The server is there, and gives this machine nothing until it has proved itself again.
    pub(crate) fn turned_away(&mut self, finding: Finding) {
        self.turned_away = Some(finding);
    }

    /// Callers on this machine learn the code alone; what was found is for the log.
    fn offline(&self) -> Refusal {
        match &self.turned_away {
            None => {
                Refusal::unavailable("AGENT-OFFLINE", "the server cannot be reached; try again")
            }
            Some(finding) => Refusal::Unavailable(
                Finding::new(
                    "AGENT-OUT",
                    "the server gives this machine no identity until it has proved itself again",
                )
                .observed(finding.code.to_string())
                .next("the node agent's log says what was found"),
            ),
        }
    }

    /// No identity is issued any more on this machine. What is held is served until it expires or is
    /// withdrawn.
    pub(crate) fn lock(&mut self, finding: Finding) {
        self.asks.clear();
        self.jwts.disconnected(&self.offline());
        for entry in self.entries.values_mut() {
            entry.forget_request();
            if entry.held.is_empty() {
                entry.refuse(Refusal::Denied(vec![finding.clone()]));
            }
        }
        self.locked = Some(finding);
    }

    /// The process of `name` has ended, or nobody needs the entry any more.
    pub(crate) fn gone(&mut self, name: &str) {
        self.end(name, &gone());
    }

    fn end(&mut self, name: &str, refusal: &Refusal) {
        let Some(mut entry) = self.entries.remove(name) else {
            return;
        };
        entry.refuse(refusal.clone());
        self.names.retain(|_, named| named != name);
        self.asks.remove(name);
        self.jwts.forget_workload(name);
        self.send(v1::node_message::Message::Gone(v1::WorkloadGone {
            workload: name.to_owned(),
        }));
    }

    /// When [`Workloads::tick`] has something to do next.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(Entry::due).min()
    }

    /// Renews what has reached half of its life, drops what has expired, asks again what went unanswered.
    pub(crate) fn tick(&mut self, now: Timestamp) {
        let mut unused = Vec::new();
        let mut expired = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.expire(now) {
                expired.push(name.clone());
            }
            if entry.overdue(now, PATIENCE_S) {
                entry.forget_request();
                self.asks.insert(name.clone());
            }
            if entry.held.is_empty() || entry.request.is_some() {
                continue;
            }
            if entry.renewal_is_near(now, BATCH) {
                if entry.states.receiver_count() == 0 {
                    unused.push(name.clone());
                    continue;
                }
                if self.connected && self.locked.is_none() {
                    self.asks.insert(name.clone());
                }
                entry.renew_at = now.plus_secs(PATIENCE_S);
            }
        }
        for name in expired {
            self.publish(&name);
        }
        for name in unused {
            self.gone(&name);
        }
        self.jwts.expire(now);
    }

    /// JWT-SVIDs for an attested workload: from the cache, or once the server answers.
    pub(crate) fn jwt(
        &mut self,
        name: &str,
        query: &JwtQuery,
        without_receipt: bool,
        now: Timestamp,
    ) -> Result<JwtAnswer, Refusal> {
        if !self.entries.contains_key(name) {
            return Err(gone());
        }
        if let Some(cached) = self.jwts.cached(name, query, now) {
            return Ok(JwtAnswer::Now(cached));
        }
        if !self.connected {
            return Err(self.offline());
        }
        let request = self.next_request;
        self.next_request += 1;
        let reply = self.jwts.wait(request, name, query)?;
        self.send(v1::node_message::Message::Jwt(v1::JwtRequest {
            request,
            workload: name.to_owned(),
            spiffe_id: query.spiffe_id.clone().unwrap_or_default(),
            audience: query.audience.clone(),
            without_receipt,
        }));
        Ok(JwtAnswer::Later(reply))
    }

    /// One of the audiences of the tokens that `request` asks for.
    pub(crate) fn jwt_audience(&self, request: u64) -> Option<String> {
        self.jwts.audience(request)
    }

    pub(crate) fn jwt_issued(&mut self, issued: v1::JwtIssued, now: Timestamp) {
        self.jwts.issued(issued, now);
    }

    /// What is to be sent to the server, in order.
    pub(crate) fn take_outbox(&mut self) -> Vec<v1::NodeMessage> {
        std::mem::take(&mut self.outbox)
    }

    /// Whether the task that talks to the server has something to do.
    pub(crate) fn wants_to_send(&self) -> bool {
        self.connected && !(self.asks.is_empty() && self.outbox.is_empty())
    }

    /// The process was looked at again and may not have what it held.
    pub(crate) fn refuse(&mut self, name: &str, refusal: &Refusal) {
        self.end(name, refusal);
    }

    /// What is known of `name`: facts, SPIFFE IDs with serials, and what was refused.
    pub(crate) fn describe(&self, name: &str) -> Option<Description> {
        let entry = self.entries.get(name)?;
        Some(Description {
            facts: entry.facts.clone(),
            notes: entry.notes.clone(),
            identities: entry
                .held
                .iter()
                .map(|held| {
                    (
                        held.svid.spiffe_id.clone(),
                        held.serial.clone(),
                        held.not_after,
                    )
                })
                .collect(),
            refused: entry.refused.clone(),
        })
    }

    pub(crate) fn figures(&self) -> Figures {
        Figures {
            workloads: self.entries.len(),
            svids: self.entries.values().map(|entry| entry.held.len()).sum(),
            connected: self.connected,
            locked: self.locked.is_some(),
        }
    }

    fn send(&mut self, message: v1::node_message::Message) {
        if self.connected {
            self.outbox.push(v1::NodeMessage {
                message: Some(message),
            });
        }
    }

    /// Shows what the entry holds now to its streams.
    fn publish(&mut self, name: &str) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let Some(trust) = self.trust.clone() else {
            return;
        };
        if entry.held.is_empty() {
            // A workload that has never been answered goes on waiting.
            if !entry.answered_once {
                return;
            }
            let findings = entry
                .refused
                .iter()
                .flat_map(|(_, findings)| findings.clone());
            entry.refuse(Refusal::Denied(findings.collect()));
            return;
        }
        let svids = entry
            .held
            .iter()
            .map(|held| Arc::clone(&held.svid))
            .collect();
        entry
            .states
            .send_replace(State::Current(Arc::new(View { svids, trust })));
    }
}

/// A workload's place among the entries.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) states: watch::Receiver<State>,
    /// The entry is new: its process must be watched until this resolves, which it does when the entry
    /// has ended.
    pub(crate) watch: Option<oneshot::Receiver<()>>,
}

/// For health and metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) workloads: usize,
    pub(crate) svids: usize,
    pub(crate) connected: bool,
    pub(crate) locked: bool,
}

/// What `trilith whoami` shows.
#[derive(Debug)]
pub(crate) struct Description {
    pub(crate) facts: FactSet,
    pub(crate) notes: Vec<Finding>,
    pub(crate) identities: Vec<(String, String, Timestamp)>,
    pub(crate) refused: Vec<(String, Vec<Finding>)>,
}

fn held(svid: v1::X509Svid, key: Zeroizing<Vec<u8>>, jitter: &mut Jitter) -> Held {
    let (begin, end) = (svid.not_before, svid.not_after);
    Held {
        serial: svid.serial,
        not_after: Timestamp::from_millis(end),
        renew_at: Timestamp::from_millis(jitter.half_life(begin, end)),
        svid: Arc::new(X509Svid {
            spiffe_id: svid.spiffe_id,
            chain: svid.certificate_chain.concat().into(),
            key,
            hint: svid.hint,
        }),
    }
}

fn refused(refused: v1::RefusedIdentity) -> (String, Vec<Finding>) {
    let findings = serde_json::from_slice(&refused.findings).unwrap_or_else(|_| {
        vec![Finding::new(
            "AGENT-FINDINGS",
            "the server's findings could not be read",
        )]
    });
    (refused.spiffe_id, findings)
}

fn changed() -> Refusal {
    Refusal::Denied(vec![Finding::new(
        "WORKLOAD-CHANGED",
        "the process runs another program or has other credentials than when it was attested",
    )])
}

fn gone() -> Refusal {
    Refusal::Denied(vec![Finding::new("WORKLOAD-GONE", "the process has ended")])
}

/// Spreads what would otherwise happen at once. SplitMix64.
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Half of the life from `begin` to `end` (milliseconds), a tenth of it earlier or later.
    fn half_life(&mut self, begin: u64, end: u64) -> u64 {
        let life = end.saturating_sub(begin);
        let spread = (life / 10).max(1);
        begin + life / 2 - spread / 2 + self.next() % spread
    }
}

#[cfg(test)]
mod tests;
