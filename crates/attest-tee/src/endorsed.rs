//! Evidence as a machine sends it, judged with whatever endorses it: what came along, or stands in a bundle.
//!
//! Nothing is fetched. That nothing endorses evidence is told apart from evidence that is bad: the first is
//! mended at the verifier.

mod enclave;

pub use enclave::{nitro_enclave, sgx};

use crate::allow::to_fetch;
use crate::azure::{self, Hcl};
use crate::intel::{self, Ca, Collateral, CollateralBytes};
use crate::snp::{self, Report};
use crate::{Artefact, Bundle, WARRANT, nitro, tdx};
use attest::{Evidence as Blob, Verdict};
use crypto::{PublicKey, hex};
use facts::{Fact, FactSet, Finding, Outcome, Source, Timestamp, names};

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

    /// What was affirmed, with what it rests on: the root, and the attestation key of the TPM that the evidence
    /// is bound to. No fact of it has a stronger source than `most`: nothing follows from hardware under a root
    /// that is no vendor's. A refused one stays as it is.
    #[must_use]
    pub fn resting_on(self, root: &str, most: Source, key: &PublicKey, now: Timestamp) -> Self {
        let mut facts = FactSet::new();
        let key = hex::encode(&key.spki_sha256());
        facts.state(names::MACHINE_TEE_AK, key, most, now);
        self.below(root, most, now)
            .and(&facts::Affirmed::by(&WARRANT, facts))
    }

    /// As [`Endorsed::resting_on`], of evidence that speaks for no TPM.
    #[must_use]
    pub fn below(self, root: &str, most: Source, now: Timestamp) -> Self {
        if self.verdict.outcome() == Outcome::Refused {
            return self;
        }
        let said = self.verdict.into_stated();
        let mut facts: FactSet = said
            .facts
            .iter()
            .map(|fact| Fact {
                source: fact.source.min(most),
                ..fact.clone()
            })
            .collect();
        facts.state(names::MACHINE_TEE_ROOT, root, Source::Verified, now);
        Self {
            verdict: Verdict::affirmed(&WARRANT, facts, said.evidence),
            ..self
        }
    }

    /// With how it is known that the TPM of the join is the one that the document speaks of: `quote`, `event-log` or
    /// `key`. A refused one stays as it is.
    #[must_use]
    pub fn bound_to_tpm(self, by: &'static str, now: Timestamp) -> Self {
        let mut facts = FactSet::new();
        facts.state(names::MACHINE_TEE_TPM_BOUND, by, Source::Hardware, now);
        self.and(&facts::Affirmed::by(&WARRANT, facts))
    }

    /// With more of what the machine showed, as evidence.
    #[must_use]
    pub fn shown_with(mut self, blob: Blob<'static>) -> Self {
        self.blobs.push(blob);
        let digests = self.blobs.iter().map(Blob::digest).collect();
        Self {
            verdict: self.verdict.resting_on(digests),
            ..self
        }
    }

    /// With what another verifier made of the same evidence.
    #[must_use]
    pub fn and(self, more: &facts::Affirmed) -> Self {
        Self {
            verdict: self.verdict.and(more),
            ..self
        }
    }

    /// The same evidence, refused.
    #[must_use]
    pub fn refused_for(self, findings: Vec<Finding>) -> Self {
        let evidence = self.verdict.into_stated().evidence;
        Self {
            verdict: Verdict::refused(findings, evidence),
            ..self
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
    let mut references = references.clone();
    let chains = bundle.offer(&mut references.roots).concat();
    let accepted = accepted(&references);
    let judged = by_each_key(
        report,
        table,
        bundle,
        &references.roots,
        &accepted,
        |evidence| (snp::verify(evidence, expected, &references), ()),
    );
    let shown = Blob::new("snp-report", report.to_vec());
    match judged {
        Ok((verdict, (), used)) => {
            let blobs = [vec![shown], used, chained(chains)].concat();
            let verdict = verdict.resting_on(blobs.iter().map(Blob::digest).collect());
            Endorsed { verdict, blobs }
        }
        Err(finding) => Endorsed::refused(vec![finding], vec![shown]),
    }
}

/// Judges the report of a paravisor on SEV-SNP, as [`snp`] does the report in it. The attestation key is that
/// of the machine's vTPM, and there if the verdict is affirmed.
///
/// The hardware was asked once, at boot, so that nothing here is fresh: that is for a quote by the key.
///
/// # Errors
/// None: a refusal is a verdict, with the codes of [`azure::verify`].
#[must_use]
pub fn azure_snp(
    hcl: &[u8],
    table: &[u8],
    bundle: &Bundle,
    now: Timestamp,
    references: &snp::References,
) -> (Endorsed, Option<PublicKey>) {
    let shown = Blob::new("hcl-report", hcl.to_vec());
    let report = match Hcl::parse(hcl) {
        Ok(parsed) => parsed.report,
        Err(finding) => return (Endorsed::refused(vec![finding], vec![shown]), None),
    };
    let mut references = azure::References {
        snp: references.clone(),
        tdx: tdx::References::default(),
    };
    let chains = bundle.offer(&mut references.snp.roots).concat();
    let expected = azure::Expectation {
        user_data: None,
        now,
    };
    let accepted = accepted(&references.snp);
    let judged = by_each_key(
        report,
        table,
        bundle,
        &references.snp.roots,
        &accepted,
        |evidence| {
            let hardware = azure::Hardware::Snp {
                key: evidence.key,
                crl: evidence.crl,
            };
            let evidence = azure::Evidence { hcl, hardware };
            let judged = azure::verify(&evidence, &expected, &references);
            (judged.verdict, judged.ak)
        },
    );
    match judged {
        Ok((verdict, ak, used)) => {
            let blobs = [vec![shown], used, chained(chains)].concat();
            // The hardware's report is part of the paravisor's.
            let verdict = verdict.resting_on(blobs.iter().map(Blob::digest).collect());
            (Endorsed { verdict, blobs }, ak)
        }
        Err(finding) => (Endorsed::refused(vec![finding], vec![shown]), None),
    }
}

/// Intermediates that a bundle had, PEM, if any.
fn chained(chains: String) -> Vec<Blob<'static>> {
    if chains.is_empty() {
        return Vec::new();
    }
    vec![Blob::new("snp-chain", chains.into_bytes())]
}

/// Judges by each certificate that might be of the key that signed `report`: what came of the best, and that
/// certificate with its list.
fn by_each_key<T>(
    report: &[u8],
    table: &[u8],
    bundle: &Bundle,
    roots: &snp::Roots,
    accepted: &[snp::Generation],
    judge: impl Fn(&snp::Evidence<'_>) -> (Verdict, T),
) -> Result<(Verdict, T, Vec<Blob<'static>>), Finding> {
    let parsed = Report::parse(report)?;
    let in_bundle = bundle.snp_keys(&parsed).iter().map(Vec::as_slice);
    let candidates = snp::certificates(table).into_iter().chain(in_bundle);
    let mut best: Option<(Verdict, T, Vec<Blob<'static>>)> = None;
    for key in candidates.take(MOST) {
        let generation = snp::generation(key);
        let crl = generation.and_then(|one| bundle.snp_crl(roots, one));
        let (verdict, more) = judge(&snp::Evidence { report, key, crl });
        let faults = verdict.findings.len();
        if best
            .as_ref()
            .is_some_and(|(best, ..)| best.findings.len() <= faults)
        {
            continue;
        }
        let affirmed = verdict.outcome() == Outcome::Affirmed;
        let mut used = vec![Blob::new("snp-key", key.to_vec())];
        used.extend(crl.map(|crl| Blob::new("snp-crl", crl.to_vec())));
        best = Some((verdict, more, used));
        if affirmed {
            break;
        }
    }
    best.ok_or_else(|| {
        Finding::new(
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
            &Artefact::of_snp(report, accepted),
        ))
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
    let now = expected.now;
    let quote = (true, evidence.quote);
    let collateral = match endorsing(quote, bundle, &references.roots, now, &mut blobs) {
        Ok(collateral) => collateral,
        Err(findings) => return Endorsed::refused(findings, blobs),
    };
    let verdict = tdx::verify(evidence, &collateral, expected, references);
    let verdict = verdict.resting_on(blobs.iter().map(Blob::digest).collect());
    Endorsed { verdict, blobs }
}

/// Judges the report of a paravisor on TDX with the `quote` that was fetched for it, by the collateral in `bundle`.
/// The attestation key is as of [`azure_snp`].
///
/// # Errors
/// None: a refusal is a verdict, with the codes of [`azure::verify`] and of [`tdx()`].
#[must_use]
pub fn azure_tdx(
    hcl: &[u8],
    quote: &[u8],
    bundle: &Bundle,
    now: Timestamp,
    references: &tdx::References,
) -> (Endorsed, Option<PublicKey>) {
    let mut blobs = vec![
        Blob::new("hcl-report", hcl.to_vec()),
        Blob::new("tdx-quote", quote.to_vec()),
    ];
    let parsed = Hcl::parse(hcl).and_then(|parsed| match parsed.kind {
        azure::Kind::Tdx => Ok(()),
        azure::Kind::Snp => Err(azure::other_hardware(parsed.kind)),
    });
    if let Err(finding) = parsed {
        return (Endorsed::refused(vec![finding], blobs), None);
    }
    let roots = &references.roots;
    let collateral = match endorsing((true, quote), bundle, roots, now, &mut blobs) {
        Ok(collateral) => collateral,
        Err(findings) => return (Endorsed::refused(findings, blobs), None),
    };
    let hardware = azure::Hardware::Tdx {
        quote,
        collateral: &collateral,
    };
    let expected = azure::Expectation {
        user_data: None,
        now,
    };
    let references = azure::References {
        snp: snp::References::default(),
        tdx: references.clone(),
    };
    let judged = azure::verify(&azure::Evidence { hcl, hardware }, &expected, &references);
    let verdict = judged.verdict;
    let verdict = verdict.resting_on(blobs.iter().map(Blob::digest).collect());
    (Endorsed { verdict, blobs }, judged.ak)
}

/// The collateral of the platform that made `quote`, which is among `blobs` then: of a trust domain, or else of an
/// enclave.
fn endorsing(
    (tdx, quote): (bool, &[u8]),
    bundle: &Bundle,
    roots: &intel::Roots,
    now: Timestamp,
    blobs: &mut Vec<Blob<'static>>,
) -> Result<Collateral, Vec<Finding>> {
    let pck = intel::platform(quote, roots, now)?;
    let (kind, kept) = if tdx {
        ("TDX", "tdx-collateral")
    } else {
        ("SGX", "sgx-collateral")
    };
    let Some(bytes) = bundle.collateral(tdx, pck.fmspc, pck.ca) else {
        let finding = Finding::new(
            "TEE-ENDORSEMENT-MISSING",
            "there is no collateral of the platform that made the quote",
        )
        .expected(format!(
            "collateral for {kind} of FMSPC {}, authority {}, in the bundle of endorsements",
            hex::encode(&pck.fmspc),
            pck.ca.word(),
        ))
        .observed("none")
        .next(to_fetch(
            "Intel's PCS",
            &Artefact::of_platform(tdx, pck.fmspc, pck.ca),
        ));
        return Err(vec![finding]);
    };
    let kept = Blob::new(kept, collateral(tdx, bytes, pck.fmspc, pck.ca));
    blobs.push(kept);
    let again = Artefact::of_platform(true, pck.fmspc, pck.ca);
    Collateral::open(bytes, roots)
        .map_err(|finding| vec![finding.next(to_fetch("Intel's PCS", &again))])
}

/// Judges the document of a NitroTPM, which brings all that endorses it. One of an enclave says nothing of a TPM.
///
/// # Errors
/// None: a refusal is a verdict. `TEE-NITRO-KIND` for the document of an enclave.
#[must_use]
pub fn nitro_tpm(
    document: &[u8],
    expected: &nitro::Expectation,
    references: &nitro::References,
) -> Endorsed {
    let blobs = vec![Blob::new("nitro-document", document.to_vec())];
    let kind = nitro::Document::parse(document).map(|document| document.kind);
    if matches!(kind, Ok(nitro::Kind::Enclave)) {
        let finding = Finding::new("TEE-NITRO-KIND", "the document is of an enclave")
            .expected("a document of the instance's NitroTPM")
            .next("send what nitro-tpm-attest returns");
        return Endorsed::refused(vec![finding], blobs);
    }
    Endorsed {
        verdict: nitro::verify(document, expected, references),
        blobs,
    }
}

/// The generations that `references` accept.
fn accepted(references: &snp::References) -> Vec<snp::Generation> {
    references.generations.iter().map(|(one, _)| *one).collect()
}

/// A bundle with nothing but this collateral.
fn collateral(tdx: bool, bytes: &CollateralBytes, fmspc: [u8; 6], ca: Ca) -> Vec<u8> {
    let base64 = crypto::base64::encode;
    serde_json::json!({
        "version": 1,
        "intel": [{
            "tee": if tdx { "tdx" } else { "sgx" },
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
