//! A gateway whose key signed what cannot be of one ledger that only grows: it is cut off, and the two notes are kept
//! in the record that says so, in the commit of the revocation.

use crate::core::Core;
use crate::refusal::Refusal;
use crate::revoke::{self, Revocation};
use facts::Finding;
use ledger::body::{self, BlobRef, Body as _, SignedHead, TargetKind};
use ledger::{Base64, Checkpoint, Decimal, Digest, HexDigest, LedgerKey, misbehaviour};
use std::sync::Arc;
use store::SvidRow;

/// What was signed first and kept, and what was presented after it.
pub(super) struct Notes {
    pub(super) first: String,
    pub(super) second: String,
}

/// Revokes the gateway's identity if the notes show misbehaviour. `refused` is what it is told; where it is cut off,
/// that stands in it.
pub(super) async fn cut_off(
    core: &Arc<Core>,
    svid: &Arc<SvidRow>,
    key: &LedgerKey,
    notes: Notes,
    refused: Finding,
) -> Refusal {
    let evidence = |note: &str| misbehaviour::evidence(key, note);
    let notes = Notes {
        first: evidence(&notes.first),
        second: evidence(&notes.second),
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
    tracing::error!(
        gateway = svid.spiffe_id, origin = %key.origin(), %kind,
        "a gateway's key signed two histories: it is cut off"
    );
    let revocation = Revocation {
        kind: TargetKind::Identity,
        value: svid.spiffe_id.clone(),
        reason: format!("LEDGER-MISBEHAVIOUR: {kind} of {}", key.origin()),
        by: core.authority.server_id().to_string(),
        auth: "self",
    };
    let known = {
        let state = core.state();
        !state.stands(svid) || core.unrecorded.covers(svid)
    };
    // INVARIANT: it is told once the cut has been made, and one that is cut off already is recorded once.
    if !known {
        let body = body::Misbehaviour {
            origin: key.origin().to_string(),
            ledger_key: Base64(key.public_key().spki_der().to_vec()),
            by: svid.spiffe_id.clone(),
            kind: kind.as_str().to_owned(),
            proved: kind.proves_itself(),
            first: signed(&older, &notes.first),
            second: signed(&newer, &notes.second),
            detail: refused.observed.clone().unwrap_or_default(),
        };
        let (core, notes) = (Arc::clone(core), notes);
        // Whoever presented it may go away in between.
        let recording = tokio::spawn(async move { record(&core, body, notes, revocation).await });
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
) -> Result<(), Refusal> {
    revoke::cut_now(core, &revocation);
    // What a full disk does not take is missing in packs, which say so; the digests stand in the record.
    if let Err(refusal) = core
        .put_blobs(vec![notes.first.into_bytes(), notes.second.into_bytes()])
        .await
    {
        tracing::error!(%refusal, "the two notes are not kept");
    }
    let record = core.by_server(body.record())?;
    revoke::with(core, vec![record], revocation)
        .await
        .map(|_| ())
}
