//! The rules of `[[boot]]` for one ring, in the form that verifiers take, and which of them a boot fits.
//!
//! A boot has to fit one rule as a whole: programs of one way to boot with the command line of another are
//! neither.

use crate::View;
use crate::boot::Allowed;
use crate::demands::Named;
use attest_tpm::boot::{self, Approved, Boot, DomainBoot, SbatFloor, Sections, SecureBootRule};
use attest_tpm::reference::Value;
use facts::{Finding, Timestamp};
use references::{BootRule, Digest, Part, References, SecureBoot, moment};
use std::collections::BTreeMap;

/// One rule, with what it draws from artefacts.
#[derive(Debug, Clone)]
pub struct Rule {
    pub name: String,
    valid_from: Option<Timestamp>,
    valid_until: Option<Timestamp>,
    lists: boot::References,
}

/// All rules of `ring`, those that are over too: what is over is no reason not to ask. The newest first.
pub(crate) fn of(values: &References, ring: &str) -> Vec<Rule> {
    let mut rules: Vec<&BootRule> = values
        .rules()
        .iter()
        .filter(|one| one.is_for(ring))
        .collect();
    rules.sort_by(|one, other| {
        let from = other.valid_from.cmp(&one.valid_from);
        from.then_with(|| one.name.cmp(&other.name))
    });
    let made = rules.into_iter().map(|rule| Rule::of(rule, values, ring));
    made.collect()
}

/// A list that is judged by digest.
fn parts(list: &[Part], rule: &BootRule) -> Vec<Value<[u8; 32]>> {
    let values = list.iter().map(|part| {
        let label = format!("{} ({})", part.what, rule.name);
        Value::new(part.sha256.0, label, "the estate")
    });
    values.collect()
}

fn own<T>(value: T, rule: &BootRule) -> Value<T> {
    Value::new(value, format!("rule {}", rule.name), "the estate")
}

fn sections(of: &BTreeMap<String, Digest>) -> Sections {
    let sections = of.iter().map(|(name, digest)| (name.clone(), digest.0));
    sections.collect()
}

impl Rule {
    fn of(rule: &BootRule, values: &References, ring: &str) -> Self {
        let lines = |texts: &[String]| -> Vec<Value<String>> {
            texts.iter().map(|text| own(text.clone(), rule)).collect()
        };
        let mut lists = boot::References {
            images: parts(&rule.images, rule),
            drivers: parts(&rule.drivers, rule),
            secure_boot: match rule.secure_boot {
                SecureBoot::Required => SecureBootRule::On,
                SecureBoot::Any => SecureBootRule::Any,
            },
            authorities: parts(&rule.authorities, rule),
            forbidden: parts(&rule.dbx, rule),
            sbat: rule
                .sbat
                .iter()
                .map(|(component, at_least)| {
                    let floor = SbatFloor {
                        component: component.clone(),
                        at_least: *at_least,
                    };
                    own(floor, rule)
                })
                .collect(),
            command_lines: lines(&rule.command_lines),
            grub_commands: lines(&rule.grub_commands),
            files: parts(&rule.files, rule),
            sections: rule
                .sections
                .iter()
                .map(|image| own(sections(image), rule))
                .collect(),
            mok: parts(&rule.mok, rule),
            unjudged: rule.unjudged.iter().map(|pcr| u32::from(*pcr)).collect(),
            ..boot::References::default()
        };
        let generations = values.generations().iter().filter(|one| one.is_for(ring));
        for generation in generations {
            let artefacts = generation.artefacts.iter();
            for artefact in artefacts.filter(|one| rule.draws_from(one)) {
                let named = Named::of(values, generation, artefact);
                let digests = |list: &[Part]| -> Vec<Value<[u8; 32]>> {
                    list.iter().map(|part| named.value(part.sha256.0)).collect()
                };
                let drawn = &artefact.parts;
                lists.images.extend(digests(&drawn.images));
                lists.files.extend(digests(&drawn.files));
                lists.authorities.extend(digests(&drawn.authorities));
                lists.mok.extend(digests(&drawn.mok));
                let texts = drawn.command_lines.iter();
                lists
                    .command_lines
                    .extend(texts.map(|text| named.value(text.clone())));
                if !drawn.sections.is_empty() {
                    lists.sections.push(named.value(sections(&drawn.sections)));
                }
            }
        }
        Self {
            name: rule.name.clone(),
            valid_from: rule.valid_from,
            valid_until: rule.valid_until,
            lists,
        }
    }

    /// Why it does not count now.
    fn lapse(&self, now: Timestamp) -> Option<Finding> {
        let name = &self.name;
        if let Some(until) = self.valid_until.filter(|until| *until <= now) {
            let until = moment::text(until);
            return Some(
                Finding::new("REF-OVER", format!("boot rule {name} ended at {until}"))
                    .expected("a [[boot]] rule that holds now")
                    .next("give the rule a later valid_until and apply the estate"),
            );
        }
        let from = self.valid_from.filter(|from| now < *from)?;
        let from = moment::text(from);
        Some(
            Finding::new("REF-NOT-YET", format!("boot rule {name} begins at {from}"))
                .expected("a [[boot]] rule that holds now")
                .next("wait, or give the rule an earlier valid_from and apply the estate"),
        )
    }

    /// Its lists, and what was predicted of whole PCRs.
    fn with(&self, pcrs: &Allowed) -> boot::References {
        let unjudged = self.lists.unjudged.iter().copied();
        boot::References {
            pcrs: pcrs.clone(),
            unjudged: unjudged.filter(|pcr| !pcrs.contains_key(pcr)).collect(),
            ..self.lists.clone()
        }
    }
}

/// The rule that comes nearest to a boot, and what of the boot does not fit it.
#[derive(Debug)]
pub(crate) struct Nearest<'a> {
    pub(crate) rule: &'a str,
    pub(crate) findings: Vec<Finding>,
}

/// Judges `booted` by each of `rules` together with `pcrs`; `approve` is given the first approval.
///
/// # Errors
/// What does not fit the rule that most of the boot fits.
pub(crate) fn judge<T>(
    booted: &Boot,
    rules: &[Rule],
    pcrs: &Allowed,
    now: Timestamp,
    approve: impl Fn(&Approved<'_>) -> T,
) -> Result<T, Vec<Finding>> {
    let mut nearest: Option<Nearest<'_>> = None;
    for rule in rules {
        let findings = match rule.lapse(now) {
            Some(lapse) => vec![lapse],
            None => match boot::judge(booted, &rule.with(pcrs), now) {
                Ok(approved) => return Ok(approve(&approved)),
                Err(findings) => findings,
            },
        };
        nearest = Some(nearer(nearest, rule, findings));
    }
    Err(nearest.map(Nearest::told).unwrap_or_default())
}

/// Judges what a trust domain booted by each of `rules`, as far as they speak of it. One is enough, and none asks
/// for nothing.
///
/// # Errors
/// As [`judge`].
pub(crate) fn judge_domain(
    booted: &DomainBoot,
    rules: &[Rule],
    now: Timestamp,
) -> Result<(), Vec<Finding>> {
    let mut nearest: Option<Nearest<'_>> = None;
    for rule in rules {
        let findings = match rule.lapse(now) {
            Some(lapse) => vec![lapse],
            None => booted.faults(&rule.lists, now),
        };
        if findings.is_empty() {
            return Ok(());
        }
        nearest = Some(nearer(nearest, rule, findings));
    }
    nearest.map_or(Ok(()), |nearest| Err(nearest.told()))
}

/// As [`judge`], of a boot that may be nobody's word: what does not fit, and which rule comes nearest. Nothing
/// if a rule fits, or if there are none.
pub(crate) fn faults<'a>(
    view: &View<'_>,
    rules: &'a [Rule],
    pcrs: &Allowed,
    now: Timestamp,
) -> Option<(&'a str, Vec<Finding>)> {
    let mut nearest: Option<Nearest<'a>> = None;
    for rule in rules {
        let findings = match rule.lapse(now) {
            Some(lapse) => vec![lapse],
            None => view.faults(&rule.with(pcrs), now),
        };
        if findings.is_empty() {
            return None;
        }
        nearest = Some(nearer(nearest, rule, findings));
    }
    nearest.map(|nearest| (nearest.rule, nearest.told()))
}

/// Rules that hold come before those that do not; of several the one with fewest findings, and of those the
/// first.
fn nearer<'a>(nearest: Option<Nearest<'a>>, rule: &'a Rule, findings: Vec<Finding>) -> Nearest<'a> {
    let lapsed = |findings: &[Finding]| findings.iter().any(|one| one.code.starts_with("REF-"));
    let weight = |findings: &[Finding]| (lapsed(findings), findings.len());
    match nearest {
        Some(nearest) if weight(&nearest.findings) <= weight(&findings) => nearest,
        _ => Nearest {
            rule: &rule.name,
            findings,
        },
    }
}

impl Nearest<'_> {
    /// Each finding with the rule that it is about.
    fn told(self) -> Vec<Finding> {
        let Self { rule, findings } = self;
        let told = findings.into_iter().map(|mut finding| {
            if finding.code.starts_with("BOOT-") {
                finding.message.push_str(&format!(" (boot rule {rule})"));
            }
            finding
        });
        told.collect()
    }
}
