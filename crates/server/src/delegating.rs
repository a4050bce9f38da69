//! Delegations: who lets whom act, recorded before its token is signed, and taken back when it may be no more.
//!
//! The first link is a person's who has logged in, each next one its delegate's, who presents the token and
//! authenticates by its SVID. Nobody gains by one: what a chain may do is asked of the estate when it asks for
//! something.

mod ask;
mod right;
mod service;
mod settle;
mod take_back;

pub(crate) use ask::{Ask, first, next};
pub(crate) use service::DelegateService;
pub(crate) use service::told;
pub(crate) use settle::{settle, settle_by};
pub(crate) use take_back::{begun_by, take_back};

use crate::core::Core;
use crate::current::Current;
use estate::{Action, Chain, Login, ResourceRef, Scope};
use facts::Finding;
use ledger::body::TargetKind;
use serde_json::{Value, json};
use std::sync::Arc;
use store::DelegationRow;

/// Whether it and all that it rests on stand, cuts included that are not recorded yet.
pub(crate) fn stands(core: &Core, row: &DelegationRow) -> bool {
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

/// Of an identity of this trust domain; what is of none stays as it is.
fn path<'a>(id: &'a str, trust_domain: &str) -> &'a str {
    let rest = id.strip_prefix("spiffe://");
    let rest = rest.and_then(|rest| rest.strip_prefix(trust_domain));
    rest.and_then(|rest| rest.strip_prefix('/')).unwrap_or(id)
}

/// How `version` knows the person at `path`.
fn login<'a>(version: &'a Current, path: &str) -> Option<&'a Login> {
    version.estate.identity(path)?.login.as_ref()
}

/// The chain of recorded links, as the estate decides over it.
fn chain(links: &[&DelegationRow], trust_domain: &str) -> Result<Chain, Finding> {
    let path = |id: &String| path(id, trust_domain).to_owned();
    let last = links.last().map(|row| row.chain.as_slice());
    let mut ids = last.unwrap_or_default().iter().map(path);
    let mut chain = Chain::of(ids.next().unwrap_or_default());
    for (to, link) in ids.zip(links) {
        let (actions, resources) = (words(&link.actions)?, words(&link.resources)?);
        let scope = Scope::from_words(actions.as_deref(), resources.as_deref())?;
        chain = chain.then(to, scope)?;
    }
    Ok(chain)
}

/// A list of a scope as its row has it.
///
/// INVARIANT: what cannot be read is not taken for no bound.
fn words(json: &str) -> Result<Option<Vec<String>>, Finding> {
    serde_json::from_str(json).map_err(|error| {
        Finding::new(
            "DELEGATION-SCOPE-UNREADABLE",
            "what a delegation was narrowed to cannot be read",
        )
        .expected("a list of names, or null")
        .observed(error.to_string())
        .next("make the state anew from the ledger: trilith server rebuild-state --config FILE; then delegate again")
    })
}

/// For `trilith delegation list`: of `identity`, anywhere in the chain, or of everybody.
pub(crate) fn list(core: &Arc<Core>, identity: &str) -> Value {
    shown(core, |row| {
        identity.is_empty() || row.chain.iter().any(|one| one == identity)
    })
}

/// Tokens by which somebody acts for others now: those that stand, of which `of` holds, and whose chain the estate
/// would let do `what` as far as delegations go; each with how often it was delegated on.
pub(crate) fn live(
    core: &Arc<Core>,
    current: &Current,
    what: Option<(Action, &ResourceRef)>,
    of: impl Fn(&DelegationRow) -> bool,
) -> Vec<Value> {
    let good = |row: &DelegationRow| {
        let Some((action, resource)) = what else {
            return true;
        };
        let told = {
            let state = core.state();
            let links = state.delegation_links(row).unwrap_or_default();
            chain(&links, core.trust_domain.as_str())
        };
        // What cannot be read is told, and not taken for none.
        told.map_or(true, |chain| {
            let decided = current
                .estate
                .decide_chain_regardless(&chain, action, resource);
            decided.findings().next().is_none()
        })
    };
    let rows = rows(core, of).into_iter();
    let standing = rows.filter(|row| stands(core, row) && good(row));
    standing
        .map(|row| {
            let mut shown = document(core, &row);
            if let Value::Object(fields) = &mut shown {
                fields.insert("hops".to_owned(), json!(row.chain.len().saturating_sub(1)));
            }
            shown
        })
        .collect()
}

/// Those that have not ended and of which `of` holds.
fn shown(core: &Arc<Core>, of: impl Fn(&DelegationRow) -> bool) -> Value {
    let rows = rows(core, of);
    let shown = rows.iter().map(|row| document(core, row));
    json!({ "delegations": shown.collect::<Vec<_>>() })
}

fn rows(core: &Core, of: impl Fn(&DelegationRow) -> bool) -> Vec<DelegationRow> {
    let now = core.now().as_millis();
    let state = core.state();
    let live = state.delegations().filter(|row| row.not_after > now);
    live.filter(|row| of(row)).cloned().collect()
}

fn document(core: &Core, row: &DelegationRow) -> Value {
    // `null` is no bound: what cannot be read is shown as it is.
    let words = |json: &str| serde_json::from_str::<Value>(json).unwrap_or_else(|_| json.into());
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(actions: &str, resources: &str) -> DelegationRow {
        let id = |path: &str| format!("spiffe://example.org/{path}");
        DelegationRow {
            index: 1,
            jti: "one".to_owned(),
            chain: vec![id("people/ada"), id("agents/helper")],
            rests_on: Vec::new(),
            actions: actions.to_owned(),
            resources: resources.to_owned(),
            node: String::new(),
            not_before: 0,
            not_after: 1,
        }
    }

    #[test]
    fn a_scope_that_cannot_be_read_is_not_taken_for_any() {
        for (actions, resources) in [("null", "null"), ("[\"select\"]", "null")] {
            assert!(chain(&[&row(actions, resources)], "example.org").is_ok());
        }
        for bad in ["", "{", "[1]", "\"select\"", "[\"select\""] {
            for row in [row(bad, "null"), row("null", bad)] {
                let refused = chain(&[&row], "example.org").unwrap_err();
                assert_eq!(refused.code, "DELEGATION-SCOPE-UNREADABLE", "{bad}");
            }
        }
    }
}
