//! An enclave that speaks for itself: judged as each pool asks it of enclaves, and placed in the one whose image it is.

use super::Refused;
use crate::current::Current;
use crate::endorsements::Endorsements;
use attest_tee::endorsed::{self, Endorsed};
use attest_tee::{nitro, sgx};
use estate::{TeeKind, TeeReference, TeeTerms};
use facts::{Finding, Timestamp};
use recheck::tee::{DOCUMENT_S, affirmed, references, root, source};

/// What an enclave was asked.
pub(in crate::join) struct Question {
    /// What binds nonce, key and connection: `attest::transcript::EnclaveJoin`.
    pub(in crate::join) report_data: [u8; 64],
    pub(in crate::join) nonce: [u8; 32],
    /// SPKI.
    pub(in crate::join) key: Vec<u8>,
    pub(in crate::join) now: Timestamp,
}

/// What was affirmed of an enclave, and where it stands by that.
pub(in crate::join) struct Placed {
    pub(in crate::join) endorsed: Endorsed,
    pub(in crate::join) pool: String,
    /// The root that is no vendor's, if it hangs below one.
    pub(in crate::join) root: Option<String>,
}

/// Judges `report` of an enclave of `kind`. For threads of the pool.
///
/// # Errors
/// `ENCLAVE-UNASKED`, `ENCLAVE-POOLS`, and what the verifiers find: of several pools, that of the one which it misses
/// by least.
pub(in crate::join) fn judge(
    kind: TeeKind,
    report: &[u8],
    question: &Question,
    current: &Current,
    endorsements: &Endorsements,
) -> Result<Placed, Refused> {
    let mut placed: Vec<Placed> = Vec::new();
    let mut missed: Option<Refused> = None;
    for reference in current.estate.references().enclaves(kind) {
        match by(reference, report, question, current, endorsements) {
            Ok(endorsed) => placed.push(Placed {
                endorsed,
                pool: reference.pool.clone(),
                root: reference.root.clone(),
            }),
            Err(refused) => {
                let least = missed.as_ref().map(|missed| missed.findings.len());
                if least.is_none_or(|least| refused.findings.len() < least) {
                    missed = Some(refused);
                }
            }
        }
    }
    if placed.len() > 1 {
        return Err(several(&placed).into());
    }
    placed
        .pop()
        .ok_or_else(|| missed.unwrap_or_else(|| unasked(kind).into()))
}

fn by(
    reference: &TeeReference,
    report: &[u8],
    question: &Question,
    current: &Current,
    endorsements: &Endorsements,
) -> Result<Endorsed, Refused> {
    let (now, at_hand) = (question.now, endorsements.now());
    let root = root(reference, &current.estate)?;
    let judged = match &reference.terms {
        TeeTerms::Nitro(terms) => {
            let expected = nitro::Expectation {
                nonce: Some(question.nonce.to_vec()),
                user_data: Some(question.report_data.to_vec()),
                public_key: Some(question.key.clone()),
                max_age: DOCUMENT_S,
                now,
            };
            let references = references::nitro_enclave(terms, root)?;
            endorsed::nitro_enclave(report, &expected, &references)
        }
        TeeTerms::Sgx(terms) => {
            let expected = sgx::Expectation {
                report_data: question.report_data,
                now,
            };
            let references = references::sgx(terms, root)?;
            endorsed::sgx(report, &at_hand.bundle, &expected, &references)
        }
        TeeTerms::SevSnp(_)
        | TeeTerms::Tdx(_)
        | TeeTerms::AzureSnp(_)
        | TeeTerms::AzureTdx(_)
        | TeeTerms::NitroTpm(_) => return Err(unasked(reference.kind()).into()),
    };
    let judged = affirmed(judged, at_hand.problem)?;
    Ok(judged.below(reference.root_name(), source(reference), now))
}

fn several(placed: &[Placed]) -> Finding {
    let pools: Vec<&str> = placed.iter().map(|one| one.pool.as_str()).collect();
    Finding::new("ENCLAVE-POOLS", "the enclave is an image of several pools")
        .expected("an image of one")
        .observed(pools.join(", "))
        .next("list what runs in it under the [[tee]] of one pool alone")
}

fn unasked(kind: TeeKind) -> Finding {
    Finding::new("ENCLAVE-UNASKED", "no pool takes enclaves of this kind")
        .expected(format!(
            "a [[tee]] with `kind = \"{kind}\"`, a `pool` and the `image` that runs in the enclave"
        ))
        .observed("none in the estate's references")
        .next("add it to the estate, if the enclave is yours: docs/attestation/nitro.md, docs/attestation/sgx.md")
}
