//! Labels as they were served, beside the state: what is heard of a record later is held against what was signed of it.
//! It says nothing that was not looked at ([`super`]); whoever can write to the folder can take it away.

use super::{Denial, Labels, Rows, denied};
use crate::Failure;
use crate::alert::Alert;
use crate::state::Store;
use facts::Timestamp;
use ledger::ForeignCheckpoint;
use ledger::LedgerKey;
use ledger::label::{Epoch, Label, LabelPath, LabelTile, Said};
use ledger::merkle::Hash;
use ledger::tile::WIDTH;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// SHA-256 of the `known` that was held against all that is kept.
const HELD: &str = "known.sha256";

/// A tile that was looked at: its labels, and the leaves of all its records.
pub(crate) struct Served {
    pub(crate) rows: Rows,
    pub(crate) leaves: Vec<Hash>,
}

/// What came of what the owner has heard of.
pub(crate) struct HeardOf {
    pub(crate) alerts: Vec<Alert>,
    /// SHA-256 of what he knows.
    held: Vec<u8>,
}

/// One that is kept.
struct Kept {
    tile: LabelTile,
    path: LabelPath,
    key: String,
    bytes: Vec<u8>,
}

impl Labels {
    /// Durable when it returns. A tile that says of fewer records what a newer one says as well is let go.
    pub(crate) fn keep(&self, store: &Store, served: &[Served]) -> Result<(), Failure> {
        if served.is_empty() {
            return Ok(());
        }
        let before = store.kept_labels()?;
        for one in served {
            let (path, bytes): (_, &[u8]) = (one.rows.path, &one.rows.bytes);
            let tile = tile_name(&path);
            let digest = crypto::hex::encode(&crypto::sha256(bytes));
            let name = format!(
                "{tile}-{:03}-{}",
                path.width(),
                digest.get(..16).unwrap_or(&digest)
            );
            let head = format!("{}\n{path}\n", self.signer);
            store.keep_labels(&name, &[head.as_bytes(), bytes].concat())?;
            let of_tile =
                |other: &&String| **other != name && other.split('-').next() == Some(tile.as_str());
            for other in before.iter().filter(of_tile) {
                let kept = self.kept(store, other)?;
                if kept.is_some_and(|kept| self.says_no_less(one, &kept)) {
                    store.forget_labels(other)?;
                }
            }
        }
        Ok(())
    }

    /// Whatever `kept` denies, `served` denies too.
    fn says_no_less(&self, served: &Served, kept: &Kept) -> bool {
        let width = usize::from(kept.path.width());
        let leaves = served.leaves.iter().take(width);
        let same = |(place, leaf): (usize, &Hash)| {
            let no = |tile: &LabelTile| tile.said(&self.key, place, leaf) == Some(Said::NotYours);
            !no(&kept.tile) || no(&served.rows.tile)
        };
        served.leaves.len() >= width && leaves.enumerate().all(same)
    }

    /// What was signed of records that the owner has heard of since, and denies them. Each is told once, with its tile
    /// beside the state.
    pub(crate) fn heard_of(
        &self,
        store: &Store,
        head: &ForeignCheckpoint,
        now: Timestamp,
    ) -> Result<Option<HeardOf>, Failure> {
        let known = self.known().map_err(Failure::Local)?;
        let held = digest(&known);
        if store.labels_file(HELD)?.as_ref() == Some(&held) {
            return Ok(None);
        }
        let mut epochs: HashMap<Epoch, HashMap<Label, Hash>> = HashMap::new();
        let mut found = BTreeMap::new();
        let kept = match known.is_empty() {
            true => Vec::new(),
            false => store.kept_labels()?,
        };
        for name in kept {
            let Some(kept) = self.kept(store, &name)? else {
                continue;
            };
            let epoch = kept.tile.epoch();
            let no = epochs.entry(*epoch).or_insert_with(|| {
                let label = |leaf: &Hash| self.key.label(epoch, Said::NotYours, leaf);
                known.iter().map(|leaf| (label(leaf), *leaf)).collect()
            });
            for (place, label) in kept.tile.labels() {
                let Some(leaf) = no.get(&label).filter(|leaf| !found.contains_key(*leaf)) else {
                    continue;
                };
                if kept.tile.said(&self.key, place, leaf) == Some(Said::NotYours) {
                    let place = u64::try_from(place).unwrap_or(u64::MAX);
                    let index = kept.path.records().start.saturating_add(place);
                    let key = kept.key.clone();
                    let denial = Denial::new(head, key, index, leaf, &kept.path, &kept.bytes);
                    found.insert(*leaf, denial);
                }
            }
        }
        let mut alerts = Vec::new();
        for (leaf, denial) in found {
            if store.has_denial(&denial)? {
                continue;
            }
            store.keep_denial(&denial)?;
            let finding = denied(head, denial.index, &leaf);
            alerts.push(self.alert(head, denial.index, &leaf, finding, now));
        }
        Ok(Some(HeardOf { alerts, held }))
    }

    /// What was known then was held against all that is kept, and what came of it is told: not again.
    pub(crate) fn held(store: &Store, heard_of: &HeardOf) -> Result<(), Failure> {
        store.keep_labels(HELD, &heard_of.held)
    }

    /// `None`: it is no tile that its signer has signed, or went meanwhile.
    fn kept(&self, store: &Store, name: &str) -> Result<Option<Kept>, Failure> {
        if name == HELD {
            return Ok(None);
        }
        let Some(file) = store.labels_file(name)? else {
            return Ok(None);
        };
        Ok(self.read_kept(&file))
    }

    fn read_kept(&self, file: &[u8]) -> Option<Kept> {
        let mut parts = file.splitn(3, |byte| *byte == b'\n');
        let mut line = || std::str::from_utf8(parts.next()?).ok();
        let (key, path) = (line()?, line()?);
        let (key, path): (LedgerKey, LabelPath) = (key.parse().ok()?, path.parse().ok()?);
        let bytes = parts.next()?.to_vec();
        let origin = self.of.as_deref().unwrap_or(key.origin().as_str());
        let tile = LabelTile::open_of(bytes.clone(), &path, origin, &key).ok()?;
        let key = key.to_string();
        Some(Kept {
            tile,
            path,
            key,
            bytes,
        })
    }
}

fn digest(known: &BTreeSet<Hash>) -> Vec<u8> {
    let all: Vec<u8> = known.iter().flatten().copied().collect();
    crypto::hex::encode(&crypto::sha256(&all)).into_bytes()
}

/// By the number of the tile, in an order that a folder shows.
fn tile_name(path: &LabelPath) -> String {
    format!("{:012}", path.records().start / WIDTH)
}
