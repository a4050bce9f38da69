//! Recovery: the ledger goes on from a restored copy, by an administrator's word, and says so for good.

use super::{Admitted, act, reason};
use crate::core::{Core, draft};
use crate::refusal::Refusal;
use crate::signing::{Blocked, Foreign};
use facts::Finding;
use ledger::body::{self, Body as _};
use ledger::{Checkpoint, Decimal, Digest};
use proto::v1;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};

/// Goes on although a peer has seen more. What is given up is recorded for good, head by head, so that who
/// follows one of them can step over; the `start` of this run and the revocations that waited follow in the
/// same commit.
pub(super) async fn recover(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::RecoverRequest,
) -> Result<Value, Refusal> {
    let _alone = core.busy("recovery".to_owned())?;
    let Some(blocked) = core.signing.blocked() else {
        return Err(Refusal::Precondition(Finding::new(
            "SERVER-NOT-BEHIND",
            "no peer has seen a longer ledger: there is nothing to recover from",
        )));
    };
    in_place(core, &blocked)?;
    let finding = blocked.finding.clone();
    let reason = reason::whole(&request.reason)?;
    let (by, server) = (admitted.name(), core.authority.server_id().to_string());
    let stays = core.journal.reader().head();
    let mut drafts = Vec::new();
    // First, as of every run: from there the state judges the clock of what follows.
    let unstarted = unstarted(core).clone();
    if let Some(start) = &unstarted {
        drafts.push(draft(start.record().actor(&server, "self"))?);
    }
    drafts.push(act(admitted, &format!("recovery: {reason}"))?);
    let mut given_up = Vec::new();
    for head in blocked.heads() {
        given_up.push(json!({
            "size": head.size,
            "root": crypto::base64::encode(&head.root),
        }));
        let recovery = recovery(&head, &stays.checkpoint, &reason, &by);
        drafts.push(draft(recovery.record().actor(&by, admitted.auth))?);
    }
    let gap = body::Gap {
        cause: "recovery".to_owned(),
        from: core.state().clock(),
        to: core.now().as_millis(),
        lost: None,
        detail: format!("{reason}; {finding}").chars().take(2_048).collect(),
    };
    drafts.push(draft(gap.record().actor(&by, admitted.auth))?);
    let (keys, waiting): (Vec<_>, Vec<_>) = core.unrecorded.all().into_iter().unzip();
    let recorded = keys.len();
    drafts.extend(waiting);
    let entries = drafts.into_iter().map(Into::into).collect();
    let committed = core.journal.append_recovery(entries).await?;
    started(core);
    crate::revoke::are_recorded(core, keys).await?;
    // Heard meanwhile.
    refused_elsewhere(core)?;
    let began = crate::lineage::began(&core.ledger_key);
    let allowed = core.signing.allow(|head| {
        let state = core.state();
        state.recovered(head.size, &head.root).is_some()
            || state.given_up(head.size, began).is_some()
    });
    if !allowed {
        return Err(Refusal::Unavailable(
            Finding::new(
                "SERVER-BEHIND-AGAIN",
                "while the recovery was recorded a peer showed a longer ledger still",
            )
            .next("look at `trilith status`, then: trilith recover --reason TEXT"),
        ));
    }
    // Heard between the question and the answer: what was allowed is not.
    if let Err(refusal) = refused_elsewhere(core) {
        core.signing.block(refusal.finding().clone(), None);
        return Err(refusal);
    }
    core.metrics.blocked.set(0);
    // What was issued after the copy was made is not in this ledger: agents ask for all of it again.
    core.workloads.broadcast(&proto::v1::NodeUpdate {
        update: Some(proto::v1::node_update::Update::Reconsider(v1::Reconsider {
            workloads: Vec::new(),
            estate_index: 0,
        })),
    });
    crate::start::take_up(core).await;
    Ok(json!({
        "was": finding,
        "given_up": given_up,
        "goes_on_from": stays.checkpoint.size,
        "revocations_recorded": recorded,
        "index": committed.last().map(ledger_store::Committed::index),
    }))
}

/// Whether the ledger may go on under its own name and key. What witnesses have cosigned they never forget: they
/// would answer this origin with a conflict for ever, and whoever follows under them would be right to call it a fork.
/// `trilith server new-log` goes on under another name.
fn in_place(core: &Core, blocked: &Blocked) -> Result<(), Refusal> {
    refused_elsewhere(core)?;
    // Only a new log tells again of links whose records were lost: without them nobody comes from the first key here.
    let links = ledger::lineage::links(&core.ledger_key).len();
    let told = core.state().links().len();
    if told < links {
        return Err(Refusal::Precondition(
            Finding::new(
                "SERVER-LINEAGE-RECOVERY",
                "this copy of the ledger is from before it went on as a new log: it cannot go on from it under its own name",
            )
            .expected(format!("the records of {links} links between its logs"))
            .observed(format!("{told}, in {} records", core.journal.reader().size()))
            .next(
                "restore a newer copy of data_dir; where there is none, stop the server and go on as a new log: trilith \
                 server new-log --config FILE --give-up --reason TEXT",
            ),
        ));
    }
    let Some(witnesses) = &core.witnesses else {
        return Ok(());
    };
    // Nothing is given up: the head kept with the key could not be read, and no peer has shown another.
    let Some(lost) = blocked.heads().last() else {
        return Ok(());
    };
    let seen = witnesses.newest().map_or(0, |newest| newest.size);
    Err(Refusal::Precondition(
        Finding::new(
            "SERVER-WITNESSED-RECOVERY",
            "this ledger has witnesses: it cannot go on from an older copy under its own name",
        )
        .expected(format!("a copy with the {} records that were seen, or more", lost.size))
        .observed(format!(
            "{} records; {seen} under the cosigned checkpoint that is kept here",
            core.journal.reader().size()
        ))
        .next(
            "restore a newer copy of data_dir, or what a mirror keeps of it; where there is none, stop the server and go \
             on as a new log: trilith server new-log --config FILE --give-up --reason TEXT",
        ),
    ))
}

/// The ledger went on as a log that is not known here: what is here is not to go on.
fn refused_elsewhere(core: &Core) -> Result<(), Refusal> {
    match core.elsewhere.known(&core.ledger_key) {
        Ok(None) => Ok(()),
        Ok(Some(finding)) => Err(Refusal::Precondition(finding)),
        Err(error) => Err(Refusal::internal("reading beside the ledger's key", &error)),
    }
}

fn unstarted(core: &Core) -> std::sync::MutexGuard<'_, Option<body::Start>> {
    core.unstarted
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

fn started(core: &Core) {
    *unstarted(core) = None;
}

/// `head` is given up, and the ledger goes on from what `stays`.
pub(crate) fn recovery(
    head: &Foreign,
    stays: &Checkpoint,
    reason: &str,
    by: &str,
) -> body::Recovery {
    body::Recovery {
        old_size: Decimal(head.size),
        old_root: Digest(head.root),
        old_checkpoint: head.note.clone(),
        new_size: Decimal(stays.size),
        new_root: Digest(stays.root),
        reason: reason.to_owned(),
        by: by.to_owned(),
        obeyed: None,
    }
}
