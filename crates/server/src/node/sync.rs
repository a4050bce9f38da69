//! The stream between a node agent and the server: workloads ask, the server decides, issues, and says
//! when what a workload may hold has changed.

mod rejudge;

pub(crate) use rejudge::rejudge;

use super::Caller;
use crate::authority::Term;
use crate::core::Core;
use crate::current::{Allowed, Current, NearMiss};
use crate::issue::{Basis, Issued, Order, Signed, What, issue};
use crate::join::{check_key, not_locked, public_key};
use crate::metrics;
use crate::refusal::Refusal;
use crate::workloads::{Holding, Updates};
use crypto::PublicKey;
use facts::{FactSet, Finding, Source, Timestamp};
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use proto::v1::{self, NodeMessage, NodeUpdate};
use spiffe_core::SpiffeId;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// Updates that wait for an agent to read them.
const WAITING: usize = 1_024;
/// Requests of one node that are worked on at once.
const AT_ONCE: usize = 128;
const HEARTBEAT: Duration = Duration::from_secs(1);
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
        caller,
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
        }
    }

    async fn serve(&self, inbound: &mut Streaming<NodeMessage>) -> Result<(), Refusal> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        loop {
            let message = tokio::select! {
                () = self.core.stop.cancelled() => return Ok(()),
                _ = heartbeat.tick() => {
                    self.still()?;
                    let beat = v1::Heartbeat { time: self.core.now().as_millis() };
                    // A full queue is noticed by whoever sends what matters.
                    drop(self.updates.try_send(Ok(update(Update::Heartbeat(beat)))));
                    continue;
                }
                message = inbound.message() => message,
            };
            match message {
                Ok(Some(NodeMessage {
                    message: Some(message),
                })) => self.take(message).await?,
                Ok(Some(NodeMessage { message: None })) => {}
                Ok(None) | Err(_) => return Ok(()),
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

    async fn take(&self, message: Message) -> Result<(), Refusal> {
        match message {
            Message::Hello(hello) => {
                let bundle = self.core.bundle();
                if bundle.sequence != hello.bundle_sequence {
                    self.send(Update::Bundle(bundle)).await;
                }
            }
            Message::Gone(gone) => {
                self.core
                    .workloads
                    .remove(&self.caller.node.name, &gone.workload);
            }
            Message::Workload(request) => {
                self.still()?;
                self.begin(move |core, caller| async move {
                    let number = request.request;
                    workload(&core, &caller, request)
                        .await
                        .map_err(|refusal| (number, refusal))
                })
                .await;
            }
            Message::Jwt(request) => {
                self.still()?;
                self.begin(move |core, caller| async move {
                    let number = request.request;
                    jwt(&core, &caller, request)
                        .await
                        .map(|issued| vec![Update::Jwt(issued)])
                        .map_err(|refusal| (number, refusal))
                })
                .await;
            }
        }
        Ok(())
    }

    /// Runs a request beside the others; waits while too many are under way.
    async fn begin<F>(&self, work: impl FnOnce(Arc<Core>, Caller) -> F)
    where
        F: Future<Output = Result<Vec<Update>, (u64, Refusal)>> + Send + 'static,
    {
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return;
        };
        let work = work(Arc::clone(&self.core), self.caller.clone());
        let updates = self.updates.clone();
        tokio::spawn(async move {
            let answers = work.await.unwrap_or_else(|(request, refusal)| {
                let finding = serde_json::to_vec(refusal.finding()).unwrap_or_default();
                vec![Update::Refused(v1::Refused { request, finding })]
            });
            drop(permit);
            for answer in answers {
                // An agent that has gone away asks again when it is back.
                drop(updates.send(Ok(update(answer))).await);
            }
        });
    }

    async fn send(&self, what: Update) {
        drop(self.updates.send(Ok(update(what))).await);
    }
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
    core.workloads.issued(
        node,
        &request.workload,
        Arc::clone(&basis.facts),
        allowed,
        held,
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
        let mut facts = machine.as_ref().clone();
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
    unused(core, &key, id.as_str())?;
    Ok(Order {
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

/// A key is for one identity of one machine.
fn unused(core: &Core, key: &PublicKey, spiffe_id: &str) -> Result<(), Refusal> {
    check_key(core, key, spiffe_id)
}

fn barred(core: &Core, id: &SpiffeId) -> Result<(), Refusal> {
    match core.state().barred(id.as_str()) {
        None => Ok(()),
        Some(index) => Err(Refusal::Denied(
            Finding::new("IDENTITY-REVOKED", "the identity is revoked")
                .observed(format!("record {index}"))
                .next(format!(
                    "trilith restore {} --reason TEXT",
                    id.identity_path()
                )),
        )),
    }
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
    for identity in allowed.iter() {
        let id = core.trust_domain.identity(&identity.path);
        let id = id.map_err(|error| Refusal::internal("naming an identity", &error))?;
        if !request.spiffe_id.is_empty() && request.spiffe_id != id.as_str() {
            continue;
        }
        barred(core, &id)?;
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
        });
    }
    if orders.is_empty() {
        return Err(Refusal::Denied(
            Finding::new("JWT-IDENTITY", "the workload may not hold this identity")
                .observed(request.spiffe_id),
        ));
    }
    let mut held = Vec::new();
    let mut svids = Vec::new();
    let orders: Arc<[Order]> = orders.into();
    let outcomes = issue(core, &orders).await?;
    for ((order, outcome), hint) in orders.iter().zip(outcomes).zip(hints) {
        let issued = outcome?;
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
    core.workloads.hold(node, &request.workload, held);
    Ok(v1::JwtIssued {
        request: request.request,
        svids,
    })
}
