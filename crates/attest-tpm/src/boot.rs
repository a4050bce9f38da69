//! Measured boot: what a machine started, out of an event log that replays to quoted PCRs, and whether
//! that is what it should have started.
//!
//! [`verify`] compares a log with a quote and gives a [`Boot`]; there is no other way to get one.
//! [`judge`] compares a `Boot` with [`References`] and gives an [`Approved`], or findings that name the
//! event, the PCR, what was expected and what was seen.
//!
//! What a log can be believed for, and what not:
//! - Digests and their order within one PCR are the TPM's word. Data counts where the digest is of it
//!   ([`Said`](crate::eventlog::Said)). The type of an event and the order of events of different PCRs
//!   are nobody's word; nothing rests on them here.
//! - Who runs after the boot can extend PCRs and log what he likes, but only behind what is there. So
//!   reading asks that *every* measurement of a PCR is good, never that a good one is among them, and
//!   what only firmware may say has to stand before the separator.
//! - What a boot loader or a stub measures is worth what that program is worth: see
//!   [`Boot::facts`].
//!
//! A trust domain's log is read alike, by the registers of its quote, into a [`DomainBoot`].
//!
//! Pure: no I/O, no clock.

mod approved;
mod chain;
mod claimed;
mod domain;
mod facts;
mod judge;
mod layout;
mod measurement;
mod references;
mod sbat;
mod secure_boot;
mod verify;

pub use approved::Approved;
pub use chain::{CommandLine, Image, Loader, Mok, Piece};
pub use claimed::{Claimed, Outline};
pub use domain::{DomainBoot, Pinned, Registers};
pub use judge::judge;
pub use measurement::{Meaning, Measurement, Note};
pub use references::{References, SbatFloor, Sections, SecureBootRule};
pub use secure_boot::{Authority, Permission, SecureBoot};
pub use verify::{Boot, verify};
pub(crate) use verify::{PHASES, gone_on};

/// Why something of a boot cannot be known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unknown(pub(crate) String);
