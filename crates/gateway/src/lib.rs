//! Connection, identity, decision, intent, forward, outcome: the protocol-neutral core of every gateway.
//!
//! ```text
//! server ─deltas→ Following ─┬─ bundle, revocations, checkpoints → admit → Principal
//!                            └─ estate → decide → Recorder (intent … outcome) → own ledger ─head→ server
//! ```
//! Nothing here calls the server on the way of a request: what is needed was pushed before. What a
//! particular protocol says is the business of `gateway-postgres` and its like.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod admission;
mod chain;
mod config;
mod core;
mod delegated;
mod follow;
mod lineage;
mod metrics;
mod new_log;
mod own;
mod recorder;
mod recovery;
pub mod retention;
mod revocations;
mod sessions;
mod told;

pub use admission::Principal;
pub use chain::{Chain, Place};
pub use config::{Config, Witnesses};
pub use core::{Core, CoreError};
pub use delegated::{Delegated, DelegatedLink, Shown};
pub use follow::{Current, Following, Questions, Step, Watch};
pub use metrics::{Metrics, serve as serve_metrics};
pub use new_log::{NewLog, new_log};
pub use own::OwnIdentity;
pub use recorder::{
    Answered, DecisionId, Ending, IntentId, Operation, Recorder, RecordingStopped, SessionRecorder,
};
pub use revocations::Revocations;
pub use sessions::{Cut, CutReason, SessionHandle, Sessions};
pub use told::{Delegation, Told};
