//! Reading a policy's lines. Octets are compared, never characters: a name is what it is byte for byte.

use super::{LogKey, MAX_EACH, MAX_POLICY, Party, Policy, PolicyError, PolicyLog, PolicyWitness};
use crate::key::vkey;
use crate::scalar::parse_decimal;
use crate::{CosignerError, CosignerKey, KeyError};
use std::collections::{BTreeMap, BTreeSet};

const LOG: &str = "log <vkey> [<url>]";
const WITNESS: &str = "witness <name> <vkey> [<url>]";
const GROUP: &str = "group <name> all|any|<k> <name>...";
const QUORUM: &str = "quorum <name>";
const ANY_LINE: &str = "log, witness, group or quorum";
/// "The special name `none` is predefined".
const NONE: &[u8] = b"none";

/// The policy so far.
#[derive(Default)]
struct Reading<'a> {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    parties: Vec<Party>,
    groups: usize,
    names: BTreeMap<&'a [u8], usize>,
    members: BTreeSet<usize>,
    quorum: Option<Option<usize>>,
}

pub(super) fn policy(text: &[u8]) -> Result<Policy, PolicyError> {
    if text.len() > MAX_POLICY {
        return Err(PolicyError::TooLarge);
    }
    let mut reading = Reading::default();
    for (line, content) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        reading.line(line, content)?;
    }
    Ok(Policy {
        text: String::from_utf8_lossy(text).into_owned(),
        logs: reading.logs,
        witnesses: reading.witnesses,
        parties: reading.parties,
        quorum: reading.quorum.ok_or(PolicyError::NoQuorum)?,
    })
}

impl<'a> Reading<'a> {
    fn line(&mut self, line: usize, content: &'a [u8]) -> Result<(), PolicyError> {
        // "the allowed octet values are 0x09 (tab), 0x0A (newline), 0x20-0x7E, and 0x80-0xFF."
        let stray = |byte: &&u8| !matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
        if let Some(byte) = content.iter().find(stray).copied() {
            return Err(PolicyError::Byte { line, byte });
        }
        let items = content.split(|byte| matches!(byte, b' ' | b'\t'));
        let items: Vec<&[u8]> = items.filter(|item| !item.is_empty()).collect();
        let Some((first, rest)) = items.split_first() else {
            return Ok(());
        };
        match *first {
            comment if comment.starts_with(b"#") => Ok(()),
            b"log" => self.log(line, rest),
            b"witness" => self.witness(line, rest),
            b"group" => self.group(line, rest),
            b"quorum" => self.quorum(line, rest),
            _ => Err(expected(line, ANY_LINE)),
        }
    }

    fn log(&mut self, line: usize, items: &[&[u8]]) -> Result<(), PolicyError> {
        let (key, url) = match items {
            [key] => (key, None),
            [key, url] => (key, Some(url)),
            _ => return Err(expected(line, LOG)),
        };
        if self.logs.len() == MAX_EACH {
            return Err(PolicyError::TooMany { line, what: "logs" });
        }
        let key = log_key(line, key)?;
        // "Two vkeys are considered duplicate if they wrap the same underlying public key".
        if self
            .logs
            .iter()
            .any(|log| log.key.public_key() == key.public_key())
        {
            return Err(PolicyError::Key { line });
        }
        let url = url.map(|url| lossy(url));
        self.logs.push(PolicyLog { key, url });
        Ok(())
    }

    fn witness(&mut self, line: usize, items: &[&'a [u8]]) -> Result<(), PolicyError> {
        let (name, key, url) = match items {
            [name, key] => (*name, key, None),
            [name, key, url] => (*name, key, Some(url)),
            _ => return Err(expected(line, WITNESS)),
        };
        if self.witnesses.len() == MAX_EACH {
            let what = "witnesses";
            return Err(PolicyError::TooMany { line, what });
        }
        let cosigner = |source| PolicyError::Cosigner { line, source };
        let key: CosignerKey = text(key)
            .ok_or(CosignerError::Format)
            .and_then(str::parse)
            .map_err(cosigner)?;
        let known = self.witnesses.iter();
        if known
            .clone()
            .any(|one| one.key.public_key() == key.public_key())
        {
            return Err(PolicyError::Key { line });
        }
        self.define(line, name, Party::Witness(self.witnesses.len()))?;
        let url = url.map(|url| lossy(url));
        self.witnesses.push(PolicyWitness { key, url });
        Ok(())
    }

    fn group(&mut self, line: usize, items: &[&'a [u8]]) -> Result<(), PolicyError> {
        let [name, threshold, listed @ ..] = items else {
            return Err(expected(line, GROUP));
        };
        // "At least one member must be listed".
        if listed.is_empty() {
            return Err(expected(line, GROUP));
        }
        if self.groups == MAX_EACH {
            let what = "groups";
            return Err(PolicyError::TooMany { line, what });
        }
        let mut members = Vec::with_capacity(listed.len());
        for member in listed {
            let party = self.defined(line, member)?;
            // "Each defined name can be listed as a group member at most once."
            if !self.members.insert(party) {
                let name = lossy(member);
                return Err(PolicyError::Member { line, name });
            }
            members.push(party);
        }
        let threshold = match *threshold {
            b"any" => Some(1),
            b"all" => Some(members.len()),
            number => text(number)
                .and_then(parse_decimal)
                .and_then(|number| usize::try_from(number).ok())
                .filter(|number| (1..=members.len()).contains(number)),
        };
        let members_listed = members.len();
        let threshold = threshold.ok_or(PolicyError::Threshold {
            line,
            members: members_listed,
        })?;
        self.define(line, name, Party::Group { threshold, members })?;
        self.groups += 1;
        Ok(())
    }

    fn quorum(&mut self, line: usize, items: &[&[u8]]) -> Result<(), PolicyError> {
        let [name] = items else {
            return Err(expected(line, QUORUM));
        };
        if self.quorum.is_some() {
            return Err(PolicyError::SecondQuorum { line });
        }
        let party = if *name == NONE {
            None
        } else {
            Some(self.defined(line, name)?)
        };
        self.quorum = Some(party);
        Ok(())
    }

    /// "Witnesses and groups share a single namespace."
    fn define(&mut self, line: usize, name: &'a [u8], party: Party) -> Result<(), PolicyError> {
        if name == NONE || self.names.contains_key(name) {
            let name = lossy(name);
            return Err(PolicyError::Taken { line, name });
        }
        self.names.insert(name, self.parties.len());
        self.parties.push(party);
        Ok(())
    }

    fn defined(&self, line: usize, name: &[u8]) -> Result<usize, PolicyError> {
        self.names.get(name).copied().ok_or_else(|| {
            let name = lossy(name);
            PolicyError::Unknown { line, name }
        })
    }
}

/// By its type byte; what is no key at all is refused as a log's usual one.
fn log_key(line: usize, item: &[u8]) -> Result<LogKey, PolicyError> {
    let log = |source| PolicyError::Log { line, source };
    let key = text(item).ok_or_else(|| log(KeyError::Format))?;
    let kind = vkey(key).and_then(|(_name, _id, typed)| typed.first().copied());
    match kind {
        Some(0x04 | 0x06) => key
            .parse()
            .map(LogKey::Cosigner)
            .map_err(|source| PolicyError::Cosigner { line, source }),
        _ => key.parse().map(LogKey::Note).map_err(log),
    }
}

const fn expected(line: usize, expected: &'static str) -> PolicyError {
    PolicyError::Line { line, expected }
}

fn text(item: &[u8]) -> Option<&str> {
    std::str::from_utf8(item).ok()
}

fn lossy(item: &[u8]) -> String {
    String::from_utf8_lossy(item).into_owned()
}
