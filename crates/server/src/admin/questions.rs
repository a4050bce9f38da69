//! Questions: what runs, who can, what can, why, and what a verdict said.

mod recorded;

use self::recorded::recorded;
use super::estates::blob;
use crate::core::Core;
use crate::current::Current;
use crate::delegating::live;
use crate::refusal::Refusal;
use estate::{
    Accesses, Action, Chain, Cursor, CursorError, Estate, EstateFiles, Page, Request, ResourceRef,
};
use facts::{FactSet, Finding, Timestamp};
use ledger::body;
use ledger_store::StoreError;
use proto::v1;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(super) fn status(core: &Core) -> Value {
    let head = core.journal.reader().head();
    let state = core.state();
    let current = core.current.load_full();
    // Of the version that stands beside it: nothing until its invariants have been tried.
    let today = current.as_ref().and_then(|current| {
        let stood = current.stood()?;
        let broken = stood.iter().filter(|one| one.is_broken());
        let broken: Vec<String> = broken.map(ToString::to_string).collect();
        Some(json!({ "tried": stood.len(), "broken": broken }))
    });
    let estate = state.estate().map(|row| {
        json!({
            "version": row.version, "index": row.index, "author": row.author,
            "message": row.message, "applied": Timestamp::from_millis(row.time).to_string(),
            "today": today,
        })
    });
    let gateways: Vec<Value> = state
        .gateways()
        .map(|row| {
            let refused = core.hub.refused(&row.gateway);
            json!({
                "origin": row.origin, "gateway": row.gateway,
                "refused": refused.as_ref().map(|(_, at)| at.to_string()),
                "trouble": refused.map(|(finding, _)| finding),
                "size": row.size, "anchor": row.anchor,
                "key": crate::mirrors::key_of(row).map(|key| key.to_string()).ok(),
                "lineage": state.gateway_links(&row.origin).into_iter().map(|(_, link)| link).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "trust_domain": core.trust_domain.as_str(),
        "version": env!("CARGO_PKG_VERSION"),
        "started": core.started.to_string(),
        "ledger": {
            "origin": core.ledger_key.origin().as_str(),
            "key": core.ledger_key.to_string(),
            "lineage": ledger::lineage::links(&core.ledger_key),
            "size": head.checkpoint.size,
            "root": crypto::base64::encode(&head.checkpoint.root),
            "applied": state.applied(),
            "pruned": core.journal.reader().pruned().map(|pruned| json!({
                "minimum_index": pruned.minimum, "record": pruned.record,
            })),
        },
        "bundle_sequence": state.bundle().map(|row| row.sequence),
        "estate": estate,
        "nodes": state.nodes().count(),
        "svids": state.svids().count(),
        "workloads": core.workloads.total(),
        "gateways": gateways,
        "signing": core.signing.open().map_or_else(|finding| json!(finding), |_open| json!("allowed")),
        "clock": json!({
            "now": core.now().to_string(),
            "records": Timestamp::from_millis(state.clock()).to_string(),
            "leaps": state.leaps(),
        }),
        "misbehaviour": state.misbehaved().map(|(origin, index, kind, by)| json!({
            "origin": origin, "record": index, "kind": kind, "by": by,
        })).collect::<Vec<_>>(),
        "publish": core.publishing.as_ref().map(|publishing| publishing.status(head.checkpoint.size)),
        "witnesses": core.witnesses.as_ref().map(|witnesses| witnesses.status(head.checkpoint.size)),
        "pin": pin(core),
        "x509_authorities": core.authority.roots().iter().map(|root| crypto::base64::encode(root)).collect::<Vec<_>>(),
    })
}

fn pin(core: &Core) -> String {
    let roots = core.authority.roots();
    let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    let spki = core.ledger_key.first().public_key().spki_der();
    svid_tls::pin::digest(&core.trust_domain, &roots, spki)
}

pub(super) fn agents(core: &Core) -> Value {
    let nodes: Vec<_> = core.state().nodes().cloned().collect();
    let agents: Vec<Value> = nodes
        .iter()
        .map(|node| {
            let facts = core.machine_facts(node).unwrap_or_default();
            json!({
                "node": node.name,
                "pool": facts.text(facts::names::MACHINE_POOL),
                "joined_by": facts.text(facts::names::MACHINE_JOIN),
                "generation": node.generation,
                "locked": node.locked,
                "connected": core.workloads.connected(&node.name),
                "workloads": core.workloads.count(&node.name),
                "verdict": node.verdict,
                "enforcement": crate::enforcing::shown(core, &node.name),
                "evidence": Timestamp::from_millis(node.evidence_time).to_string(),
            })
        })
        .collect();
    json!({ "agents": agents })
}

/// The approvals of `ring`, as their file.
pub(super) fn boot_approvals(core: &Core, ring: &str) -> Result<v1::BootApprovalsAnswer, Refusal> {
    let current = core.estate()?;
    let pools = &current.estate.references().pools;
    if !ring.is_empty() && !pools.contains(ring) {
        let pools: Vec<&str> = pools.iter().map(String::as_str).collect();
        return Err(Refusal::Unknown(
            Finding::new("SEAL-RING", "this is no ring of machines")
                .expected(format!("a pool of the estate: {}", pools.join(", ")))
                .observed(ring.to_owned())
                .next("name a pool; machines in none are named by an empty ring"),
        ));
    }
    let set = core.seals.of_ring(core.trust_domain.as_str(), ring);
    let unpredicted = || {
        let none = set.approvals().is_empty();
        none.then(|| {
            Finding::new(
                "SEAL-UNPREDICTED",
                "no boot of this ring is approved: no reference value in force predicts one",
            )
            .expected("a generation for this ring, or for every ring, with PCRs of a boot")
            .next(
                "import what its machines boot, `trilith refs import uki IMAGE --ring RING --output FILE`, and apply \
                 the estate",
            )
        })
    };
    let finding = core.seals.why_none(ring).or_else(unpredicted);
    let finding = finding.map(|finding| serde_json::to_string(&finding).unwrap_or_default());
    Ok(v1::BootApprovalsAnswer {
        json: set.to_json(),
        finding: finding.unwrap_or_default(),
    })
}

pub(super) async fn who_can(
    core: &Arc<Core>,
    request: v1::WhoCanRequest,
) -> Result<Value, Refusal> {
    let current = core.estate()?;
    let action = use_of(&request.action, &current.estate)?;
    let resource = resource(&request.resource)?;
    if let Some((last, before)) = request.on_behalf_of.split_last() {
        let chain = chain(core, before, last)?;
        let core = Arc::clone(core);
        return blocking(move || {
            let answer = json!(current.estate.who_can_for(&chain, action, &resource));
            let ids = |path: &String| format!("spiffe://{}/{path}", core.trust_domain);
            let whom: Vec<String> = chain.principals().iter().map(ids).collect();
            // Whoever else they let act has a token that has them all before it.
            let tokens = live(&core, &current, Some((action, &resource)), |row| {
                let before = row.chain.split_last().map(|(_, before)| before);
                before == Some(whom.as_slice())
            });
            let answer = with_tokens(at_record(answer, &current), tokens);
            with_undeclared(answer, &current.estate, &resource)
        })
        .await;
    }
    let cut = Cut::read(request.limit, &request.after)?;
    let core = Arc::clone(core);
    blocking(move || {
        let estate = &current.estate;
        let page = cut.page(estate.accesses_to(action, &resource))?;
        // For whom those of this page act now, where that is good for it.
        let named: BTreeSet<&str> = page
            .accesses
            .iter()
            .map(|one| one.identity.as_str())
            .collect();
        let prefix = format!("spiffe://{}/", core.trust_domain);
        let tokens = live(&core, &current, Some((action, &resource)), |row| {
            let last = row.chain.last().and_then(|last| last.strip_prefix(&prefix));
            // Instances stand in answers by their template.
            let declared = last.and_then(|last| estate.identity(last));
            declared.is_some_and(|one| named.contains(one.path.as_str()))
        });
        let page = with_tokens(at_record(json!(page), &current), tokens);
        Ok(with_undeclared(page, estate, &resource))
    })
    .await?
}

pub(super) async fn what_can(
    core: &Arc<Core>,
    request: v1::WhatCanRequest,
) -> Result<Value, Refusal> {
    let path = asked_about(core, &request.principal)?;
    let current = core.estate()?;
    let cut = Cut::read(request.limit, &request.after)?;
    let core = Arc::clone(core);
    blocking(move || {
        let page = cut.page(current.estate.accesses_of(&path))?;
        let page = at_record(json!(page), &current);
        if cut.after.is_some() {
            return Ok(page);
        }
        // Once: for whom it acts, in whose name what it does is done.
        let id = format!("spiffe://{}/{path}", core.trust_domain);
        let tokens = live(&core, &current, None, |row| row.chain.last() == Some(&id));
        Ok(with_tokens(page, tokens))
    })
    .await?
}

/// Which part of an answer is asked for.
struct Cut {
    limit: usize,
    after: Option<Cursor>,
}

impl Cut {
    /// Requests to Cedar for one page: about a second.
    const EVALUATIONS: usize = 20_000;

    /// 0: all, as those ask who know of no pages.
    fn read(limit: u64, after: &str) -> Result<Self, Refusal> {
        let after = match after {
            "" => None,
            text => Some(text.parse().map_err(cannot_go_on)?),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Ok(Self { limit, after })
    }

    fn page(&self, mut accesses: Accesses<'_>) -> Result<Page, Refusal> {
        if let Some(after) = &self.after {
            accesses = accesses.after(after).map_err(cannot_go_on)?;
        }
        Ok(match self.limit {
            0 => accesses.page(usize::MAX, usize::MAX),
            limit => accesses.page(limit, Self::EVALUATIONS),
        })
    }
}

pub(super) fn cannot_go_on(error: CursorError) -> Refusal {
    let finding = match error {
        CursorError::Estate => Finding::new(
            "QUESTION-ESTATE-CHANGED",
            "the estate has changed since the answer began: its parts would not fit together",
        ),
        CursorError::Malformed | CursorError::Question => {
            Finding::new("QUESTION-CURSOR", error.to_string())
        }
    };
    Refusal::Invalid(finding.next("ask again from the beginning, without a cursor"))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::internal("answering", &error))
}

/// An action by which an identity uses a resource, in the estate in force: the others are asked about
/// elsewhere.
fn use_of(text: &str, estate: &Estate) -> Result<Action, Refusal> {
    let next = match text.parse() {
        Ok(action) if estate.uses().any(|known| known == action) => return Ok(action),
        Ok(Action::Assume) => {
            "who becomes what follows from a workload's facts: on its machine, trilith whoami; \
             here, trilith ledger search --identity IDENTITY"
        }
        Ok(action) if action.is_administrative() => {
            "what administrators may do stands in the policies: trilith estate export DIR"
        }
        _ => "ask by one of these actions",
    };
    let known: Vec<String> = estate.uses().map(|action| action.to_string()).collect();
    Err(Refusal::Invalid(
        Finding::new(
            "QUESTION-ACTION",
            "this is not an action by which an identity uses a resource",
        )
        .expected(known.join(", "))
        .observed(text.to_owned())
        .next(next),
    ))
}

/// Where in the server's ledger the version stands that answers: `trilith ledger show server:12`.
fn at_record(mut answer: Value, current: &Current) -> Value {
    if let Value::Object(fields) = &mut answer {
        let place = format!("server:{}", current.index);
        fields.insert("estate_record".to_owned(), json!(place));
    }
    answer
}

/// Delegation tokens that are good now, if there are any: by these somebody acts for others, whatever may be granted.
fn with_tokens(mut answer: Value, tokens: Vec<Value>) -> Value {
    if let Value::Object(fields) = &mut answer
        && !tokens.is_empty()
    {
        fields.insert("tokens".to_owned(), Value::Array(tokens));
    }
    answer
}

/// Whoever mistypes a resource is answered as if it were there: by what nobody declared.
fn with_undeclared(mut answer: Value, estate: &Estate, resource: &ResourceRef) -> Value {
    if let (Value::Object(fields), Some(said)) = (&mut answer, estate.undeclared(resource)) {
        fields.insert("undeclared".to_owned(), json!(said));
    }
    answer
}

fn resource(text: &str) -> Result<ResourceRef, Refusal> {
    text.parse::<ResourceRef>().map_err(|error| {
        Refusal::Invalid(
            Finding::new("QUESTION-RESOURCE", error.to_string())
                .next("name it as the estate does: DATABASE/SCHEMA/TABLE, or Kind::\"name\""),
        )
    })
}

/// By what the estate in force says, or of a recorded decision by what the estate said then.
pub(super) async fn why(core: &Arc<Core>, request: v1::WhyRequest) -> Result<Value, Refusal> {
    if !request.decision.is_empty() {
        let core = Arc::clone(core);
        return blocking(move || recorded(&core, &request.decision)).await?;
    }
    let path = asked_about(core, &request.principal)?;
    let current = core.estate()?;
    let action = use_of(&request.action, &current.estate)?;
    let resource = resource(&request.resource)?;
    if !request.on_behalf_of.is_empty() {
        let chain = chain(core, &request.on_behalf_of, &request.principal)?;
        let core = Arc::clone(core);
        return blocking(move || {
            // The request is made by the last of them, on its machine.
            let facts = latest_facts(&core, &current, &path);
            // And who lets another act would do so as it is now.
            let others = chain.principals().iter().filter(|other| **other != path);
            let earlier = others.map(|other| (other.clone(), latest_facts(&core, &current, other)));
            // Of whom none are known, nothing is: no facts are not the same.
            let earlier = earlier.filter(|(_, facts)| !facts.is_empty()).collect();
            let estate = &current.estate;
            let explanation = estate.why_chain(&chain, action, &resource, &facts, &earlier);
            let chain = with_undeclared(json!(explanation), &current.estate, &resource);
            let facts: Vec<_> = facts.iter().collect();
            at_record(json!({ "chain": chain, "facts": facts }), &current)
        })
        .await;
    }
    let core = Arc::clone(core);
    blocking(move || {
        let facts = latest_facts(&core, &current, &path);
        let request = Request {
            principal: &path,
            action,
            resource: resource.clone(),
            facts: &facts,
        };
        let explanation = json!(current.estate.why(&request));
        let explanation = with_undeclared(explanation, &current.estate, &resource);
        let facts: Vec<_> = facts.iter().collect();
        at_record(
            json!({ "explanation": explanation, "facts": facts }),
            &current,
        )
    })
    .await
}

/// `last` on behalf of `before`, who began it first.
fn chain(core: &Core, before: &[String], last: &str) -> Result<Chain, Refusal> {
    let paths: Vec<String> = before
        .iter()
        .map(String::as_str)
        .chain([last])
        .map(|text| asked_about(core, text))
        .collect::<Result<_, _>>()?;
    Chain::through(paths.iter().map(String::as_str)).map_err(Refusal::Invalid)
}

/// As [`super::acts::identity_path`], and templates as they are declared, which no SPIFFE ID names.
fn asked_about(core: &Core, text: &str) -> Result<String, Refusal> {
    let current = core.current.load();
    let declared = current
        .as_ref()
        .and_then(|current| current.estate.identity(text));
    match declared {
        Some(identity) if identity.is_template() && identity.path == text => Ok(text.to_owned()),
        _ => super::acts::identity_path(core, text),
    }
}

/// The facts of a workload that is this identity now, if there is one.
fn latest_facts(core: &Core, current: &Current, path: &str) -> FactSet {
    let visible = current
        .estate
        .identity(path)
        .map(|identity| identity.visible.clone())
        .unwrap_or_default();
    let holder = core
        .workloads
        .all()
        .into_iter()
        .find(|(_, _, workload)| workload.held.iter().any(|held| held.path == path));
    holder
        .map(|(_, _, workload)| {
            workload
                .facts
                .iter()
                .filter(|fact| visible.contains(&fact.name))
                .cloned()
                .collect()
        })
        .unwrap_or_default()
}

pub(super) fn compile(blob: &[u8]) -> Result<Estate, Refusal> {
    let unreadable = |what: String| {
        Refusal::Unavailable(
            Finding::new(
                "ESTATE-UNREADABLE",
                "a recorded estate does not compile in this version",
            )
            .observed(what),
        )
    };
    let files = EstateFiles::from_blob(blob).map_err(|problem| unreadable(problem.to_string()))?;
    Estate::compile_recorded(&files).map_err(|problems| {
        unreadable(
            problems
                .first()
                .map_or_else(String::new, ToString::to_string),
        )
    })
}

/// A verdict with all its facts.
pub(super) fn verdict(core: &Core, index: u64) -> Result<Value, Refusal> {
    let none = || {
        Refusal::Unknown(
            Finding::new("VERDICT-UNKNOWN", "there is no verdict at that place")
                .observed(index.to_string())
                .next("trilith ledger search --type verdict"),
        )
    };
    let record = core.journal.reader().record(index);
    let record = record.map_err(|error| match error {
        StoreError::Pruned { .. } => Refusal::internal("reading a verdict", &error),
        _ => none(),
    })?;
    let verdict: body::Verdict = record.expect_body().map_err(|_| none())?;
    let facts = match verdict.facts_blob {
        Some(named) => {
            let bytes = blob(core, &named.sha256.to_string())?;
            serde_json::from_slice(&bytes).unwrap_or(Value::Null)
        }
        None => Value::Null,
    };
    Ok(json!({
        "index": index,
        "time": Timestamp::from_millis(record.stamp().wall).to_string(),
        "node": verdict.node,
        "outcome": verdict.outcome,
        "facts": facts,
        "findings": verdict.findings,
        "evidence": verdict.evidence,
        "ar4si": verdict.ar4si,
    }))
}
