//! The node agent: joins the machine, attests workloads, and serves them their identities.
//!
//! What it is not: an authority. It holds the node's own identity and the keys that it made for local
//! workloads, and everything that it asserts about them counts only on machines that a policy names.
//!
//! ```text
//! Workload API ── source ── attestor (device, attest-code)
//!                   │
//!                shared ── workloads (the core, no I/O)
//!                   │
//!                  sync ── the server
//! ```

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

mod attesting;
mod attestor;
pub mod client;
mod config;
pub mod delegate;
mod enclave;
mod enforcing;
mod hardware;
mod health;
pub mod helper;
mod helper_service;
mod identity;
mod join;
mod local;
mod measured;
mod metrics;
mod node_state;
mod receipts;
mod run;
mod sealed;
mod shared;
mod source;
mod sync;
mod trust;
mod witnessed;
mod workloads;

pub use device::memory::hide;

pub use config::{
    AgentConfig, ConfigError, EnclaveConfig, JoinConfig, Paravisor, SealConfig, TeeConfig, Token,
    WitnessesConfig,
};
pub use identity::IdentityError;
pub use join::JoinError;
pub use local::{Known, LocalCallers};
pub use node_state::StateError;
pub use run::{RunError, run, run_beside, runtime};
