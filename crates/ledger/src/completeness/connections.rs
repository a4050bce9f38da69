//! The numbers of each connection: which were seen, and which are missing between them.

use super::{Cause, FLUSHED_WITHIN, Missing, Place, count};
use std::collections::BTreeMap;

/// Connections of one run that are open, or that have ended with numbers missing: those of reads are written later
/// than what their session waits for.
#[derive(Default)]
pub(super) struct Connections {
    of: BTreeMap<String, Connection>,
}

struct Connection {
    /// All below were seen.
    next: u64,
    /// The last of those.
    last: Option<Place>,
    /// Seen above `next`.
    ahead: BTreeMap<u64, Place>,
    begun: Option<Place>,
    /// What its end says that it made, and where that stands.
    end: Option<(u64, Place)>,
}

impl Connections {
    /// False if this number was seen before.
    pub(super) fn take(
        &mut self,
        id: &str,
        counter: u64,
        place: Place,
        begins: bool,
        ends: Option<u64>,
    ) -> bool {
        let connection = self.of.entry(id.to_owned()).or_insert(Connection {
            next: 0,
            last: None,
            ahead: BTreeMap::new(),
            begun: None,
            end: None,
        });
        if begins {
            connection.begun = Some(place);
        }
        if let Some(operations) = ends {
            connection.end = Some((operations, place));
        }
        let fresh = connection.see(counter, place);
        if connection.is_whole() {
            self.of.remove(id);
        }
        fresh
    }

    /// Sessions that have begun and not ended.
    pub(super) fn open(&self) -> u64 {
        count(self.without_end().count())
    }

    pub(super) fn without_end(&self) -> impl Iterator<Item = (&str, Place)> {
        self.of.iter().filter_map(|(id, connection)| {
            let begun = connection.begun?;
            let open = connection.end.is_none();
            open.then_some((id.as_str(), begun))
        })
    }

    /// The numbers that are missing. One is explained if all that its connection wrote after it is of the moments
    /// before `gap`: a crash loses what waits to be written, and nothing older.
    pub(super) fn holes(&self, gap: Option<u64>) -> Vec<Missing> {
        let mut holes = Vec::new();
        for (id, connection) in &self.of {
            connection.holes(id, gap, &mut holes);
        }
        holes
    }
}

impl Connection {
    fn see(&mut self, counter: u64, place: Place) -> bool {
        if counter < self.next || self.ahead.contains_key(&counter) {
            return false;
        }
        self.ahead.insert(counter, place);
        while let Some(place) = self.ahead.remove(&self.next) {
            self.next = self.next.saturating_add(1);
            self.last = Some(place);
        }
        true
    }

    /// It has ended, and nothing is missing.
    fn is_whole(&self) -> bool {
        let ended = self
            .end
            .is_some_and(|(operations, _)| operations <= self.next);
        ended && self.ahead.is_empty()
    }

    fn holes(&self, id: &str, gap: Option<u64>, holes: &mut Vec<Missing>) {
        let (mut expected, mut before) = (self.next, self.last);
        // What is missing stands before a number that was seen, or only the end tells of it.
        let seen = self
            .ahead
            .iter()
            .map(|(counter, place)| (*counter, *place, true));
        let promised = self
            .end
            .map(|(operations, place)| (operations, place, false));
        let mut marks: Vec<(u64, Place, bool)> = seen.chain(promised).collect();
        marks.sort_by_key(|(counter, _, is_there)| (*counter, *is_there));
        // Of each mark, the earliest that it or a later number was written.
        let mut earliest = u64::MAX;
        let mut since: Vec<u64> = marks
            .iter()
            .rev()
            .map(|(_, place, _)| {
                earliest = earliest.min(place.wall);
                earliest
            })
            .collect();
        since.reverse();
        for ((counter, after, is_there), earliest) in marks.into_iter().zip(since) {
            if counter > expected {
                let explained =
                    gap.is_some_and(|gap| earliest.saturating_add(FLUSHED_WITHIN) >= gap);
                let last = counter.saturating_sub(1);
                let numbers = match last == expected {
                    true => format!("number {expected} is missing"),
                    false => format!("the numbers {expected} to {last} are missing"),
                };
                holes.push(Missing {
                    cause: Cause::Counter,
                    explained,
                    after: before.map(|place| place.index),
                    before: Some(after.index),
                    from: before.map_or(after.wall, |place| place.wall),
                    to: after.wall,
                    lost: Some(counter - expected),
                    detail: format!("of connection {id} {numbers}"),
                });
            }
            if is_there {
                expected = counter.saturating_add(1);
                before = Some(after);
            } else {
                expected = expected.max(counter);
            }
        }
    }
}
