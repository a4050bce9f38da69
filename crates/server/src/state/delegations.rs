//! Delegations that have not ended, and which of them stand.

use super::{State, index, unindex};
use ledger::body::TargetKind;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use store::DelegationRow;

#[derive(Debug, Default)]
pub(super) struct Delegations {
    rows: BTreeMap<u64, DelegationRow>,
    // -- indices, made from the rows
    by_jti: HashMap<String, u64>,
    by_delegator: HashMap<String, BTreeSet<u64>>,
    /// (Unix milliseconds, index).
    by_end: BTreeSet<(u64, u64)>,
}

impl Delegations {
    pub(super) fn all(&self) -> impl Iterator<Item = &DelegationRow> {
        self.rows.values()
    }

    pub(super) fn put(&mut self, row: &DelegationRow) {
        self.by_jti.insert(row.jti.clone(), row.index);
        if let Some(delegator) = delegator(row) {
            index(&mut self.by_delegator, delegator, row.index);
        }
        self.by_end.insert((row.not_after, row.index));
        self.rows.insert(row.index, row.clone());
    }

    pub(super) fn remove(&mut self, index: u64) {
        let Some(row) = self.rows.remove(&index) else {
            return;
        };
        self.by_jti.remove(&row.jti);
        if let Some(delegator) = delegator(&row) {
            unindex(&mut self.by_delegator, delegator, index);
        }
        self.by_end.remove(&(row.not_after, index));
    }

    /// Those that ended before `wall`.
    pub(super) fn ended(&self, wall: u64) -> impl Iterator<Item = &DelegationRow> {
        let ended = self.by_end.iter().take_while(move |(end, _)| *end < wall);
        ended.filter_map(|(_, index)| self.rows.get(index))
    }
}

/// Whoever let the last of its chain act.
pub(crate) fn delegator(row: &DelegationRow) -> Option<&str> {
    let before = row.chain.len().checked_sub(2)?;
    row.chain.get(before).map(String::as_str)
}

impl State {
    /// By its `jti`, while it has not ended for long.
    #[must_use]
    pub(crate) fn delegation(&self, jti: &str) -> Option<&DelegationRow> {
        let index = self.delegations.by_jti.get(jti)?;
        self.delegations.rows.get(index)
    }

    /// In the order of their records.
    pub(crate) fn delegations(&self) -> impl Iterator<Item = &DelegationRow> {
        self.delegations.all()
    }

    /// How many delegations of `spiffe_id` have not ended at `now`, Unix milliseconds. The state has those that have ended
    /// for a while, and for longer after a start.
    #[must_use]
    pub(crate) fn delegations_of(&self, spiffe_id: &str, now: u64) -> usize {
        let of = self.delegations.by_delegator.get(spiffe_id);
        let rows = of
            .into_iter()
            .flatten()
            .filter_map(|index| self.delegations.rows.get(index));
        rows.filter(|row| row.not_after > now).count()
    }

    /// The links of a delegation, the first first, itself last; `None` if one that it rests on is not known.
    #[must_use]
    pub(crate) fn delegation_links<'a>(
        &'a self,
        row: &'a DelegationRow,
    ) -> Option<Vec<&'a DelegationRow>> {
        let before = row.rests_on.iter().map(|jti| self.delegation(jti));
        before.chain([Some(row)]).collect()
    }

    /// Who of `chain` may take part in no delegation now: an identity that was revoked and not restored; else
    /// `node`, if that machine is locked. Of a delegation that came into the ledger after the revocation,
    /// [`State::delegation_stands`] says nothing: what was revoked before may have been restored since.
    #[must_use]
    pub(crate) fn delegation_barred<'a>(
        &self,
        chain: &'a [String],
        node: &'a str,
    ) -> Option<&'a str> {
        let mut names = chain.iter().map(String::as_str);
        let identity = names.find(|one| self.barred(one).is_some());
        let locked = self.node(node).is_some_and(|node| node.locked.is_some());
        identity.or_else(|| locked.then_some(node))
    }

    /// True when no revocation covers it or what it rests on: none of a `jti`, and none of an identity on either
    /// side of a link, or of the machine from which it was asked for, after that link.
    #[must_use]
    pub(crate) fn delegation_stands(&self, row: &DelegationRow) -> bool {
        let Some(links) = self.delegation_links(row) else {
            return false;
        };
        links.iter().all(|link| {
            let before =
                |kind, value: &str| self.revoked(kind, value).is_none_or(|at| at < link.index);
            let sides = link.chain.iter().rev().take(2);
            self.revoked(TargetKind::Serial, &link.jti).is_none()
                && sides
                    .into_iter()
                    .all(|one| before(TargetKind::Identity, one))
                && (link.node.is_empty() || before(TargetKind::Machine, &link.node))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{Change, MetaRow, NodeRow, RevocationRow};

    const ADA: &str = "spiffe://example.org/people/ada";
    const HELPER: &str = "spiffe://example.org/agents/helper";

    fn revocation(index: u64, kind: &str, value: &str) -> Change {
        Change::Revocation(RevocationRow {
            index,
            kind: kind.to_owned(),
            value: value.to_owned(),
            reason: String::new(),
            by: String::new(),
        })
    }

    fn node(locked: bool) -> Change {
        Change::Node(NodeRow {
            name: "m1".to_owned(),
            generation: 1,
            renewal: None,
            verdict: 1,
            evidence_time: 0,
            facts: String::new(),
            key: None,
            locked: locked.then(|| "AGENT-REVOKED".to_owned()),
            locked_at: locked.then_some(4),
            readmitted: None,
            dead: None,
            dead_before: None,
            stated: None,
        })
    }

    /// The revocation is record 5, the delegation, decided before it, record 6.
    #[test]
    fn a_delegation_that_is_recorded_after_a_revocation_is_barred_by_it() {
        let chain = [ADA.to_owned(), HELPER.to_owned()];
        for whose in [ADA, HELPER] {
            let mut state = State::default();
            state.absorb(&node(false));
            assert_eq!(state.delegation_barred(&chain, "m1"), None);
            state.absorb(&revocation(5, "identity", whose));
            assert_eq!(state.delegation_barred(&chain, ""), Some(whose));
            // Who was restored since may again.
            state.absorb(&Change::Meta(MetaRow {
                key: format!("restored {whose}"),
                value: "7".to_owned(),
            }));
            assert_eq!(state.delegation_barred(&chain, "m1"), None);
        }
        let mut state = State::default();
        state.absorb(&node(true));
        assert_eq!(state.delegation_barred(&chain, "m1"), Some("m1"));
        assert_eq!(state.delegation_barred(&chain, ""), None);
    }
}
