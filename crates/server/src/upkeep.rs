//! What happens by the clock: the server's own SVID, rotation of keys, counted refusals, forgetting.

use crate::authority::{self, Term};
use crate::core::{Core, draft, recorded};
use crate::issue::{Basis, Order, Signed, What, issue_own};
use crate::refusal::Refusal;
use crate::signing::replace;
use crypto::Signer;
use facts::{Affirmed, Finding, Timestamp};
use ledger::body::{self, Body as _};
use ledger::{Base64, Decimal};
use proto::v1::{NodeUpdate, node_update};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use svid_tls::OwnSvid;

const TICK: Duration = Duration::from_secs(1);
/// Ticks between looks at the keys' tenures.
const ROTATION: u64 = 5;
/// Ticks between looks at what is open and not used.
const IDLE: u64 = 60;
/// The SVID that the server presented last. With the ledger's key, so that restoring the data directory
/// does not take it back; it is public.
const LAST_SVID: &str = "last-svid";

/// Runs until the server stops; `end` ends it.
pub(crate) async fn run(
    core: Arc<Core>,
    own: Arc<OwnSvid>,
    server_key: Arc<dyn Signer>,
    mut presented: bool,
    end: impl Fn(Finding) + Send,
) {
    let mut ticks = tokio::time::interval(TICK);
    let mut count = 0_u64;
    let mut remembered = 0;
    let mut wrong = false;
    loop {
        tokio::select! {
            () = core.stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        count += 1;
        look_at_clock(&core, &mut wrong);
        if let Some(finding) = core.signing.clock().stood() {
            end(finding);
            break;
        }
        remember(&core, &mut remembered).await;
        core.workloads.sweep(core.now().as_millis());
        if count.is_multiple_of(IDLE) {
            let closing = Arc::clone(&core);
            // Nothing here waits for it.
            drop(tokio::task::spawn_blocking(move || {
                closing.mirrors.close_idle()
            }));
        }
        crate::revoke::record_waiting(&core).await;
        let step = async {
            if core.signing.check().is_ok() {
                crate::attesting::sweep(&core).await;
                for node in crate::enforcing::lapsed(&core) {
                    crate::enforcing::judge(&core, &node).await?;
                }
                // Before what a full disk may refuse: it needs no room there.
                revocation_lists(&core).await?;
                // First: it is issued on a full disk as well, and nobody connects without it.
                if !presented || own_is_due(&core) {
                    own_svid(&core, &own, &server_key).await?;
                    presented = true;
                }
                if count.is_multiple_of(ROTATION) {
                    rotate(&core).await?;
                }
                if count.is_multiple_of(core.config.limits.refusal_window_s.max(1)) {
                    record_refusals(&core).await?;
                }
                crate::attesting::record_passed(&core, false).await?;
            }
            Ok::<(), Refusal>(())
        };
        if let Err(refusal) = step.await {
            tracing::warn!(%refusal, "upkeep: trying again");
        }
        // Generations begin and end by the clock.
        if core.signing.check().is_ok()
            && count.is_multiple_of(ROTATION)
            && let Err(refusal) = crate::seals::refresh(&core).await
        {
            tracing::warn!(%refusal, "boots are not approved yet");
        }
    }
    if core.signing.check().is_ok()
        && let Err(refusal) = record_refusals(&core).await
    {
        tracing::warn!(%refusal, "the last refusals are not recorded");
    }
    if core.signing.check().is_ok()
        && let Err(refusal) = crate::attesting::record_passed(&core, true).await
    {
        tracing::warn!(%refusal, "the last answers of machines are not recorded");
    }
    remember(&core, &mut remembered).await;
}

/// Says once when the clock goes wrong, and when it is right again.
fn look_at_clock(core: &Core, wrong: &mut bool) {
    let checked = core.signing.clock().check();
    if checked.is_err() != *wrong {
        *wrong = checked.is_err();
        match checked {
            Err(finding) => tracing::error!(%finding, "refusing to sign"),
            Ok(_) => tracing::info!("the clock is right again: signing goes on"),
        }
        let blocked = core.signing.check().is_err();
        core.metrics.blocked.set(i64::from(blocked));
    }
}

/// Keeps the newest published head beside the ledger's key. Not while we are behind the one kept.
async fn remember(core: &Arc<Core>, remembered: &mut u64) {
    let newest = core.journal.reader().head();
    let size = newest.checkpoint.size;
    if size == *remembered || core.signing.check().is_err() {
        return;
    }
    let keeping = Arc::clone(core);
    let written = tokio::task::spawn_blocking(move || {
        let root = &newest.checkpoint.root;
        keeping.head.advance(size, root, &keeping.signing)
    });
    match written.await {
        Ok(Ok(true)) => *remembered = size,
        Ok(Ok(false)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the newest head is not remembered"),
        Err(error) => tracing::warn!(%error, "the newest head is not remembered"),
    }
}

/// Past half of its life, or gone, or of a time that has not come: made by a clock that was ahead.
fn own_is_due(core: &Core) -> bool {
    let state = core.state();
    let newest = state
        .svids_of(core.authority.server_id().as_str())
        .filter(|svid| state.stands(svid))
        .max_by_key(|svid| svid.index);
    let now = core.now().as_millis();
    newest.is_none_or(|svid| {
        let half = svid.not_before.midpoint(svid.not_after);
        !(svid.not_before..half).contains(&now)
    })
}

/// Issues the server's own SVID, like any other, and presents it.
pub(crate) async fn own_svid(
    core: &Arc<Core>,
    own: &Arc<OwnSvid>,
    server_key: &Arc<dyn Signer>,
) -> Result<(), Refusal> {
    // Whoever waits for an SVID before keys are rotated waits for ever where nothing signs one.
    if core.signing.check().is_ok() && !core.authority.signs(core.now()) {
        rotate(core).await?;
    }
    let id = core.authority.server_id().clone();
    let facts = Arc::new(Affirmed::default());
    let order = Order {
        what: What::X509 {
            public_key: server_key.public_key().clone(),
            dns_names: Vec::new(),
        },
        term: Term::Node,
        basis: Arc::new(Basis {
            node: String::new(),
            verdict: 0,
            evidence_time: core.now().as_millis(),
            commit: core.commit(&facts).await?,
            facts,
            estate: None,
            actor: id.to_string(),
            auth: "self".to_owned(),
        }),
        policies: Vec::new(),
        visible: Vec::new(),
        replaces: None,
        claim: None,
        spiffe_id: id,
    };
    let issued = issue_own(core, order).await?;
    let Signed::X509(chain) = issued.body else {
        return Ok(());
    };
    let kept = serde_json::to_vec(
        &chain
            .iter()
            .map(|der| Base64(der.clone()))
            .collect::<Vec<_>>(),
    )
    .map_err(|error| Refusal::internal("keeping the server's SVID", &error))?;
    let path = core.config.custody.ledger.dir().join(LAST_SVID);
    let written = tokio::task::spawn_blocking(move || replace(&path, &kept)).await;
    if !matches!(written, Ok(Ok(()))) {
        tracing::warn!(
            "the server's SVID is not kept: were it blocked at its next start, it had none"
        );
    }
    own.set(chain, Arc::clone(server_key))
        .map_err(|error| Refusal::internal("presenting the server's SVID", &error))
}

/// Presents the SVID that an earlier run issued, recorded and kept: a server that signs nothing can issue
/// none, and gateways still have to reach it. One that has ended serves nobody, and is refused by them.
pub(crate) fn last_svid(core: &Core, own: &OwnSvid, server_key: &Arc<dyn Signer>) {
    let path = core.config.custody.ledger.dir().join(LAST_SVID);
    let kept = std::fs::read(path).ok();
    let kept: Option<Vec<Base64>> = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(kept) = kept else {
        return;
    };
    let chain = kept.into_iter().map(|der| der.0).collect();
    if let Err(error) = own.set(chain, Arc::clone(server_key)) {
        tracing::warn!(%error, "the SVID of the last run cannot be presented");
    }
}

/// Replaces keys whose time has come: recorded, then in force, then told.
async fn rotate(core: &Arc<Core>) -> Result<(), Refusal> {
    let rotating = Arc::clone(core);
    let (now, settled) = (core.now(), Timestamp::from_millis(core.state().clock()));
    let next = tokio::task::spawn_blocking(move || rotating.authority.rotation(now, settled))
        .await
        .map_err(|error| Refusal::internal("rotating keys", &error))?
        .map_err(|error| Refusal::internal("rotating keys", &error))?;
    let Some(next) = next else {
        return Ok(());
    };
    let bytes = crate::start::document_bytes(&next)
        .map_err(|error| Refusal::internal("rotating keys", &error))?;
    let blob = core.put_blob(bytes).await?;
    let old = core.authority.document();
    let rotations = authority::rotation_records(core.authority.custody(), Some(&old), &next)
        .map_err(|error| Refusal::internal("rotating keys", &error))?;
    let mut drafts = Vec::new();
    for rotation in rotations {
        drafts.push(core.by_server(rotation)?);
    }
    drafts.push(core.by_server(authority::bundle_record(&next, blob))?);
    core.append(drafts).await?;
    tracing::info!(sequence = next.sequence, "keys rotated");
    let installing = Arc::clone(core);
    tokio::task::spawn_blocking(move || installing.authority.install(next))
        .await
        .map_err(|error| Refusal::internal("taking up new keys", &error))?
        .map_err(|error| Refusal::internal("taking up new keys", &error))?;
    crate::crl::refresh(core).await?;
    core.workloads.broadcast(&NodeUpdate {
        update: Some(node_update::Update::Bundle(core.bundle())),
    });
    Ok(())
}

/// Node agents get the bundle again with each new list.
async fn revocation_lists(core: &Arc<Core>) -> Result<(), Refusal> {
    if crate::crl::refresh(core).await? {
        core.workloads.broadcast(&NodeUpdate {
            update: Some(node_update::Update::Bundle(core.bundle())),
        });
    }
    Ok(())
}

/// One record for all refusals of a kind since the last time.
async fn record_refusals(core: &Arc<Core>) -> Result<(), Refusal> {
    let (joins, further) = core
        .joins
        .refusals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let (assumes, others) = core
        .assume_refusals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if further + others > 0 {
        tracing::warn!(
            further,
            others,
            "refusals of too many kinds: not recorded one by one"
        );
    }
    let mut drafts = Vec::new();
    for counted in joins {
        let body = body::JoinRefused {
            method: counted.kind.to_owned(),
            peer: None,
            findings: vec![recorded(&counted.finding)],
            count: Decimal(counted.count),
        };
        drafts.push(core.by_server(body.record())?);
    }
    for counted in assumes {
        let (node, spiffe_id, _seen) = counted.kind;
        let verdict = core.state().node(&node).map(|node| Decimal(node.verdict));
        let body = body::AssumeRefused {
            spiffe_id: Some(spiffe_id),
            node,
            verdict,
            findings: vec![recorded(&counted.finding)],
            policies: Vec::new(),
            facts_blob: None,
            count: Decimal(counted.count),
        };
        drafts.push(draft(
            body.record()
                .actor(core.authority.server_id().as_str(), "self"),
        )?);
    }
    if !drafts.is_empty() {
        core.append(drafts).await?;
    }
    Ok(())
}
