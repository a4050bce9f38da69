//! The ledger goes on as a new log, under a new name and key: because its key is replaced, or because what witnesses
//! have cosigned was lost with the disk and a copy is all that is left. The server does not run meanwhile.
//!
//! Order: the new key, then the link that both keys signed, beside the key; then the first records of the new log.
//! Cut short before the last step, the server does not start, and the same command goes on where it was. Once a server
//! has started on the new log, it begins another one.

use super::open::{Opening, StartError, remember};
use super::snapshot::draft;
use crate::config::Config;
use crate::cosign::Shown;
use crate::elsewhere::Elsewhere;
use crate::signing::{Foreign, behind};
use facts::Finding;
use ledger::body::{self, Body as _, KeyRotation};
use ledger::lineage::{self, Link};
use ledger::{Checkpoint, Decimal, Digest, LedgerKey, Record, RecordType};
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
    /// It had been begun before, and no server has started since: nothing was done now.
    pub already: bool,
}

/// Records read at once.
const BATCH: u64 = 8_192;
/// More than there are of those that begin a log.
const FIRST_RECORDS: u64 = 2 * lineage::MAX_LINKS as u64;

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
/// `SERVER-LINEAGE-ELSEWHERE` if the key has signed a succession that is not known here, `SERVER-LINEAGE-WITNESSED` if
/// witnesses say so;
/// those of opening what is on disk.
pub fn new_log(config: &Config, why: Why<'_>) -> Result<NewLog, StartError> {
    config.check()?;
    let mut opening = Opening::of(config)?;
    let elsewhere = Elsewhere::in_dir(&opening.ledger_dir);
    if let Some(finding) = elsewhere.known(opening.keys.signer().key())? {
        return Err(StartError::Refused(finding));
    }
    let ledger = opening.ledger(config, None)?;
    // INVARIANT: no link is signed over a tree that contradicts one that was signed before.
    crate::lineage::goes_on(ledger.reader(), opening.keys.signer().key())?;
    let stays = ledger.reader().head().checkpoint.clone();
    if stays.size == 0 {
        return Err(StartError::Refused(
            Finding::new("SERVER-NEW-LOG-EMPTY", "there is no ledger to go on from")
                .expected("the data directory of a server that has run")
                .observed(config.data_dir.display().to_string())
                .next("restore the data directory from a backup"),
        ));
    }
    let (peer, lost) = missing(config, &opening, ledger.reader())?.unzip();
    // INVARIANT: a head that is not given up is never forgotten.
    if lost.is_none()
        && let Some(begun) = begun(&opening, ledger.reader())?
    {
        remember(&opening.head, &stays)?;
        ledger.close()?;
        return Ok(begun);
    }
    let lost =
        match lost {
            Some(head) if !why.give_up => {
                let peer = peer.unwrap_or_default();
                return Err(StartError::Refused(behind(&peer, head.size, stays.size).next(
                "restore the newest copy, or give up what is missing and go on as a new log: \
                 trilith server new-log --config FILE --give-up --reason TEXT",
            )));
            }
            lost => lost,
        };
    // INVARIANT: no key signs for two histories. Where more was published, that may have been by the newest key, in a
    // log that was begun and is not in this copy: it goes on as one that has signed nothing.
    let resumed = match &lost {
        Some(_) => None,
        None => unfinished(ledger.reader(), opening.keys.signer().key())?,
    };
    ledger.close()?;
    if resumed.is_none() {
        let next = opening.keys.next()?;
        let tree = (stays.size, stays.root);
        let link = Link::sign(opening.keys.signer(), &next, tree, &reason(why.reason))
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
    let key = opening.keys.signer().key().clone();
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
    remember(&opening.head, &head)?;
    ledger.close()?;
    Ok(NewLog {
        was,
        key,
        size: stays.size,
        given_up,
        index: committed
            .first()
            .map_or(stays.size, ledger_store::Committed::index),
        already: false,
    })
}

/// The newest log, if the ledger ends with the records that begin it: what was asked for is done already.
fn begun(opening: &Opening, reader: &Reader) -> Result<Option<NewLog>, StartError> {
    let key = opening.keys.signer().key();
    let Some(newest) = lineage::links(key).pop() else {
        return Ok(None);
    };
    let link = open_link(&newest)?;
    let size = reader.size();
    let few = size.checked_sub(link.size).filter(|few| *few > 0);
    if few.is_none_or(|few| few > FIRST_RECORDS) {
        return Ok(None);
    }
    let read = reader.read(link.size..size)?;
    if few != u64::try_from(read.len()).ok() {
        return Ok(None);
    }
    let mut given_up = None;
    for (index, bytes) in (link.size..).zip(read) {
        let record = Record::from_vec(bytes).map_err(StartError::record(index))?;
        match record.kind() {
            RecordType::KeyRotation => {
                let told = record.expect_body::<KeyRotation>();
                let told = told.map_err(StartError::record(index))?;
                if index == link.size && told != newest {
                    return Ok(None);
                }
            }
            RecordType::Recovery if index > link.size => {
                let told = record.expect_body::<body::Recovery>();
                given_up = Some(told.map_err(StartError::record(index))?.old_size.0);
            }
            RecordType::Gap if index > link.size => {}
            _ => return Ok(None),
        }
    }
    Ok(Some(NewLog {
        was: link.from,
        key: key.clone(),
        size: link.size,
        given_up,
        index: link.size,
        already: true,
    }))
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

/// The longest head that the folder of the key, or a witness, remembers of what was published and that is not here, with
/// who remembers it. A folder of the key that was restored with the rest remembers no more than that.
fn missing(
    config: &Config,
    opening: &Opening,
    reader: &Reader,
) -> Result<Option<(String, Foreign)>, StartError> {
    let beside = "the head kept with the ledger's key".to_owned();
    let mut missing = lost(opening, reader)?.map(|head| (beside, head));
    let Some(settings) = &config.witnesses else {
        return Ok(missing);
    };
    let key = opening.keys.signer().key();
    let shown = Shown::ask_blocking(settings, key)?;
    // INVARIANT: a key that has signed a succession signs no other one.
    if let Some(finding) = shown.later(key) {
        return Err(StartError::Refused(finding));
    }
    for (peer, head) in shown.heads(key, reader, None) {
        let known = missing.as_ref().map_or(0, |(_, known)| known.size);
        if head.size > known && !recovered(reader, head.size, Digest(head.root))? {
            missing = Some((peer, head));
        }
    }
    Ok(missing)
}

/// The highest head that was published, if it is not one of this ledger and no recovery has given it up.
fn lost(opening: &Opening, reader: &Reader) -> Result<Option<Foreign>, StartError> {
    let Some((size, root)) = opening.head.read()? else {
        return Ok(None);
    };
    let ours = size <= reader.size() && (size == 0 || reader.root(size)? == root);
    if ours || recovered(reader, size, Digest(root))? {
        return Ok(None);
    }
    let note = None;
    Ok(Some(Foreign { size, root, note }))
}

/// Whether a record gives up exactly this head. Reads all that is left of the ledger: asked only of a head that is not
/// in it. A pruning keeps the records of recoveries.
fn recovered(reader: &Reader, size: u64, root: Digest) -> Result<bool, StartError> {
    let mut from = 0;
    while from < reader.size() {
        from = reader.next_there(from);
        let read = reader.read(from..from.saturating_add(BATCH))?;
        for (index, bytes) in (from..).zip(read) {
            from = index.saturating_add(1);
            let record = Record::from_vec(bytes).map_err(StartError::record(index))?;
            if record.kind() != RecordType::Recovery {
                continue;
            }
            let told = record.expect_body::<body::Recovery>();
            let told = told.map_err(StartError::record(index))?;
            if (told.old_size.0, told.old_root) == (size, root) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// When the last record was made.
fn newest_time(reader: &Reader) -> Result<u64, StartError> {
    let last = reader.size().saturating_sub(1);
    Ok(reader.record(last)?.stamp().wall)
}

fn open_link(rotation: &KeyRotation) -> Result<Link, StartError> {
    Link::open(rotation).map_err(|error| StartError::Failed(facts::with_causes(&error)))
}

/// As much of a reason as a record has room for.
pub(super) fn reason(reason: &str) -> String {
    reason.chars().take(512).collect()
}

fn nothing_signed() -> StartError {
    StartError::Failed("there is no link to the new log".to_owned())
}
