//! What administrators do: tokens, revocations, readmissions, recovery.

use super::{Admitted, act, reason, record_act};
use crate::core::{Core, draft};
use crate::join::token_hash;
use crate::refusal::Refusal;
use crate::revoke::Revocation;
use crate::state::target_kind;
use estate::ResourceRef;
use facts::Finding;
use ledger::body::{self, Body as _, TargetKind};
use ledger::{Decimal, HexDigest};
use proto::v1;
use serde_json::{Value, json};
use std::sync::Arc;

/// 1 h: long enough to carry it to the machine.
const TOKEN_TTL_S: u32 = 3_600;
/// A kind of revocation that the next clean join lifts.
const EVICTION: &str = "eviction";
/// Recorded and pushed as a serial: its `jti` is one.
const DELEGATION: &str = "delegation";
const LONGEST_TTL_S: u32 = 7 * 86_400;

pub(super) async fn token_create(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::TokenCreateRequest,
) -> Result<v1::TokenCreated, Refusal> {
    core.node_id(&request.node)?;
    let ttl = match request.ttl_s {
        0 => TOKEN_TTL_S,
        ttl => ttl,
    };
    if !is_plain(&request.node) || !is_plain(&request.pool) || ttl > LONGEST_TTL_S {
        return Err(Refusal::Invalid(
            Finding::new("TOKEN-REQUEST", "such a token is not made")
                .expected("node and pool of letters, digits, `.`, `-`, `_`; at most seven days")
                .observed(format!(
                    "node {:?}, pool {:?}, {ttl} s",
                    request.node, request.pool
                )),
        ));
    }
    declared(core, &request.pool)?;
    let token = crypto::base64::encode_url(&crypto::random::<32>());
    let expires = core.now().plus_secs(u64::from(ttl)).as_millis();
    let created = body::TokenCreated {
        token: HexDigest(token_hash(&token)),
        node: request.node.clone(),
        pool: request.pool,
        expires,
    };
    let record = draft(created.record().actor(&admitted.name(), admitted.auth))?;
    let detail = format!("token for node {}", request.node);
    let committed = core.append(vec![act(admitted, &detail)?, record]).await?;
    let roots = core.authority.roots();
    let roots: Vec<&[u8]> = roots.iter().map(Vec::as_slice).collect();
    let spki = core.ledger_key.first().public_key().spki_der();
    Ok(v1::TokenCreated {
        token,
        pin: svid_tls::pin::digest(&core.trust_domain, &roots, spki),
        expires,
        index: committed
            .last()
            .map(ledger_store::Committed::index)
            .unwrap_or_default(),
    })
}

/// A pool that the estate in force does not declare is a slip; before the first estate any will do.
fn declared(core: &Core, pool: &str) -> Result<(), Refusal> {
    let Some(current) = core.current.load_full() else {
        return Ok(());
    };
    let pools = &current.estate.references().pools;
    if pools.contains(pool) {
        return Ok(());
    }
    let declared = pools.iter().map(String::as_str);
    Err(Refusal::Invalid(
        Finding::new("TOKEN-POOL", "the estate declares no such pool")
            .expected("a pool of the estate in force")
            .observed(pool.to_owned())
            .next(did_you_mean(pool, declared).unwrap_or_else(|| {
                "declare it in `references/` and apply the estate, or name one that is".to_owned()
            })),
    ))
}

/// “did you mean `x`?”, if one of `candidates` is close to `word`.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let closest = estate::closest(word, candidates)?;
    Some(format!("did you mean `{closest}`?"))
}

/// What somebody asks to act on. It is looked up once, and nothing of what was found is told before the
/// caller is admitted to `resource`: what exists is no stranger's business.
pub(super) struct Asked<T> {
    /// As Cedar names it; the estate for what cannot be named.
    pub(super) resource: ResourceRef,
    pub(super) named: Result<T, Refusal>,
}

impl<T> Asked<T> {
    fn nothing(core: &Core, refusal: Refusal) -> Self {
        Self {
            resource: ResourceRef::estate(core.trust_domain.as_str()),
            named: Err(refusal),
        }
    }
}

/// What is to be revoked, as the ledger names it.
pub(super) struct Target {
    kind: TargetKind,
    value: String,
    /// A machine, until it joins clean.
    evict: bool,
}

/// Reads a revocation's target; what nobody knows is refused, so that a slip of the pen is seen.
pub(super) fn target(core: &Core, request: &v1::RevokeRequest) -> Asked<Target> {
    let evict = request.kind == EVICTION;
    let kind = if evict {
        Some(TargetKind::Machine)
    } else if request.kind == DELEGATION {
        Some(TargetKind::Serial)
    } else {
        target_kind(&request.kind)
    };
    let Some(kind) = kind else {
        let finding = Finding::new("REVOKE-KIND", "this cannot be revoked")
            .expected("identity, serial, machine, eviction or delegation")
            .observed(request.kind.clone());
        return Asked::nothing(core, Refusal::Invalid(finding));
    };
    // A server that was rolled back does not know all that it has issued: what it is asked to cut is cut.
    let behind = core.signing.check().is_err();
    let unknown = |what: &str, next: &str| {
        Refusal::Unknown(
            Finding::new("REVOKE-UNKNOWN", format!("there is no such {what}"))
                .observed(request.value.clone())
                .next(next),
        )
    };
    let whole = || ResourceRef::estate(core.trust_domain.as_str());
    let asked = match kind {
        TargetKind::Identity => {
            let asked = identity(core, &request.value);
            let named = asked.named.and_then(|path| {
                let value = format!("spiffe://{}/{path}", core.trust_domain);
                if declared_identity(core, &path)
                    || behind
                    || core.state().svids_of(&value).next().is_some()
                {
                    return Ok(value);
                }
                Err(unknown(
                    "identity",
                    "the estate declares them: trilith estate export DIR",
                ))
            });
            Asked {
                resource: asked.resource,
                named,
            }
        }
        TargetKind::Serial => {
            let whose = {
                let state = core.state();
                let svid = state
                    .svid(&request.value)
                    .map(|svid| svid.spiffe_id.clone());
                let delegation = state.delegation(&request.value);
                // Whom it lets act: that is who loses by it.
                svid.or_else(|| delegation.and_then(|row| row.chain.last().cloned()))
            };
            let prefix = format!("spiffe://{}/", core.trust_domain);
            match whose {
                Some(spiffe_id) => {
                    let path = spiffe_id.strip_prefix(&prefix).unwrap_or_default();
                    Asked {
                        resource: identity_resource(core, path),
                        named: Ok(request.value.clone()),
                    }
                }
                None if behind => Asked {
                    resource: whole(),
                    named: named(&request.value),
                },
                None if request.kind == DELEGATION => {
                    Asked::nothing(core, unknown("live delegation", "trilith delegation list"))
                }
                None => Asked::nothing(
                    core,
                    unknown(
                        "live SVID",
                        "trilith ledger search --ledger server --type issuance",
                    ),
                ),
            }
        }
        TargetKind::Machine => {
            let known = core.state().node(&request.value).is_some();
            match known {
                true => Asked {
                    resource: machine(&request.value),
                    named: Ok(request.value.clone()),
                },
                false if behind => Asked {
                    resource: whole(),
                    named: named(&request.value),
                },
                // Decided on as a known one would be.
                false => Asked {
                    resource: machine(&request.value),
                    named: Err(unknown("machine", "trilith agent list")),
                },
            }
        }
    };
    Asked {
        resource: asked.resource,
        named: asked.named.map(|value| Target { kind, value, evict }),
    }
}

/// A machine as Cedar knows it. What can be no machine's name is decided on as one, and is none.
pub(super) fn machine(name: &str) -> ResourceRef {
    let name = if is_plain(name) { name } else { "?" };
    ResourceRef::machine(name.to_owned())
}

/// The identity that `text` names, by its path.
pub(super) fn identity(core: &Core, text: &str) -> Asked<String> {
    match identity_path(core, text) {
        Ok(path) => Asked {
            resource: identity_resource(core, &path),
            named: Ok(path),
        },
        Err(refusal) => Asked::nothing(core, refusal),
    }
}

fn declared_identity(core: &Core, path: &str) -> bool {
    let current = core.current.load();
    current
        .as_ref()
        .is_some_and(|current| current.estate.identity(path).is_some())
}

fn is_plain(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

/// A serial or a machine's name that nothing here knows, as far as it can be one.
fn named(value: &str) -> Result<String, Refusal> {
    if is_plain(value) {
        return Ok(value.to_owned());
    }
    Err(Refusal::Invalid(
        Finding::new("REVOKE-NAME", "this names no SVID and no machine")
            .expected("letters, digits, `.`, `-` and `_`"),
    ))
}

/// The identity as Cedar knows it, or the estate if it is declared no more.
fn identity_resource(core: &Core, path: &str) -> ResourceRef {
    if declared_identity(core, path) {
        ResourceRef::identity(path)
    } else {
        ResourceRef::estate(core.trust_domain.as_str())
    }
}

/// `payments/api`, of that or of the whole SPIFFE ID.
pub(super) fn identity_path(core: &Core, text: &str) -> Result<String, Refusal> {
    Ok(record_index::packs::identity_path(
        &core.trust_domain,
        text,
    )?)
}

pub(super) async fn revoke(
    core: &Arc<Core>,
    admitted: &Admitted,
    target: Target,
    request: v1::RevokeRequest,
) -> Result<Value, Refusal> {
    // INVARIANT: nobody is cut off later for the length of somebody's words.
    let reason = reason::cut(&request.reason);
    let revocation = Revocation {
        kind: target.kind,
        value: target.value.clone(),
        reason: reason.clone(),
        by: admitted.name(),
        auth: admitted.auth,
    };
    let index = if target.evict {
        let node = core.state().node(&target.value).cloned();
        match node {
            Some(node) if node.locked.is_none() => {
                crate::evict::by_hand(core, &node, revocation).await?
            }
            Some(node) => return Err(not_evicted(&node.name, "it is out already")),
            None => return Err(not_evicted(&target.value, "it is not known here")),
        }
    } else {
        crate::revoke::revoke(core, revocation).await?
    };
    // The revocation itself is recorded; that it was an administrator's act may wait for disk space.
    let detail = format!("{} {}: {reason}", request.kind, target.value);
    if index.is_some()
        && let Err(refusal) = record_act(core, admitted, &detail).await
    {
        tracing::error!(%refusal, "the revocation is recorded, the act is not");
    }
    let mut document = json!({
        "kind": request.kind,
        "value": target.value,
        "reason": reason,
        "index": index,
        "recorded": index.is_some(),
    });
    if let (None, Value::Object(fields)) = (index, &mut document) {
        let clock = core.signing.clock().check().err();
        let note = if let Some(finding) = clock {
            Finding::new(
                "REVOKE-POSTPONED",
                "the revocation is in force; its record waits for the server's clock",
            )
            .observed(finding.code)
            .next("set the clock of the server's machine: trilith status")
        } else if core.signing.check().is_err() {
            Finding::new(
                "REVOKE-POSTPONED",
                "the revocation is in force; its record waits for the recovery of the server",
            )
            .next("trilith recover --reason TEXT")
        } else {
            Finding::new(
                "REVOKE-UNRECORDED",
                "the revocation is in force; its record waits for the server's disk",
            )
            .next(
                "free space in the server's data directory; if the server stops before, revoke again",
            )
        };
        fields.insert("finding".to_owned(), json!(note));
    }
    Ok(document)
}

/// The delegations of whoever `text` names, or all.
pub(super) fn delegations(core: &Arc<Core>, text: &str) -> Result<Value, Refusal> {
    let whose = match text {
        "" => String::new(),
        text => format!(
            "spiffe://{}/{}",
            core.trust_domain,
            identity_path(core, text)?
        ),
    };
    Ok(crate::delegating::list(core, &whose))
}

fn not_evicted(node: &str, why: &str) -> Refusal {
    Refusal::Precondition(
        Finding::new("NODE-NOT-EVICTED", "the machine cannot be evicted")
            .expected("a machine that has joined and is neither locked nor evicted")
            .observed(format!("{node}: {why}"))
            .next("trilith agent list"),
    )
}

pub(super) async fn readmit(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::ReadmitRequest,
) -> Result<Value, Refusal> {
    let _alone = core.busy(format!("node {}", request.node))?;
    let node = core.state().node(&request.node).cloned();
    let node = node.ok_or_else(|| {
        Refusal::Unknown(
            Finding::new("NODE-UNKNOWN", "there is no such machine")
                .observed(request.node.clone())
                .next("trilith agent list"),
        )
    })?;
    let Some(locked) = node.locked.clone() else {
        return Err(Refusal::Precondition(
            Finding::new("NODE-NOT-LOCKED", "the machine is not locked").observed(node.name),
        ));
    };
    let reason = reason::whole(&request.reason)?;
    let body = body::Readmit {
        node: node.name.clone(),
        reason: reason.clone(),
        by: admitted.name(),
        generation: Decimal(node.generation),
    };
    let record = draft(body.record().actor(&admitted.name(), admitted.auth))?;
    let detail = format!("node {}: {reason}", node.name);
    let committed = core.append(vec![act(admitted, &detail)?, record]).await?;
    Ok(json!({
        "node": node.name,
        "was_locked": locked,
        "index": committed.last().map(ledger_store::Committed::index),
    }))
}

pub(super) async fn restore(
    core: &Arc<Core>,
    admitted: &Admitted,
    path: &str,
    request: v1::RestoreRequest,
) -> Result<Value, Refusal> {
    let id = format!("spiffe://{}/{path}", core.trust_domain);
    if core.state().barred(&id).is_none() {
        return Err(Refusal::Precondition(
            Finding::new("IDENTITY-NOT-REVOKED", "the identity is not revoked")
                .observed(id)
                .next("nothing to restore; revoked ones: trilith ledger search --ledger server --type revocation"),
        ));
    }
    let reason = reason::whole(&request.reason)?;
    let body = body::Admin {
        principal: admitted.principal(),
        action: "restore".to_owned(),
        resource: format!("identity:{id}"),
        allow: true,
        policies: admitted.policies.clone(),
        detail: reason,
    };
    let record = draft(body.record().actor(&admitted.name(), admitted.auth))?;
    let committed = core.append_one(record).await?;
    core.workloads.broadcast(&proto::v1::NodeUpdate {
        update: Some(proto::v1::node_update::Update::Reconsider(v1::Reconsider {
            workloads: Vec::new(),
            estate_index: 0,
        })),
    });
    Ok(json!({ "identity": id, "index": committed.index() }))
}
