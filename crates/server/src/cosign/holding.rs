//! Whether a mirror has the first records of this ledger now, asked of it as by any reader, before they go here. A line
//! that was kept says what somebody had once; and a witness that is no mirror signs too. All that goes is read there: a
//! mirror that has lost one bundle shows the same checkpoint as one that has all.

use super::driven::driven;
use super::{Asked, addresses};
use crate::config;
use facts::Finding;
use ledger::merkle::leaf_hash;
use ledger::tile::{Kind, TilePath, WIDTH};
use ledger::witness::origin_hash;
use ledger::{Checkpoint, CosignerKey, LedgerKey, Note, decode_bundle};
use ledger_store::Reader;
use std::cell::Cell;
use std::time::Duration;

/// How often a bundle is asked for, of which no whole answer comes: who reads for hours begins not anew for that.
const TRIES: u32 = 4;
/// Before the third time it waits so long, and before the fourth twice that.
const PAUSE: Duration = Duration::from_secs(1);
/// Where a mirror that stands beside a witness is read, and one that stands alone.
const PLACES: [&str; 2] = ["/mirror", ""];

/// What is asked for.
struct Wanted<'a> {
    reader: &'a Reader,
    key: &'a LedgerKey,
    /// Records below it.
    minimum: u64,
    /// One answer has so long.
    within: Duration,
    /// Hears how many of them were read.
    told: &'a (dyn Fn(u64) + Sync),
}

/// What is still to be read, of so many bundles.
struct Left {
    bundles: u64,
    next: Cell<u64>,
    read: Cell<u64>,
}

/// One of `settings.mirrors` that has the records below `minimum`, which is a multiple of 256, in words; else, why each
/// has not. Every one is read there, and `told` how many were. Blocks for as long as that takes.
pub(crate) fn holding(
    settings: &config::Witnesses,
    reader: &Reader,
    key: &LedgerKey,
    minimum: u64,
    told: &(dyn Fn(u64) + Sync),
) -> Result<Result<String, String>, Finding> {
    let policy = settings.read(key).map_err(|error| error.finding())?;
    let asked = addresses(settings, &policy)?;
    let within = settings.timeout();
    let wanted = Wanted {
        reader,
        key,
        minimum,
        within,
        told,
    };
    let answered = driven(|| async {
        let mut failed = Vec::new();
        for one in &asked {
            for mirror in &one.mirrors {
                match wanted.of(one, mirror).await {
                    Ok(words) => return Ok(words),
                    Err(what) => failed.push(format!("{}: {what}", mirror.name())),
                }
            }
        }
        Err(failed.join("; "))
    });
    Ok(answered.unwrap_or_else(|error| Err(format!("the mirrors could not be asked: {error}"))))
}

impl Wanted<'_> {
    async fn of(&self, asked: &Asked, mirror: &CosignerKey) -> Result<String, String> {
        let mut failed = None;
        for place in PLACES {
            match self.at(place, asked, mirror).await {
                Ok(words) => return Ok(words),
                Err(what) => failed = failed.or(Some(what)),
            }
        }
        Err(failed.unwrap_or_default())
    }

    async fn at(&self, place: &str, asked: &Asked, mirror: &CosignerKey) -> Result<String, String> {
        let under = format!("{place}/{}", origin_hash(self.key.origin().as_str()));
        let path = format!("{under}/checkpoint");
        let note = asked.address.read(&path, self.within).await?;
        let size = self.head(&note, mirror)?;
        let left = Left {
            bundles: self.minimum.div_ceil(WIDTH),
            next: Cell::new(0),
            read: Cell::new(0),
        };
        // Whoever is far away answers some while others are on their way. Each holds one bundle.
        let lane = || self.lane(&under, &left, asked);
        tokio::try_join!(
            lane(),
            lane(),
            lane(),
            lane(),
            lane(),
            lane(),
            lane(),
            lane()
        )?;
        Ok(format!(
            "at the mirror {}, which has {size} records: all of the first {} were read there",
            mirror.name(),
            self.minimum
        ))
    }

    /// Reads what is left, one bundle after the other.
    async fn lane(&self, under: &str, left: &Left, asked: &Asked) -> Result<(), String> {
        while left.next.get() < left.bundles {
            let index = left.next.get();
            left.next.set(index.saturating_add(1));
            self.bundle(under, index, asked).await?;
            left.read.set(left.read.get().saturating_add(1));
            (self.told)(left.read.get().saturating_mul(WIDTH));
        }
        Ok(())
    }

    async fn read(&self, path: &str, asked: &Asked) -> Result<Vec<u8>, String> {
        let mut tried = 1;
        loop {
            let came = asked.address.read(path, self.within).await;
            if came.is_ok() || tried == TRIES {
                return came;
            }
            tokio::time::sleep(PAUSE * (tried - 1)).await;
            tried += 1;
        }
    }

    /// How many records it says to have, under its line and the ledger's.
    fn head(&self, note: &[u8], mirror: &CosignerKey) -> Result<u64, String> {
        let text = String::from_utf8_lossy(note);
        let note = Note::parse(&text).map_err(|error| facts::with_causes(&error))?;
        if !matches!(mirror.verify(&note), Ok(Some(_))) {
            return Err("its checkpoint has no line of its key".to_owned());
        }
        let head = Checkpoint::open(&note.strip(self.key).to_string(), self.key)
            .map_err(|error| facts::with_causes(&error))?;
        if head.origin != *self.key.origin() {
            return Err("its checkpoint is of another log".to_owned());
        }
        if head.size < self.minimum {
            return Err(format!("it has {} records", head.size));
        }
        let ours = self.reader.root(head.size);
        match ours.map_err(|error| facts::with_causes(&error))? == head.root {
            true => Ok(head.size),
            false => Err("its checkpoint is of other records".to_owned()),
        }
    }

    /// One bundle of it is what was recorded here. Of what is gone here the hashes are left.
    async fn bundle(&self, under: &str, index: u64, asked: &Asked) -> Result<(), String> {
        let at = |kind| TilePath::at(kind, index, self.minimum);
        let (Some(entries), Some(hashes)) = (at(Kind::Entries), at(Kind::Hashes(0))) else {
            return Err(format!("there is no bundle {index}"));
        };
        let path = format!("{under}/{entries}");
        let bytes = self.read(&path, asked).await?;
        let records = decode_bundle(&bytes, usize::from(entries.width()));
        let records = records.map_err(|error| facts::with_causes(&error))?;
        let given: Vec<u8> = records.into_iter().flat_map(leaf_hash).collect();
        let ours = self.reader.tile(&hashes);
        let ours = ours.map_err(|error| facts::with_causes(&error))?;
        match ours.is_some_and(|ours| ours == given) {
            true => Ok(()),
            false => Err(format!("its {entries} is not what was recorded")),
        }
    }
}
