//! How often somebody may ask, and how often a log may grow: so many a second on average, some more at once.
//! What is kept for it is bounded, whoever asks.

use listen::Source;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clients that are remembered at once. When there are more that have asked lately, all of them begin anew.
const CLIENTS: usize = 16_384;

/// So many a second on average, and `burst` of them at once. At least one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// What the witness bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests of one client, whatever they come to.
    pub client: Rate,
    /// New checkpoints of one log.
    pub log: Rate,
    /// A checkpoint that was cosigned within this time is answered with the same lines again.
    pub repeat: Duration,
}

impl Rate {
    /// One of whom there is a share each.
    fn share(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }

    /// Takes one, if there is one at `now`; else how long to wait. `until` is when all that were taken have come
    /// back.
    fn take(self, until: &mut Option<Instant>, now: Instant) -> Result<(), Duration> {
        let share = self.share();
        let begin = until.map_or(now, |until| until.max(now));
        let ahead = begin.duration_since(now);
        let most = share.saturating_mul(self.burst.max(1).saturating_sub(1));
        match ahead.checked_sub(most).filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(wait),
            None => {
                *until = begin.checked_add(share);
                Ok(())
            }
        }
    }
}

/// What one log has taken.
#[derive(Debug, Default)]
pub(crate) struct Bucket(Option<Instant>);

impl Bucket {
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        rate.take(&mut self.0, now)
    }
}

/// What each client has taken.
#[derive(Debug)]
pub struct Clients {
    rate: Rate,
    /// Held for no I/O.
    taken: Mutex<BTreeMap<Source, Option<Instant>>>,
}

impl Clients {
    #[must_use]
    pub const fn new(rate: Rate) -> Self {
        Self {
            rate,
            taken: Mutex::new(BTreeMap::new()),
        }
    }

    /// Takes one request of `source`.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn take(&self, source: Source, now: Instant) -> Result<(), Duration> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() >= CLIENTS && !taken.contains_key(&source) {
            taken.retain(|_, until| until.is_some_and(|until| until > now));
            if taken.len() >= CLIENTS {
                taken.clear();
            }
        }
        self.rate.take(taken.entry(source).or_default(), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 3,
    };

    fn source(number: u32) -> Source {
        Source::of((std::net::Ipv4Addr::from_bits(number), 1).into())
    }

    #[test]
    fn some_at_once_and_so_many_a_second() {
        let (clients, begun) = (Clients::new(RATE), Instant::now());
        let after = |milliseconds| begun + Duration::from_millis(milliseconds);
        let take = |at| clients.take(source(1), after(at));
        for _ in 0..3 {
            take(0).unwrap();
        }
        assert_eq!(take(0), Err(Duration::from_millis(100)));
        assert_eq!(take(60), Err(Duration::from_millis(40)));
        // Another is not concerned, and asking in vain costs nothing.
        clients.take(source(2), after(60)).unwrap();
        take(100).unwrap();
        assert!(take(100).is_err());
        // Over a long time no more than the rate.
        let taken = (1..=1000).filter(|n| take(100 + n * 10).is_ok()).count();
        assert_eq!(taken, 100);
    }

    #[test]
    fn what_is_remembered_of_clients_is_bounded() {
        let (clients, now) = (Clients::new(RATE), Instant::now());
        for number in 0..3 * u32::try_from(CLIENTS).unwrap() {
            clients.take(source(number), now).unwrap();
        }
        assert!(clients.taken.lock().unwrap().len() <= CLIENTS);
        // Those that are quiet go first: who asks too much stays known while others come and go.
        let clients = Clients::new(RATE);
        for number in 1..u32::try_from(CLIENTS).unwrap() {
            clients.take(source(number), now).unwrap();
        }
        let later = now + Duration::from_secs(1);
        while clients.take(source(0), later).is_ok() {}
        clients.take(source(u32::MAX), later).unwrap();
        assert!(clients.take(source(0), later).is_err());
        assert_eq!(clients.taken.lock().unwrap().len(), 2);
    }
}
