//! Names of prepared statements, portals and cursors, and what they lead to.
//!
//! What a name leads to upstream is known only once the server has answered: a failed message is
//! skipped with all that follow it until Sync. So a definition counts as confirmed when the server
//! says so; `relay::lookup` says what a name leads to while definitions are in flight.

use crate::statement::Statement;
use std::collections::HashMap;
use std::sync::Arc;

/// Longest name that PostgreSQL tells apart (`NAMEDATALEN` - 1). It cuts a longer one without a word,
/// in the protocol as in SQL, so that two of them may be one.
pub(crate) const MAX_NAME: usize = 63;
/// Names of one kind in one session. A client that opens more is ended.
const MOST: usize = 10_000;
/// Bytes of text that the names of one kind in one session keep. Large statements are few.
const MOST_BYTES: usize = 16 << 20;

#[derive(Default)]
pub(crate) struct Names {
    confirmed: HashMap<Box<str>, Named>,
    bytes: usize,
}

struct Named {
    statement: Arc<Statement>,
    /// `DECLARE … WITH HOLD`: outlives its transaction.
    holds: bool,
}

impl Names {
    pub(crate) fn confirmed(&self, name: &str) -> Option<&Arc<Statement>> {
        self.confirmed.get(name).map(|named| &named.statement)
    }

    /// False when there are too many, or they are too long.
    pub(crate) fn confirm(
        &mut self,
        name: Box<str>,
        statement: Arc<Statement>,
        holds: bool,
    ) -> bool {
        self.remove(&name);
        self.bytes += statement.size();
        self.confirmed.insert(name, Named { statement, holds });
        self.confirmed.len() <= MOST && self.bytes <= MOST_BYTES
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(named) = self.confirmed.remove(name) {
            self.bytes -= named.statement.size();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.confirmed.clear();
        self.bytes = 0;
    }

    /// The transaction is over, and with it every portal but those that outlive it.
    pub(crate) fn end_transaction(&mut self) {
        if self.confirmed.is_empty() {
            return;
        }
        self.confirmed.retain(|_, named| named.holds);
        self.bytes = self
            .confirmed
            .values()
            .map(|named| named.statement.size())
            .sum();
    }
}
