//! SEV-SNP: an attestation report, the key that signed it, and what the owner accepts.
//!
//! Layouts and bits follow AMD's SEV Secure Nested Paging Firmware ABI (56860), revision 1.58, and the
//! VCEK and VLEK certificate definitions of the KDS specification (57230).
//! The report of a guest that did not ask for it, host data that nobody set, or a measurement that
//! nobody listed prove nothing: see `docs/attestation/snp.md`.

mod key;
mod policy;
mod report;
mod roots;
mod statement;
mod table;
mod tcb;

pub use policy::Policy;
pub use report::Report;
pub use roots::Roots;
pub use table::certificates;
pub use tcb::{Generation, Tcb};

use crate::{Artefact, Code, Revocation, WARRANT, allow};
use attest::{Evidence as Blob, Findings, Verdict};
use crypto::chain::{self, Kind};
use crypto::hex;
use facts::{FactSet, Finding, Timestamp};
use key::{Identity, ReportKey};
pub(crate) use key::{certifies, generation, named};

/// What a machine presents, and what endorses it.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The attestation report, 1184 bytes.
    pub report: &'a [u8],
    /// DER: the VCEK or VLEK certificate of the key that signed it.
    pub key: &'a [u8],
    /// DER: the revocation list of the generation's root.
    pub crl: Option<&'a [u8]>,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    /// What the guest had to put into its request: `attest::transcript::tee_report_data`.
    pub report_data: [u8; 64],
    pub now: Timestamp,
}

/// What the owner accepts. The default accepts no generation and no image.
#[derive(Debug, Clone, Default)]
pub struct References {
    pub roots: Roots,
    pub revocation: Revocation,
    /// The generations that are accepted, each with the least TCB: of the firmware that the report is
    /// signed for, of what is committed, and of what the guest was launched under.
    pub generations: Vec<(Generation, Tcb)>,
    pub code: Code<Image>,
    pub policy: Policy,
}

/// One image that is accepted, and what else has to hold of a guest that runs it.
#[derive(Debug, Clone)]
pub struct Image {
    /// For people, and the fact `machine.tee.image`.
    pub name: String,
    pub by: By,
    /// The least `GUEST_SVN`, which an ID block sets.
    pub minimum_svn: u32,
    /// `FAMILY_ID` and `IMAGE_ID`, if they matter.
    pub family_id: Option<[u8; 16]>,
    pub image_id: Option<[u8; 16]>,
    /// What the host passed at launch, if it matters.
    pub host_data: Option<[u8; 32]>,
}

/// How an image is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The launch digest.
    Measurement([u8; 48]),
    /// SHA-384 of the key that signed the ID block: the firmware launched nothing but what that key
    /// signed for.
    IdKey([u8; 48]),
    /// SHA-384 of the key that signed the ID key.
    AuthorKey([u8; 48]),
}

/// Judges a report. The codes of its findings are listed in `docs/attestation/snp.md`; all that can be
/// checked is, so that a refusal names every fault.
#[must_use]
pub fn verify(evidence: &Evidence<'_>, expected: &Expectation, references: &References) -> Verdict {
    let mut digests = vec![
        Blob::new("snp-report", evidence.report).digest(),
        Blob::new("snp-key", evidence.key).digest(),
    ];
    digests.extend(evidence.crl.map(|crl| Blob::new("snp-crl", crl).digest()));
    match examine(evidence, expected, references) {
        Ok(facts) => Verdict::affirmed(&WARRANT, facts, digests),
        Err(findings) => Verdict::refused(findings, digests),
    }
}

fn examine(
    evidence: &Evidence<'_>,
    expected: &Expectation,
    references: &References,
) -> Result<FactSet, Vec<Finding>> {
    let report = Report::parse(evidence.report).map_err(|finding| vec![finding])?;
    let mut findings = Findings::new();
    let key = key::verify(evidence, references, expected.now, &mut findings);
    if let Some(key) = &key {
        signature(&report, evidence.report, key, &mut findings);
        platform(&report, key, &mut findings);
        floor(&report, key.generation, references, &mut findings);
    }
    references.policy.check(&report, &mut findings);
    findings.check(
        crypto::constant_time_eq(&report.report_data, &expected.report_data),
        || {
            Finding::new(
                "TEE-SNP-REPORT-DATA",
                "the report was made for another question",
            )
            .expected(hex::encode(&expected.report_data))
            .observed(hex::encode(&report.report_data))
            .next("ask for a report with the data of this challenge")
        },
    );
    let image = findings.take(recognise(&report, &references.code));
    match (key, image) {
        (Some(key), Some(image)) if findings.is_empty() => Ok(statement::facts(
            &report,
            &key,
            image.name(),
            evidence.crl.is_some(),
            expected.now,
        )),
        _ => Err(findings.into_vec()),
    }
}

/// The key signed these bytes, and is of the kind that the report says.
fn signature(report: &Report, bytes: &[u8], key: &ReportKey, findings: &mut Findings) {
    let named = report.signing_key();
    findings.check(named == key.identity.kind(), || {
        Finding::new(
            "TEE-SNP-SIGNING-KEY",
            "the report is signed by another kind of key than its certificate is for",
        )
        .expected(key.identity.kind())
        .observed(named)
        .next("send the certificate of the key that signed the report")
    });
    let signed = bytes.get(..report::SIGNED).unwrap_or_default();
    let good = chain::verify_fixed(Kind::P384, &key.point, signed, &report.signature);
    findings.check(good.is_ok(), || {
        Finding::new(
            "TEE-SNP-SIGNATURE",
            "the report's signature does not verify",
        )
        .expected("a signature by the key of the certificate that came along")
        .next("send the certificate of this chip at the TCB that the report names")
    });
}

/// Certificate and report speak of the same chip, generation and TCB.
fn platform(report: &Report, key: &ReportKey, findings: &mut Findings) {
    findings.check(key.tcb == report.reported_tcb, || {
        Finding::new(
            "TEE-SNP-KEY-TCB",
            "the certificate is for another TCB than the report names",
        )
        .expected(Tcb::read(report.reported_tcb, key.generation).to_string())
        .observed(Tcb::read(key.tcb, key.generation).to_string())
        .next(its_certificate(report, key.generation))
    });
    if let Identity::Chip(chip) = &key.identity {
        let (head, tail) = report
            .chip_id
            .split_at_checked(chip.len())
            .unwrap_or_default();
        findings.check(head == chip && tail.iter().all(|byte| *byte == 0), || {
            Finding::new("TEE-SNP-CHIP", "the certificate is for another chip")
                .expected(hex::encode(&report.chip_id))
                .observed(hex::encode(chip))
                .next(format!(
                    "let its host not mask the chip id, and {}",
                    its_certificate(report, key.generation)
                ))
        });
    }
    if let Some((family, model, _)) = report.cpuid {
        let named = Generation::of_cpu(family, model);
        findings.check(named == Some(key.generation), || {
            Finding::new(
                "TEE-SNP-GENERATION",
                "the report is of another processor generation than its certificate",
            )
            .expected(key.generation.name())
            .observed(format!("family {family:#04x}, model {model:#04x}"))
            .next("send the certificate of the machine's own chip; nothing allows that of another generation")
        });
    }
}

/// The command that gets the certificate of the report's chip at its TCB.
fn its_certificate(report: &Report, generation: Generation) -> String {
    let key = Artefact::SnpKey {
        generation,
        chip: report.chip_id,
        tcb: report.reported_tcb,
    };
    allow::to_fetch("AMD's key server", &[key])
}

/// What firmware signed, committed and launched is not older than the owner accepts.
fn floor(
    report: &Report,
    generation: Generation,
    references: &References,
    findings: &mut Findings,
) {
    let floors = &references.generations;
    let Some((_, floor)) = floors.iter().find(|(accepted, _)| *accepted == generation) else {
        let accepted: Vec<_> = floors.iter().map(|(one, _)| one.name()).collect();
        findings.push(
            Finding::new(
                "TEE-SNP-GENERATION",
                "this processor generation is not accepted",
            )
            .expected(format!("one of: {}", accepted.join(", ")))
            .observed(generation.name())
            .next(format!(
                "if machines of this generation are yours, add to the estate's [[tee]] of this pool the lines {}",
                allow::floor(generation, Tcb::read(report.reported_tcb, generation))
            )),
        );
        return;
    };
    for (what, bytes) in [
        ("reported", report.reported_tcb),
        ("committed", report.committed_tcb),
        ("launch", report.launch_tcb),
    ] {
        let tcb = Tcb::read(bytes, generation);
        findings.check(tcb.covers(floor), || {
            Finding::new("TEE-SNP-TCB", format!("the {what} TCB is too old"))
                .expected(format!("at least {floor}"))
                .observed(tcb.to_string())
                .next(format!(
                    "update the host's firmware and launch the guest again, or accept what it has in the \
                     estate's [[tee]] of this pool: {}",
                    allow::floor(generation, tcb.least(floor))
                ))
        });
    }
}

fn recognise<'a>(
    report: &Report,
    code: &'a Code<Image>,
) -> Result<crate::code::Recognised<'a>, Finding> {
    let is_it = |image: &Image| {
        let by = match image.by {
            By::Measurement(measurement) => report.measurement == measurement,
            By::IdKey(digest) => digest != [0; 48] && report.id_key_digest == digest,
            By::AuthorKey(digest) => report.has_author_key() && report.author_key_digest == digest,
        };
        by && report.guest_svn >= image.minimum_svn
            && image.family_id.is_none_or(|id| id == report.family_id)
            && image.image_id.is_none_or(|id| id == report.image_id)
            && image.host_data.is_none_or(|data| data == report.host_data)
    };
    code.recognise(
        |image| &image.name,
        is_it,
        |expected| {
            Finding::new("TEE-SNP-IMAGE", "the guest runs no image that is listed")
                .expected(expected)
                .observed(format!(
                    "measurement {}, id key {}, author key {}, svn {}, host data {}",
                    hex::encode(&report.measurement),
                    hex::encode(&report.id_key_digest),
                    hex::encode(&report.author_key_digest),
                    report.guest_svn,
                    hex::encode(&report.host_data),
                ))
                .next(allow::image("measurement", &report.measurement))
        },
    )
}
