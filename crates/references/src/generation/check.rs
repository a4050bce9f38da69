//! What a references file has to keep, beyond its shape.

use super::{Artefact, BootRule, Generation, ReferenceFile};
use crate::pcr::replay;
use facts::Finding;
use std::collections::BTreeSet;

const MOST_VALUES: usize = 500_000;
/// A join is compared with each one of its ring.
const MOST_RULES: usize = 64;
const LONGEST_TEXT: usize = 64 * 1024;

impl ReferenceFile {
    /// Everything that is wrong with it.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut names = BTreeSet::new();
        for generation in &self.generations {
            if !names.insert(&generation.name) {
                findings.push(
                    Finding::new("REF-GENERATION-TWICE", "two generations have one name")
                        .expected("a name for each")
                        .observed(&generation.name)
                        .next("import one of them again under another --generation"),
                );
            }
            generation.check(&mut findings);
        }
        let values: usize = self
            .generations
            .iter()
            .flat_map(|generation| &generation.artefacts)
            .map(|artefact| {
                let parts = artefact.parts.digests().count();
                let files = artefact.files.len().saturating_add(artefact.pcrs.len());
                files.saturating_add(parts)
            })
            .chain(self.boots.iter().map(BootRule::values))
            .sum();
        let mut names = BTreeSet::new();
        if self.boots.len() > MOST_RULES {
            findings.push(
                Finding::new("REF-BOOT-RULE", "there are too many ways to boot")
                    .expected(format!("at most {MOST_RULES} [[boot]] in one file"))
                    .observed(self.boots.len().to_string())
                    .next("give machines that boot alike one rule, whose lists hold what differs"),
            );
        }
        for rule in &self.boots {
            let what = match rule.fault() {
                _ if !names.insert(&rule.name) => Some("its name is that of another rule"),
                fault => fault,
            };
            if let Some(what) = what {
                findings.push(
                    Finding::new("REF-BOOT-RULE", "a [[boot]] rule is not usable")
                        .expected(
                            "a name of letters, digits, `.`, `_` and `-`, rings, a window that does not end \
                             before it begins, and PCR 0 to 23",
                        )
                        .observed(format!("{:?}: {what}", rule.name))
                        .next("see docs/operate/reference-values.md"),
                );
            }
        }
        if values > MOST_VALUES {
            findings.push(
                Finding::new("REF-FILE-VALUES", "the file holds too many values")
                    .expected(format!("at most {MOST_VALUES}"))
                    .observed(values.to_string())
                    .next("import fewer packages into one file, or programs only"),
            );
        }
        for withdrawal in &self.withdrawn {
            if withdrawal.name.is_empty() || withdrawal.reason.is_empty() {
                findings.push(
                    Finding::new("REF-WITHDRAWN-FORM", "a withdrawal says too little")
                        .expected("the name of an artefact, and a reason")
                        .observed(format!("{withdrawal:?}"))
                        .next("give both"),
                );
            }
        }
        findings
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

impl BootRule {
    fn fault(&self) -> Option<&'static str> {
        let is_ring = |ring: &String| ring == super::ALL_RINGS || is_word(ring);
        let texts = self.command_lines.iter().chain(&self.grub_commands);
        if !is_word(&self.name) {
            Some("the name")
        } else if self.rings.is_empty() || !self.rings.iter().all(is_ring) {
            Some("the rings")
        } else if matches!((self.valid_from, self.valid_until), (Some(from), Some(until)) if until <= from)
        {
            Some("it ends before it begins")
        } else if self.unjudged.iter().any(|pcr| *pcr > 23) {
            Some("a PCR that there is not")
        } else if texts.into_iter().any(|text| text.len() > LONGEST_TEXT) {
            Some("a command line of more than 64 KiB")
        } else {
            None
        }
    }
}

impl Generation {
    fn check(&self, findings: &mut Vec<Finding>) {
        let name = &self.name;
        if !is_word(name) {
            findings.push(
                Finding::new("REF-GENERATION-NAME", "a generation's name is not usable")
                    .expected("letters, digits, `.`, `_` and `-`")
                    .observed(format!("{name:?}"))
                    .next("choose another --generation"),
            );
        }
        let wrong = self
            .rings
            .iter()
            .find(|ring| *ring != super::ALL_RINGS && !is_word(ring));
        if self.rings.is_empty() || wrong.is_some() {
            findings.push(
                Finding::new(
                    "REF-GENERATION-RINGS",
                    "a generation says for no machine, or unclearly, that it holds",
                )
                .expected("names of rings, or `*`")
                .observed(format!("{name}: {:?}", self.rings))
                .next("give --ring"),
            );
        }
        if self
            .valid_until
            .is_some_and(|until| until <= self.valid_from)
        {
            findings.push(
                Finding::new(
                    "REF-GENERATION-WINDOW",
                    "a generation ends before it begins",
                )
                .expected("valid_until after valid_from")
                .observed(name)
                .next("give another --valid-until"),
            );
        }
        let mut ids = BTreeSet::new();
        for source in &self.sources {
            if !ids.insert(source.id.as_str()) {
                findings.push(source_finding(name, &source.id, "the id twice"));
            }
        }
        for artefact in &self.artefacts {
            if !ids.contains(artefact.source.as_str()) {
                let what = format!("{} rests on an id that is not there", artefact.name);
                findings.push(source_finding(name, &artefact.source, &what));
            }
            artefact.check(name, findings);
        }
    }
}

fn source_finding(generation: &str, id: &str, what: &str) -> Finding {
    Finding::new(
        "REF-SOURCE",
        "a generation does not say where its values come from",
    )
    .expected("every source once, and every artefact with its source")
    .observed(format!("{generation}, source {id:?}: {what}"))
    .next("import it again")
}

impl Artefact {
    fn check(&self, generation: &str, findings: &mut Vec<Finding>) {
        let mut wrong = |what: String| {
            findings.push(
                Finding::new("REF-VALUE", "a reference value contradicts itself")
                    .expected("absolute paths, PCR 0 to 23, and PCRs that their events lead to")
                    .observed(format!(
                        "{generation}, {} {}: {what}",
                        self.name, self.version
                    ))
                    .next("import it again"),
            );
        };
        if self.name.is_empty() {
            wrong("no name".to_owned());
        }
        for file in &self.files {
            if !file.path.starts_with('/') {
                wrong(format!("the path {:?}", file.path));
            }
        }
        for pcr in &self.pcrs {
            if pcr.index > 23 {
                wrong(format!("PCR {}", pcr.index));
            } else if replay(&pcr.events) != pcr.sha256 {
                wrong(format!(
                    "PCR {}, whose events give another value",
                    pcr.index
                ));
            }
        }
    }
}
