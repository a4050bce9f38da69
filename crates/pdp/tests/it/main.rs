//! A decision point over its real listeners. The server and the node agent are stand-ins that speak the
//! real protocols; authority, ledger and estate are the real ones. Envoy is Envoy.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod annotations;
mod ask;
mod callers;
mod columns;
mod conformance;
mod delegation;
mod envoy;
mod example;
mod ext_authz;
mod facts;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../gateway/tests/it/faulty_disk.rs"]
mod faulty_disk;
mod hostile;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../record-index/tests/it/world.rs"]
mod ledgers;
mod local;
mod metrics;
mod own_kinds;
#[path = "../../../gateway/tests/it/passing_disk.rs"]
mod passing_disk;
#[allow(dead_code, reason = "shared with tests that use more of it")]
#[path = "../../../gateway-postgres/tests/it/plane.rs"]
mod plane;
mod published;
mod recording;
mod records;
mod search;
mod tokens;
mod world;

// What the shared stand-ins keep keys and stream by.
use custody as _;
use tokio_stream as _;
