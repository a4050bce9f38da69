//! Refusals that say what would have been good, and what to run so that it is.

use crate::set::{At, Found, Known, Lapse, References};
use crate::{Digest, PcrValue, moment};
use facts::Finding;

/// Versions that are named in one refusal.
const NAMED: usize = 3;

impl References {
    /// The value for a file that ran as `path` with `digest`: SHA-256 or fs-verity digest, as IMA lists
    /// it, or Authenticode.
    ///
    /// # Errors
    /// `REF-FILE-UNKNOWN`, `REF-WITHDRAWN`, `REF-OVER`, `REF-NOT-YET`, `REF-RING`; each names the nearest
    /// file that is good.
    pub fn judge_file(
        &self,
        path: &str,
        digest: &Digest,
        at: At<'_>,
    ) -> Result<Found<'_>, Finding> {
        let (finding, label) = match self.look_up(digest, at) {
            Known::Good(found) => return Ok(found),
            Known::Lapsed(found, lapse) => (lapsed(&found, &lapse, at), found.label()),
            Known::Unknown => (
                Finding::new(
                    "REF-FILE-UNKNOWN",
                    "no package or image that is good here holds this file",
                )
                .next("import what it belongs to (trilith refs import debian, oci or slsa)"),
                "nothing that is known".to_owned(),
            ),
        };
        Err(finding
            .expected(self.expected_at(path, at))
            .observed(format!("{path} with {digest}: {label}")))
    }

    fn expected_at(&self, path: &str, at: At<'_>) -> String {
        let nearest = self.nearest(path, at);
        if nearest.is_empty() {
            return format!("a file that a generation of ring {} holds", at.ring);
        }
        let named: Vec<String> = nearest
            .iter()
            .take(NAMED)
            .map(|found| {
                let sha256 = found.file.map(|file| file.sha256.to_string());
                format!("{} ({})", found.label(), sha256.unwrap_or_default())
            })
            .collect();
        named.join(" or ")
    }

    /// The value for PCR `index`. `events` are the digests that the machine's log says were extended into
    /// it, and serve the explanation alone.
    ///
    /// # Errors
    /// `REF-PCR-UNKNOWN`, which names the first event that differs from the closest prediction, or
    /// `REF-WITHDRAWN`, `REF-OVER`, `REF-NOT-YET`, `REF-RING`.
    pub fn judge_pcr(
        &self,
        index: u8,
        value: &Digest,
        events: &[Digest],
        at: At<'_>,
    ) -> Result<Found<'_>, Finding> {
        match self.look_up_pcr(index, value, at) {
            Known::Good(found) => Ok(found),
            Known::Lapsed(found, lapse) => Err(lapsed(&found, &lapse, at)
                .expected(format!(
                    "PCR {index} of a boot that is good in ring {}",
                    at.ring
                ))
                .observed(format!("{value}: {}", found.label()))),
            Known::Unknown => Err(self.unknown_pcr(index, value, events, at)),
        }
    }

    /// The prediction of PCR `index` that is good here and now and has most events alike from the start, and
    /// how many: the event at that place differs.
    #[must_use]
    pub fn closest<'a>(
        &'a self,
        index: u8,
        events: &[Digest],
        at: At<'_>,
    ) -> Option<(Found<'a>, &'a PcrValue, usize)> {
        let all = self.found_all();
        let good = all.filter(|found| self.lapse(found, at).is_none());
        let predicted = good.flat_map(|found| {
            let pcrs = found.artefact.pcrs.iter();
            pcrs.filter(|pcr| pcr.index == index).map(move |pcr| {
                let via = crate::Via::Pcr(index);
                (Found { via, ..found }, pcr)
            })
        });
        predicted
            .map(|(found, predicted)| (found, predicted, alike(predicted, events)))
            .max_by_key(|(_, _, alike)| *alike)
    }

    fn unknown_pcr(&self, index: u8, value: &Digest, events: &[Digest], at: At<'_>) -> Finding {
        let finding = Finding::new("REF-PCR-UNKNOWN", format!("PCR {index} is of no boot that is good here"))
            .next("import what the machine boots (trilith refs import uki, debian or uefi), or boot what was imported");
        let Some((found, predicted, position)) = self.closest(index, events, at) else {
            return finding
                .expected(format!(
                    "a prediction of PCR {index} for ring {}; there is none",
                    at.ring
                ))
                .observed(value.to_string());
        };
        let expected = match predicted.events.get(position) {
            Some(event) => format!(
                "{}, event {position}: {} ({})",
                found.label(),
                event.what,
                event.sha256
            ),
            None => format!("{}, no event {position}", found.label()),
        };
        let observed = match (events.get(position), events.is_empty()) {
            (Some(digest), _) => format!("{value}; event {position}: {digest}"),
            (None, true) => format!("{value}, without an event log"),
            (None, false) => format!("{value}; no event {position}"),
        };
        finding.expected(expected).observed(observed)
    }
}

/// How many events are the same from the start.
fn alike(predicted: &PcrValue, events: &[Digest]) -> usize {
    let pairs = predicted.events.iter().zip(events);
    pairs
        .take_while(|(event, digest)| event.sha256 == **digest)
        .count()
}

fn lapsed(found: &Found<'_>, lapse: &Lapse, at: At<'_>) -> Finding {
    let name = &found.generation.name;
    match lapse {
        Lapse::Withdrawn { at, reason } => {
            let since = moment::text(*at);
            Finding::new(
                "REF-WITHDRAWN",
                format!("this version was withdrawn at {since}: {reason}"),
            )
            .next("upgrade the package, and import the version that replaces it")
        }
        Lapse::Over(until) => {
            let until = moment::text(*until);
            Finding::new("REF-OVER", format!("generation {name} ended at {until}"))
                .next("upgrade the machine, or give the generation a later valid_until and apply the estate")
        }
        Lapse::NotYet(from) => {
            let from = moment::text(*from);
            Finding::new("REF-NOT-YET", format!("generation {name} begins at {from}"))
                .next("wait, or give the generation an earlier valid_from and apply the estate")
        }
        Lapse::OtherRing(rings) => {
            let rings = rings.join(", ");
            Finding::new(
                "REF-RING",
                format!(
                    "generation {name} holds for {rings} and not for {}",
                    at.ring
                ),
            )
            .next("add the machine's ring to the generation and apply the estate")
        }
    }
}
