//! Starting and stopping: custody, ledger, state, authority, estate, then the listeners; and back.

mod new_log;
mod open;
mod prune;
mod serve;
mod snapshot;

pub use new_log::{NewLog, Why, new_log};
pub(crate) use open::LARGEST_BLOB;
pub use open::StartError;
pub use prune::{Prune, PruneBounds, Pruning, prune, prune_within};
pub use serve::{Running, run, start, start_by};
pub(crate) use serve::{document_bytes, take_up};
pub use snapshot::{
    Checked, Rebuild, Snapshotted, check_snapshots, rebuild, rebuild_from_first, snapshot,
};

use crate::config::Config;
use crate::state::State;
use open::Opened;

/// What [`rebuild_state`] computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Records that the state follows from.
    pub records: u64,
    /// SHA-256 of the state's canonical dump.
    pub digest: [u8; 32],
}

impl Rebuilt {
    fn of(state: &State) -> Self {
        Self {
            records: state.applied(),
            digest: state.digest(),
        }
    }
}

/// As [`rebuild`], for who asks nothing else.
///
/// # Errors
/// [`StartError`] if the ledger is in use, or damaged.
pub fn rebuild_state(config: &Config) -> Result<Rebuilt, StartError> {
    Ok(rebuild(config)?.rebuilt)
}

/// The state as the database has it, brought up to the end of the ledger. The server must not run.
///
/// # Errors
/// As [`rebuild_state`].
pub fn state_digest(config: &Config) -> Result<Rebuilt, StartError> {
    config.check()?;
    let opened = Opened::open(config, None)?;
    match opened.behind {
        Some(error) => Err(error.into()),
        None => Ok(Rebuilt::of(&opened.state)),
    }
}
