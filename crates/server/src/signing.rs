//! Whether this server may sign: not while a peer knows a longer, or another, ledger than ours.
//!
//! A restored backup looks healthy from inside. Peers and a head kept beside the ledger's key remember
//! more; whoever is behind one of them refuses every signature until an operator's recorded recovery.

use crate::refusal::Refusal;
use facts::Finding;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Set by whoever learns of a longer ledger, cleared by recovery.
#[derive(Debug, Default)]
pub(crate) struct Signing {
    blocked: RwLock<Option<Finding>>,
}

impl Signing {
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match &*self.blocked.read().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(finding) => Err(Refusal::Unavailable(finding.clone())),
        }
    }

    pub(crate) fn blocked(&self) -> Option<Finding> {
        self.blocked
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn block(&self, finding: Finding) {
        tracing::error!(%finding, "refusing to sign");
        *self.blocked.write().unwrap_or_else(PoisonError::into_inner) = Some(finding);
    }

    pub(crate) fn allow(&self) {
        *self.blocked.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The finding for a ledger of `ours` records where `peer` has seen `theirs`.
pub(crate) fn behind(peer: &str, theirs: u64, ours: u64) -> Finding {
    Finding::new(
        "SERVER-BEHIND-PEER",
        "this server's ledger is not the one that a peer has seen: it was rolled back or forked",
    )
    .expected(format!("what {peer} has verified: {theirs} records"))
    .observed(format!("{ours} records, or another history"))
    .next("restore the newest copy, or go on knowingly: trilith recover --reason TEXT")
}

/// The highest head that was ever published, kept with the ledger's key and not with the ledger, so that
/// restoring the data directory does not take it back.
#[derive(Debug)]
pub(crate) struct HeadFile {
    path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("reading {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} does not hold a size and a root")]
    Format { path: PathBuf },
}

impl HeadFile {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join("highest-head"),
        }
    }

    /// Size and root, if one was ever written.
    pub(crate) fn read(&self) -> Result<Option<(u64, [u8; 32])>, HeadError> {
        let path = || self.path.clone();
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(HeadError::Read {
                    path: path(),
                    source,
                });
            }
        };
        let parsed = text.trim_end().split_once(' ').and_then(|(size, root)| {
            let root = crypto::hex::decode(root).ok()?.try_into().ok()?;
            Some((size.parse().ok()?, root))
        });
        parsed
            .map(Some)
            .ok_or_else(|| HeadError::Format { path: path() })
    }

    /// Replaces the file. Not synced: it may lose seconds in a power cut, never its meaning.
    pub(crate) fn write(&self, size: u64, root: &[u8; 32]) -> std::io::Result<()> {
        let temporary = self.path.with_extension("new");
        std::fs::write(
            &temporary,
            format!("{size} {}\n", crypto::hex::encode(root)),
        )?;
        std::fs::rename(temporary, &self.path)
    }
}
