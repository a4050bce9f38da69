//! The stream between a node agent and the server: workloads ask, the server decides, issues, and says
//! when what a workload may hold has changed.

mod rejudge;

pub(crate) use rejudge::{Lost, cut, rejudge, withdraw};

use super::Caller;
use crate::authority::Term;
use crate::core::Core;
use crate::current::{Allowed, Current, NearMiss};
use crate::issue::{Basis, Issued, Order, Signed, What, issue};
use crate::join::public_key;
use crate::lock::not_locked;
use crate::metrics;
use crate::node::Claims;
use crate::refusal::Refusal;
use crate::workloads::{Answer, Holding, Updates};
use crypto::PublicKey;
use facts::{FactSet, Finding, Source, Timestamp};
use ledger::body::TargetKind;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use proto::v1::{self, NodeMessage, NodeUpdate};
use spiffe_core::SpiffeId;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc::{self, error::SendTimeoutError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Updates that wait for an agent to read them.
const WAITING: usize = 1_024;
/// Requests of one node that are worked on at once.
const AT_ONCE: usize = 128;
const HEARTBEAT: Duration = Duration::from_secs(1);
/// An agent that takes no answer for so long is disconnected.
const STUCK: Duration = Duration::from_secs(10);
/// What an agent has to read why its stream ended, before the connection is closed.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// An SVID that ends so soon is renewed whenever it is asked for.
const ENDING_S: u64 = 10;
/// What one workload may send.
const LONGEST_NAME: usize = 256;
const LONGEST_FACTS: usize = 64 * 1024;
const MOST_KEYS: usize = 64;

pub(super) fn start(
    core: &Arc<Core>,
    caller: Caller,
    inbound: Streaming<NodeMessage>,
) -> ReceiverStream<Result<NodeUpdate, Status>> {
    let (updates, outbound) = mpsc::channel(WAITING);
    let number = core.connection_number();
    core.workloads
        .connect(&caller.node.name, number, updates.clone());
    let session = Session {
        core: Arc::clone(core),
        caller: Caller {
            stream: Some(number),
            ..caller
        },
        number,
        updates,
        permits: Arc::new(Semaphore::new(AT_ONCE)),
    };
    tokio::spawn(session.run(inbound));
    ReceiverStream::new(outbound)
}

struct Session {
    core: Arc<Core>,
    caller: Caller,
    number: u64,
    updates: Updates,
    permits: Arc<Semaphore>,
}

impl Session {
    async fn run(self, mut inbound: Streaming<NodeMessage>) {
        let core = &self.core;
        core.metrics.nodes_connected.inc();
        let end = self.serve(&mut inbound).await;
        core.workloads
            .disconnect(&self.caller.node.name, self.number);
        core.metrics.nodes_connected.dec();
        if let Err(refusal) = end {
            tracing::info!(node = %self.caller.node.name, %refusal, "stream ended");
            drop(self.updates.try_send(Err(refusal.into())));
            tokio::time::sleep(LAST_WORDS).await;
            // What it has not read is kept for nobody.
            self.caller.peer.close.cancel();
        }
    }

    async fn serve(&self, inbound: &mut Streaming<NodeMessage>) -> Result<(), Refusal> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        // For the next request: nothing is read before there is a place, and nothing waits in between.
        let mut place = None;
        loop {
            tokio::select! {
                () = self.core.stop.cancelled() => return Ok(()),
                () = self.caller.peer.close.cancelled() => return Err(stuck()),
                _ = heartbeat.tick() => {
                    self.still()?;
                    let beat = v1::Heartbeat { time: self.core.now().as_millis() };
                    // A full queue is noticed by whoever sends what matters.
                    drop(self.updates.try_send(Ok(update(Update::Heartbeat(beat)))));
                }
                permit = Arc::clone(&self.permits).acquire_owned(), if place.is_none() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    place = Some(permit);
                }
                message = inbound.message(), if place.is_some() => match (message, place.take()) {
                    (Ok(Some(NodeMessage { message: Some(message) })), Some(place)) => {
                        self.take(message, place)?;
                    }
                    (Ok(Some(_)), _) => {}
                    (Ok(None) | Err(_), _) => return Ok(()),
                },
            }
        }
    }

    /// The node is not locked, its SVID or a successor stands, and no newer stream has taken over.
    fn still(&self) -> Result<(), Refusal> {
        self.core.goes_on(&self.caller.svid)?;
        if let Some(node) = self.core.state().node(&self.caller.node.name) {
            not_locked(node)?;
        }
        if self
            .core
            .workloads
            .is_connection(&self.caller.node.name, self.number)
        {
            return Ok(());
        }
        Err(Refusal::Denied(Finding::new(
            "SYNC-REPLACED",
            "the stream was ended by the server, or a newer one took its place",
        )))
    }

    /// Takes a message; requests run beside one another, each in its place.
    fn take(&self, message: Message, place: OwnedSemaphorePermit) -> Result<(), Refusal> {
        match message {
            Message::Hello(hello) => {
                let bundle = self.core.bundle();
                if bundle.sequence != hello.bundle_sequence {
                    self.begin(place, async move { vec![Update::Bundle(bundle)] });
                }
            }
            Message::Gone(gone) => {
                self.core
                    .workloads
                    .remove(&self.caller.node.name, &gone.workload);
            }
            Message::Workload(request) => {
                self.still()?;
                let (core, caller) = (Arc::clone(&self.core), self.caller.clone());
                let number = request.request;
                self.begin(place, async move {
                    let issued = match rate(&core, &caller) {
                        Ok(()) => workload(&core, &caller, request).await,
                        Err(refusal) => Err(refusal),
                    };
                    charge(&core, &caller, &issued);
                    issued.unwrap_or_else(|refusal| refused(number, &refusal))
                });
            }
            Message::Jwt(request) => {
                self.still()?;
                let (core, caller) = (Arc::clone(&self.core), self.caller.clone());
                let number = request.request;
                self.begin(place, async move {
                    let issued = match rate(&core, &caller) {
                        Ok(()) => jwt(&core, &caller, request).await,
                        Err(refusal) => Err(refusal),
                    };
                    let issued = issued.map(|issued| vec![Update::Jwt(issued)]);
                    charge(&core, &caller, &issued);
                    issued.unwrap_or_else(|refusal| refused(number, &refusal))
                });
            }
        }
        Ok(())
    }

    /// Runs a request beside the others. Its place is free when its answers are with the agent's
    /// connection, not earlier: what a node has under way and not read is bounded.
    fn begin(
        &self,
        place: OwnedSemaphorePermit,
        work: impl Future<Output = Vec<Update>> + Send + 'static,
    ) {
        let (updates, close) = (self.updates.clone(), self.caller.peer.close.clone());
        tokio::spawn(async move {
            for answer in work.await {
                match updates.send_timeout(Ok(update(answer)), STUCK).await {
                    Ok(()) => {}
                    // An agent that has gone away asks again when it is back.
                    Err(SendTimeoutError::Closed(_)) => break,
                    Err(SendTimeoutError::Timeout(_)) => {
                        close.cancel();
                        break;
                    }
                }
            }
            drop(place);
        });
    }
}

fn refused(request: u64, refusal: &Refusal) -> Vec<Update> {
    let finding = serde_json::to_vec(refusal.finding()).unwrap_or_default();
    vec![Update::Refused(v1::Refused { request, finding })]
}

fn stuck() -> Refusal {
    Refusal::Limited(
        Finding::new("SYNC-STUCK", "the agent does not read its answers")
            .expected(format!("an answer taken within {} s", STUCK.as_secs()))
            .next("it connects again and asks anew"),
    )
}

/// Whether the node may be issued anything now.
fn rate(core: &Core, caller: &Caller) -> Result<(), Refusal> {
    let limits = &core.config.limits;
    let (a_second, burst) = (limits.issued_per_node, limits.issued_per_node_burst);
    core.rates
        .take(&caller.node.name, core.now(), a_second, burst)
        .map_err(|finding| {
            crate::join::refused(core, "sync", &finding);
            Refusal::Limited(finding)
        })
}

/// One was taken before it was known how many there would be.
fn charge(core: &Core, caller: &Caller, issued: &Result<Vec<Update>, Refusal>) {
    let count = issued.iter().flatten().map(|update| match update {
        Update::Issued(issued) => issued.svids.len(),
        Update::Jwt(issued) => issued.svids.len(),
        _ => 0,
    });
    let more = count.sum::<usize>().saturating_sub(1);
    core.rates.charge(&caller.node.name, more);
}

pub(super) const fn update(update: Update) -> NodeUpdate {
    NodeUpdate {
        update: Some(update),
    }
}

/// What a workload may become, issued.
pub(crate) async fn workload(
    core: &Arc<Core>,
    caller: &Caller,
    request: v1::WorkloadRequest,
) -> Result<Vec<Update>, Refusal> {
    let node = &caller.node.name;
    if request.workload.is_empty()
        || request.workload.len() > LONGEST_NAME
        || request.facts.len() > LONGEST_FACTS
        || request.public_keys.len() > MOST_KEYS
        || request.held.len() > MOST_KEYS
    {
        return Err(invalid("a request beyond the limits of one workload"));
    }
    if !core.workloads.contains(node, &request.workload)
        && core.workloads.count(node) >= core.config.limits.workloads_per_node
    {
        return Err(Refusal::Limited(
            Finding::new("SYNC-WORKLOADS", "the node has too many workloads")
                .expected(format!("at most {}", core.config.limits.workloads_per_node)),
        ));
    }
    let current = core.estate()?;
    let Decided {
        basis,
        allowed,
        near,
        keys,
    } = decide(core, caller, &current, request.facts, request.public_keys).await?;
    turn(core, caller, &request.workload, &basis.facts, current.index).await;
    let mut refused = near_misses(core, node, &near, allowed.is_empty());
    let mut orders = Vec::new();
    let mut keys = keys.into_iter();
    for identity in allowed.iter() {
        match order(core, &basis, identity, &mut keys, &request.held) {
            Ok(order) => orders.push(order),
            Err(refusal) => refused.push(refused_identity(
                &spiffe_id(core, &identity.path)?,
                &[refusal.finding().clone()],
            )),
        }
    }
    let orders: Arc<[Order]> = orders.into();
    let mut svids = Vec::new();
    let mut held = Vec::with_capacity(orders.len());
    for (order, outcome) in orders.iter().zip(issue(core, &orders).await?) {
        match outcome {
            Ok(issued) => {
                held.push(holding(order, &issued));
                svids.push(svid(order, &allowed, issued));
            }
            Err(refusal) => refused.push(refused_identity(
                order.spiffe_id.as_str(),
                &[refusal.finding().clone()],
            )),
        }
    }
    let next = core.now().as_millis() + core.config.limits.reissue_s.saturating_mul(1_000);
    let complete = caller.stream.filter(|_| held.len() == allowed.len());
    let answer = complete.map(|stream| Answer {
        stream,
        estate: current.index,
        svids: held.clone(),
        next: Timestamp::from_millis(next),
    });
    core.workloads.issued(
        node,
        &request.workload,
        Arc::clone(&basis.facts),
        allowed,
        held,
        answer,
    );
    let overtaken = {
        let state = core.state();
        let stands = |svid: &v1::X509Svid| {
            state
                .svid(&svid.serial)
                .is_some_and(|row| state.stands(row))
        };
        !svids.iter().all(stands)
    };
    let mut updates = vec![Update::Issued(v1::Issued {
        request: request.request,
        workload: request.workload.clone(),
        svids,
        refused,
        estate_index: current.index,
    })];
    let newest = core.estate()?;
    if overtaken || newest.index != current.index {
        // The estate changed on the way: what was just sent may already be out of date.
        updates.push(Update::Reconsider(v1::Reconsider {
            workloads: vec![request.workload],
            estate_index: newest.index,
        }));
    }
    Ok(updates)
}

/// Waits for the workload's turn: of which nothing has changed since its last answer is issued the same
/// again only now and then.
async fn turn(core: &Core, caller: &Caller, workload: &str, facts: &FactSet, estate: u64) {
    let node = &caller.node.name;
    let Some(stream) = caller.stream else { return };
    let digest = crate::current::digest(facts);
    let last = core
        .workloads
        .answer(node, workload, stream, estate, &digest);
    let Some(last) = last.filter(|last| !last.svids.is_empty()) else {
        return;
    };
    let now = core.now();
    let soon = now.plus_secs(ENDING_S).as_millis();
    let stands = {
        let state = core.state();
        last.svids.iter().all(|held| {
            let row = state.svid(&held.serial);
            held.not_after > soon
                && row.is_some_and(|row| state.stands(row) && !core.unrecorded.covers(row))
        })
    };
    if stands {
        let every = core.config.limits.reissue_s.saturating_mul(1_000);
        let turn = core.workloads.turn(node, workload, now, every);
        tokio::time::sleep(turn.since(now)).await;
    }
}

/// What a workload's facts come to.
struct Decided {
    basis: Arc<Basis>,
    allowed: Arc<[Allowed]>,
    near: Arc<[NearMiss]>,
    /// The keys that came with them, one for each identity.
    keys: Vec<Result<PublicKey, Refusal>>,
}

/// Parses and evaluates on the pool: a stranger's facts and keys never hold up the async threads.
async fn decide(
    core: &Arc<Core>,
    caller: &Caller,
    current: &Arc<Current>,
    asserted: Vec<u8>,
    keys: Vec<Vec<u8>>,
) -> Result<Decided, Refusal> {
    let node = core.state().node(&caller.node.name).cloned();
    let node = node.unwrap_or_else(|| caller.node.clone());
    not_locked(&node)?;
    fresh(core, current, node.evidence_time)?;
    let (machine, estate) = (core.machine_facts(&node)?, Arc::clone(current));
    let judging = Arc::clone(core);
    let judge = move || {
        let mut facts = estate.placed(&machine).into_owned();
        for fact in assertions(&asserted)?.iter() {
            facts.insert(fact.clone());
        }
        let (allowed, near) = estate.judged(&facts);
        // A key that no identity is there for is not looked at.
        let keys: Vec<_> = keys
            .iter()
            .take(allowed.len())
            .map(|key| public_key(key))
            .collect();
        let commit = judging.known_commitment(&crate::current::digest(&facts));
        Ok::<_, Refusal>((Arc::new(facts), commit, allowed, near, keys))
    };
    let (facts, commit, allowed, near, keys) = core
        .pool
        .run(judge)
        .await
        .map_err(|error| Refusal::internal("deciding", &error))??;
    let basis = Basis {
        node: node.name,
        verdict: node.verdict,
        evidence_time: node.evidence_time,
        commit: match commit {
            Some(commit) => commit,
            None => core.commit(&facts).await?,
        },
        facts,
        estate: Some(current.reference()),
        actor: caller.svid.spiffe_id.clone(),
        auth: format!("x509:{}", caller.svid.serial),
    };
    Ok(Decided {
        basis: Arc::new(basis),
        allowed,
        near,
        keys,
    })
}

/// Evidence older than the estate allows issues nothing.
fn fresh(core: &Core, current: &Current, evidence_time: u64) -> Result<(), Refusal> {
    let most = current.estate.settings().evidence_max_age;
    let age = core.now().since(Timestamp::from_millis(evidence_time));
    if age <= most {
        return Ok(());
    }
    Err(Refusal::Denied(
        Finding::new(
            "EVIDENCE-STALE",
            "the machine has not proved itself for too long",
        )
        .expected(format!("within {} s", most.as_secs()))
        .observed(format!("{} s ago", age.as_secs()))
        .next("let the node agent renew"),
    ))
}

/// What an agent may say: of workloads and their code, and as its own word.
fn assertions(bytes: &[u8]) -> Result<FactSet, Refusal> {
    let facts: FactSet =
        serde_json::from_slice(bytes).map_err(|_| invalid("facts that do not parse"))?;
    let may = |fact: &facts::Fact| {
        fact.source == Source::Asserted
            && (fact.name.starts_with("workload.") || fact.name.starts_with("code."))
    };
    if let Some(fact) = facts.iter().find(|fact| !may(fact)) {
        return Err(invalid(&format!("the fact {} from an agent", fact.name)));
    }
    Ok(facts)
}

fn invalid(what: &str) -> Refusal {
    Refusal::Invalid(
        Finding::new("SYNC-REQUEST", "the agent's request cannot be taken")
            .expected("facts `workload.*` and `code.*` with source `asserted`, within limits")
            .observed(what.to_owned()),
    )
}

fn order(
    core: &Core,
    basis: &Arc<Basis>,
    identity: &Allowed,
    keys: &mut impl Iterator<Item = Result<PublicKey, Refusal>>,
    held: &[v1::Held],
) -> Result<Order, Refusal> {
    let id = core.trust_domain.identity(&identity.path);
    let id = id.map_err(|error| Refusal::internal("naming an identity", &error))?;
    barred(core, &id)?;
    let key = keys.next().ok_or_else(|| {
        Refusal::Precondition(
            Finding::new("ISSUE-KEYS", "there is no key left for this identity")
                .next("ask again with a key for each identity"),
        )
    })?;
    let key = key?;
    let claim = Claims::claim(core, &key, id.as_str(), &basis.node)?;
    Ok(Order {
        claim: Some(Arc::new(claim)),
        what: What::X509 {
            public_key: key,
            dns_names: identity.dns_names.clone(),
        },
        term: Term::Workload,
        basis: Arc::clone(basis),
        policies: identity.policies.clone(),
        visible: identity.visible.clone(),
        replaces: replaced(core, &id, &basis.node, held),
        spiffe_id: id,
    })
}

fn barred(core: &Core, id: &SpiffeId) -> Result<(), Refusal> {
    let barred = core.state().barred(id.as_str());
    let observed = match barred {
        Some(index) => format!("record {index}"),
        None if core.unrecorded.holds(TargetKind::Identity, id.as_str()) => {
            "a revocation whose record waits for the disk".to_owned()
        }
        None => return Ok(()),
    };
    Err(Refusal::Denied(
        Finding::new("IDENTITY-REVOKED", "the identity is revoked")
            .observed(observed)
            .next(format!(
                "trilith restore {} --reason TEXT",
                id.identity_path()
            )),
    ))
}

/// The serial that the new SVID renews: one of this identity that this node was issued.
fn replaced(core: &Core, id: &SpiffeId, node: &str, held: &[v1::Held]) -> Option<String> {
    let state = core.state();
    held.iter()
        .filter(|held| held.spiffe_id == id.as_str())
        .find(|held| {
            state.svid(&held.serial).is_some_and(|row| {
                row.spiffe_id == id.as_str() && row.node == node && state.stands(row)
            })
        })
        .map(|held| held.serial.clone())
}

fn holding(order: &Order, issued: &Issued) -> Holding {
    Holding {
        path: order.spiffe_id.identity_path().to_owned(),
        serial: issued.serial.clone(),
        not_after: issued.not_after.as_millis(),
    }
}

fn svid(order: &Order, allowed: &[Allowed], issued: Issued) -> v1::X509Svid {
    let path = order.spiffe_id.identity_path();
    let hint = allowed.iter().find(|identity| identity.path == path);
    let public_key_sha256 = match &order.what {
        What::X509 { public_key, .. } => public_key.spki_sha256().to_vec(),
        What::Jwt { .. } => Vec::new(),
    };
    v1::X509Svid {
        spiffe_id: order.spiffe_id.to_string(),
        public_key_sha256,
        certificate_chain: match issued.body {
            Signed::X509(chain) => chain,
            Signed::Jwt(_) => Vec::new(),
        },
        hint: hint
            .map(|identity| identity.hint.clone())
            .unwrap_or_default(),
        not_before: issued.not_before.as_millis(),
        not_after: issued.not_after.as_millis(),
        serial: issued.serial,
        index: issued.index,
    }
}

fn spiffe_id(core: &Core, path: &str) -> Result<String, Refusal> {
    let id = core.trust_domain.identity(path);
    id.map(|id| id.to_string())
        .map_err(|error| Refusal::internal("naming an identity", &error))
}

fn refused_identity(spiffe_id: &str, findings: &[Finding]) -> v1::RefusedIdentity {
    v1::RefusedIdentity {
        spiffe_id: spiffe_id.to_owned(),
        findings: serde_json::to_vec(findings).unwrap_or_default(),
    }
}

/// Tells the agent and, of a workload that becomes `nobody`, counts for the record: that a program is not
/// another one is no news.
fn near_misses(
    core: &Core,
    node: &str,
    near: &[NearMiss],
    nobody: bool,
) -> Vec<v1::RefusedIdentity> {
    let mut counts = core
        .assume_refusals
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    near.iter()
        .filter_map(|miss| {
            let id = spiffe_id(core, &miss.path).ok()?;
            for finding in &miss.findings {
                let code = finding.code.to_string();
                core.metrics
                    .assumes_refused
                    .get_or_create(&metrics::Code { code })
                    .inc();
            }
            if nobody
                && miss.telling
                && let Some(finding) = miss.findings.first()
            {
                let seen = finding.observed.clone().unwrap_or_default();
                counts.count((node.to_owned(), id.clone(), seen), finding);
            }
            Some(refused_identity(&id, &miss.findings))
        })
        .collect()
}

async fn jwt(
    core: &Arc<Core>,
    caller: &Caller,
    request: v1::JwtRequest,
) -> Result<v1::JwtIssued, Refusal> {
    let node = &caller.node.name;
    let known = core.workloads.facts(node, &request.workload);
    let known = known.ok_or_else(|| {
        Refusal::Precondition(
            Finding::new("JWT-WORKLOAD", "the workload has not been attested")
                .next("send its facts first"),
        )
    })?;
    let current = core.estate()?;
    let row = core.state().node(node).cloned();
    let row = row.unwrap_or_else(|| caller.node.clone());
    not_locked(&row)?;
    fresh(core, &current, row.evidence_time)?;
    let (asked, estate) = (Arc::clone(&known), Arc::clone(&current));
    let allowed = core
        .pool
        .run(move || estate.assumable(&asked))
        .await
        .map_err(|error| Refusal::internal("deciding", &error))?;
    let caller_key = crypto::hex::decode(&caller.svid.key)
        .ok()
        .and_then(|key| key.try_into().ok())
        .unwrap_or_default();
    let basis = Arc::new(Basis {
        node: node.clone(),
        verdict: row.verdict,
        evidence_time: row.evidence_time,
        commit: core.commit(&known).await?,
        facts: Arc::clone(&known),
        estate: Some(current.reference()),
        actor: caller.svid.spiffe_id.clone(),
        auth: format!("x509:{}", caller.svid.serial),
    });
    let mut orders = Vec::new();
    let mut hints = Vec::new();
    let mut refused = Vec::new();
    let mut first = None;
    let mut refuse = |id: &SpiffeId, refusal: Refusal| {
        let findings = [refusal.finding().clone()];
        refused.push(refused_identity(id.as_str(), &findings));
        first.get_or_insert(refusal);
    };
    for identity in allowed.iter() {
        let id = core.trust_domain.identity(&identity.path);
        let id = id.map_err(|error| Refusal::internal("naming an identity", &error))?;
        if !request.spiffe_id.is_empty() && request.spiffe_id != id.as_str() {
            continue;
        }
        // One that may not be issued keeps nobody from the others.
        if let Err(refusal) = barred(core, &id) {
            refuse(&id, refusal);
            continue;
        }
        hints.push(identity.hint.clone());
        orders.push(Order {
            spiffe_id: id,
            what: What::Jwt {
                audience: request.audience.clone(),
                caller_key,
                receipt: !request.without_receipt,
            },
            term: Term::Workload,
            basis: Arc::clone(&basis),
            policies: identity.policies.clone(),
            visible: identity.visible.clone(),
            replaces: None,
            claim: None,
        });
    }
    let mut held = Vec::new();
    let mut svids = Vec::new();
    let orders: Arc<[Order]> = orders.into();
    let outcomes = issue(core, &orders).await?;
    for ((order, outcome), hint) in orders.iter().zip(outcomes).zip(hints) {
        let issued = match outcome {
            Ok(issued) => issued,
            Err(refusal) => {
                refuse(&order.spiffe_id, refusal);
                continue;
            }
        };
        held.push(holding(order, &issued));
        let Signed::Jwt(token) = issued.body else {
            continue;
        };
        svids.push(v1::JwtSvid {
            spiffe_id: order.spiffe_id.to_string(),
            token,
            hint,
            not_after: issued.not_after.as_millis(),
        });
    }
    if svids.is_empty() {
        return Err(first.unwrap_or_else(|| {
            Refusal::Denied(
                Finding::new("JWT-IDENTITY", "the workload may not hold this identity")
                    .observed(request.spiffe_id),
            )
        }));
    }
    core.workloads.hold(node, &request.workload, held);
    Ok(v1::JwtIssued {
        request: request.request,
        svids,
        refused,
    })
}
