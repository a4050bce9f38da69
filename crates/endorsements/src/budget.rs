//! What a source may be asked, and what a machine may have asked for: so that no machine makes this server
//! hammer a vendor. Pure: the clock is an argument.

use facts::{Finding, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// Machines remembered at once; those beyond share one account.
const MACHINES: usize = 10_000;
/// Documents remembered as not to be had.
const ABSENT: usize = 10_000;
const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;
/// A source that fails rests for this long, and twice as long each time until it answers.
const FIRST_REST: u64 = 2_000;
const LAST_REST: u64 = 10 * MINUTE;

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests to one source a minute.
    pub per_source: u32,
    /// Documents that one machine may cause to be asked for in an hour.
    pub per_machine: u32,
}

/// Why a document is not to be had for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The sources do not know it.
    Unknown,
    /// What they gave is not it.
    Wrong,
    /// They did not answer.
    Unanswered,
}

impl Absence {
    const fn lasts(self) -> u64 {
        match self {
            Self::Unknown => HOUR,
            Self::Wrong => 10 * MINUTE,
            Self::Unanswered => 30_000,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since: u64,
    count: u32,
}

impl Window {
    /// False when it is full.
    const fn admit(&mut self, now: u64, span: u64, most: u32) -> bool {
        if now.saturating_sub(self.since) >= span {
            self.since = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= most
    }
}

#[derive(Debug, Clone, Default)]
struct Account {
    asked: Window,
    rests_until: u64,
    failed: u32,
    /// What it answered when it failed last.
    why: String,
}

/// The accounts of sources, machines and documents.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    sources: Vec<Account>,
    machines: HashMap<String, Window>,
    others: Window,
    absent: BTreeMap<[u8; 32], (u64, Finding)>,
}

impl Budget {
    pub(crate) fn new(limits: Limits, sources: usize) -> Self {
        Self {
            limits,
            sources: vec![Account::default(); sources],
            machines: HashMap::new(),
            others: Window::default(),
            absent: BTreeMap::new(),
        }
    }

    /// Whether `machine` may have one more document asked for.
    pub(crate) fn admit(&mut self, machine: &str, now: Timestamp) -> Result<(), Finding> {
        let (at, most) = (now.as_millis(), self.limits.per_machine);
        if self.machines.len() >= MACHINES {
            self.machines
                .retain(|_, window| at.saturating_sub(window.since) < HOUR);
        }
        let known = self.machines.len() < MACHINES || self.machines.contains_key(machine);
        let window = if known {
            self.machines.entry(machine.to_owned()).or_default()
        } else {
            &mut self.others
        };
        if window.admit(at, HOUR, most) {
            return Ok(());
        }
        Err(Finding::new(
            "TEE-ENDORSEMENT-LIMIT",
            "this machine has had too many endorsements asked for",
        )
        .expected(format!("at most {most} documents an hour"))
        .observed(machine.to_owned())
        .next(
            "wait an hour; a machine whose chip or TCB is another each time is not what it says: \
             look at it",
        ))
    }

    /// Whether a source may be asked now; else why not.
    pub(crate) fn source(&mut self, index: usize, now: Timestamp) -> Result<(), String> {
        let (at, most) = (now.as_millis(), self.limits.per_source);
        let account = self
            .sources
            .get_mut(index)
            .ok_or("there is no such source")?;
        if at < account.rests_until {
            let rest = (account.rests_until - at).div_ceil(1000);
            let why = &account.why;
            return Err(format!("{why}, and it is asked again in {rest} s"));
        }
        if account.asked.admit(at, MINUTE, most) {
            return Ok(());
        }
        Err(format!("it is asked {most} times a minute at most"))
    }

    pub(crate) fn answered(&mut self, index: usize) {
        if let Some(account) = self.sources.get_mut(index) {
            account.failed = 0;
            account.rests_until = 0;
            account.why.clear();
        }
    }

    /// A source that fails rests: as long as it asks for, within bounds. Who asks meanwhile is told `why`.
    pub(crate) fn failed(
        &mut self,
        index: usize,
        wait_s: Option<u64>,
        why: String,
        now: Timestamp,
    ) {
        let Some(account) = self.sources.get_mut(index) else {
            return;
        };
        let doubled = FIRST_REST.saturating_mul(1 << account.failed.min(16));
        account.failed = account.failed.saturating_add(1);
        account.why = why;
        let asked = wait_s.map_or(0, |seconds| seconds.saturating_mul(1000));
        let rest = doubled.min(LAST_REST).max(asked.min(HOUR));
        account.rests_until = account
            .rests_until
            .max(now.as_millis().saturating_add(rest));
    }

    /// What is known of a document that was not to be had a moment ago.
    pub(crate) fn absent(&self, key: &[u8; 32], now: Timestamp) -> Option<Finding> {
        let (until, finding) = self.absent.get(key)?;
        (now.as_millis() < *until).then(|| finding.clone())
    }

    pub(crate) fn miss(&mut self, key: [u8; 32], why: Absence, finding: Finding, now: Timestamp) {
        let at = now.as_millis();
        if self.absent.len() >= ABSENT {
            self.absent.retain(|_, (until, _)| at < *until);
        }
        if self.absent.len() >= ABSENT {
            // Whoever fills it has spent what many machines may.
            self.absent.pop_first();
        }
        let until = at.saturating_add(why.lasts());
        self.absent.insert(key, (until, finding));
    }

    pub(crate) fn found(&mut self, key: &[u8; 32]) {
        self.absent.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        per_source: 5,
        per_machine: 3,
    };

    #[test]
    fn a_machine_spends_what_is_its_own_and_a_source_what_all_may() {
        let mut budget = Budget::new(LIMITS, 1);
        let now = Timestamp::from_secs(1_000_000);
        let asked = (0..100).filter(|_| budget.admit("bad", now).is_ok());
        assert_eq!(asked.count(), 3);
        budget.admit("good", now).unwrap();
        budget.admit("bad", now.plus_secs(3_600)).unwrap();
        let asked = (0..100).filter(|_| budget.source(0, now).is_ok());
        assert_eq!(asked.count(), 5);
        budget.source(0, now.plus_secs(60)).unwrap();
        assert!(budget.source(1, now).is_err(), "there is none");
    }

    #[test]
    fn machines_beyond_those_that_are_remembered_share_one_account() {
        let mut budget = Budget::new(LIMITS, 1);
        let now = Timestamp::from_secs(1_000_000);
        for number in 0..MACHINES {
            budget.admit(&format!("m{number}"), now).unwrap();
        }
        let asked = (0..100).filter(|number| budget.admit(&format!("x{number}"), now).is_ok());
        assert_eq!(asked.count(), 3);
        budget.admit("m1", now).unwrap();
    }

    #[test]
    fn a_source_that_fails_rests_twice_as_long_each_time() {
        let mut budget = Budget::new(LIMITS, 2);
        let now = Timestamp::from_secs(1_000_000);
        let why = || "it answered 500".to_owned();
        budget.failed(0, None, why(), now);
        let told = budget.source(0, now.plus_secs(1)).unwrap_err();
        assert_eq!(told, "it answered 500, and it is asked again in 1 s");
        budget.source(1, now.plus_secs(1)).unwrap();
        budget.source(0, now.plus_secs(2)).unwrap();
        budget.failed(0, None, why(), now.plus_secs(2));
        assert!(budget.source(0, now.plus_secs(5)).is_err());
        budget.answered(0);
        budget.source(0, now.plus_secs(5)).unwrap();
        // It says how long, and not for ever.
        budget.failed(0, Some(u64::MAX), why(), now);
        assert!(budget.source(0, now.plus_secs(3_599)).is_err());
        budget.source(0, now.plus_secs(3_600)).unwrap();
        for _ in 0..100 {
            budget.failed(1, None, why(), now);
        }
        budget.source(1, now.plus_secs(600)).unwrap();
    }

    #[test]
    fn what_is_not_to_be_had_is_not_asked_for_a_while() {
        let mut budget = Budget::new(LIMITS, 1);
        let now = Timestamp::from_secs(1_000_000);
        let finding = || Finding::new("TEE-ENDORSEMENT-FETCH", "no");
        budget.miss([1; 32], Absence::Unknown, finding(), now);
        budget.miss([2; 32], Absence::Unanswered, finding(), now);
        assert!(budget.absent(&[1; 32], now.plus_secs(3_599)).is_some());
        assert!(budget.absent(&[1; 32], now.plus_secs(3_600)).is_none());
        assert!(budget.absent(&[2; 32], now.plus_secs(30)).is_none());
        budget.found(&[1; 32]);
        assert!(budget.absent(&[1; 32], now).is_none());
        for number in 0..=ABSENT {
            let key = crypto::sha256(&number.to_be_bytes());
            budget.miss(key, Absence::Wrong, finding(), now);
        }
        assert!(budget.absent.len() <= ABSENT);
    }
}
