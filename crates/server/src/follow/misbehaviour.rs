//! A gateway whose key signed what cannot be of one ledger that only grows: it is cut off, and the two notes are kept
//! in the record that says so, in the commit of the revocation. Old notes are public, and several machines may have one
//! identity: what proves nothing by itself counts only where it was seen here, or where the machine that anchored the
//! ledger says it. Of a key that was replaced the owner has no use: what it signs is held against the machine that shows
//! it.

use crate::core::Core;
use crate::refusal::Refusal;
use crate::revoke::{self, Revocation};
use facts::Finding;
use ledger::body::{self, BlobRef, Body as _, SignedHead, TargetKind};
use ledger::misbehaviour::{self, Misbehaviour};
use ledger::{Base64, Checkpoint, Decimal, Digest, HexDigest, LedgerKey};
use std::sync::Arc;
use store::SvidRow;

/// What was signed first and kept, and what was presented after it.
pub(super) struct Notes {
    pub(super) first: String,
    pub(super) second: String,
    /// The records that are kept here show that these two are of different histories.
    pub(super) seen: bool,
}

/// Revokes the gateway if the notes show misbehaviour: its identity, or its machine where others have the identity
/// too. `refused` is what it is told; where it is cut off, that stands in it.
pub(super) async fn cut_off(
    core: &Arc<Core>,
    svid: &Arc<SvidRow>,
    key: &LedgerKey,
    notes: Notes,
    refused: Finding,
) -> Refusal {
    // What a former key signed is held against that key.
    let key = &key.bare();
    let evidence = |note: &str| misbehaviour::evidence(key, note);
    let notes = Notes {
        first: evidence(&notes.first),
        second: evidence(&notes.second),
        seen: notes.seen,
    };
    let judged = misbehaviour::judge(key, &notes.first, &notes.second, &[]);
    let (kind, [older, newer]) = match judged {
        Ok(judged) => judged,
        // Nothing that could be shown to anybody: it is refused, no more.
        Err(error) => {
            tracing::warn!(%error, gateway = svid.spiffe_id, "refused, and not cut off");
            return Refusal::Denied(refused);
        }
    };
    let owner = anchored_by(core, key.origin().as_str()).await;
    // INVARIANT: whoever has an old note of a ledger, and an identity that its gateway shares, cuts nobody off.
    let own = owner.as_ref() == Some(&svid.node);
    if !(kind.proves_itself() || notes.seen || own) {
        tracing::warn!(
            gateway = svid.spiffe_id, node = svid.node, origin = %key.origin(), %kind,
            "refused, and not cut off: another machine may have signed it, long ago"
        );
        return Refusal::Denied(refused);
    }
    tracing::error!(
        gateway = svid.spiffe_id, node = svid.node, origin = %key.origin(), %kind,
        "a gateway's key signed two histories: it is cut off"
    );
    let of = |kind_of_target, value: &str| Revocation {
        kind: kind_of_target,
        value: value.to_owned(),
        reason: format!("LEDGER-MISBEHAVIOUR: {kind} of {}", key.origin()),
        by: core.authority.server_id().to_string(),
        auth: "self",
    };
    let (revocation, more) = if !own && is_replaced(core, key) {
        // INVARIANT: a thief of a key that was replaced cuts off nobody but himself.
        (of(TargetKind::Machine, &svid.node), None)
    } else if is_shared(core, svid) {
        let anchored = owner.filter(|node| *node != svid.node);
        let more = anchored.map(|node| of(TargetKind::Machine, &node));
        (of(TargetKind::Machine, &svid.node), more)
    } else {
        (of(TargetKind::Identity, &svid.spiffe_id), None)
    };
    let known = {
        let state = core.state();
        !state.stands(svid) || core.unrecorded.covers(svid)
    };
    // INVARIANT: it is told once the cut has been made, and one that is cut off already is recorded once.
    if !known {
        let mut detail = refused.observed.clone().unwrap_or_default();
        detail.push_str(&whence(core, svid, kind, key.origin().as_str()).await);
        let body = body::Misbehaviour {
            origin: key.origin().to_string(),
            ledger_key: Base64(key.public_key().spki_der().to_vec()),
            by: svid.spiffe_id.clone(),
            kind: kind.as_str().to_owned(),
            proved: kind.proves_itself(),
            first: signed(&older, &notes.first),
            second: signed(&newer, &notes.second),
            detail,
        };
        let (core, notes) = (Arc::clone(core), notes);
        // Whoever presented it may go away in between.
        let recording =
            tokio::spawn(async move { record(&core, body, notes, revocation, more).await });
        match recording.await {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => tracing::error!(%refusal, "cut off, and not recorded"),
            Err(error) => tracing::error!(%error, "cut off, and not recorded"),
        }
    }
    Refusal::Denied(refused.next(format!(
        "{kind}: this gateway is revoked, and both notes are kept: `trilith ledger search --type misbehaviour`. \
         Look at its machine before anything is restored"
    )))
}

/// From which machine this came, and the link that it is held against: of two, whoever looks at them knows which has
/// sent what. For the record; the one that is cut off is not told where the other is.
async fn whence(core: &Arc<Core>, svid: &SvidRow, kind: Misbehaviour, origin: &str) -> String {
    let shown = format!("; shown by machine {}", svid.node);
    if !matches!(kind, Misbehaviour::Ended | Misbehaviour::Succession) {
        return shown;
    }
    let recorded = core.state().gateway_links(origin).into_iter();
    let Some(index) = recorded.map(|(index, _)| index).max() else {
        return match core.mirrors.led_on_by(origin) {
            Some(node) => {
                format!("{shown}; the link came from machine {node}, and no anchor rests on it")
            }
            None => shown,
        };
    };
    match sent_by(core, index).await {
        Some(node) => format!("{shown}; the link of record {index} came from machine {node}"),
        None => format!("{shown}; record {index} has the link, and by which SVID it came"),
    }
}

/// The machine that the newest anchor of the ledger came from; `None` once the SVID that it came by has expired.
async fn anchored_by(core: &Arc<Core>, origin: &str) -> Option<String> {
    let at = core.state().gateway(origin)?.anchor;
    sent_by(core, at).await
}

/// The machine by whose SVID a record came about; `None` once that has expired.
async fn sent_by(core: &Arc<Core>, at: u64) -> Option<String> {
    let reading = Arc::clone(core);
    let read = tokio::task::spawn_blocking(move || reading.journal.reader().record(at));
    let record = read.await.ok()?.ok()?;
    let serial = record.auth().strip_prefix("x509:")?;
    core.state().svid(serial).map(|row| row.node.clone())
}

/// Whether the ledger has gone on under another key, as this server's ledger tells.
fn is_replaced(core: &Core, key: &LedgerKey) -> bool {
    let newest = core.state().gateway_key(key.origin().as_str());
    newest.is_some_and(|newest| newest.replaced(key.public_key()))
}

/// Whether other machines have the identity too.
fn is_shared(core: &Core, svid: &SvidRow) -> bool {
    let state = core.state();
    let mut held = state.svids_of(&svid.spiffe_id);
    held.any(|row| row.node != svid.node && state.stands(row))
}

fn signed(head: &Checkpoint, note: &str) -> SignedHead {
    SignedHead {
        size: Decimal(head.size),
        root: Digest(head.root),
        note: BlobRef {
            sha256: HexDigest::of(note.as_bytes()),
            length: Decimal(u64::try_from(note.len()).unwrap_or(u64::MAX)),
        },
    }
}

async fn record(
    core: &Arc<Core>,
    body: body::Misbehaviour,
    notes: Notes,
    revocation: Revocation,
    more: Option<Revocation>,
) -> Result<(), Refusal> {
    for revocation in more.iter().chain([&revocation]) {
        revoke::cut_now(core, revocation);
    }
    let named = [&notes.first, &notes.second].map(|note| HexDigest::of(note.as_bytes()));
    let _naming = crate::erase::naming(core, named.to_vec()).await;
    // What a full disk does not take is missing in packs, which say so; the digests stand in the record.
    if let Err(refusal) = core
        .put_blobs(vec![notes.first.into_bytes(), notes.second.into_bytes()])
        .await
    {
        tracing::error!(%refusal, "the two notes are not kept");
    }
    let record = core.by_server(body.record())?;
    revoke::with(core, vec![record], revocation).await?;
    if let Some(more) = more {
        revoke::revoke(core, more).await?;
    }
    Ok(())
}
