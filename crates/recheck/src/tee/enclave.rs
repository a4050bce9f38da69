//! An enclave that speaks for itself: judged as each pool asks it of enclaves, and placed in the one whose image it is.

use super::{DOCUMENT_S, Refused, affirmed, references, root, source};
use attest::Evidence;
use attest_tee::endorsed::{self, Endorsed};
use attest_tee::{Bundle, nitro, sgx};
use crypto::hex;
use estate::{Estate, TeeKind, TeeReference, TeeTerms};
use facts::{FactSet, Finding, Source, Timestamp, names};

/// What an enclave was asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// What binds nonce, key and connection: `attest::transcript::EnclaveJoin`.
    pub report_data: [u8; 64],
    pub nonce: [u8; 32],
    /// SPKI.
    pub key: Vec<u8>,
    pub now: Timestamp,
}

/// Of the evidence: [`key_blob`].
pub const JOIN_KEY: &str = "enclave-key";

/// What tells enclaves of the same code apart, in bytes.
pub const INSTANCE: usize = 16;

/// The key that an enclave joins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joining {
    /// Of the enclave's own choice.
    pub instance: [u8; INSTANCE],
    pub spki: Vec<u8>,
}

/// As evidence: the instance, and the key's SPKI. What its hardware signed is about both.
#[must_use]
pub fn key_blob(instance: &[u8], spki: &[u8]) -> Evidence<'static> {
    Evidence::new(JOIN_KEY, [instance, spki].concat())
}

/// Reads what [`key_blob`] made.
#[must_use]
pub fn read_key(blob: &[u8]) -> Option<Joining> {
    let (instance, spki) = blob.split_first_chunk()?;
    Some(Joining {
        instance: *instance,
        spki: spki.to_vec(),
    })
}

/// What is stated of an enclave that joined: what it is called, and the pool whose image it is.
#[must_use]
pub fn joined(name: &str, pool: &str, now: Timestamp) -> FactSet {
    let mut facts = FactSet::new();
    for (fact, value) in [
        (names::MACHINE_JOIN, "enclave"),
        (names::MACHINE_NAME, name),
        (names::MACHINE_POOL, pool),
        (names::MACHINE_KEY, "memory-of-enclave"),
    ] {
        facts.state(fact, value, Source::Verified, now);
    }
    facts
}

/// What was affirmed of an enclave, and where it stands by that.
#[derive(Debug)]
pub struct Placed {
    pub endorsed: Endorsed,
    pub pool: String,
    /// The root that is no vendor's, if it hangs below one.
    pub root: Option<String>,
}

/// Judges `report` of an enclave of `kind` by `endorsements`, and the `problem` is why these are not all that they
/// should be.
///
/// # Errors
/// `ENCLAVE-UNASKED`, `ENCLAVE-POOLS`, and what the verifiers find: of several pools, that of the one which it misses
/// by least.
pub fn judge(
    kind: TeeKind,
    report: &[u8],
    question: &Question,
    estate: &Estate,
    (endorsements, problem): (&Bundle, Option<&Finding>),
) -> Result<Placed, Refused> {
    let mut placed: Vec<Placed> = Vec::new();
    let mut missed: Option<Refused> = None;
    for reference in estate.references().enclaves(kind) {
        match by(reference, report, question, estate, endorsements)
            .and_then(|judged| affirmed(judged, problem.cloned()))
            .map(|judged| below(judged, reference, question.now))
        {
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
    estate: &Estate,
    endorsements: &Bundle,
) -> Result<Endorsed, Refused> {
    let now = question.now;
    let root = root(reference, estate)?;
    Ok(match &reference.terms {
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
            endorsed::sgx(report, endorsements, &expected, &references)
        }
        TeeTerms::SevSnp(_)
        | TeeTerms::Tdx(_)
        | TeeTerms::AzureSnp(_)
        | TeeTerms::AzureTdx(_)
        | TeeTerms::NitroTpm(_) => return Err(unasked(reference.kind()).into()),
    })
}

/// Under a root that is no vendor's nothing follows from hardware.
fn below(judged: Endorsed, reference: &TeeReference, now: Timestamp) -> Endorsed {
    judged.below(reference.root_name(), source(reference), now)
}

/// What an enclave is called: by the hypervisor, which numbers them; or by processor, code and what the enclave
/// itself chose, which is in its report. A root that is no vendor's has names of its own.
#[must_use]
pub fn called(kind: TeeKind, placed: &Placed, instance: &[u8]) -> String {
    let facts = &placed.endorsed.verdict.facts;
    let platform = facts.text(names::MACHINE_TEE_PLATFORM).unwrap_or_default();
    let measured = facts
        .text(names::MACHINE_TEE_MEASUREMENT)
        .unwrap_or_default();
    let root = placed.root.as_ref().map(|root| format!("-{root}"));
    let root = root.unwrap_or_default();
    let plain = platform
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-');
    if kind == TeeKind::Nitro && plain && (1..=64).contains(&platform.len()) {
        return format!("{kind}{root}-{platform}");
    }
    let instance = match kind {
        TeeKind::Nitro => String::new(),
        _ => hex::encode(instance),
    };
    let digest = crypto::sha256(format!("{platform}\n{measured}\n{instance}").as_bytes());
    let digest = hex::encode(&digest);
    format!("{kind}{root}-{}", digest.get(..16).unwrap_or_default())
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
