//! Whole handshakes in memory, on a clock that the test holds.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod authentication;
mod first_contact;
mod kit;
mod resumption;
