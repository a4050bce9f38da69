//! A mirror: another ledger's records and checkpoints, verified as they come and then only read.
//! The server keeps one of each gateway.

use crate::batch::BatchBuilder;
use crate::head::Head;
use crate::ledger::lock_dir;
use crate::log::{LogWriter, WriteError};
use crate::{Options, Reader, StoreError, recovery, tiler};
use ledger::merkle::{self, Hash, empty_root};
use ledger::{Checkpoint, LedgerKey, Record};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Bytes of records of one [`Mirror::append`], at most.
const MAX_BYTES: usize = 32 << 20;

/// Owned by whoever follows the ledger; [`Mirror::reader`] is for everybody.
pub struct Mirror {
    writer: LogWriter,
    key: LedgerKey,
    failed: Option<StoreError>,
    tiler: Option<JoinHandle<()>>,
    _lock: Box<dyn Send + Sync>,
}

impl Mirror {
    /// Opens the mirror in `dir` of the ledger whose checkpoints `key` signs.
    pub fn open(dir: &Path, key: LedgerKey, options: &Options) -> Result<Self, StoreError> {
        let made = options.disk.create_dir_all(dir);
        made.map_err(StoreError::io("cannot create", dir))?;
        let lock = lock_dir(options, dir)?;
        let empty = Head {
            checkpoint: Checkpoint {
                origin: key.origin().clone(),
                size: 0,
                root: empty_root(),
            },
            note: "".into(),
        };
        let recovered = recovery::open(dir, &key, options, empty)?;
        let log = Arc::clone(&recovered.writer.log);
        let tiler = std::thread::Builder::new()
            .name("mirror-tile".to_owned())
            .spawn(move || {
                if let Err(error) = tiler::run(&log) {
                    tracing::error!(%error, "a mirror's tiles are not written until the next start");
                }
            });
        let tiler = tiler.map_err(StoreError::io("cannot start a thread for", dir))?;
        Ok(Self {
            writer: recovered.writer,
            key,
            failed: None,
            tiler: Some(tiler),
            _lock: lock,
        })
    }

    #[must_use]
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.writer.log))
    }

    /// The key that signs the ledger now, with what is known of those before it.
    #[must_use]
    pub const fn key(&self) -> &LedgerKey {
        &self.key
    }

    /// From now on the ledger is the log of `key`, which goes on from the one that is mirrored, or knows more of what
    /// that went on from. What is here stays: the first records of the new log are those of the old one.
    ///
    /// INVARIANT: the link is durable beside what is mirrored before anything that it leads to is.
    ///
    /// # Errors
    /// [`StoreError::Mirror`] if it goes on from another, or more is here than that ended with; if the disk takes nothing.
    pub fn succeed(&mut self, key: LedgerKey) -> Result<(), StoreError> {
        let first = self.key.bare();
        let mut known = std::iter::successors(Some(&key), |key| key.before());
        if !known.any(|known| *known == first) {
            return Err(refused(format!("{key} does not go on from {first}")));
        }
        let head = self.writer.log.heads.get();
        if head.checkpoint.size > 0 {
            Checkpoint::open(&head.note, &key).map_err(|error| refused(error.to_string()))?;
        }
        crate::keep_lineage(&self.writer.log.dir, &key)?;
        self.key = key;
        Ok(())
    }

    /// Checks that the ledger's checkpoint `note` extends what is mirrored, without its records.
    pub fn extends(&self, note: &str, consistency: &[Hash]) -> Result<Checkpoint, StoreError> {
        let checkpoint = self.checkpoint(note)?;
        let held = self.writer.frontier();
        let (new, root) = (checkpoint.size, checkpoint.root);
        merkle::verify_consistency(held.size(), &held.root(), new, &root, consistency)
            .map_err(|error| refused(error.to_string()))?;
        Ok(checkpoint)
    }

    /// Adds the records from `first` on. They end where the signed checkpoint `note` does and lead
    /// to its root, which shows that it extends what is here; else nothing is kept.
    pub fn append(
        &mut self,
        first: u64,
        records: &[Vec<u8>],
        note: &str,
    ) -> Result<Checkpoint, StoreError> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let expected = self.writer.frontier().size();
        if first != expected {
            let found = first;
            return Err(StoreError::Position { expected, found });
        }
        let checkpoint = self.checkpoint(note)?;
        let bytes: usize = records.iter().map(Vec::len).sum();
        if bytes > MAX_BYTES || records.is_empty() {
            let what = format!("{bytes} bytes in {} records at once", records.len());
            return Err(refused(what));
        }
        let mut builder = BatchBuilder::new(self.writer.frontier().clone(), bytes);
        for record in records {
            self.check(record)?;
            builder.push(|out| out.extend_from_slice(record));
        }
        let reached = builder.after();
        if (reached.size(), reached.root()) != (checkpoint.size, checkpoint.root) {
            let size = checkpoint.size;
            return Err(refused(format!(
                "the records do not lead to its checkpoint of {size}"
            )));
        }
        let batch = builder.finish(checkpoint.clone(), note);
        self.writer.write(&batch).map_err(|error| match error {
            WriteError::Full => StoreError::DiskFull,
            WriteError::Fatal(error) => {
                let cause = error.to_string().into();
                self.failed = Some(StoreError::Poisoned { cause });
                error
            }
        })?;
        Ok(checkpoint)
    }

    fn check(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let record = Record::parse(bytes).map_err(|error| StoreError::Record(Arc::new(error)))?;
        if self.key.origin().holds(record.origin()) {
            Ok(())
        } else {
            Err(refused(format!("a record of {}", record.origin())))
        }
    }

    fn checkpoint(&self, note: &str) -> Result<Checkpoint, StoreError> {
        Checkpoint::open(note, &self.key).map_err(|error| refused(error.to_string()))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.writer.log.tiler.close();
        self.writer.log.heads.close();
        // A thread that panicked has nothing left to say here.
        let _ended = self.tiler.take().map(JoinHandle::join);
    }
}

const fn refused(what: String) -> StoreError {
    StoreError::Mirror { what }
}
