//! Links that lead from the key which signs here to logs that nobody here has begun: whoever shows one has followed
//! what this server was before it was restored to what it is, keys and all, or what a thief of the key has begun.
//!
//! Nothing is signed from then on, also after the next start. A link vouches for itself, so that it does not matter
//! who shows it; of a key that was replaced it stops nobody.

use crate::core::Core;
use crate::signing::replace;
use crate::start::StartError;
use facts::Finding;
use ledger::LedgerKey;
use ledger::body::KeyRotation;
use ledger::lineage::{self, Link};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Links of a peer that are not known here and are looked at: the first one decides.
const UNKNOWN: usize = 16;

/// Kept beside the ledger's key, so that restoring the data directory does not take it back.
#[derive(Debug, Clone)]
pub(crate) struct Elsewhere {
    path: PathBuf,
    /// What a peer has shown since the start. INVARIANT: set before anything is blocked by it, so that whoever asks why finds
    /// it; the file comes a moment later, and where the disk is full not at all.
    heard: Arc<OnceLock<Finding>>,
}

impl Elsewhere {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join("lineage-elsewhere"),
            heard: Arc::default(),
        }
    }

    /// Why nothing may be signed with `key`, the newest that is known here, if somebody has shown a later one.
    ///
    /// # Errors
    /// If what is kept cannot be read.
    pub(crate) fn known(&self, key: &LedgerKey) -> Result<Option<Finding>, StartError> {
        if let Some(finding) = self.heard.get() {
            return Ok(Some(finding.clone()));
        }
        let unread = |source| StartError::Directory {
            path: self.path.clone(),
            source,
        };
        match std::fs::read_to_string(&self.path) {
            Ok(links) => {
                lineage::from_json(&links)
                    .map_err(|error| unread(std::io::Error::other(error.to_string())))?;
                Ok(self.shown(key, &links).map(|(_, finding)| finding))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(unread(source)),
        }
    }

    /// The link of `links` by which the log of `key` went on.
    fn shown(&self, key: &LedgerKey, links: &str) -> Option<(KeyRotation, Finding)> {
        let known = lineage::links(key);
        let links = lineage::from_json(links).ok()?;
        let unknown = links.into_iter().filter(|link| !known.contains(link));
        unknown.take(UNKNOWN).find_map(|rotation| {
            let link = Link::open(&rotation).ok()?;
            let finding = (link.from == *key).then(|| self.finding(&link))?;
            Some((rotation, finding))
        })
    }

    fn finding(&self, link: &Link) -> Finding {
        Finding::new(
            "SERVER-LINEAGE-ELSEWHERE",
            "this ledger's key has signed that its log went on as another one, which is not known here",
        )
        .expected(format!("{} as the newest log", link.from.origin()))
        .observed(format!("it went on as {} from {} records", link.to, link.size))
        .next(format!(
            "the folder of the ledger's key was restored to what it was before: restore its newest copy, and data_dir; a \
             thief's link is another matter: docs/operate/new-log.md ({} holds the link)",
            self.path.display()
        ))
    }
}

/// `peer` says how the ledger went on. Why nothing is signed from now on, if it has shown that.
pub(crate) fn heard(core: &Arc<Core>, peer: &str, links: &str) -> Option<Finding> {
    if links.is_empty() {
        return None;
    }
    let (rotation, finding) = core.elsewhere.shown(&core.ledger_key, links)?;
    tracing::error!(%peer, %finding, "shown by a peer");
    core.elsewhere.heard.get_or_init(|| finding.clone());
    core.signing.block(finding.clone(), None);
    core.metrics.blocked.set(1);
    let path = core.elsewhere.path.clone();
    if !path.exists() {
        let kept = lineage::to_json(&[rotation]);
        if let Err(error) = replace(&path, kept.as_bytes()) {
            tracing::warn!(%error, "what was shown is not remembered for the next start");
        }
    }
    Some(finding)
}
