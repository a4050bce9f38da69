//! Joining by TPM: a challenge, an answer, a verdict. What is proved, and what not, is said in
//! `attest_tpm::join`; here are the sessions between the two messages and what is recorded.

mod placed;
mod prove;

pub(crate) use placed::{placed, references};
pub(crate) use prove::{Evidence, Proved, prove};

use super::{Admission, SESSION_S, admit_node, chip, no_challenge, read_join_state, verdict_body};
use crate::attesting::{self, PCRS};
use crate::core::{Core, draft};
use crate::listener::Peer;
use crate::lock::{Kept, Place, dead, lock, may_join, place};
use crate::refusal::Refusal;
use attest_tpm::continuous::Standing;
use attest_tpm::join::{Anchor, Chip, Entropy};
use attest_tpm::{Challenged, Counted, JoinRequest, SigningKey};
use crypto::SecretBytes;
use facts::{Affirmed, Finding, Timestamp, Verdict};
use ledger::body::Body as _;
use proto::v1;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

/// What a machine may present in one field; an event log may have more.
const LONGEST_FIELD: usize = 16 * 1024;
/// A name, a number and a MAC.
const LONGEST_STATE: usize = 4096;

/// Challenges that wait for their answer. Each is for one answer on one connection.
#[derive(Default)]
pub(crate) struct Sessions {
    open: HashMap<[u8; 32], Session>,
}

struct Session {
    request: JoinRequest,
    asked: Challenged,
    secret: SecretBytes,
    until: Timestamp,
    /// Size of the ledger when it was begun.
    size: u64,
    /// Begun by a node that has shown its SVID.
    member: bool,
    /// What the machine had shown when it was begun: what its chip signs for this challenge is later.
    shown: Shown,
}

/// What a machine had shown last, and of which chip; and what its chip has counted last, whatever machine it
/// was of.
#[derive(Clone)]
pub(crate) struct Shown {
    standing: Option<(Arc<Standing>, Arc<Affirmed>)>,
    recorded: Option<(String, Counted)>,
}

impl Shown {
    fn of(core: &Core, name: Option<&str>, request: &JoinRequest) -> Self {
        let standing = || {
            let standing = attesting::shown(core, name?)?;
            let node = core.state().node(name?).cloned()?;
            let facts = core.machine_facts(&node).ok()?;
            Some((standing, facts))
        };
        let recorded = || {
            let chip = chip::hex(&chip_of(request)?);
            let counted = core.state().counted(&chip)?;
            Some((chip, counted))
        };
        Self {
            standing: standing(),
            recorded: recorded(),
        }
    }

    /// What `chip` had counted, whichever of its keys attested it.
    fn counted(&self, chip: &Chip) -> impl Iterator<Item = Counted> {
        let standing = self.standing.as_ref();
        let standing = standing.filter(|(_, facts)| chip::is_of(facts, chip));
        let recorded = self.recorded.as_ref();
        let recorded = recorded.filter(|(known, _)| *known == chip::hex(chip));
        standing
            .map(|(standing, _)| standing.counted())
            .into_iter()
            .chain(recorded.map(|(_, counted)| *counted))
    }
}

pub(super) async fn challenge(
    core: &Arc<Core>,
    peer: &Peer,
    request: v1::TpmChallengeRequest,
) -> Result<v1::TpmChallenge, Refusal> {
    let request = JoinRequest {
        ek_public: request.ek_public,
        ek_certificate: request.ek_certificate,
        ak_public: request.ak_public,
        ak_certificate: request.ak_certificate,
        identity_public: request.identity_public,
    };
    let fields = [
        &request.ek_public,
        &request.ek_certificate,
        &request.ak_public,
        &request.ak_certificate,
        &request.identity_public,
    ];
    if fields.iter().any(|field| field.len() > LONGEST_FIELD) {
        return Err(Refusal::Invalid(
            Finding::new("TPM-STRUCTURE", "a field of the join is too long")
                .expected(format!("at most {LONGEST_FIELD} bytes")),
        ));
    }
    let member = super::member(core, peer);
    room(core, member.is_some())?;
    let name = member.clone().or_else(|| called(core, &request));
    let shown = Shown::of(core, name.as_deref(), &request);
    let head = core.journal.reader().head();
    let checkpoint = head.note.as_ref().to_owned();
    let secret = crypto::random::<32>();
    let entropy = Entropy {
        nonce: crypto::random(),
        secret: SecretBytes::new(secret.to_vec()),
        seed: SecretBytes::new(crypto::random::<32>().to_vec()),
    };
    let asked = request.clone();
    let challenge = core
        .pool
        .run(move || attest_tpm::join::challenge(&asked, &checkpoint, PCRS, &entropy))
        .await
        .map_err(|error| Refusal::internal("making a challenge", &error))?
        .map_err(first)?;
    let id = crypto::random::<32>();
    let session = Session {
        request,
        asked: Challenged {
            checkpoint: challenge.nonce_checkpoint.clone(),
            random: challenge.nonce_random,
            server_key: core.server_spki.clone(),
            exporter: peer.exporter,
        },
        secret: SecretBytes::new(secret.to_vec()),
        until: core.now().plus_secs(SESSION_S),
        size: head.checkpoint.size,
        member: member.is_some(),
        shown,
    };
    sessions(core).open.insert(id, session);
    Ok(v1::TpmChallenge {
        session: id.to_vec(),
        credential_blob: challenge.credential_blob,
        encrypted_secret: challenge.encrypted_secret,
        nonce: challenge.nonce.to_vec(),
        nonce_random: challenge.nonce_random.to_vec(),
        nonce_checkpoint: challenge.nonce_checkpoint,
        pcrs: challenge.pcrs,
    })
}

/// What the machine is called that asks for a challenge, as far as its keys alone say.
fn called(core: &Core, request: &JoinRequest) -> Option<String> {
    let current = core.current.load_full()?;
    Some(placed(&current.estate, &chip_of(request)?, None).0)
}

/// The chip whose keys these are, if it has them.
fn chip_of(request: &JoinRequest) -> Option<Chip> {
    let key = SigningKey::attestation(&request.ak_public).ok()?;
    Some(Anchor::read(request).ok()?.chip(&key))
}

pub(super) async fn join(
    core: &Arc<Core>,
    peer: &Peer,
    request: v1::TpmFinishRequest,
) -> Result<v1::Joined, Refusal> {
    let (state, renewal_id) = (request.join_state.clone(), request.renewal_id.clone());
    if state.len() > LONGEST_STATE || renewal_id.len() > 64 {
        return Err(Refusal::Invalid(
            Finding::new("TPM-STRUCTURE", "a field of the join is too long")
                .expected(format!("at most {LONGEST_STATE} bytes of join state")),
        ));
    }
    let evidence = prove(core, peer, request).await?;
    let _joining = core.busy(format!("node {}", evidence.name))?;
    // Nobody counts on a state that this server did not give out: it could have been left out as well.
    let (renewal, repeats) = match read_join_state(core, &state) {
        Some((name, generation)) => {
            let kept = Kept {
                join_state: &state,
                generation,
                renewal: crypto::sha256(&renewal_id),
            };
            let repeats = kept_state(core, &evidence, &name, &kept).await?;
            (kept.renewal, repeats)
        }
        None => ([0; 32], false),
    };
    let (proved, counted) = (evidence.standing(), evidence.counted());
    let name = evidence.name.clone();
    let admission = Admission {
        name: evidence.name,
        key: evidence.proven.session_key,
        verdict: evidence.verdict,
        renewal,
        repeats,
        before: Vec::new(),
        how: "joined",
        replaces: None,
        auth: auth(&evidence.proven.chip),
        begun: evidence.begun,
        counted,
        estate: Some(evidence.estate),
    };
    let joined = admit_node(core, admission).await?;
    evidence.naming.recorded().await;
    attesting::stands(core, &name, proved);
    Ok(joined)
}

/// A machine that joins again brings the state that it has kept: true if it does so because the answer was
/// lost. One that another machine has, or has gone on from, was copied.
async fn kept_state(
    core: &Arc<Core>,
    evidence: &Evidence,
    name: &str,
    kept: &Kept<'_>,
) -> Result<bool, Refusal> {
    let Some(node) = core.state().node(name).cloned() else {
        return Ok(false);
    };
    let facts = core.machine_facts(&node)?;
    match chip::fact(&facts) {
        // Left over from before a readmission: whoever has it locks nobody with it, however often they come.
        Some(_)
            if name != evidence.name
                && !chip::is_of(&facts, &evidence.proven.chip)
                && node.dead.is_some_and(|dead| kept.generation <= dead) =>
        {
            return Err(dead(&node));
        }
        // The estate may mean one machine by several of its keys.
        Some(_) if name != evidence.name && !chip::is_of(&facts, &evidence.proven.chip) => {
            let seen = format!("the state of {name} came from the TPM of {}", evidence.name);
            if node.locked.is_none() {
                lock(core, &node, kept.generation, &seen).await;
            }
            let here = core.state().node(&evidence.name).cloned();
            if let Some(here) = here.filter(|here| here.locked.is_none()) {
                lock(core, &here, kept.generation, &seen).await;
            }
            return Err(Refusal::Denied(
                Finding::new(
                    "AGENT-STATE-LOCKED",
                    "this state was copied from another machine: both are locked",
                )
                .expected(format!("the TPM of {name}"))
                .observed(format!("the TPM of {}", evidence.name))
                .next(
                    "find out how it came here; then remove the agent's data directory on this \
                     machine, and readmit both: trilith agent readmit NODE --reason TEXT",
                ),
            ));
        }
        Some(_) if name == evidence.name => {}
        // The machine has another name now, or had joined without its TPM.
        Some(_) | None => return Ok(false),
    }
    may_join(&node)?;
    match place(core, &node, kept) {
        Place::Next => Ok(false),
        Place::Again => Ok(true),
        Place::Dead => Err(dead(&node)),
        Place::Passed => {
            let seen = "another machine went on from the state that this one joins with";
            Err(lock(core, &node, kept.generation, seen).await)
        }
    }
}

pub(crate) fn auth(chip: &Chip) -> String {
    format!("tpm:{}", chip::hex(chip).get(..16).unwrap_or_default())
}

/// Cuts a node that failed to prove itself again, and records why. The cut waits for no record.
pub(crate) async fn fail(core: &Arc<Core>, node: &str, finding: &Finding) -> Result<(), Refusal> {
    let reason = format!("{}: {}", finding.code, finding.message);
    crate::revoke::machine(core, node, &reason).await?;
    let id = core.node_id(node)?;
    let verdict = Verdict::refused(vec![finding.clone()], Vec::new());
    let record = verdict_body(id.as_str(), &verdict, None).record();
    let record = draft(record.actor(id.as_str(), "tpm"))?;
    // The revocation says why as well.
    if let Err(refusal) = core.append_one(record).await {
        tracing::error!(%refusal, node, "cut; the refused verdict is not recorded");
    }
    Ok(())
}

fn sessions(core: &Core) -> std::sync::MutexGuard<'_, Sessions> {
    core.joins
        .sessions
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Members and strangers have their places apart.
fn room(core: &Core, member: bool) -> Result<(), Refusal> {
    let now = core.now();
    let most = core.config.limits.join_sessions;
    let mut sessions = sessions(core);
    if sessions.open.len() >= most {
        sessions.open.retain(|_, session| session.until > now);
    }
    let alike = |session: &&Session| session.member == member;
    if sessions.open.len() < most || sessions.open.values().filter(alike).count() < most {
        return Ok(());
    }
    Err(Refusal::Limited(
        Finding::new(
            "JOIN-SESSIONS",
            "too many joins have been begun and not finished",
        )
        .next("wait a minute"),
    ))
}

/// Each session is for one answer.
fn take(core: &Core, id: &[u8], now: Timestamp) -> Result<Session, Refusal> {
    let session = <[u8; 32]>::try_from(id)
        .ok()
        .and_then(|id| sessions(core).open.remove(&id));
    session
        .filter(|session| session.until > now)
        .ok_or_else(no_challenge)
}

/// The first finding speaks for the refusal; the others stand in the log.
fn first(findings: Vec<Finding>) -> Refusal {
    for finding in findings.iter().skip(1) {
        tracing::info!(%finding, "also found");
    }
    let first = findings.into_iter().next();
    Refusal::Denied(
        first.unwrap_or_else(|| Finding::new("TPM-VERDICT", "the TPM was not affirmed")),
    )
}
