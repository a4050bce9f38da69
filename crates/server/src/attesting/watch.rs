//! Who is asked when, and what is known of each machine. Pure: the clock and randomness are arguments.

use crate::node::Caller;
use attest_tpm::continuous::Standing;
use attest_tpm::ima::{Kind, Seen};
use attest_tpm::join::Boot;
use facts::{Finding, Timestamp};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Between two questions to one machine, however often its kernel measures something.
const GAP_MS: u64 = 200;
/// An answer takes a slow chip a second, and its agent a restart of the connection.
pub(super) const ANSWER_S: u64 = 30;

/// One machine.
#[derive(Debug, Clone)]
struct Watch {
    /// Absent until it is read back.
    standing: Option<Arc<Standing>>,
    /// Moves on whenever `standing` is set from outside: what was asked before counts for nothing.
    epoch: u64,
    asked: Option<Asked>,
    /// Number of the answer that is being judged. INVARIANT: nothing is asked meanwhile, so that an answer is
    /// compared with every one before it, and two at once are not both compared with what was there before them.
    judging: Option<u64>,
    /// It has measured more while it was being asked.
    again: bool,
    /// Its agent has connected.
    answers: bool,
    /// When it is asked next.
    due: Timestamp,
    /// When it was asked last.
    last: Timestamp,
    /// When its silence has lasted too long.
    until: Timestamp,
    /// What its kernel has measured in this boot.
    seen: Seen,
    /// How many of its answers were good.
    passes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    nonce: [u8; 32],
    until: Timestamp,
    /// Number of the stream that it was asked on.
    stream: Option<u64>,
}

/// The stream that a machine is asked on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Over {
    pub(super) stream: Option<u64>,
    /// It has answered well on this stream.
    pub(super) proved: bool,
}

impl Over {
    pub(super) fn of(caller: &Caller) -> Self {
        Self {
            stream: caller.stream,
            proved: caller.proof.is_proved(),
        }
    }
}

/// A question that has been answered, and what the answer is to be compared with.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) nonce: [u8; 32],
    pub(super) standing: Arc<Standing>,
    pub(super) epoch: u64,
    /// Of [`Watches::judged`].
    pub(super) number: u64,
}

/// A question to be sent.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) nonce: [u8; 32],
    pub(super) standing: Arc<Standing>,
}

/// All machines, and how often they are asked.
#[derive(Debug, Default)]
pub(super) struct Watches {
    all: HashMap<Arc<str>, Watch>,
    /// INVARIANT: `until` of every machine, and nothing else.
    deadlines: BTreeSet<(Timestamp, Arc<str>)>,
    /// What machines that are out had shown last: the next that one proves is compared with it. No more than
    /// there are nodes.
    out: HashMap<Arc<str>, Arc<Standing>>,
    epochs: u64,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) interval: u64,
    pub(super) window: u64,
}

fn plus(at: Timestamp, millis: u64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

impl Watches {
    fn epoch(&mut self) -> u64 {
        self.epochs += 1;
        self.epochs
    }

    /// A machine that joined in an earlier run of the server.
    pub(super) fn begin(&mut self, node: &str, now: Timestamp, pace: Pace) {
        if self.all.contains_key(node) {
            return;
        }
        let (epoch, name, until) = (self.epoch(), Arc::from(node), plus(now, pace.window));
        self.deadlines.insert((until, Arc::clone(&name)));
        let watch = Watch {
            standing: None,
            epoch,
            asked: None,
            judging: None,
            again: false,
            answers: false,
            due: now,
            last: Timestamp::EPOCH,
            until,
            seen: Seen::new(crypto::random()),
            passes: 0,
        };
        self.all.insert(name, watch);
    }

    /// The silence of `node` has lasted too long at `until`.
    fn extend(&mut self, node: &str, until: Timestamp) {
        let Some((name, watch)) = self.all.get_key_value(node) else {
            return;
        };
        let (before, name) = ((watch.until, Arc::clone(name)), Arc::clone(name));
        self.deadlines.remove(&before);
        self.deadlines.insert((until, name));
        if let Some(watch) = self.all.get_mut(node) {
            watch.until = until;
        }
    }

    /// A machine has proved itself, by a join, a renewal, or evidence that was read back.
    pub(super) fn stands(&mut self, node: &str, standing: Standing, now: Timestamp, pace: Pace) {
        self.begin(node, now, pace);
        let epoch = self.epoch();
        if let Some(watch) = self.all.get_mut(node) {
            watch.standing = Some(Arc::new(standing));
            watch.epoch = epoch;
            watch.asked = None;
            watch.judging = None;
            watch.again = false;
            watch.due = now;
        }
        self.out.remove(node);
        self.extend(node, plus(now, pace.window));
    }

    /// The kernel of `node` has measured these files, in that boot.
    pub(super) fn saw(&mut self, node: &str, boot: Boot, files: &[(Kind, [u8; 32])]) {
        if let Some(watch) = self.all.get_mut(node) {
            watch.seen.extend(boot, files.iter().copied());
        }
    }

    /// Whether it has measured this one, in the boot that `node` is in.
    pub(super) fn has_seen(&self, node: &str, kind: Kind, digest: &[u8; 32]) -> bool {
        self.all.get(node).is_some_and(|watch| {
            let boot = watch.standing.as_ref().map(|standing| standing.boot());
            boot == watch.seen.boot() && watch.seen.has(kind, digest)
        })
    }

    /// Whether its list was verified by this server, in the boot that it is in.
    pub(super) fn has_list(&self, node: &str) -> bool {
        self.all.get(node).is_some_and(|watch| {
            let boot = watch.standing.as_ref().map(|standing| standing.boot());
            boot.is_some() && boot == watch.seen.boot()
        })
    }

    /// How many answers of `node` were good, since this server watches it.
    pub(super) fn passes(&self, node: &str) -> u64 {
        self.all.get(node).map_or(0, |watch| watch.passes)
    }

    pub(super) fn standing(&self, node: &str) -> Option<Arc<Standing>> {
        self.all.get(node)?.standing.clone()
    }

    /// What `node` has shown last, also if it is out since.
    pub(super) fn shown(&self, node: &str) -> Option<Arc<Standing>> {
        self.standing(node).or_else(|| self.out.get(node).cloned())
    }

    /// Its agent has connected; whatever was asked before, on another stream, is lost.
    pub(super) fn answers(&mut self, node: &str, over: Over, now: Timestamp) {
        if let Some(watch) = self.all.get_mut(node) {
            watch.answers = true;
            watch.asked = watch.asked.filter(|asked| asked.stream == over.stream);
            // Who connects again and again is not asked more often for it.
            watch.due = plus(watch.last, GAP_MS).max(now);
        }
    }

    /// Its kernel has measured something.
    pub(super) fn wanted(&mut self, node: &str, now: Timestamp) {
        if let Some(watch) = self.all.get_mut(node) {
            watch.again = true;
            watch.due = watch.due.min(plus(watch.last, GAP_MS).max(now));
        }
    }

    /// What `node` is to be asked now, if its time has come; on a stream that it has not proved itself on, that
    /// is at once. `nonce` is fresh.
    pub(super) fn question(
        &mut self,
        node: &str,
        over: Over,
        nonce: [u8; 32],
        now: Timestamp,
        pace: Pace,
    ) -> Option<Question> {
        let watch = self.all.get_mut(node)?;
        let standing = watch.standing.clone()?;
        let waits = |asked: Asked| asked.until > now && asked.stream == over.stream;
        let due = match over.proved {
            true => watch.due,
            false => watch.due.min(plus(watch.last, GAP_MS)),
        };
        let busy = watch.judging.is_some() || watch.asked.is_some_and(waits);
        if !watch.answers || busy || due > now {
            return None;
        }
        // What was good by a value that counts no more: the whole of it is asked for.
        let standing = match standing.has_ended(now) {
            true => Arc::new(Standing::clone(&standing).anew()),
            false => standing,
        };
        watch.standing = Some(Arc::clone(&standing));
        watch.asked = Some(Asked {
            nonce,
            until: now.plus_secs(ANSWER_S),
            stream: over.stream,
        });
        watch.again = false;
        watch.last = now;
        watch.due = plus(now, pace.interval);
        Some(Question { nonce, standing })
    }

    /// Takes the question that `nonce` answers: each is for one answer, on the stream that it was asked on.
    /// INVARIANT: else an answer that was made in an earlier boot could be held back for a stream of this one.
    ///
    /// # Errors
    /// `ATTEST-NONCE`
    pub(super) fn answered(
        &mut self,
        node: &str,
        over: Over,
        nonce: &[u8],
        now: Timestamp,
    ) -> Result<Answered, Finding> {
        let number = self.epoch();
        let watch = self.all.get_mut(node);
        let taken = watch.and_then(|watch| {
            let asked = watch
                .asked
                .filter(|asked| asked.stream == over.stream)
                .filter(|asked| crypto::constant_time_eq(&asked.nonce, nonce))?;
            watch.asked = None;
            let standing = watch.standing.clone()?;
            if asked.until <= now {
                return None;
            }
            watch.judging = Some(number);
            Some(Answered {
                nonce: asked.nonce,
                standing,
                epoch: watch.epoch,
                number,
            })
        });
        taken.ok_or_else(|| {
            Finding::new(
                "ATTEST-NONCE",
                "nothing was asked that this answers, or its time is over",
            )
            .expected(format!("an answer within {ANSWER_S} s, once"))
            .next("answer the next question")
        })
    }

    /// The answer of this number has been judged, whatever came of it.
    pub(super) fn judged(&mut self, node: &str, number: u64) {
        if let Some(watch) = self.all.get_mut(node)
            && watch.judging == Some(number)
        {
            watch.judging = None;
        }
    }

    /// The answer was good. False if it counts for nothing, because the machine has proved itself otherwise
    /// since, or is to be judged anew.
    pub(super) fn passed(
        &mut self,
        node: &str,
        epoch: u64,
        standing: Standing,
        now: Timestamp,
        pace: Pace,
    ) -> bool {
        let Some(watch) = self.all.get_mut(node).filter(|watch| watch.epoch == epoch) else {
            return false;
        };
        watch.standing = Some(Arc::new(standing));
        watch.passes += 1;
        if watch.again {
            watch.due = plus(watch.last, GAP_MS).max(now);
        }
        self.extend(node, plus(now, pace.window));
        true
    }

    /// Whether what was asked at `epoch` still counts.
    pub(super) fn counts(&self, node: &str, epoch: u64) -> bool {
        self.all.get(node).is_some_and(|watch| watch.epoch == epoch)
    }

    /// Every machine of which it is known what it proved.
    pub(super) fn standings(&self) -> Vec<(String, Arc<Standing>)> {
        let known = self.all.iter().filter_map(|(node, watch)| {
            let standing = watch.standing.clone()?;
            Some((node.as_ref().to_owned(), standing))
        });
        known.collect()
    }

    /// The list of `node` is to be judged from its beginning, within `spread` milliseconds.
    pub(super) fn anew(&mut self, node: &str, now: Timestamp, spread: u64) {
        let epoch = self.epoch();
        if let Some(watch) = self.all.get_mut(node) {
            let standing = watch.standing.take();
            watch.standing = standing.map(|standing| Arc::new(Standing::clone(&standing).anew()));
            watch.epoch = epoch;
            watch.asked = None;
            watch.due = plus(now, spread);
        }
    }

    /// Machines that have not answered in their window. Each is named once a window. Costs what there is to
    /// name, not what is watched.
    pub(super) fn overdue(&mut self, now: Timestamp, pace: Pace) -> Vec<String> {
        let mut overdue = Vec::new();
        while let Some((until, node)) = self.deadlines.first().cloned() {
            if until > now {
                break;
            }
            // Later than now, even by a window of nothing.
            let next = plus(now, pace.window.max(1));
            self.extend(&node, next);
            overdue.push(node.as_ref().to_owned());
        }
        overdue
    }

    pub(super) fn forget(&mut self, node: &str) {
        if let Some((name, watch)) = self.all.remove_entry(node) {
            self.deadlines.remove(&(watch.until, Arc::clone(&name)));
            if let Some(standing) = watch.standing {
                self.out.insert(name, standing);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Over, Pace, Watches};
    use attest_tpm::continuous::Standing;
    use facts::Timestamp;
    use std::time::Instant;

    const PACE: Pace = Pace {
        interval: 1_000,
        window: 10_000,
    };

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_795_500_000_000 + millis)
    }

    #[test]
    fn who_is_overdue_is_named_once_a_window_in_order_of_deadlines() {
        let mut watches = Watches::default();
        watches.begin("late", at(5), PACE);
        watches.begin("early", at(0), PACE);
        watches.begin("gone", at(0), PACE);
        // A second beginning changes nothing.
        watches.begin("early", at(9_000), PACE);
        watches.forget("gone");
        assert!(watches.overdue(at(9_999), PACE).is_empty());
        assert_eq!(watches.overdue(at(10_010), PACE), ["early", "late"]);
        assert!(watches.overdue(at(20_009), PACE).is_empty());
        assert_eq!(watches.overdue(at(20_010), PACE), ["early", "late"]);
        watches.forget("early");
        assert_eq!(watches.overdue(at(40_000), PACE), ["late"]);
        assert_eq!(watches.deadlines.len(), watches.all.len());
    }

    /// It was made in the boot before, and held back on the way.
    #[test]
    fn an_answer_counts_on_the_stream_that_it_was_asked_on() {
        let chip = testkit::chip::Chip::booted().unwrap();
        let quoted = chip.quote(&[0; 32]).unwrap();
        let standing = Standing::kept(&chip.public(), &quoted.attested, &quoted.values.concat());
        let mut watches = Watches::default();
        watches.stands("m1", standing.unwrap(), at(0), PACE);
        let over = |stream, proved| Over {
            stream: Some(stream),
            proved,
        };
        watches.answers("m1", over(1, false), at(0));
        let asked = watches.question("m1", over(1, false), [1; 32], at(0), PACE);
        assert!(asked.is_some());
        let there = watches.answered("m1", over(2, false), &[1; 32], at(10));
        assert_eq!(there.unwrap_err().code, "ATTEST-NONCE");
        // Another stream is asked for itself, without waiting for that answer or its turn.
        let asked = watches.question("m1", over(2, false), [2; 32], at(300), PACE);
        assert!(asked.is_some());
        let early = watches.answered("m1", over(1, false), &[2; 32], at(310));
        assert!(early.is_err());
        assert!(
            watches
                .answered("m1", over(2, false), &[2; 32], at(310))
                .is_ok()
        );
        // Of one that it has proved itself on, the turn counts.
        let asked = watches.question("m1", over(2, true), [3; 32], at(600), PACE);
        assert!(asked.is_none());
    }

    fn stood(watches: &mut Watches) -> Over {
        let chip = testkit::chip::Chip::booted().unwrap();
        let quoted = chip.quote(&[0; 32]).unwrap();
        let standing = Standing::kept(&chip.public(), &quoted.attested, &quoted.values.concat());
        watches.stands("m1", standing.unwrap(), at(0), PACE);
        let over = Over {
            stream: Some(1),
            proved: true,
        };
        watches.answers("m1", over, at(0));
        over
    }

    /// The first is a long list; meanwhile the chip is put back to when it was asked, and answers again.
    #[test]
    fn while_an_answer_is_judged_nothing_else_is_asked() {
        let mut watches = Watches::default();
        let over = stood(&mut watches);
        assert!(watches.question("m1", over, [1; 32], at(0), PACE).is_some());
        let first = watches.answered("m1", over, &[1; 32], at(10)).unwrap();
        for (stream, proved) in [(1, true), (2, false)] {
            let over = Over {
                stream: Some(stream),
                proved,
            };
            watches.wanted("m1", at(1_000));
            let second = watches.question("m1", over, [2; 32], at(2_000), PACE);
            assert!(second.is_none(), "{over:?}");
        }
        // Of another answer.
        watches.judged("m1", first.number + 1);
        assert!(
            watches
                .question("m1", over, [2; 32], at(2_000), PACE)
                .is_none()
        );
        watches.judged("m1", first.number);
        assert!(
            watches
                .question("m1", over, [2; 32], at(2_000), PACE)
                .is_some()
        );
    }

    /// An eviction is no way to have forgotten what a chip counts.
    #[test]
    fn what_a_machine_has_shown_is_known_until_it_proves_itself_anew() {
        let mut watches = Watches::default();
        stood(&mut watches);
        watches.forget("m1");
        watches.forget("m1");
        assert!(watches.standing("m1").is_none() && watches.shown("m1").is_some());
        stood(&mut watches);
        assert!(watches.out.is_empty() && watches.shown("m1").is_some());
    }

    /// It is asked every second, under the one lock that every stream takes.
    #[test]
    fn looking_for_the_overdue_does_not_walk_the_fleet() {
        let looked = |machines: u64| {
            let mut watches = Watches::default();
            for number in 0..machines {
                watches.begin(&format!("m{number}"), at(number % 1_000), PACE);
            }
            let begun = Instant::now();
            for _ in 0..200 {
                assert!(watches.overdue(at(9_999), PACE).is_empty());
            }
            begun.elapsed()
        };
        let (few, many) = (looked(10), looked(100_000));
        assert!(
            many < few * 50 + std::time::Duration::from_millis(400),
            "{few:?} {many:?}"
        );
    }
}
