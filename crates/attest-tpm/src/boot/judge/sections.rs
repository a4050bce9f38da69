//! PCR 11: the sections of a unified kernel image are those of one that is allowed, all of them.

use super::Judge;
use crate::boot::Meaning;
use crate::boot::references::Sections;
use crate::bytes::shown;
use crate::reference::Value;
use crypto::hex;
use facts::Finding;
use std::collections::BTreeSet;

const PCR: u32 = 11;

impl<'a> Judge<'a> {
    pub(super) fn sections(&mut self) {
        let references = self.references;
        if !self.is_open(PCR) || references.sections.is_empty() {
            return;
        }
        let boot = self.boot;
        let mut measured: Vec<(usize, &'a str, [u8; 32])> = Vec::new();
        for one in boot.of(PCR) {
            match &one.meaning {
                Meaning::Section(name) => measured.push((one.event, name, one.digest)),
                Meaning::SectionName(_) => {}
                _ if self.boot.is_routine(one) => {}
                _ => self.unreadable(one),
            }
        }
        if measured.is_empty() {
            return;
        }
        let same = |sections: &Sections| {
            measured.len() == sections.len()
                && measured
                    .iter()
                    .all(|(_, name, digest)| sections.get(*name) == Some(digest))
        };
        match self.seek(&references.sections, same) {
            super::Sought::Found(_) => {}
            super::Sought::Lapsed(value) => {
                let finding = Finding::new(
                    "BOOT-SECTION",
                    format!(
                        "PCR {PCR}: the unified kernel image does not count any more, or not yet"
                    ),
                )
                .expected(format!("one that counts at {}", self.now))
                .observed(format!(
                    "that of {} ({}): {}",
                    value.label,
                    value.source,
                    value.window.describe(self.now)
                ))
                .next("boot a current image, or run trilith refs import with this one");
                self.misses.push(finding);
            }
            super::Sought::Absent => self.differing(&measured),
        }
    }

    /// One finding for each section that is not that of the nearest image: the one with most sections
    /// alike, and of several the one whose label matched elsewhere.
    fn differing(&mut self, measured: &[(usize, &str, [u8; 32])]) {
        let alike = |value: &Value<Sections>| {
            measured
                .iter()
                .filter(|(_, name, digest)| value.value.get(*name) == Some(digest))
                .count()
        };
        let counting = self.references.sections.iter();
        let nearest = counting
            .filter(|value| value.window.holds(self.now))
            .max_by_key(|value| (alike(value), self.misses.matches(&value.label)));
        let Some(nearest) = nearest else {
            self.misses.push(
                Finding::new(
                    "BOOT-SECTION",
                    format!("PCR {PCR}: no unified kernel image counts at this time"),
                )
                .next("run trilith refs import with the image that is to be allowed"),
            );
            return;
        };
        if alike(nearest) > 0 {
            self.misses.belongs(&nearest.label);
        }
        let mut seen = BTreeSet::new();
        for (event, name, digest) in measured {
            let expected = nearest.value.get(*name).filter(|_| !seen.contains(name));
            seen.insert(*name);
            if expected == Some(digest) {
                continue;
            }
            let finding = Finding::new(
                "BOOT-SECTION",
                format!(
                    "section {} (event {event}, PCR {PCR}) is not that of {}, which comes nearest",
                    shown(name),
                    nearest.label
                ),
            )
            .expected(expected.map_or_else(
                || format!("no {} beyond what {} has", shown(name), nearest.label),
                |digest| {
                    format!(
                        "{} of {} ({})",
                        hex::encode(digest),
                        nearest.label,
                        nearest.source
                    )
                },
            ))
            .observed(hex::encode(digest))
            .next("if it is to be allowed, run trilith refs import with the unified kernel image");
            self.misses.push(finding);
        }
        let absent = nearest
            .value
            .iter()
            .filter(|(name, _)| !seen.contains(&name.as_str()));
        for (name, digest) in absent {
            let finding = Finding::new(
                "BOOT-SECTION",
                format!(
                    "section {} of {}, which comes nearest, was not measured into PCR {PCR}",
                    shown(name),
                    nearest.label
                ),
            )
            .expected(hex::encode(digest))
            .observed("none")
            .next("if it is to be allowed, run trilith refs import with the unified kernel image");
            self.misses.push(finding);
        }
    }
}
