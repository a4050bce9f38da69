//! Whether what a record is about is expected. Pure: a record and the rules give the answer.
//!
//! A record is somebody's if it names one of his identities, machines or resources, or if it may: a list of resources
//! that was cut may have held any, and a record that this version cannot read may be about anything.

use crate::alert::Told;
use crate::config::{AllowConfig, WatchConfig, wrong};
use facts::Finding;
use ledger::about::{self, About, Erased, NameError, Pattern, Theirs};
use ledger::{MAX_RECORD, Record, RecordType, merkle};
use std::collections::BTreeSet;

const DAY: u64 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A `[[watch]]` that was read.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    name: String,
    theirs: Theirs,
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

fn named(error: NameError) -> Finding {
    match error {
        NameError::Pattern(text) => {
            wrong("a name is exact, or has one `*` at its end").observed(text)
        }
        NameError::Machine(text) => {
            wrong("`machines` are nodes, by their names or their SPIFFE IDs").observed(text)
        }
        NameError::Nothing => wrong("a [[watch]] names `identities`, `machines` or `resources`"),
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, Finding> {
    Pattern::all(texts).map_err(named)
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
        let theirs = Theirs::new(&config.identities, &config.machines, &config.resources);
        Ok(Self {
            name: config.name.clone(),
            theirs: theirs.map_err(|error| match error {
                NameError::Nothing => named(error).observed(config.name.clone()),
                error => named(error),
            })?,
            allows: config
                .allows
                .iter()
                .map(Allow::read)
                .collect::<Result<_, _>>()?,
        })
    }

    /// The record, if it is this owner's and not expected.
    fn judge(&self, index: u64, bytes: &[u8], read: Option<&(Record, About)>) -> Option<Told> {
        let (about, expected) = match read {
            Some((record, about)) => {
                let theirs = self.theirs.of(about);
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

/// Whatever of the record at `index` is not expected, by the watches.
pub(crate) fn judge(
    watches: &[Watch],
    origin: &str,
    index: u64,
    bytes: &[u8],
    erased: &Erased,
) -> Vec<Told> {
    let read = about::read(origin, bytes, erased);
    let judged = watches
        .iter()
        .filter_map(|watch| watch.judge(index, bytes, read.as_ref()));
    match read {
        Some(_) => judged.collect(),
        // It is told once.
        None => judged.take(1).collect(),
    }
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
            machines: Pattern::machines(&config.machines).map_err(named)?,
            resources: Pattern::resources(&config.resources).map_err(named)?,
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
                    .is_some_and(|actor| Pattern::any(&self.actors, actor)))
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
    patterns.is_empty()
        || (!names.is_empty() && names.iter().all(|name| Pattern::any(patterns, name)))
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
