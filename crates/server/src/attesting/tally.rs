//! Good answers, rolled up until they are recorded: one record of a machine stands for many. Pure: the clock
//! is an argument.

use facts::Timestamp;
use ledger::body::{Attested, Counted};
use ledger::{Decimal, HexDigest};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Records that are written at once.
const BATCH: usize = 512;

/// What the last good answer showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) resets: u32,
    pub(super) restarts: u32,
    pub(super) pcrs: [u8; 32],
    pub(super) entries: Option<u64>,
    pub(super) estate: HexDigest,
    /// Absent where the chip is not known.
    pub(super) counted: Option<Counted>,
}

#[derive(Debug, Clone)]
struct Tally {
    from: Timestamp,
    to: Timestamp,
    answers: u64,
    shown: Shown,
}

impl Tally {
    fn into_body(self, node: &str) -> Attested {
        Attested {
            node: node.to_owned(),
            from: self.from.as_millis(),
            to: self.to.as_millis(),
            answers: Decimal(self.answers),
            resets: self.shown.resets,
            restarts: self.shown.restarts,
            pcrs: HexDigest(self.shown.pcrs),
            entries: self.shown.entries.map(Decimal),
            estate: self.shown.estate,
            counted: self.shown.counted,
        }
    }
}

/// Of every machine what is not recorded yet.
#[derive(Debug, Default)]
pub(super) struct Tallies {
    all: HashMap<Arc<str>, Tally>,
    /// INVARIANT: `from` of every machine in `all`, and nothing else.
    begun: BTreeSet<(Timestamp, Arc<str>)>,
    /// Of boots that are over.
    over: Vec<Attested>,
}

impl Tallies {
    pub(super) fn count(&mut self, node: &str, now: Timestamp, shown: Shown) {
        let boot = |shown: &Shown| (shown.resets, shown.restarts);
        let before = self.all.get(node);
        if before.is_some_and(|tally| boot(&tally.shown) != boot(&shown)) {
            let over = self.take(node);
            self.over.extend(over);
        }
        if let Some(tally) = self.all.get_mut(node) {
            tally.to = now;
            tally.answers += 1;
            tally.shown = shown;
            return;
        }
        let name: Arc<str> = Arc::from(node);
        self.begun.insert((now, Arc::clone(&name)));
        let tally = Tally {
            from: now,
            to: now,
            answers: 1,
            shown,
        };
        self.all.insert(name, tally);
    }

    /// What is not recorded of `node`.
    pub(super) fn take(&mut self, node: &str) -> Option<Attested> {
        let (name, tally) = self.all.remove_entry(node)?;
        self.begun.remove(&(tally.from, name));
        Some(tally.into_body(node))
    }

    /// What began at `before` or earlier, oldest first, and what is over; not more than is written at once. Costs
    /// what there is to take, not what is counted.
    pub(super) fn take_begun(&mut self, before: Timestamp) -> Vec<Attested> {
        let many = self.over.len().min(BATCH);
        let mut taken: Vec<Attested> = self.over.drain(..many).collect();
        while taken.len() < BATCH {
            let Some((from, name)) = self.begun.first().cloned() else {
                break;
            };
            if from > before {
                break;
            }
            taken.extend(self.take(&name));
        }
        taken
    }

    /// Puts back what could not be recorded, before what was counted since.
    pub(super) fn put_back(&mut self, bodies: Vec<Attested>) {
        for body in bodies {
            let (from, to) = (
                Timestamp::from_millis(body.from),
                Timestamp::from_millis(body.to),
            );
            let later = self.all.remove_entry(body.node.as_str());
            let same_boot = later.as_ref().is_none_or(|(_, later)| {
                (later.shown.resets, later.shown.restarts) == (body.resets, body.restarts)
            });
            if !same_boot {
                self.all.extend(later);
                self.over.push(body);
                continue;
            }
            let (name, tally) = match later {
                Some((name, mut later)) => {
                    self.begun.remove(&(later.from, Arc::clone(&name)));
                    later.from = from;
                    later.answers = later.answers.saturating_add(body.answers.0);
                    (name, later)
                }
                None => {
                    let shown = Shown {
                        resets: body.resets,
                        restarts: body.restarts,
                        pcrs: body.pcrs.0,
                        entries: body.entries.map(|entries| entries.0),
                        estate: body.estate,
                        counted: body.counted,
                    };
                    let tally = Tally {
                        from,
                        to,
                        answers: body.answers.0,
                        shown,
                    };
                    (Arc::from(body.node), tally)
                }
            };
            self.begun.insert((tally.from, Arc::clone(&name)));
            self.all.insert(name, tally);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_795_500_000 + seconds)
    }

    fn shown(entries: u64) -> Shown {
        Shown {
            resets: 1,
            restarts: 0,
            pcrs: [7; 32],
            entries: Some(entries),
            estate: HexDigest([9; 32]),
            counted: None,
        }
    }

    #[test]
    fn many_answers_are_one_record_and_none_is_lost_when_it_cannot_be_written() {
        let mut tallies = Tallies::default();
        for second in 0..100 {
            tallies.count("m1", at(second), shown(second));
        }
        tallies.count("m2", at(50), shown(1));
        assert!(tallies.take_begun(at(0).plus_secs(0)).len() == 1);
        tallies.count("m1", at(101), shown(200));
        let [late] = tallies.take_begun(at(60)).try_into().unwrap();
        assert_eq!((late.node.as_str(), late.answers), ("m2", Decimal(1)));
        let first = Attested {
            from: at(0).as_millis(),
            answers: Decimal(100),
            ..tallies.take("m1").unwrap()
        };
        tallies.count("m1", at(110), shown(300));
        tallies.put_back(vec![first, late]);
        let all = tallies.take_begun(at(1_000));
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].node, "m1");
        assert_eq!(all[0].answers, Decimal(101));
        assert_eq!(all[0].from, at(0).as_millis());
        assert_eq!(all[0].to, at(110).as_millis());
        assert_eq!(all[0].entries, Some(Decimal(300)));
        assert!(tallies.all.is_empty() && tallies.begun.is_empty());
    }

    #[test]
    fn answers_of_two_boots_are_two_records() {
        let mut tallies = Tallies::default();
        tallies.count("m1", at(0), shown(9));
        let rebooted = Shown {
            resets: 2,
            ..shown(1)
        };
        tallies.count("m1", at(10), rebooted);
        let boots = |taken: &[Attested]| taken.iter().map(|one| one.resets).collect::<Vec<_>>();
        let taken = tallies.take_begun(at(10));
        assert_eq!(boots(&taken), [1, 2]);
        tallies.count("m1", at(20), rebooted);
        tallies.put_back(taken);
        assert_eq!(boots(&tallies.take_begun(at(20))), [1, 2]);
    }

    #[test]
    fn a_fleet_is_written_in_batches() {
        let mut tallies = Tallies::default();
        for number in 0..2_000 {
            tallies.count(&format!("m{number}"), at(0), shown(0));
        }
        let taken = tallies.take_begun(at(0));
        assert_eq!(taken.len(), BATCH);
        assert_eq!(tallies.all.len(), 2_000 - BATCH);
    }
}
