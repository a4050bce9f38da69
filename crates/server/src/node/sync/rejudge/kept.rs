//! What SVIDs were issued on, read back from their records and the openings of their commitments.

use crate::core::Core;
use crate::current::{Allowed, Current};
use ledger::{Commitment, body};
use std::collections::HashMap;
use std::sync::Arc;
use store::SvidRow;

/// What one version of the estate says to facts that were committed to, each read and asked once.
#[derive(Default)]
pub(super) struct Kept(HashMap<[u8; 32], Option<Arc<[Allowed]>>>);

impl Kept {
    /// Whether `new` grants what `svid` says to the facts that it was issued on, on the machine where
    /// `new` places it. `None` if the record or the opening cannot be read. Reads the disk.
    pub(super) fn grants(&mut self, core: &Core, new: &Current, svid: &SvidRow) -> Option<bool> {
        let record = core.journal.reader().record(svid.index).ok()?;
        let issuance: body::Issuance = record.expect_body().ok()?;
        let allowed = self
            .0
            .entry(issuance.commit.0.0)
            .or_insert_with(|| allowed(core, new, &issuance.commit));
        let path = svid
            .spiffe_id
            .strip_prefix(&format!("spiffe://{}/", core.trust_domain))?;
        let mut allowed = allowed.as_ref()?.iter();
        Some(allowed.any(|identity| identity.path == path))
    }
}

fn allowed(core: &Core, new: &Current, commit: &Commitment) -> Option<Arc<[Allowed]>> {
    let opening = match core.blobs.get(&ledger::HexDigest(commit.0.0)) {
        Ok(opening) => opening?,
        Err(error) => {
            tracing::error!(%error, "what issuances rested on cannot be read");
            return None;
        }
    };
    let facts = crate::current::from_canonical(Commitment::opened(&opening, "facts")?)?;
    Some(new.assumable(&new.known(&facts, core.now()).0))
}
