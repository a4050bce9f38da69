//! Questions to the records of ledgers: search, who accessed what, since when, what is not used, what another
//! estate would have decided; and packs, which answer one for somebody else.
//!
//! ```text
//! ledger ─read→ terms (a fold) ─→ follow ─→ store::index ─→ search, accesses ─┐
//!    └───────────────────────── verify: the same fold over the ledger itself ─┴→ equal, or the index lied
//! ```
//! The ledger is the truth. The index beside it says where to look, is made of the ledger alone, remembers the
//! tree that it was made of, and is made anew when that is not the ledger's. Each answer says up to which head it
//! looked. A [`Site`] is a server's, a gateway's or a decision point's folder, whether its process runs or not.
//!
//! It decides nothing and serves nothing: the command line and the server call it.

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

mod accesses;
pub mod certificates;
mod changes;
mod completeness;
mod error;
mod filter;
mod follow;
mod history;
mod hops;
pub mod packs;
mod replay;
mod search;
mod site;
mod terms;
mod tiles;
mod unused;
mod verify;

pub use accesses::{AccessRow, Asked, accesses, accesses_verified};
pub use changes::unified;
pub use completeness::{Anchored, Complete, Found, completeness};
pub use error::Error;
pub use filter::Filter;
pub use follow::{Followed, Index};
pub use history::{About, Change as EstateChange, History, history};
pub use ledger_store::Head;
pub use replay::{Change, Changed, NotReplayed, Replayed, in_force, replay};
pub use search::{Hit, Page, Searched, search};
pub use site::{Site, Source};
pub use store::index::{TimeRange, Use};
pub use unused::{Grant, Patch, PolicyUnused, Unused, patch, unused};
pub use verify::{Verified, verify, verify_from};
