//! What the estate asks of the hardware that a machine runs in, and what the machine shows of it.
//!
//! The evidence is judged beside that of the TPM, for the same nonce and bound to its attestation key, and both
//! make one verdict. A pool that asks for it takes no machine without.

mod bound;
mod domain;
pub(super) mod enclave;
mod fetching;
mod references;
mod standing;
mod vouched;

pub(super) use fetching::fetched;
pub(crate) use standing::{Standing, stands};
pub(crate) use vouched::{Vouching, vouched};

use crate::current::Current;
use crate::endorsements::Endorsements;
use crate::refusal::Refusal;
use attest::transcript::tee_report_data;
use attest_tee::endorsed::{self, Endorsed, lacks_endorsement};
use attest_tee::{Bundle, nitro, snp, tdx};
use attest_tpm::boot::Boot;
use crypto::PublicKey;
use endorsements::Want;
use estate::{Estate, TeeKind, TeeReference, TeeRoot, TeeTerms};
use facts::{Finding, Outcome, Source, Timestamp};
use proto::v1;

/// Quotes have some 5 KiB; what the agent collects has these limits as well.
const LONGEST_REPORT: usize = 32 * 1024;
const LONGEST_AUXILIARY: usize = 64 * 1024;
const LONGEST_EVENT_LOG: usize = 1 << 20;

/// Nitro's documents say when they were made; it is the nonce that makes them fresh.
const DOCUMENT_S: u64 = 300;

/// What a machine shows, within limits.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    kind: Option<TeeKind>,
    report: Vec<u8>,
    auxiliary: Vec<u8>,
    event_log: Vec<u8>,
}

impl Offered {
    /// # Errors
    /// `TEE-EVIDENCE-SIZE`.
    pub(super) fn of(evidence: Option<v1::TeeEvidence>) -> Result<Option<Self>, Refusal> {
        let Some(evidence) = evidence else {
            return Ok(None);
        };
        for (what, length, most) in [
            ("report", evidence.report.len(), LONGEST_REPORT),
            ("auxiliary", evidence.auxiliary.len(), LONGEST_AUXILIARY),
            ("event_log", evidence.event_log.len(), LONGEST_EVENT_LOG),
        ] {
            if length > most {
                return Err(Refusal::Invalid(
                    Finding::new(
                        "TEE-EVIDENCE-SIZE",
                        "a field of the hardware's evidence is too long",
                    )
                    .expected(format!("{what} of at most {most} bytes"))
                    .observed(format!("{length} bytes"))
                    .next("send the evidence as the hardware returned it; nothing in an estate allows more"),
                ));
            }
        }
        let kind = TeeKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == evidence.kind);
        Ok(Some(Self {
            kind,
            report: evidence.report,
            auxiliary: evidence.auxiliary,
            event_log: evidence.event_log,
        }))
    }

    /// The report of a paravisor, and the quote beside it, as they were kept; `None` where none was.
    pub(crate) fn kept(report: &[u8], quote: &[u8]) -> Option<Self> {
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
pub(super) struct Question<'a> {
    /// Of its TPM; known to be that by now.
    pub(super) attestation_key: &'a PublicKey,
    pub(super) nonce: [u8; 32],
    pub(super) now: Timestamp,
    /// What its TPM says that it booted.
    pub(super) booted: Option<&'a Boot>,
    /// The log that says so, as it came.
    pub(super) event_log: &'a [u8],
}

/// Why evidence is refused, and what to keep of it.
pub(crate) struct Refused {
    pub(crate) findings: Vec<Finding>,
    pub(super) blobs: Vec<(&'static str, Vec<u8>)>,
    /// What a vendor may be asked for, if it lacks endorsements alone.
    wants: Vec<Want>,
}

impl Refused {
    /// Whether something is known against the machine, and not only too little for it.
    pub(crate) fn accuses(&self) -> bool {
        let missing = |finding: &Finding| finding.code == "TEE-MISSING";
        !lacks_endorsement(&self.findings) && !self.findings.iter().all(missing)
    }

    /// Its findings, and the evidence that they were found in.
    pub(super) fn into_parts(self) -> (Vec<Finding>, Vec<(&'static str, Vec<u8>)>) {
        (self.findings, self.blobs)
    }

    /// With those of `wants` that are not at hand, if it lacks endorsements alone.
    fn lacking(self, wants: Vec<Want>, offered: &Offered, bundle: &Bundle, now: Timestamp) -> Self {
        if !lacks_endorsement(&self.findings) {
            return self;
        }
        Self {
            wants: fetching::lacking(wants, offered, bundle, now),
            ..self
        }
    }
}

impl From<Finding> for Refused {
    fn from(finding: Finding) -> Self {
        Self {
            findings: vec![finding],
            blobs: Vec::new(),
            wants: Vec::new(),
        }
    }
}

/// The verdict about what a machine of `ring` shows; `None` where nothing is asked and nothing, or nothing that
/// the estate speaks of, is shown. For threads of the pool.
///
/// # Errors
/// `TEE-MISSING`, `TEE-KIND`, and what the verifiers find.
pub(super) fn judge(
    offered: Option<&Offered>,
    question: &Question<'_>,
    current: &Current,
    ring: &str,
    endorsements: &Endorsements,
) -> Result<Option<Endorsed>, Refused> {
    let references = current.estate.references();
    let mut asked = references.tees_of(ring).peekable();
    if asked.peek().is_none() {
        return Ok(None);
    }
    let Some(offered) = offered else {
        return match required(current, ring) {
            Some(missing) => Err(missing.into()),
            None => Ok(None),
        };
    };
    let beside_a_tpm =
        |one: &&TeeReference| Some(one.kind()) == offered.kind && !one.kind().is_enclave();
    let Some(reference) = asked.find(beside_a_tpm) else {
        return match required(current, ring) {
            Some(_) => Err(other_kind(current, ring, offered).into()),
            None => Ok(None),
        };
    };
    let at_hand = endorsements.now();
    let report_data = tee_report_data(question.attestation_key.spki_der(), &question.nonce);
    let now = question.now;
    let root = root(reference, &current.estate)?;
    let wants = fetching::wants(offered, reference, root, now, endorsements)?;
    let bundle = endorsements.with(&at_hand.bundle, &wants, now);
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
            domain::booted(judged, evidence.event_log, terms, question, current, ring)
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
            return Err(other_kind(current, ring, offered).into());
        }
    };
    affirmed(judged, at_hand.problem)
        .map_err(|refused| refused.lacking(wants, offered, &bundle, now))
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

fn root<'a>(reference: &TeeReference, estate: &'a Estate) -> Result<Option<&'a TeeRoot>, Finding> {
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

/// What was affirmed; else why not, with what lacks on this side.
fn affirmed(judged: Endorsed, problem: Option<Finding>) -> Result<Endorsed, Refused> {
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
        wants: Vec::new(),
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

const fn source(reference: &TeeReference) -> Source {
    match reference.root {
        None => Source::Hardware,
        Some(_) => Source::Verified,
    }
}

/// The refusal of a machine of `ring` that shows nothing; `None` where nothing is asked.
pub(crate) fn required(current: &Current, ring: &str) -> Option<Finding> {
    let asked = current.estate.references().tees_of(ring);
    let asked: Vec<&TeeReference> = asked.collect();
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

fn other_kind(current: &Current, ring: &str, offered: &Offered) -> Finding {
    let kinds = current.estate.references().tees_of(ring);
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
