//! What holds of what is declared, by enumeration alone: no solver, and no claim about other data. For whoever starts
//! with a version that was proved elsewhere, and whoever changes what is declared before anybody proves it.

use crate::report::GivenReport;
use crate::spanning::unproved_today;
use estate::{Breach, Estate, PolicyRef, Today};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// One invariant, as it stands today.
#[derive(Debug, Clone, Serialize)]
pub struct Standing {
    pub invariant: Arc<PolicyRef>,
    pub today: Today,
    /// What its proof takes for granted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub givens: Vec<GivenReport>,
    /// Its author asks only for `today`.
    pub about_today: bool,
}

impl Standing {
    /// Whether what is declared keeps a version with it from being applied, whatever a solver says.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        let today = match self.today {
            Today::Holds { .. } => false,
            Today::Broken { .. } => true,
            Today::Open { .. } => self.about_today,
        };
        today || !self.givens.iter().all(GivenReport::holds)
    }

    /// What breaks it, or what takes from it what it rests on; what may, if nothing certainly does.
    pub fn breaches(&self) -> impl Iterator<Item = &Breach> {
        let givens = self.givens.iter().map(|given| &given.today);
        std::iter::once(&self.today)
            .chain(givens)
            .flat_map(|today| match today {
                Today::Holds { .. } => &[][..],
                Today::Broken { by } | Today::Open { on: by, .. } => by,
            })
    }
}

/// `invariants/shop.cedar:3 "no agent reads cards": Identity::"helper" select Table::"…", and 2 more`
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.invariant)?;
        let mut breaches = self.breaches();
        let Some(first) = breaches.next() else {
            return match &self.today {
                Today::Open { because, .. } => write!(f, ": {}", because.join("; ")),
                _ => Ok(()),
            };
        };
        write!(
            f,
            ": {} {} {}",
            first.principal, first.action, first.resource
        )?;
        match breaches.count() {
            0 => Ok(()),
            more => write!(f, ", and {more} more"),
        }
    }
}

/// Every invariant and every `given`, tried on everything that is declared. Blocks the thread.
#[must_use]
pub fn standing_blocking(estate: &Estate) -> Vec<Standing> {
    let each = estate.invariants().iter().map(|invariant| Standing {
        invariant: Arc::clone(&invariant.reference),
        today: unproved_today(estate, invariant),
        givens: invariant
            .givens
            .iter()
            .map(|given| GivenReport {
                given: given.text.clone(),
                today: estate.given_today(invariant, given),
            })
            .collect(),
        about_today: invariant.is_about_today(),
    });
    each.collect()
}
