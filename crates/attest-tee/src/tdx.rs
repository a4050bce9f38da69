//! TDX: the quote of a trust domain, Intel's collateral, its event log, and what the owner accepts.
//!
//! Attributes follow the Intel TDX Module ABI Specification (348551), table 3.23. What is checked of
//! the way to Intel's root and of the platform's TCB is in [`crate::intel`].

mod ccel;

pub use ccel::replay;

use crate::code::Recognised;
use crate::intel::{Appraised, Body, Collateral, Quote, Roots, TcbPolicy, TdReport, appraise};
use crate::{Code, WARRANT, allow};
use attest::{Evidence as Blob, Findings, Verdict};
use crypto::hex;
use facts::{FactSet, Finding, Source, Timestamp, names};

/// What a machine presents.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// Version 4 or 5.
    pub quote: &'a [u8],
    /// The event log that the firmware's CCEL table points at.
    pub event_log: Option<&'a [u8]>,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub struct Expectation {
    /// What the guest had to put into its request: `attest::transcript::tee_report_data`.
    pub report_data: [u8; 64],
    pub now: Timestamp,
}

/// What the owner accepts. The default has no root and accepts no image.
#[derive(Debug, Clone)]
pub struct References {
    pub roots: Roots,
    pub tcb: TcbPolicy,
    pub code: Code<Image>,
    /// Bits of the domain's attributes that must be set. Default: `SEPT_VE_DISABLE`, without which the
    /// host can make pages vanish under a Linux guest.
    pub attributes: u64,
}

impl References {
    /// Pages that the host removes end the domain and raise no exception in it.
    pub const SEPT_VE_DISABLE: u64 = 1 << 28;
}

impl Default for References {
    fn default() -> Self {
        Self {
            roots: Roots::default(),
            tcb: TcbPolicy::default(),
            code: Code::default(),
            attributes: Self::SEPT_VE_DISABLE,
        }
    }
}

/// One image that is accepted.
#[derive(Debug, Clone)]
pub struct Image {
    /// For people, and the fact `machine.tee.image`.
    pub name: String,
    /// The firmware and what the host launched with it.
    pub mr_td: [u8; 48],
    /// What firmware and guest measured; `None` leaves a register to policy, or to later software.
    pub rtmr: [Option<[u8; 48]>; 4],
    /// What the host passed at launch, if it matters.
    pub mr_config_id: Option<[u8; 48]>,
}

/// The host may look into the domain, or profile it.
const UNDER_DEBUG: u64 = 0xff;
/// A service domain may extend the measurements.
const SERVICE_EXTENSION: u64 = 1 << 17;
const MIGRATABLE: u64 = 1 << 29;
/// Bits 8 to 15, 23 to 26 and 32 to 61: a verifier refuses what it does not know.
const RESERVED: u64 = 0x3fff_ffff_0780_ff00;

/// Judges a quote. The codes of its findings are listed in `docs/attestation/tdx.md`; all that can be
/// checked is, so that a refusal names every fault.
#[must_use]
pub fn verify(
    evidence: &Evidence<'_>,
    collateral: &Collateral,
    expected: &Expectation,
    references: &References,
) -> Verdict {
    let mut digests = vec![Blob::new("tdx-quote", evidence.quote).digest()];
    digests.extend(
        evidence
            .event_log
            .map(|log| Blob::new("ccel", log).digest()),
    );
    match examine(evidence, collateral, expected, references) {
        Ok(facts) => Verdict::affirmed(&WARRANT, facts, digests),
        Err(findings) => Verdict::refused(findings, digests),
    }
}

fn examine(
    evidence: &Evidence<'_>,
    collateral: &Collateral,
    expected: &Expectation,
    references: &References,
) -> Result<FactSet, Vec<Finding>> {
    let quote = Quote::parse(evidence.quote).map_err(|finding| vec![finding])?;
    let Body::Td(report) = &quote.body else {
        return Err(vec![
            Finding::new("TEE-TDX-KIND", "the quote is an enclave's")
                .expected("the quote of a trust domain")
                .next("judge it as SGX"),
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
    attributes(report, references, &mut findings);
    findings.check(
        crypto::constant_time_eq(&report.report_data, &expected.report_data),
        || {
            Finding::new(
                "TEE-TDX-REPORT-DATA",
                "the quote was made for another question",
            )
            .expected(hex::encode(&expected.report_data))
            .observed(hex::encode(&report.report_data))
            .next("ask for a quote with the data of this challenge")
        },
    );
    if let Some(log) = evidence.event_log {
        event_log(log, report, &mut findings);
    }
    let image = findings.take(recognise(report, &references.code));
    match (platform, image) {
        (Some(platform), Some(image)) if findings.is_empty() => {
            let mut facts = statement(report, &image, expected.now);
            platform_facts(&mut facts, &platform, &quote, expected.now);
            if evidence.event_log.is_some() {
                let name = names::MACHINE_TEE_EVENT_LOG;
                facts.state(name, "replayed", Source::Hardware, expected.now);
            }
            Ok(facts)
        }
        _ => Err(findings.into_vec()),
    }
}

fn attributes(report: &TdReport, references: &References, findings: &mut Findings) {
    let attributes = report.attributes;
    findings.check(attributes & UNDER_DEBUG == 0, || {
        Finding::new("TEE-TDX-DEBUG", "the host may look into the trust domain")
            .expected("no attribute of domains under debug")
            .observed(format!("{attributes:#x}"))
            .next(
                "launch the domain without debugging and profiling; nothing in an estate allows it",
            )
    });
    let forbidden = attributes & (SERVICE_EXTENSION | MIGRATABLE | RESERVED);
    let missing = references.attributes & !attributes;
    findings.check(forbidden == 0 && missing == 0, || {
        Finding::new(
            "TEE-TDX-ATTRIBUTES",
            "the domain's attributes are not those that are accepted",
        )
        .expected(format!(
            "bits {:#x} set; not migratable, no service domain, no reserved bit",
            references.attributes
        ))
        .observed(format!("{attributes:#x}"))
        .next("launch the domain with other attributes; nothing in an estate allows these")
    });
    let service = report.current.map_or([0; 48], |(_, service)| service);
    findings.check(service == [0; 48], || {
        Finding::new("TEE-TDX-SERVICE", "a service domain is bound to this one")
            .expected("MRSERVICETD = 0")
            .observed(hex::encode(&service))
            .next("launch the domain without a service domain")
    });
}

/// The log's events give the registers that are quoted. What they say is not read here.
fn event_log(log: &[u8], report: &TdReport, findings: &mut Findings) {
    let Some(replayed) = findings.take(replay(log)) else {
        return;
    };
    for (index, (replayed, quoted)) in replayed.iter().zip(&report.rtmr).enumerate() {
        findings.check(replayed == quoted, || {
            Finding::new(
                "TEE-TDX-CCEL",
                format!("the event log does not give RTMR {index}"),
            )
            .expected(hex::encode(quoted))
            .observed(hex::encode(replayed))
            .next("send the log of this boot, whole")
        });
    }
}

fn recognise<'a>(report: &TdReport, code: &'a Code<Image>) -> Result<Recognised<'a>, Finding> {
    let is_it = |image: &Image| {
        image.mr_td == report.mr_td
            && image
                .rtmr
                .iter()
                .zip(&report.rtmr)
                .all(|(listed, quoted)| listed.is_none_or(|listed| listed == *quoted))
            && image
                .mr_config_id
                .is_none_or(|id| id == report.mr_config_id)
    };
    code.recognise(
        |image| &image.name,
        is_it,
        |expected| {
            let [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmr.map(|rtmr| hex::encode(&rtmr));
            Finding::new("TEE-TDX-IMAGE", "the domain runs no image that is listed")
                .expected(expected)
                .observed(format!(
                    "MRTD {}, RTMR0 {rtmr0}, RTMR1 {rtmr1}, RTMR2 {rtmr2}, RTMR3 {rtmr3}, \
                     MRCONFIGID {}",
                    hex::encode(&report.mr_td),
                    hex::encode(&report.mr_config_id),
                ))
                .next(allow::image("mrtd", &report.mr_td))
        },
    )
}

fn statement(report: &TdReport, image: &Recognised<'_>, now: Timestamp) -> FactSet {
    let mut facts = FactSet::new();
    let mut state = |name, value: facts::Value| facts.state(name, value, Source::Hardware, now);
    state(names::MACHINE_TEE_KIND, "tdx".into());
    state(names::MACHINE_TEE_DEBUG, false.into());
    state(
        names::MACHINE_TEE_MEASUREMENT,
        hex::encode(&report.mr_td).into(),
    );
    state(
        names::MACHINE_TEE_HOST_DATA,
        hex::encode(&report.mr_config_id).into(),
    );
    for (name, rtmr) in [
        names::MACHINE_TEE_RTMR0,
        names::MACHINE_TEE_RTMR1,
        names::MACHINE_TEE_RTMR2,
        names::MACHINE_TEE_RTMR3,
    ]
    .into_iter()
    .zip(&report.rtmr)
    {
        state(name, hex::encode(rtmr).into());
    }
    if let Some(image) = image.name() {
        state(names::MACHINE_TEE_IMAGE, image.into());
    }
    facts
}

/// What TDX and SGX say alike.
pub(crate) fn platform_facts(
    facts: &mut FactSet,
    platform: &Appraised,
    quote: &Quote<'_>,
    now: Timestamp,
) {
    let mut state = |name, value: facts::Value| facts.state(name, value, Source::Hardware, now);
    state(names::MACHINE_TEE_VERSION, u32::from(quote.version).into());
    state(
        names::MACHINE_TEE_PLATFORM,
        hex::encode(&platform.pck.ppid).into(),
    );
    state(
        names::MACHINE_TEE_ENDORSEMENT,
        platform.pck.ca.endorsement().into(),
    );
    state(names::MACHINE_TEE_REVOCATION, "checked".into());
    state(names::MACHINE_TEE_TCB_STATUS, platform.status.name().into());
    state(names::MACHINE_TEE_TCB_DATE, platform.date.as_str().into());
    state(
        names::MACHINE_TEE_TCB_EVALUATION,
        platform.evaluation.into(),
    );
    state(
        names::MACHINE_TEE_TCB_ADVISORIES,
        platform.advisories.clone().into(),
    );
}
