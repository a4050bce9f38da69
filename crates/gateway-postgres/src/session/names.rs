//! Names of prepared statements, portals and cursors, and what they lead to.
//!
//! What a name leads to upstream is known only once the server has answered: a failed message is
//! skipped with all that follow it until Sync. So a definition counts as confirmed when the server
//! says so, and until then a name may lead to either: whoever uses it is decided for both.

use crate::statement::Statement;
use std::collections::HashMap;
use std::sync::Arc;

/// Names of one kind in one session. A client that opens more is ended.
const MOST: usize = 10_000;

#[derive(Default)]
pub(crate) struct Names {
    confirmed: HashMap<Box<str>, Arc<Statement>>,
}

impl Names {
    pub(crate) fn confirmed(&self, name: &str) -> Option<&Arc<Statement>> {
        self.confirmed.get(name)
    }

    /// False when there are too many.
    pub(crate) fn confirm(&mut self, name: Box<str>, statement: Arc<Statement>) -> bool {
        self.confirmed.insert(name, statement);
        self.confirmed.len() <= MOST
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.confirmed.remove(name);
    }

    pub(crate) fn clear(&mut self) {
        self.confirmed.clear();
    }
}
