//! Adding records to the index: many a transaction, and only right behind what is there.

use super::{Applied, Dimension, KNOWN, RecordIndex, applied, stored};
use crate::Error;
use rusqlite::{Transaction, TransactionBehavior, params};
use std::collections::{BTreeMap, HashMap};

/// One record: where it is, when it was made and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    pub record: u64,
    /// Unix milliseconds.
    pub time: u64,
    pub terms: Vec<(Dimension, String)>,
}

/// A session that began for the first time, with the terms that all its records have: as text that `record-index` wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionTerm {
    pub session: String,
    pub record: u64,
    pub terms: String,
}

/// Somebody did something to something, or an outcome of that became known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UseDelta {
    pub identity: String,
    pub resource: String,
    pub action: String,
    pub allowed: bool,
    /// On whose behalf, who began it first: SPIFFE IDs with commas between them. Empty of one who acts for itself.
    pub on_behalf_of: String,
    /// Whether delegation tokens showed it.
    pub proven: bool,
    /// Record of the server's ledger by which the identity was issued. Last: what differs by it alone stands
    /// side by side.
    pub issuance: Option<u64>,
}

/// What follows from some records in a row.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub entries: Vec<Entry>,
    pub sessions: Vec<SessionTerm>,
    /// Who did what, in order, with record and time.
    pub uses: Vec<(UseDelta, u64, u64)>,
    /// Outcomes of uses: true if it succeeded.
    pub outcomes: Vec<(UseDelta, bool)>,
    /// Policies that allowed something, in order, with record and time.
    pub policies: Vec<(String, u64, u64)>,
}

struct Sum {
    count: i64,
    succeeded: i64,
    failed: i64,
    first: (u64, u64),
    last: (u64, u64),
}

impl Sum {
    const fn none() -> Self {
        Self {
            count: 0,
            succeeded: 0,
            failed: 0,
            first: (0, 0),
            last: (0, 0),
        }
    }

    const fn see(&mut self, at: (u64, u64)) {
        if self.count == 0 {
            self.first = at;
        }
        self.last = at;
        self.count += 1;
    }
}

impl RecordIndex {
    /// Adds `batch`, which leads from the first `before` records to `after`. False if somebody else has
    /// changed the index meanwhile: nothing was added then.
    pub fn absorb(&mut self, before: u64, after: &Applied, batch: &Batch) -> Result<bool, Error> {
        if self.known.len() > KNOWN {
            self.known.clear();
        }
        let known = std::mem::take(&mut self.known);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(Error::Write)?;
        let mut writer = Writer {
            transaction: &transaction,
            known,
            counts: BTreeMap::new(),
        };
        let written = writer.write(before, after, batch).map_err(Error::Write);
        let known = writer.known;
        if written? {
            transaction.commit().map_err(Error::Write)?;
            self.known = known;
            return Ok(true);
        }
        Ok(false)
    }
}

struct Writer<'a> {
    transaction: &'a Transaction<'a>,
    known: HashMap<(u8, String), i64>,
    /// By term, how many records more have it.
    counts: BTreeMap<i64, i64>,
}

impl Writer<'_> {
    fn write(&mut self, before: u64, after: &Applied, batch: &Batch) -> rusqlite::Result<bool> {
        let held = applied(self.transaction)?.map_or(0, |held| held.size);
        if held != before {
            return Ok(false);
        }
        self.entries(&batch.entries)?;
        self.sessions(&batch.sessions)?;
        self.uses(batch)?;
        self.policies(&batch.policies)?;
        self.counted()?;
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO applied (one, origin, size, root) VALUES (1, ?1, ?2, ?3)
             ON CONFLICT (one) DO UPDATE SET origin = ?1, size = ?2, root = ?3",
        )?;
        statement.execute(params![after.origin, stored(after.size), after.root])?;
        Ok(true)
    }

    fn entries(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let mut postings = Vec::with_capacity(entries.len() * 8);
        let mut blocks: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut statement = self
            .transaction
            .prepare_cached("INSERT INTO records (record, time) VALUES (?1, ?2)")?;
        for entry in entries {
            statement.execute([stored(entry.record), stored(entry.time)])?;
            let block = blocks.entry(entry.record / 256);
            let (earliest, latest) = block.or_insert((entry.time, entry.time));
            *earliest = entry.time.min(*earliest);
            *latest = entry.time.max(*latest);
            for (dimension, text) in &entry.terms {
                postings.push((self.term(*dimension, text)?, stored(entry.record)));
            }
        }
        // In the order of the table: pages are touched once a batch.
        postings.sort_unstable();
        postings.dedup();
        let mut statement = self
            .transaction
            .prepare_cached("INSERT INTO postings (term, record) VALUES (?1, ?2)")?;
        for (term, record) in postings {
            statement.execute([term, record])?;
            *self.counts.entry(term).or_default() += 1;
        }
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO blocks (block, earliest, latest) VALUES (?1, ?2, ?3) ON CONFLICT (block)
             DO UPDATE SET earliest = min(earliest, ?2), latest = max(latest, ?3)",
        )?;
        for (block, (earliest, latest)) in blocks {
            statement.execute([stored(block), stored(earliest), stored(latest)])?;
        }
        Ok(())
    }

    fn sessions(&self, sessions: &[SessionTerm]) -> rusqlite::Result<()> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT OR IGNORE INTO sessions (session, record, terms) VALUES (?1, ?2, ?3)",
        )?;
        for session in sessions {
            statement.execute(params![
                session.session,
                stored(session.record),
                session.terms
            ])?;
        }
        Ok(())
    }

    fn uses(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let mut sums: BTreeMap<&UseDelta, Sum> = BTreeMap::new();
        for (delta, record, time) in &batch.uses {
            let sum = sums.entry(delta).or_insert_with(Sum::none);
            sum.see((*record, *time));
        }
        for (delta, succeeded) in &batch.outcomes {
            let sum = sums.entry(delta).or_insert_with(Sum::none);
            *(if *succeeded {
                &mut sum.succeeded
            } else {
                &mut sum.failed
            }) += 1;
        }
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO uses (identity, resource, action, allowed, issuance, count, succeeded, failed, first, first_time, last, last_time, chain, proven)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (identity, resource, action, allowed, issuance, chain, proven) DO UPDATE SET
               count = count + ?6, succeeded = succeeded + ?7, failed = failed + ?8,
               last = CASE WHEN ?6 > 0 THEN ?11 ELSE last END,
               last_time = CASE WHEN ?6 > 0 THEN ?12 ELSE last_time END",
        )?;
        for (delta, sum) in sums {
            let identity = self.term(Dimension::Identity, &delta.identity)?;
            let resource = self.term(Dimension::Resource, &delta.resource)?;
            let action = self.term(Dimension::Action, &delta.action)?;
            let chain = self.term(Dimension::Chain, &delta.on_behalf_of)?;
            statement.execute(params![
                identity,
                resource,
                action,
                delta.allowed,
                delta.issuance.map_or(-1, stored),
                sum.count,
                sum.succeeded,
                sum.failed,
                stored(sum.first.0),
                stored(sum.first.1),
                stored(sum.last.0),
                stored(sum.last.1),
                chain,
                delta.proven,
            ])?;
        }
        Ok(())
    }

    fn policies(&mut self, policies: &[(String, u64, u64)]) -> rusqlite::Result<()> {
        let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
        for (policy, record, time) in policies {
            let sum = sums.entry(policy).or_insert_with(Sum::none);
            sum.see((*record, *time));
        }
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO policies (policy, count, first, first_time, last, last_time) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (policy) DO UPDATE SET count = count + ?2, last = ?5, last_time = ?6",
        )?;
        for (policy, sum) in sums {
            let policy = self.term(Dimension::Policy, policy)?;
            statement.execute([
                policy,
                sum.count,
                stored(sum.first.0),
                stored(sum.first.1),
                stored(sum.last.0),
                stored(sum.last.1),
            ])?;
        }
        Ok(())
    }

    fn counted(&self) -> rusqlite::Result<()> {
        let mut statement = self
            .transaction
            .prepare_cached("UPDATE dictionary SET count = count + ?2 WHERE id = ?1")?;
        for (term, count) in &self.counts {
            statement.execute([term, count])?;
        }
        Ok(())
    }

    /// The number of a text, which gets one if it has none.
    fn term(&mut self, dimension: Dimension, text: &str) -> rusqlite::Result<i64> {
        let key = (dimension as u8, text.to_owned());
        if let Some(id) = self.known.get(&key) {
            return Ok(*id);
        }
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO dictionary (dimension, text, name, count) VALUES (?1, ?2, ?3, 0)
             ON CONFLICT (dimension, text) DO UPDATE SET count = count RETURNING id",
        )?;
        let name = name_of(dimension, text);
        let id = statement.query_row(params![key.0, text, name], |row| row.get(0))?;
        self.known.insert(key, id);
        Ok(id)
    }
}

/// What people call it: the path in `Table::"shop/public/cards"`, `m1` of a machine's SPIFFE ID.
pub(super) fn name_of(dimension: Dimension, text: &str) -> &str {
    match dimension {
        Dimension::Resource => text
            .split_once("::\"")
            .and_then(|(_, name)| name.strip_suffix('"'))
            .unwrap_or(text),
        Dimension::Machine => text
            .rsplit_once("/trilith/node/")
            .map_or(text, |(_, name)| name),
        _ => text,
    }
}
