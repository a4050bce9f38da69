//! Renewal of a node's SVID. A copied state directory is detected here; [`crate::lock`] says how.

use super::Caller;
use crate::core::Core;
use crate::evict::evict;
use crate::join::{
    Admission, admit_node, certify_node, chip, enclave_again, enclave_auth, in_force, prove_key,
    public_key, tee_required, tpm_auth, tpm_fail, tpm_prove,
};
use crate::lock::{Kept, Place, dead, lock, not_locked, place};
use crate::refusal::Refusal;
use crate::warranted;
use facts::{Finding, names};
use proto::v1;
use std::sync::Arc;

/// Nobody who is trusted vouches for the chip that answered: a certificate has ended, a reference value is gone
/// or was never there. That is no lie of the machine. It is evicted, and joins again once somebody does.
const UNVOUCHED: [&str; 6] = [
    "TPM-AK-CERT-VALIDITY",
    "TPM-AK-CHAIN",
    "TPM-AK-UNKNOWN",
    "TPM-EK-CERT-VALIDITY",
    "TPM-EK-CHAIN",
    "TPM-EK-UNKNOWN",
];
/// It booted in the middle of an answer: it answers again.
const RESTARTED: &str = "TPM-BOOT-CHANGED";

pub(super) async fn renew(
    core: &Arc<Core>,
    caller: &Caller,
    request: v1::RenewRequest,
) -> Result<v1::Joined, Refusal> {
    core.signing.check()?;
    let name = &caller.node.name;
    let _renewing = core.busy(format!("node {name}"))?;
    // Before it is looked whether the node is evicted.
    let begun = core.journal.reader().size();
    // Read again: whoever held the name before may have moved it on.
    let node = core.state().node(name).cloned();
    let node = node.unwrap_or_else(|| caller.node.clone());
    not_locked(&node)?;
    if !(16..=64).contains(&request.renewal_id.len()) || request.join_state.len() > 4096 {
        return Err(Refusal::Invalid(
            Finding::new("RENEW-REQUEST", "the renewal cannot be read")
                .expected("a renewal id of 16 to 64 bytes"),
        ));
    }
    let transcript = attest::transcript::renewal(
        core.trust_domain.as_str(),
        &caller.peer.exporter,
        &request.renewal_id,
        &request.join_state,
        &request.public_key,
    );
    let renewal = crypto::sha256(&request.renewal_id);
    let key = if request.proof.is_empty() && request.tpm.is_some() {
        public_key(&request.public_key)?
    } else {
        prove_key(&request.public_key, &transcript, &request.proof)?
    };
    let kept = Kept {
        join_state: &request.join_state,
        generation: request.generation,
        renewal,
    };
    match place(core, &node, &kept) {
        Place::Next => {}
        Place::Again => {
            let bound = crypto::hex::encode(&key.spki_sha256());
            if node.key.as_deref() != Some(bound.as_str()) {
                let seen = "this renewal was made before with another key";
                return Err(lock(core, &node, request.generation, seen).await);
            }
            let facts = core.machine_facts(&node)?;
            let auth = format!("x509:{}", caller.svid.serial);
            return certify_node(core, &node, key, facts, None, &auth).await;
        }
        Place::Dead => return Err(dead(&node)),
        Place::Passed => {
            let seen = "this renewal was made before by another";
            return Err(lock(core, &node, request.generation, seen).await);
        }
    }
    let facts = core.machine_facts(&node)?;
    let by_tpm = facts.text(names::MACHINE_JOIN) == Some("tpm");
    let by_enclave = facts.text(names::MACHINE_JOIN) == Some("enclave");
    // By TPM it is judged with the TPM's answer, and of an enclave it is all that is judged.
    let ring = facts.text(names::MACHINE_POOL).unwrap_or_default();
    let current = core.current.load_full();
    let current = current.filter(|_| !by_tpm && !by_enclave);
    if let Some(missing) = current.and_then(|current| tee_required(&current, ring)) {
        return Err(Refusal::Denied(missing));
    }
    let mut standing = None;
    // Until the verdict is recorded.
    let mut naming = None;
    let admission = match (by_tpm, request.tpm) {
        _ if by_enclave => {
            let Some(answer) = request.enclave else {
                return Err(Refusal::Denied(
                    Finding::new(
                        "RENEW-ENCLAVE",
                        "an enclave proves itself again with each renewal",
                    )
                    .next("send the answer to a new challenge"),
                ));
            };
            let evidence = enclave_again(core, &caller.peer, name, answer).await?;
            if evidence.key != key {
                return Err(Refusal::Denied(Finding::new(
                    "RENEW-KEY",
                    "the enclave's hardware vouches for another key than the one to be certified",
                )));
            }
            let auth = enclave_auth(&evidence);
            naming = Some(evidence.naming);
            Admission {
                name: name.clone(),
                auth,
                key,
                verdict: evidence.verdict,
                renewal,
                repeats: false,
                before: Vec::new(),
                how: "renewed",
                replaces: Some(caller.svid.serial.clone()),
                begun: evidence.begun,
                counted: None,
                estate: Some(evidence.estate),
            }
        }
        (true, Some(tpm)) => {
            let proved = tpm_prove(core, &caller.peer, tpm).await;
            let evidence = match proved {
                // A machine that the estate calls otherwise by now is the same one by its key; its next
                // join gives it the new name.
                Ok(evidence)
                    if evidence.name == *name || chip::is_of(&facts, &evidence.proven.chip) =>
                {
                    evidence
                }
                Ok(evidence) => {
                    let finding = Finding::new("TPM-OTHER", "another machine's TPM answered")
                        .expected(name.clone())
                        .observed(evidence.name);
                    tpm_fail(core, name, &finding).await?;
                    return Err(Refusal::Denied(finding));
                }
                Err(Refusal::Denied(finding)) => {
                    if UNVOUCHED.contains(&&*finding.code) {
                        evict(core, name, vec![finding.clone()], Vec::new()).await?;
                    } else if finding.code.starts_with("TPM-") && finding.code != RESTARTED {
                        tpm_fail(core, name, &finding).await?;
                    }
                    return Err(Refusal::Denied(finding));
                }
                Err(refusal) => return Err(refusal),
            };
            if evidence.proven.session_key != key {
                return Err(Refusal::Denied(Finding::new(
                    "RENEW-KEY",
                    "the TPM vouches for another key than the one to be certified",
                )));
            }
            standing = Some(evidence.standing());
            let counted = evidence.counted();
            naming = Some(evidence.naming);
            Admission {
                name: name.clone(),
                key,
                verdict: evidence.verdict,
                renewal,
                repeats: false,
                before: Vec::new(),
                how: "renewed",
                replaces: Some(caller.svid.serial.clone()),
                auth: tpm_auth(&evidence.proven.chip),
                begun: evidence.begun,
                counted,
                estate: Some(evidence.estate),
            }
        }
        (true, None) => {
            return Err(Refusal::Denied(
                Finding::new(
                    "RENEW-TPM",
                    "a machine that joined by TPM proves itself again",
                )
                .next("send the answer to a new challenge"),
            ));
        }
        (false, _) => Admission {
            name: name.clone(),
            key,
            verdict: warranted::seen_again(&facts, core.now()),
            renewal,
            repeats: false,
            before: Vec::new(),
            how: "renewed",
            replaces: Some(caller.svid.serial.clone()),
            auth: format!("x509:{}", caller.svid.serial),
            begun,
            counted: None,
            estate: in_force(core),
        },
    };
    let renewed = admit_node(core, admission).await?;
    if let Some(naming) = naming {
        naming.recorded().await;
    }
    if let Some(proved) = standing {
        crate::attesting::stands(core, name, proved);
    }
    Ok(renewed)
}
