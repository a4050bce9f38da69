//! SGX: the quote of an enclave, Intel's collateral, and what the owner accepts.
//!
//! What is checked of the way to Intel's root and of the platform's TCB is in [`crate::intel`].

use crate::code::Recognised;
use crate::intel::{Body, Collateral, EnclaveReport, Quote, Roots, TcbPolicy, appraise};
use crate::tdx::platform_facts;
use crate::{Code, WARRANT};
use attest::{Evidence as Blob, Findings, Verdict};
use crypto::hex;
use facts::{FactSet, Finding, Source, Timestamp, names};

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    /// What the enclave had to put into its report: `attest::transcript::tee_report_data`.
    pub report_data: [u8; 64],
    pub now: Timestamp,
}

/// What the owner accepts. The default has no root and accepts no enclave.
#[derive(Debug, Clone, Default)]
pub struct References {
    pub roots: Roots,
    pub tcb: TcbPolicy,
    pub code: Code<Image>,
}

/// One enclave that is accepted, or all of a signer's product.
#[derive(Debug, Clone)]
pub struct Image {
    /// For people, and the fact `machine.tee.image`.
    pub name: String,
    pub by: By,
    /// The least ISVSVN.
    pub minimum_svn: u16,
}

/// How an enclave is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// MRENCLAVE.
    Measurement([u8; 32]),
    /// MRSIGNER and ISVPRODID: a signer's products are told apart by the number alone.
    Signer { signer: [u8; 32], product: u16 },
}

/// Judges a quote of version 3, or of version 5 with an enclave in it. The codes of its findings are
/// listed in `docs/attestation/tdx.md`; all that can be checked is, so that a refusal names every fault.
#[must_use]
pub fn verify(
    quote: &[u8],
    collateral: &Collateral,
    expected: &Expectation,
    references: &References,
) -> Verdict {
    let digests = vec![Blob::new("sgx-quote", quote).digest()];
    match examine(quote, collateral, expected, references) {
        Ok(facts) => Verdict::affirmed(&WARRANT, facts, digests),
        Err(findings) => Verdict::refused(findings, digests),
    }
}

fn examine(
    quote: &[u8],
    collateral: &Collateral,
    expected: &Expectation,
    references: &References,
) -> Result<FactSet, Vec<Finding>> {
    let quote = Quote::parse(quote).map_err(|finding| vec![finding])?;
    let Body::Enclave(report) = &quote.body else {
        return Err(vec![
            Finding::new("TEE-SGX-KIND", "the quote is a trust domain's")
                .expected("the quote of an enclave")
                .next("judge it as TDX"),
        ]);
    };
    let mut findings = Findings::new();
    let (roots, now) = (&references.roots, expected.now);
    let platform = appraise(
        &quote,
        collateral,
        roots,
        &references.tcb,
        now,
        &mut findings,
    );
    findings.check(report.is_initialised() && !report.is_debug(), || {
        Finding::new(
            "TEE-SGX-DEBUG",
            "the enclave's memory can be read from outside",
        )
        .expected("an initialised enclave that may not be debugged")
        .observed(format!("attributes {}", hex::encode(&report.attributes)))
        .next("build the enclave for production")
    });
    findings.check(
        crypto::constant_time_eq(&report.report_data, &expected.report_data),
        || {
            Finding::new(
                "TEE-SGX-REPORT-DATA",
                "the quote was made for another question",
            )
            .expected(hex::encode(&expected.report_data))
            .observed(hex::encode(&report.report_data))
            .next("ask for a quote with the data of this challenge")
        },
    );
    let image = findings.take(recognise(report, &references.code));
    match (platform, image) {
        (Some(platform), Some(image)) if findings.is_empty() => {
            let mut facts = statement(report, &image, now);
            platform_facts(&mut facts, &platform, &quote, now);
            Ok(facts)
        }
        _ => Err(findings.into_vec()),
    }
}

fn recognise<'a>(report: &EnclaveReport, code: &'a Code<Image>) -> Result<Recognised<'a>, Finding> {
    let is_it = |image: &Image| {
        let by = match image.by {
            By::Measurement(measurement) => report.mr_enclave == measurement,
            By::Signer { signer, product } => {
                report.mr_signer == signer && report.product_id == product
            }
        };
        by && report.svn >= image.minimum_svn
    };
    code.recognise(
        |image| &image.name,
        is_it,
        |expected| {
            Finding::new("TEE-SGX-IMAGE", "the enclave is none that is listed")
                .expected(expected)
                .observed(format!(
                    "MRENCLAVE {}, MRSIGNER {}, product {}, SVN {}",
                    hex::encode(&report.mr_enclave),
                    hex::encode(&report.mr_signer),
                    report.product_id,
                    report.svn
                ))
                .next(format!(
                    "if it is yours, list it in the references: `[[tee.image]]` with `name` and `mrenclave = \"{}\"`, \
                     or with `mrsigner`, `product` and a `minimum_svn` of at most {}",
                    hex::encode(&report.mr_enclave),
                    report.svn
                ))
        },
    )
}

fn statement(report: &EnclaveReport, image: &Recognised<'_>, now: Timestamp) -> FactSet {
    let mut facts = FactSet::new();
    let mut state = |name, value: facts::Value| facts.state(name, value, Source::Hardware, now);
    state(names::MACHINE_TEE_KIND, "sgx".into());
    state(names::MACHINE_TEE_DEBUG, false.into());
    state(
        names::MACHINE_TEE_MEASUREMENT,
        hex::encode(&report.mr_enclave).into(),
    );
    state(
        names::MACHINE_TEE_SIGNER,
        hex::encode(&report.mr_signer).into(),
    );
    state(names::MACHINE_TEE_SVN, u32::from(report.svn).into());
    state(
        names::MACHINE_TEE_PRODUCT,
        u32::from(report.product_id).into(),
    );
    if let Some(image) = image.name() {
        state(names::MACHINE_TEE_IMAGE, image.into());
    }
    facts
}
