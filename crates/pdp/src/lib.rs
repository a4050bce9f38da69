//! Decisions for everybody: the estate's answer to a question, over OpenID AuthZEN, over Envoy's `ext_authz`,
//! and in the process of whoever links this crate.
//!
//! ```text
//! request ─authzen, ext_authz→ Question ─Decider→ Answer ─recorded→ response
//! ```
//! The middle is pure: [`Question`], [`Decider`] and what stands in [`authzen`] and [`ext_authz`] open no
//! socket and read no clock. Around it, [`run`] is a gateway's core (own identity, followed estate, own
//! ledger) that forwards nothing: it answers, and each answer is durable before it goes out.

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

pub mod ask;
pub mod authzen;
mod callers;
mod check;
mod config;
mod connection;
mod decider;
mod delegation;
pub mod ext_authz;
mod front;
mod local;
mod metrics;
mod names;
mod question;
mod record;
pub mod records;
mod run;
mod service;

pub use callers::Right;
pub use config::{
    CallerConfig, Config, Delegation, ExtAuthzConfig, ListenConfig, ProcessConfig, RecordsConfig,
    RuleConfig, json_schema,
};
pub use decider::{Answer, Decider, Judge, Version};
pub use local::{Attest, Attested, Held, LocalConfig, OfAgent, local_json_schema};
pub use metrics::Metrics;
pub use names::{action, resource, subject};
pub use question::{Known, OnBehalfOf, Question, Refused};
pub use run::{RunError, run, run_beside, run_beside_with, run_with};
