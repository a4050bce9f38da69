//! The cuts of [`Unrecorded`](super::Unrecorded) that wait for a recovery, on disk: a server that is behind
//! a peer signs nothing, perhaps for days, and may be started again meanwhile.
//!
//! INVARIANT 7: the cut is out before this file is written, and its record follows with the recovery. The
//! file lies with the ledger's key and not with the ledger, so that restoring the data directory once more
//! does not lose it.

use super::Revocation;
use super::unrecorded::Key;
use crate::signing::replace;
use ledger::body::TargetKind;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One more is refused, and said so: an administrator's words, not a list of names.
const MOST: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    kind: TargetKind,
    value: String,
    reason: String,
    by: String,
}

#[derive(Debug)]
pub(crate) struct Postponed {
    path: PathBuf,
    held: Mutex<Vec<Stored>>,
}

impl Postponed {
    /// What an earlier run left in `dir`.
    pub(crate) fn open(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join("unrecorded-revocations");
        let held = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Self {
            path,
            held: Mutex::new(held),
        })
    }

    /// Keeps `revocation`, durably. Blocks on the disk.
    pub(crate) fn keep(&self, revocation: &Revocation) -> std::io::Result<()> {
        let mut held = self.lock();
        let same = |stored: &Stored| {
            (stored.kind, stored.value.as_str()) == (revocation.kind, revocation.value.as_str())
        };
        if held.iter().any(same) {
            return Ok(());
        }
        if held.len() >= MOST {
            return Err(std::io::Error::other(
                "too many revocations wait to be recorded",
            ));
        }
        held.push(Stored {
            kind: revocation.kind,
            value: revocation.value.clone(),
            reason: revocation.reason.clone(),
            by: revocation.by.clone(),
        });
        let kept = replace(&self.path, &serde_json::to_vec(&*held)?);
        if kept.is_err() {
            held.pop();
        }
        kept
    }

    /// Those that wait, oldest first.
    pub(crate) fn waiting(&self) -> Vec<Revocation> {
        let held = self.lock();
        held.iter()
            .map(|stored| Revocation {
                kind: stored.kind,
                value: stored.value.clone(),
                reason: stored.reason.clone(),
                by: stored.by.clone(),
                auth: if stored.by.starts_with("uid:") {
                    "peercred"
                } else if stored.by.starts_with("person:") {
                    "oidc"
                } else {
                    "self"
                },
            })
            .collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Those of `keys` are recorded, durably. Blocks on the disk if it holds one of them.
    pub(crate) fn forget(&self, keys: &[Key]) -> std::io::Result<()> {
        let mut held = self.lock();
        let before = held.len();
        held.retain(|stored| {
            !keys
                .iter()
                .any(|(kind, value)| (*kind, value) == (stored.kind, &stored.value))
        });
        if held.len() == before {
            return Ok(());
        }
        if held.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        replace(&self.path, &serde_json::to_vec(&*held)?)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Stored>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
