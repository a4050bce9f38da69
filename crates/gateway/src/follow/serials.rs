//! Revoked serials. Nobody lifts the revocation of one: of each is kept which it is and until when, and not its record.
//!
//! INVARIANT: what the server says to stand is held, however much that is; the bound is for what it has forgotten, and for
//! what is written down.

use facts::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// That are kept: 2 MB of them are written with whatever else changes.
const MOST: usize = 32_768;

/// A serial, the index of its record, and until when it is kept, Unix milliseconds.
pub(super) type Kept = (String, u64, u64);

#[derive(Debug, Clone, Copy)]
struct Life {
    before: u64,
    until: u64,
}

#[derive(Debug, Default)]
pub(super) struct Serials(BTreeMap<String, Life>);

impl Serials {
    /// The revocation of the record `before`, of what has ended by `until`.
    pub(super) fn add(&mut self, serial: String, before: u64, until: u64) {
        let life = self.0.entry(serial).or_insert(Life { before, until });
        life.before = life.before.max(before);
        life.until = life.until.max(until);
    }

    /// The history was given up from the record `stays` on.
    pub(super) fn limit(&mut self, stays: u64) {
        for life in self.0.values_mut() {
            life.before = life.before.min(stays);
        }
    }

    /// Takes out what does not stand and has ended at `now`, and beyond the bound what ends first.
    pub(super) fn forget(&mut self, standing: &BTreeSet<u64>, now: Timestamp) -> Vec<String> {
        self.forget_beyond(MOST, standing, now)
    }

    fn forget_beyond(
        &mut self,
        most: usize,
        standing: &BTreeSet<u64>,
        now: Timestamp,
    ) -> Vec<String> {
        let forgotten = self
            .0
            .iter()
            .filter(|(_, life)| !standing.contains(&life.before));
        let mut forgotten: Vec<(u64, String)> = forgotten
            .map(|(serial, life)| (life.until, serial.clone()))
            .collect();
        forgotten.sort_unstable();
        let ended = forgotten.partition_point(|(until, _)| *until <= now.as_millis());
        let early = forgotten.len().saturating_sub(ended).saturating_sub(most);
        if early > 0 {
            tracing::warn!(
                early,
                most,
                "more serials are revoked than are kept once the server has forgotten them: those that end first are not kept"
            );
        }
        forgotten.truncate(ended.saturating_add(early));
        let mut gone = Vec::new();
        for (_, serial) in forgotten {
            self.0.remove(&serial);
            gone.push(serial);
        }
        gone
    }

    /// What is written down: those that end last.
    pub(super) fn kept(&self) -> Vec<Kept> {
        self.kept_of(MOST)
    }

    fn kept_of(&self, most: usize) -> Vec<Kept> {
        let kept = self.0.iter();
        let mut kept: Vec<Kept> = kept
            .map(|(serial, life)| (serial.clone(), life.before, life.until))
            .collect();
        if kept.len() > most {
            tracing::warn!(
                revoked = kept.len(),
                most,
                "more serials are revoked than are written down: until the server is heard, a start has those that end last"
            );
            kept.sort_by_key(|(_, _, until)| std::cmp::Reverse(*until));
            kept.truncate(most);
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Serials {
        let mut serials = Serials::default();
        for (serial, before, until) in [("a", 5, 300), ("b", 6, 100), ("c", 7, 200)] {
            serials.add(serial.to_owned(), before, until);
        }
        serials
    }

    fn forgotten(most: usize, standing: &[u64], now: u64) -> String {
        let standing = standing.iter().copied().collect();
        let now = Timestamp::from_millis(now);
        three().forget_beyond(most, &standing, now).concat()
    }

    #[test]
    fn what_has_ended_is_forgotten_and_beyond_the_bound_what_ends_first() {
        assert_eq!(forgotten(3, &[], 99), "");
        assert_eq!(forgotten(3, &[], 100), "b");
        assert_eq!(forgotten(3, &[], 299), "bc");
        assert_eq!(forgotten(2, &[], 0), "b");
        assert_eq!(forgotten(1, &[], 100), "bc");
        assert_eq!(forgotten(0, &[], 0), "bca");
        // What stands is held, whatever the clock and the bound are.
        assert_eq!(forgotten(0, &[5, 6, 7], 1_000), "");
        assert_eq!(forgotten(0, &[6], 1_000), "ca");
    }

    #[test]
    fn those_that_end_last_are_written_down() {
        let kept = |most| {
            let kept = three().kept_of(most).into_iter();
            kept.map(|(serial, _, _)| serial).collect::<String>()
        };
        assert_eq!([kept(3), kept(2), kept(1)], ["abc", "ac", "a"]);
    }

    #[test]
    fn one_that_is_revoked_twice_is_kept_for_the_longer_and_a_recovery_limits_what_it_hits() {
        let mut serials = three();
        serials.add("b".to_owned(), 2, 400);
        serials.limit(6);
        let limited = |kept: &Kept| kept.0 == "b" || kept.0 == "c";
        let kept: Vec<Kept> = serials.kept().into_iter().filter(limited).collect();
        assert_eq!(kept, [("b".to_owned(), 6, 400), ("c".to_owned(), 6, 200)]);
    }
}
