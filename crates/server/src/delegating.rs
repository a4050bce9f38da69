//! Delegations: who lets whom act, recorded before its token is signed, and taken back when it may be no more.
//!
//! The first link is a person's who has logged in, each next one its delegate's, who presents the token and
//! authenticates by its SVID. Nobody gains by one: what a chain may do is asked of the estate when it asks for
//! something.

mod ask;
mod service;
mod settle;

pub(crate) use ask::{Ask, first, next};
pub(crate) use service::DelegateService;
pub(crate) use service::told;
pub(crate) use settle::settle;

use crate::core::Core;
use estate::{Chain, Scope};
use facts::Finding;
use ledger::body::TargetKind;
use serde_json::{Value, json};
use std::sync::Arc;
use store::DelegationRow;

/// Whether it and all that it rests on stand, cuts included that are not recorded yet.
fn stands(core: &Core, row: &DelegationRow) -> bool {
    let state = core.state();
    let links = state.delegation_links(row).unwrap_or_default();
    let ahead = links.iter().any(|link| is_cut(core, link));
    !ahead && state.delegation_stands(row)
}

/// Whether a cut that waits for its record hits this link.
fn is_cut(core: &Core, link: &DelegationRow) -> bool {
    let cut = |kind, value: &str| core.unrecorded.holds(kind, value);
    cut(TargetKind::Serial, &link.jti)
        || link.chain.iter().any(|one| cut(TargetKind::Identity, one))
        || cut(TargetKind::Machine, &link.node)
}

/// The chain of recorded links, as the estate decides over it.
fn chain(links: &[&DelegationRow], trust_domain: &str) -> Result<Chain, Finding> {
    let prefix = format!("spiffe://{trust_domain}/");
    let path = |id: &String| id.strip_prefix(&prefix).unwrap_or(id).to_owned();
    let last = links.last().map(|row| row.chain.as_slice());
    let mut ids = last.unwrap_or_default().iter().map(path);
    let mut chain = Chain::of(ids.next().unwrap_or_default());
    for (to, link) in ids.zip(links) {
        let words = |json: &str| {
            serde_json::from_str::<Option<Vec<String>>>(json)
                .ok()
                .flatten()
        };
        let (actions, resources) = (words(&link.actions), words(&link.resources));
        let scope = Scope::from_words(actions.as_deref(), resources.as_deref())?;
        chain = chain.then(to, scope)?;
    }
    Ok(chain)
}

/// For `trilith delegation list`: of `identity`, anywhere in the chain, or of everybody.
pub(crate) fn list(core: &Arc<Core>, identity: &str) -> Value {
    let now = core.now().as_millis();
    let rows: Vec<DelegationRow> = {
        let state = core.state();
        let of = |row: &&DelegationRow| {
            identity.is_empty() || row.chain.iter().any(|one| one == identity)
        };
        let live = state.delegations().filter(|row| row.not_after > now);
        live.filter(of).cloned().collect()
    };
    let shown = rows.iter().map(|row| {
        let words = |json: &str| serde_json::from_str::<Value>(json).unwrap_or_default();
        json!({
            "jti": row.jti,
            "chain": row.chain,
            "rests_on": row.rests_on,
            "actions": words(&row.actions),
            "resources": words(&row.resources),
            "node": row.node,
            "begins": row.not_before,
            "ends": row.not_after,
            "index": row.index,
            "stands": stands(core, row),
        })
    });
    json!({ "delegations": shown.collect::<Vec<_>>() })
}
