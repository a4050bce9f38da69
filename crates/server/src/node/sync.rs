//! The stream between a node agent and the server: workloads ask, the server decides, issues, and says
//! when what a workload may hold has changed.

mod jwt;
mod keeps;
mod rejudge;
mod workload;

pub(crate) use rejudge::{Lost, Moved, cut, rejudge, rejudge_node, tried, withdraw};
pub(crate) use workload::workload;

use super::Caller;
use super::proof::proved;
use crate::attesting;
use crate::core::Core;
use crate::current::{Allowed, Current, NearMiss};
use crate::elsewhere;
use crate::enforcing;
use crate::issue::{Issued, Order, Signed, What};
use crate::lock::not_locked;
use crate::metrics;
use crate::refusal::Refusal;
use crate::seals;
use crate::warranted;
use crate::workloads::{Holding, Updates};
use facts::{Affirmed, FactSet, Finding, Source, Timestamp, Value, names};
use jwt::jwt;
use keeps::Keeps;
use ledger::body::TargetKind;
use proto::v1::node_message::Message;
use proto::v1::node_update::Update;
use proto::v1::{self, NodeMessage, NodeUpdate};
use spiffe_core::SpiffeId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
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
    // First of all: what comes then may be signed by a key that the agent does not know.
    if let Some(links) = core.lineage() {
        let lineage = v1::Lineage { links };
        drop(updates.try_send(Ok(update(Update::Lineage(lineage)))));
    }
    let session = Session {
        core: Arc::clone(core),
        caller: Arc::new(Caller {
            stream: Some(number),
            ..caller
        }),
        number,
        updates,
        permits: Arc::new(Semaphore::new(AT_ONCE)),
        keeps: Mutex::default(),
        greeted: AtomicBool::new(false),
    };
    tokio::spawn(session.run(inbound));
    ReceiverStream::new(outbound)
}

struct Session {
    core: Arc<Core>,
    caller: Arc<Caller>,
    number: u64,
    updates: Updates,
    permits: Arc<Semaphore>,
    /// Of an agent that wants to hear of witnesses.
    keeps: Mutex<Option<Keeps>>,
    /// It has said who it is, and what its lineage is.
    greeted: AtomicBool,
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
                    self.tell_witnessed();
                    if let Some(question) = attesting::question(&self.core, &self.caller) {
                        drop(self.updates.try_send(Ok(update(question))));
                    }
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

    /// Tells of what witnesses have cosigned, if the agent asked and it is time.
    fn tell_witnessed(&self) {
        let mut keeps = self.keeps.lock().unwrap_or_else(PoisonError::into_inner);
        let told = keeps.as_mut().and_then(|keeps| keeps.next(&self.core));
        if let Some((witnessed, known)) = told {
            let (core, updates) = (Arc::clone(&self.core), self.updates.clone());
            tokio::task::spawn_blocking(move || {
                let proof = core.journal.reader().consistency(known, witnessed.size);
                let Ok(proof) = proof else { return };
                let told = v1::Witnessed {
                    checkpoint: witnessed.note.as_ref().to_owned(),
                    known_size: known,
                    consistency: proof.iter().map(|hash| hash.to_vec()).collect(),
                };
                drop(updates.try_send(Ok(update(Update::Witnessed(told)))));
            });
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
                // INVARIANT: once a stream. Each link that is shown costs the verifying of two signatures.
                if self.greeted.swap(true, Ordering::Relaxed) {
                    return Err(greeted_again());
                }
                drop(elsewhere::heard(
                    &self.core,
                    &self.caller.node.name,
                    &hello.lineage,
                ));
                let bundle = self.core.bundle();
                let bundle = (bundle.sequence != hello.bundle_sequence).then_some(bundle);
                let (core, caller) = (Arc::clone(&self.core), Arc::clone(&self.caller));
                let enforce =
                    enforcing::connected(&self.core, &self.caller.node.name, hello.enforces);
                self.begin(place, async move {
                    let mut updates: Vec<Update> = bundle.map(Update::Bundle).into_iter().collect();
                    updates.extend(enforce);
                    // INVARIANT: whether a machine with a TPM is asked is not for whoever connects to say.
                    updates.extend(approvals(&core, &caller));
                    updates.extend(told(attesting::connected(&core, &caller).await));
                    updates
                });
            }
            Message::Keeps(keeps) => {
                {
                    let mut kept = self.keeps.lock().unwrap_or_else(PoisonError::into_inner);
                    match kept.as_mut() {
                        Some(kept) => kept.again(keeps.size),
                        None => *kept = Some(Keeps::begin(keeps.size)),
                    }
                }
                self.tell_witnessed();
            }
            Message::Wanted(_) => {
                let question = attesting::wanted(&self.core, &self.caller);
                self.begin(place, async move { question.into_iter().collect() });
            }
            Message::Attestation(sent) => {
                let (core, caller) = (Arc::clone(&self.core), Arc::clone(&self.caller));
                self.begin(place, async move {
                    let next = attesting::answer(&core, &caller, sent).await;
                    told(next).into_iter().collect()
                });
            }
            // At once: what the agent asks for behind it is decided by it.
            Message::Enforcement(said) => {
                let node = &self.caller.node.name;
                if enforcing::told(&self.core, node, &said)? {
                    let (core, caller) = (Arc::clone(&self.core), Arc::clone(&self.caller));
                    self.begin(place, async move {
                        if let Err(refusal) = enforcing::judge(&core, &caller.node.name).await {
                            tracing::error!(%refusal, "cut, and not recorded");
                        }
                        Vec::new()
                    });
                }
            }
            Message::Gone(gone) => {
                self.core
                    .workloads
                    .remove(&self.caller.node.name, &gone.workload);
            }
            Message::Workload(request) => {
                self.still()?;
                let (core, caller) = (Arc::clone(&self.core), Arc::clone(&self.caller));
                let number = request.request;
                self.begin(place, async move {
                    let issued = match may_ask(&core, &caller).await {
                        Ok(()) => workload(&core, &caller, request).await,
                        Err(refusal) => Err(refusal),
                    };
                    charge(&core, &caller, &issued);
                    issued.unwrap_or_else(|refusal| refused(number, &refusal))
                });
            }
            Message::Jwt(request) => {
                self.still()?;
                let (core, caller) = (Arc::clone(&self.core), Arc::clone(&self.caller));
                let number = request.request;
                self.begin(place, async move {
                    let issued = match may_ask(&core, &caller).await {
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

/// What a machine with a TPM may open its state by.
fn approvals(core: &Core, caller: &Caller) -> Option<Update> {
    let facts = core.machine_facts(&caller.node).ok()?;
    seals::of_machine(core, &facts).map(|set| seals::update(&set))
}

/// The next question. What failed stands in the log: the agent is asked again.
fn told(next: Result<Option<Update>, Refusal>) -> Option<Update> {
    next.unwrap_or_else(|refusal| {
        tracing::info!(%refusal, "an attestation");
        None
    })
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

fn greeted_again() -> Refusal {
    Refusal::Invalid(
        Finding::new("SYNC-HELLO-AGAIN", "an agent says who it is once a stream")
            .expected("one NodeHello")
            .observed("a second one on the same stream")
            .next("upgrade the agent; it connects again, and is heard again"),
    )
}

/// Whether the node may be issued anything now: INVARIANT: no sooner than it has proved the boot that it asks
/// from.
async fn may_ask(core: &Core, caller: &Caller) -> Result<(), Refusal> {
    proved(core, caller).await?;
    rate(core, caller)
}

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

pub(crate) const fn update(update: Update) -> NodeUpdate {
    NodeUpdate {
        update: Some(update),
    }
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

/// What an agent may say: of workloads, the digests of their code, and as its own word.
fn assertions(bytes: &[u8]) -> Result<Affirmed, Refusal> {
    let facts: FactSet =
        serde_json::from_slice(bytes).map_err(|_| invalid("facts that do not parse"))?;
    let may = |fact: &facts::Fact| {
        fact.source == Source::Asserted
            && (fact.name.starts_with("workload.") || estate::is_digest_of_code(&fact.name))
    };
    if let Some(fact) = facts.iter().find(|fact| !may(fact)) {
        return Err(invalid(&format!("the fact {} from an agent", fact.name)));
    }
    if let Some(name) = estate::malformed_digest_of_code(&facts) {
        return Err(invalid(&format!("{name}, which is no digest")));
    }
    // An interpreter's digest says nothing of the code that it runs, whatever an agent says.
    if facts.value(names::WORKLOAD_INTERPRETER) == Some(&Value::Bool(true)) {
        let rest = facts.iter().filter(|fact| !fact.name.starts_with("code."));
        return Ok(warranted::told(&rest.cloned().collect()));
    }
    Ok(warranted::told(&facts))
}

fn invalid(what: &str) -> Refusal {
    Refusal::Invalid(
        Finding::new("SYNC-REQUEST", "the agent's request cannot be taken")
            .expected(
                "facts `workload.*` and digests of code with source `asserted`, within limits",
            )
            .observed(what.to_owned()),
    )
}

/// Refuses what no workload is issued whatever the estate says, and what is revoked.
fn barred(core: &Core, id: &SpiffeId) -> Result<(), Refusal> {
    // INVARIANT: only a join makes a node, and only the server itself the server. An estate that was
    // applied before it was refused there may still declare such a name.
    if estate::is_reserved(id.identity_path()) {
        return Err(Refusal::Denied(
            Finding::new(
                "IDENTITY-RESERVED",
                "the identity is one of Trilith's own: no workload is issued it",
            )
            .expected("a path that does not begin with `trilith`")
            .observed(id.to_string())
            .next("take it out of the estate's identities and apply that"),
        ));
    }
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
    code: &[Finding],
    nobody: bool,
) -> Vec<v1::RefusedIdentity> {
    let mut counts = core
        .assume_refusals
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    near.iter()
        .map(|miss| {
            // A template has braces in its path, and no SPIFFE ID: this is for people to read.
            let id = format!("spiffe://{}/{}", core.trust_domain, miss.path);
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
            let findings: Vec<Finding> = miss.findings.iter().chain(code).cloned().collect();
            refused_identity(&id, &findings)
        })
        .collect()
}
