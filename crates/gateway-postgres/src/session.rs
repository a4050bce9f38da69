//! One client: accepted, identified, logged in upstream as its role, and relayed until either side ends.

mod accept;
mod cancel;
mod names;
mod pump;
mod relay;

pub(crate) use accept::{Front, serve};
pub(crate) use cancel::Cancels;
