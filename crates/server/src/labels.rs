//! The labels of this ledger's records, and of those of the ledgers that are kept here, made when they are asked for:
//! nothing of them is kept.

use crate::config;
use facts::Finding;
use ledger::label::{self, LabelPath, Owners, Rows};
use ledger::{KeyError, LedgerSigner};
use ledger_store::{Reader, StoreError};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;

/// Tiles that are made at once: each costs the parsing of 256 records.
const AT_ONCE: usize = 2;

pub(crate) struct Labels {
    signer: LedgerSigner,
    owners: Owners,
    reader: Reader,
    /// Held by whoever makes one for a stranger.
    turn: Arc<Semaphore>,
}

impl Labels {
    /// Reads the keys; `None` if there is no owner.
    ///
    /// # Errors
    /// `LABEL-KEY`, `SERVER-CONFIG`.
    pub(crate) fn open(
        settings: &[config::Label],
        signer: LedgerSigner,
        reader: &Reader,
    ) -> Result<Option<Arc<Self>>, Finding> {
        if settings.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            signer,
            owners: config::Label::owners(settings)?,
            reader: reader.clone(),
            turn: Arc::new(Semaphore::new(AT_ONCE)),
        })))
    }

    /// Makes one for a stranger, in his turn, off the async threads. `None`: nobody has a turn any more.
    pub(crate) async fn in_turn<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Option<Result<T, JoinError>> {
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        Some(tokio::task::spawn_blocking(move || holding(turn, make)).await)
    }

    /// A signed tile at exactly that width; `None` if the ledger is not that large. Blocks on the disk.
    pub(crate) fn tile(&self, path: &LabelPath) -> Result<Option<Vec<u8>>, StoreError> {
        let origin = self.signer.key().origin().as_str();
        let rows = self.rows(origin, &self.reader, path)?;
        sealed(rows.map(|rows| label::seal(&self.signer, path, rows)))
    }

    /// As [`Labels::tile`], of the ledger `origin` that is kept here. This server's ledger signs it, and says whose it
    /// is, by the name that stays: the key of the ledger that it is about is not here.
    pub(crate) fn tile_of(
        &self,
        origin: &str,
        reader: &Reader,
        path: &LabelPath,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = self.rows(origin, reader, path)?;
        let line = ledger::line(origin);
        sealed(rows.map(|rows| label::seal_of(&self.signer, line, path, rows)))
    }

    fn rows(
        &self,
        origin: &str,
        reader: &Reader,
        path: &LabelPath,
    ) -> Result<Option<Rows>, StoreError> {
        let range = path.records();
        if range.end > reader.size() {
            return Ok(None);
        }
        let mut records = Vec::new();
        let mut from = range.start;
        // Within one read, but for the bytes that it may have.
        while from < range.end {
            let read = reader.read(from..range.end)?;
            if read.is_empty() {
                return Ok(None);
            }
            from = from.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
            records.extend(read);
        }
        let earlier = |index| {
            let record = reader.record(index).ok()?;
            Some(record.into_bytes())
        };
        Ok(Some(self.owners.rows(
            origin,
            range.start,
            &records,
            earlier,
        )))
    }
}

/// INVARIANT: the turn is the work's, not the request's: who goes away meanwhile makes room for nobody.
fn holding<T>(turn: OwnedSemaphorePermit, make: impl FnOnce() -> T) -> T {
    let made = make();
    drop(turn);
    made
}

fn sealed(tile: Option<Result<Vec<u8>, KeyError>>) -> Result<Option<Vec<u8>>, StoreError> {
    let sealed = tile.transpose();
    sealed.map_err(|error| StoreError::Sign(Arc::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that had gone left its tile behind, which went on being made, beside those of others.
    #[tokio::test]
    async fn who_goes_away_keeps_his_turn_until_his_tile_is_made() {
        let turns = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&turns).acquire_owned().await.unwrap();
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let making = move || {
            begin.send(()).unwrap();
            ended.recv()
        };
        let work = tokio::task::spawn_blocking(move || holding(turn, making));
        begun.await.unwrap();
        assert_eq!(turns.available_permits(), 0);
        end.send(()).unwrap();
        work.await.unwrap().unwrap();
        assert_eq!(turns.available_permits(), 1);
    }
}
