//! Evidence as a machine sends it, judged with whatever endorses it: what came along, or stands in a bundle.
//!
//! Nothing is fetched. That nothing endorses evidence is told apart from evidence that is bad: the first is
//! mended at the verifier.

use crate::intel::{self, Ca, Collateral, CollateralBytes};
use crate::snp::{self, Report};
use crate::{Artefact, Bundle, tdx};
use attest::{Evidence as Blob, Verdict};
use crypto::hex;
use facts::{Finding, Outcome};

/// Certificates that are tried for one report.
const MOST: usize = 16;

/// Findings that are mended where the evidence is judged, and say nothing of the machine.
const OURS: [&str; 10] = [
    "TEE-ENDORSEMENT-MISSING",
    "TEE-ENDORSEMENT-PENDING",
    "TEE-ENDORSEMENT-FETCH",
    "TEE-ENDORSEMENT-LIMIT",
    "TEE-SNP-CRL",
    "TEE-INTEL-COLLATERAL",
    "TEE-INTEL-COLLATERAL-TIME",
    "TEE-INTEL-EVALUATION",
    "TEE-ROOT-STRUCTURE",
    "TEE-BUNDLE-STRUCTURE",
];

/// A verdict, and the bytes of what it names.
#[derive(Debug, Clone)]
pub struct Endorsed {
    pub verdict: Verdict,
    /// Evidence and the endorsements that were used, for whoever wants to judge it again.
    pub blobs: Vec<Blob<'static>>,
}

impl Endorsed {
    fn refused(findings: Vec<Finding>, blobs: Vec<Blob<'static>>) -> Self {
        let digests = blobs.iter().map(Blob::digest).collect();
        Self {
            verdict: Verdict::refused(findings, digests),
            blobs,
        }
    }
}

/// Whether `findings` are about endorsements alone: then nothing is known against the machine.
#[must_use]
pub fn lacks_endorsement(findings: &[Finding]) -> bool {
    !findings.is_empty() && findings.iter().all(|one| OURS.contains(&one.code.as_ref()))
}

/// Judges a report of SEV-SNP. `table` is the host's table of certificates, empty without one; the
/// certificate is sought in it and in `bundle`, lists and intermediates in `bundle` alone.
///
/// Of several certificates that might fit, the one that leaves the fewest faults speaks.
///
/// # Errors
/// None: a refusal is a verdict. `TEE-ENDORSEMENT-MISSING` where no certificate is at hand.
#[must_use]
pub fn snp(
    report: &[u8],
    table: &[u8],
    bundle: &Bundle,
    expected: &snp::Expectation,
    references: &snp::References,
) -> Endorsed {
    let blob = || vec![Blob::new("snp-report", report.to_vec())];
    let parsed = match Report::parse(report) {
        Ok(parsed) => parsed,
        Err(finding) => return Endorsed::refused(vec![finding], blob()),
    };
    let mut references = references.clone();
    bundle.offer(&mut references.roots);
    let in_bundle = bundle.snp_keys(&parsed).iter().map(Vec::as_slice);
    let candidates = snp::certificates(table).into_iter().chain(in_bundle);
    let mut best: Option<Endorsed> = None;
    for key in candidates.take(MOST) {
        let generation = snp::generation(key);
        let crl = generation.and_then(|one| bundle.snp_crl(&references.roots, one));
        let evidence = snp::Evidence { report, key, crl };
        let verdict = snp::verify(&evidence, expected, &references);
        let faults = verdict.findings.len();
        if best
            .as_ref()
            .is_some_and(|best| best.verdict.findings.len() <= faults)
        {
            continue;
        }
        let affirmed = verdict.outcome() == Outcome::Affirmed;
        let mut blobs = blob();
        blobs.push(Blob::new("snp-key", key.to_vec()));
        blobs.extend(crl.map(|crl| Blob::new("snp-crl", crl.to_vec())));
        best = Some(Endorsed { verdict, blobs });
        if affirmed {
            break;
        }
    }
    best.unwrap_or_else(|| {
        let finding = Finding::new(
            "TEE-ENDORSEMENT-MISSING",
            "there is no certificate of the key that signed the report",
        )
        .expected(format!(
            "the {} of chip {} at TCB {}, from the host's table or the bundle of endorsements",
            parsed.signing_key(),
            hex::encode(&parsed.chip_id),
            hex::encode(&parsed.reported_tcb),
        ))
        .observed("none")
        .next(to_fetch(
            "AMD's key server",
            &Artefact::of_snp(report, &accepted(&references)),
        ));
        Endorsed::refused(vec![finding], blob())
    })
}

/// Judges a quote of TDX, with the event log of its boot if one came along, by the collateral in `bundle`.
///
/// # Errors
/// None: a refusal is a verdict. `TEE-ENDORSEMENT-MISSING` where the bundle has no collateral of the platform.
#[must_use]
pub fn tdx(
    evidence: &tdx::Evidence<'_>,
    bundle: &Bundle,
    expected: &tdx::Expectation,
    references: &tdx::References,
) -> Endorsed {
    let mut blobs = vec![Blob::new("tdx-quote", evidence.quote.to_vec())];
    blobs.extend(
        evidence
            .event_log
            .map(|log| Blob::new("ccel", log.to_vec())),
    );
    let pck = match intel::platform(evidence.quote, &references.roots, expected.now) {
        Ok(pck) => pck,
        Err(findings) => return Endorsed::refused(findings, blobs),
    };
    let Some(bytes) = bundle.collateral(true, pck.fmspc, pck.ca) else {
        let finding = Finding::new(
            "TEE-ENDORSEMENT-MISSING",
            "there is no collateral of the platform that made the quote",
        )
        .expected(format!(
            "collateral for TDX of FMSPC {}, authority {}, in the bundle of endorsements",
            hex::encode(&pck.fmspc),
            pck.ca.word(),
        ))
        .observed("none")
        .next(to_fetch(
            "Intel's PCS",
            &Artefact::of_platform(true, pck.fmspc, pck.ca),
        ));
        return Endorsed::refused(vec![finding], blobs);
    };
    let kept = Blob::new("tdx-collateral", collateral(bytes, pck.fmspc, pck.ca));
    blobs.push(kept);
    let collateral = match Collateral::open(bytes, &references.roots) {
        Ok(collateral) => collateral,
        Err(finding) => return Endorsed::refused(vec![finding], blobs),
    };
    let mut verdict = tdx::verify(evidence, &collateral, expected, references);
    verdict.evidence = blobs.iter().map(Blob::digest).collect();
    Endorsed { verdict, blobs }
}

/// The generations that `references` accept.
fn accepted(references: &snp::References) -> Vec<snp::Generation> {
    references.generations.iter().map(|(one, _)| *one).collect()
}

/// What an operator runs, on whatever machine has a network.
fn to_fetch(vendor: &str, artefacts: &[Artefact]) -> String {
    let names: Vec<_> = artefacts.iter().map(ToString::to_string).collect();
    format!(
        "fetch it from {vendor} into the server's bundle: trilith attest endorsements fetch --into \
         endorsements.json {}; or let the server fetch (tee_fetch): docs/attestation/endorsements.md",
        names.join(" ")
    )
}

/// A bundle with nothing but this collateral.
fn collateral(bytes: &CollateralBytes, fmspc: [u8; 6], ca: Ca) -> Vec<u8> {
    let base64 = crypto::base64::encode;
    serde_json::json!({
        "version": 1,
        "intel": [{
            "tee": "tdx",
            "fmspc": hex::encode(&fmspc),
            "ca": ca.word(),
            "tcb_info": bytes.tcb_info,
            "qe_identity": bytes.qe_identity,
            "signing_chain": bytes.signing_chain,
            "pck_crl": base64(&bytes.pck_crl),
            "pck_crl_chain": bytes.pck_crl_chain,
            "root_crl": base64(&bytes.root_crl),
        }],
    })
    .to_string()
    .into_bytes()
}
