//! Asking the index which records are about all of some things.

use super::write::name_of;
use super::{Dimension, RecordIndex, number, stored};
use crate::Error;
use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, params, params_from_iter};
use std::fmt::Write as _;

/// One of these terms has to be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    pub dimension: Dimension,
    pub terms: Terms,
}

/// How terms are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Terms {
    /// As records write them, or by what people call them.
    Named(Vec<String>),
    /// What people call them begins with this, `shop/public/`, or is one of these.
    Under(String, Vec<String>),
}

impl Clause {
    /// Whether a term meets it: the one definition, by which a scan of the ledger is judged as well.
    #[must_use]
    pub fn is_met_by(&self, dimension: Dimension, text: &str) -> bool {
        dimension == self.dimension
            && match &self.terms {
                Terms::Named(names) => {
                    let name = name_of(dimension, text);
                    names.iter().any(|one| one == text || one == name)
                }
                Terms::Under(prefix, or) => {
                    let name = name_of(dimension, text);
                    name.starts_with(prefix.as_str()) || or.iter().any(|one| one == text)
                }
            }
    }
}

/// Unix milliseconds; `until` is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeRange {
    pub since: Option<u64>,
    pub until: Option<u64>,
}

impl TimeRange {
    #[must_use]
    pub fn holds(&self, time: u64) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }

    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.since.is_none() && self.until.is_none()
    }
}

/// A record that meets every clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matched {
    pub record: u64,
    pub time: u64,
}

impl RecordIndex {
    /// Records from `from` on, before `end`, that meet every clause and lie in `times`: the first `limit`.
    pub fn matching(
        &self,
        clauses: &[Clause],
        times: TimeRange,
        from: u64,
        end: u64,
        limit: u64,
    ) -> Result<Vec<Matched>, Error> {
        self.ask(clauses, times, from, end, limit)
            .map_err(Error::Load)
    }

    fn ask(
        &self,
        clauses: &[Clause],
        times: TimeRange,
        from: u64,
        end: u64,
        limit: u64,
    ) -> rusqlite::Result<Vec<Matched>> {
        let Some((from, end)) = self.within(times, from, end)? else {
            return Ok(Vec::new());
        };
        let mut terms = Vec::with_capacity(clauses.len());
        for clause in clauses {
            let found = self.terms(clause)?;
            if found.0.is_empty() {
                return Ok(Vec::new());
            }
            terms.push(found);
        }
        // The rarest leads: its records are looked up in the lists of the others.
        terms.sort_by_key(|(_, count)| *count);
        let (sql, values) = statement(&terms, times, from, end, limit);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params_from_iter(values), |row| {
            Ok(Matched {
                record: number(row.get(0)?),
                time: number(row.get(1)?),
            })
        })?;
        rows.collect()
    }

    /// The part of the range in which records of these times can be. Clocks step, so blocks need not be in
    /// order of time; whether each record's own time fits is asked of it.
    fn within(
        &self,
        times: TimeRange,
        from: u64,
        end: u64,
    ) -> rusqlite::Result<Option<(u64, u64)>> {
        if times.is_all() {
            return Ok((from < end).then_some((from, end)));
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT min(block), max(block) FROM blocks WHERE latest >= ?1 AND earliest < ?2",
        )?;
        let since = times.since.map_or(0, stored);
        let until = times.until.map_or(i64::MAX, stored);
        let row = statement.query_row([since, until], |row| {
            Ok(row
                .get::<_, Option<i64>>(0)?
                .zip(row.get::<_, Option<i64>>(1)?))
        })?;
        Ok(row.and_then(|(first, last)| {
            let from = from.max(number(first).saturating_mul(256));
            let end = end.min(number(last).saturating_add(1).saturating_mul(256));
            (from < end).then_some((from, end))
        }))
    }

    /// The numbers of a clause's terms, and how many records they have in all.
    pub(super) fn terms(&self, clause: &Clause) -> rusqlite::Result<(Vec<i64>, u64)> {
        let mut found: Vec<i64> = Vec::new();
        let mut count = 0;
        let mut take = |id: i64, records: i64| {
            if !found.contains(&id) {
                found.push(id);
                count += number(records);
            }
        };
        let dimension = clause.dimension as u8;
        let (names, prefix) = match &clause.terms {
            Terms::Named(names) => (names, None),
            Terms::Under(prefix, or) => (or, Some(prefix)),
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT id, count FROM dictionary WHERE dimension = ?1 AND text = ?2
             UNION SELECT id, count FROM dictionary WHERE dimension = ?1 AND name = ?2",
        )?;
        for name in names {
            let mut rows = statement.query(params![dimension, name])?;
            while let Some(row) = rows.next()? {
                take(row.get(0)?, row.get(1)?);
            }
        }
        if let Some(prefix) = prefix {
            // From the prefix on, as long as names begin with it: names are compared by their bytes.
            let mut statement = self.connection.prepare_cached(
                "SELECT id, count, name FROM dictionary WHERE dimension = ?1 AND name >= ?2 ORDER BY name",
            )?;
            let mut rows = statement.query(params![dimension, prefix])?;
            while let Some(row) = rows.next()? {
                let name: String = row.get(2)?;
                if !name.starts_with(prefix.as_str()) {
                    break;
                }
                take(row.get(0)?, row.get(1)?);
            }
        }
        Ok((found, count))
    }

    /// The texts of a dimension that begin with `prefix`, each with the last record before `end` that has it.
    pub fn newest(
        &self,
        dimension: Dimension,
        prefix: &str,
        end: u64,
    ) -> Result<Vec<(String, u64)>, Error> {
        let asked = || {
            let mut texts = self.connection.prepare_cached(
                "SELECT text, id FROM dictionary WHERE dimension = ?1 AND text >= ?2 ORDER BY text",
            )?;
            let mut last = self.connection.prepare_cached(
                "SELECT max(record) FROM postings WHERE term = ?1 AND record < ?2",
            )?;
            let mut found = Vec::new();
            let mut rows = texts.query(params![dimension as u8, prefix])?;
            while let Some(row) = rows.next()? {
                let text: String = row.get(0)?;
                if !text.starts_with(prefix) {
                    break;
                }
                let term: i64 = row.get(1)?;
                let record: Option<i64> = last.query_row([term, stored(end)], |row| row.get(0))?;
                found.extend(record.map(|record| (text, number(record))));
            }
            Ok(found)
        };
        asked().map_err(Error::Load)
    }

    /// What was kept of a session when it began: where, and its terms.
    pub fn session(&self, session: &str) -> Result<Option<(u64, String)>, Error> {
        let asked = || {
            let mut statement = self
                .connection
                .prepare_cached("SELECT record, terms FROM sessions WHERE session = ?1")?;
            let row = statement.query_row([session], |row| {
                Ok((number(row.get(0)?), row.get::<_, String>(1)?))
            });
            row.optional()
        };
        asked().map_err(Error::Load)
    }
}

/// One statement for each shape of a question, so that it is prepared once.
fn statement(
    terms: &[(Vec<i64>, u64)],
    times: TimeRange,
    from: u64,
    end: u64,
    limit: u64,
) -> (String, Vec<Value>) {
    let mut values = vec![
        Value::Integer(stored(from)),
        Value::Integer(stored(end)),
        Value::Integer(stored(limit)),
        Value::Integer(times.since.map_or(0, stored)),
        Value::Integer(times.until.map_or(i64::MAX, stored)),
    ];
    let mut place = |terms: &[i64]| match terms {
        [one] => {
            values.push(Value::Integer(*one));
            format!("= ?{}", values.len())
        }
        many => {
            // Numbers only: there is nothing in them to be quoted.
            let list: Vec<String> = many.iter().map(ToString::to_string).collect();
            values.push(Value::Text(format!("[{}]", list.join(","))));
            format!("IN (SELECT value FROM json_each(?{}))", values.len())
        }
    };
    let mut sql = match terms.split_first() {
        None => "SELECT r.record, r.time FROM records r WHERE r.record >= ?1 AND r.record < ?2"
            .to_owned(),
        Some(((first, _), more)) => {
            let several = if first.len() == 1 { "" } else { "DISTINCT " };
            let mut sql = format!(
                "SELECT {several}r.record, r.time FROM postings p CROSS JOIN records r ON r.record = p.record \
                 WHERE p.term {} AND p.record >= ?1 AND p.record < ?2",
                place(first)
            );
            for (terms, _) in more {
                // Writing to a string cannot fail.
                let _ = write!(
                    sql,
                    " AND EXISTS (SELECT 1 FROM postings o WHERE o.term {} AND o.record = p.record)",
                    place(terms)
                );
            }
            sql
        }
    };
    sql.push_str(" AND r.time >= ?4 AND r.time < ?5 ORDER BY 1 LIMIT ?3");
    (sql, values)
}
