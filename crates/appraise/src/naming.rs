//! What reference values call a digest, whenever and wherever it was good: for people.

use references::{Digest, References};
use std::collections::HashMap;

/// Names of digests. Built once for one account; empty where there are no reference values.
#[derive(Debug, Default)]
pub struct Naming<'a> {
    values: Option<&'a References>,
    /// Of single events of predicted PCRs.
    events: HashMap<(u32, Digest), String>,
    /// Of what rules, and artefacts for rules, list.
    parts: HashMap<Digest, String>,
}

impl<'a> Naming<'a> {
    #[must_use]
    pub fn of(values: &'a References) -> Self {
        let mut events = HashMap::new();
        let mut parts = HashMap::new();
        for rule in values.rules() {
            let lists = [
                &rule.images,
                &rule.drivers,
                &rule.authorities,
                &rule.mok,
                &rule.files,
            ];
            for part in lists.into_iter().flatten() {
                let name = format!("{} of rule {}", part.what, rule.name);
                parts.entry(part.sha256).or_insert(name);
            }
        }
        for generation in values.generations() {
            for artefact in &generation.artefacts {
                let of = format!("{} {}", artefact.name, artefact.version);
                for (what, digest) in artefact.parts.digests() {
                    let name = format!("{what} of {}", of.trim_end());
                    parts.entry(digest).or_insert(name);
                }
                for pcr in &artefact.pcrs {
                    for event in &pcr.events {
                        let key = (u32::from(pcr.index), event.sha256);
                        events
                            .entry(key)
                            .or_insert_with(|| format!("{} of {}", event.what, of.trim_end()));
                    }
                }
            }
        }
        Self {
            values: Some(values),
            events,
            parts,
        }
    }

    /// Of what was extended into `pcr`.
    pub(crate) fn event(&self, pcr: u32, digest: &[u8; 32]) -> Option<String> {
        let known = self.events.get(&(pcr, Digest(*digest)));
        let known = known.or_else(|| self.parts.get(&Digest(*digest)));
        known.cloned().or_else(|| self.file(digest))
    }

    /// Of a file, by any of its digests.
    pub(crate) fn file(&self, digest: &[u8; 32]) -> Option<String> {
        let found = self.values?.known(&Digest(*digest))?;
        Some(found.label())
    }
}
