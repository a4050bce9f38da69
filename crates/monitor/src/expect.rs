//! What a record is about, and whether that is expected. Pure: a record and the rules give the answer.
//!
//! A record is somebody's if it names one of his identities, machines or resources, or if it may: a list of resources
//! that was cut may have held any, and a record that this version cannot read may be about anything.

mod about;

pub(crate) use about::About;

use crate::alert::Told;
use crate::config::{AllowConfig, WatchConfig, wrong};
use facts::Finding;
use ledger::body::Erasure;
use ledger::{MAX_RECORD, Origin, Record, RecordType, merkle};
use std::collections::BTreeSet;

const DAY: u64 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A `[[watch]]` that was read.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    name: String,
    identities: Vec<Pattern>,
    machines: Vec<Pattern>,
    resources: Vec<Pattern>,
    allows: Vec<Allow>,
}

/// A `[[watch.allow]]` that was read. What is empty asks for nothing.
#[derive(Debug, Clone)]
struct Allow {
    records: Vec<RecordType>,
    identities: Vec<Pattern>,
    actors: Vec<Pattern>,
    machines: Vec<Pattern>,
    resources: Vec<Pattern>,
    code: BTreeSet<String>,
    issuers: BTreeSet<String>,
    /// Minutes of a day, the last one excluded.
    hours: Vec<(u64, u64)>,
    /// 0 is Monday.
    days: BTreeSet<u64>,
}

/// A name, or what it begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    text: String,
    /// It ended in `*`.
    begins: bool,
}

impl Pattern {
    fn read(text: &str) -> Result<Self, Finding> {
        let (text, begins) = match text.strip_suffix('*') {
            Some(text) => (text, true),
            None => (text, false),
        };
        if text.contains('*') || (text.is_empty() && !begins) {
            return Err(
                wrong("a name is exact, or has one `*` at its end").observed(text.to_owned())
            );
        }
        let text = text.to_owned();
        Ok(Self { text, begins })
    }

    fn matches(&self, name: &str) -> bool {
        match self.begins {
            true => name.starts_with(&self.text),
            false => name == self.text,
        }
    }

    /// As [`Self::matches`], of a column: `…/*` may be any of its table.
    fn matches_column(&self, name: &str) -> bool {
        let any = name.strip_suffix('*').filter(|table| table.ends_with('/'));
        self.matches(name) || any.is_some_and(|table| self.text.starts_with(table))
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Finding> {
    texts.iter().map(|text| Pattern::read(text)).collect()
}

/// However they are written: by their paths, or as records have them.
fn resources(texts: &[String]) -> Result<Vec<Pattern>, Finding> {
    let paths = texts.iter().map(|text| about::resource(text));
    paths.map(Pattern::read).collect()
}

/// However they are written: nodes by name or by SPIFFE ID.
fn machines(texts: &[String]) -> Result<Vec<Pattern>, Finding> {
    let name = |text: &String| {
        let name = about::machine(text);
        if name.starts_with("spiffe://") {
            let finding = wrong("`machines` are nodes, by their names or their SPIFFE IDs");
            return Err(finding.observed(text.clone()));
        }
        Pattern::read(name)
    };
    texts.iter().map(name).collect()
}

fn any(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

/// Reads the watches of a configuration.
pub(crate) fn watches(configs: &[WatchConfig]) -> Result<Vec<Watch>, Finding> {
    let mut names = BTreeSet::new();
    configs
        .iter()
        .map(|config| {
            if config.name.is_empty() || !names.insert(&config.name) {
                return Err(
                    wrong("each [[watch]] has a `name` of its own").observed(config.name.clone())
                );
            }
            Watch::read(config)
        })
        .collect()
}

impl Watch {
    fn read(config: &WatchConfig) -> Result<Self, Finding> {
        let watch = Self {
            name: config.name.clone(),
            identities: patterns(&config.identities)?,
            machines: machines(&config.machines)?,
            resources: resources(&config.resources)?,
            allows: config
                .allows
                .iter()
                .map(Allow::read)
                .collect::<Result<_, _>>()?,
        };
        if watch.identities.is_empty() && watch.machines.is_empty() && watch.resources.is_empty() {
            return Err(
                wrong("a [[watch]] names `identities`, `machines` or `resources`")
                    .observed(watch.name),
            );
        }
        Ok(watch)
    }

    /// What of this owner's the record is about; nothing, if it is not about him.
    fn theirs(&self, about: &About) -> Vec<String> {
        let mut found = Vec::new();
        for (kind, patterns, names) in [
            ("identity", &self.identities, &about.identities),
            ("machine", &self.machines, &about.machines),
            ("resource", &self.resources, &about.resources),
        ] {
            let hits = names.iter().filter(|name| any(patterns, name));
            found.extend(hits.map(|name| format!("{kind} {name}")));
        }
        // Whose the table is, is told of the table.
        let columns = about.columns.iter().filter(|name| {
            let table = name.rsplit_once('/').map_or("", |(table, _)| table);
            let mut owned = self.resources.iter();
            !any(&self.resources, table) && owned.any(|pattern| pattern.matches_column(name))
        });
        found.extend(columns.map(|name| format!("column {name}")));
        let acts = about
            .actor
            .iter()
            .filter(|actor| any(&self.identities, actor));
        found.extend(acts.map(|actor| format!("actor {actor}")));
        if about.unseen {
            found.push("contents of records that were not looked at".to_owned());
        }
        if about.cut && !self.resources.is_empty() {
            found.push("resources that the record has no room for".to_owned());
        }
        found
    }

    /// The record is about something of this owner's, or it may be.
    pub(crate) fn concerns(&self, read: Option<&(Record, About)>) -> bool {
        read.is_none_or(|(_, about)| !self.theirs(about).is_empty())
    }

    /// The record, if it is this owner's and not expected.
    fn judge(&self, index: u64, bytes: &[u8], read: Option<&(Record, About)>) -> Option<Told> {
        let (about, expected) = match read {
            Some((record, about)) => {
                let theirs = self.theirs(about);
                let expected = self.allows.iter().any(|allow| allow.takes(record, about));
                (theirs, expected)
            }
            None => (vec!["what this version cannot read".to_owned()], false),
        };
        if expected || about.is_empty() {
            return None;
        }
        Some(Told {
            index,
            watch: self.name.clone(),
            record_type: read.map(|(record, _)| record.kind().as_str().to_owned()),
            wall: read.map(|(record, _)| record.stamp().wall),
            about,
            leaf_hash: crypto::base64::encode(&merkle::leaf_hash(bytes)),
            text: (bytes.len() <= MAX_RECORD)
                .then(|| std::str::from_utf8(bytes).ok().map(str::to_owned))
                .flatten(),
        })
    }
}

/// What an erasure has taken from: the records, and whether it names others that were not looked at.
#[derive(Default)]
pub(crate) struct Erased {
    pub(crate) records: Vec<Record>,
    pub(crate) unseen: bool,
}

/// Places of the records whose contents this one says to be gone, each once; only those before it can be.
pub(crate) fn erases(origin: &str, index: u64, bytes: &[u8]) -> BTreeSet<u64> {
    const TYPE: &[u8] = b"{\"v\":1,\"type\":\"erasure\"";
    if !bytes.starts_with(TYPE) {
        return BTreeSet::new();
    }
    let record = Record::parse(bytes).ok();
    let record = record.filter(|record| record.origin() == origin);
    let erasure = record.and_then(|record| record.expect_body::<Erasure>().ok());
    let named = erasure.into_iter().flat_map(|erasure| erasure.erased);
    named
        .map(|item| item.record.0)
        .filter(|named| *named < index)
        .collect()
}

/// Whatever of the record at `index` is not expected, by the watches.
pub(crate) fn judge(
    watches: &[Watch],
    origin: &str,
    index: u64,
    bytes: &[u8],
    erased: &Erased,
) -> Vec<Told> {
    let read = read(origin, bytes, erased);
    let judged = watches
        .iter()
        .filter_map(|watch| watch.judge(index, bytes, read.as_ref()));
    match read {
        Some(_) => judged.collect(),
        // It is told once.
        None => judged.take(1).collect(),
    }
}

/// A record, and what it is about. One of another ledger, or not in the form of its type, is none that can be read here.
pub(crate) fn read(origin: &str, bytes: &[u8], erased: &Erased) -> Option<(Record, About)> {
    Record::parse(bytes)
        .ok()
        .filter(|record| Origin::new(origin).is_ok_and(|log| log.holds(record.origin())))
        .and_then(|record| About::of(&record).map(|about| (record, about)))
        .map(|(record, mut about)| {
            about.erases(&erased.records, erased.unseen);
            (record, about)
        })
}

impl Allow {
    fn read(config: &AllowConfig) -> Result<Self, Finding> {
        let kind = |name: &String| {
            RecordType::from_name(name).ok_or_else(|| {
                wrong("`records` are types of docs/reference/records.md").observed(name.clone())
            })
        };
        let digest = |text: &String| {
            let bytes = crypto::hex::decode(text)
                .ok()
                .filter(|bytes| bytes.len() == 32);
            bytes
                .map(|bytes| crypto::hex::encode(&bytes))
                .ok_or_else(|| {
                    wrong("`code` and `issuers` are SHA-256 in hex").observed(text.clone())
                })
        };
        let day = |name: &String| {
            let at = (0..).zip(DAYS).find(|(_, day)| *day == name.as_str());
            at.map(|(at, _)| at).ok_or_else(|| {
                wrong("`days` are mon, tue, wed, thu, fri, sat, sun").observed(name.clone())
            })
        };
        let allow = Self {
            records: config.records.iter().map(kind).collect::<Result<_, _>>()?,
            identities: patterns(&config.identities)?,
            actors: patterns(&config.actors)?,
            machines: machines(&config.machines)?,
            resources: resources(&config.resources)?,
            code: config.code.iter().map(digest).collect::<Result<_, _>>()?,
            issuers: config
                .issuers
                .iter()
                .map(digest)
                .collect::<Result<_, _>>()?,
            hours: config
                .hours
                .iter()
                .map(|text| hours(text))
                .collect::<Result<_, _>>()?,
            days: config.days.iter().map(day).collect::<Result<_, _>>()?,
        };
        let asks = [
            allow.records.len(),
            allow.identities.len(),
            allow.actors.len(),
            allow.machines.len(),
            allow.resources.len(),
            allow.code.len(),
            allow.issuers.len(),
            allow.hours.len(),
            allow.days.len(),
        ];
        if asks.iter().all(|length| *length == 0) {
            return Err(wrong(
                "a [[watch.allow]] that says nothing would take everything",
            ));
        }
        Ok(allow)
    }

    fn takes(&self, record: &Record, about: &About) -> bool {
        let wall = record.stamp().wall;
        let minute = wall / 60_000 % DAY;
        // The first day of 1970 was a Thursday.
        let day = (wall / 86_400_000 + 3) % 7;
        let in_hours = |(from, to): &(u64, u64)| match from < to {
            true => (*from..*to).contains(&minute),
            false => minute >= *from || minute < *to,
        };
        (self.records.is_empty() || self.records.contains(&record.kind()))
            && every(&self.identities, &about.identities)
            && (self.actors.is_empty()
                || about
                    .actor
                    .as_ref()
                    .is_some_and(|actor| any(&self.actors, actor)))
            && every(&self.machines, &about.machines)
            && every(&self.resources, &about.resources)
            && (self.resources.is_empty() || !about.cut)
            && (!about.unseen
                || self.identities.is_empty()
                    && self.machines.is_empty()
                    && self.resources.is_empty())
            && (self.code.is_empty()
                || about
                    .code
                    .as_ref()
                    .is_some_and(|code| self.code.contains(code)))
            && (self.issuers.is_empty()
                || about
                    .issuer
                    .as_ref()
                    .is_some_and(|issuer| self.issuers.contains(issuer)))
            && (self.hours.is_empty() || self.hours.iter().any(in_hours))
            && (self.days.is_empty() || self.days.contains(&day))
    }
}

/// All that the record names is among these, and it names one.
fn every(patterns: &[Pattern], names: &BTreeSet<String>) -> bool {
    patterns.is_empty() || (!names.is_empty() && names.iter().all(|name| any(patterns, name)))
}

/// `06:00-20:00`.
fn hours(text: &str) -> Result<(u64, u64), Finding> {
    let minute = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        let number = |text: &str| (text.len() == 2).then(|| text.parse::<u64>().ok())?;
        let (hour, minute) = (number(hour)?, number(minute)?);
        let at = hour * 60 + minute;
        (minute < 60 && at <= DAY).then_some(at)
    };
    let read = text
        .split_once('-')
        .and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    read.filter(|(from, to)| from != to && *from < DAY)
        .ok_or_else(|| wrong("`hours` are of the form 06:00-20:00").observed(text.to_owned()))
}

#[cfg(test)]
#[path = "expect/tests.rs"]
mod tests;
