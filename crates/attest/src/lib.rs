//! What every verifier has in common, and how several verdicts become one.
//!
//! A verifier is a pure function: bytes, what was asked (nonce, transcript, `now`) and reference
//! values in, a [`Verdict`] out. It does no I/O, reads no clock, and never panics on what it is
//! given. There is no trait to implement, because no caller is generic over verifiers: each kind of
//! evidence has its own expectation and its own references. What is shared is the shape of the
//! answer, the way evidence is named ([`Evidence`]), how findings are gathered ([`Findings`]) and
//! composition ([`compose`]), what a node signs when it joins or renews ([`transcript`]), the reading of
//! vendors' certificates ([`x509`]), and what a verdict is called elsewhere ([`ar4si`], [`ear`]).
//!
//! Not here: any particular evidence (`attest-tpm`, `attest-code`), policy (`estate`), recording.

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

pub mod ar4si;
mod compose;
pub mod ear;
mod evidence;
mod findings;
pub mod transcript;
pub mod x509;

pub use compose::{compose, merged};
pub use evidence::Evidence;
pub use facts::Verdict;
pub use findings::Findings;
