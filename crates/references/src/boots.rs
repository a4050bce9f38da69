//! Whole boots: the values of all PCRs that are predicted for a ring, put together from what is good now.
//!
//! [`References::judge_pcr`] asks for one PCR after the other; who approves a boot as a whole, before it has
//! happened, needs the combinations. One artefact speaks of several PCRs, and its values belong together.

use crate::set::{At, Found, References};
use crate::{Artefact, Digest};
use facts::Finding;
use std::collections::{BTreeMap, BTreeSet};

/// Combinations that are tried; beyond, no further boots are looked for.
const MOST_TRIED: usize = 20_000;
/// Artefacts that a finding names.
const MOST_NAMED: usize = 3;

/// One boot that is good here and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Every PCR that the ring predicts.
    pub pcrs: BTreeMap<u8, Digest>,
    /// Artefacts and generations that the values come from, for people.
    pub label: String,
}

/// The boots of a ring, those of the newest generations first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Boots {
    pub boots: Vec<Boot>,
    /// There are more than were asked for.
    pub more: bool,
    /// What is not predicted for the ring and would have to be for a boot to be told from another.
    pub unpinned: Option<&'static str>,
}

/// What is missing for PCRs of these indices to say what boots: the boot loader and the kernel are in 4; the
/// initrd and the command line in 11, where they are sections of one image, or in 8 and 9, where GRUB reads
/// them. `None` if nothing is.
///
/// Source: UAPI Group, Linux TPM PCR Registry; what each PCR leaves open is in docs/operate/sealed-startup.md.
fn unpinned(predicted: &BTreeSet<u8>) -> Option<&'static str> {
    let all = |pcrs: &[u8]| pcrs.iter().all(|pcr| predicted.contains(pcr));
    match (all(&[4]), all(&[11]) || all(&[8, 9])) {
        (true, true) => None,
        (false, true) => Some("PCR 4"),
        (true, false) => Some("PCR 11, or PCR 8 and 9"),
        (false, false) => Some("PCR 4, and PCR 11 or 8 and 9"),
    }
}

impl References {
    /// The boots that are good here and now, at most `most` of them: none if nothing is predicted for the
    /// ring, or if some PCR that is predicted has no good value.
    #[must_use]
    pub fn boots(&self, at: At<'_>, most: usize) -> Boots {
        let predicted = self.predicted(at.ring);
        if predicted.is_empty() {
            return Boots::default();
        }
        let mut good: Vec<Found<'_>> = self
            .good_artefacts(at)
            .filter(|found| !found.artefact.pcrs.is_empty())
            .collect();
        // INVARIANT: one order whatever order the files come in, so that the same boots are named again.
        good.sort_by(|one, other| {
            let key = |found: &Found<'_>| (found.generation.name.clone(), found.label());
            other
                .generation
                .valid_from
                .cmp(&one.generation.valid_from)
                .then_with(|| key(one).cmp(&key(other)))
        });
        let mut search = Search {
            predicted: &predicted,
            good: &good,
            most,
            tried: 0,
            found: Boots {
                unpinned: unpinned(&predicted),
                ..Boots::default()
            },
        };
        search.go_on(&BTreeMap::new(), &[]);
        search.found
    }
}

impl References {
    /// Whether `pcrs`, each of which is good by itself, belong to one boot: there has to be, for each that is
    /// predicted for the ring, an artefact that is good here and now, and that speaks of no PCR which has another
    /// value. Such artefacts together are one of [`References::boots`], without a bound on how many there are.
    /// PCRs that are not in `pcrs` are not asked for.
    ///
    /// # Errors
    /// `REF-BOOT-MIXED`, with the PCR that belongs to another boot than the rest.
    pub fn judge_whole(
        &self,
        pcrs: &BTreeMap<u8, Digest>,
        at: At<'_>,
    ) -> Result<(), (u8, Finding)> {
        let value = |index: u8| pcrs.get(&index);
        let whole: Vec<Found<'_>> = self
            .good_artefacts(at)
            .filter(|found| {
                let mut indices = found.artefact.pcrs.iter().map(|pcr| pcr.index);
                indices.all(|index| {
                    let of = |pcr: &&crate::PcrValue| pcr.index == index;
                    let mut values = found.artefact.pcrs.iter().filter(of);
                    value(index).is_none_or(|value| values.any(|pcr| pcr.sha256 == *value))
                })
            })
            .collect();
        let speaks = |found: &Found<'_>, index: u8| {
            let mut pcrs = found.artefact.pcrs.iter();
            pcrs.any(|pcr| pcr.index == index)
        };
        let alone = self.predicted(at.ring).into_iter().find_map(|index| {
            let value = value(index)?;
            let covered = whole.iter().any(|found| speaks(found, index));
            (!covered).then_some((index, *value))
        });
        let Some((index, value)) = alone else {
            return Ok(());
        };
        let by = self.pcrs(index, at).find(|(_, pcr)| pcr.sha256 == value);
        let by = by.map_or_else(String::new, |(found, _)| found.label());
        let others: BTreeSet<String> = whole
            .iter()
            .filter(|found| !found.artefact.pcrs.is_empty())
            .map(Found::label)
            .collect();
        let others: Vec<String> = others.into_iter().take(MOST_NAMED).collect();
        let rest = match others.as_slice() {
            [] => "other PCRs are of other boots".to_owned(),
            others => format!("the rest is that of {}", others.join(", ")),
        };
        let finding = Finding::new(
            "REF-BOOT-MIXED",
            "each PCR is good by itself, and together they are no boot that is good here",
        )
        .expected(format!(
            "all PCRs of one boot that is good in ring {}",
            at.ring
        ))
        .observed(format!("PCR {index} of {by}; {rest}"))
        .next("boot what was imported as it was imported, or import this combination");
        Err((index, finding))
    }
}

struct Search<'a> {
    predicted: &'a BTreeSet<u8>,
    good: &'a [Found<'a>],
    most: usize,
    tried: usize,
    found: Boots,
}

impl Search<'_> {
    /// Chooses an artefact for the first PCR that has no value yet.
    fn go_on(&mut self, pcrs: &BTreeMap<u8, Digest>, labels: &[String]) {
        let missing = self
            .predicted
            .iter()
            .find(|index| !pcrs.contains_key(index));
        let Some(missing) = missing.copied() else {
            return self.keep(pcrs, labels);
        };
        let good = self.good;
        for found in good {
            if found.artefact.pcrs.iter().all(|pcr| pcr.index != missing) {
                continue;
            }
            let mut labels = labels.to_vec();
            labels.push(format!("{} ({})", found.label(), found.generation.name));
            for chosen in with(pcrs, found.artefact) {
                self.tried += 1;
                if self.tried > MOST_TRIED || self.found.more {
                    self.found.more = true;
                    return;
                }
                self.go_on(&chosen, &labels);
            }
        }
    }

    fn keep(&mut self, pcrs: &BTreeMap<u8, Digest>, labels: &[String]) {
        if self.found.boots.iter().any(|boot| boot.pcrs == *pcrs) {
            return;
        }
        if self.found.boots.len() >= self.most {
            self.found.more = true;
            return;
        }
        self.found.boots.push(Boot {
            pcrs: pcrs.clone(),
            label: labels.join(", "),
        });
    }
}

/// `pcrs` with the values of `artefact`, in every way in which they fit together.
fn with(pcrs: &BTreeMap<u8, Digest>, artefact: &Artefact) -> Vec<BTreeMap<u8, Digest>> {
    let indices: BTreeSet<u8> = artefact.pcrs.iter().map(|pcr| pcr.index).collect();
    let mut partial = vec![pcrs.clone()];
    for index in indices {
        let values: BTreeSet<Digest> = artefact
            .pcrs
            .iter()
            .filter(|pcr| pcr.index == index)
            .map(|pcr| pcr.sha256)
            .collect();
        partial = partial
            .into_iter()
            .flat_map(|chosen| match chosen.get(&index) {
                Some(value) if values.contains(value) => vec![chosen],
                Some(_) => Vec::new(),
                None => values
                    .iter()
                    .map(|value| {
                        let mut chosen = chosen.clone();
                        chosen.insert(index, *value);
                        chosen
                    })
                    .collect(),
            })
            .take(MOST_TRIED)
            .collect();
    }
    partial
}
