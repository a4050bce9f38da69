//! After a new version of the estate: everything that lives is judged again.
//!
//! Workloads that agents have told of are judged by their facts. SVIDs whose workload nobody tells of,
//! because it ended or its agent has not come back since this server started, are judged by the facts
//! that they were issued on.

mod kept;

use super::update;
use crate::core::Core;
use crate::current::{Allowed, Current};
use crate::refusal::Refusal;
use crate::revoke::Revocation;
use crate::workloads::Workload;
use facts::Affirmed;
use kept::Kept;
use ledger::body::{self, Body as _, TargetKind};
use proto::v1::node_update::Update;
use proto::v1::{Cut, Reconsider, Withdrawn};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use store::SvidRow;

/// An SVID that is taken away.
pub(crate) struct Lost {
    pub(crate) node: String,
    pub(crate) spiffe_id: String,
    pub(crate) serial: String,
}

/// Cuts what `new` does not grant, and has agents ask again for what changed. Returns the number of
/// SVIDs revoked and of workloads to be reconsidered. Its end is recorded: a server that died before it
/// does it again when it starts.
pub(crate) async fn rejudge(
    core: &Arc<Core>,
    old: Option<Arc<Current>>,
    new: Arc<Current>,
) -> Result<(usize, usize), Refusal> {
    let before = old.clone();
    // `new` is in force: what comes into the ledger from here on is confirmed by it.
    let records = core.state().applied();
    // What follows may wait for the disk, or fail on it.
    if let Err(refusal) = crate::seals::withdraw(core).await {
        tracing::error!(%refusal, "boots that are withdrawn may still be told of");
    }
    // First: what machines enforce by the version before counts for a while.
    crate::enforcing::named_anew(core, before.as_deref(), &new);
    let (judging, version) = (Arc::clone(core), Arc::clone(&new));
    let Judged {
        refused,
        unread,
        changed,
    } = core
        .pool
        .run(move || judge(&judging, old.as_deref(), &version))
        .await
        .map_err(|error| Refusal::internal("judging again", &error))?;
    let reason = format!("estate {} does not grant it", new.version);
    let revoked = refused.len() + unread.len();
    withdraw(core, refused, &reason).await?;
    withdraw(core, unread, "what it rested on cannot be read").await?;
    crate::delegating::settle_by(core, before.clone(), Arc::clone(&new), records).await?;
    crate::attesting::judge_again(core, before, Arc::clone(&new)).await;
    if let Err(refusal) = crate::seals::refresh(core).await {
        // Upkeep tries again.
        tracing::warn!(%refusal, "boots are not approved yet");
    }
    let done = body::Admin {
        principal: core.authority.server_id().to_string(),
        action: "estate-judge".to_owned(),
        resource: format!("estate:{}", new.index),
        allow: true,
        policies: Vec::new(),
        detail: format!("{revoked} SVIDs revoked"),
    };
    core.append_one(core.by_server(done.record())?).await?;
    let mut count = 0;
    for (node, workloads) in changed {
        count += workloads.len();
        let reconsider = Reconsider {
            workloads,
            estate_index: new.index,
        };
        core.workloads
            .send(&node, update(Update::Reconsider(reconsider)));
    }
    Ok((revoked, count))
}

#[derive(Default)]
struct Judged {
    /// What the new version does not grant.
    refused: Vec<Lost>,
    /// What cannot be judged, because the facts that it was issued on are not there.
    unread: Vec<Lost>,
    /// Workloads that ask again, by node.
    changed: BTreeMap<String, Vec<String>>,
}

fn judge(core: &Core, old: Option<&Current>, new: &Current) -> Judged {
    let mut judged = Judged::default();
    let mut known = HashSet::new();
    let reissue = reissued(core, old, new);
    for (node, name, workload) in core.workloads.all() {
        judged.workload(core, new, (&node, &name, workload), &mut known, reissue);
    }
    if old.is_none_or(|old| !old.estate.assumes_as(&new.estate)) {
        let earlier = |svid: &SvidRow| svid.estate.is_some_and(|estate| estate < new.index);
        untold(core, new, &known, earlier, Kept::default(), &mut judged);
    }
    judged
}

/// What a version says to a workload.
struct Seen {
    facts: Arc<Affirmed>,
    /// Whether these are others than before.
    moved: bool,
    allowed: Arc<[Allowed]>,
    lost: Vec<Lost>,
}

/// What `new` says to what runs on `node`. Changes nothing.
fn seen(core: &Core, new: &Current, node: &str, workload: &Workload) -> Seen {
    let restated = crate::enforcing::restated(core, node, &workload.facts, new);
    let facts = match (new.known(&restated, core.now()).0, &restated) {
        (Cow::Borrowed(_), Cow::Borrowed(_)) => Arc::clone(&workload.facts),
        (placed, _) => Arc::new(placed.into_owned()),
    };
    let allowed = new.assumable(&facts);
    let mut lost = Vec::new();
    for held in &workload.held {
        let stands = {
            let state = core.state();
            state.svid(&held.serial).is_none_or(|row| state.stands(row))
        };
        // What was taken away before is not taken away again.
        if stands && allowed.iter().all(|identity| identity.path != held.path) {
            lost.push(Lost {
                node: node.to_owned(),
                spiffe_id: format!("spiffe://{}/{}", core.trust_domain, held.path),
                serial: held.serial.clone(),
            });
        }
    }
    Seen {
        moved: !Arc::ptr_eq(&facts, &workload.facts),
        facts,
        allowed,
        lost,
    }
}

impl Judged {
    /// Judges what runs on a node, by its name there.
    fn workload(
        &mut self,
        core: &Core,
        new: &Current,
        (node, name, workload): (&str, &str, Workload),
        known: &mut HashSet<String>,
        reissue: bool,
    ) {
        let Seen {
            facts,
            moved,
            allowed,
            lost,
        } = seen(core, new, node, &workload);
        known.extend(workload.held.iter().map(|held| held.serial.clone()));
        self.refused.extend(lost);
        if allowed != workload.allowed || moved || reissue {
            let changed = self.changed.entry(node.to_owned()).or_default();
            changed.push(name.to_owned());
            let held = workload.held;
            let workload = Workload {
                facts,
                held,
                allowed,
                answer: None,
            };
            core.workloads.set(node, name, workload);
        }
    }
}

/// A workload that a version would let become an identity, or not any more.
pub(crate) struct Moved {
    pub(crate) node: String,
    pub(crate) facts: Arc<Affirmed>,
    pub(crate) path: String,
}

/// What a version would do to what runs, if it were in force.
#[derive(Default)]
pub(crate) struct Tried {
    pub(crate) loses: Vec<Moved>,
    pub(crate) gains: Vec<Moved>,
    /// Serials of SVIDs that it would cut.
    pub(crate) cut: HashSet<String>,
}

/// Judges as [`rejudge`] would by `new`, and changes nothing. Reads the disk.
pub(crate) fn tried(core: &Core, old: &Current, new: &Current) -> Tried {
    let mut tried = Tried::default();
    let mut known = HashSet::new();
    for (node, _, workload) in core.workloads.all() {
        let seen = seen(core, new, &node, &workload);
        known.extend(workload.held.iter().map(|held| held.serial.clone()));
        tried
            .cut
            .extend(seen.lost.into_iter().map(|lost| lost.serial));
        let without = |these: &[Allowed], those: &[Allowed], facts: &Arc<Affirmed>| {
            let only = these
                .iter()
                .filter(|one| those.iter().all(|other| other.path != one.path));
            let moved = only.map(|one| Moved {
                node: node.clone(),
                facts: Arc::clone(facts),
                path: one.path.clone(),
            });
            moved.collect::<Vec<_>>()
        };
        let before = &workload.allowed;
        tried
            .loses
            .extend(without(before, &seen.allowed, &workload.facts));
        tried
            .gains
            .extend(without(&seen.allowed, before, &seen.facts));
    }
    if !old.estate.assumes_as(&new.estate) {
        let mut judged = Judged::default();
        let issued = |svid: &SvidRow| svid.estate.is_some();
        untold(core, new, &known, issued, Kept::default(), &mut judged);
        let lost = judged.refused.into_iter().chain(judged.unread);
        tried.cut.extend(lost.map(|lost| lost.serial));
    }
    tried
}

/// Cuts what the estate does not grant any more to workloads of `node`, of which something else is known now,
/// and has its agent ask again for what changed.
///
/// # Errors
/// What cannot be recorded. The cut has been made then.
pub(crate) async fn rejudge_node(
    core: &Arc<Core>,
    node: &str,
    reason: &str,
) -> Result<(), Refusal> {
    let Some(current) = core.current.load_full() else {
        return Ok(());
    };
    let estate_index = current.index;
    let (judging, name) = (Arc::clone(core), node.to_owned());
    let judged = core.pool.run(move || {
        let mut judged = Judged::default();
        let mut known = HashSet::new();
        for (workload_name, workload) in judging.workloads.all_of(&name) {
            // Of which nothing else is known now holds what it did.
            let restated = crate::enforcing::restated(&judging, &name, &workload.facts, &current);
            if matches!(restated, Cow::Borrowed(_)) {
                known.extend(workload.held.into_iter().map(|held| held.serial));
                continue;
            }
            let workload = (name.as_str(), workload_name.as_str(), workload);
            judged.workload(&judging, &current, workload, &mut known, false);
        }
        let of_it = |svid: &SvidRow| svid.node == name && svid.estate.is_some();
        let kept = Kept::by_machine();
        untold(&judging, &current, &known, of_it, kept, &mut judged);
        judged
    });
    let Judged {
        refused, changed, ..
    } = judged
        .await
        .map_err(|error| Refusal::internal("judging again", &error))?;
    withdraw(core, refused, reason).await?;
    for (node, workloads) in changed {
        let reconsider = Reconsider {
            workloads,
            estate_index,
        };
        core.workloads
            .send(&node, update(Update::Reconsider(reconsider)));
    }
    Ok(())
}

/// Whether what was issued before `new` is below its floor: everything is asked for again.
fn reissued(core: &Core, old: Option<&Current>, new: &Current) -> bool {
    let before = old.map_or(0, |old| old.index);
    core.state()
        .estate()
        .is_some_and(|row| row.index == new.index && row.floor > before)
}

/// Judges the SVIDs of workloads that nobody tells of.
fn untold(
    core: &Core,
    new: &Current,
    known: &HashSet<String>,
    concerned: impl Fn(&SvidRow) -> bool,
    mut kept: Kept,
    judged: &mut Judged,
) {
    let now = core.now().as_millis();
    // The state is not held while the disk is read.
    let untold: Vec<Arc<SvidRow>> = {
        let state = core.state();
        let untold = state.svids().filter(|svid| {
            let lives = svid.not_after > now && state.stands(svid);
            concerned(svid) && lives && !known.contains(&svid.serial)
        });
        untold.cloned().collect()
    };
    for svid in untold {
        let lost = match kept.grants(core, new, &svid) {
            Some(true) => continue,
            Some(false) => &mut judged.refused,
            None => &mut judged.unread,
        };
        lost.push(Lost {
            node: svid.node.clone(),
            spiffe_id: svid.spiffe_id.clone(),
            serial: svid.serial.clone(),
        });
    }
}

/// Gateways cut it, and its node hands it out no more.
pub(crate) fn cut(core: &Core, svid: &Lost, reason: &str) {
    core.hub.cut(of(svid, reason));
    let withdrawn = Withdrawn {
        spiffe_id: svid.spiffe_id.clone(),
        serial: svid.serial.clone(),
        reason: reason.to_owned(),
    };
    core.workloads
        .send(&svid.node, update(Update::Withdrawn(withdrawn)));
}

fn of(svid: &Lost, reason: &str) -> Cut {
    Cut {
        kind: "serial".to_owned(),
        value: svid.serial.clone(),
        reason: reason.to_owned(),
    }
}

/// Cuts first, then one commit of records, in the space that is kept back for them.
pub(crate) async fn withdraw(
    core: &Arc<Core>,
    lost: Vec<Lost>,
    reason: &str,
) -> Result<(), Refusal> {
    let by = core.authority.server_id().to_string();
    let mut revocations = Vec::with_capacity(lost.len());
    for svid in lost {
        cut(core, &svid, reason);
        revocations.push(Revocation {
            kind: TargetKind::Serial,
            value: svid.serial,
            reason: reason.to_owned(),
            by: by.clone(),
            auth: "self",
        });
    }
    for chunk in revocations.chunks(1_000) {
        let records = chunk.iter();
        let records = records.map(|revocation| crate::revoke::record(core, revocation));
        let entries = records.map(|record| record.map(Into::into));
        let entries: Result<Vec<_>, Refusal> = entries.collect();
        match core.journal.append_reserved(entries?).await {
            Ok(committed) => core
                .metrics
                .revocations
                .inc_by(u64::try_from(committed.len()).unwrap_or_default()),
            Err(failure) if failure.waits() => {
                for revocation in chunk {
                    crate::revoke::record_cut(core, revocation.clone()).await?;
                }
                0
            }
            Err(failure) => return Err(failure.into()),
        };
    }
    Ok(())
}
