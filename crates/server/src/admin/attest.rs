//! Questions to evidence that is kept: what a verdict's machine booted and ran, what a refusal is about, and
//! what an estate that is not in force would make of the machines.

mod ask;
mod dry_run;
mod evidence;
mod explain;

pub(super) use ask::ask;
pub(super) use dry_run::dry_run;
pub(super) use explain::explain;

use crate::endorsements::Endorsements;
use crate::join::{TeeOffered, tee_vouched, tpm_placed, tpm_references};
use crate::refusal::Refusal;
use appraise::{Asked, Demands, Kept, Printed, Refusal as Told, judge, refusals};
use estate::{Estate, EstateFiles};
use facts::{Finding, Timestamp};
use std::collections::HashMap;
use std::sync::Arc;

/// An estate, and the files that it came from.
struct Version {
    estate: Arc<Estate>,
    files: Vec<(String, String)>,
    /// By ring: to make them takes some milliseconds.
    demands: HashMap<String, Arc<Demands>>,
}

impl Version {
    fn new(estate: Arc<Estate>, files: EstateFiles) -> Self {
        Self {
            estate,
            files: files.0.into_iter().collect(),
            demands: HashMap::new(),
        }
    }

    /// The pool of the machine with this chip; empty for one that is in none.
    fn ring(&self, kept: &Kept) -> String {
        let placed = kept
            .chip()
            .map(|chip| tpm_placed(&self.estate, &chip, None));
        placed.and_then(|(_, pool)| pool).unwrap_or_default()
    }

    fn demands(&mut self, ring: &str) -> Arc<Demands> {
        let values = &self.estate.references().values;
        let made = self.demands.entry(ring.to_owned());
        Arc::clone(made.or_insert_with(|| Arc::new(Demands::of(values, ring))))
    }

    /// What a join with this evidence would come to at `now`: nothing, or what is wrong with it.
    fn try_on(
        &mut self,
        kept: &Kept,
        endorsements: &Endorsements,
        now: Timestamp,
    ) -> Result<Vec<Finding>, Refusal> {
        let trusted = tpm_references(&self.estate)?;
        let ring = self.ring(kept);
        let shown = TeeOffered::kept(kept.paravisor_report(), kept.paravisor_quote());
        let vouched = match tee_vouched(shown.as_ref(), &self.estate, &ring, endorsements, now) {
            Ok(vouching) => vouching.map(|vouching| vouching.key),
            Err(refused) => return Ok(refused.findings),
        };
        let root = match kept.root(&trusted, vouched.as_ref(), now) {
            Ok(root) => root,
            Err(findings) => return Ok(findings),
        };
        let demands = self.demands(&ring);
        let asked = Asked {
            values: &self.estate.references().values,
            demands: &demands,
            ring: &ring,
            now,
        };
        Ok(judge(&kept.presented(root), &asked)
            .err()
            .unwrap_or_default())
    }

    /// `findings`, each with what it is about and what would have been good at `now`.
    fn tell(
        &mut self,
        kept: &Kept,
        findings: &[Finding],
        now: Timestamp,
        folder: &str,
    ) -> Vec<Told> {
        let ring = self.ring(kept);
        let demands = self.demands(&ring);
        let asked = Asked {
            values: &self.estate.references().values,
            demands: &demands,
            ring: &ring,
            now,
        };
        let printed = Printed {
            estate: folder,
            files: &self.files,
        };
        // Nothing is decided here: whose word the chip is makes no difference.
        let presented = kept.presented(facts::Source::Asserted);
        refusals(findings, &presented, &asked, &printed)
    }
}

/// How commands name the estate's folder.
fn folder(text: &str) -> String {
    if text.is_empty() { "estate" } else { text }.to_owned()
}
