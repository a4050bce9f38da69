//! The labels of this ledger's records, made when they are asked for: nothing of them is kept.

use crate::config;
use facts::Finding;
use ledger::label::LabelPath;
use ledger_store::{Reader, StoreError};
use monitor::Owners;
use std::sync::Arc;

/// Tiles that are made at once: each costs the parsing of 256 records.
const AT_ONCE: usize = 2;

pub(crate) struct Labels {
    origin: String,
    owners: Owners,
    reader: Reader,
    /// Held by whoever makes one for a stranger.
    pub(crate) turn: tokio::sync::Semaphore,
}

impl Labels {
    /// Reads the keys; `None` if there is no owner.
    ///
    /// # Errors
    /// `LABEL-KEY`, `SERVER-CONFIG`.
    pub(crate) fn open(
        settings: &[config::Label],
        origin: &str,
        reader: &Reader,
    ) -> Result<Option<Arc<Self>>, Finding> {
        if settings.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(Self {
            origin: origin.to_owned(),
            owners: config::Label::owners(settings)?,
            reader: reader.clone(),
            turn: tokio::sync::Semaphore::new(AT_ONCE),
        })))
    }

    /// A tile at exactly that width; `None` if the ledger is not that large. Blocks on the disk.
    pub(crate) fn tile(&self, path: &LabelPath) -> Result<Option<Vec<u8>>, StoreError> {
        let range = path.records();
        if range.end > self.reader.size() {
            return Ok(None);
        }
        let mut records = Vec::new();
        let mut from = range.start;
        // Within one read, but for the bytes that it may have.
        while from < range.end {
            let read = self.reader.read(from..range.end)?;
            if read.is_empty() {
                return Ok(None);
            }
            from = from.saturating_add(u64::try_from(read.len()).unwrap_or(u64::MAX));
            records.extend(read);
        }
        let earlier = |index| {
            let record = self.reader.record(index).ok()?;
            Some(record.into_bytes())
        };
        let made = self
            .owners
            .tile(&self.origin, range.start, &records, earlier);
        Ok(Some(made))
    }
}
