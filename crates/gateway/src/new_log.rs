//! The ledger of a gateway or decision point goes on as a new log, under another name and key. It does not run meanwhile.
//!
//! Order: what the last run left open is settled, by a run of its own; then the new key; then the link that both keys
//! signed, beside the key; then the first record of the new log. Cut short before the last step, the gateway does not
//! start, and the same command goes on where it was. Once it has started on the new log, the command begins another one.

use crate::core::PROGRAM;
use crate::lineage::{KEYS, LEDGER, Stage, keys, stage};
use crate::{CoreError, recovery};
use custody::LedgerKeys;
use facts::{Finding, Timestamp};
use ledger::body::Body as _;
use ledger::lineage::{self, Link};
use ledger::{Checkpoint, LedgerKey, LedgerKind, Record, body::KeyRotation};
use ledger_store::{Folder, Ledger, Options, Reader, StoreError};
use std::path::Path;

const LONGEST_REASON: usize = 512;

/// What became of it.
#[derive(Debug, Clone)]
pub struct NewLog {
    /// The key of the log that ended.
    pub was: LedgerKey,
    /// The key of the log that goes on.
    pub key: LedgerKey,
    /// Records that both have, and index of the record that says so.
    pub size: u64,
    /// It had been begun before, and the gateway has not started since: nothing was done now.
    pub already: bool,
}

/// Ends the log of the ledger in `data_dir` and goes on as a new one. `by` says so, as records name administrators:
/// `uid:0`.
///
/// # Errors
/// `GATEWAY-NEW-LOG-RUNNING`, `GATEWAY-NEW-LOG-EMPTY`, `GATEWAY-NEW-LOG-NOT-A-GATEWAY`, `GATEWAY-NEW-LOG-MANY`,
/// `GATEWAY-NEW-LOG`, `GATEWAY-LINEAGE`.
pub fn new_log(data_dir: &Path, reason: &str, by: &str) -> Result<NewLog, Finding> {
    let dir = data_dir.join(LEDGER);
    if !Folder::is_ledger(&dir) {
        return Err(empty(data_dir));
    }
    let first = {
        let folder = Folder::open(&dir).map_err(|error| finding(&error.into()))?;
        folder.key().first().origin().clone()
    };
    if first.kind() != LedgerKind::Gateway {
        return Err(Finding::new(
            "GATEWAY-NEW-LOG-NOT-A-GATEWAY",
            "this is the ledger of no gateway or decision point",
        )
        .expected("the `data_dir` of gateway.toml or pdp.toml")
        .observed(first.to_string())
        .next("for the server: trilith server new-log --config FILE --reason TEXT"));
    }
    go_on(data_dir, first.as_str(), reason, by).map_err(|error| finding(&error))
}

fn go_on(data_dir: &Path, first: &str, reason: &str, by: &str) -> Result<NewLog, CoreError> {
    let (dir, keys_dir) = (data_dir.join(LEDGER), data_dir.join(KEYS));
    let mut keys = keys(&keys_dir, first, false)?;
    let ledger = open(&dir, &keys)?;
    let head: Checkpoint = ledger.reader().head().checkpoint.clone();
    if head.size == 0 {
        return Err(empty(data_dir).into());
    }
    let resumed = stage(ledger.reader(), keys.signer().key(), &keys_dir)? == Stage::Unfinished;
    if !resumed && let Some(begun) = begun(ledger.reader(), keys.signer().key())? {
        ledger.close()?;
        return Ok(begun);
    }
    let head = match resumed {
        true => head,
        false => settled(&ledger, data_dir)?,
    };
    ledger.close()?;
    if !resumed {
        let next = keys.next()?;
        let reason: String = reason.chars().take(LONGEST_REASON).collect();
        let link = Link::sign(keys.signer(), &next, (head.size, head.root), &reason)
            .map_err(|error| failed(&error))?;
        keys.succeed(next, link)?;
    }
    let key = keys.signer().key().clone();
    let (link, rotation) = newest(&key)?.ok_or_else(nothing_signed)?;
    let ledger = open(&dir, &keys)?;
    let draft = rotation.record().actor(by, "uid").draft();
    let draft = draft.map_err(|error| failed(&error))?;
    let index = ledger.append(draft).wait()?.index();
    ledger.close()?;
    if index != link.size {
        return Err(nothing_signed());
    }
    Ok(NewLog {
        was: link.from,
        key,
        size: link.size,
        already: false,
    })
}

/// The last head of the log that ends: no run is under way in it, and no operation is open.
fn settled(ledger: &Ledger, data_dir: &Path) -> Result<Checkpoint, CoreError> {
    let domain = ledger.origin().trust_domain();
    let noted = data_dir.join(recovery::NOTED);
    let now = Timestamp::now().as_millis();
    recovery::recover(ledger, ledger.reader(), &noted, domain, PROGRAM, now)?;
    recovery::stop(ledger, PROGRAM)?;
    Ok(ledger.reader().head().checkpoint.clone())
}

/// The ledger, whose folder tells of the keys before those who read it from outside could need it.
fn open(dir: &Path, keys: &LedgerKeys) -> Result<Ledger, CoreError> {
    ledger_store::keep_lineage(dir, keys.signer().key())?;
    let options = Options::default();
    Ok(Ledger::open_signed(dir, keys.signer().clone(), &options)?)
}

/// The newest log, if the ledger ends with the record that begins it: what was asked for is done already.
fn begun(reader: &Reader, key: &LedgerKey) -> Result<Option<NewLog>, CoreError> {
    let Some((link, rotation)) = newest(key)? else {
        return Ok(None);
    };
    if reader.size().checked_sub(1) != Some(link.size) {
        return Ok(None);
    }
    let record: Record = reader.record(link.size)?;
    let told: Option<KeyRotation> = record.expect_body().ok();
    Ok((told == Some(rotation)).then(|| NewLog {
        was: link.from,
        key: key.clone(),
        size: link.size,
        already: true,
    }))
}

fn newest(key: &LedgerKey) -> Result<Option<(Link, KeyRotation)>, CoreError> {
    let Some(rotation) = lineage::links(key).pop() else {
        return Ok(None);
    };
    let link = Link::open(&rotation).map_err(|error| failed(&error))?;
    Ok(Some((link, rotation)))
}

fn empty(data_dir: &Path) -> Finding {
    Finding::new("GATEWAY-NEW-LOG-EMPTY", "there is no ledger to go on from")
        .expected("the `data_dir` of a gateway or decision point that has run")
        .observed(data_dir.display().to_string())
        .next("name it with --folder")
}

fn nothing_signed() -> CoreError {
    CoreError::Refused(
        Finding::new("GATEWAY-NEW-LOG", "the new log was not begun")
            .next("keep data_dir as it is, and run the same command again"),
    )
}

fn failed(error: &(dyn std::error::Error + 'static)) -> CoreError {
    CoreError::Refused(
        Finding::new("GATEWAY-NEW-LOG", facts::with_causes(error))
            .next("keep data_dir as it is, and run the same command again"),
    )
}

fn finding(error: &CoreError) -> Finding {
    match error {
        CoreError::Refused(finding) => finding.clone(),
        CoreError::Ledger(StoreError::Locked { .. }) => {
            Finding::new("GATEWAY-NEW-LOG-RUNNING", facts::with_causes(error))
                .next("stop the gateway or decision point first; afterwards start it again")
        }
        error => Finding::new("GATEWAY-NEW-LOG", facts::with_causes(error))
            .next("name the `data_dir` of gateway.toml or pdp.toml, as the user that it runs as"),
    }
}
