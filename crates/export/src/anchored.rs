//! What a server's own ledger anchors of others: how long each of them has to be here. Remembered in the cursor, so
//! that each record of the server's is looked at once.

use crate::Error;
use facts::Finding;
use ledger::body::Anchor;
use ledger::{Digest, NewestAnchors};
use ledger_store::Reader;
use serde::{Deserialize, Serialize};

/// Records read together.
const CHUNK: u64 = 4_096;

/// The newest anchor of each ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Anchors {
    /// The server's records below it were looked at.
    next: u64,
    newest: NewestAnchors<Anchored>,
    /// The first record below `next` that may be an anchor of any ledger, and that could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unread: Option<u64>,
}

/// One anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Anchored {
    size: u64,
    root: Digest,
    /// The server's record.
    record: u64,
}

impl Anchors {
    /// What an earlier version could not read, this one may.
    pub(crate) fn again(&mut self) {
        if let Some(unread) = self.unread.take() {
            self.next = self.next.min(unread);
        }
    }

    /// Looks at some more of the server's records; false if there are none.
    pub(crate) fn read(&mut self, server: &Reader) -> Result<bool, Error> {
        let size = server.size();
        // Of a server's ledger that was shorter again: what is exported of it tells that.
        if self.next > size {
            *self = Self::default();
        }
        let from = server.next_there(self.next);
        if from >= size {
            return Ok(false);
        }
        let records = server.read(from..size.min(from.saturating_add(CHUNK)))?;
        self.next = from;
        for bytes in &records {
            match Anchor::read(bytes) {
                Ok(Some(anchor)) => {
                    let anchored = Anchored {
                        size: anchor.size.0,
                        root: anchor.root,
                        record: self.next,
                    };
                    self.newest.put(&anchor.origin, anchored);
                }
                Ok(None) => {}
                Err(_) => self.unread = self.unread.or(Some(self.next)),
            }
            self.next += 1;
        }
        Ok(!records.is_empty())
    }

    /// The first ledger among those that `wanted` says of which `found` has less than is anchored.
    pub(crate) fn lacking<'a>(
        &self,
        wanted: impl Fn(&str) -> bool,
        found: impl Fn(&str) -> Option<&'a Reader>,
    ) -> Result<Option<Finding>, Error> {
        for (line, anchored) in self.newest.iter() {
            if !wanted(line) {
                continue;
            }
            let here = match found(line) {
                None => "no mirror of it".to_owned(),
                Some(reader) if reader.size() < anchored.size => {
                    format!("{} records", reader.size())
                }
                Some(reader) if Digest::from(reader.root(anchored.size)?) != anchored.root => {
                    format!("others than those in its first {} records", anchored.size)
                }
                Some(_) => continue,
            };
            return Ok(Some(told(line, *anchored, here)));
        }
        Ok(None)
    }

    /// What cannot be read may be an anchor of a ledger that is not here.
    pub(crate) fn unread(&self) -> Option<Finding> {
        let record = self.unread?;
        Some(
            Finding::new(
                "EXPORT-ANCHOR-UNREAD",
                "the server may anchor records that are not here: this version cannot read what it says",
            )
            .expected("anchors of this version")
            .observed(format!("server:{record}"))
            .next("everything that is here was exported; run the same command with the version of the server, or a newer one; export what is here with --ledger NAME"),
        )
    }
}

fn told(line: &str, anchored: Anchored, here: String) -> Finding {
    let Anchored { size, record, .. } = anchored;
    Finding::new(
        "EXPORT-MIRROR",
        "the server anchors records that are not here, and so were not exported",
    )
    .expected(format!("{size} records of {line}, as server:{record} says"))
    .observed(here)
    .next("restore the folder `mirrors`, or have the server run until it has them again, and run the same command: it goes on where --cursor stands; export what is here with --ledger NAME")
}
