//! The ledger goes on as a new log, under a new name and key: because its key is replaced, or because what witnesses
//! have cosigned was lost with the disk and a copy is all that is left. The server does not run meanwhile.
//!
//! Order: the new key, then the link that both keys signed, beside the key; then the first records of the new log.
//! Cut short before the last step, the server does not start, and the same command goes on where it was.

use super::open::{self, Opening, StartError};
use crate::config::Config;
use crate::signing::{Foreign, Signing, behind};
use facts::Finding;
use ledger::body::{self, Body as _, KeyRotation};
use ledger::lineage::{self, Link};
use ledger::{Checkpoint, Decimal, Digest, Draft, LedgerKey, RecordBuilder};
use ledger_store::Reader;

/// What became of it.
#[derive(Debug, Clone)]
pub struct NewLog {
    /// The key of the log that ended.
    pub was: LedgerKey,
    /// The key of the log that goes on.
    pub key: LedgerKey,
    /// Records that both have.
    pub size: u64,
    /// Records of the head that was given up, if one was.
    pub given_up: Option<u64>,
    /// The record of the link.
    pub index: u64,
}

/// How it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Why<'a> {
    pub reason: &'a str,
    /// Who says so, as records name administrators: `uid:0`.
    pub by: &'a str,
    /// Goes on although the highest head that was published is not in the ledger.
    pub give_up: bool,
}

/// Ends the log of `config`'s server and goes on as a new one.
///
/// # Errors
/// `SERVER-BEHIND-PEER` if records are missing and nobody said that they are given up; `SERVER-NEW-LOG-EMPTY`;
/// those of opening what is on disk.
pub fn new_log(config: &Config, why: Why<'_>) -> Result<NewLog, StartError> {
    config.check()?;
    let mut opening = Opening::of(config)?;
    let ledger = opening.ledger(config, None)?;
    let stays = ledger.reader().head().checkpoint.clone();
    if stays.size == 0 {
        return Err(StartError::Refused(
            Finding::new("SERVER-NEW-LOG-EMPTY", "there is no ledger to go on from")
                .expected("the data directory of a server that has run")
                .observed(config.data_dir.display().to_string())
                .next("restore the data directory from a backup"),
        ));
    }
    let lost = lost(&opening, ledger.reader())?;
    let lost =
        match lost {
            Some(head) if !why.give_up => {
                let peer = "the head kept with the ledger's key";
                return Err(StartError::Refused(behind(peer, head.size, stays.size).next(
                "restore the newest copy, or give up what is missing and go on as a new log: \
                 trilith server new-log --config FILE --give-up --reason TEXT",
            )));
            }
            lost => lost,
        };
    let resumed = unfinished(ledger.reader(), opening.keys.signer.key())?;
    ledger.close()?;
    if resumed.is_none() {
        let next = opening.keys.next()?;
        let tree = (stays.size, stays.root);
        let link = Link::sign(&opening.keys.signer, &next, tree, &reason(why.reason))
            .map_err(|error| StartError::Failed(facts::with_causes(&error)))?;
        opening.keys.succeed(next, link)?;
    }
    begin(config, &opening, &stays, lost, why)
}

/// The first records of the new log: the link, links whose records were lost, and what was given up.
fn begin(
    config: &Config,
    opening: &Opening,
    stays: &Checkpoint,
    lost: Option<Foreign>,
    why: Why<'_>,
) -> Result<NewLog, StartError> {
    let key = opening.keys.signer.key().clone();
    let mut links = lineage::links(&key);
    let newest = links.pop().ok_or_else(nothing_signed)?;
    let was = open_link(&newest)?.from;
    let mut drafts = vec![draft(newest.record(), why.by)?];
    for link in links {
        // Its record came first in its log, and lies beyond what is left.
        if open_link(&link)?.size >= stays.size {
            drafts.push(draft(link.record(), why.by)?);
        }
    }
    let given_up = lost.as_ref().map(|head| head.size);
    let ledger = opening.ledger(config, None)?;
    if let Some(head) = lost {
        let recovery = crate::admin::recovery(&head, stays, &reason(why.reason), why.by);
        drafts.push(draft(recovery.record(), why.by)?);
        let gap = body::Gap {
            cause: "recovery".to_owned(),
            from: newest_time(ledger.reader())?,
            to: facts::Timestamp::now().as_millis(),
            lost: head.size.checked_sub(stays.size).map(Decimal),
            detail: reason(why.reason),
        };
        drafts.push(draft(gap.record(), why.by)?);
    }
    let committed = ledger.append_many_reserved(drafts).wait()?;
    let head = ledger.reader().head().checkpoint.clone();
    // Remembered now: what was published last is of the new log.
    opening
        .head
        .advance(head.size, &head.root, &Signing::default())
        .map_err(|source| StartError::Directory {
            path: opening.ledger_dir.clone(),
            source,
        })?;
    ledger.close()?;
    Ok(NewLog {
        was,
        key,
        size: stays.size,
        given_up,
        index: committed
            .first()
            .map_or(stays.size, ledger_store::Committed::index),
    })
}

/// The link of the newest log, if that has no record yet: a new log that was begun and cut short.
pub(super) fn unfinished(
    reader: &Reader,
    key: &LedgerKey,
) -> Result<Option<KeyRotation>, StartError> {
    let head = reader.head().checkpoint.clone();
    let Some(newest) = lineage::links(key).pop() else {
        return Ok(None);
    };
    let link = open_link(&newest)?;
    let begun = head.origin == *key.origin();
    Ok(
        (!begun && (link.size, Digest(link.root)) == (head.size, Digest(head.root)))
            .then_some(newest),
    )
}

/// The highest head that was published, if it is not one of this ledger and no recovery has given it up.
fn lost(opening: &Opening, reader: &Reader) -> Result<Option<Foreign>, StartError> {
    let Some((size, root)) = opening.head.read()? else {
        return Ok(None);
    };
    let ours = size <= reader.size() && (size == 0 || reader.root(size)? == root);
    let note = None;
    Ok((!ours).then_some(Foreign { size, root, note }))
}

/// When the last record was made.
fn newest_time(reader: &Reader) -> Result<u64, StartError> {
    let last = reader.size().saturating_sub(1);
    let unread = |source| StartError::Record {
        index: last,
        source,
    };
    let bytes = reader.record(last)?.into_bytes();
    Ok(ledger::Record::from_vec(bytes)
        .map_err(unread)?
        .stamp()
        .wall)
}

fn open_link(rotation: &KeyRotation) -> Result<Link, StartError> {
    Link::open(rotation).map_err(|error| StartError::Failed(facts::with_causes(&error)))
}

fn draft(record: RecordBuilder, by: &str) -> Result<Draft, StartError> {
    let draft = record.actor(by, open::UID).draft();
    draft.map_err(|source| StartError::Record { index: 0, source })
}

fn reason(reason: &str) -> String {
    reason.chars().take(512).collect()
}

fn nothing_signed() -> StartError {
    StartError::Failed("there is no link to the new log".to_owned())
}
