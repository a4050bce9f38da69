//! What can be asked of a demo workload.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) command: Command,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Command {
    /// The SVID that is held now.
    Identity,
    /// Its certificates, base64 of DER, leaf first. They are public: every peer sees them.
    Chain,
    /// Opens the session; `config` is a libpq connection string, `server` the peer's SPIFFE ID.
    Connect {
        config: String,
        server: String,
    },
    /// Simple protocol.
    Query {
        sql: String,
    },
    /// Extended protocol: keeps the statement under `name`.
    Prepare {
        name: String,
        sql: String,
    },
    Execute {
        name: String,
    },
    /// `COPY … TO STDOUT`.
    CopyOut {
        sql: String,
    },
    /// Runs `sql` over and over for `milliseconds`, and counts.
    Load {
        sql: String,
        milliseconds: u64,
    },
    /// Waits until the session's socket is closed; reports the Unix time in milliseconds at which it saw that.
    AwaitClose {
        milliseconds: u64,
    },
    Close,
}
