//! What the estate asks of the hardware that a machine runs in, and what the machine shows of it.
//!
//! The evidence is judged beside that of the TPM, for the same nonce and bound to its attestation key, and both
//! make one verdict. A pool that asks for it takes no machine without.

mod fetching;
mod references;
mod standing;

pub(super) use fetching::fetched;
pub(crate) use standing::{Standing, stands};

use crate::current::Current;
use crate::endorsements::Endorsements;
use crate::refusal::Refusal;
use attest::transcript::tee_report_data;
use attest_tee::endorsed::{self, Endorsed, lacks_endorsement};
use attest_tee::{snp, tdx};
use crypto::PublicKey;
use endorsements::Want;
use estate::{TeeKind, TeeReference, TeeTerms};
use facts::{Fact, FactSet, Finding, Outcome, Source, Timestamp, Verdict, names};
use proto::v1;

/// Quotes have some 5 KiB; what the agent collects has these limits as well.
const LONGEST_REPORT: usize = 32 * 1024;
const LONGEST_AUXILIARY: usize = 64 * 1024;
const LONGEST_EVENT_LOG: usize = 1 << 20;

/// What a machine shows, within limits.
#[derive(Debug, Clone)]
pub(super) struct Offered {
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
                    .observed(format!("{length} bytes")),
                ));
            }
        }
        let kind = [TeeKind::SevSnp, TeeKind::Tdx]
            .into_iter()
            .find(|kind| kind.as_str() == evidence.kind);
        Ok(Some(Self {
            kind,
            report: evidence.report,
            auxiliary: evidence.auxiliary,
            event_log: evidence.event_log,
        }))
    }
}

/// What was asked of a machine.
pub(super) struct Question<'a> {
    /// Of its TPM; known to be that by now.
    pub(super) attestation_key: &'a PublicKey,
    pub(super) nonce: [u8; 32],
    pub(super) now: Timestamp,
}

/// Why evidence is refused, and what to keep of it.
pub(super) struct Refused {
    pub(super) findings: Vec<Finding>,
    pub(super) blobs: Vec<(&'static str, Vec<u8>)>,
    /// What a vendor may be asked for, if it lacks endorsements alone.
    wants: Vec<Want>,
}

impl Refused {
    /// Whether something is known against the machine, and not only too little for it.
    pub(super) fn accuses(&self) -> bool {
        let missing = |finding: &Finding| finding.code == "TEE-MISSING";
        !lacks_endorsement(&self.findings) && !self.findings.iter().all(missing)
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
    let Some(reference) = asked.find(|one| Some(one.kind()) == offered.kind) else {
        return match required(current, ring) {
            Some(_) => Err(other_kind(current, ring, offered).into()),
            None => Ok(None),
        };
    };
    let root = reference
        .root
        .as_ref()
        .map(|name| {
            references
                .tee_roots
                .get(name)
                // The estate is refused otherwise.
                .ok_or_else(|| {
                    Finding::new("TEE-ROOT-STRUCTURE", "the estate declares no such root")
                })
        })
        .transpose()?;
    let at_hand = endorsements.now();
    let report_data = tee_report_data(question.attestation_key.spki_der(), &question.nonce);
    let now = question.now;
    let wants = fetching::wants(offered, reference, root, now, endorsements)?;
    let bundle = endorsements.with(&at_hand.bundle, &wants, now);
    let mut judged = match &reference.terms {
        TeeTerms::SevSnp(terms) => endorsed::snp(
            &offered.report,
            &offered.auxiliary,
            &bundle,
            &snp::Expectation { report_data, now },
            &references::snp(terms, root)?,
        ),
        TeeTerms::Tdx(terms) => endorsed::tdx(
            &tdx::Evidence {
                quote: &offered.report,
                event_log: Some(offered.event_log.as_slice()).filter(|log| !log.is_empty()),
            },
            &bundle,
            &tdx::Expectation { report_data, now },
            &references::tdx(terms, root)?,
        ),
    };
    if judged.verdict.outcome() != Outcome::Affirmed {
        let mut findings = judged.verdict.findings;
        let mut lacking = Vec::new();
        if lacks_endorsement(&findings) {
            findings.extend(at_hand.problem);
            lacking = fetching::lacking(wants, offered, &bundle, now);
        }
        let blobs = judged.blobs.into_iter();
        let blobs = blobs.map(|blob| (blob.kind, blob.bytes.into_owned()));
        return Err(Refused {
            findings,
            blobs: blobs.collect(),
            wants: lacking,
        });
    }
    judged.verdict = stated(&judged.verdict, reference, question);
    Ok(Some(judged))
}

/// The verdict with what it rests on. Under a root that is no vendor's nothing follows from hardware.
fn stated(verdict: &Verdict, reference: &TeeReference, question: &Question<'_>) -> Verdict {
    let source = match reference.root {
        None => Source::Hardware,
        Some(_) => Source::Verified,
    };
    let facts = verdict.facts.iter().map(|fact| Fact {
        source: fact.source.min(source),
        ..fact.clone()
    });
    let mut facts: FactSet = facts.collect();
    let ak = crypto::hex::encode(&question.attestation_key.spki_sha256());
    facts.state(names::MACHINE_TEE_AK, ak, source, question.now);
    let root = reference.root_name();
    facts.state(
        names::MACHINE_TEE_ROOT,
        root,
        Source::Verified,
        question.now,
    );
    Verdict::affirmed(facts, verdict.evidence.clone())
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
            "a report of {}, which the pool {ring:?} asks for, beside the TPM's quote",
            kinds.join(" or ")
        ))
        .observed("none")
        .next(
            "let the machine join by its TPM, run in such hardware, and have the kernel's configfs-tsm \
             (/sys/kernel/config/tsm/report), which the node agent has to be able to write to; else take \
             the machine out of the pool, or `require` out of the estate's [[tee]]",
        ),
    )
}

fn other_kind(current: &Current, ring: &str, offered: &Offered) -> Finding {
    let kinds = current.estate.references().tees_of(ring);
    let kinds: Vec<&str> = kinds.map(|one| one.kind().as_str()).collect();
    Finding::new("TEE-KIND", "the machine runs in hardware of another kind")
        .expected(format!("{} for the pool {ring:?}", kinds.join(" or ")))
        .observed(
            offered
                .kind
                .map_or("a kind that is not understood", TeeKind::as_str),
        )
        .next("add a [[tee]] of this kind to the estate's references, if the pool may run in it")
}
