//! Places for what is not known yet. When all are taken the newcomer gets one nevertheless: whoever has
//! the most gives up its oldest.
//!
//! So a flood from one source displaces itself and nobody else, and one from many, or from the address
//! that others use as well, displaces what has been waiting longest. There is no fixed share of a source:
//! it may have every place that nobody else asks for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A number of places, taken for sources of type `K`.
#[derive(Debug)]
pub struct Places<K: Ord + Clone>(Arc<Shared<K>>);

impl<K: Ord + Clone> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<K> {
    most: usize,
    /// Owned by the places: entered in `take`, left when a place is dropped or given away. Held for no I/O.
    taken: Mutex<Taken<K>>,
}

#[derive(Debug)]
struct Taken<K> {
    next: u64,
    count: usize,
    /// Places by the order in which they were taken; no source is without any.
    by_source: BTreeMap<K, BTreeMap<u64, CancellationToken>>,
    /// INVARIANT: of each source how many places it has and its oldest. The last gives way first.
    ranks: BTreeSet<(usize, Reverse<u64>, K)>,
}

/// A place that is held. Dropped, it is free.
#[derive(Debug)]
pub struct Place<K: Ord + Clone> {
    of: Arc<Shared<K>>,
    source: K,
    number: u64,
    given_away: CancellationToken,
}

/// Why something did not come to its end in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The place was given to another.
    GaveWay,
    /// The time was over.
    Late,
}

impl<K: Ord + Clone> Places<K> {
    /// At least one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Shared {
            most: most.max(1),
            taken: Mutex::new(Taken {
                next: 0,
                count: 0,
                by_source: BTreeMap::new(),
                ranks: BTreeSet::new(),
            }),
        }))
    }

    /// A place for `source`, always. Another's may be given away for it, or its own oldest.
    #[must_use]
    pub fn take(&self, source: K) -> Place<K> {
        let mut taken = self.0.taken();
        if taken.count >= self.0.most {
            taken.give_one_away();
        }
        self.enter(taken, source)
    }

    /// As [`Places::take`], where what is under way is worth more than what begins: another's place is given
    /// away only if that one keeps as many as `source` then has. `None` if nobody has so many.
    #[must_use]
    pub fn take_fairly(&self, source: K) -> Option<Place<K>> {
        let mut taken = self.0.taken();
        if taken.count >= self.0.most {
            let own = taken.by_source.get(&source).map_or(0, BTreeMap::len);
            let most = taken.ranks.last().map_or(0, |(count, ..)| *count);
            if own + 1 >= most {
                return None;
            }
            taken.give_one_away();
        }
        Some(self.enter(taken, source))
    }

    fn enter(&self, mut taken: MutexGuard<'_, Taken<K>>, source: K) -> Place<K> {
        let (number, given_away) = (taken.next, CancellationToken::new());
        taken.next += 1;
        taken.enter(&source, number, given_away.clone());
        drop(taken);
        Place {
            of: Arc::clone(&self.0),
            source,
            number,
            given_away,
        }
    }

    /// How many are taken now.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.0.taken().count
    }
}

impl<K: Ord + Clone> Place<K> {
    /// Resolves when the place has been given to another; whoever holds it has to end then.
    pub fn given_away(&self) -> impl Future<Output = ()> + Send + 'static {
        self.given_away.clone().cancelled_owned()
    }

    /// Does `work` for as long as the place is not given away, and no longer than `until`. What is done
    /// counts even if the place is gone by then.
    ///
    /// # Errors
    /// Why `work` was dropped before its end.
    pub async fn hold<F: Future>(&self, until: Instant, work: F) -> Result<F::Output, Ended> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = self.given_away.cancelled() => Err(Ended::GaveWay),
            () = tokio::time::sleep_until(until) => Err(Ended::Late),
        }
    }
}

impl<K: Ord + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        self.of.taken().leave(&self.source, self.number);
    }
}

impl<K> Shared<K> {
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone> Taken<K> {
    fn enter(&mut self, source: &K, number: u64, given_away: CancellationToken) {
        let mut numbers = self.unrank(source);
        numbers.insert(number, given_away);
        self.count += 1;
        self.rank(source, numbers);
    }

    /// Nothing if the place was given away before.
    fn leave(&mut self, source: &K, number: u64) -> Option<CancellationToken> {
        let mut numbers = self.unrank(source);
        let left = numbers.remove(&number);
        self.count -= usize::from(left.is_some());
        self.rank(source, numbers);
        left
    }

    fn give_one_away(&mut self) {
        let Some((_, Reverse(oldest), source)) = self.ranks.last().cloned() else {
            return;
        };
        if let Some(given_away) = self.leave(&source, oldest) {
            given_away.cancel();
        }
    }

    fn unrank(&mut self, source: &K) -> BTreeMap<u64, CancellationToken> {
        let numbers = self.by_source.remove(source).unwrap_or_default();
        if let Some(&oldest) = numbers.keys().next() {
            let rank = (numbers.len(), Reverse(oldest), source.clone());
            self.ranks.remove(&rank);
        }
        numbers
    }

    fn rank(&mut self, source: &K, numbers: BTreeMap<u64, CancellationToken>) {
        if let Some(&oldest) = numbers.keys().next() {
            let rank = (numbers.len(), Reverse(oldest), source.clone());
            self.ranks.insert(rank);
            self.by_source.insert(source.clone(), numbers);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn gone<K: Ord + Clone>(place: &Place<K>) -> bool {
        place.given_away.is_cancelled()
    }

    #[test]
    fn whoever_has_the_most_gives_up_its_oldest() {
        let places = Places::new(4);
        let flood: Vec<_> = (0..3).map(|_| places.take("flood")).collect();
        let other = places.take("other");
        let newcomer = places.take("newcomer");
        assert_eq!(
            flood.iter().map(gone).collect::<Vec<_>>(),
            [true, false, false]
        );
        let more: Vec<_> = (0..50).map(|_| places.take("flood")).collect();
        assert!(!gone(&other) && !gone(&newcomer));
        assert_eq!(more.iter().filter(|place| !gone(place)).count(), 2);
        assert_eq!(places.taken(), 4);
    }

    #[test]
    fn among_equals_the_oldest_gives_way() {
        let places = Places::new(3);
        let held: Vec<_> = (0..10).map(|source| places.take(source)).collect();
        assert!(held.iter().take(7).all(gone));
        assert!(!held.iter().skip(7).any(gone));
    }

    #[test]
    fn what_is_under_way_yields_only_to_who_has_less() {
        let places = Places::new(4);
        let greedy: Vec<_> = (0..3).map(|_| places.take_fairly("greedy")).collect();
        let modest = places.take_fairly("modest").unwrap();
        assert!(places.take_fairly("greedy").is_none());
        let newcomers = ["one", "two"].map(|source| places.take_fairly(source).unwrap());
        let gone: Vec<_> = greedy.iter().flatten().map(gone).collect();
        assert_eq!(gone, [true, true, false]);
        // All have one now, and nobody who comes is better than who is there.
        for source in ["three", "modest", "greedy"] {
            assert!(places.take_fairly(source).is_none());
        }
        assert!(!self::gone(&modest) && !newcomers.iter().any(self::gone));
        assert_eq!(places.taken(), 4);
    }

    #[test]
    fn places_come_back_once_each() {
        let places = Places::new(2);
        let first = places.take("a");
        let second = places.take("a");
        let third = places.take("a");
        assert!(gone(&first) && !gone(&second));
        // Given away already: it gives back nothing a second time.
        drop(first);
        assert_eq!(places.taken(), 2);
        drop(second);
        drop(third);
        assert_eq!(places.taken(), 0);
        let taken = places.0.taken();
        assert!(taken.by_source.is_empty() && taken.ranks.is_empty());
    }

    /// As a model says it, step by step.
    #[test]
    fn a_long_sequence_does_what_a_plain_list_does() {
        let (most, mut seed) = (7, 1_u64);
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let places = Places::new(most);
        let mut held: Vec<(u64, Place<u64>)> = Vec::new();
        for _ in 0..20_000 {
            if random(3) == 0 && !held.is_empty() {
                let at = usize::try_from(random(held.len() as u64)).unwrap();
                held.remove(at);
                continue;
            }
            let source = random(4);
            if held.len() == most {
                let count = |source: u64| held.iter().filter(|(of, _)| *of == source).count();
                let most = held.iter().map(|(of, _)| count(*of)).max().unwrap();
                let victim = held.iter().position(|(of, _)| count(*of) == most).unwrap();
                held.push((source, places.take(source)));
                let (_, place) = held.remove(victim);
                assert!(gone(&place));
            } else {
                held.push((source, places.take(source)));
            }
            assert!(!held.iter().any(|(_, place)| gone(place)));
            assert_eq!(places.taken(), held.len());
        }
    }

    #[tokio::test]
    async fn what_is_done_counts_and_what_is_not_ends() {
        let places = Places::new(1);
        let soon = Instant::now() + Duration::from_millis(20);
        let first = places.take(());
        let late = first.hold(soon, std::future::pending::<()>()).await;
        assert_eq!(late, Err(Ended::Late));
        let _second = places.take(());
        let soon = Instant::now() + Duration::from_secs(60);
        let gave_way = first.hold(soon, std::future::pending::<()>()).await;
        assert_eq!(gave_way, Err(Ended::GaveWay));
        assert_eq!(first.hold(soon, std::future::ready(7)).await, Ok(7));
    }
}
