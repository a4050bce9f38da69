//! Rounds of publishing: what the store lacks of a signed head, and then the head. A round may end anywhere and be
//! begun again; what is in the store already is found there and left alone.

mod anchor;
mod labels;
mod tiles;

use self::anchor::Anchor;
use crate::bucket::{Bucket, Condition, Put};
use crate::failure::Failure;
use crate::kept::Kept;
use crate::place::Settings;
use facts::Finding;
use hyper::body::Bytes;
use ledger::label::LabelPath;
use ledger::lineage::{self, Link};
use ledger::tile::WIDTH;
use ledger::{Checkpoint, CheckpointError, LedgerKey, Note};
use ledger_store::{Reader, StoreError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// In the store, below the prefix.
const CHECKPOINT: &str = "checkpoint";
/// "text/plain; charset=utf-8", and never kept by what stands between.
const NOTE: (&str, &str) = ("text/plain; charset=utf-8", "no-store");
/// Bytes of a note with the lines of many witnesses.
const LONGEST_NOTE: usize = 256 * 1024;
/// A round that has more to send than so many records first publishes heads that were signed on the way, so that
/// what was sent is not sent again when it is cut short.
const STEP: u64 = 256 * WIDTH;
/// Records in which a head on the way is looked for; a commit is smaller.
const COMMIT: u64 = 2_048;
const COMMIT_BYTES: usize = 16 << 20;
/// Heads that were sent.
const REMEMBERED: usize = 4;
/// What this process has put there is sent and compared again where the checkpoint was removed or put back, so often
/// within that time. Beyond it the checkpoint alone is put right: whoever removes it again and again has the whole
/// ledger read and sent no more often.
const AGAIN: usize = 3;
const AGAIN_WITHIN: Duration = Duration::from_secs(60 * 60);

/// A head of the ledger, as it is to stand in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub size: u64,
    pub note: Arc<str>,
}

/// What happens, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An object of so many bytes was stored.
    Stored(usize),
    /// It was there.
    Found,
    /// A partial tile was removed.
    Removed,
    /// A head stands in the store.
    Published(u64),
}

/// The checkpoint in the store, when it was looked at last.
struct Held {
    size: u64,
    note: Option<String>,
    /// What has to be true for the next to take its place.
    condition: Condition,
}

/// Of one ledger to one place.
pub struct Publisher {
    bucket: Bucket,
    reader: Reader,
    key: LedgerKey,
    entries: bool,
    kept: Kept,
    /// The newest that were sent, the last at the end: one whose answer was lost may still arrive.
    sent: Vec<Arc<str>>,
    /// Records of which this process has put all tiles there, or has found them.
    there: u64,
    /// When it began to do so again.
    again: Vec<Instant>,
    tell: Box<dyn Fn(Event) + Send + Sync>,
    /// Labels beside the tiles of hashes, where there are owners. Blocks on the disk.
    labels: Option<Arc<Labels>>,
    /// What vouches for the head, of a ledger that is anchored in another.
    anchor: Anchor,
}

type Labels = dyn Fn(&LabelPath) -> Result<Option<Vec<u8>>, StoreError> + Send + Sync;

/// A bucket and how it is reached, for ledgers that are published there, each below a prefix of its own.
pub struct Store {
    bucket: Bucket,
    entries: bool,
}

impl Store {
    /// Checks the settings and reads the credentials. Asks nobody. Blocks on the disk.
    ///
    /// # Errors
    /// `PUBLISH-PLACE`, `PUBLISH-CREDENTIALS`, `PUBLISH-CA`.
    pub fn open(settings: &Settings) -> Result<Self, Finding> {
        Ok(Self {
            bucket: Bucket::open(settings)?,
            entries: settings.entries,
        })
    }

    /// Of one ledger; `kept` is a file in the data directory. Blocks on the disk.
    ///
    /// # Errors
    /// `PUBLISH-PLACE` if that is no prefix.
    pub fn publisher(
        &self,
        prefix: &str,
        kept: &Path,
        reader: Reader,
        key: LedgerKey,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Publisher, Finding> {
        let bucket = self.bucket.below(prefix)?;
        let kept = Kept::open(kept, &bucket.place().shown());
        Ok(Publisher {
            bucket,
            reader,
            key,
            entries: self.entries,
            kept,
            sent: Vec::new(),
            there: 0,
            again: Vec::new(),
            tell: Box::new(tell),
            labels: None,
            anchor: Anchor::default(),
        })
    }
}

impl Publisher {
    /// Checks the settings and reads the credentials; `kept` is a file in the data directory. Asks nobody. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// `PUBLISH-PLACE`, `PUBLISH-CREDENTIALS`, `PUBLISH-CA`.
    pub fn open(
        settings: &Settings,
        kept: &Path,
        reader: Reader,
        key: LedgerKey,
        tell: impl Fn(Event) + Send + Sync + 'static,
    ) -> Result<Self, Finding> {
        let store = Store::open(settings)?;
        store.publisher(&settings.prefix, kept, reader, key, tell)
    }

    /// With labels, which are made anew each time.
    #[must_use]
    pub fn with_labels(
        mut self,
        make: impl Fn(&LabelPath) -> Result<Option<Vec<u8>>, StoreError> + Send + Sync + 'static,
    ) -> Self {
        self.labels = Some(Arc::new(make));
        self
    }

    /// Where it is published, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.bucket.place().shown()
    }

    /// Brings the store up to `target`, a durable head of this ledger. Answers with the records under the checkpoint
    /// that stands there then.
    ///
    /// # Errors
    /// [`Failure`]: what is in the store then is what was there before, or a part more of the same history.
    pub async fn round(&mut self, target: &Target) -> Result<u64, Failure> {
        let mut held = self.look().await?;
        let mut from = self.begin(held.size, target.size);
        loop {
            let same = held.note.as_deref() == Some(&*target.note);
            if held.size > target.size || same || target.size == 0 {
                if same {
                    self.send_anchor(target).await?;
                }
                (self.tell)(Event::Published(held.size));
                return Ok(held.size);
            }
            let next = self.on_the_way(from, target).await?;
            self.send_tiles(from, next.size).await?;
            self.there = self.there.max(next.size);
            from = next.size;
            let before = held.size;
            // INVARIANT: whoever finds a head there finds what vouches for it, or for a later one; but a store that does
            // not let that be written keeps no head from being seen.
            let mut refused = None;
            if next == *target {
                match self.send_anchor(target).await {
                    Err(Failure::Refused(finding)) => refused = Some(Failure::Refused(finding)),
                    sent => sent?,
                }
            }
            self.replace(&mut held, &next).await?;
            (self.tell)(Event::Published(next.size));
            // After the full tile and one later checkpoint.
            if before < next.size {
                self.clean(before).await;
            }
            if let Some(refused) = refused {
                return Err(refused);
            }
        }
    }

    /// The records of which no tiles are sent, where the checkpoint there has `held`.
    fn begin(&mut self, held: u64, target: u64) -> u64 {
        if held >= self.there || target < self.there {
            return held;
        }
        let now = Instant::now();
        self.again
            .retain(|at| now.duration_since(*at) < AGAIN_WITHIN);
        if self.again.len() >= AGAIN {
            return self.there;
        }
        self.again.push(now);
        held
    }

    /// What stands in the store, if this ledger may go on from it.
    async fn look(&mut self) -> Result<Held, Failure> {
        let found = self.bucket.get(CHECKPOINT, LONGEST_NOTE).await?;
        let Some(found) = found else {
            return Ok(Held {
                size: 0,
                note: None,
                condition: Condition::Absent,
            });
        };
        let Some(etag) = found.etag else {
            return Err(Failure::Refused(
                Finding::new(
                    "PUBLISH-CONDITIONS",
                    format!(
                        "the object store {} gives its objects no ETag",
                        self.place()
                    ),
                )
                .expected("conditional writes, by which a second server cannot overwrite this one")
                .next("use a store, or a newer version of it, that has them"),
            ));
        };
        let text = found.bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let Some(text) = text else {
            return Err(self.foreign("no text, or a long one"));
        };
        let size = self.judge(&text).await?;
        let held = Held {
            size,
            note: Some(text),
            condition: Condition::Is(etag),
        };
        // Narrower tiles of these may stand there, also where an earlier run's file was lost.
        self.open_tiles(size).await?;
        Ok(held)
    }

    /// The size of a checkpoint in the store that is of this ledger's history.
    async fn judge(&self, note: &str) -> Result<u64, Failure> {
        let note = Note::parse(note);
        let note = note.map_err(|error| self.foreign(&facts::with_causes(&error)))?;
        // What a log has published from which this one goes on stands there until there is a head of this one.
        let origin = note.text.split('\n').next().unwrap_or_default();
        let stripped = note.strip(&self.signing(origin)).to_string();
        let found = Checkpoint::open(&stripped, &self.key);
        let found = found.map_err(|error| match error {
            CheckpointError::Ended { .. } | CheckpointError::EndForked { .. } => {
                self.given_up(&error)
            }
            error => self.foreign(&facts::with_causes(&error)),
        })?;
        let ours = self.reader.size();
        if found.size > ours {
            return Err(Failure::Refused(
                Finding::new(
                    "PUBLISH-AHEAD",
                    format!("{} has more of this ledger than this server", self.place()),
                )
                .expected(format!("{ours} records or fewer"))
                .observed(format!("a checkpoint of {} that this ledger's key signed", found.size))
                .next("find the other server that has this ledger's key; if this one was restored from a backup, follow docs/operate/restored-backup.md, and publish what was recovered under another `prefix`"),
            ));
        }
        let reader = self.reader.clone();
        let root = tokio::task::spawn_blocking(move || reader.root(found.size)).await;
        let root = root.map_err(Failure::ledger)?.map_err(Failure::ledger)?;
        if root != found.root {
            return Err(Failure::Refused(
                Finding::new(
                    "PUBLISH-FORKED",
                    format!("{} has another history of this ledger", self.place()),
                )
                .expected(format!("the root of this server's first {} records", found.size))
                .observed("another one, that this ledger's key signed")
                .next("find the other server that has this ledger's key, and keep the checkpoint in the store: it proves the fork; this one goes on under another `prefix`"),
            ));
        }
        Ok(found.size)
    }

    /// The key of this lineage that signs for `origin`; the newest, if none of it does.
    fn signing(&self, origin: &str) -> LedgerKey {
        let links = lineage::links(&self.key);
        let mut former = links.iter().filter_map(|link| Link::open(link).ok());
        let former = former.find(|link| link.from.origin().as_str() == origin);
        former.map_or_else(|| self.key.clone(), |link| link.from)
    }

    fn foreign(&self, observed: &str) -> Failure {
        Failure::Refused(
            Finding::new(
                "PUBLISH-FOREIGN",
                format!("the checkpoint at {} is not this ledger's", self.place()),
            )
            .expected(format!("one that {} signed, or none", self.key.origin()))
            .observed(observed)
            .next("give this ledger a `prefix` of its own; if it is this ledger's place, somebody has changed the object: remove `checkpoint` there, and it is published anew"),
        )
    }

    fn given_up(&self, ended: &CheckpointError) -> Failure {
        Failure::Refused(
            Finding::new(
                "PUBLISH-GIVEN-UP",
                format!("{} has what this ledger did not go on from", self.place()),
            )
            .expected("a checkpoint of what this ledger's logs share, or none")
            .observed(facts::with_causes(ended))
            .next("if it was given up by `trilith server new-log --config FILE --give-up --reason TEXT`, publish under another `prefix`, and keep what stands there: it shows what was lost; if nothing was, somebody signs with the key that was replaced: keep a copy of `checkpoint`, remove it there, and it is published anew"),
        )
    }

    /// `target`, or a head that was signed on the way to it by the same key.
    async fn on_the_way(&self, from: u64, target: &Target) -> Result<Target, Failure> {
        let mut upto = from.saturating_add(STEP);
        // Of a log that this one goes on from no head is published any more: readers may know the newest key alone.
        while upto.saturating_add(STEP) < target.size {
            let reader = self.reader.clone();
            let read = tokio::task::spawn_blocking(move || {
                reader.read_signed(upto - COMMIT..upto, COMMIT_BYTES)
            });
            let read = read.await.map_err(Failure::ledger)?;
            let (_, note) = read.map_err(|error| Failure::read(&error))?;
            let signed = note.and_then(|note| {
                let signed = Checkpoint::open(&note, &self.key).ok()?;
                let ours = signed.origin == *self.key.origin();
                (ours && signed.size > from && signed.size <= target.size).then(|| Target {
                    size: signed.size,
                    note: note.into(),
                })
            });
            if let Some(signed) = signed {
                return Ok(signed);
            }
            upto = upto.saturating_add(STEP);
        }
        Ok(target.clone())
    }

    /// Puts the head in the place of the one that was read, or not at all.
    async fn replace(&mut self, held: &mut Held, next: &Target) -> Result<(), Failure> {
        if self.sent.len() >= REMEMBERED {
            self.sent.remove(0);
        }
        self.sent.push(Arc::clone(&next.note));
        let bytes = Bytes::from(next.note.as_bytes().to_vec());
        let put = self.bucket.put(CHECKPOINT, bytes, NOTE, &held.condition);
        let etag = match put.await? {
            Put::Stored(Some(etag)) => etag,
            Put::Stored(None) | Put::Unmet => {
                // Either it is the one that was just sent, whose answer was lost, or somebody else's.
                let now = self.look().await?;
                let is = |sent: &Arc<str>| now.note.as_deref() == Some(&**sent);
                if is(&next.note) {
                    *held = now;
                    return Ok(());
                }
                if now.note.is_none() || self.sent.iter().any(is) {
                    let what = format!("{CHECKPOINT} changed while it was replaced");
                    return Err(Failure::again(&self.place(), what));
                }
                return Err(self.second(now.size));
            }
        };
        *held = Held {
            size: next.size,
            note: Some(next.note.as_ref().to_owned()),
            condition: Condition::Is(etag),
        };
        Ok(())
    }

    /// Somebody has replaced the checkpoint since it was read, and by one of the same history.
    fn second(&self, size: u64) -> Failure {
        Failure::Refused(
            Finding::new(
                "PUBLISH-SECOND",
                format!("somebody else publishes this ledger to {}", self.place()),
            )
            .expected("the checkpoint that this server has put there")
            .observed(format!("another one, of {size} records of the same history"))
            .next("end the other server that has this ledger's data directory, or give it a `prefix` of its own"),
        )
    }
}
