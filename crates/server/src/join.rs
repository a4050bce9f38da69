//! First contact: a machine without identity proves what it is, by token or by TPM, and becomes a node.

pub(crate) mod chip;
mod enclave;
mod limits;
mod tee;
mod token;
mod tpm;

pub(crate) use enclave::{
    Sessions as EnclaveSessions, again as enclave_again, auth as enclave_auth,
};
pub(crate) use limits::Refusals;
pub(crate) use tee::{
    Offered as TeeOffered, Standing as TeeStanding, required as tee_required, stands as tee_stands,
    vouched as tee_vouched,
};
pub(crate) use token::hash as token_hash;
pub(crate) use tpm::{
    Proved, Sessions, auth as tpm_auth, fail as tpm_fail, placed as tpm_placed, prove as tpm_prove,
    references as tpm_references,
};

use crate::authority::Term;
use crate::core::{Core, draft, recorded};
use crate::evict::is_evicted;
use crate::issue::{Basis, Issued, Order, Signed, What, fact_value, issue_one};
use crate::listener::Peer;
use crate::lock::may_join;
use crate::metrics;
use crate::node::Claims;
use crate::refusal::Refusal;
use attest::ar4si::Vector;
use crypto::PublicKey;
use facts::{Affirmed, Finding, Outcome, Verdict};
use ledger::body::{self, Body as _, VerdictOutcome};
use ledger::{Decimal, Draft, EstateRef, HexDigest, RecordError};
use limits::JoinLimits;
use proto::v1;
use proto::v1::join_server::Join;
use std::sync::{Arc, Mutex, PoisonError};
use store::NodeRow;
use tonic::{Request, Response, Status};

/// Seconds. A challenge that is not answered in time is over.
const SESSION_S: u64 = 60;

/// What strangers have cost so far, and what they have begun.
#[derive(Default)]
pub(crate) struct Joins {
    limits: Mutex<JoinLimits>,
    pub(crate) refusals: Mutex<Refusals<&'static str>>,
    pub(crate) sessions: Mutex<Sessions>,
    pub(crate) enclaves: Mutex<EnclaveSessions>,
}

/// The service that anybody may call.
pub(crate) struct JoinService(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Join for JoinService {
    async fn anchors(
        &self,
        _request: Request<v1::AnchorsRequest>,
    ) -> Result<Response<v1::Anchors>, Status> {
        Ok(Response::new(v1::Anchors {
            trust_domain: self.0.trust_domain.to_string(),
            x509_authorities: self.0.authority.roots(),
            // The first: pins stay what they were, and the lineage leads to the key that signs now.
            ledger_key: self.0.ledger_key.first().public_key().spki_der().to_vec(),
            lineage: self.0.lineage().unwrap_or_default(),
        }))
    }

    async fn token(
        &self,
        request: Request<v1::TokenJoinRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        let peer = admit(&self.0, &request)?;
        let joined = token::join(&self.0, &peer, request.into_inner()).await;
        answer(&self.0, "token", joined)
    }

    async fn tpm_challenge(
        &self,
        request: Request<v1::TpmChallengeRequest>,
    ) -> Result<Response<v1::TpmChallenge>, Status> {
        let peer = admit(&self.0, &request)?;
        let challenge = tpm::challenge(&self.0, &peer, request.into_inner()).await;
        answer(&self.0, "tpm", challenge)
    }

    async fn tpm_finish(
        &self,
        request: Request<v1::TpmFinishRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        let peer = admit(&self.0, &request)?;
        let joined = tpm::join(&self.0, &peer, request.into_inner()).await;
        answer(&self.0, "tpm", joined)
    }

    async fn enclave_challenge(
        &self,
        request: Request<v1::EnclaveChallengeRequest>,
    ) -> Result<Response<v1::EnclaveChallenge>, Status> {
        let peer = admit(&self.0, &request)?;
        let challenge = enclave::challenge(&self.0, &peer);
        answer(&self.0, "enclave", challenge)
    }

    async fn enclave_finish(
        &self,
        request: Request<v1::EnclaveFinishRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        let peer = admit(&self.0, &request)?;
        let joined = enclave::join(&self.0, &peer, request.into_inner()).await;
        answer(&self.0, "enclave", joined)
    }

    async fn approvals(
        &self,
        request: Request<v1::ApprovalsRequest>,
    ) -> Result<Response<v1::Approvals>, Status> {
        admit(&self.0, &request)?;
        let ring = request.into_inner().ring;
        ring_name(&ring)?;
        let set = self.0.seals.of_ring(self.0.trust_domain.as_str(), &ring);
        let set = set.to_json().into_bytes();
        Ok(Response::new(v1::Approvals { set }))
    }
}

fn ring_name(ring: &str) -> Result<(), Refusal> {
    const LONGEST: usize = 256;
    if ring.len() <= LONGEST {
        return Ok(());
    }
    Err(Refusal::Invalid(
        Finding::new("SEAL-RING", "this is no ring of machines").expected("the name of a pool"),
    ))
}

fn answer<T>(
    core: &Core,
    method: &'static str,
    outcome: Result<T, Refusal>,
) -> Result<Response<T>, Status> {
    outcome.map(Response::new).map_err(|refusal| {
        refused(core, method, refusal.finding());
        refusal.into()
    })
}

/// Counts a refusal; a record of all alike follows at the end of the window.
pub(crate) fn refused(core: &Core, method: &'static str, finding: &Finding) {
    let code = finding.code.to_string();
    core.metrics
        .joins_refused
        .get_or_create(&metrics::Code { code })
        .inc();
    core.joins
        .refusals
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .count(method, finding);
}

/// The caller, if it may try now.
fn admit<T>(core: &Core, request: &Request<T>) -> Result<Peer, Refusal> {
    let peer = peer(request)?;
    let limits = &core.config.limits;
    let now = core.now();
    let member = member(core, &peer);
    let mut counted = core
        .joins
        .limits
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    match member {
        // A node that proves itself anew: what strangers do is nothing to it.
        Some(node) => counted.admit_member(&node, now, limits.joins_per_peer),
        None => counted.admit(peer.address.ip(), now, limits.joins_per_peer, limits.joins),
    }
    .map_err(Refusal::Limited)?;
    drop(counted);
    core.signing.check()?;
    Ok(peer)
}

/// The name of the node whose standing SVID `peer` has shown.
fn member(core: &Core, peer: &Peer) -> Option<String> {
    let svid = core.caller(peer).ok()?;
    crate::state::node_of(&svid).map(str::to_owned)
}

/// Every connection has one.
pub(crate) fn peer<T>(request: &Request<T>) -> Result<Peer, Refusal> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Refusal::Denied(Finding::new(
            "CALLER-CHANNEL",
            "the call did not come over the TLS port",
        ))
    })
}

fn no_challenge() -> Refusal {
    Refusal::Denied(
        Finding::new(
            "JOIN-SESSION",
            "there is no such challenge, or its time is over",
        )
        .expected(format!("an answer within {SESSION_S} s, once"))
        .next("join again"),
    )
}

/// Public half of a key that a caller would have certified, and proof that it holds the other.
pub(crate) fn prove_key(spki: &[u8], message: &[u8], proof: &[u8]) -> Result<PublicKey, Refusal> {
    let key = public_key(spki)?;
    key.verify(message, proof).map_err(|_| {
        Refusal::Denied(
            Finding::new(
                "JOIN-PROOF",
                "the key did not sign this connection's transcript",
            )
            .expected("a signature over token or renewal, key and TLS exporter")
            .next("connect directly: a proxy that ends TLS cannot be joined through"),
        )
    })?;
    Ok(key)
}

pub(crate) fn public_key(spki: &[u8]) -> Result<PublicKey, Refusal> {
    PublicKey::from_spki_der(spki).map_err(|error| {
        Refusal::Invalid(
            Finding::new("KEY-FORM", "this is not a public key that can be certified")
                .expected("DER SubjectPublicKeyInfo of a P-256, P-384, Ed25519 or RSA key")
                .observed(error.to_string()),
        )
    })
}

/// A machine that has proved itself, about to become, or go on as, a node.
pub(crate) struct Admission {
    pub(crate) name: String,
    pub(crate) key: PublicKey,
    pub(crate) verdict: Verdict,
    /// SHA-256 of the renewal's id; zeros at a first join.
    pub(crate) renewal: [u8; 32],
    /// The answer to the same was lost: the node stays at its generation.
    pub(crate) repeats: bool,
    /// Stated with the same commit, before the verdict.
    pub(crate) before: Vec<Draft>,
    /// `joined` or `renewed`.
    pub(crate) how: &'static str,
    /// The SVID that it renews.
    pub(crate) replaces: Option<String>,
    pub(crate) auth: String,
    /// Size of the ledger when the evidence was asked for: an eviction from then on it does not lift.
    pub(crate) begun: u64,
    /// What its chip counts, if it showed one.
    pub(crate) counted: Option<body::Counted>,
    /// The version that it was judged by: whose roots and machines counted stands in its references.
    pub(crate) estate: Option<EstateRef>,
}

/// The version that is in force.
pub(crate) fn in_force(core: &Core) -> Option<EstateRef> {
    let current = core.current.load_full()?;
    Some(current.reference())
}

/// Refuses what was begun before an eviction of the node.
pub(crate) fn not_overtaken(core: &Core, name: &str, begun: u64) -> Result<(), Refusal> {
    let node = core.state().node(name).cloned();
    let evicted = node.filter(is_evicted).and_then(|node| node.locked_at);
    if evicted.is_none_or(|at| at < begun) {
        return Ok(());
    }
    Err(Refusal::Denied(
        Finding::new(
            "JOIN-OVERTAKEN",
            "the machine was evicted after this join had begun",
        )
        .next("join again"),
    ))
}

/// Records verdict and node, then issues the node's SVID. The caller has reserved the node's name.
pub(crate) async fn admit_node(
    core: &Arc<Core>,
    admission: Admission,
) -> Result<v1::Joined, Refusal> {
    let id = core.node_id(&admission.name)?;
    let _claim = Claims::claim(core, &admission.key, id.as_str(), &admission.name)?;
    let known = core.state().node(&admission.name).cloned();
    if let Some(node) = &known {
        may_join(node)?;
    }
    let facts = Arc::new(claims(&admission.verdict)?);
    let blob = serde_json::to_vec(facts.as_ref())
        .map_err(|error| Refusal::internal("writing facts", &error))?;
    let mut naming = crate::erase::naming(core, vec![HexDigest::of(&blob)]).await;
    let named = body::BlobRef::of(&blob);
    naming.keep(vec![blob]).await?;
    let next = u64::from(!admission.repeats);
    let generation = known.as_ref().map_or(1, |node| node.generation + next);

    let by_node = |record: ledger::RecordBuilder| draft(record.actor(id.as_str(), &admission.auth));
    let mut drafts = admission.before;
    let verdict = verdict_body(id.as_str(), &admission.verdict, Some(named));
    let at = drafts.len();
    let mut record = verdict.record();
    if let Some(estate) = admission.estate {
        record = record.estate(estate);
    }
    let record = record.actor(id.as_str(), &admission.auth).draft();
    drafts.push(record.map_err(|error| verdict_too_large(&error))?);
    let committed = core.append(drafts).await?;
    naming.recorded().await;
    let verdict_index = committed
        .get(at)
        .map(ledger_store::Committed::index)
        .unwrap_or_default();
    // One that is recorded from here on has a higher index than the verdict, and is not lifted by it.
    not_overtaken(core, &admission.name, admission.begun)?;
    let state = body::NodeState {
        node: admission.name.clone(),
        state: admission.how.to_owned(),
        generation: Decimal(generation),
        renewal: HexDigest(admission.renewal),
        key: HexDigest(admission.key.spki_sha256()),
        verdict: Some(Decimal(verdict_index)),
        counted: admission.counted,
    };
    core.append_one(by_node(state.record())?).await?;
    let node = core.state().node(&admission.name).cloned();
    let node = node.ok_or_else(|| {
        Refusal::Unavailable(Finding::new("SERVER-STOPPING", "the server is stopping"))
    })?;
    if let Ok(mut machines) = core.machines.write() {
        machines.insert(node.facts.clone(), (node.verdict, Arc::clone(&facts)));
    }
    let joined = certify_node(
        core,
        &node,
        admission.key,
        facts,
        admission.replaces,
        &admission.auth,
    )
    .await?;
    core.metrics.joins.inc();
    Ok(joined)
}

/// Nothing is left out of an affirmed verdict, as it is of a refused one: what is recorded is what is issued on.
fn verdict_too_large(error: &RecordError) -> Refusal {
    let RecordError::TooLarge { length } = error else {
        return Refusal::internal("drafting a record", error);
    };
    Refusal::Denied(
        Finding::new(
            "JOIN-VERDICT-SIZE",
            "more is to be recorded of the machine than a record holds",
        )
        .expected(format!("at most {} bytes of facts and evidence", ledger::MAX_RECORD))
        .observed(format!("{length} bytes"))
        .next(
            "shorten what it measures at length: its command line, and what its firmware and boot loader \
             name; then join again",
        ),
    )
}

/// What a machine is admitted on. Whoever refuses one says so before; here nothing comes of it all the same.
fn claims(verdict: &Verdict) -> Result<Affirmed, Refusal> {
    verdict.claims().ok_or_else(|| {
        let first = verdict.findings.first().cloned();
        Refusal::Denied(first.unwrap_or_else(|| {
            Finding::new(
                "JOIN-VERDICT",
                "no verifier affirmed anything of the machine",
            )
            .expected("a verdict that is affirmed")
            .next("join again with the evidence that the trust domain asks for")
        }))
    })
}

/// Issues the SVID of a node as the state has it.
pub(crate) async fn certify_node(
    core: &Arc<Core>,
    node: &NodeRow,
    key: PublicKey,
    facts: Arc<Affirmed>,
    replaces: Option<String>,
    auth: &str,
) -> Result<v1::Joined, Refusal> {
    let id = core.node_id(&node.name)?;
    let claim = Claims::claim(core, &key, id.as_str(), &node.name)?;
    let verdict = Verdict::from(facts.as_ref().clone());
    let order = Order {
        claim: Some(Arc::new(claim)),
        spiffe_id: id.clone(),
        what: What::X509 {
            public_key: key,
            dns_names: Vec::new(),
        },
        term: Term::Node,
        basis: Arc::new(Basis {
            node: node.name.clone(),
            verdict: node.verdict,
            evidence_time: node.evidence_time,
            commit: core.commit(&facts).await?,
            facts,
            estate: None,
            actor: id.to_string(),
            auth: auth.to_owned(),
        }),
        policies: Vec::new(),
        visible: Vec::new(),
        replaces,
    };
    let issued = issue_one(core, order).await?;
    Ok(v1::Joined {
        certificate_chain: chain(&issued),
        bundle: Some(core.bundle()),
        join_state: join_state(core, node)?,
        generation: node.generation,
        node_id: id.to_string(),
        verdict_index: node.verdict,
        verdict: serde_json::to_vec(&verdict).unwrap_or_default(),
        approvals: crate::seals::told(core, &verdict.facts),
    })
}

fn chain(issued: &Issued) -> Vec<Vec<u8>> {
    match &issued.body {
        Signed::X509(chain) => chain.clone(),
        Signed::Jwt(_) => Vec::new(),
    }
}

/// What the node hands back at its next renewal: its name and verdict, under a key that only this
/// server has, so that a state from elsewhere is known as such.
fn join_state(core: &Core, node: &NodeRow) -> Result<Vec<u8>, Refusal> {
    let text = format!(
        "trilith-join-state-v1\n{}\n{}\n",
        node.name, node.generation
    );
    let mac = crypto::hmac_sha256(core.commitment_key.expose(), text.as_bytes());
    Ok([text.into_bytes(), mac.to_vec()].concat())
}

/// True if `state` is what this server gave the node at `generation`.
pub(crate) fn is_join_state(core: &Core, state: &[u8], name: &str, generation: u64) -> bool {
    let text = format!("trilith-join-state-v1\n{name}\n{generation}\n");
    let mac = crypto::hmac_sha256(core.commitment_key.expose(), text.as_bytes());
    let expected = [text.into_bytes(), mac.to_vec()].concat();
    crypto::constant_time_eq(&expected, state)
}

/// Name and generation in a state that this server gave out.
pub(crate) fn read_join_state(core: &Core, state: &[u8]) -> Option<(String, u64)> {
    let text = std::str::from_utf8(state.get(..state.len().checked_sub(32)?)?).ok()?;
    let mut lines = text.strip_prefix("trilith-join-state-v1\n")?.lines();
    let (name, generation) = (lines.next()?, lines.next()?.parse().ok()?);
    is_join_state(core, state, name, generation).then(|| (name.to_owned(), generation))
}

pub(crate) fn verdict_body(
    node: &str,
    verdict: &Verdict,
    facts_blob: Option<body::BlobRef>,
) -> body::Verdict {
    let evidence = verdict.evidence.iter().filter_map(|evidence| {
        Some(body::Evidence {
            kind: evidence.kind.clone(),
            sha256: evidence.sha256.parse().ok()?,
            length: Decimal(evidence.length),
        })
    });
    body::Verdict {
        node: node.to_owned(),
        outcome: match verdict.outcome() {
            Outcome::Affirmed => VerdictOutcome::Affirmed,
            Outcome::Refused => VerdictOutcome::Refused,
        },
        facts_blob,
        evidence: evidence.collect(),
        facts: verdict
            .facts
            .iter()
            .map(|fact| body::FactItem {
                name: fact.name.clone(),
                value: fact_value(&fact.value),
                source: fact.source.to_string(),
            })
            .collect(),
        findings: findings(&verdict.findings),
        ar4si: Vector::of(verdict).short(),
    }
}

/// As many findings as a record has room for. INVARIANT: at least the first: nobody escapes a record, and what
/// follows from it, by having too much found.
fn findings(all: &[Finding]) -> Vec<body::Finding> {
    /// Bytes of all findings but the first, which has less than as many again.
    const ROOM: usize = 4 * 1024;
    let mut room = ROOM;
    let mut kept: Vec<body::Finding> = Vec::new();
    for finding in all {
        let finding = recorded(finding);
        let length = serde_json::to_vec(&finding).map_or(usize::MAX, |text| text.len());
        if !kept.is_empty() {
            let Some(left) = room.checked_sub(length) else {
                break;
            };
            room = left;
        }
        kept.push(finding);
    }
    let more = all.len().saturating_sub(kept.len());
    if let (Some(last), true) = (kept.last_mut(), more > 0) {
        last.message.push_str(&format!("; {more} more were found"));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_found_fits_into_a_record_however_much_it_is() {
        // Four bytes a character, and two for one.
        for letter in ["\u{1d54f}", "\""] {
            let text = letter.repeat(4_000);
            let one = || {
                Finding::new("IMA-FILE", text.clone())
                    .expected(text.clone())
                    .observed(text.clone())
                    .next(text.clone())
            };
            for count in [1, 2, 64, 10_000] {
                let all = (0..count).map(|_| one()).collect();
                let verdict = verdict_body(
                    "spiffe://example.org/n",
                    &Verdict::refused(all, Vec::new()),
                    None,
                );
                assert!(!verdict.findings.is_empty());
                assert!(
                    verdict.record().actor("a", "self").draft().is_ok(),
                    "{count}"
                );
            }
        }
        let short: Vec<_> = (0..1_000).map(|_| Finding::new("X-Y", "no")).collect();
        let kept = findings(&short);
        assert!((16..1_000).contains(&kept.len()), "{}", kept.len());
        let more = format!("no; {} more were found", 1_000 - kept.len());
        assert_eq!(kept.last().unwrap().message, more);
        assert_eq!(findings(&short[..3]).len(), 3);
    }
}
