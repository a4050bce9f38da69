//! A signed statement about a machine for relying parties that are not Trilith: an EAT attestation result
//! (`attest::ear`) by the key that signs JWT-SVIDs, whose public half stands in the trust bundle.
//!
//! It is of a machine that stands now, lasts minutes, and shows few facts. That it was asked for is recorded before
//! it is signed.

use super::{Admitted, record_act};
use crate::core::Core;
use crate::refusal::Refusal;
use attest::ear::{Appraisal, Ear};
use facts::{Affirmed, Finding, Timestamp, Verdict, names};
use ledger::body::TargetKind;
use proto::v1;
use serde_json::{Value, json};
use std::sync::Arc;
use store::NodeRow;

/// 5 min, and never longer than the machine's SVID lasts.
const LIFETIME_S: u64 = 300;

/// What is told: how the machine proved itself, and what of it reference values know. Nothing that tells one machine
/// from others, or what runs on it.
const SHOWN: [&str; 14] = [
    names::MACHINE_JOIN,
    names::MACHINE_KEY,
    names::MACHINE_TPM_KIND,
    names::MACHINE_BOOT_STATE,
    names::MACHINE_BOOT_SECURE_BOOT,
    names::MACHINE_IMA_STATE,
    names::MACHINE_TEE_KIND,
    names::MACHINE_TEE_GENERATION,
    names::MACHINE_TEE_ROOT,
    names::MACHINE_TEE_IMAGE,
    names::MACHINE_TEE_MEASUREMENT,
    names::MACHINE_TEE_DEBUG,
    names::MACHINE_TEE_REVOCATION,
    names::MACHINE_TEE_TCB_STATUS,
];

/// A machine that stands.
struct Standing {
    node: NodeRow,
    facts: Affirmed,
    /// When its SVID ends.
    until: Timestamp,
    estate: String,
}

pub(super) async fn ear(
    core: &Arc<Core>,
    admitted: &Admitted,
    request: v1::EarRequest,
) -> Result<Value, Refusal> {
    let nonce = request.nonce;
    if !nonce.is_empty() && !(8..=64).contains(&nonce.len()) {
        return Err(Refusal::Invalid(
            Finding::new("EAR-NONCE", "such a nonce is not answered")
                .expected("8 to 64 bytes, as RFC 9711 has them")
                .observed(format!("{} bytes", nonce.len())),
        ));
    }
    let prefix = format!("spiffe://{}/trilith/node/", core.trust_domain);
    let name = request.node.strip_prefix(&prefix).unwrap_or(&request.node);
    standing(core, name)?;
    let detail = format!("ear of {name}, nonce {}", crypto::hex::encode(&nonce));
    let recorded = record_act(core, admitted, &detail).await?;
    // What came while it was recorded counts.
    let Standing {
        node,
        facts,
        until,
        estate,
    } = standing(core, name)?;
    let id = core.node_id(name)?;
    let now = core.now();
    let ends = now.plus_secs(LIFETIME_S).min(until);
    let judging = Arc::clone(core);
    let signed = core.pool.run(move || {
        let shown = facts.only(|fact| SHOWN.contains(&fact.name.as_str()));
        let verdict = Verdict::from(facts);
        let result = Ear {
            issued_at: now,
            expires_at: ends,
            build: env!("CARGO_PKG_VERSION"),
            nonce: (!nonce.is_empty()).then_some(nonce.as_slice()),
            appraisals: vec![(
                id.as_str(),
                Appraisal {
                    verdict: &verdict,
                    policies: vec![&estate],
                    shown,
                },
            )],
        };
        judging
            .authority
            .with_jwt_key(now, |signer, kid| result.sign(signer, kid))
    });
    let signed = signed
        .await
        .map_err(|error| Refusal::internal("signing a statement", &error))?
        .map_err(|error| Refusal::internal("signing a statement", &error))?;
    let token = signed.map_err(|error| Refusal::internal("signing a statement", &error))?;
    Ok(json!({
        "token": token,
        "node": node.name,
        "verdict": node.verdict,
        "index": recorded.index(),
        "expires": ends.to_string(),
    }))
}

/// The machine, if it is in: it is not locked out, holds an SVID that stands, and has proved itself lately enough
/// for the estate, as that places it now.
fn standing(core: &Core, name: &str) -> Result<Standing, Refusal> {
    let node = core.state().node(name).cloned().ok_or_else(|| {
        Refusal::Unknown(
            Finding::new("EAR-MACHINE", "no machine of that name has joined")
                .observed(name.to_owned())
                .next("trilith agent list"),
        )
    })?;
    let current = core.estate()?;
    let now = core.now();
    let fallen = |observed: String| {
        Refusal::Precondition(
            Finding::new(
                "EAR-STANDING",
                "nothing is said of a machine that does not stand now",
            )
            .expected("a machine that is not locked out, with an SVID and evidence that count")
            .observed(observed)
            .next("trilith agent list; trilith attest explain RECORD"),
        )
    };
    if let Some(locked) = &node.locked {
        return Err(fallen(locked.clone()));
    }
    if core.unrecorded.holds(TargetKind::Machine, name) {
        return Err(fallen("it was revoked".to_owned()));
    }
    let most = current.estate.settings().evidence_max_age;
    let proved = Timestamp::from_millis(node.evidence_time);
    if now.since(proved) > most {
        return Err(fallen(format!("its evidence is of {proved}")));
    }
    let id = core.node_id(name)?;
    let ends = {
        let state = core.state();
        let standing = state
            .svids_of(id.as_str())
            .filter(|svid| svid.kind == "x509" && core.standing(&state, svid).is_ok());
        standing.map(|svid| svid.not_after).max()
    };
    let until = ends.ok_or_else(|| fallen("it holds no SVID that stands".to_owned()))?;
    let facts = core.machine_facts(&node)?;
    Ok(Standing {
        facts: current.placed(&facts).into_owned(),
        node,
        until: Timestamp::from_millis(until),
        estate: format!("estate:{}", current.version),
    })
}
