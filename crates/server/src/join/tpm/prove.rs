//! From a machine's answer to what it proved: its chip, then what it booted and ran and the hardware that it
//! runs in, then what is kept of all that.

use super::placed::{not_banned, placed, references};
use super::{Session, Shown, first, take};
use crate::core::Core;
use crate::current::Current;
use crate::erase::{self, Naming};
use crate::evict::{evict_by, is_evicted};
use crate::join::tee::{self, Offered};
use crate::join::{chip, member, not_overtaken};
use crate::listener::Peer;
use crate::lock::lock;
use crate::refusal::Refusal;
use crate::warranted;
use appraise::{Asked, Presented};
use attest_tee::endorsed::Endorsed;
use attest_tpm::ak::Vouched;
use attest_tpm::continuous::Standing;
use attest_tpm::ima::Round;
use attest_tpm::join::{Anchor, Boot, Chip, JoinExpectation, Judgement, Proven};
use attest_tpm::{Challenged, Counted, JoinAnswer, JoinEvidence, SigningKey};
use facts::{Affirmed, Finding, Outcome, Source, Timestamp, Value, Verdict, names};
use ledger::{EstateRef, HexDigest, body};
use proto::v1;
use std::sync::Arc;
use store::NodeRow;

/// A machine that proved itself, before it is decided what becomes of it.
pub(crate) struct Evidence {
    pub(crate) verdict: Verdict,
    pub(crate) proven: Proven,
    pub(crate) name: String,
    standing: Proved,
    /// Size of the ledger when the machine was challenged.
    pub(crate) begun: u64,
    /// What it was judged by.
    pub(crate) estate: EstateRef,
    /// Its evidence is kept, and stays so until whoever admits it has recorded the verdict.
    pub(crate) naming: Naming,
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

    /// What its chip counts.
    pub(crate) fn counted(&self) -> Option<body::Counted> {
        let key = chip::hex(&self.proven.chip);
        chip::counted(Some(&key), Counted::from(&self.proven.quoted))
    }
}

/// Judges an answer and keeps its evidence. A refused verdict about a machine that is a node cuts it.
pub(crate) async fn prove(
    core: &Arc<Core>,
    peer: &Peer,
    mut request: v1::TpmFinishRequest,
) -> Result<Evidence, Refusal> {
    let now = core.now();
    let offered = tee::offered(request.tee.take())?;
    let session = take(core, &request.session, now)?;
    on_its_connection(&session, peer)?;
    let (asked, begun, shown) = (session.asked.clone(), session.size, session.shown.clone());
    let current = core.estate()?;
    let (mut evidence, expectation) = answered(core, session, request, now);
    let vouching = vouching(core, &current, &evidence, offered.clone(), now).await?;
    let expectation = JoinExpectation {
        vouched: taken_for(&vouching, &evidence),
        ..expectation
    };
    let Judgement { verdict, proven } = chip(core, &current, &evidence, expectation).await?;
    let Some(proven) = proven else {
        return Err(first(verdict.into_stated().findings));
    };
    let (name, pool) = placed(&current.estate, &proven.chip, proven.instance.as_ref());
    let vouched = vouching.as_ref().ok().and_then(Option::as_ref);
    let instance = vouched.map_or(&verdict.facts, |one| &one.endorsed.verdict.facts);
    not_banned(core, &name, instance)?;
    not_overtaken(core, &name, begun)?;
    let machine = Machine {
        current,
        ring: pool.clone().unwrap_or_default(),
        evidence: Arc::clone(&evidence),
        offered,
        vouching,
        proven: Arc::new(proven),
        nonce: asked.nonce(),
        now,
    };
    let (estate, proven) = (machine.current.reference(), Arc::clone(&machine.proven));
    let judged = machine.judged(core, &name).await?;
    let ((approved, list), hardware) = match judged {
        (Ok(judged), Ok(hardware)) => (judged, hardware),
        (judged, hardware) => {
            let node = known_as(core, peer, &proven.chip).unwrap_or(name);
            let measured = judged.err().unwrap_or_default();
            let shown = (&*evidence, &asked, estate);
            return Err(refuse(core, &node, shown, measured, hardware.err()).await?);
        }
    };
    // Nothing vouches for what is behind the verified entries.
    let verified = list.progress().map_or(0, |progress| progress.entries());
    Arc::make_mut(&mut evidence).keep_list(verified);
    not_rewound(core, &name, &proven, begun, &shown).await?;
    let place = warranted::placed(Some(&name), pool.as_deref(), now);
    let (verdict, naming) = kept(core, verdict, (&*evidence, &asked), hardware).await?;
    let verdict = verdict.and(&approved).and(&place);
    let standing = Proved {
        standing: Standing::of(&proven, &list),
        list: Some(list),
        judged: estate.index,
    };
    Ok(Evidence {
        verdict,
        proven: Arc::unwrap_or_clone(proven),
        name,
        standing,
        begun,
        estate,
        naming,
    })
}

/// An answer is for the connection that was asked.
fn on_its_connection(session: &Session, peer: &Peer) -> Result<(), Refusal> {
    if session.asked.exporter != peer.exporter {
        return Err(Refusal::Denied(
            Finding::new("JOIN-CHANNEL", "the answer came over another connection")
                .expected("the connection that the challenge was sent over")
                .next("join again, over one connection"),
        ));
    }
    Ok(())
}

/// What came back of what was asked.
fn answered(
    core: &Core,
    session: Session,
    request: v1::TpmFinishRequest,
    now: Timestamp,
) -> (Arc<JoinEvidence>, JoinExpectation) {
    let expectation = JoinExpectation {
        nonce: session.asked.nonce(),
        secret: session.secret,
        pcrs: crate::attesting::PCRS.to_vec(),
        channel: session.asked.channel(core.trust_domain.as_str()),
        now,
        vouched: None,
    };
    let evidence = JoinEvidence {
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
    };
    (Arc::new(evidence), expectation)
}

/// What the hardware says of the attestation key of a machine that brings no other, before it is known whether
/// the machine has that key.
async fn vouching(
    core: &Arc<Core>,
    current: &Arc<Current>,
    evidence: &JoinEvidence,
    offered: Option<Offered>,
    now: Timestamp,
) -> Result<Vouching, Refusal> {
    let request = &evidence.request;
    let Ok((Anchor::Attestation, key)) = Anchor::read(request)
        .and_then(|anchor| Ok((anchor, SigningKey::attestation(&request.ak_public)?)))
    else {
        return Ok(Ok(None));
    };
    let (_, pool) = placed(&current.estate, &Anchor::Attestation.chip(&key), None);
    let (core, current) = (Arc::clone(core), Arc::clone(current));
    core.pool
        .clone()
        .run(move || {
            let ring = pool.unwrap_or_default();
            tee::vouched(
                offered.as_ref(),
                &current.estate,
                &ring,
                &core.endorsements,
                now,
            )
        })
        .await
        .map_err(|error| Refusal::internal("judging a machine", &error))
}

/// Whose word the chip is judged by. Where the hardware's is bad, the machine is refused for that, once it is
/// known that it is the machine: nobody else speaks against it.
fn taken_for(vouching: &Vouching, evidence: &JoinEvidence) -> Option<Vouched> {
    match vouching {
        Ok(vouching) => vouching.as_ref().map(|one| one.key.clone()),
        Err(_) => {
            let key = SigningKey::attestation(&evidence.request.ak_public)
                .ok()?
                .key;
            Some(Vouched {
                key,
                source: Source::Asserted,
            })
        }
    }
}

/// What the chip proved, and whether it is one that the estate trusts.
async fn chip(
    core: &Core,
    current: &Current,
    evidence: &Arc<JoinEvidence>,
    expectation: JoinExpectation,
) -> Result<Judgement, Refusal> {
    let references = references(&current.estate)?;
    let judged = Arc::clone(evidence);
    core.pool
        .run(move || attest_tpm::join::verify(&judged, &expectation, &references))
        .await
        .map_err(|error| Refusal::internal("verifying a TPM", &error))
}

/// A machine whose chip is known, and what it shows of itself.
struct Machine {
    current: Arc<Current>,
    ring: String,
    evidence: Arc<JoinEvidence>,
    offered: Option<Offered>,
    vouching: Vouching,
    proven: Arc<Proven>,
    nonce: [u8; 32],
    now: Timestamp,
}

/// What hardware says of the machine's attestation key, if it is known by that.
type Vouching = Result<Option<tee::Vouching>, tee::Refused>;

/// What reference values make of boot and list, and what is made of the hardware.
type Judged = (
    Result<(Affirmed, Round), Vec<Finding>>,
    Result<Option<Endorsed>, tee::Refused>,
);

impl Machine {
    async fn judged(mut self, core: &Arc<Core>, name: &str) -> Result<Judged, Refusal> {
        let vouching = std::mem::replace(&mut self.vouching, Ok(None));
        let machine = Arc::new(self);
        let (judging, judged) = (Arc::clone(core), Arc::clone(&machine));
        let judged = core.pool.run(move || {
            let hardware = match vouching {
                Ok(None) => judged.hardware(&judging),
                Ok(Some(vouching)) => Ok(Some(vouching.endorsed)),
                Err(refused) => Err(refused),
            };
            (judged.measured(), hardware)
        });
        let (measured, hardware) = judged
            .await
            .map_err(|error| Refusal::internal("judging a machine", &error))?;
        // Nobody is asked for anything on behalf of a machine that is refused anyway.
        let hardware = match hardware {
            Err(lacking) if measured.is_ok() => {
                let judging = Arc::clone(core);
                let again = move || machine.hardware(&judging);
                tee::fetched(core, lacking, name, again).await?
            }
            hardware => hardware,
        };
        Ok((measured, hardware))
    }

    fn measured(&self) -> Result<(Affirmed, Round), Vec<Finding>> {
        let demands = self.current.demands(&self.ring);
        let asked = Asked {
            values: &self.current.estate.references().values,
            demands: &demands,
            ring: &self.ring,
            now: self.now,
        };
        let presented = Presented::by_join(&self.proven, &self.evidence.answer.ima_list);
        appraise::judge(&presented, &asked)
    }

    fn hardware(&self, core: &Core) -> Result<Option<Endorsed>, tee::Refused> {
        let question = tee::Question {
            attestation_key: &self.proven.attestation_key,
            nonce: self.nonce,
            now: self.now,
            booted: self.proven.booted.as_ref(),
            event_log: &self.evidence.answer.event_log,
        };
        tee::judge(
            self.offered.as_ref(),
            &question,
            &self.current,
            &self.ring,
            &core.endorsements,
        )
    }
}

/// The verdict of chip and hardware together, whose evidence is kept.
async fn kept(
    core: &Arc<Core>,
    verdict: Verdict,
    (evidence, asked): (&JoinEvidence, &Challenged),
    hardware: Option<Endorsed>,
) -> Result<(Verdict, Naming), Refusal> {
    let mut blobs = evidence.blobs();
    blobs.extend(asked.blobs());
    let mut verdict = verdict.resting_on(blobs.iter().map(attest::Evidence::digest).collect());
    if let Some(hardware) = hardware {
        verdict = attest::compose(vec![verdict, hardware.verdict]);
        if verdict.outcome() == Outcome::Refused {
            return Err(first(verdict.into_stated().findings));
        }
        blobs.extend(hardware.blobs);
    }
    let named = blobs.iter().map(|blob| HexDigest::of(&blob.bytes));
    let mut naming = erase::naming(core, named.collect()).await;
    let blobs = blobs.into_iter().map(|blob| blob.bytes.into_owned());
    naming.keep(blobs.collect()).await?;
    Ok((verdict, naming))
}

/// The refusal of a machine that is not as it should be, which evicts it. One that shows too little of its
/// hardware, or whose endorsements are not at hand, is let in no more, and goes on until its SVID ends.
async fn refuse(
    core: &Arc<Core>,
    node: &str,
    (evidence, asked, estate): (&JoinEvidence, &Challenged, EstateRef),
    measured: Vec<Finding>,
    hardware: Option<tee::Refused>,
) -> Result<Refusal, Refusal> {
    let accused = !measured.is_empty() || hardware.as_ref().is_some_and(tee::Refused::accuses);
    let blobs = evidence.blobs().into_iter().chain(asked.blobs());
    let mut blobs: Vec<_> = blobs
        .map(|one| (one.kind, one.bytes.into_owned()))
        .collect();
    let mut findings = measured;
    if let Some(hardware) = hardware {
        findings.extend(hardware.findings);
        blobs.extend(hardware.blobs);
    }
    if accused {
        evict_by(core, node, findings.clone(), blobs, Some(estate)).await?;
    }
    Ok(first(findings))
}

/// The node that shows its SVID, if it joined by this chip: the estate may call the machine otherwise by
/// now.
fn known_as(core: &Core, peer: &Peer, chip: &Chip) -> Option<String> {
    let name = member(core, peer)?;
    let node = core.state().node(&name).cloned()?;
    let facts = core.machine_facts(&node).ok()?;
    chip::is_of(&facts, chip).then_some(name)
}

/// A TPM that was cleared, or restored from a copy, counts fewer boots than it did, or less time in one boot, and
/// one may run older firmware: its node is locked until an administrator readmits it, and what it counts then is where
/// it begins anew. It was challenged when the ledger had `begun` records, and the machine had `shown` that.
async fn not_rewound(
    core: &Arc<Core>,
    name: &str,
    proven: &Proven,
    begun: u64,
    shown: &Shown,
) -> Result<(), Refusal> {
    let boot = proven.boot;
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
        })
        // Of another chip that the estate means by this machine, it says nothing.
        .filter(|_| chip::is_of(&facts, &proven.chip));
    let shown: Vec<Counted> = shown.counted(&proven.chip).collect();
    let recorded = shown.iter().map(|counted| Boot::from(counted.clock));
    let previous = previous.into_iter().chain(recorded).max();
    if previous.is_some_and(|previous| boot < previous) {
        let seen = "TPM-BOOT-REWOUND: its TPM counts fewer boots than it did before";
        return Err(lock(core, &node, node.generation, seen).await);
    }
    // A verdict from after the challenge may rest on a later quote than this one.
    let before = if node.verdict >= begun || !chip::is_of(&facts, &proven.chip) {
        None
    } else {
        crate::attesting::counted(core, &node).await
    };
    // And what the machine answered since that verdict.
    let counted = Counted::from(&proven.quoted);
    for before in before.into_iter().chain(shown) {
        let back = counted.since(&before);
        if let Some(finding) = back.first() {
            return Err(lock(core, &node, node.generation, &finding.to_string()).await);
        }
    }
    Ok(())
}
