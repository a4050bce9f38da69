//! Entry bundles at an address, for whoever checks them himself.

use crate::http::Address;
use crate::source::{PRUNED, Source};
use facts::Finding;
use ledger::tile::TilePath;
use std::path::Path;
use std::time::Duration;

/// A whole bundle must be there within this time.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where they are asked for. What comes is within bounds, and nothing more.
pub struct Bundles(Source);

impl Bundles {
    /// `https://…` or `http://…`: `/tile/entries/…` is below it. `authorities`: a PEM file; the system's without it.
    ///
    /// # Errors
    /// `MONITOR-ADDRESS`, `MONITOR-CA`.
    pub fn at(url: &str, authorities: Option<&Path>) -> Result<Self, Finding> {
        let address = Address::new(url, authorities, TIMEOUT, false)?;
        Ok(Self(Source::Http(address)))
    }

    /// The bundle at exactly that width.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn bundle(&self, path: &TilePath) -> Result<Vec<u8>, Finding> {
        let found = self.0.tile(path).await;
        let found = found.map_err(|failure| match failure.finding().clone() {
            gone if gone.code == PRUNED => {
                gone.next("name the address of a mirror of this ledger, which has them")
            }
            finding => finding,
        })?;
        found.ok_or_else(|| {
            Finding::new(
                "MONITOR-TILE-MISSING",
                format!("{} does not serve {path}", self.0.name()),
            )
            .next("name the address of this ledger; it serves what its folder has, or more")
        })
    }
}
