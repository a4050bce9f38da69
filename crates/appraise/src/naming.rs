//! What reference values call a digest, whenever and wherever it was good: for people.

use references::{Digest, References};
use std::collections::HashMap;

/// Names of digests. Built once for one account; empty where there are no reference values.
#[derive(Debug, Default)]
pub struct Naming<'a> {
    values: Option<&'a References>,
    /// Of single events of predicted PCRs.
    events: HashMap<(u32, Digest), String>,
}

impl<'a> Naming<'a> {
    #[must_use]
    pub fn of(values: &'a References) -> Self {
        let mut events = HashMap::new();
        for generation in values.generations() {
            for artefact in &generation.artefacts {
                for pcr in &artefact.pcrs {
                    for event in &pcr.events {
                        let key = (u32::from(pcr.index), event.sha256);
                        events.entry(key).or_insert_with(|| {
                            let name = format!("{} {}", artefact.name, artefact.version);
                            format!("{} of {}", event.what, name.trim_end())
                        });
                    }
                }
            }
        }
        Self {
            values: Some(values),
            events,
        }
    }

    /// Of what was extended into `pcr`.
    pub(crate) fn event(&self, pcr: u32, digest: &[u8; 32]) -> Option<String> {
        let known = self.events.get(&(pcr, Digest(*digest)));
        known.cloned().or_else(|| self.file(digest))
    }

    /// Of a file, by any of its digests.
    pub(crate) fn file(&self, digest: &[u8; 32]) -> Option<String> {
        let found = self.values?.known(&Digest(*digest))?;
        Some(found.label())
    }
}
