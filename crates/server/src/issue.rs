//! Issuance, in the one order there is: build what will be signed, make its record durable, take the
//! receipt, sign.
//!
//! INVARIANT: nothing is signed before the record of it is durable and applied, nor if by then a
//! revocation, a lock or a newer estate speaks against it.
//! Building and signing run on the pool, and the second follows the record by itself: the async threads
//! only wait, once.

use crate::authority::Term;
use crate::core::{Core, draft};
use crate::journal::{Entry, KnownIssuance, Reply, Space};
use crate::metrics::Kind;
use crate::node::Claim;
use crate::pool::Job;
use crate::refusal::Refusal;
use attest::ar4si::Vector;
use crypto::PublicKey;
use facts::{Affirmed, FactSet, Finding, Timestamp};
use identity::{IssueError, PreparedJwt, PreparedX509};
use ledger::body::{Body as _, FactValue, Issuance, SvidKind, TargetKind};
use ledger::{Commitment, Decimal, Digest, EstateRef, HexDigest};
use ledger_store::Committed;
use spiffe_core::SpiffeId;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Whose SVID, for what, by what right.
#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) what: What,
    pub(crate) term: Term,
    pub(crate) basis: Arc<Basis>,
    pub(crate) policies: Vec<String>,
    /// Names of facts that the record shows.
    pub(crate) visible: Vec<String>,
    /// Serial of the SVID that this one renews.
    pub(crate) replaces: Option<String>,
    /// Held until the record is in the state. A token certifies no key, nor is the server's own one
    /// anybody's to present.
    #[expect(dead_code, reason = "held for what its end does")]
    pub(crate) claim: Option<Arc<Claim>>,
}

#[derive(Clone)]
pub(crate) enum What {
    X509 {
        public_key: PublicKey,
        dns_names: Vec<String>,
    },
    Jwt {
        audience: Vec<String>,
        /// SHA-256 of the SPKI of whoever asked.
        caller_key: [u8; 32],
        receipt: bool,
    },
}

/// What several orders rest on.
pub(crate) struct Basis {
    /// Name of the node; empty for the server's own.
    pub(crate) node: String,
    /// Index of the verdict.
    pub(crate) verdict: u64,
    pub(crate) evidence_time: u64,
    /// INVARIANT: what verifiers stated, and nothing else can be put here.
    pub(crate) facts: Arc<Affirmed>,
    /// To the facts; its opening is kept.
    pub(crate) commit: Commitment,
    /// The version that allowed it; absent for the plane's own identities.
    pub(crate) estate: Option<EstateRef>,
    /// Who asked, and how that is known.
    pub(crate) actor: String,
    pub(crate) auth: String,
}

/// A signed SVID.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    pub(crate) serial: String,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
    /// Of the issuance record.
    pub(crate) index: u64,
    pub(crate) body: Signed,
}

#[derive(Debug, Clone)]
pub(crate) enum Signed {
    /// DER, leaf first, without the root.
    X509(Vec<Vec<u8>>),
    /// Compact serialisation.
    Jwt(String),
}

/// Built, and recorded or about to be.
enum Built {
    X509(PreparedX509),
    Jwt(PreparedJwt, WithReceipt),
}

type WithReceipt = bool;

/// What each order came to, in their order.
pub(crate) type Outcomes = Vec<Result<Issued, Refusal>>;

/// Builds what will be signed and queues its records, all for one commit. Their SVIDs are signed as soon as
/// these are durable, whether somebody waits or not; each order stands for itself: one that may no longer
/// be signed is refused alone. For threads of the pool; `then` runs on one, once, whatever comes of it.
pub(crate) fn begin(
    core: &Arc<Core>,
    orders: &Arc<[Order]>,
    space: Space,
    then: impl FnOnce(Result<Outcomes, Refusal>) -> Reply + Send + 'static,
) {
    let built = core.signing.check().and_then(|()| build_all(core, orders));
    let (built, entries) = match built {
        Ok((built, _)) if built.is_empty() => return then(Ok(Vec::new()))(),
        Ok(built) => built,
        Err(refusal) => return then(Err(refusal))(),
    };
    let begun = std::time::Instant::now();
    let (signing, recorded) = (Arc::clone(core), Arc::clone(orders));
    core.journal.append_then(entries, space, move |outcome| {
        then(outcome.map_err(Refusal::from).map(|committed| {
            let seconds = begun.elapsed().as_secs_f64();
            signing.metrics.append_seconds.observe(seconds);
            let durable = built.iter().zip(&committed);
            recorded
                .iter()
                .zip(durable)
                .map(|(order, (built, committed))| {
                    still_right(&signing, order, committed.index())?;
                    sign(&signing, order, built, committed)
                })
                .collect()
        }))
    });
}

fn build_all(core: &Core, orders: &[Order]) -> Result<(Vec<Built>, Vec<Entry>), Refusal> {
    let mut built = Vec::with_capacity(orders.len());
    let mut entries = Vec::with_capacity(orders.len());
    for order in orders {
        let (one, entry) = build(core, order)?;
        built.push(one);
        entries.push(entry);
    }
    Ok((built, entries))
}

/// As [`begin`], from where nothing may block, to its end.
pub(crate) async fn issue(core: &Arc<Core>, orders: &Arc<[Order]>) -> Result<Outcomes, Refusal> {
    issue_in(core, orders, Space::Ordinary).await
}

async fn issue_in(
    core: &Arc<Core>,
    orders: &Arc<[Order]>,
    space: Space,
) -> Result<Outcomes, Refusal> {
    let (building, asked) = (Arc::clone(core), Arc::clone(orders));
    let (done, wait) = oneshot::channel();
    // What nobody waits for any more is recorded, and signed for nobody.
    let then = move |outcomes| -> Reply { Box::new(move || drop(done.send(outcomes))) };
    core.pool
        .spawn([Box::new(move || begin(&building, &asked, space, then)) as Job]);
    wait.await.unwrap_or_else(|_| Err(stopping()))
}

/// As [`issue`], for one.
pub(crate) async fn issue_one(core: &Arc<Core>, order: Order) -> Result<Issued, Refusal> {
    let issued = issue(core, &Arc::from([order])).await?.into_iter().next();
    issued.unwrap_or_else(|| Err(stopping()))
}

/// As [`issue_one`] for the server's own SVID, in the space that is kept back: without it no gateway
/// hears of a revocation.
pub(crate) async fn issue_own(core: &Arc<Core>, order: Order) -> Result<Issued, Refusal> {
    let orders = Arc::from([order]);
    let issued = issue_in(core, &orders, Space::Reserved).await?;
    issued.into_iter().next().unwrap_or_else(|| Err(stopping()))
}

fn stopping() -> Refusal {
    Refusal::Unavailable(Finding::new("SERVER-STOPPING", "the server is stopping"))
}

fn build(core: &Core, order: &Order) -> Result<(Built, Entry), Refusal> {
    let stamp = core.stamp();
    let now = Timestamp::from_millis(stamp.wall);
    let id = order.spiffe_id.clone();
    let (built, body) = match &order.what {
        What::X509 {
            public_key,
            dns_names,
        } => {
            let prepared = core
                .authority
                .prepare_x509(order.term, id, public_key.clone(), dns_names.clone(), now)
                .map_err(unbuildable)?;
            let serial = prepared.serial().to_string();
            let body = Issuance {
                kind: SvidKind::X509,
                tbs: Digest(prepared.digest()),
                issuer: Digest(prepared.issuer()),
                key: Digest(public_key.spki_sha256()),
                not_before: prepared.not_before().as_secs(),
                not_after: prepared.not_after().as_secs(),
                ..shared(order, serial)
            };
            (Built::X509(prepared), body)
        }
        What::Jwt {
            audience,
            caller_key,
            receipt,
        } => {
            let prepared = core
                .authority
                .prepare_jwt(id, audience.clone(), now)
                .map_err(unbuildable)?;
            let serial = prepared.id().to_string();
            let body = Issuance {
                kind: SvidKind::Jwt,
                tbs: Digest(prepared.digest()),
                issuer: Digest(prepared.issuer()),
                key: Digest(*caller_key),
                not_before: prepared.not_before().as_secs(),
                not_after: prepared.not_after().as_secs(),
                ..shared(order, serial)
            };
            (Built::Jwt(prepared, *receipt), body)
        }
    };
    let basis = &order.basis;
    let mut record = body.record().actor(&basis.actor, &basis.auth).at(stamp);
    if let Some(estate) = basis.estate {
        record = record.estate(estate);
    }
    let known = KnownIssuance {
        stamp,
        estate: basis.estate.map(|estate| estate.index),
        body,
    };
    Ok((built, Entry::issuance(draft(record)?, known)))
}

/// The part of a record that is the same for every kind; the rest is filled in by the caller.
fn shared(order: &Order, serial: String) -> Issuance {
    let basis = &order.basis;
    Issuance {
        kind: SvidKind::X509,
        spiffe_id: order.spiffe_id.to_string(),
        tbs: Digest([0; 32]),
        issuer: Digest([0; 32]),
        key: Digest([0; 32]),
        not_before: 0,
        not_after: 0,
        node: basis.node.clone(),
        verdict: Decimal(basis.verdict),
        evidence_time: basis.evidence_time,
        policies: order.policies.clone(),
        commit: basis.commit,
        facts: visible(&order.visible, &basis.facts),
        replaces: order.replaces.clone(),
        ar4si: Vector::affirmed(&basis.facts).short(),
        serial,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unbuildable(error: IssueError) -> Refusal {
    match &error {
        IssueError::Token(_) | IssueError::Certificate(_) => Refusal::Invalid(
            Finding::new("ISSUE-REQUEST", "such an SVID is not made").observed(
                std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string),
            ),
        ),
        _ => Refusal::internal("building an SVID", &error),
    }
}

fn visible(names: &[String], facts: &FactSet) -> BTreeMap<String, FactValue> {
    names
        .iter()
        .filter_map(|name| Some((name.clone(), fact_value(facts.value(name)?))))
        .collect()
}

pub(crate) fn fact_value(value: &facts::Value) -> FactValue {
    match value {
        facts::Value::Bool(value) => FactValue::Bool(*value),
        facts::Value::Integer(value) => FactValue::Integer(*value),
        facts::Value::Text(value) => FactValue::Text(value.clone()),
        facts::Value::List(values) => FactValue::List(values.clone()),
    }
}

/// What came into the ledger between the decision and the record counts as well.
fn still_right(core: &Core, order: &Order, index: u64) -> Result<(), Refusal> {
    let overtaken = |what: &str| {
        Refusal::Denied(
            Finding::new(
                "ISSUE-OVERTAKEN",
                "the right to it ended while it was issued",
            )
            .observed(what.to_owned())
            .next("ask again"),
        )
    };
    {
        let state = core.state();
        let barred = state.barred(order.spiffe_id.as_str());
        let cut = core
            .unrecorded
            .holds(TargetKind::Identity, order.spiffe_id.as_str())
            || core
                .unrecorded
                .holds(TargetKind::Machine, &order.basis.node);
        if cut || barred.is_some_and(|at| at < index) {
            return Err(overtaken("the identity was revoked"));
        }
        let commit = HexDigest(order.basis.commit.0.0);
        if core.is_erased_in(&state, &commit) {
            core.forget_commitment(&order.basis.commit);
            return Err(overtaken("what it was decided on was erased"));
        }
        let node = state.node(&order.basis.node);
        if node.is_some_and(|node| node.locked.is_some()) {
            return Err(overtaken("the machine was locked"));
        }
        let replaced = order.replaces.as_deref();
        if replaced.is_some_and(|serial| state.revoked(TargetKind::Serial, serial).is_some()) {
            return Err(overtaken("the SVID that it renews was revoked"));
        }
    }
    let Some(estate) = order.basis.estate else {
        return Ok(());
    };
    let now = core.estate()?;
    if now.index == estate.index {
        return Ok(());
    }
    let allowed = now.assumable(&order.basis.facts);
    let path = order.spiffe_id.identity_path();
    if allowed.iter().any(|identity| identity.path == path) {
        Ok(())
    } else {
        Err(overtaken("a newer estate does not grant it"))
    }
}

fn sign(
    core: &Core,
    order: &Order,
    built: &Built,
    committed: &Committed,
) -> Result<Issued, Refusal> {
    let failed = |error: IssueError| Refusal::internal("signing an SVID", &error);
    let receipt = committed.receipt();
    let index = committed.index();
    let (kind, issued) = match built {
        Built::X509(prepared) => {
            let chain = prepared.finish(&receipt).map_err(failed)?;
            let commit = HexDigest(order.basis.commit.0.0);
            core.certificates
                .keep(receipt, commit, prepared.issuer(), &chain);
            let issued = Issued {
                serial: prepared.serial().to_string(),
                not_before: prepared.not_before(),
                not_after: prepared.not_after(),
                index,
                body: Signed::X509(chain),
            };
            ("x509", issued)
        }
        Built::Jwt(prepared, with_receipt) => {
            let token = prepared.finish(&receipt, *with_receipt).map_err(failed)?;
            let issued = Issued {
                serial: prepared.id().to_string(),
                not_before: prepared.not_before(),
                not_after: prepared.not_after(),
                index,
                body: Signed::Jwt(token),
            };
            ("jwt", issued)
        }
    };
    core.metrics.issued.get_or_create(&Kind { kind }).inc();
    Ok(issued)
}
