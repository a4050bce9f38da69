//! Questions to records, for programs: `search`, `accesses`, `history`, `unused` and `replay`, without HTTP. What
//! their bodies say, and what an answer is made of.
//!
//! What the records say is for `record-index` to find out. Here it becomes lines, in an order that is the same each
//! time, so that an answer can be cut anywhere and gone on with.

mod answer;
mod question;
mod serve;

pub use answer::Answer;
pub use question::{AccessesBody, HistoryBody, Question, ReplayBody, SearchBody, UnusedBody};
pub(crate) use serve::routes;

use crate::question::Refused;
use facts::Finding;
use record_index::Error;
use serde_json::{Value, json};

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Search,
    Accesses,
    History,
    Unused,
    Replay,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Search,
        Self::Accesses,
        Self::History,
        Self::Unused,
        Self::Replay,
    ];

    /// As the command line has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Accesses => "accesses",
            Self::History => "history",
            Self::Unused => "unused",
            Self::Replay => "replay",
        }
    }

    /// Where it is asked.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Search => "/ask/v1/search",
            Self::Accesses => "/ask/v1/accesses",
            Self::History => "/ask/v1/history",
            Self::Unused => "/ask/v1/unused",
            Self::Replay => "/ask/v1/replay",
        }
    }
}

/// What a line may be, for the document.
pub(crate) fn shape() -> Value {
    let lines = [
        (
            "record",
            "A record with `ledger`, `index` and, if asked for, `receipt`",
        ),
        (
            "access",
            "Who did what to what, on whose behalf, how often, first and last",
        ),
        (
            "change",
            "A version in which something about it became other than before",
        ),
        ("policy", "A permit by which nothing was allowed"),
        ("grant", "An access that is granted and was not seen"),
        (
            "changed",
            "Accesses alike that would have been decided otherwise",
        ),
        (
            "not_replayed",
            "Accesses alike that cannot be decided again, and why",
        ),
    ];
    let one = lines.map(|(name, what)| {
        json!({
            "type": "object", "required": [name],
            "properties": {name: {"type": "object", "description": what}},
        })
    });
    json!({"oneOf": one})
}

/// An answer that there is none, for HTTP.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
pub(crate) fn refused(error: Error) -> Refused {
    let finding = error.finding();
    let status = match &error {
        Error::Ledger(_) | Error::Index(_) | Error::NoLedger(_) => 503,
        Error::Lied(_) => 500,
        Error::Refused(_) => match finding.code.as_ref() {
            "LEDGER-UNKNOWN" => 404,
            "RECORDS-NEEDS-SERVER" => 503,
            _ => 400,
        },
    };
    Refused { status, finding }
}

fn bad_cursor(what: &str) -> Refused {
    Refused::malformed(
        Finding::new("QUESTION-CURSOR", format!("`after` {what}"))
            .expected("`next` of an answer to the same question")
            .next("ask again from the beginning, without `after`"),
    )
}
