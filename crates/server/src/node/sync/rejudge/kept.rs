//! What SVIDs were issued on, read back from their records and the openings of their commitments.

use crate::core::Core;
use crate::current::{Allowed, Current};
use ledger::{Commitment, body};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use store::SvidRow;

/// What one version of the estate says to facts that were committed to, each read and asked once.
#[derive(Default)]
pub(super) struct Kept {
    said: HashMap<[u8; 32], Option<Said>>,
    /// Only what a machine enforces has changed: facts that say nothing of it are granted what they were.
    by_machine: bool,
}

enum Said {
    Unchanged,
    Allowed(Arc<[Allowed]>),
}

impl Kept {
    pub(super) fn by_machine() -> Self {
        Self {
            by_machine: true,
            ..Self::default()
        }
    }

    /// Whether `new` grants what `svid` says to the facts that it was issued on, on the machine where
    /// `new` places it. `None` if the record or the opening cannot be read. Reads the disk.
    pub(super) fn grants(&mut self, core: &Core, new: &Current, svid: &SvidRow) -> Option<bool> {
        let record = core.journal.reader().record(svid.index).ok()?;
        let issuance: body::Issuance = record.expect_body().ok()?;
        let by_machine = self.by_machine;
        let said = self
            .said
            .entry(issuance.commit.0.0)
            .or_insert_with(|| said(core, new, &svid.node, &issuance.commit, by_machine));
        let path = svid
            .spiffe_id
            .strip_prefix(&format!("spiffe://{}/", core.trust_domain))?;
        match said.as_ref()? {
            Said::Unchanged => Some(true),
            Said::Allowed(allowed) => Some(allowed.iter().any(|identity| identity.path == path)),
        }
    }
}

fn said(
    core: &Core,
    new: &Current,
    node: &str,
    commit: &Commitment,
    by_machine: bool,
) -> Option<Said> {
    let opening = match core.blobs.get(&ledger::HexDigest(commit.0.0)) {
        Ok(opening) => opening?,
        Err(error) => {
            tracing::error!(%error, "what issuances rested on cannot be read");
            return None;
        }
    };
    let facts = crate::warranted::committed(Commitment::opened(&opening, "facts")?)?;
    let facts = crate::enforcing::restated(core, node, &facts, new);
    if by_machine && matches!(facts, Cow::Borrowed(_)) {
        return Some(Said::Unchanged);
    }
    let known = new.known(&facts, core.now()).0;
    Some(Said::Allowed(new.assumable(&known)))
}
