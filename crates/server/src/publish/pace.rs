//! When a ledger is published again: not while what stands in the store is what is to stand there, and after a failure
//! not at once.

use objects::{Failure, Target};
use std::time::Duration;
use tokio::time::Instant;

/// The store is looked at again after so long, also where there is nothing new: somebody may have changed it.
const REFRESH: Duration = Duration::from_secs(60);
/// After the first failure, and doubled with each.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Of one ledger.
#[derive(Default)]
pub(super) struct Pace {
    /// What stood there last, and when that was seen.
    done: Option<(Target, Instant)>,
    pause: Option<Duration>,
    /// It is left alone before.
    due: Option<Instant>,
}

impl Pace {
    /// Whether there is nothing to be done yet for `target` to stand there.
    pub(super) fn rests(&self, target: &Target, now: Instant) -> bool {
        let seen = |(stands, at): &(Target, Instant)| {
            stands == target && now.duration_since(*at) < REFRESH
        };
        self.done.as_ref().is_some_and(seen) || self.due.is_some_and(|due| now < due)
    }

    /// Until the next look, if that is usually after `interval`.
    pub(super) fn pause(&self, interval: Duration) -> Duration {
        self.pause.unwrap_or(interval)
    }

    /// A round ended well.
    pub(super) fn stands(&mut self, target: Target, now: Instant) {
        *self = Self {
            done: Some((target, now)),
            ..Self::default()
        };
    }

    pub(super) fn failed(&mut self, failure: &Failure, now: Instant) {
        let pause = longer(failure, self.pause);
        *self = Self {
            done: None,
            pause: Some(pause),
            due: Some(now + pause),
        };
    }
}

/// How long to wait after a failure, if it was that long before.
fn longer(failure: &Failure, before: Option<Duration>) -> Duration {
    match failure {
        Failure::Refused(_) => LONGEST_PAUSE,
        Failure::Again(_) => before.map_or(FIRST_PAUSE, |before| (before * 2).min(LONGEST_PAUSE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use facts::Finding;

    fn target(size: u64) -> Target {
        Target {
            size,
            note: "".into(),
        }
    }

    #[test]
    fn what_stands_is_looked_at_again_and_what_failed_is_left_alone_for_longer_each_time() {
        let (mut pace, interval) = (Pace::default(), Duration::from_millis(300));
        let mut now = Instant::now();
        assert!(!pace.rests(&target(1), now));
        assert_eq!(pace.pause(interval), interval);
        pace.stands(target(1), now);
        assert!(pace.rests(&target(1), now) && !pace.rests(&target(2), now));
        now += REFRESH;
        assert!(!pace.rests(&target(1), now));

        let finding = || Finding::new("PUBLISH-READ", "a test");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            pace.failed(&Failure::Again(finding()), now);
            let pause = pace.pause(interval);
            assert!(pace.rests(&target(2), now));
            now += pause;
            assert!(!pace.rests(&target(2), now));
            pauses.push(pause.as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        pace.stands(target(2), now);
        assert_eq!(pace.pause(interval), interval);
        pace.failed(&Failure::Refused(finding()), now);
        assert_eq!(pace.pause(interval), LONGEST_PAUSE);
    }
}
