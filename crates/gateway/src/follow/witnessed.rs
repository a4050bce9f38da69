//! What witnesses have cosigned of the followed ledger, and how long ago. The newest is kept across restarts: a
//! history without it is not the one that others see.

use super::{Following, Held};
use crate::Place;
use facts::{Finding, Timestamp};
use ledger::{Checkpoint, Code as _, Hash, LedgerKey, Note, Policy};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A witness's clock may be ahead of the one here by so many seconds: what it says of later is not believed, because
/// it would stay fresh for longer.
const AHEAD_S: u64 = 60;
/// At most so many spans are told apart.
const SPANS: usize = 64;

/// Who has to have seen the ledger, and how lately.
#[derive(Debug, Clone)]
pub struct Watch {
    pub policy: Policy,
    pub longest: Duration,
}

/// The newest that enough of them have cosigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Witnessed {
    pub(super) checkpoint: Checkpoint,
    pub(super) note: String,
    /// When a quorum had seen it, by the witnesses' clocks.
    pub(super) time: Timestamp,
    /// When it was taken, by a clock that nobody sets; none when that was before this start.
    pub(super) taken: Option<Instant>,
}

impl Witnessed {
    /// How long ago that was, by whichever clock says longer: neither a clock here that is set back nor a witness's
    /// that is ahead makes it fresh for longer.
    fn age(&self, now: Timestamp) -> Duration {
        age(self.time, self.taken, now)
    }

    /// The same once more is no later look.
    fn gives_way_to(&self, next: &Self, now: Timestamp) -> bool {
        let (ours, theirs) = (self.checkpoint.size, next.checkpoint.size);
        let same = (ours, self.time) == (theirs, next.time);
        !same && (ours, self.time.min(now)) < (theirs, next.time)
    }
}

fn age(since: Timestamp, at: Option<Instant>, now: Timestamp) -> Duration {
    match at {
        Some(at) => now.since(since).max(at.elapsed()),
        None if since > now => Duration::MAX,
        None => now.since(since),
    }
}

/// What is followed above all that witnesses have cosigned, and since when: a head that they are shown again and
/// again covers nothing above it. Oldest and shortest first.
#[derive(Debug, Default)]
pub(super) struct Unseen(VecDeque<Span>);

/// Heads of up to `size` records, of which the first was taken at `since`.
#[derive(Debug)]
struct Span {
    size: u64,
    since: Timestamp,
    /// By a clock that nobody sets; none when it was before this start.
    at: Option<Instant>,
}

impl Unseen {
    /// A head of `size` records is followed from `now` on. Those that are taken within `soon` of the first are one
    /// span, and count from that.
    pub(super) fn follow(&mut self, size: u64, now: Timestamp, soon: Duration) {
        let full = self.0.len() >= SPANS;
        match self.0.back_mut() {
            Some(last) if size <= last.size => {}
            Some(last) if full || age(last.since, last.at, now) < soon => last.size = size,
            _ => self.0.push_back(Span {
                size,
                since: now,
                at: Some(Instant::now()),
            }),
        }
    }

    /// Enough witnesses have cosigned `size` records.
    fn seen(&mut self, size: u64) {
        self.0.retain(|span| span.size > size);
    }

    /// A recovery gave up what was followed above `size` records: no witness will see it.
    pub(super) fn give_up(&mut self, size: u64) {
        for span in &mut self.0 {
            span.size = span.size.min(size);
        }
    }

    /// How long the oldest has been followed.
    fn age(&self, now: Timestamp) -> Duration {
        let ages = self.0.iter().map(|span| age(span.since, span.at, now));
        ages.max().unwrap_or_default()
    }

    /// Sizes and Unix milliseconds, as they are stored.
    pub(super) fn spans(&self) -> Vec<(u64, u64)> {
        let spans = self.0.iter();
        spans
            .map(|span| (span.size, span.since.as_millis()))
            .collect()
    }

    pub(super) fn before(spans: Vec<(u64, u64)>) -> Self {
        let spans = spans.into_iter().map(|(size, since)| Span {
            size,
            since: Timestamp::from_millis(since),
            at: None,
        });
        Self(spans.collect())
    }
}

fn refused(observed: String) -> Finding {
    Finding::new(
        "FOLLOW-WITNESSED",
        "what the server says that its witnesses cosigned does not count",
    )
    .expected("a checkpoint with the lines of enough witnesses of this gateway's policy")
    .observed(observed)
    .next("compare the policies of gateway and server; look at the witnesses: trilith status")
}

impl Watch {
    /// Heads that are taken within this are not told apart.
    fn soon(&self) -> Duration {
        self.longest / 32
    }

    /// What counts at `now`. Beside witnesses whose clocks are ahead, which is none of the others' fault, these may be
    /// enough.
    fn judged(&self, note: &str, key: &LedgerKey, now: Timestamp) -> Result<Witnessed, Finding> {
        let until = now.plus_secs(AHEAD_S);
        let all = self.read(note, key, u64::MAX)?;
        if all.time <= until {
            return Ok(all);
        }
        self.read(note, key, until.as_secs()).map_err(|_| {
            let ahead = all.time.since(now).as_secs();
            refused(format!("cosigned {ahead} s ahead of the clock here"))
                .next("set the clocks of the witnesses and of this machine")
        })
    }

    /// By the lines of up to `until`, in seconds since 1970.
    fn read(&self, note: &str, key: &LedgerKey, until: u64) -> Result<Witnessed, Finding> {
        let failed = |error: ledger::CheckpointError| {
            refused(format!("{}: {}", error.code(), facts::with_causes(&error)))
        };
        let parsed = Note::parse(note).map_err(|error| failed(error.into()))?;
        let checkpoint = Checkpoint::open(note, key).map_err(failed)?;
        let quorum = self.policy.judge_by(&parsed, until).map_err(failed)?;
        let (few, all) = (quorum.cosignatures.len(), self.policy.witnesses().len());
        let few = || refused(format!("{few} of {all} witnesses"));
        let time = quorum.time.filter(|_| quorum.reached).ok_or_else(few)?;
        Ok(Witnessed {
            checkpoint,
            note: note.to_owned(),
            time: Timestamp::from_millis(time.saturating_mul(1_000)),
            taken: None,
        })
    }
}

impl Following {
    /// What the server says that its witnesses have cosigned. `proof` shows that the followed checkpoint of
    /// `known_size` extends it. Without a policy here it says nothing, and is not looked at.
    ///
    /// # Errors
    /// `FOLLOW-WITNESSED`, also for what is dated ahead; `FOLLOW-FORKED` if it is not on the followed chain: then two histories are signed, and the
    /// witnesses have seen the other.
    pub fn take_witnessed(
        &self,
        note: &str,
        known_size: u64,
        proof: &[Hash],
        now: Timestamp,
    ) -> Result<(), Finding> {
        let Some(watch) = &self.0.watch else {
            return Ok(());
        };
        let mut held = self.held();
        let mut witnessed = watch.judged(note, held.chain.key(), now)?;
        witnessed.taken = Some(Instant::now());
        if held.chain.place(&witnessed.checkpoint) != Place::On {
            held.chain.prove(&witnessed.checkpoint, known_size, proof)?;
        }
        let size = witnessed.checkpoint.size;
        let known = held.witnessed.as_ref();
        if known.is_none_or(|known| known.gives_way_to(&witnessed, now)) {
            held.witnessed = Some(witnessed);
        }
        held.unseen.seen(size);
        Ok(())
    }

    /// Takes up what was kept. A policy that asks for others since then begins without.
    pub(super) fn witnessed_before(&self, note: &str) {
        let Some(watch) = &self.0.watch else {
            return;
        };
        let mut held = self.held();
        let key = held.chain.key();
        let judged = watch
            .judged(note, key, Timestamp::now())
            .or_else(|_| watch.read(note, key, u64::MAX));
        match judged {
            Ok(witnessed) => held.witnessed = Some(witnessed),
            Err(finding) => {
                tracing::warn!(%finding, "what was witnessed before the start counts no more")
            }
        }
    }

    /// The head is followed, and counts as unseen from now on if no witness has seen it.
    pub(super) fn follows(&self, held: &mut Held, now: Timestamp) {
        let Some(watch) = &self.0.watch else {
            return;
        };
        let (size, _) = held.chain.head();
        let seen = held.witnessed.as_ref().map_or(0, |it| it.checkpoint.size);
        if size > seen {
            held.unseen.follow(size, now, watch.soon());
        }
    }

    /// Size of the newest cosigned checkpoint, and when its quorum had seen it.
    #[must_use]
    pub fn witnessed(&self) -> Option<(u64, Timestamp)> {
        let held = self.held();
        let witnessed = held.witnessed.as_ref();
        witnessed.map(|it| (it.checkpoint.size, it.time))
    }

    /// Refuses when too few witnesses have looked for too long at all that is followed: what is followed may be shown to this gateway alone.
    ///
    /// # Errors
    /// `GATEWAY-UNWITNESSED`.
    pub fn seen_by_others(&self, now: Timestamp) -> Result<(), Finding> {
        let Some(watch) = &self.0.watch else {
            return Ok(());
        };
        let (newest, unseen) = {
            let held = self.held();
            let newest = held.witnessed.as_ref();
            let newest = newest.map(|it| (it.checkpoint.size, it.age(now)));
            (newest, held.unseen.age(now))
        };
        let fresh = newest.is_some_and(|(_, age)| age <= watch.longest);
        if fresh && unseen <= watch.longest {
            return Ok(());
        }
        Err(Finding::new(
            "GATEWAY-UNWITNESSED",
            "too few witnesses have looked at the ledger that is followed here: others may be shown another one",
        )
        .expected(format!(
            "a cosigned checkpoint of the last {0} s (max_unwitnessed_s), and of all that was followed before that",
            watch.longest.as_secs()
        ))
        .observed(match newest {
            Some((size, _)) if fresh => {
                format!("the newest is of {size} records, and what is above them was not seen in time")
            }
            Some((size, Duration::MAX)) => {
                format!("the newest is of {size} records, of a time that has not come yet")
            }
            Some((size, age)) => format!("the newest is of {size} records, {} s ago", age.as_secs()),
            None => "none".to_owned(),
        })
        .next("look at the server's witnesses: trilith status. If they are well and the server says that they cosign, treat its keys as stolen"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::Origin;

    const SOON: Duration = Duration::from_secs(2);

    #[test]
    fn what_is_followed_counts_from_when_it_was_taken_until_it_is_covered() {
        let start = Timestamp::now();
        let at = |seconds| start.plus_secs(seconds);
        let mut unseen = Unseen::default();
        for (size, seconds) in [(10, 0), (11, 1), (12, 5), (12, 8), (13, 30)] {
            unseen.follow(size, at(seconds), SOON);
        }
        let mut age = |size| {
            unseen.seen(size);
            unseen.age(at(40)).as_secs()
        };
        // 11 was taken soon after 10.
        for (size, seconds) in [(9, 40), (10, 40), (11, 35), (11, 35), (12, 10), (13, 0)] {
            assert_eq!(age(size), seconds, "{size}");
        }
        for size in 1..1_000 {
            unseen.follow(size, at(size * 3), SOON);
        }
        assert_eq!(unseen.spans().len(), SPANS);
        // What no history has any more holds nobody up.
        unseen.give_up(500);
        unseen.seen(500);
        assert_eq!(unseen.spans(), []);
        // Of before a start, at a time that has not come.
        let unseen = Unseen::before(vec![(1, at(50).as_millis())]);
        assert_eq!(unseen.age(at(40)), Duration::MAX);
    }

    #[test]
    fn the_same_note_once_more_is_no_later_look() {
        let now = Timestamp::now();
        let look = |size, time| Witnessed {
            checkpoint: Checkpoint {
                origin: Origin::new("example.org/server").unwrap(),
                size,
                root: [1; 32],
            },
            note: String::new(),
            time,
            taken: None,
        };
        let known = look(3, now.plus_secs(50));
        for (next, newer) in [
            (look(3, now.plus_secs(50)), false),
            (look(3, now.minus_secs(1)), false),
            (look(3, now.plus_secs(51)), true),
            (look(4, now.minus_secs(1)), true),
            (look(2, now.plus_secs(51)), false),
        ] {
            assert_eq!(known.gives_way_to(&next, now), newer, "{next:?}");
        }
    }
}
