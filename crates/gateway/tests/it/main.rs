//! The core against who has stolen keys, forks ledgers, replays, tampers with the disk or pulls the plug:
//! a real authority and a real ledger stand for the server's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

mod admission;
mod completeness;
mod delegated;
mod faulty_disk;
mod metrics;
mod new_log;
mod old_ledger;
mod passing_disk;
mod prune_killed;
mod pruned_and_renewed;
mod pushed;
mod recording;
mod recovery;
mod restart;
mod retention;
mod sessions;
mod witnessed;
mod world;
