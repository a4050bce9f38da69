//! What a machine presented, whole: what it booted and what its kernel measured since, compared with the
//! estate's reference values. A join, a renewal and whoever tries reference values on evidence that is kept
//! call the same function.

use crate::{Demands, boot};
use attest_tpm::Quoted;
use attest_tpm::boot::Boot;
use attest_tpm::ima::{Progress, Round, Sent, round};
use attest_tpm::join::Proven;
use facts::{Affirmed, FactSet, Finding, Source, Timestamp, Warrant};
use references::{At, References};

/// What a machine booted and its kernel measured.
const WARRANT: Warrant = Warrant::of(Source::Hardware, &["machine.boot.", "machine.ima."]);

/// Evidence that a quote stands behind.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// If an event log of SHA-256 came along.
    pub booted: Option<&'a Boot>,
    pub quoted: &'a Quoted,
    /// What stands behind the chip.
    pub root: Source,
    pub list: Sent<'a>,
    /// How far the list was verified before; absent for a whole one.
    pub before: Option<&'a Progress>,
}

impl<'a> Presented<'a> {
    /// What a machine presents when it joins: `list` is whole.
    #[must_use]
    pub fn by_join(proven: &'a Proven, list: &'a [u8]) -> Self {
        Self {
            booted: proven.booted.as_ref(),
            quoted: &proven.quoted,
            root: proven.root,
            list: Sent { first: 0, list },
            before: None,
        }
    }
}

/// What a machine is compared with.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub values: &'a References,
    /// Of `values`, for `ring`.
    pub demands: &'a Demands,
    /// The machine's pool; empty for one that is in none.
    pub ring: &'a str,
    pub now: Timestamp,
}

/// The facts of boot and list of a machine that is as it should be, and what is known of its list.
///
/// # Errors
/// Everything that is wrong with what it booted (`BOOT-…`, `REF-…`) and with its list (`IMA-…`).
pub fn judge(
    presented: &Presented<'_>,
    asked: &Asked<'_>,
) -> Result<(Affirmed, Round), Vec<Finding>> {
    let Asked {
        values,
        demands,
        ring,
        now,
    } = *asked;
    let at = At { now, ring };
    let booted = boot::judge(presented.booted, presented.root, values, demands, at);
    let (sent, quoted) = (presented.list, presented.quoted);
    let listed = round(sent, quoted, presented.before, demands.files.as_ref(), now);
    match (booted, listed) {
        (Ok(booted), Ok(listed)) => {
            let mut facts = listed.facts(presented.root, now);
            for fact in booted.iter().flat_map(FactSet::iter) {
                facts.insert(fact.clone());
            }
            Ok((Affirmed::by(&WARRANT, facts), listed))
        }
        (booted, listed) => {
            let booted = booted.err().unwrap_or_default();
            let listed = listed.err().unwrap_or_default();
            Err(booted.into_iter().chain(listed).collect())
        }
    }
}
