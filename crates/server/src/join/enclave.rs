//! Joining as an enclave: a machine without a TPM, whose hardware signs what runs in it and the key that it made.
//!
//! A challenge, an answer over the same connection, a verdict. What the evidence is worth is said in `attest-tee`;
//! here are the sessions between the two messages, what the enclave is called, and what is recorded. Nothing that
//! arrives before the evidence is affirmed harms any machine: evidence names an enclave, and anybody may send some.

mod prove;

pub(crate) use prove::{Evidence, auth};

use super::{Admission, SESSION_S, admit_node, no_challenge, read_join_state};
use crate::core::Core;
use crate::evict::{evict, evict_by};
use crate::listener::Peer;
use crate::lock::{Kept, Place, dead, lock, may_join, place};
use crate::refusal::Refusal;
use attest_tpm::Challenged;
use facts::{FactSet, Finding, Timestamp, names};
use proto::v1;
use prove::{NotProved, prove};
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};

/// A name, a number and a MAC.
const LONGEST_STATE: usize = 4096;
const LONGEST_ID: usize = 64;

/// Challenges that wait for their answer. Each is for one answer on one connection.
#[derive(Default)]
pub(crate) struct Sessions {
    open: HashMap<[u8; 32], Session>,
}

struct Session {
    asked: Challenged,
    until: Timestamp,
    /// Size of the ledger when it was begun.
    size: u64,
    /// Begun by a node that has shown its SVID.
    member: bool,
}

pub(super) fn challenge(core: &Core, peer: &Peer) -> Result<v1::EnclaveChallenge, Refusal> {
    let member = super::member(core, peer).is_some();
    let head = core.journal.reader().head();
    let checkpoint = head.note.as_ref().to_owned();
    let random = crypto::random::<32>();
    let asked = Challenged {
        checkpoint: checkpoint.clone(),
        random,
        server_key: core.server_spki.clone(),
        exporter: peer.exporter,
    };
    let nonce = asked.nonce();
    let id = crypto::random::<32>();
    let session = Session {
        asked,
        until: core.now().plus_secs(SESSION_S),
        size: head.checkpoint.size,
        member,
    };
    begin(core, id, session)?;
    Ok(v1::EnclaveChallenge {
        session: id.to_vec(),
        nonce: nonce.to_vec(),
        nonce_random: random.to_vec(),
        nonce_checkpoint: checkpoint,
    })
}

fn sessions(core: &Core) -> MutexGuard<'_, Sessions> {
    core.joins
        .enclaves
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Members and strangers have their places apart.
fn begin(core: &Core, id: [u8; 32], session: Session) -> Result<(), Refusal> {
    let (now, most) = (core.now(), core.config.limits.join_sessions);
    let mut sessions = sessions(core);
    if sessions.open.len() >= most {
        sessions.open.retain(|_, session| session.until > now);
    }
    let alike = |one: &&Session| one.member == session.member;
    if sessions.open.len() >= most && sessions.open.values().filter(alike).count() >= most {
        return Err(Refusal::Limited(
            Finding::new(
                "JOIN-SESSIONS",
                "too many joins have been begun and not finished",
            )
            .next("wait a minute"),
        ));
    }
    sessions.open.insert(id, session);
    Ok(())
}

/// Each session is for one answer, over the connection that was asked.
fn take(core: &Core, peer: &Peer, id: &[u8], now: Timestamp) -> Result<Session, Refusal> {
    let session = <[u8; 32]>::try_from(id)
        .ok()
        .and_then(|id| sessions(core).open.remove(&id));
    let session = session
        .filter(|session| session.until > now)
        .ok_or_else(no_challenge)?;
    if session.asked.exporter == peer.exporter {
        return Ok(session);
    }
    Err(Refusal::Denied(
        Finding::new("JOIN-CHANNEL", "the answer came over another connection")
            .expected("the connection that the challenge was sent over")
            .next("join again, over one connection"),
    ))
}

pub(super) async fn join(
    core: &Arc<Core>,
    peer: &Peer,
    request: v1::EnclaveFinishRequest,
) -> Result<v1::Joined, Refusal> {
    let (state, renewal_id) = (request.join_state.clone(), request.renewal_id.clone());
    if state.len() > LONGEST_STATE || renewal_id.len() > LONGEST_ID {
        return Err(Refusal::Invalid(
            Finding::new("ENCLAVE-STRUCTURE", "a field of the join is too long")
                .expected(format!("at most {LONGEST_STATE} bytes of join state")),
        ));
    }
    let evidence = prove(core, peer, request).await?;
    let name = evidence.name.clone();
    let _joining = core.busy(format!("node {name}"))?;
    of_an_enclave(core, &name, &evidence.verdict.facts)?;
    // What names another machine, or was not given out here, says nothing of this one.
    let kept = read_join_state(core, &state).filter(|(known, _)| *known == name);
    let (renewal, repeats) = match kept {
        Some((_, generation)) => {
            let kept = Kept {
                join_state: &state,
                generation,
                renewal: crypto::sha256(&renewal_id),
            };
            (kept.renewal, goes_on(core, &name, &kept).await?)
        }
        None => ([0; 32], false),
    };
    let auth = auth(&evidence);
    let admission = Admission {
        name,
        key: evidence.key,
        verdict: evidence.verdict,
        renewal,
        repeats,
        before: Vec::new(),
        how: "joined",
        replaces: None,
        auth,
        begun: evidence.begun,
        counted: None,
        estate: Some(evidence.estate),
    };
    let joined = admit_node(core, admission).await?;
    evidence.naming.recorded().await;
    Ok(joined)
}

/// An enclave takes no other machine's name, nor that of an enclave of another kind or below another root: names of
/// roots and of modules may both have `-`.
fn of_an_enclave(core: &Core, name: &str, facts: &FactSet) -> Result<(), Refusal> {
    let Some(node) = core.state().node(name).cloned() else {
        return Ok(());
    };
    let known = core.machine_facts(&node)?;
    let alike = |fact| known.text(fact) == facts.text(fact);
    if known.text(names::MACHINE_JOIN) == Some("enclave")
        && alike(names::MACHINE_TEE_KIND)
        && alike(names::MACHINE_TEE_ROOT)
    {
        return Ok(());
    }
    Err(Refusal::Denied(
        Finding::new("ENCLAVE-NAME", "another machine has this name")
            .expected("no machine, or an enclave of the same kind below the same root")
            .observed(name.to_owned())
            .next("name that machine or the `tee_root` otherwise in the estate, or make its token for another name"),
    ))
}

/// An enclave that joins again with the state that it has kept: true if it does so because the answer was lost.
async fn goes_on(core: &Arc<Core>, name: &str, kept: &Kept<'_>) -> Result<bool, Refusal> {
    let Some(node) = core.state().node(name).cloned() else {
        return Ok(false);
    };
    may_join(&node)?;
    match place(core, &node, kept) {
        Place::Next => Ok(false),
        Place::Again => Ok(true),
        Place::Dead => Err(dead(&node)),
        Place::Passed => {
            let seen = "another went on from the state that this enclave joins with";
            Err(lock(core, &node, kept.generation, seen).await)
        }
    }
}

/// The node `name`, which has shown its SVID, proves itself again. Evidence that is bad is held against it; where
/// only endorsements lack, it is let on no more, and goes on until its SVID ends.
///
/// # Errors
/// What is wrong with the evidence. `ENCLAVE-OTHER`.
pub(crate) async fn again(
    core: &Arc<Core>,
    peer: &Peer,
    name: &str,
    request: v1::EnclaveFinishRequest,
) -> Result<Evidence, Refusal> {
    match prove(core, peer, request).await {
        Ok(evidence) if evidence.name == name => Ok(evidence),
        Ok(evidence) => {
            let finding = Finding::new("ENCLAVE-OTHER", "another enclave answered")
                .expected(name.to_owned())
                .observed(evidence.name)
                .next("let the node agent join anew in its own enclave");
            evict(core, name, vec![finding.clone()], Vec::new()).await?;
            Err(Refusal::Denied(finding))
        }
        Err(NotProved::Judged(refused, estate)) if refused.accuses() => {
            let (findings, blobs) = refused.into_parts();
            evict_by(core, name, findings.clone(), blobs, Some(estate)).await?;
            Err(prove::first(findings))
        }
        Err(other) => Err(other.into()),
    }
}
