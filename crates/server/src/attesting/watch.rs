//! Who is asked when, and what is known of each machine. Pure: the clock and randomness are arguments.

use attest_tpm::continuous::Standing;
use attest_tpm::ima::{Kind, Seen};
use attest_tpm::join::Boot;
use facts::{Finding, Timestamp};
use std::collections::HashMap;
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
    /// It has measured more while it was being asked.
    again: bool,
    /// Its agent has said that it answers.
    answers: bool,
    /// When it is asked next.
    due: Timestamp,
    /// When it was asked last.
    last: Timestamp,
    /// When its silence has lasted too long.
    until: Timestamp,
    /// What its kernel has measured in this boot.
    seen: Seen,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    nonce: [u8; 32],
    until: Timestamp,
}

/// A question that has been answered, and what the answer is to be compared with.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    pub(super) nonce: [u8; 32],
    pub(super) standing: Arc<Standing>,
    pub(super) epoch: u64,
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
    all: HashMap<String, Watch>,
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
        let epoch = self.epoch();
        self.all.entry(node.to_owned()).or_insert_with(|| Watch {
            standing: None,
            epoch,
            asked: None,
            again: false,
            answers: false,
            due: now,
            last: Timestamp::EPOCH,
            until: plus(now, pace.window),
            seen: Seen::new(crypto::random()),
        });
    }

    /// A machine has proved itself, by a join, a renewal, or evidence that was read back.
    pub(super) fn stands(&mut self, node: &str, standing: Standing, now: Timestamp, pace: Pace) {
        self.begin(node, now, pace);
        let epoch = self.epoch();
        if let Some(watch) = self.all.get_mut(node) {
            watch.standing = Some(Arc::new(standing));
            watch.epoch = epoch;
            watch.asked = None;
            watch.again = false;
            watch.due = now;
            watch.until = plus(now, pace.window);
        }
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

    pub(super) fn standing(&self, node: &str) -> Option<Arc<Standing>> {
        self.all.get(node)?.standing.clone()
    }

    /// Its agent has connected and says that it answers; whatever was asked before is lost.
    pub(super) fn answers(&mut self, node: &str, now: Timestamp) {
        if let Some(watch) = self.all.get_mut(node) {
            watch.answers = true;
            watch.asked = None;
            // Who connects again and again is not asked more often for it.
            watch.due = plus(watch.last, GAP_MS).max(now);
        }
    }

    pub(super) fn has_answered(&self, node: &str) -> bool {
        self.all.get(node).is_some_and(|watch| watch.answers)
    }

    /// Its kernel has measured something.
    pub(super) fn wanted(&mut self, node: &str, now: Timestamp) {
        if let Some(watch) = self.all.get_mut(node) {
            watch.again = true;
            watch.due = watch.due.min(plus(watch.last, GAP_MS).max(now));
        }
    }

    /// What `node` is to be asked now, if its time has come. `nonce` is fresh.
    pub(super) fn question(
        &mut self,
        node: &str,
        nonce: [u8; 32],
        now: Timestamp,
        pace: Pace,
    ) -> Option<Question> {
        let watch = self.all.get_mut(node)?;
        let standing = watch.standing.clone()?;
        let waits = watch.asked.is_some_and(|asked| asked.until > now);
        if !watch.answers || waits || watch.due > now {
            return None;
        }
        watch.asked = Some(Asked {
            nonce,
            until: now.plus_secs(ANSWER_S),
        });
        watch.again = false;
        watch.last = now;
        watch.due = plus(now, pace.interval);
        Some(Question { nonce, standing })
    }

    /// Takes the question that `nonce` answers: each is for one answer.
    ///
    /// # Errors
    /// `ATTEST-NONCE`
    pub(super) fn answered(
        &mut self,
        node: &str,
        nonce: &[u8],
        now: Timestamp,
    ) -> Result<Answered, Finding> {
        let watch = self.all.get_mut(node);
        let taken = watch.and_then(|watch| {
            let asked = watch
                .asked
                .filter(|asked| crypto::constant_time_eq(&asked.nonce, nonce))?;
            watch.asked = None;
            (asked.until > now).then_some(Answered {
                nonce: asked.nonce,
                standing: watch.standing.clone()?,
                epoch: watch.epoch,
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
        watch.until = plus(now, pace.window);
        if watch.again {
            watch.due = plus(watch.last, GAP_MS).max(now);
        }
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
            Some((node.clone(), standing))
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

    /// Machines that have not answered in their window. Each is named once a window.
    pub(super) fn overdue(&mut self, now: Timestamp, pace: Pace) -> Vec<String> {
        let overdue = self.all.iter_mut().filter(|(_, watch)| watch.until <= now);
        overdue
            .map(|(node, watch)| {
                watch.until = plus(now, pace.window);
                node.clone()
            })
            .collect()
    }

    pub(super) fn forget(&mut self, node: &str) {
        self.all.remove(node);
    }
}
