//! The kernel's list of what it measured while it ran (IMA), compared with a quoted PCR 10 and with
//! reference values.
//!
//! [`List`] reads the kernel's file in its binary or text form, [`verify`] replays it to a quote and
//! gives [`Measured`], [`judge`] says whether every file in it may run. A list grows and never shrinks
//! within a boot: [`Progress`] remembers how far it was verified, so that the next round verifies and
//! judges only what is new; [`round`] does all of it. [`Seen`] answers whether a digest was measured in this boot.
//!
//! What a list proves: the running kernel measured these files, if that kernel is one that measures,
//! which [`boot`](crate::boot) says. It lists what its policy told it to measure; code in memory, and
//! scripts that are given to an interpreter, are not in it.
//!
//! Pure: no I/O, no clock.

mod ascii;
mod binary;
mod entry;
mod judge;
mod references;
mod round;
mod seen;
mod template;
mod verify;

pub use binary::after;
pub use entry::{Entry, Kind, LONGEST, List};
pub use judge::{Approved, faults, judge};
pub use references::{Exempt, File, References, Violations};
pub use round::{Round, Sent, round};
pub use seen::Seen;
pub use verify::{BootAggregate, Measured, Progress, verify};
