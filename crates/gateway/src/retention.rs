//! Taking away the oldest records of a gateway's or decision point's own ledger, once the server has mirrored and anchored
//! them: the disk of an enforcement point is for what is new, and who asks about what is old asks the server.
//!
//! Who prunes is whoever can read the ledger's key, while the gateway does not run. It is a run of its own, with `start`
//! and `stop`; between them stands the `retention` record.

use crate::core::PROGRAM;
use crate::lineage::{self, KEYS, UNFINISHED};
use crate::{CoreError, recovery};
use facts::{Finding, Timestamp};
use ledger::body::{self, Body as _};
use ledger::{Digest, LedgerKey, Receipt, line};
use ledger_store::{
    Folder, Ledger, Old, Options, Reader, RealDisk, StoreError, read_file, replace,
};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

/// In the gateway's `data_dir`.
pub(crate) const ANCHORED: &str = "anchored.json";
const ANCHORED_BYTES: usize = 4 << 10;
/// Nothing younger may go, whatever is asked: monitors and exporters that follow a gateway's folder get so much time.
const LEAST_MS: u64 = 24 * 60 * 60 * 1000;
/// What the server has anchored is noted every few minutes; an older note may be of before the server was restored.
const FRESH_MS: u64 = 24 * 60 * 60 * 1000;
/// How far clocks are apart.
const AHEAD_MS: u64 = 5 * 60 * 1000;
const LONGEST_REASON: usize = 512;

/// How far the server has mirrored a gateway's ledger and recorded its head, as it told the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchored {
    pub size: u64,
    /// Of the first `size` records.
    pub root: Digest,
    /// Index of the anchor in the server's ledger.
    pub record: u64,
    /// When the server stood by it last, Unix milliseconds. An earlier version did not say.
    #[serde(default)]
    pub at: u64,
}

impl Anchored {
    /// Notes what the server has said.
    ///
    /// # Errors
    /// If the ledger has no such size, or the file cannot be written.
    pub fn note(reader: &Reader, size: u64, record: u64, path: &Path) -> io::Result<()> {
        let root = reader.root(size).map_err(io::Error::other)?.into();
        let noted = Self {
            size,
            root,
            record,
            at: Timestamp::now().as_millis(),
        };
        replace(&RealDisk, path, &serde_json::to_vec(&noted)?)
    }

    /// What a receipt of the server's ledger, which `server` signs, shows to be anchored of the ledger `own`: size and
    /// record.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn shown(
        receipt: &[u8],
        server: &LedgerKey,
        own: &LedgerKey,
        reader: &Reader,
    ) -> Result<(u64, u64), String> {
        let receipt = Receipt::decode(receipt).map_err(|error| error.to_string())?;
        let verified = receipt.verify(server).map_err(|error| error.to_string())?;
        let anchor = verified.record.expect_body::<body::Anchor>();
        let anchor = anchor.map_err(|error| error.to_string())?;
        let (size, root) = (anchor.size.0, anchor.root);
        if line(&anchor.origin) != line(own.origin().as_str()) {
            return Err(format!("it anchors {}", anchor.origin));
        }
        let ours = reader.root(size).map_err(|error| error.to_string())?;
        if Digest::from(ours) != root {
            return Err(format!("it anchors {size} records that are not these"));
        }
        Ok((size, verified.index))
    }

    /// Takes back what was noted. Durable when this returns.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn forget(path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            Ok(()) => match path.parent() {
                Some(folder) => std::fs::File::open(folder)?.sync_all(),
                None => Ok(()),
            },
        }
    }

    /// What was noted, if it is of this ledger.
    fn read(reader: &Reader, path: &Path) -> Result<Option<Self>, StoreError> {
        let read = read_file(&RealDisk, path, ANCHORED_BYTES).unwrap_or_default();
        let noted = read.and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        match noted.filter(|noted| noted.size <= reader.size()) {
            Some(noted) if Digest::from(reader.root(noted.size)?) == noted.root => Ok(Some(noted)),
            _ => Ok(None),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Prune<'a> {
    /// Records from then on stay.
    pub before: Timestamp,
    pub reason: &'a str,
    /// Who says so, as records name administrators: `uid:0`.
    pub by: &'a str,
    pub now: Timestamp,
    /// Do it; else only say what would go.
    pub really: bool,
}

/// What goes, or would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pruning {
    /// Of the ledger.
    pub origin: String,
    /// Records below it, but for the first one.
    pub minimum: u64,
    /// Bytes of the disk.
    pub bytes: u64,
    /// What holds them still: index of the server's anchor.
    pub anchor: u64,
    /// The `retention` record, if it was done.
    pub record: Option<u64>,
}

/// Prunes the ledger in `data_dir`, whose gateway or decision point does not run.
///
/// # Errors
/// `PRUNE-YOUNG`, `PRUNE-NOT-ANCHORED`, `PRUNE-STALE`, `PRUNE-NOTHING`, `PRUNE-CLOCK`, `PRUNE-NOT-A-GATEWAY`,
/// `PRUNE-RUNNING`, `PRUNE-KEY`, `PRUNE-LEDGER`.
pub fn prune(data_dir: &Path, ask: &Prune<'_>) -> Result<Pruning, Finding> {
    prune_with(data_dir, ask, &Options::default())
}

/// As [`prune`], of a ledger that is opened so.
///
/// # Errors
/// As [`prune`].
pub fn prune_with(data_dir: &Path, ask: &Prune<'_>, options: &Options) -> Result<Pruning, Finding> {
    let youngest = ask.now.as_millis().saturating_sub(LEAST_MS);
    if ask.before.as_millis() > youngest {
        return Err(
            Finding::new("PRUNE-YOUNG", "records of the last 24 hours stay")
                .expected(format!("{} or earlier", Timestamp::from_millis(youngest)))
                .observed(ask.before.to_string())
                .next("name an earlier time, as `--before 90d`"),
        );
    }
    let dir = data_dir.join("ledger");
    let key = Folder::open(&dir)
        .map_err(|error| unsound(&error))?
        .key()
        .clone();
    let origin = key.first().origin().clone();
    if origin.kind() != ledger::LedgerKind::Gateway {
        return Err(Finding::new(
            "PRUNE-NOT-A-GATEWAY",
            "this prunes the ledgers of gateways and decision points, which the server keeps; not the server's own",
        )
        .expected("the `data_dir` of gateway.toml or pdp.toml")
        .observed(origin.to_string())
        .next("name it with --folder; of the server: trilith server prune --config FILE --before TIME --reason TEXT"));
    }
    let keys = data_dir.join(KEYS);
    let unusable = |what: String| {
        Finding::new("PRUNE-KEY", what)
            .observed(keys.display().to_string())
            .next("run it as the user that the gateway or decision point runs as")
    };
    let told = |error: CoreError| match error {
        CoreError::Ledger(error) => unsound(&error),
        CoreError::Refused(finding) if finding.code == UNFINISHED => finding,
        error => unusable(facts::with_causes(&error)),
    };
    // Opening it would make it.
    if !keys.is_dir() {
        return Err(unusable("the key of this ledger is not there".to_owned()));
    }
    let held = lineage::keys(&keys, origin.as_str(), false).map_err(told)?;
    let ledger = Ledger::open_signed(&dir, held.signer().clone(), options);
    let ledger = ledger.map_err(|error| unsound(&error))?;
    lineage::have_begun(&held, ledger.reader()).map_err(told)?;
    let pruned = on(&ledger, data_dir, ask)?;
    ledger.close().map_err(|error| unsound(&error))?;
    Ok(pruned)
}

/// A server that was restored from a backup has less than it had: what it said long ago says nothing.
fn fresh(anchored: &Anchored, now: Timestamp) -> Result<(), Finding> {
    let (at, now) = (anchored.at, now.as_millis());
    if now.saturating_sub(at) <= FRESH_MS && at <= now.saturating_add(AHEAD_MS) {
        return Ok(());
    }
    Err(Finding::new(
        "PRUNE-STALE",
        "the server has not said within the last 24 hours that it holds these records",
    )
    .expected(format!(
        "{ANCHORED} of {} or later",
        Timestamp::from_millis(now.saturating_sub(FRESH_MS))
    ))
    .observed(Timestamp::from_millis(at).to_string())
    .next("let the gateway run with its server for a minute, stop it, and prune again"))
}

/// As [`prune`], of a ledger that is open.
pub(crate) fn on(ledger: &Ledger, data_dir: &Path, ask: &Prune<'_>) -> Result<Pruning, Finding> {
    let reader = ledger.reader();
    let read = |error: StoreError| unsound(&error);
    let anchored = Anchored::read(reader, &data_dir.join(ANCHORED)).map_err(read)?;
    let anchored = anchored.ok_or_else(|| {
        Finding::new(
            "PRUNE-NOT-ANCHORED",
            "nothing says that the server holds these records",
        )
        .expected(format!(
            "{ANCHORED} in {}, of this ledger",
            data_dir.display()
        ))
        .next("let the gateway run with its server for a minute, stop it, and prune again")
    })?;
    fresh(&anchored, ask.now)?;
    let before = ask.before.as_millis();
    let age = reader.older(anchored.size, before).map_err(read)?;
    let old = age.records;
    let Some(prunable) = ledger.prunable(old).map_err(read)? else {
        // By their own clock there are some.
        if ledger.prunable(age.stamped).map_err(read)?.is_some() {
            return Err(by_a_wrong_clock(ask, &age));
        }
        return Err(
            Finding::new("PRUNE-NOTHING", "there is no whole segment of such records")
                .expected(format!(
                    "records before {}, which the server has anchored",
                    ask.before
                ))
                .observed(format!(
                    "{} records, {} of them anchored by server:{}, the first {old} old enough",
                    reader.size(),
                    anchored.size,
                    anchored.record
                ))
                .next("prune later: segments of 64 MiB go as a whole"),
        );
    };
    let mut pruning = Pruning {
        origin: ledger.origin().to_string(),
        minimum: prunable.minimum,
        bytes: prunable.bytes,
        anchor: anchored.record,
        record: None,
    };
    if !ask.really {
        return Ok(pruning);
    }
    let domain = ledger.origin().trust_domain();
    let noted = data_dir.join(recovery::NOTED);
    let told = |error: recovery::RecoveryError| {
        Finding::new("PRUNE-LEDGER", facts::with_causes(&error))
            .next("look at the disk; nothing was pruned")
    };
    recovery::recover(ledger, reader, &noted, domain, PROGRAM, ask.now.as_millis())
        .map_err(told)?;
    let reason: String = ask.reason.chars().take(LONGEST_REASON).collect();
    let policy = format!(
        "before {}, and mirrored by the server, whose record {} anchors {} records: {reason}",
        ask.before, anchored.record, anchored.size
    );
    let pruned = ledger.prune(old, |minimum| {
        let retention = body::Retention {
            minimum_index: minimum.into(),
            snapshot: None,
            policy,
            by: ask.by.to_owned(),
        };
        retention.record().actor(ask.by, "uid").draft()
    });
    if let Some(pruned) = pruned.map_err(read)? {
        pruning.minimum = pruned.minimum;
        pruning.record = Some(pruned.record);
    }
    recovery::stop(ledger, PROGRAM).map_err(told)?;
    Ok(pruning)
}

/// More say to be old than are known to be.
fn by_a_wrong_clock(ask: &Prune<'_>, old: &Old) -> Finding {
    Finding::new(
        "PRUNE-CLOCK",
        "the clock was set over records that say to be old: how old they are is not known",
    )
    .expected(format!("a whole segment of records that were made before {}", ask.before))
    .observed(format!(
        "{} records say so, and of {} it is known",
        old.stamped, old.records
    ))
    .next("prune when a record behind them, later than all before, is old enough: docs/operate/pruning.md; trilith ledger completeness --folder DIR tells where the clock was set")
}

fn unsound(error: &StoreError) -> Finding {
    match error {
        StoreError::Locked { .. } => Finding::new("PRUNE-RUNNING", error.to_string())
            .next("stop the gateway or decision point, prune, and start it again"),
        error => Finding::new("PRUNE-LEDGER", facts::with_causes(error))
            .next("name the `data_dir` of gateway.toml or pdp.toml, as the user that it runs as"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::{Algorithm, KeyPair, Signer};
    use ledger::{Base64, RecordBuilder, Stamp};
    use std::sync::Arc;

    fn ledger(dir: &Path, origin: &str, signer: &Arc<dyn Signer>) -> Ledger {
        let options = Options {
            reserve_bytes: 0,
            ..Options::default()
        };
        let ledger = Ledger::open(dir, Arc::clone(signer), origin, &options).unwrap();
        let begin = body::Begin {
            trust_domain: "example.org".to_owned(),
            ledger_key: Base64(signer.public_key().spki_der().to_vec()),
            format: "v1".to_owned(),
        };
        put(&ledger, begin.record());
        ledger
    }

    fn put(ledger: &Ledger, record: RecordBuilder) -> u64 {
        let draft = record.actor("test", "self").draft().unwrap();
        ledger.append_many(vec![draft]).wait().unwrap();
        ledger.reader().size() - 1
    }

    fn key() -> Arc<dyn Signer> {
        Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap())
    }

    fn ten_days_ago() -> Stamp {
        let now = ledger_store::system_clock();
        Stamp {
            wall: now.wall - 10 * 86_400_000,
            ..now
        }
    }

    fn in_1970() -> Stamp {
        let now = ledger_store::system_clock();
        Stamp {
            wall: 60_000 + now.mono / 1_000_000,
            ..now
        }
    }

    /// By their own clock they were old on the day that they were made.
    #[test]
    fn young_records_do_not_go_by_a_clock_that_stood_back() {
        let (folder, signer) = (tempfile::tempdir().unwrap(), key());
        let fill = |clock: fn() -> Stamp, count: usize| {
            let options = Options {
                segment_bytes: 12_000,
                reserve_bytes: 0,
                clock,
                ..Options::default()
            };
            let dir = folder.path().join("ledger");
            let origin = "example.org/gateway/pg";
            let ledger = Ledger::open(&dir, Arc::clone(&signer), origin, &options).unwrap();
            let stop = || {
                let body = body::Stop {
                    reason: "a test".to_owned(),
                };
                body.record().actor("test", "self").draft().unwrap()
            };
            for _ in 0..count {
                let drafts = std::iter::repeat_with(stop).take(16).collect();
                ledger.append_many(drafts).wait().unwrap();
            }
            ledger
        };
        let now = Timestamp::now();
        let ask = Prune {
            before: Timestamp::from_millis(now.as_millis() - 5 * 86_400_000),
            reason: "case 7",
            by: "uid:0",
            now,
            really: true,
        };
        let asked = |ledger: &Ledger| {
            let noted = folder.path().join(ANCHORED);
            let reader = ledger.reader();
            Anchored::note(reader, reader.size(), 77, &noted).unwrap();
            on(ledger, folder.path(), &ask)
        };
        fill(ten_days_ago, 1).close().unwrap();
        fill(in_1970, 40).close().unwrap();
        let ledger = fill(ledger_store::system_clock, 1);
        let refused = asked(&ledger).unwrap_err();
        assert_eq!(refused.code, "PRUNE-CLOCK");
        assert_eq!(ledger.reader().size(), 42 * 16);
    }

    #[test]
    fn records_are_anchored_by_the_ledger_of_the_server_and_not_by_its_word() {
        let folder = tempfile::tempdir().unwrap();
        let (of_server, of_other, of_gateway) = (key(), key(), key());
        let at = |name: &str| folder.path().join(name);
        let own = ledger(&at("own"), "example.org/gateway/pg", &of_gateway);
        let server = ledger(&at("server"), "example.org/server", &of_server);
        let other = ledger(&at("other"), "example.org/server", &of_other);
        let stop = body::Stop {
            reason: "a test".to_owned(),
        };
        put(&own, stop.record());
        let anchor = |origin: &str, size: u64, root| body::Anchor {
            gateway: "spiffe://example.org/infra/gateway/pg".to_owned(),
            origin: origin.to_owned(),
            ledger_key: Base64(of_gateway.public_key().spki_der().to_vec()),
            size: size.into(),
            root: Digest(root),
            checkpoint: own.reader().head().note.to_string(),
        };
        let root = own.reader().root(2).unwrap();
        let shown = |ledger: &Ledger, index: u64| {
            let receipt = ledger.reader().receipt(index).unwrap().encode().unwrap();
            Anchored::shown(&receipt, server.key(), own.key(), own.reader())
        };
        let sound = anchor("example.org/gateway/pg", 2, root);
        let index = put(&server, sound.record());
        assert_eq!(shown(&server, index), Ok((2, index)));
        // Signed by another key; of another ledger; of other records; more than there are; no anchor at all.
        let forged = put(&other, sound.record());
        shown(&other, forged).unwrap_err();
        for false_one in [
            anchor("example.org/gateway/pg-2", 2, root),
            anchor("example.org/gateway/pg", 2, [7; 32]),
            anchor("example.org/gateway/pg", 3, root),
        ] {
            let index = put(&server, false_one.record());
            shown(&server, index).unwrap_err();
        }
        let stopped = put(&server, stop.record());
        shown(&server, stopped).unwrap_err();
        Anchored::shown(&[], server.key(), own.key(), own.reader()).unwrap_err();
    }
}
