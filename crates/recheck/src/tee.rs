//! What the estate asks of the hardware that a machine runs in, and what the machine shows of it: judged when it
//! joins, and again by whoever has its evidence.
//!
//! The evidence is judged beside that of the TPM, for the same nonce and bound to its attestation key, and both
//! make one verdict. A pool that asks for it takes no machine without. Endorsements are somebody else's to have at
//! hand: [`Endorses`].

mod bound;
mod domain;
pub mod enclave;
mod kept;
pub mod references;
mod vouched;

pub use kept::Kept;
pub use vouched::{Vouching, vouched};

use appraise::Demands;
use attest::transcript::tee_report_data;
use attest_tee::endorsed::{self, Endorsed, lacks_endorsement};
use attest_tee::{Bundle, nitro, snp, tdx};
use attest_tpm::boot::Boot;
use crypto::PublicKey;
use estate::{Estate, TeeKind, TeeReference, TeeRoot, TeeTerms};
use facts::{Finding, Outcome, Source, Timestamp};
use std::sync::Arc;

/// Nitro's documents say when they were made; it is the nonce that makes them fresh.
pub const DOCUMENT_S: u64 = 300;

/// What a machine shows. Whoever takes it from a machine has limited its length.
#[derive(Debug, Clone)]
pub struct Offered {
    /// `None` for a kind that is not understood.
    pub kind: Option<TeeKind>,
    pub report: Vec<u8>,
    pub auxiliary: Vec<u8>,
    pub event_log: Vec<u8>,
}

impl Offered {
    /// The report of a paravisor, and the quote beside it, as they were kept; `None` where none was.
    #[must_use]
    pub fn kept(report: &[u8], quote: &[u8]) -> Option<Self> {
        let kind = if quote.is_empty() {
            TeeKind::AzureSnp
        } else {
            TeeKind::AzureTdx
        };
        (!report.is_empty()).then(|| Self {
            kind: Some(kind),
            report: report.to_vec(),
            auxiliary: quote.to_vec(),
            event_log: Vec::new(),
        })
    }
}

/// What was asked of a machine.
pub struct Question<'a> {
    /// Of its TPM; known to be that by now.
    pub attestation_key: &'a PublicKey,
    pub nonce: [u8; 32],
    pub now: Timestamp,
    /// What its TPM says that it booted.
    pub booted: Option<&'a Boot>,
    /// The log that says so, as it came.
    pub event_log: &'a [u8],
}

/// What machines of `ring` are asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub estate: &'a Estate,
    /// The machine's pool; empty for one that is in none.
    pub ring: &'a str,
    /// Of the estate, for `ring`.
    pub demands: &'a Demands,
}

/// Has the endorsements that evidence is judged by.
pub trait Endorses {
    /// What is at hand for evidence of this kind.
    ///
    /// # Errors
    /// `TEE-ROOT-STRUCTURE`.
    fn bundle(
        &self,
        offered: &Offered,
        reference: &TeeReference,
        root: Option<&TeeRoot>,
        now: Timestamp,
    ) -> Result<Arc<Bundle>, Finding>;

    /// Why not everything is at hand that should be.
    fn problem(&self) -> Option<Finding>;
}

/// Why evidence is refused, and what to keep of it.
#[derive(Debug)]
pub struct Refused {
    pub findings: Vec<Finding>,
    pub blobs: Vec<(&'static str, Vec<u8>)>,
}

impl From<Finding> for Refused {
    fn from(finding: Finding) -> Self {
        Self {
            findings: vec![finding],
            blobs: Vec::new(),
        }
    }
}

/// The verdict about what a machine shows; `None` where nothing is asked and nothing, or nothing that the estate
/// speaks of, is shown.
///
/// # Errors
/// `TEE-MISSING`, `TEE-KIND`, and what the verifiers find.
pub fn judge(
    offered: Option<&Offered>,
    question: &Question<'_>,
    asked: &Asked<'_>,
    endorses: &impl Endorses,
) -> Result<Option<Endorsed>, Refused> {
    let (estate, ring) = (asked.estate, asked.ring);
    let mut references = estate.references().tees_of(ring).peekable();
    if references.peek().is_none() {
        return Ok(None);
    }
    let Some(offered) = offered else {
        return match required(estate, ring) {
            Some(missing) => Err(missing.into()),
            None => Ok(None),
        };
    };
    let beside_a_tpm =
        |one: &&TeeReference| Some(one.kind()) == offered.kind && !one.kind().is_enclave();
    let Some(reference) = references.find(beside_a_tpm) else {
        return match required(estate, ring) {
            Some(_) => Err(other_kind(estate, ring, offered).into()),
            None => Ok(None),
        };
    };
    let report_data = tee_report_data(question.attestation_key.spki_der(), &question.nonce);
    let now = question.now;
    let root = root(reference, estate)?;
    let bundle = endorses.bundle(offered, reference, root, now)?;
    let judged = match &reference.terms {
        TeeTerms::SevSnp(terms) => endorsed::snp(
            &offered.report,
            &offered.auxiliary,
            &bundle,
            &snp::Expectation { report_data, now },
            &references::snp(terms, root)?,
        ),
        TeeTerms::Tdx(terms) => {
            let evidence = tdx::Evidence {
                quote: &offered.report,
                event_log: Some(offered.event_log.as_slice()).filter(|log| !log.is_empty()),
            };
            let expected = tdx::Expectation { report_data, now };
            let references = references::tdx(terms, root)?;
            let judged = endorsed::tdx(&evidence, &bundle, &expected, &references);
            domain::booted(judged, evidence.event_log, terms, question, asked)
        }
        // Of a machine that is known by an endorsement key: its attestation key is proved to be of that chip,
        // and has to be the one that the paravisor vouches for.
        TeeTerms::AzureSnp(terms) => {
            let references = references::snp(terms, root)?;
            of_its_key(azure_snp(offered, &bundle, now, &references), question)
        }
        TeeTerms::AzureTdx(terms) => {
            let references = references::tdx(terms, root)?;
            of_its_key(azure_tdx(offered, &bundle, now, &references), question)
        }
        TeeTerms::NitroTpm(terms) => {
            let expected = nitro::Expectation {
                nonce: None,
                user_data: Some(report_data.to_vec()),
                public_key: None,
                max_age: DOCUMENT_S,
                now,
            };
            let references = references::nitro(terms, root)?;
            let judged = endorsed::nitro_tpm(&offered.report, &expected, &references);
            bound::bound(judged, offered, question)
        }
        // An enclave speaks for itself, and for no machine around it.
        TeeTerms::Nitro(_) | TeeTerms::Sgx(_) => {
            return Err(other_kind(estate, ring, offered).into());
        }
    };
    affirmed(judged, endorses.problem())
        .map(|judged| Some(stated(judged, reference, question.attestation_key, now)))
}

fn azure_snp(
    offered: &Offered,
    bundle: &Bundle,
    now: Timestamp,
    references: &snp::References,
) -> (Endorsed, Option<PublicKey>) {
    let Offered {
        report, auxiliary, ..
    } = offered;
    endorsed::azure_snp(report, auxiliary, bundle, now, references)
}

fn azure_tdx(
    offered: &Offered,
    bundle: &Bundle,
    now: Timestamp,
    references: &tdx::References,
) -> (Endorsed, Option<PublicKey>) {
    let Offered {
        report, auxiliary, ..
    } = offered;
    endorsed::azure_tdx(report, auxiliary, bundle, now, references)
}

fn of_its_key((judged, key): (Endorsed, Option<PublicKey>), question: &Question<'_>) -> Endorsed {
    if key.is_some_and(|key| key != *question.attestation_key) {
        judged.refused_for(vec![other_key()])
    } else {
        judged
    }
}

fn other_key() -> Finding {
    Finding::new(
        "TEE-AZURE-KEY",
        "the TPM answered by another attestation key than the paravisor vouches for",
    )
    .next("set join.tee of agent.toml to `paravisor = \"azure\"`")
}

/// The root that a reference names, if it names one.
///
/// # Errors
/// `TEE-ROOT-STRUCTURE`.
pub fn root<'a>(
    reference: &TeeReference,
    estate: &'a Estate,
) -> Result<Option<&'a TeeRoot>, Finding> {
    let declared = &estate.references().tee_roots;
    let named = |name| {
        // The estate is refused otherwise.
        let undeclared = || {
            Finding::new("TEE-ROOT-STRUCTURE", "the estate declares no such root")
                .expected(format!("a [[tee_root]] with `name = \"{name}\"`"))
                .next("declare it in the estate's references, or name another as `root` of [[tee]]")
        };
        declared.get(name).ok_or_else(undeclared)
    };
    reference.root.as_ref().map(named).transpose()
}

/// What was affirmed.
///
/// # Errors
/// Why not, with what lacks on this side.
pub fn affirmed(judged: Endorsed, problem: Option<Finding>) -> Result<Endorsed, Refused> {
    if judged.verdict.outcome() == Outcome::Affirmed {
        return Ok(judged);
    }
    let mut findings = judged.verdict.into_stated().findings;
    if lacks_endorsement(&findings) {
        findings.extend(problem);
    }
    let blobs = judged.blobs.into_iter();
    let blobs = blobs.map(|blob| (blob.kind, blob.bytes.into_owned()));
    Err(Refused {
        findings,
        blobs: blobs.collect(),
    })
}

/// What was judged, with what it rests on. Under a root that is no vendor's nothing follows from hardware.
fn stated(
    judged: Endorsed,
    reference: &TeeReference,
    attestation_key: &PublicKey,
    now: Timestamp,
) -> Endorsed {
    let (root, most) = (reference.root_name(), source(reference));
    judged.resting_on(root, most, attestation_key, now)
}

/// How far what is below the reference's root is to be believed.
#[must_use]
pub const fn source(reference: &TeeReference) -> Source {
    match reference.root {
        None => Source::Hardware,
        Some(_) => Source::Verified,
    }
}

/// The refusal of a machine of `ring` that shows nothing; `None` where nothing is asked.
#[must_use]
pub fn required(estate: &Estate, ring: &str) -> Option<Finding> {
    let asked: Vec<&TeeReference> = estate.references().tees_of(ring).collect();
    if !asked.iter().any(|one| one.require) {
        return None;
    }
    let kinds: Vec<&str> = asked.iter().map(|one| one.kind().as_str()).collect();
    Some(
        Finding::new(
            "TEE-MISSING",
            "the machine shows nothing of the hardware that it runs in",
        )
        .expected(format!(
            "a report of {}, which {} for, beside the TPM's quote",
            kinds.join(" or "),
            match ring {
                "" => "machines in no pool are asked".to_owned(),
                pool => format!("the pool {pool:?} asks"),
            }
        ))
        .observed("none")
        .next(
            "let the machine join by its TPM, run in such hardware, and have the kernel's configfs-tsm \
             (/sys/kernel/config/tsm/report), which the node agent has to be able to write to, or for a \
             paravisor or a NitroTPM join.tee in agent.toml; an enclave joins by `method = \"enclave\"`; else take the machine out of the pool, or \
             `require` out of the estate's [[tee]]",
        ),
    )
}

fn other_kind(estate: &Estate, ring: &str, offered: &Offered) -> Finding {
    let kinds = estate.references().tees_of(ring);
    let kinds: Vec<&str> = kinds.map(|one| one.kind().as_str()).collect();
    Finding::new("TEE-KIND", "the machine runs in hardware of another kind")
        .expected(match ring {
            "" => kinds.join(" or "),
            pool => format!("{} for the pool {pool:?}", kinds.join(" or ")),
        })
        .observed(
            offered
                .kind
                .map_or("a kind that is not understood", TeeKind::as_str),
        )
        .next("add a [[tee]] of this kind to the estate's references, if the pool may run in it")
}
