//! The records that a server needs for as long as something lives by them, whatever else of its ledger is pruned: it
//! tells gateways of them, judges by them again, or goes on from them. What they rest on is needed with them, so that
//! whoever asks for a pack of what lives is not sent away.
//!
//! Not what somebody may want to know of the past: that is for whoever has the copy.

use crate::state::State;
use ledger::Record;
use ledger::pack::grounds;
use ledger_store::{Reader, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a record is needed for, in words that stand in a plan.
pub(crate) type Needed = BTreeMap<u64, &'static str>;

/// The records that rows of the state name, and that something reads by what the rows say.
pub(crate) fn roots(state: &State) -> Needed {
    let rows = state.snapshot();
    let mut needed = Needed::new();
    let mut add = |index: u64, what| {
        needed.entry(index).or_insert(what);
    };
    for index in state.links() {
        add(index, "links to a new log");
    }
    if let Some(row) = state.estate() {
        add(row.index, "the estate in force");
        row.proof
            .into_iter()
            .for_each(|proof| add(proof, "the estate in force"));
    }
    // Their blobs stay, and who has a login in one has to be found to be erased.
    for row in &rows.estates {
        add(row.index, "versions of the estate");
        row.proof
            .into_iter()
            .for_each(|proof| add(proof, "versions of the estate"));
    }
    if let Some(row) = state.bundle() {
        add(row.index, "the trust bundle");
    }
    for row in &rows.nodes {
        add(row.verdict, "machines");
        let acts = [row.stated, row.locked_at, row.readmitted, row.dead_before];
        acts.into_iter()
            .flatten()
            .for_each(|index| add(index, "machines"));
    }
    for row in &rows.tokens {
        add(row.created, "join tokens");
        row.spent
            .into_iter()
            .for_each(|index| add(index, "join tokens"));
    }
    rows.svids
        .iter()
        .for_each(|row| add(row.index, "SVIDs that have not expired"));
    for row in &rows.delegations {
        add(row.index, "delegations that have not ended");
    }
    rows.revocations
        .iter()
        .for_each(|row| add(row.index, "revocations"));
    for row in &rows.gateways {
        add(row.anchor, "anchors of gateways");
        for (index, _) in state.gateway_links(&row.origin) {
            add(index, "links of gateways to new logs");
        }
    }
    for (_, _, indices) in state.seals() {
        indices
            .into_iter()
            .for_each(|index| add(index, "approved boots"));
    }
    state
        .recoveries()
        .for_each(|index| add(index, "recoveries"));
    state.erasures().for_each(|index| add(index, "erasures"));
    for (_, index, _, _) in state.misbehaved() {
        add(index, "keys that signed two histories");
    }
    needed
}

/// Of the records below `minimum`, those that are needed. Reads what the state names, and what that rests on.
///
/// # Errors
/// If a record cannot be read; one that an earlier pruning has taken was not needed then, and is not now.
pub(crate) fn below(state: &State, reader: &Reader, minimum: u64) -> Result<Needed, StoreError> {
    let read = |index| match reader.record(index) {
        Err(StoreError::Pruned { .. }) => Ok(None),
        read => read.map(Some),
    };
    rested_on(state, reader.size(), minimum, read)
}

/// As [`below`], of a ledger of `size` records that are got by `read`; of one that it has not, nothing is said.
pub(crate) fn rested_on<E: From<StoreError>>(
    state: &State,
    size: u64,
    minimum: u64,
    read: impl Fn(u64) -> Result<Option<Record>, E>,
) -> Result<Needed, E> {
    let roots = roots(state);
    let mut open: Vec<(u64, &'static str)> = roots.iter().map(|(at, what)| (*at, *what)).collect();
    let (mut seen, mut needed) = (BTreeSet::new(), Needed::new());
    while let Some((index, what)) = open.pop() {
        if index >= size || !seen.insert(index) {
            continue;
        }
        let Some(record) = read(index)? else {
            continue;
        };
        if index < minimum {
            needed.insert(index, roots.get(&index).copied().unwrap_or(what));
        }
        let rests_on = grounds(&record).map_err(|error| StoreError::Record(Arc::new(error)))?;
        open.extend(rests_on.records.into_iter().map(|index| (index, what)));
    }
    Ok(needed)
}

/// A record that is needed and neither there nor kept, after a pruning.
pub(crate) fn missing(state: &State, reader: &Reader) -> Option<(u64, &'static str)> {
    let lacking = lacking(roots(state), reader);
    lacking.into_iter().next()
}

/// Of `needed`, what is gone and not kept beside what is left.
pub(crate) fn lacking(mut needed: Needed, reader: &Reader) -> Needed {
    let minimum = reader.pruned().map_or(0, |pruned| pruned.minimum);
    let beside = reader.kept_beside();
    needed.retain(|index, _| (1..minimum).contains(index) && beside.binary_search(index).is_err());
    needed
}
