//! Compares what a machine booted, and what its kernel measured since, with the estate's reference values.

use super::boot;
use crate::current::Current;
use attest_tpm::ima::{Round, Sent, round};
use attest_tpm::join::Proven;
use facts::{FactSet, Finding, Timestamp};

/// The facts of boot and list of a machine that is as it should be, and what is known of its list.
/// `ring` is the machine's pool. For threads of the pool.
///
/// # Errors
/// Everything that [`boot::judge`] and [`round`] find.
pub(super) fn judge(
    proven: &Proven,
    list: &[u8],
    current: &Current,
    ring: &str,
    now: Timestamp,
) -> Result<(FactSet, Round), Vec<Finding>> {
    let values = &current.estate.references().values;
    let demands = current.demands(ring);
    let booted = boot::judge(proven, values, ring, now);
    let sent = Sent { first: 0, list };
    let listed = round(sent, &proven.quoted, None, demands.files.as_ref(), now);
    match (booted, listed) {
        (Ok(booted), Ok(listed)) => {
            let mut facts = listed.facts(proven.root, now);
            for fact in booted.iter().flat_map(FactSet::iter) {
                facts.insert(fact.clone());
            }
            Ok((facts, listed))
        }
        (booted, listed) => {
            let booted = booted.err().unwrap_or_default();
            let listed = listed.err().unwrap_or_default();
            Err(booted.into_iter().chain(listed).collect())
        }
    }
}
