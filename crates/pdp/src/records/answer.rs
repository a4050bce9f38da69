//! An answer, part by part: lines in an order that is the same each time, and where to go on.
//!
//! ```text
//! search    places in the ledgers, read as they are asked for; a cursor is a place
//! others    rows, found once and sorted by what names each; a cursor is the name of the last one that was told
//! ```
//! All parts of a stream are up to the same heads. A later request is up to the heads of its own time: what came
//! meanwhile is told if it stands behind the cursor.

use super::question::Question;
use super::{bad_cursor, refused};
use crate::ask::proposed;
use crate::question::Refused;
use facts::Finding;
use ledger::{Receipt, Record};
use record_index::{Filter, Page, Site, TimeRange};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Bytes of a cursor: the longest names that a record holds, twice.
const LONGEST: usize = 64 << 10;

/// Lines, and what names the last of them if there are more.
#[derive(Debug, Default)]
pub struct Part {
    pub lines: Vec<Value>,
    pub next: Option<String>,
}

/// By what rows are sorted, and a cursor names one.
type Key = Vec<String>;

struct Row {
    key: Key,
    line: Value,
}

enum Rest {
    Rows(VecDeque<Row>),
    Search {
        filter: Box<Filter>,
        ledger: String,
        receipts: bool,
        /// Where to go on.
        from: Option<String>,
        over: bool,
    },
}

/// An open answer. Blocks on files: it belongs on a thread for that.
pub struct Answer {
    site: Site,
    digest: String,
    rest: Rest,
    summary: Value,
}

impl Answer {
    /// Opens the folders for reading, brings the indices in `indices` up to their ledgers, and finds what is asked.
    ///
    /// # Errors
    /// The codes of `record-index`, `QUESTION-CURSOR`, `QUESTION-ESTATE`.
    pub fn open(
        folders: &[PathBuf],
        indices: &Path,
        question: Question,
        digest: &str,
        after: Option<&str>,
    ) -> Result<Self, Refused> {
        let after = after.map(|cursor| key_of(cursor, digest)).transpose()?;
        let mut site = open(folders, indices)?;
        site.catch_up().map_err(refused)?;
        let (rest, summary) = match question {
            Question::Search {
                filter,
                ledger,
                receipts,
            } => {
                let from = match after.as_deref() {
                    None => None,
                    Some([place]) => Some(place.clone()),
                    Some(_) => return Err(bad_cursor("names no place")),
                };
                let rest = Rest::Search {
                    filter,
                    ledger,
                    receipts,
                    from,
                    over: false,
                };
                // An answer that leaves out what is gone says so.
                let gone = site.gone();
                let summary = if gone.is_empty() {
                    json!({})
                } else {
                    json!({ "gone": gone })
                };
                (rest, summary)
            }
            other => {
                let (mut rows, summary) = rows(&site, other)?;
                rows.sort_by_cached_key(|row| (row.key.clone(), row.line.to_string()));
                tell_apart(&mut rows);
                if let Some(after) = after {
                    rows.retain(|row| row.key > after);
                }
                (Rest::Rows(rows.into()), summary)
            }
        };
        Ok(Self {
            site,
            digest: digest.to_owned(),
            rest,
            summary,
        })
    }

    /// The next lines, `limit` at most.
    ///
    /// # Errors
    /// The codes of `record-index`.
    pub fn part(&mut self, limit: usize) -> Result<Part, Refused> {
        let mut part = Part::default();
        match &mut self.rest {
            Rest::Rows(rows) => {
                let mut last = None;
                while part.lines.len() < limit
                    && let Some(row) = rows.pop_front()
                {
                    part.lines.push(row.line);
                    last = Some(row.key);
                }
                part.next = last
                    .filter(|_| !rows.is_empty())
                    .map(|key| cursor(&self.digest, &key));
            }
            Rest::Search { over: true, .. } => {}
            Rest::Search {
                filter,
                ledger,
                receipts,
                from,
                over,
            } => {
                let page = Page {
                    ledger,
                    from: 0,
                    cursor: from.as_deref(),
                    limit: Some(limit as u64),
                    receipts: *receipts,
                };
                let searched = record_index::search(&self.site, filter, &page, |hit| {
                    part.lines.push(json!({"record": {
                        "ledger": hit.ledger,
                        "index": hit.index,
                        "record": told(&hit.record),
                        "receipt": hit.receipt.as_ref().map(proof),
                    }}));
                    ControlFlow::Continue(())
                });
                let searched = searched.map_err(refused)?;
                part.next = searched
                    .more
                    .as_ref()
                    .map(|place| cursor(&self.digest, std::slice::from_ref(place)));
                *over = searched.more.is_none();
                *from = searched.more;
            }
        }
        Ok(part)
    }

    /// Up to which head of each ledger.
    #[must_use]
    pub fn searched(&self) -> Value {
        let heads = self.site.sources().iter().map(|source| {
            let head = source.head();
            json!({
                "ledger": source.name, "origin": head.checkpoint.origin.as_str(),
                "size": head.checkpoint.size, "checkpoint": head.note.as_ref(),
            })
        });
        heads.collect()
    }

    /// What is said once of the whole.
    #[must_use]
    pub const fn summary(&self) -> &Value {
        &self.summary
    }
}

fn open(folders: &[PathBuf], indices: &Path) -> Result<Site, Refused> {
    std::fs::create_dir_all(indices).map_err(|error| Refused {
        status: 503,
        finding: Finding::new("RECORDS-INDEX", "the folder of indices cannot be made")
            .observed(format!("{}: {error}", indices.display()))
            .next("name one that this process may write to as `index` under [records] in pdp.toml"),
    })?;
    let mut site: Option<Site> = None;
    for folder in folders {
        let opened = Site::open(folder, Some(indices)).map_err(refused)?;
        match &mut site {
            None => site = Some(opened),
            Some(site) => site.join(opened).map_err(refused)?,
        }
    }
    site.ok_or_else(unconfigured)
}

/// There are no records here to ask.
pub(super) fn unconfigured() -> Refused {
    Refused::unknown(
        Finding::new(
            "QUESTION-NO-RECORDS",
            "this decision point has no records to ask",
        )
        .expected("[records] with `folders` in pdp.toml")
        .next(
            "name the data_dir of a server or gateway there, or ask with trilith on that machine",
        ),
    )
}

fn rows(site: &Site, question: Question) -> Result<(Vec<Row>, Value), Refused> {
    let mut rows = Vec::new();
    let summary = match question {
        Question::Accesses { asked, receipts } => {
            for row in record_index::accesses(site, &asked, receipts).map_err(refused)? {
                let mut line = json!(row);
                if let (Value::Object(members), Some(both)) = (&mut line, &row.receipts) {
                    let both = [proof(&both.0), proof(&both.1)];
                    members.insert("receipts".to_owned(), json!(both));
                }
                let key = vec![
                    row.ledger,
                    row.identity,
                    row.resource,
                    row.action,
                    row.allowed.to_string(),
                    row.on_behalf_of.join(","),
                    row.claimed_on_behalf_of.join(","),
                ];
                rows.push(Row {
                    key,
                    line: json!({ "access": line }),
                });
            }
            json!({})
        }
        Question::History { about, receipts } => {
            let history = record_index::history(site, &about, receipts).map_err(refused)?;
            for change in &history.changes {
                let mut line = json!(change);
                if let (Value::Object(members), Some(receipt)) = (&mut line, &change.receipt) {
                    members.insert("receipt".to_owned(), json!(proof(receipt)));
                }
                rows.push(Row {
                    key: vec![number(change.record)],
                    line: json!({ "change": line }),
                });
            }
            json!({
                "now": history.now, "since": history.since, "versions": history.versions,
                "unread": history.unread,
            })
        }
        Question::Unused { since } => {
            let estate = record_index::in_force(site).map_err(refused)?;
            let estate = estate.ok_or_else(no_estate)?;
            let window = TimeRange {
                since: Some(since),
                until: None,
            };
            let unused = record_index::unused(site, &estate, window).map_err(refused)?;
            for policy in &unused.policies {
                rows.push(Row {
                    key: vec!["policy".to_owned(), policy.policy.id.clone()],
                    line: json!({ "policy": policy }),
                });
            }
            for grant in &unused.grants {
                let names = [&grant.identity, &grant.action, &grant.resource];
                let names = names.into_iter().cloned();
                rows.push(Row {
                    key: std::iter::once("grant".to_owned()).chain(names).collect(),
                    line: json!({ "grant": grant }),
                });
            }
            json!({
                "estate": unused.estate, "granted": unused.granted, "observed": unused.observed,
                "observed_since": unused.observed_since, "errors": unused.errors, "since": since,
            })
        }
        Question::Replay { files, times } => {
            let proposed = proposed(&files)?;
            let replayed = record_index::replay(site, &proposed, times).map_err(refused)?;
            for one in &replayed.changed {
                let which = word(&one.change);
                let names = ["changed", &which, &one.ledger, &one.identity];
                let others = [&one.on_behalf_of, &one.claimed_on_behalf_of];
                rows.push(Row {
                    key: named(names, [&one.action, &one.resource], others),
                    line: json!({ "changed": one }),
                });
            }
            for one in &replayed.not_replayed {
                let names = ["not", "", &one.ledger, &one.identity];
                let others = [&one.on_behalf_of, &one.claimed_on_behalf_of];
                rows.push(Row {
                    key: named(names, [&one.action, &one.resource], others),
                    line: json!({ "not_replayed": one }),
                });
            }
            json!({
                "in_force": replayed.in_force, "proposed": replayed.proposed, "same": replayed.same,
            })
        }
        Question::Search { .. } => json!({}),
    };
    Ok((rows, summary))
}

/// A cursor names one row: those of one name are numbered.
fn tell_apart(rows: &mut [Row]) {
    let mut before: (Key, u64) = (Key::new(), 0);
    for row in rows {
        if row.key == before.0 {
            before.1 += 1;
        } else {
            before = (row.key.clone(), 0);
        }
        row.key.push(number(before.1));
    }
}

fn no_estate() -> Refused {
    Refused {
        status: 503,
        finding: Finding::new(
            "RECORDS-NO-ESTATE",
            "no estate in force is found in the folders of this decision point",
        )
        .expected("the server's data_dir, with `blobs` in it, among `folders` under [records]")
        .next("add it to pdp.toml"),
    }
}

fn word<T: Serialize>(one: &T) -> String {
    json!(one).as_str().unwrap_or_default().to_owned()
}

fn named(names: [&str; 4], what: [&String; 2], others: [&Vec<String>; 2]) -> Key {
    let names = names.into_iter().map(str::to_owned);
    let others = others.map(|ids| ids.join(","));
    names.chain(what.map(String::clone)).chain(others).collect()
}

/// As texts are compared.
fn number(number: u64) -> String {
    format!("{number:020}")
}

/// As c2sp.org/tlog-proof has it.
fn proof(receipt: &Receipt) -> String {
    receipt.to_proof_file().to_string()
}

/// A record as JSON; one that this version cannot read as its bytes.
fn told(bytes: &[u8]) -> Value {
    let read = Record::parse(bytes).is_ok();
    let whole = serde_json::from_slice(bytes).ok().filter(|_| read);
    whole.unwrap_or_else(|| json!({ "unreadable": crypto::base64::encode(bytes) }))
}

fn cursor(digest: &str, key: &[String]) -> String {
    let whole = json!([digest, key]).to_string();
    crypto::hex::encode(whole.as_bytes())
}

fn key_of(cursor: &str, digest: &str) -> Result<Key, Refused> {
    if cursor.len() > LONGEST {
        return Err(bad_cursor("is too long"));
    }
    let bytes = crypto::hex::decode(cursor).map_err(|_| bad_cursor("is no cursor"))?;
    let read: Result<(String, Key), _> = serde_json::from_slice(&bytes);
    let (of, key) = read.map_err(|_| bad_cursor("is no cursor"))?;
    if of != digest {
        return Err(bad_cursor("is of another question"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_name_are_told_apart() {
        let row = |name: &str| Row {
            key: vec![name.to_owned()],
            line: json!({}),
        };
        let mut rows = vec![row("a"), row("b"), row("b"), row("c")];
        tell_apart(&mut rows);
        let mut keys: Vec<_> = rows.into_iter().map(|row| row.key).collect();
        let told = keys.clone();
        keys.dedup();
        assert_eq!(keys, told);
        assert!(told.is_sorted());
    }

    #[test]
    fn a_cursor_counts_for_its_question_alone() {
        let key = vec!["ä,\"".to_owned(), String::new()];
        let cursor = cursor("0123", &key);
        assert_eq!(key_of(&cursor, "0123").unwrap(), key);
        for (text, of) in [
            (cursor.as_str(), "4567"),
            ("zz", "0123"),
            ("", "0123"),
            ("5b5d", "0123"),
            (&"00".repeat(LONGEST), "0123"),
        ] {
            let refused = key_of(text, of).unwrap_err();
            assert_eq!(refused.finding.code, "QUESTION-CURSOR", "{text}");
        }
    }
}
