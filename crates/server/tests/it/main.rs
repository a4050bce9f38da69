//! The server from outside: real TLS, real gRPC, a real ledger on disk.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod acknowledging;
mod administering;
mod anchoring;
mod answering;
mod approving;
mod asked;
mod attacking;
mod attesting;
mod authority;
mod azure;
mod booting;
mod certificates;
mod clock;
mod cloud;
mod delegate_client;
mod delegating;
mod delegation;
mod enclave;
mod enforcing;
mod erasing;
mod evading;
mod flooding;
mod follower;
mod following;
mod full_disk;
mod harness;
mod hostile;
mod images;
mod issuing;
mod joining;
mod kernel;
mod labels;
mod ledgers;
mod nitro;
#[path = "../../../gateway/tests/it/old_ledger.rs"]
mod old_ledger;
mod packs;
mod passing;
mod people;
mod planning;
mod pruning;
mod reasons;
mod rechecked;
mod recovering;
mod resumption;
mod reviving;
mod rewinding;
mod sealing;
mod slow_chip;
mod snapshots;
#[path = "../../../endorsements/tests/it/stock.rs"]
mod stock;
mod surviving;
mod tee;
mod tee_forged;
mod telling;
mod templates;
mod tpm;
mod tpm_renewal;
#[path = "../../../endorsements/tests/it/vendor.rs"]
mod vendor;
mod witnessing;

// Where the shared forgers look for them.
use tee_forged::{der, evidence};
