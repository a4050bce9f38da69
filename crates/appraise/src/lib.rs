//! What a machine presented, compared with reference values; and told to people: a boot event by event,
//! what a refusal is about, which package would have matched and what to run to allow it, and how two boots
//! differ.
//!
//! [`judge`] is the judgement of a join, and of whoever tries reference values on evidence that was kept
//! ([`Kept`]). [`Account`] describes a boot, [`Account::compare`] two of them, [`refusals`] says what would
//! have been good. Only [`judge`] decides.
//!
//! Pure: bytes, `now` and reference values are arguments; there is no I/O.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod account;
mod allow;
mod boot;
mod demands;
mod diff;
mod files;
mod kept;
mod listed;
mod naming;
mod presented;
mod refusal;
mod rules;
mod view;
mod words;

pub use account::{Account, Outline, Told, What};
pub use allow::Printed;
pub use demands::Demands;
pub use diff::{Change, Difference, EventChange, FactChange, FileChange, PcrChange, facts};
pub use files::{Files, Listed};
pub use kept::{Blobs, Kept};
pub use naming::Naming;
pub use presented::{Asked, Presented, judge, judge_domain};
pub use refusal::{Package, Refusal, Subject, claimed, refusals};
pub use rules::Rule;
pub use view::View;
