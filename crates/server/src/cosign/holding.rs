//! Whether a mirror has the first records of this ledger now, asked of it as by any reader, before they go here. A line
//! that was kept says what somebody had once; and a witness that is no mirror signs too.

use super::{Asked, addresses};
use crate::config;
use facts::Finding;
use ledger::merkle::leaf_hash;
use ledger::tile::{Kind, TilePath, WIDTH};
use ledger::witness::origin_hash;
use ledger::{Checkpoint, CosignerKey, LedgerKey, Note, decode_bundle};
use ledger_store::Reader;
use std::time::Duration;

/// Bundles that are read of it, about: evenly over all that goes, and the last one.
const MOST_READ: u64 = 64;
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
}

/// One of `settings.mirrors` that has the records below `minimum`, in words; else, why each has not. Blocks.
pub(crate) fn holding(
    settings: &config::Witnesses,
    reader: &Reader,
    key: &LedgerKey,
    minimum: u64,
) -> Result<Result<String, String>, Finding> {
    let policy = settings.read(key).map_err(|error| error.finding())?;
    let asked = addresses(settings, &policy)?;
    let within = settings.timeout();
    let wanted = Wanted {
        reader,
        key,
        minimum,
        within,
    };
    // On a thread of its own: whoever calls may be on one that drives others.
    let asking = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        runtime.block_on(async {
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
        })
    };
    let answered = std::thread::scope(|scope| scope.spawn(asking).join());
    Ok(answered.unwrap_or_else(|_| Err("the mirrors could not be asked".to_owned())))
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
        let bundles = self.minimum.div_ceil(WIDTH);
        let (step, last) = (
            bundles.div_ceil(MOST_READ).max(1),
            bundles.saturating_sub(1),
        );
        let mut read = 0_u64;
        for index in (0..bundles).filter(|index| index % step == 0 || *index == last) {
            self.bundle(&under, index, asked).await?;
            read = read.saturating_add(1);
        }
        Ok(format!(
            "at the mirror {}, which has {size} records: {read} of their {bundles} bundles were read there",
            mirror.name()
        ))
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
        let bytes = asked.address.read(&path, self.within).await?;
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
