//! The TCG event log: what firmware and boot loaders say they measured.
//!
//! A log is a claim. [`Log::parse`] reads it, [`Log::replay`] says which PCR values it amounts to, and
//! [`Event::said`] which of its words were themselves measured: a digest that equals the quoted PCRs
//! says nothing of the data beside it, and nothing at all of an event's type.
//! What a log says of the boot is read in [`boot`](crate::boot), after it was compared with a quote.
//!
//! Formats: `TCG_PCR_EVENT2` with its specification header ("crypto-agile"), and `TCG_PCR_EVENT` of
//! TPM 1.2 (SHA-1 alone), as in the PC Client Platform Firmware Profile 1.06, section 10.

mod kind;
mod parse;
mod replay;
mod said;

pub use kind::Kind;
pub use parse::{Bank, Event, Format, LONGEST, Log};
pub use replay::Replay;
pub use said::{Line, Said};
