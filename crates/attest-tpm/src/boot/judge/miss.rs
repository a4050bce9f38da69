//! What did not match, kept until everything was compared, so that each finding can name the release
//! that the rest of the boot belongs to.

use crate::reference::Value;
use facts::{Finding, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// How many values a finding shows.
const SHOWN: usize = 3;
/// How many findings there are at most: a log may have thousands of events that nobody knows.
const MOST: usize = 64;

/// A measurement that no value allows.
pub(super) struct Miss {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) observed: String,
    pub(super) next: &'static str,
}

enum Wanted<'a> {
    OneOf(Vec<Candidate<'a>>),
    /// A finding that is finished.
    Ready,
}

/// A value that counts and was not what was seen.
struct Candidate<'a> {
    shown: String,
    label: &'a str,
    /// Which one it is.
    address: usize,
}

/// The misses so far, which values matched, and how often each label did.
pub(super) struct Misses<'a> {
    now: Timestamp,
    labels: BTreeMap<&'a str, usize>,
    matched: BTreeSet<usize>,
    misses: Vec<(Finding, Wanted<'a>)>,
    /// Beyond those. INVARIANT: nothing is kept of them: each would hold all values that it is not.
    more: usize,
}

impl<'a> Misses<'a> {
    pub(super) const fn new(now: Timestamp) -> Self {
        Self {
            now,
            labels: BTreeMap::new(),
            matched: BTreeSet::new(),
            misses: Vec::new(),
            more: 0,
        }
    }

    pub(super) fn matched<T>(&mut self, value: &'a Value<T>) {
        self.matched.insert(address(value));
        self.belongs(&value.label);
    }

    /// Part of what was measured is that of `label`.
    pub(super) fn belongs(&mut self, label: &'a str) {
        *self.labels.entry(label).or_default() += 1;
    }

    pub(super) fn matches(&self, label: &str) -> usize {
        self.labels.get(label).copied().unwrap_or_default()
    }

    pub(super) fn labels(&self) -> BTreeSet<String> {
        self.labels
            .keys()
            .map(|label| (*label).to_owned())
            .collect()
    }

    pub(super) fn push(&mut self, finding: Finding) {
        if self.has_room() {
            self.misses.push((finding, Wanted::Ready));
        }
    }

    /// For one more, which is counted if there is none.
    const fn has_room(&mut self) -> bool {
        let has_room = self.misses.len() < MOST;
        if !has_room {
            self.more += 1;
        }
        has_room
    }

    /// A value would have matched, but not at this time.
    pub(super) fn lapsed<T>(&mut self, miss: Miss, value: &'a Value<T>) {
        let finding = finding(miss).expected(format!(
            "a value that counts at {}; it is that of {} ({}), but {}",
            self.now,
            value.label,
            value.source,
            value.window.describe(self.now)
        ));
        self.push(finding);
    }

    /// No value matches, whatever the time.
    pub(super) fn absent<T>(
        &mut self,
        miss: Miss,
        values: &'a [Value<T>],
        shown: impl Fn(&T) -> String,
    ) {
        if !self.has_room() {
            return;
        }
        let wanted = values
            .iter()
            .filter(|value| value.window.holds(self.now))
            .map(|value| Candidate {
                shown: shown(&value.value),
                label: &value.label,
                address: address(value),
            })
            .collect();
        self.misses.push((finding(miss), Wanted::OneOf(wanted)));
    }

    pub(super) fn into_findings(self) -> Vec<Finding> {
        let Self {
            labels,
            matched,
            misses,
            more,
            ..
        } = self;
        let mut findings: Vec<Finding> = misses
            .into_iter()
            .map(|(finding, wanted)| match wanted {
                Wanted::Ready => finding,
                Wanted::OneOf(values) => finding.expected(one_of(values, &labels, &matched)),
            })
            .collect();
        if let (Some(last), true) = (findings.last_mut(), more > 0) {
            last.message
                .push_str(&format!("; {more} more are not allowed"));
        }
        findings
    }
}

/// Tells values apart that say the same.
fn address<T>(value: &Value<T>) -> usize {
    std::ptr::from_ref(value).addr()
}

fn finding(miss: Miss) -> Finding {
    Finding::new(miss.code, miss.message)
        .observed(miss.observed)
        .next(miss.next)
}

/// The values that were expected. First those that nothing else in this boot was: one of them is
/// missing; of these, the one whose label most of the boot belongs to comes nearest.
fn one_of(
    mut values: Vec<Candidate<'_>>,
    labels: &BTreeMap<&str, usize>,
    matched: &BTreeSet<usize>,
) -> String {
    values.sort_by_key(|one| {
        let belongs = labels.get(one.label).copied().unwrap_or_default();
        (matched.contains(&one.address), std::cmp::Reverse(belongs))
    });
    let Some(first) = values.first() else {
        return "nothing: no value counts at this time".to_owned();
    };
    // A value that something else in this boot was is not what is missing here.
    let nearest = if matched.contains(&first.address) {
        ", which is elsewhere in this boot, as are all others"
    } else {
        ", which comes nearest"
    };
    let mut text = format!("{} of {}{nearest}", first.shown, first.label);
    for one in values.iter().skip(1).take(SHOWN - 1) {
        text.push_str(&format!("; {} of {}", one.shown, one.label));
    }
    if values.len() > SHOWN {
        text.push_str(&format!("; and {} more", values.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A log of ten thousand events against thousands of values.
    #[test]
    fn what_is_beyond_the_findings_costs_nothing() {
        let values: Vec<Value<u32>> = (0..1_000)
            .map(|value| Value::new(value, "release", "a test"))
            .collect();
        let mut misses = Misses::new(Timestamp::EPOCH);
        let shown = Cell::new(0_usize);
        for _ in 0..10_000 {
            let miss = Miss {
                code: "BOOT-FILE",
                message: "a file".to_owned(),
                observed: String::new(),
                next: "nothing",
            };
            let show = |value: &u32| {
                shown.set(shown.get() + 1);
                value.to_string()
            };
            misses.absent(miss, &values, show);
            misses.push(Finding::new("BOOT-EVENT", "an event"));
        }
        assert!(shown.get() <= MOST * values.len(), "{}", shown.get());
        let findings = misses.into_findings();
        assert_eq!(findings.len(), MOST);
        let last = &findings[MOST - 1].message;
        assert!(last.ends_with("; 19936 more are not allowed"), "{last}");
    }
}
