//! What a workload may become, issued: decided, built and queued in one job of the pool, signed and answered
//! in another once its records are durable.

use super::{
    ENDING_S, LONGEST_FACTS, LONGEST_NAME, MOST_KEYS, assertions, barred, fresh, holding, invalid,
    near_misses, refused_identity, spiffe_id, svid,
};
use crate::authority::Term;
use crate::core::Core;
use crate::current::{Allowed, Current, NearMiss};
use crate::issue::{Basis, Order, Outcomes, What, begin};
use crate::join::public_key;
use crate::journal::Space;
use crate::lock::not_locked;
use crate::node::{Caller, Claims};
use crate::pool::{Ended, Job};
use crate::refusal::Refusal;
use crate::workloads::Answer;
use crypto::PublicKey;
use facts::{Affirmed, Finding, Timestamp};
use ledger::Commitment;
use proto::v1;
use proto::v1::node_update::Update;
use spiffe_core::SpiffeId;
use std::sync::Arc;
use std::time::Duration;
use store::NodeRow;
use tokio::sync::oneshot;

/// A request, with whatever it is decided by.
struct Asked {
    core: Arc<Core>,
    caller: Arc<Caller>,
    current: Arc<Current>,
    request: v1::WorkloadRequest,
}

/// What a workload's facts come to.
struct Decided {
    node: NodeRow,
    facts: Arc<Affirmed>,
    /// Of `facts`.
    digest: [u8; 32],
    allowed: Arc<[Allowed]>,
    near: Arc<[NearMiss]>,
    /// What is wrong with the workload's code.
    code: Arc<[Finding]>,
    /// The keys that came with them, one for each identity.
    keys: Vec<Result<PublicKey, Refusal>>,
}

/// What the orders of a request are answered with, beside what is issued.
struct Begun {
    facts: Arc<Affirmed>,
    allowed: Arc<[Allowed]>,
    orders: Arc<[Order]>,
    refused: Vec<v1::RefusedIdentity>,
}

enum Step {
    Answered(Vec<Update>),
    /// The opening of its commitment is to be kept first, or its turn has not come.
    Later(Box<Decided>, Duration),
}

type Done<T> = oneshot::Sender<Result<T, Refusal>>;

/// What a workload may become, issued.
pub(crate) async fn workload(
    core: &Arc<Core>,
    caller: &Arc<Caller>,
    request: v1::WorkloadRequest,
) -> Result<Vec<Update>, Refusal> {
    within_limits(core, caller, &request)?;
    let epoch = core.enforcing.epoch(&caller.node.name);
    let answer = decided(core, caller, request).await;
    if core.enforcing.epoch(&caller.node.name) != epoch {
        // It was decided by what the machine enforced before.
        crate::enforcing::judge(core, &caller.node.name).await?;
    }
    answer
}

async fn decided(
    core: &Arc<Core>,
    caller: &Arc<Caller>,
    request: v1::WorkloadRequest,
) -> Result<Vec<Update>, Refusal> {
    let asked = Arc::new(Asked {
        core: Arc::clone(core),
        caller: Arc::clone(caller),
        current: core.estate()?,
        request,
    });
    let (decided, turn) = match asked.on_the_pool(Asked::step).await? {
        Step::Answered(updates) => return Ok(updates),
        Step::Later(decided, turn) => (decided, turn),
    };
    let commit = core.commit(&decided.facts).await?;
    tokio::time::sleep(turn).await;
    let begin = move |asked: &Arc<Asked>, done: Done<Vec<Update>>| {
        asked.begin(*decided, commit, move |answer| drop(done.send(answer)));
    };
    asked.on_the_pool(begin).await
}

fn within_limits(
    core: &Core,
    caller: &Caller,
    request: &v1::WorkloadRequest,
) -> Result<(), Refusal> {
    let node = &caller.node.name;
    if request.workload.is_empty()
        || request.workload.len() > LONGEST_NAME
        || request.facts.len() > LONGEST_FACTS
        || request.public_keys.len() > MOST_KEYS
        || request.held.len() > MOST_KEYS
    {
        return Err(invalid("a request beyond the limits of one workload"));
    }
    let most = core.config.limits.workloads_per_node;
    if !core.workloads.contains(node, &request.workload) && core.workloads.count(node) >= most {
        return Err(Refusal::Limited(
            Finding::new("SYNC-WORKLOADS", "the node has too many workloads")
                .expected(format!("at most {most}")),
        ));
    }
    Ok(())
}

impl Asked {
    /// Runs `job` on the pool until somebody there has answered: whoever asked is woken once.
    async fn on_the_pool<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(&Arc<Self>, Done<T>) + Send + 'static,
    ) -> Result<T, Refusal> {
        let (done, wait) = oneshot::channel();
        let asked = Arc::clone(self);
        self.core
            .pool
            .spawn([Box::new(move || job(&asked, done)) as Job]);
        wait.await
            .unwrap_or_else(|_| Err(Refusal::internal("issuing", &Ended)))
    }

    /// All of it in one go, if nothing is to be waited for.
    fn step(self: &Arc<Self>, done: Done<Step>) {
        let decided = match self.decide() {
            Ok(decided) => decided,
            Err(refusal) => return drop(done.send(Err(refusal))),
        };
        let turn = self.turn(&decided);
        match self.core.known_commitment(&decided.digest) {
            Some(commit) if turn.is_zero() => self.begin(decided, commit, move |answer| {
                drop(done.send(answer.map(Step::Answered)));
            }),
            _ => drop(done.send(Ok(Step::Later(Box::new(decided), turn)))),
        }
    }

    /// Parses and evaluates: a stranger's facts and keys never hold up the async threads.
    fn decide(&self) -> Result<Decided, Refusal> {
        let (core, current) = (&self.core, &self.current);
        let node = core.state().node(&self.caller.node.name).cloned();
        let node = node.unwrap_or_else(|| self.caller.node.clone());
        not_locked(&node)?;
        fresh(core, current, node.evidence_time)?;
        let machine = core.machine_facts(&node)?;
        let facts = current.placed(&machine).into_owned();
        let facts = facts.and(&assertions(&self.request.facts)?);
        let facts = crate::attesting::root_in_hardware(core, &node.name, facts, current);
        let facts = crate::enforcing::state(core, &node.name, facts, current, false);
        let (facts, code) = current.known(&facts, core.now());
        let facts = facts.into_owned();
        let digest = crate::current::digest(&facts);
        let (allowed, near) = current.judged(&facts, &digest);
        // A key that no identity is there for is not looked at.
        let keys = self.request.public_keys.iter().take(allowed.len());
        let keys = keys.map(|key| public_key(key)).collect();
        Ok(Decided {
            node,
            facts: Arc::new(facts),
            digest,
            allowed,
            near,
            code,
            keys,
        })
    }

    /// How long until the workload's turn: of which nothing has changed since its last answer is issued
    /// the same again only now and then.
    fn turn(&self, decided: &Decided) -> Duration {
        let (core, workload) = (&self.core, &self.request.workload);
        let node = &self.caller.node.name;
        let Some(stream) = self.caller.stream else {
            return Duration::ZERO;
        };
        let estate = self.current.index;
        let last = core
            .workloads
            .answer(node, workload, stream, estate, &decided.digest);
        let Some(last) = last.filter(|last| !last.svids.is_empty()) else {
            return Duration::ZERO;
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
        if !stands {
            return Duration::ZERO;
        }
        let every = core.config.limits.reissue_s.saturating_mul(1_000);
        core.workloads.turn(node, workload, now, every).since(now)
    }

    /// Queues what comes of it; `tell` is called when that is issued, or refused.
    fn begin(
        self: &Arc<Self>,
        decided: Decided,
        commit: Commitment,
        tell: impl FnOnce(Result<Vec<Update>, Refusal>) + Send + 'static,
    ) {
        let begun = match self.ordered(decided, commit) {
            Ok(begun) => begun,
            Err(refusal) => return tell(Err(refusal)),
        };
        let (asked, orders) = (Arc::clone(self), Arc::clone(&begun.orders));
        begin(&self.core, &orders, Space::Ordinary, move |outcomes| {
            let answer = outcomes.and_then(|outcomes| asked.answered(begun, outcomes));
            Box::new(move || tell(answer))
        });
    }

    fn ordered(&self, decided: Decided, commit: Commitment) -> Result<Begun, Refusal> {
        let (core, caller) = (&self.core, &self.caller);
        let Decided {
            node,
            facts,
            allowed,
            near,
            code,
            keys,
            ..
        } = decided;
        let mut refused = near_misses(core, &node.name, &near, &code, allowed.is_empty());
        let basis = Arc::new(Basis {
            node: node.name,
            verdict: node.verdict,
            evidence_time: node.evidence_time,
            commit,
            facts: Arc::clone(&facts),
            estate: Some(self.current.reference()),
            actor: caller.svid.spiffe_id.clone(),
            auth: format!("x509:{}", caller.svid.serial),
        });
        let mut orders = Vec::with_capacity(allowed.len());
        let mut keys = keys.into_iter();
        for identity in allowed.iter() {
            match self.order(&basis, identity, &mut keys) {
                Ok(order) => orders.push(order),
                Err(refusal) => refused.push(refused_identity(
                    &spiffe_id(core, &identity.path)?,
                    &[refusal.finding().clone()],
                )),
            }
        }
        Ok(Begun {
            facts,
            allowed,
            orders: orders.into(),
            refused,
        })
    }

    /// What the agent is told, once it is kept who holds what.
    fn answered(&self, begun: Begun, outcomes: Outcomes) -> Result<Vec<Update>, Refusal> {
        let Begun {
            facts,
            allowed,
            orders,
            mut refused,
        } = begun;
        let (core, request, current) = (&self.core, &self.request, &self.current);
        let node = &self.caller.node.name;
        let mut svids = Vec::with_capacity(orders.len());
        let mut held = Vec::with_capacity(orders.len());
        for (order, outcome) in orders.iter().zip(outcomes) {
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
        let complete = self.caller.stream;
        let complete = complete.filter(|_| held.len() == allowed.len());
        let answer = complete.map(|stream| Answer {
            stream,
            estate: current.index,
            svids: held.clone(),
            next: Timestamp::from_millis(next),
        });
        core.workloads
            .issued(node, &request.workload, facts, allowed, held, answer);
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
                workloads: vec![request.workload.clone()],
                estate_index: newest.index,
            }));
        }
        Ok(updates)
    }

    fn order(
        &self,
        basis: &Arc<Basis>,
        identity: &Allowed,
        keys: &mut impl Iterator<Item = Result<PublicKey, Refusal>>,
    ) -> Result<Order, Refusal> {
        let core = &self.core;
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
            replaces: self.replaced(&id, &basis.node),
            spiffe_id: id,
        })
    }

    /// The serial that the new SVID renews: one of this identity that this node was issued.
    fn replaced(&self, id: &SpiffeId, node: &str) -> Option<String> {
        let state = self.core.state();
        let held = self.request.held.iter();
        held.filter(|held| held.spiffe_id == id.as_str())
            .find(|held| {
                state.svid(&held.serial).is_some_and(|row| {
                    row.spiffe_id == id.as_str() && row.node == node && state.stands(row)
                })
            })
            .map(|held| held.serial.clone())
    }
}
