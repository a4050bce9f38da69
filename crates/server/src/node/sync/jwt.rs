//! JWT-SVIDs, for workloads that have been attested.

use super::{barred, fresh, holding, refused_identity};
use crate::authority::Term;
use crate::core::Core;
use crate::issue::{Basis, Order, Signed, What, issue};
use crate::lock::not_locked;
use crate::node::Caller;
use crate::refusal::Refusal;
use facts::Finding;
use proto::v1;
use spiffe_core::SpiffeId;
use std::sync::Arc;

pub(super) async fn jwt(
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
