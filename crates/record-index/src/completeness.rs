//! Whether ledgers have gaps: each is read whole and hashed up to its signed head, folded by
//! [`ledger::completeness`], and held against the anchors of it in the server's ledger. No index is asked.

use crate::follow::each_record;
use crate::site::{Site, Source};
use crate::verify::is_root;
use crate::{Error, TimeRange};
use ledger::body::Anchor;
use ledger::completeness::{Cause, Counts, Fold, Missing, Outlook, Roots};
use ledger::{Hash, NewestAnchors, Receipt, Record, RecordError};
use ledger_store::{Head, Reader, StoreError};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Something that is missing, with proof of what stands around it.
#[derive(Debug, Clone)]
pub struct Found {
    pub missing: Missing,
    /// Of the records before and after it, where they were asked for.
    pub receipts: Vec<Receipt>,
}

/// How far the server's ledger holds an enforcement point to what it recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchored {
    pub size: u64,
    /// Index of the newest anchor in the server's ledger, and its Unix milliseconds.
    pub record: u64,
    pub time: u64,
}

/// One ledger's answer.
#[derive(Debug, Clone)]
pub struct Complete {
    pub ledger: String,
    pub origin: String,
    /// What was read up to; absent of a ledger that is not here.
    pub head: Option<Arc<Head>>,
    pub counts: Counts,
    pub found: Vec<Found>,
    /// What is missing besides, and not listed.
    pub more: u64,
    /// `None`: the server's ledger is not among the folders, or has no anchor of this one.
    pub anchored: Option<Anchored>,
}

impl Complete {
    /// What no record accounts for.
    #[must_use]
    pub fn unexplained(&self) -> u64 {
        let listed = self.found.iter().filter(|found| !found.missing.explained);
        self.more.saturating_add(listed.count() as u64)
    }
}

/// The anchors in the server's ledger, as they are read.
#[derive(Default)]
struct Anchors {
    newest: NewestAnchors<Anchored>,
    /// The first thing that is wrong with those of each ledger.
    wrong: NewestAnchors<Missing>,
    /// Of those that this version cannot read, the first.
    unread: Option<Missing>,
}

struct Trees<'a>(&'a Reader);

impl Roots for Trees<'_> {
    type Error = Error;

    fn root(&self, size: u64) -> Result<Hash, Error> {
        Ok(self.0.root(size)?)
    }
}

/// Each ledger's gaps that touch `times`. `receipts`: with those of the records around each.
///
/// # Errors
/// [`Error::Lied`] with `RECORDS-LEDGER-ROOT` if records are not those of the signed head.
pub fn completeness(
    site: &Site,
    times: &TimeRange,
    receipts: bool,
) -> Result<Vec<Complete>, Error> {
    // As a question's `until`: what is of that moment is not asked for.
    let until = times
        .until
        .map_or(u64::MAX, |until| until.saturating_sub(1));
    let window = times.since.unwrap_or(0)..=until;
    let mut anchors = Anchors::default();
    let mut answers = Vec::with_capacity(site.sources.len());
    // The server's comes first: it says how far each other has to go.
    for source in &site.sources {
        let origin = source.head.checkpoint.origin.to_string();
        let mut fold = Fold::new(&origin, !source.server, window.clone());
        let trees = Trees(source.reader());
        let root = each_record(source.reader(), source.size(), |index, bytes| {
            let record = fold.take(bytes, &trees)?;
            match record.filter(|_| source.server) {
                Some(record) => anchors.take(site, &record, index),
                // Bytes that are no record the fold has told.
                None => Ok(()),
            }
        })?;
        is_root(source, &root)?;
        let Outlook {
            counts,
            mut missing,
            more,
        } = fold.finish();
        let wrong = anchors.wrong.remove(&origin).into_iter();
        let unread = anchors.unread.take();
        let wrong = wrong.chain(unread.filter(|_| source.server));
        missing.extend(wrong.filter(|wrong| touches(wrong, &window)));
        let anchored = anchors.newest.remove(&origin);
        answers.push(Complete {
            ledger: source.name.clone(),
            origin,
            head: Some(Arc::clone(&source.head)),
            counts,
            found: proved(source, missing, receipts)?,
            more,
            anchored,
        });
    }
    let elsewhere = anchors.newest.into_iter();
    answers.extend(elsewhere.map(|(origin, newest)| absent(origin, newest)));
    Ok(answers)
}

impl Anchors {
    fn take(&mut self, site: &Site, record: &Record, index: u64) -> Result<(), Error> {
        let wall = record.stamp().wall;
        let anchor = match Anchor::of(record) {
            Ok(Some(anchor)) => anchor,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.unread
                    .get_or_insert_with(|| unread(index, wall, &error));
                return Ok(());
            }
        };
        let newest = Anchored {
            size: anchor.size.0,
            record: index,
            time: wall,
        };
        let before = self.newest.put(&anchor.origin, newest);
        let of_it = |source: &&Source| {
            let origin = source.head.checkpoint.origin.as_str();
            ledger::line(origin) == ledger::line(&anchor.origin)
        };
        let Some(source) = site.sources.iter().find(of_it) else {
            return Ok(());
        };
        if self.wrong.of(&anchor.origin).is_some() {
            return Ok(());
        }
        let size = anchor.size.0;
        let wrong = |after: Option<u64>, lost: Option<u64>, detail: String| Missing {
            cause: Cause::Anchor,
            explained: false,
            after,
            before: None,
            from: before.map_or(wall, |before| before.time),
            to: wall,
            lost,
            detail,
        };
        let told = if size > source.size() {
            let what = format!(
                "server:{index} anchors {size} records, {} are here",
                source.size()
            );
            let last = source.size().checked_sub(1);
            wrong(last, Some(size - source.size()), what)
        } else if source.reader().root(size)? != anchor.root.0 {
            let what = format!("server:{index} anchors {size} records other than those here");
            wrong(size.checked_sub(1), None, what)
        } else if let Some(before) = before.filter(|before| before.size > size) {
            let what = format!(
                "server:{index} anchors {size} records after {}",
                before.size
            );
            wrong(size.checked_sub(1), None, what)
        } else {
            return Ok(());
        };
        self.wrong.put(&anchor.origin, told);
        Ok(())
    }
}

/// That the server may have anchored more than anybody can see.
fn unread(index: u64, wall: u64, error: &RecordError) -> Missing {
    Missing {
        cause: Cause::Unread,
        explained: false,
        after: index.checked_sub(1),
        before: Some(index),
        from: wall,
        to: wall,
        lost: None,
        detail: format!("server:{index} is an anchor: {error}"),
    }
}

fn touches(missing: &Missing, window: &RangeInclusive<u64>) -> bool {
    missing.to >= *window.start() && missing.from <= *window.end()
}

/// A ledger that the server holds anchors of, and that is in none of the folders.
fn absent(origin: String, newest: Anchored) -> Complete {
    let size = newest.size;
    let missing = Missing {
        cause: Cause::Ledger,
        explained: false,
        after: None,
        before: None,
        from: 0,
        to: newest.time,
        lost: Some(size),
        detail: format!(
            "the server anchors {size} records of {origin}, and its folder was not named"
        ),
    };
    Complete {
        ledger: origin.clone(),
        origin,
        head: None,
        counts: Counts::default(),
        found: vec![Found {
            missing,
            receipts: Vec::new(),
        }],
        more: 0,
        anchored: Some(newest),
    }
}

fn proved(source: &Source, missing: Vec<Missing>, receipts: bool) -> Result<Vec<Found>, Error> {
    let mut found = Vec::with_capacity(missing.len());
    for missing in missing {
        let around = [missing.after, missing.before];
        let around = around.into_iter().flatten().filter(|_| receipts);
        let mut proofs = Vec::new();
        for index in around {
            match source.receipt(index) {
                Ok(receipt) => proofs.push(receipt),
                // One that this version cannot read, it cannot check.
                Err(Error::Ledger(StoreError::Record(_))) => {}
                Err(error) => return Err(error),
            }
        }
        found.push(Found {
            missing,
            receipts: proofs,
        });
    }
    Ok(found)
}
