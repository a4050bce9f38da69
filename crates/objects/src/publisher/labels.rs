//! Blinded labels beside the tiles of a head. Unlike tiles they are not the same for ever: an owner may have come. What
//! stands beside a published head stays; what a round has left that did not come to its head is replaced.

use super::tiles::{AT_ONCE, WIDTHS, new};
use super::{Event, Publisher};
use crate::bucket::{Condition, Put};
use crate::failure::Failure;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hyper::body::Bytes;
use ledger::label::{LabelPath, LabelTile};
use ledger::tile::{Kind, TilePath};

/// A reader keeps no tile of them for long: a damaged one may be removed and published again.
const LABELS: (&str, &str) = ("application/octet-stream", "public, max-age=60");

impl Publisher {
    /// The labels of all records that a head of `to` has and one of `from` had not, beside their tiles.
    pub(super) async fn send_labels(&self, from: u64, to: u64) -> Result<(), Failure> {
        if self.labels.is_none() {
            return Ok(());
        }
        let all = new(Kind::Hashes(0), from, to).filter_map(|tile| LabelPath::beside(&tile));
        stream::iter(all)
            .map(|path| self.send_label(path))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn send_label(&self, path: LabelPath) -> Result<(), Failure> {
        let Some(labels) = self.labels.clone() else {
            return Ok(());
        };
        let made = tokio::task::spawn_blocking(move || labels(&path)).await;
        let made = made.map_err(Failure::ledger)?;
        let made = made.map_err(|error| Failure::read(&error))?;
        let missing = || Failure::ledger(format!("it has no {path}"));
        let bytes = Bytes::from(made.ok_or_else(missing)?);
        let (name, length) = (path.to_string(), bytes.len());
        let put = self
            .bucket
            .put(&name, bytes.clone(), LABELS, &Condition::Absent);
        if let Put::Stored(_) = put.await? {
            (self.tell)(Event::Stored(length));
            return Ok(());
        }
        let again = |what: &str| Failure::again(&self.place(), format!("{name} {what}"));
        let found = self.bucket.get(&name, LabelTile::longest(path.width()));
        let Some(found) = found.await? else {
            return Err(again("was removed while it was looked at"));
        };
        if found.bytes.as_deref() == Some(bytes.as_ref()) {
            (self.tell)(Event::Found);
            return Ok(());
        }
        let Some(etag) = found.etag else {
            return Err(again("has no ETag"));
        };
        let as_it_was = Condition::Is(etag);
        let put = self.bucket.put(&name, bytes, LABELS, &as_it_was);
        match put.await? {
            Put::Stored(_) => {
                (self.tell)(Event::Stored(length));
                Ok(())
            }
            Put::Unmet => Err(again("changed while it was replaced")),
        }
    }

    /// With the partial tiles of hashes beside them.
    pub(super) async fn remove_partial_labels(&self, tile: &TilePath) -> Result<(), Failure> {
        let (Some(full), true) = (LabelPath::beside(tile), tile.kind == Kind::Hashes(0)) else {
            return Ok(());
        };
        if self.labels.is_none() {
            return Ok(());
        }
        let listed = self.bucket.list(&format!("{full}.p/")).await?;
        let partial = |key: &String| {
            let path: LabelPath = self.bucket.place().name(key)?.parse().ok()?;
            (path.full() == full && !path.is_full()).then_some(path)
        };
        let partial: Vec<LabelPath> = listed.iter().filter_map(partial).take(WIDTHS).collect();
        for path in partial {
            self.bucket.delete(&path.to_string()).await?;
            (self.tell)(Event::Removed);
        }
        Ok(())
    }
}
