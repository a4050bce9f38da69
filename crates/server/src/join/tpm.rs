//! Joining by TPM: a challenge, an answer, a verdict. What is proved, and what not, is said in
//! `attest_tpm::join`; here are the sessions between the two messages and what is recorded.

use super::tee::{self, Offered};
use super::{Admission, admit_node, chip, read_join_state, verdict_body};
use crate::attesting::{self, PCRS};
use crate::core::{Core, draft};
use crate::evict::{evict, is_evicted};
use crate::listener::Peer;
use crate::lock::{Kept, Place, dead, lock, may_join, place};
use crate::refusal::Refusal;
use appraise::{Asked, Presented};
use attest_tpm::ak::Instance;
use attest_tpm::continuous::Standing;
use attest_tpm::ima::Round;
use attest_tpm::join::{Boot, Chip, Entropy, JoinExpectation, Judgement, Proven};
use attest_tpm::{Authority, Channel, JoinAnswer, JoinEvidence, JoinRequest, References};
use crypto::SecretBytes;
use estate::{Certifies, Cloud, Estate, Machine};
use facts::{Finding, Outcome, Source, Timestamp, Value, Verdict, names};
use ledger::body::Body as _;
use proto::v1;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use store::NodeRow;

/// A session that is not answered in time is over.
const SESSION_S: u64 = 60;
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
    nonce: [u8; 32],
    secret: SecretBytes,
    exporter: [u8; 32],
    until: Timestamp,
    /// Size of the ledger when it was begun.
    size: u64,
    /// Begun by a node that has shown its SVID.
    member: bool,
}

/// A machine that proved itself, before it is decided what becomes of it.
pub(crate) struct Evidence {
    pub(crate) verdict: Verdict,
    pub(crate) proven: Proven,
    pub(crate) name: String,
    standing: Proved,
    /// Size of the ledger when the machine was challenged.
    pub(crate) begun: u64,
}

/// What a machine is compared with from now on.
#[derive(Debug, Clone)]
pub(crate) struct Proved {
    pub(crate) standing: Standing,
    /// What its list said.
    pub(crate) list: Option<Round>,
    /// Index of the estate's version that it was judged by.
    pub(crate) judged: u64,
}

impl Evidence {
    /// What the machine goes on from, once it is admitted.
    pub(crate) fn standing(&self) -> Proved {
        self.standing.clone()
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
    let member = super::member(core, peer).is_some();
    room(core, member)?;
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
        nonce: challenge.nonce,
        secret: SecretBytes::new(secret.to_vec()),
        exporter: peer.exporter,
        until: core.now().plus_secs(SESSION_S),
        size: head.checkpoint.size,
        member,
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
    let proved = evidence.standing();
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
    };
    let joined = admit_node(core, admission).await?;
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

/// Judges an answer and keeps its evidence. A refused verdict about a machine that is a node cuts it.
pub(crate) async fn prove(
    core: &Arc<Core>,
    peer: &Peer,
    request: v1::TpmFinishRequest,
) -> Result<Evidence, Refusal> {
    let now = core.now();
    let offered = Arc::new(Offered::of(request.tee)?);
    let session = take(core, &request.session, now)?;
    if session.exporter != peer.exporter {
        return Err(Refusal::Denied(
            Finding::new("JOIN-CHANNEL", "the answer came over another connection")
                .expected("the connection that the challenge was sent over")
                .next("join again, over one connection"),
        ));
    }
    let references = references(&core.estate()?.estate)?;
    let expectation = JoinExpectation {
        nonce: session.nonce,
        secret: session.secret,
        pcrs: PCRS.to_vec(),
        channel: Channel {
            trust_domain: core.trust_domain.to_string(),
            server_key: core.server_spki.clone(),
            exporter: peer.exporter.to_vec(),
        },
        now,
        previous: None,
        vouched: None,
    };
    let mut evidence = Arc::new(JoinEvidence {
        request: session.request,
        answer: JoinAnswer {
            activated_secret: request.activated_secret,
            quote: request.quote,
            quote_signature: request.quote_signature,
            certify: request.certify,
            certify_signature: request.certify_signature,
            pcr_values: request.pcr_values,
            event_log: request.event_log,
            ima_list: request.ima_list,
            session_key: request.session_key,
            session_key_proof: request.session_key_proof,
            vouch: request.vouch,
        },
    });
    let judged = Arc::clone(&evidence);
    let Judgement {
        mut verdict,
        proven,
    } = core
        .pool
        .run(move || attest_tpm::join::verify(&judged, &expectation, &references))
        .await
        .map_err(|error| Refusal::internal("verifying a TPM", &error))?;
    let Some(proven) = proven else {
        return Err(first(verdict.findings));
    };
    let (name, pool) = placed(
        &core.estate()?.estate,
        &proven.chip,
        proven.instance.as_ref(),
    );
    not_banned(core, &name, proven.instance.as_ref())?;
    super::not_overtaken(core, &name, session.size)?;
    let (current, ring) = (core.estate()?, pool.clone().unwrap_or_default());
    let (version, sent) = (current.index, Arc::clone(&evidence));
    let (nonce, judging) = (session.nonce, Arc::clone(core));
    let hardware_again = {
        let (core, offered) = (Arc::clone(core), Arc::clone(&offered));
        let (current, ring) = (Arc::clone(&current), ring.clone());
        let attestation_key = proven.attestation_key.clone();
        move || {
            let question = tee::Question {
                attestation_key: &attestation_key,
                nonce,
                now,
            };
            let at_hand = &core.endorsements;
            tee::judge(
                Option::as_ref(&offered),
                &question,
                &current,
                &ring,
                at_hand,
            )
        }
    };
    let judged = core.pool.run(move || {
        let demands = current.demands(&ring);
        let asked = Asked {
            values: &current.estate.references().values,
            demands: &demands,
            ring: &ring,
            now,
        };
        let presented = Presented::by_join(&proven, &sent.answer.ima_list);
        let judged = appraise::judge(&presented, &asked);
        let question = tee::Question {
            attestation_key: &proven.attestation_key,
            nonce,
            now,
        };
        let at_hand = &judging.endorsements;
        let hardware = tee::judge(
            Option::as_ref(&offered),
            &question,
            &current,
            &ring,
            at_hand,
        );
        (proven, judged, hardware)
    });
    let (proven, judged, hardware) = judged
        .await
        .map_err(|error| Refusal::internal("judging a machine", &error))?;
    // Nobody is asked for anything on behalf of a machine that is refused anyway.
    let hardware = match hardware {
        Err(lacking) if judged.is_ok() => {
            tee::fetched(core, lacking, &name, hardware_again).await?
        }
        hardware => hardware,
    };
    let ((approved, list), hardware) = match (judged, hardware) {
        (Ok(judged), Ok(hardware)) => (judged, hardware),
        (judged, hardware) => {
            let node = known_as(core, peer, &proven.chip).unwrap_or(name);
            let measured = judged.err().unwrap_or_default();
            return Err(refuse(core, &node, &evidence, measured, hardware.err()).await?);
        }
    };
    // Nothing vouches for what is behind the verified entries.
    let verified = list.progress().map_or(0, |progress| progress.entries());
    Arc::make_mut(&mut evidence).keep_list(verified);
    let mut blobs = evidence.blobs();
    verdict.evidence = blobs.iter().map(attest::Evidence::digest).collect();
    if let Some(hardware) = hardware {
        verdict = attest::compose(vec![verdict, hardware.verdict]);
        if verdict.outcome() == Outcome::Refused {
            return Err(first(verdict.findings));
        }
        blobs.extend(hardware.blobs);
    }
    not_rewound(core, &name, proven.boot).await?;
    for blob in blobs {
        core.put_blob(blob.bytes.into_owned()).await?;
    }
    for fact in approved.iter() {
        verdict.facts.insert(fact.clone());
    }
    verdict
        .facts
        .state(names::MACHINE_NAME, name.as_str(), Source::Verified, now);
    if let Some(pool) = pool {
        verdict
            .facts
            .state(names::MACHINE_POOL, pool, Source::Verified, now);
    }
    let standing = Proved {
        standing: Standing::of(&proven, list.progress()),
        list: Some(list),
        judged: version,
    };
    Ok(Evidence {
        verdict,
        proven,
        name,
        standing,
        begun: session.size,
    })
}

/// The refusal of a machine that is not as it should be, which evicts it. One that shows too little of its
/// hardware, or whose endorsements are not at hand, is let in no more, and goes on until its SVID ends.
async fn refuse(
    core: &Arc<Core>,
    node: &str,
    evidence: &JoinEvidence,
    measured: Vec<Finding>,
    hardware: Option<tee::Refused>,
) -> Result<Refusal, Refusal> {
    let accused = !measured.is_empty() || hardware.as_ref().is_some_and(tee::Refused::accuses);
    let blobs = evidence.blobs().into_iter();
    let mut blobs: Vec<_> = blobs
        .map(|one| (one.kind, one.bytes.into_owned()))
        .collect();
    let mut findings = measured;
    if let Some(hardware) = hardware {
        findings.extend(hardware.findings);
        blobs.extend(hardware.blobs);
    }
    if accused {
        evict(core, node, findings.clone(), blobs).await?;
    }
    Ok(first(findings))
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
        .ok_or_else(|| {
            Refusal::Denied(
                Finding::new(
                    "JOIN-SESSION",
                    "there is no such challenge, or its time is over",
                )
                .expected(format!("an answer within {SESSION_S} s, once"))
                .next("join again"),
            )
        })
}

/// The node that shows its SVID, if it joined by this chip: the estate may call the machine otherwise by
/// now.
fn known_as(core: &Core, peer: &Peer, chip: &Chip) -> Option<String> {
    let name = super::member(core, peer)?;
    let node = core.state().node(&name).cloned()?;
    let facts = core.machine_facts(&node).ok()?;
    chip::is_of(&facts, chip).then_some(name)
}

/// A TPM that was cleared, or restored from a copy, counts fewer boots than it did: its node is locked until
/// an administrator readmits it, and what it counts then is where it begins anew.
async fn not_rewound(core: &Arc<Core>, name: &str, boot: Boot) -> Result<(), Refusal> {
    let known = core.state().node(name).cloned();
    let counts =
        |node: &NodeRow| node.readmitted.is_none() && (node.locked.is_none() || is_evicted(node));
    let Some(node) = known.filter(counts) else {
        return Ok(());
    };
    let facts = core.machine_facts(&node)?;
    let count = |name| match facts.value(name) {
        Some(Value::Integer(count)) => u32::try_from(*count).ok(),
        _ => None,
    };
    let previous = count(names::MACHINE_BOOT_RESET_COUNT)
        .zip(count(names::MACHINE_BOOT_RESTART_COUNT))
        .map(|(reset_count, restart_count)| Boot {
            reset_count,
            restart_count,
        });
    if previous.is_none_or(|previous| boot >= previous) {
        return Ok(());
    }
    let seen = "TPM-BOOT-REWOUND: its TPM counts fewer boots than it did before";
    Err(lock(core, &node, node.generation, seen).await)
}

/// An estate says whose TPMs are trusted.
pub(crate) fn references(estate: &Estate) -> Result<References, Refusal> {
    let declared = estate.references();
    let mut references = References::default();
    for root in declared.tpm_roots.values() {
        // The root stands first; what follows it helps to build paths and is not trusted by itself.
        let mut given = Authority::from_pem(&root.pem)
            .map_err(Refusal::Precondition)?
            .into_iter();
        let authorities = match root.certifies {
            Certifies::EndorsementKeys => &mut references.ek,
            Certifies::AttestationKeys => &mut references.ak,
        };
        let roots = if root.emulated {
            &mut authorities.emulated
        } else {
            &mut authorities.roots
        };
        let first = given.next();
        roots.extend(match root.cloud {
            Some(Cloud::Google) => first.map(|root| root.of_cloud(attest_tpm::Cloud::Google)),
            None => first,
        });
        authorities.intermediates.extend(given);
    }
    let pins = |of: fn(&Machine) -> &BTreeSet<String>| {
        let digests = declared.machines.values().flat_map(of);
        let read = |digest: &String| crypto::hex::decode(digest).ok()?.try_into().ok();
        digests.filter_map(read).collect()
    };
    references.pinned_ek = pins(|machine| &machine.ek_sha256);
    references.pinned_ak = pins(|machine| &machine.ak_sha256);
    Ok(references)
}

/// Name and pool of the machine with this chip. One that the estate does not name is known by what its cloud
/// calls it, else by its key, and stands in no pool.
pub(crate) fn placed(
    estate: &Estate,
    chip: &Chip,
    instance: Option<&Instance>,
) -> (String, Option<String>) {
    if let Some(machine) = chip::pinned(estate.references(), chip) {
        return (machine.name.clone(), machine.pool.clone());
    }
    let name = match instance {
        // A chip may have several keys that a cloud certified: they are one machine.
        Some(Instance {
            project_number, id, ..
        }) => format!("google-{project_number}-{id}"),
        None => format!("tpm-{}", chip::hex(chip).get(..12).unwrap_or_default()),
    };
    (name, None)
}

/// A machine of a cloud that is banned under one name does not come back under another, by another of its
/// keys.
fn not_banned(core: &Core, name: &str, instance: Option<&Instance>) -> Result<(), Refusal> {
    let Some(instance) = instance else {
        return Ok(());
    };
    let project = instance.project_number.to_string();
    let id = instance.id.to_string();
    let banned: Vec<NodeRow> = {
        let state = core.state();
        let out = |node: &&NodeRow| node.name != name && node.locked.is_some() && !is_evicted(node);
        state.nodes().filter(out).cloned().collect()
    };
    for node in banned {
        let facts = core.machine_facts(&node)?;
        let of = |name, value: &str| facts.text(name) == Some(value);
        if of(names::MACHINE_CLOUD_INSTANCE_ID, &id)
            && of(names::MACHINE_CLOUD_PROJECT_NUMBER, &project)
        {
            may_join(&node)?;
        }
    }
    Ok(())
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
