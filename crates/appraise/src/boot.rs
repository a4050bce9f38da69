//! Compares what a machine booted with the estate's reference values.
//!
//! A PCR that any generation for the machine's ring predicts has to have a value that is good now, and all of
//! them have to be those of one boot. Where there are rules (`[[boot]]`) for the ring, the boot has to fit one as
//! a whole as well, and every PCR of code has to be spoken of. Without rules, what no generation speaks of is not
//! judged: the facts say which PCRs were.

use crate::demands::Demands;
use crate::{View, rules};
use attest_tpm::boot::{self, Boot};
use attest_tpm::reference::Value;
use facts::{FactSet, Finding, Source};
use references::{At, Digest, References};
use std::collections::{BTreeMap, BTreeSet};

/// The facts of a boot that is as it should be; `None` where nothing says how it should be. `ring` is the
/// machine's pool, and `demands` those of it.
///
/// # Errors
/// `BOOT-LOG-MISSING`; for each PCR what [`References::judge_pcr`] finds, which names the first event that
/// differs; what [`References::judge_whole`] finds; else what [`boot::judge`] finds, by the rule that comes
/// nearest.
pub(crate) fn judge(
    booted: Option<&Boot>,
    root: Source,
    values: &References,
    demands: &Demands,
    at: At<'_>,
) -> Result<Option<FactSet>, Vec<Finding>> {
    if !demands.judge_boots() {
        return Ok(None);
    }
    let (ring, now) = (at.ring, at.now);
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
    let (pcrs, findings) = compare(&View::from(booted), demands.pcrs.clone(), values, at);
    if !findings.is_empty() {
        return Err(findings.into_iter().map(|(_, finding)| finding).collect());
    }
    if !demands.rules.is_empty() {
        let facts = rules::judge(booted, &demands.rules, &pcrs, now, |approved| {
            approved.facts(root, now)
        });
        return facts.map(Some);
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
    let quoted = predicted.clone();
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
    if findings.is_empty() {
        let quoted = quoted
            .into_iter()
            .filter_map(|index| Some((index, Digest(view.value(u32::from(index))?))));
        findings.extend(values.judge_whole(&quoted.collect(), at).err());
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
