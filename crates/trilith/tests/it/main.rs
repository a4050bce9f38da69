//! The one binary as its users have it: started as a process, judged by what it prints and leaves behind.

#![forbid(unsafe_code)]
#![expect(clippy::expect_used, reason = "tests may panic")]

#[expect(clippy::panic, reason = "tests may panic")]
mod acting;
mod attest;
mod boots;
mod cosigning;
mod demo;
mod endorsements;
mod erasing;
#[expect(clippy::indexing_slicing, reason = "of JSON that the test wrote")]
mod images;
mod labels;
#[allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared with tests that may panic so, and use more of it"
)]
#[path = "../../../ledger/tests/it/support.rs"]
mod ledger_support;
#[expect(
    clippy::indexing_slicing,
    reason = "of JSON that the binary printed, and of objects"
)]
mod ledgers;
mod mirrored;
mod monitoring;
#[expect(clippy::indexing_slicing, reason = "of JSON that the binary printed")]
mod new_log;
#[allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared with tests that may panic so, and use more of it"
)]
#[path = "../../../gateway/tests/it/old_ledger.rs"]
mod old_ledger;
mod own_folder;
#[expect(clippy::panic, reason = "the test ends there")]
mod packing;
#[expect(clippy::indexing_slicing, reason = "of JSON that the judge printed")]
mod page;
mod pdp;
mod pdp_new_log;
mod pruning;
#[expect(
    clippy::indexing_slicing,
    reason = "of JSON that the binary printed, and of objects"
)]
mod publishing;
mod python;
#[expect(clippy::indexing_slicing, reason = "of what the test read")]
mod quorum;
mod rechecked;
#[expect(clippy::indexing_slicing, reason = "of JSON that the binary printed")]
mod records;
mod refs;
mod registry;
mod resources;
#[expect(clippy::indexing_slicing, reason = "of JSON that the binary printed")]
mod rewound;
mod site;
mod snapshots;
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared with tests that may panic so"
)]
#[path = "../../../endorsements/tests/it/stock.rs"]
mod stock;
#[expect(clippy::indexing_slicing, reason = "of what the test made")]
mod tamper;
mod tamper_monitor;
#[allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "shared with tests that may panic so"
)]
#[path = "../../../server/tests/it/tee_forged.rs"]
mod tee_forged;
#[allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared with tests that may panic so"
)]
#[path = "../../../endorsements/tests/it/vendor.rs"]
mod vendor;
mod verify;
mod witnessed;

// Where the shared forgers look for them.
use tee_forged::{der, evidence};
// What the shared old ledger is signed by.
use custody as _;
// What the shared vendor speaks TLS by.
use tokio_rustls as _;
