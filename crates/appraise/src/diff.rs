//! How two boots differ: PCRs, events with their names, files, facts.

use crate::account::{Account, Told, What, version_in};
use crate::files::{Files, Listed};
use crate::words;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Of a table of common events; beyond, everything between the ends that are alike counts as changed.
const MOST_CELLS: usize = 1 << 22;
/// Entries of one list of signatures that are told.
const MOST_ENTRIES: usize = 64;

/// Everything that is not the same in two accounts. Empty if nothing is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Difference {
    pub pcrs: Vec<PcrChange>,
    pub events: Vec<EventChange>,
    pub files: Vec<FileChange>,
    pub facts: Vec<FactChange>,
    /// What could not be compared, and why: nothing is said of it.
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcrChange {
    pub pcr: u32,
    pub a: Option<String>,
    pub b: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    New,
    Gone,
    Changed,
}

/// One event that the other boot does not have, or has otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventChange {
    pub change: Change,
    pub pcr: u32,
    pub what: What,
    pub name: String,
    /// What changed in it, for people.
    pub detail: String,
    pub a: Option<Told>,
    pub b: Option<Told>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    pub change: Change,
    pub path: String,
    /// Digests that ran under this path in the one and not in the other.
    pub a: Vec<Listed>,
    pub b: Vec<Listed>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactChange {
    pub name: String,
    pub a: Option<String>,
    pub b: Option<String>,
}

impl Difference {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pcrs.is_empty()
            && self.events.is_empty()
            && self.files.is_empty()
            && self.facts.is_empty()
    }
}

impl Account {
    /// How `other` differs from this one.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Difference {
        let mut difference = Difference::default();
        let indices: BTreeSet<u32> = self.pcrs.keys().chain(other.pcrs.keys()).copied().collect();
        for pcr in indices {
            let (a, b) = (self.pcrs.get(&pcr), other.pcrs.get(&pcr));
            // PCR 10 is the files', which are compared below.
            if a != b && pcr != 10 {
                difference.pcrs.push(PcrChange {
                    pcr,
                    a: a.cloned(),
                    b: b.cloned(),
                });
            }
        }
        match (self.outline.is_some(), other.outline.is_some()) {
            (true, true) => {
                difference.events = events(&self.events, &other.events);
                if self.phases != other.phases {
                    difference.events.push(phases(self, other));
                }
            }
            (false, false) => {}
            (has, _) => difference.unknown.push(format!(
                "{} has no event log: its events are not compared",
                if has { "the second" } else { "the first" }
            )),
        }
        match (&self.files, &other.files) {
            (Some(a), Some(b)) => {
                difference.files = files(a, b);
                for (name, one) in [("first", a), ("second", b)] {
                    if one.is_part() {
                        difference.unknown.push(format!(
                            "of the list of the {name}, {} entries are not there",
                            one.first
                                .saturating_add(u64::try_from(one.more).unwrap_or(u64::MAX))
                        ));
                    }
                }
            }
            (None, None) => {}
            (a, _) => difference.unknown.push(format!(
                "{} has no IMA list: its files are not compared",
                if a.is_some() {
                    "the second"
                } else {
                    "the first"
                }
            )),
        }
        difference
    }
}

/// Facts by name and value, as they are written. What tells one boot from the next by counting is left out.
#[must_use]
pub fn facts(a: &BTreeMap<String, String>, b: &BTreeMap<String, String>) -> Vec<FactChange> {
    const COUNTING: [&str; 3] = [
        "machine.boot.reset_count",
        "machine.boot.restart_count",
        "machine.ima.entries",
    ];
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name) && !COUNTING.contains(&name.as_str()))
        .map(|name| FactChange {
            name: name.clone(),
            a: a.get(name).cloned(),
            b: b.get(name).cloned(),
        })
        .collect()
}

fn phases(a: &Account, b: &Account) -> EventChange {
    EventChange {
        change: Change::Changed,
        pcr: 11,
        what: What::Action,
        name: "phases of the boot".to_owned(),
        detail: format!("[{}] then [{}]", a.phases.join(" "), b.phases.join(" ")),
        a: None,
        b: None,
    }
}

/// PCR by PCR: the order of events of different PCRs is nobody's word.
fn events(a: &[Told], b: &[Told]) -> Vec<EventChange> {
    let pcrs: BTreeSet<u32> = a.iter().chain(b).map(|told| told.pcr).collect();
    let of = |all: &[Told], pcr| -> Vec<Told> {
        let of = all.iter().filter(|told| told.pcr == pcr);
        // What says that a section follows changes with the section.
        of.filter(|told| told.what != What::SectionName)
            .cloned()
            .collect()
    };
    pcrs.into_iter()
        .flat_map(|pcr| within(&of(a, pcr), &of(b, pcr)))
        .collect()
}

fn within(a: &[Told], b: &[Told]) -> Vec<EventChange> {
    let (gone, come) = unlike(a, b);
    let mut waiting: VecDeque<&Told> = come.into_iter().collect();
    let mut changes = Vec::new();
    for old in gone {
        let place = waiting
            .iter()
            .position(|new| new.what == old.what && new.name == old.name)
            .or_else(|| waiting.iter().position(|new| is_one_thing(old, new)));
        match place.and_then(|place| waiting.remove(place)) {
            Some(new) => changes.push(change(Some(old), Some(new))),
            None => changes.push(change(Some(old), None)),
        }
    }
    changes.extend(waiting.into_iter().map(|new| change(None, Some(new))));
    changes
}

/// Things that there is one of, whatever they are called: a kernel of another version has another path.
fn is_one_thing(old: &Told, new: &Told) -> bool {
    let stem = |told: &Told| {
        let version = version_in(&told.name)?;
        Some(told.name.replace(&version, ""))
    };
    old.what == new.what
        && match old.what {
            What::CommandLine | What::Initrd | What::Sbat | What::Authority => true,
            What::Image | What::File => stem(old).is_some() && stem(old) == stem(new),
            _ => false,
        }
}

/// The events that are not part of the longest common sequence.
fn unlike<'a>(a: &'a [Told], b: &'a [Told]) -> (Vec<&'a Told>, Vec<&'a Told>) {
    let alike = |one: &&'a Told, other: &&'a Told| one.digest == other.digest;
    let (mut a, mut b): (VecDeque<&Told>, VecDeque<&Told>) =
        (a.iter().collect(), b.iter().collect());
    while let (Some(one), Some(other)) = (a.front(), b.front())
        && alike(one, other)
    {
        a.pop_front();
        b.pop_front();
    }
    while let (Some(one), Some(other)) = (a.back(), b.back())
        && alike(one, other)
    {
        a.pop_back();
        b.pop_back();
    }
    if a.len().saturating_mul(b.len()) > MOST_CELLS {
        return (a.into(), b.into());
    }
    let digests = |all: &VecDeque<&'a Told>| -> Vec<&'a str> {
        all.iter().map(|told| told.digest.as_str()).collect()
    };
    let common = words::common(&digests(&a), &digests(&b));
    let left = |all: VecDeque<&'a Told>| {
        let mut common = common.iter().peekable();
        let left = all.into_iter().filter(|told| {
            let is_common = common.peek().is_some_and(|next| **next == told.digest);
            if is_common {
                common.next();
            }
            !is_common
        });
        left.collect::<Vec<_>>()
    };
    (left(a), left(b))
}

fn change(a: Option<&Told>, b: Option<&Told>) -> EventChange {
    let kind = match (a, b) {
        (Some(_), Some(_)) => Change::Changed,
        (Some(_), None) => Change::Gone,
        (None, _) => Change::New,
    };
    let (pcr, what, name) = b.or(a).map_or((0, What::Firmware, String::new()), |told| {
        (told.pcr, told.what, told.name.clone())
    });
    EventChange {
        change: kind,
        pcr,
        what,
        name,
        detail: detail(a, b),
        a: a.cloned(),
        b: b.cloned(),
    }
}

fn detail(a: Option<&Told>, b: Option<&Told>) -> String {
    let (Some(a), Some(b)) = (a, b) else {
        return a.or(b).map_or_else(String::new, said);
    };
    if !a.entries.is_empty() || !b.entries.is_empty() {
        return entries(&a.entries, &b.entries);
    }
    match (&a.text, &b.text) {
        (Some(old), Some(new)) if a.what == What::CommandLine => words::compare(old, new),
        (Some(old), Some(new)) if old != new => {
            format!("{} then {}", one_line(old), one_line(new))
        }
        _ if a.name != b.name => format!("{} then {}", said(a), said(b)),
        _ => format!("{} then {}", named(a), named(b)),
    }
}

/// An event by itself.
fn said(told: &Told) -> String {
    told.text.as_deref().map_or_else(|| named(told), one_line)
}

fn named(told: &Told) -> String {
    told.known.clone().unwrap_or_else(|| told.digest.clone())
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join("; ")
}

fn entries(a: &[String], b: &[String]) -> String {
    let (old, new): (BTreeSet<&String>, BTreeSet<&String>) =
        (a.iter().collect(), b.iter().collect());
    let told = |sign: &str, entries: Vec<&&String>| -> Vec<String> {
        let more = entries.len().saturating_sub(MOST_ENTRIES);
        let mut told: Vec<String> = entries
            .iter()
            .take(MOST_ENTRIES)
            .map(|entry| format!("{sign}{entry}"))
            .collect();
        if more > 0 {
            told.push(format!("{sign}{more} more"));
        }
        told
    };
    let mut all = told("-", old.difference(&new).collect());
    all.extend(told("+", new.difference(&old).collect()));
    if all.is_empty() {
        "the same entries in another order".to_owned()
    } else {
        all.join(", ")
    }
}

/// By path: what ran under it in the one and not in the other.
fn files(a: &Files, b: &Files) -> Vec<FileChange> {
    fn by_path(files: &Files) -> BTreeMap<&str, BTreeMap<(&str, bool), &Listed>> {
        let mut all: BTreeMap<&str, BTreeMap<(&str, bool), &Listed>> = BTreeMap::new();
        // The boot itself, which the PCRs say.
        for one in files
            .listed
            .iter()
            .filter(|one| one.path != "boot_aggregate")
        {
            let under = all.entry(&one.path).or_default();
            under.insert((&one.digest, one.violation), one);
        }
        all
    }
    let (old, new) = (by_path(a), by_path(b));
    let paths: BTreeSet<&&str> = old.keys().chain(new.keys()).collect();
    let none = BTreeMap::new();
    let mut changes = Vec::new();
    for path in paths {
        let (one, other) = (old.get(*path), new.get(*path));
        let only = |of: Option<&BTreeMap<(&str, bool), &Listed>>,
                    not: Option<&BTreeMap<(&str, bool), &Listed>>| {
            let not = not.unwrap_or(&none);
            let of = of.unwrap_or(&none).iter();
            of.filter(|(key, _)| !not.contains_key(*key))
                .map(|(_, listed)| (*listed).clone())
                .collect::<Vec<_>>()
        };
        let (left, right) = (only(one, other), only(other, one));
        if left.is_empty() && right.is_empty() {
            continue;
        }
        // What is not in part of a list may be in the rest.
        if left.is_empty() && a.is_part() || right.is_empty() && b.is_part() {
            continue;
        }
        changes.push(FileChange {
            change: match (one, other) {
                (None, _) => Change::New,
                (_, None) => Change::Gone,
                _ => Change::Changed,
            },
            path: (**path).to_owned(),
            a: left,
            b: right,
        });
    }
    changes
}
