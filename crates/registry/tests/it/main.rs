//! Images pulled from registries of the tests' own, good and hostile ones. Those of other people are asked by
//! `crates/trilith/tests/it/registry.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "tests may panic"
)]

#[path = "../../../attest-tee/tests/it/der.rs"]
#[allow(
    dead_code,
    clippy::cast_possible_truncation,
    reason = "shared with the tests of attest-tee, which use more of it"
)]
mod der;
mod hostile;
mod pulling;
mod service;
#[path = "../../../endorsements/tests/it/vendor.rs"]
mod vendor;

#[allow(dead_code, reason = "as above")]
mod evidence {
    use facts::Timestamp;

    /// Midnight, UTC, for the few dates that `der` names.
    pub(crate) fn day(year: u64, month: u64, day: u64) -> Timestamp {
        assert_eq!((year, month, day), (2026, 6, 1));
        Timestamp::from_secs(1_780_272_000)
    }
}
