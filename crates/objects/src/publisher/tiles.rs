//! The tiles of a head: sent where the store has none, compared where it has one, and partial ones removed once
//! nobody needs them.

use super::{Event, Publisher};
use crate::bucket::{Condition, Put};
use crate::failure::Failure;
use facts::Finding;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hyper::body::Bytes;
use ledger::tile::{Kind, LEVELS, TilePath, WIDTH};

/// A tile's bytes, also a partial one's, are those for ever.
const TILE: (&str, &str) = (
    "application/octet-stream",
    "public, max-age=604800, immutable",
);
/// Objects under way at once. With it and the largest bundle, 4 MiB, memory has its bound.
pub(super) const AT_ONCE: usize = 8;
/// Partial tiles of one name: widths from 1 to 255.
pub(super) const WIDTHS: usize = 255;

impl Publisher {
    /// All that a head of `to` records needs and one of `from` did not.
    pub(super) async fn send_tiles(&mut self, from: u64, to: u64) -> Result<(), Failure> {
        self.open_tiles(to).await?;
        let publisher = &*self;
        let all = publisher.kinds().flat_map(|kind| new(kind, from, to));
        stream::iter(all)
            .map(|path| publisher.send(path))
            .buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.send_labels(from, to).await
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> + use<> {
        let entries = self.entries.then_some(Kind::Entries);
        (0..LEVELS).map(Kind::Hashes).chain(entries)
    }

    async fn send(&self, path: TilePath) -> Result<(), Failure> {
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.tile(&path)).await;
        let read = read.map_err(Failure::ledger)?;
        let bytes = read.map_err(|error| Failure::read(&error))?;
        let missing = || Failure::ledger(format!("it has no {path}"));
        let bytes = Bytes::from(bytes.ok_or_else(missing)?);
        let length = bytes.len();
        let name = path.to_string();
        let put = self
            .bucket
            .put(&name, bytes.clone(), TILE, &Condition::Absent);
        let failed = match put.await {
            Ok(Put::Stored(_)) => {
                (self.tell)(Event::Stored(length));
                return Ok(());
            }
            Ok(Put::Unmet) => None,
            Err(refused @ Failure::Refused(_)) => return Err(refused),
            // A store may say that it has one, and close, before it has read ours to its end.
            Err(again) => Some(again),
        };
        // INVARIANT: what is there stays. It is ours if its bytes are.
        match (self.bucket.get(&name, length).await, failed) {
            (Ok(Some(found)), _) if found.bytes.as_deref() == Some(bytes.as_ref()) => {
                (self.tell)(Event::Found);
                Ok(())
            }
            (_, Some(failed)) => Err(failed),
            (Ok(None), None) => {
                let what = format!("{name} was removed while it was looked at");
                Err(Failure::again(&self.place(), what))
            }
            (Ok(Some(_)), None) => Err(self.conflict(&name)),
            (Err(failure), None) => Err(failure),
        }
    }

    fn conflict(&self, name: &str) -> Failure {
        Failure::Refused(
            Finding::new(
                "PUBLISH-CONFLICT",
                format!("{name} at {} has not the bytes of this ledger", self.place()),
            )
            .expected("no such object, or the tile of this server's records")
            .observed("another one, which was left alone")
            .next("if another server with this ledger's key publishes there, end it and keep the object: it is of a second history; else somebody has changed it: remove it, and it is published again"),
        )
    }

    /// Writes down of which tiles narrower ones come to stand in the store.
    pub(super) async fn open_tiles(&mut self, size: u64) -> Result<(), Failure> {
        let partial = self.kinds().filter_map(|kind| {
            let last = hashes(kind, size) / WIDTH;
            let tile = TilePath::at(kind, last, size)?;
            (!tile.is_full()).then(|| TilePath::full(kind, last))
        });
        let partial: Vec<TilePath> = partial.collect();
        self.kept.add(&partial);
        self.keep().await
    }

    async fn keep(&mut self) -> Result<(), Failure> {
        let Some(pending) = self.kept.pending() else {
            return Ok(());
        };
        let written = tokio::task::spawn_blocking(move || pending.write()).await;
        written.map_err(Failure::ledger)?.map_err(Failure::ledger)?;
        self.kept.written();
        Ok(())
    }

    /// Removes the partial tiles whose full tile a head of `size` records, which was published before the newest,
    /// covers. What cannot be removed stays for the next time: nothing depends on it.
    pub(super) async fn clean(&mut self, size: u64) {
        let mut done = Vec::new();
        for tile in self.kept.full_at(size) {
            match self.remove_partial(&tile).await {
                Ok(()) => done.push(tile),
                Err(failure) => {
                    tracing::warn!(finding = %failure.finding(), %tile, "partial tiles are not removed");
                    break;
                }
            }
        }
        self.kept.remove(&done);
        if let Err(failure) = self.keep().await {
            tracing::warn!(finding = %failure.finding(), "that partial tiles were removed is not kept");
        }
    }

    async fn remove_partial(&self, tile: &TilePath) -> Result<(), Failure> {
        let listed = self.bucket.list(&format!("{tile}.p/")).await?;
        // INVARIANT: whatever a store lists, only partial tiles of this one are removed.
        let partial = |key: &String| {
            let path: TilePath = self.bucket.place().name(key)?.parse().ok()?;
            let of_it = path.kind == tile.kind && path.index == tile.index && !path.is_full();
            of_it.then_some(path)
        };
        let partial: Vec<TilePath> = listed.iter().filter_map(partial).take(WIDTHS).collect();
        for path in partial {
            self.bucket.delete(&path.to_string()).await?;
            (self.tell)(Event::Removed);
        }
        self.remove_partial_labels(tile).await
    }
}

/// Tiles that a ledger of `to` records has and one of `from` had not, or narrower.
pub(super) fn new(kind: Kind, from: u64, to: u64) -> impl Iterator<Item = TilePath> {
    let first = hashes(kind, from) / WIDTH;
    let end = hashes(kind, to).div_ceil(WIDTH);
    let grown = move |path: &TilePath| TilePath::at(kind, path.index, from).as_ref() != Some(path);
    (first..end)
        .filter_map(move |index| TilePath::at(kind, index, to))
        .filter(grown)
}

/// Hashes of a level, or records.
const fn hashes(kind: Kind, size: u64) -> u64 {
    match kind {
        Kind::Hashes(level) => match size.checked_shr(8 * level as u32) {
            Some(hashes) => hashes,
            None => 0,
        },
        Kind::Entries => size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_sent() {
        let names = |kind, from, to| -> Vec<String> {
            new(kind, from, to).map(|path| path.to_string()).collect()
        };
        let level = |level, from, to| names(Kind::Hashes(level), from, to);
        assert_eq!(level(0, 0, 3), ["tile/0/000.p/3"]);
        assert_eq!(level(0, 3, 256), ["tile/0/000"]);
        assert_eq!(level(0, 256, 256), Vec::<String>::new());
        assert_eq!(
            level(0, 200, 600),
            ["tile/0/000", "tile/0/001", "tile/0/002.p/88"]
        );
        assert_eq!(level(1, 3, 255), Vec::<String>::new());
        assert_eq!(level(1, 200, 600), ["tile/1/000.p/2"]);
        // Of the same width: it is there.
        assert_eq!(level(1, 600, 700), Vec::<String>::new());
        assert_eq!(names(Kind::Entries, 600, 601), ["tile/entries/002.p/89"]);
        assert_eq!(level(7, 0, u64::from(u32::MAX)), Vec::<String>::new());
        let all = TilePath::all(Kind::Hashes(0), 70_000).count();
        assert_eq!(new(Kind::Hashes(0), 0, 70_000).count(), all);
    }
}
