//! One client: accepted, identified, logged in upstream as its role, and relayed until either side ends.

mod accept;
mod cancel;
mod names;
mod open;
mod pump;
mod refusal;
mod relay;
mod run;
mod shares;
mod startup;

pub(crate) use accept::{Front, serve};
pub(crate) use cancel::Cancels;
pub(crate) use shares::Shares;
