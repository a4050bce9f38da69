//! Renewal of a node's SVID, and the detection of a copied state directory.
//!
//! Each renewal moves the node's generation on by one. Two machines with one state present the same
//! generation; the second to come presents one that has passed. Nobody can say which of them is the
//! original, so both are locked until an administrator readmits the machine; then whoever renews
//! first goes on.

use super::Caller;
use crate::core::{Core, draft, recorded};
use crate::join::{
    Admission, admit_node, certify_node, is_join_state, not_locked, prove_key, public_key,
    tpm_auth, tpm_fail, tpm_prove,
};
use crate::refusal::Refusal;
use facts::{FactSet, Finding, Source, Verdict, names};
use ledger::Decimal;
use ledger::body::{self, Body as _};
use proto::v1;
use std::sync::Arc;
use store::NodeRow;

pub(super) async fn renew(
    core: &Arc<Core>,
    caller: &Caller,
    request: v1::RenewRequest,
) -> Result<v1::Joined, Refusal> {
    core.signing.check()?;
    let name = &caller.node.name;
    let _renewing = core.busy(format!("node {name}"))?;
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
    let known = is_join_state(core, &request.join_state, name, request.generation);
    match place(&node, request.generation, &renewal, known) {
        Place::Next => {}
        Place::Again => {
            let bound = crypto::hex::encode(&key.spki_sha256());
            if node.key.as_deref() != Some(bound.as_str()) {
                return Err(lock(core, &node, request.generation).await);
            }
            let facts = core.machine_facts(&node)?;
            let auth = format!("x509:{}", caller.svid.serial);
            return certify_node(core, &node, key, facts, None, &auth).await;
        }
        Place::Passed => return Err(lock(core, &node, request.generation).await),
    }
    let facts = core.machine_facts(&node)?;
    let by_tpm = facts.text(names::MACHINE_JOIN) == Some("tpm");
    let admission = match (by_tpm, request.tpm) {
        (true, Some(tpm)) => {
            let proved = tpm_prove(core, &caller.peer, tpm).await;
            let evidence = match proved {
                Ok(evidence) if evidence.name == *name => evidence,
                Ok(evidence) => {
                    let finding = Finding::new("TPM-OTHER", "another machine's TPM answered")
                        .expected(name.clone())
                        .observed(evidence.name);
                    tpm_fail(core, name, &finding).await?;
                    return Err(Refusal::Denied(finding));
                }
                Err(Refusal::Denied(finding)) => {
                    if finding.code.starts_with("TPM-") {
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
            Admission {
                name: name.clone(),
                key,
                verdict: evidence.verdict,
                renewal,
                before: Vec::new(),
                how: "renewed",
                replaces: Some(caller.svid.serial.clone()),
                auth: tpm_auth(&evidence.proven.ek_sha256),
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
            verdict: Verdict::affirmed(again(core, &facts), Vec::new()),
            renewal,
            before: Vec::new(),
            how: "renewed",
            replaces: Some(caller.svid.serial.clone()),
            auth: format!("x509:{}", caller.svid.serial),
        },
    };
    admit_node(core, admission).await
}

/// Where a renewal stands against what is recorded of its node.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// It is the next.
    Next,
    /// It is the last one again, whose answer was lost.
    Again,
    /// Somebody else has made it.
    Passed,
}

fn place(node: &NodeRow, generation: u64, renewal: &[u8; 32], known_state: bool) -> Place {
    let last = node.renewal.as_deref() == Some(crypto::hex::encode(renewal).as_str());
    if last && known_state && generation + 1 == node.generation {
        Place::Again
    } else if node.readmitted.is_some() || known_state && generation == node.generation {
        Place::Next
    } else {
        Place::Passed
    }
}

/// Locks the node and says so to whoever asked.
async fn lock(core: &Arc<Core>, node: &NodeRow, presented: u64) -> Refusal {
    let finding = Finding::new(
        "AGENT-LOCKED",
        "two machines use one state: this renewal was made before by another; both are locked",
    )
    .expected(format!("generation {}", node.generation))
    .observed(format!("generation {presented}"))
    .next(format!(
        "find out which is the real one, then: trilith agent readmit {}",
        node.name
    ));
    let body = body::Lock {
        node: node.name.clone(),
        finding: recorded(&finding),
        generation: Decimal(presented),
    };
    core.workloads.drop_connection(&node.name);
    let record = body
        .record()
        .actor(core.authority.server_id().as_str(), "self");
    let record = match draft(record) {
        Ok(record) => record,
        Err(refusal) => return refusal,
    };
    match core.journal.append_reserved(vec![record.into()]).await {
        Ok(_) => Refusal::Denied(finding),
        Err(failure) => failure.into(),
    }
}

/// The facts of a machine that joined by token, seen again now: it still holds its key.
fn again(core: &Core, facts: &FactSet) -> FactSet {
    let now = core.now();
    let mut fresh = FactSet::new();
    for fact in facts.iter() {
        fresh.state(&fact.name, fact.value.clone(), Source::Verified, now);
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(generation: u64, renewal: [u8; 32], readmitted: Option<u64>) -> NodeRow {
        NodeRow {
            name: "m1".to_owned(),
            generation,
            renewal: Some(crypto::hex::encode(&renewal)),
            verdict: 1,
            evidence_time: 1,
            facts: String::new(),
            key: None,
            locked: None,
            locked_at: None,
            readmitted,
        }
    }

    #[test]
    fn a_copy_is_told_from_a_repetition() {
        let (last, other) = ([1; 32], [2; 32]);
        let at_5 = node(5, last, None);
        assert_eq!(place(&at_5, 5, &other, true), Place::Next);
        assert_eq!(place(&at_5, 4, &last, true), Place::Again);
        assert_eq!(place(&at_5, 4, &other, true), Place::Passed);
        assert_eq!(place(&at_5, 6, &other, true), Place::Passed);
        assert_eq!(
            place(&at_5, 5, &other, false),
            Place::Passed,
            "a forged state"
        );
        assert_eq!(
            place(&at_5, 4, &last, false),
            Place::Passed,
            "a forged state"
        );
        let readmitted = node(5, last, Some(9));
        assert_eq!(place(&readmitted, 4, &other, true), Place::Next);
    }
}
