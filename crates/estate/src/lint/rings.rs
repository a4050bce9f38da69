//! Rings that no machine is in: a ring is a pool, and reference values, rules of what may boot and policies to
//! enforce that name another bind nobody, and say nothing of it.

use super::declared::{Declared, Name};
use super::{Means, Remark, Severity};
use crate::files::EstateFiles;
use crate::problem::Problem;
use crate::suggest::did_you_mean;
use references::ALL_RINGS;
use std::collections::BTreeSet;

pub(super) fn check(declared: &Declared, remarks: &mut Vec<Remark>) {
    let pools = pools(declared);
    for (what, ring) in &declared.rings {
        if is_known(&pools, &ring.name) {
            continue;
        }
        let message = format!(
            "{what} is for ring `{}`, in which no machine can be: no such pool is declared",
            ring.name
        );
        let problem = Problem::new("LINT-RING-UNKNOWN", &ring.file, ring.line, message);
        let problem = problem.hint(next(&pools, &ring.name));
        remarks.push(Remark::new(Severity::Warning, Means::Declarations, problem));
    }
}

/// Of `rings`, those that are no pool of the estate in `files`, each with what to do. The files need not
/// compile.
#[must_use]
pub fn unknown_rings<'a>(files: &EstateFiles, rings: &'a [String]) -> Vec<(&'a str, String)> {
    let declared = Declared::of(files);
    let pools = pools(&declared);
    rings
        .iter()
        .filter(|ring| !is_known(&pools, ring))
        .map(|ring| (ring.as_str(), next(&pools, ring)))
        .collect()
}

fn pools(declared: &Declared) -> BTreeSet<&str> {
    let pools = declared.pools.iter();
    pools.map(|Name { name, .. }| name.as_str()).collect()
}

/// The empty ring is that of machines in no pool.
fn is_known(pools: &BTreeSet<&str>, ring: &str) -> bool {
    ring == ALL_RINGS || ring.is_empty() || pools.contains(ring)
}

fn next(pools: &BTreeSet<&str>, ring: &str) -> String {
    const MOST: usize = 12;
    did_you_mean(ring, pools.iter().copied()).unwrap_or_else(|| match pools.len() {
        0 => "no pool is declared: declare it, `[[pool]]`, or name every ring: `*`".to_owned(),
        1..=MOST => {
            let pools: Vec<&str> = pools.iter().copied().collect();
            format!(
                "there is {}; declare it, `[[pool]]`, or name every ring: `*`",
                pools.join(", ")
            )
        }
        _ => "declare it, `[[pool]]`, or name every ring: `*`".to_owned(),
    })
}
