//! Whether the clock of a run went as its process did: each record has the time of the day and that of a clock which
//! nobody can set, so a step of the first against the second shows.

use crate::Stamp;

/// Milliseconds by which two readings may differ: they are taken one after the other.
const SLACK: i128 = 2_000;
/// Milliseconds by which the clock that nobody can set stands lower in another record of one boot, at most: records of
/// one commit may be in another order than they were stamped in.
const DISORDER: i128 = 60_000;
/// A clock that is corrected gently goes wrong or right by less than one part in so many (RFC 5905: 500 ppm).
const GENTLY: i128 = 1_000;

/// Of one run, whose records may come in another order than they were stamped in.
#[derive(Debug, Default)]
pub struct Clock(Option<Stamp>);

impl Clock {
    /// What a step looks like, if one came before this record. `begins`: another process, with another clock.
    pub fn take(&mut self, now: Stamp, begins: bool) -> Option<String> {
        let before = self.0.replace(now)?;
        if begins {
            return None;
        }
        let ran = (i128::from(now.mono) - i128::from(before.mono)) / 1_000_000;
        if ran < -DISORDER {
            return None;
        }
        let went = i128::from(now.wall) - i128::from(before.wall);
        let step = went - ran;
        if step.abs() <= SLACK + ran.abs() / GENTLY {
            return None;
        }
        let seconds = step.unsigned_abs() / 1_000;
        Some(if step < 0 {
            format!("the clock was set back by {seconds} s")
        } else {
            format!("the clock was set forward by {seconds} s, or the machine slept")
        })
    }
}
