//! What a machine presented, whole: what it booted and what its kernel measured since, compared with the
//! estate's reference values. A join, a renewal and whoever tries reference values on evidence that is kept
//! call the same function.

use crate::{Demands, boot, rules};
use attest_tpm::Quoted;
use attest_tpm::boot::{Boot, DomainBoot, Pinned};
use attest_tpm::ima::{Progress, Round, Sent, round};
use attest_tpm::join::Proven;
use facts::{Affirmed, FactSet, Finding, Source, Timestamp, Warrant};
use references::{At, References};

/// What a machine booted and its kernel measured.
const WARRANT: Warrant = Warrant::of(
    Source::Hardware,
    &["machine.boot.", "machine.ima.", "machine.tee.boot."],
);

/// Evidence that a quote stands behind.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// If an event log of SHA-256 came along.
    pub booted: Option<&'a Boot>,
    pub quoted: &'a Quoted,
    /// What stands behind the chip.
    pub root: Source,
    pub list: Sent<'a>,
    /// How far the list was verified before; absent for a whole one.
    pub before: Option<&'a Progress>,
}

impl<'a> Presented<'a> {
    /// What a machine presents when it joins: `list` is whole.
    #[must_use]
    pub fn by_join(proven: &'a Proven, list: &'a [u8]) -> Self {
        Self {
            booted: proven.booted.as_ref(),
            quoted: &proven.quoted,
            root: proven.root,
            list: Sent { first: 0, list },
            before: None,
        }
    }
}

/// What a machine is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub values: &'a References,
    /// Of `values`, for `ring`.
    pub demands: &'a Demands,
    /// The machine's pool; empty for one that is in none.
    pub ring: &'a str,
    pub now: Timestamp,
}

/// The facts of boot and list of a machine that is as it should be, and what is known of its list.
///
/// # Errors
/// Everything that is wrong with what it booted (`BOOT-…`, `REF-…`) and with its list (`IMA-…`).
pub fn judge(
    presented: &Presented<'_>,
    asked: &Asked<'_>,
) -> Result<(Affirmed, Round), Vec<Finding>> {
    let Asked {
        values,
        demands,
        ring,
        now,
    } = *asked;
    let at = At { now, ring };
    let booted = boot::judge(presented.booted, presented.root, values, demands, at);
    let (sent, quoted) = (presented.list, presented.quoted);
    let listed = round(sent, quoted, presented.before, demands.files.as_ref(), now);
    match (booted, listed) {
        (Ok(booted), Ok(listed)) => {
            let mut facts = listed.facts(presented.root, now);
            for fact in booted.iter().flat_map(FactSet::iter) {
                facts.insert(fact.clone());
            }
            Ok((Affirmed::by(&WARRANT, facts), listed))
        }
        (booted, listed) => {
            let booted = booted.err().unwrap_or_default();
            let listed = listed.err().unwrap_or_default();
            Err(booted.into_iter().chain(listed).collect())
        }
    }
}

/// The facts of what a trust domain booted, if nothing of it is against the rules of its ring, nor against what its
/// TPM says of the same boot (`chip`). `booted` is absent where no log came along.
///
/// # Errors
/// `BOOT-LOG-MISSING` where there are rules and no log; `TEE-TDX-BOOT`; what of the log fits no rule (`BOOT-…`,
/// `REF-…`).
pub fn judge_domain(
    booted: Option<&DomainBoot>,
    pinned: Pinned,
    chip: Option<&Boot>,
    asked: &Asked<'_>,
) -> Result<Option<Affirmed>, Vec<Finding>> {
    let Asked { demands, now, .. } = *asked;
    let Some(booted) = booted else {
        return if demands.rules.is_empty() {
            Ok(None)
        } else {
            Err(vec![
                Finding::new(
                    "BOOT-LOG-MISSING",
                    "the trust domain does not say what it booted",
                )
                .expected(
                    "the event log of its firmware: boot rules say what machines of its pool boot",
                )
                .observed("none")
                .next(
                    "let the node agent read /sys/firmware/acpi/tables/data/CCEL; if the firmware keeps no \
                     such log, take the machine out of the rule's rings",
                ),
            ])
        };
    };
    let mut findings = chip.map_or_else(Vec::new, |chip| booted.contradictions(chip));
    findings.extend(
        rules::judge_domain(booted, &demands.rules, now)
            .err()
            .into_iter()
            .flatten(),
    );
    if findings.is_empty() {
        Ok(Some(Affirmed::by(&WARRANT, booted.facts(pinned, now))))
    } else {
        Err(findings)
    }
}
