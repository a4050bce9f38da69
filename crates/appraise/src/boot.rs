//! Compares what a machine booted with the estate's reference values.
//!
//! A PCR that any generation for the machine's ring predicts has to have a value that is good now. What no
//! generation speaks of is not judged: the facts say which PCRs were.

use crate::View;
use attest_tpm::boot::{self, Boot};
use attest_tpm::reference::Value;
use facts::{FactSet, Finding, Source, Timestamp};
use references::{At, Digest, References};
use std::collections::{BTreeMap, BTreeSet};

/// The facts of a boot that is as it should be; `None` where nothing says how it should be. `ring` is the
/// machine's pool.
///
/// # Errors
/// `BOOT-LOG-MISSING`; for each PCR what [`References::judge_pcr`] finds, which names the first event that
/// differs; else what [`boot::judge`] finds.
pub(crate) fn judge(
    booted: Option<&Boot>,
    root: Source,
    values: &References,
    ring: &str,
    now: Timestamp,
) -> Result<Option<FactSet>, Vec<Finding>> {
    let predicted = values.predicted(ring);
    if predicted.is_empty() {
        return Ok(None);
    }
    let Some(booted) = booted else {
        return Err(vec![
            Finding::new("BOOT-LOG-MISSING", "the machine does not say what it booted")
                .expected(format!(
                    "an event log of SHA-256: reference values say what a machine of the pool {ring:?} boots"
                ))
                .observed("none")
                .next(
                    "let the node agent read /sys/kernel/security/tpm0/binary_bios_measurements; if the \
                     firmware keeps no such log, take the machine out of the generation's rings",
                ),
        ]);
    };
    let (pcrs, findings) = compare(&View::from(booted), predicted, values, At { now, ring });
    if !findings.is_empty() {
        return Err(findings.into_iter().map(|(_, finding)| finding).collect());
    }
    let unjudged = boot::References::JUDGED.into_iter();
    let expected = boot::References {
        unjudged: unjudged.filter(|pcr| !pcrs.contains_key(pcr)).collect(),
        pcrs,
        ..boot::References::default()
    };
    let approved = boot::judge(booted, &expected, now)?;
    Ok(Some(approved.facts(root, now)))
}

/// The values that PCRs of a good boot may have here and now.
pub(crate) type Allowed = BTreeMap<u32, Vec<Value<[u8; 32]>>>;

/// Each of the PCRs that are predicted with its reference values: what allows it, or what is wrong with it.
pub(crate) fn compare(
    view: &View<'_>,
    predicted: BTreeSet<u8>,
    values: &References,
    at: At<'_>,
) -> (Allowed, Vec<(u8, Finding)>) {
    let mut findings = Vec::new();
    let mut pcrs = BTreeMap::new();
    for index in telling(predicted, view) {
        let pcr = u32::from(index);
        let Some(value) = view.value(pcr) else {
            // It was not quoted, which `boot::judge` says.
            pcrs.insert(pcr, Vec::new());
            continue;
        };
        match values.judge_pcr(index, &Digest(value), &events(view, pcr), at) {
            Ok(found) => {
                let source = found
                    .source()
                    .map_or_else(String::new, |source| source.id.clone());
                pcrs.insert(pcr, vec![Value::new(value, found.label(), source)]);
            }
            Err(finding) => findings.push((index, finding)),
        }
    }
    (pcrs, findings)
}

/// In the order in which they tell what differs. An image that is not what it should be differs in PCR 4 as a
/// whole, and in PCR 11, if a stub measured it, by the section.
fn telling(predicted: BTreeSet<u8>, booted: &View<'_>) -> Vec<u8> {
    let mut indices: Vec<u8> = predicted.into_iter().collect();
    if !events(booted, SECTIONS).is_empty() {
        indices.sort_by_key(|index| u32::from(*index) != SECTIONS);
    }
    indices
}

/// The digests that were extended into `pcr`, in their order.
pub(crate) fn events(booted: &View<'_>, pcr: u32) -> Vec<Digest> {
    let logged = booted.measurements.iter();
    let logged = logged.filter(|one| one.pcr == pcr);
    let mut events: Vec<Digest> = logged.map(|one| Digest(one.digest)).collect();
    if pcr == SECTIONS {
        let phases = booted.phases.iter();
        events.extend(phases.map(|word| Digest::of(word.as_bytes())));
    }
    events
}

/// By systemd-stub; then the phases of the boot by systemd, without the firmware's log.
pub(crate) const SECTIONS: u32 = 11;
