//! What is held, on disk: receipts as they came, so that a start verifies them again; of revoked serials, of which there
//! may be many, which they are and until when.
//!
//! Who can write here can make the gateway refuse to start, or forget what came last; what it then follows
//! still has to be signed by the server's ledger key and to lie on one chain.

use super::{Held, serials};
use crate::chain::REMEMBERED;
use facts::Finding;
use ledger::body::{KeyRotation, Target};
use ledger::lineage;
use ledger::{Hash, HexDigest, Receipt};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// An estate's blob, with room.
const MAX_FILE: u64 = 128 << 20;
const STATE: &str = "followed.json";

/// Sizes and roots of followed checkpoints, 40 bytes each, appended.
const CHECKPOINTS: &str = "checkpoints";
const ENTRY: usize = 40;

#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    checkpoints: Mutex<Option<File>>,
    /// The estate whose blob was written.
    estate: Mutex<Option<HexDigest>>,
    /// Whether what an earlier run left behind was looked for.
    swept: AtomicBool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    v: u32,
    checkpoint: String,
    /// Encoded receipts, base64.
    bundle: Option<String>,
    estate: Option<String>,
    revoked: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    serials: Vec<serials::Kept>,
    /// Of a history that was given up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    carried: Vec<Carried>,
    /// The newest checkpoint that witnesses cosigned, where there is a policy of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    witnessed: Option<String>,
    /// What they have not seen: up to which size, and since when, Unix milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unseen: Vec<(u64, u64)>,
    /// How the server's ledger went on as new logs; the checkpoint is of the newest or of one before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lineage: Vec<KeyRotation>,
    heard: u64,
}

/// What is to be written, taken while the state was locked; encoding and writing need no lock of it.
pub(super) struct Snapshot {
    checkpoint: String,
    bundle: Option<Receipt>,
    estate: Option<(Receipt, Arc<[u8]>)>,
    revoked: Vec<Receipt>,
    serials: Vec<serials::Kept>,
    carried: Vec<Carried>,
    witnessed: Option<String>,
    unseen: Vec<(u64, u64)>,
    lineage: Vec<KeyRotation>,
    heard: u64,
}

impl Snapshot {
    /// `heard`: when the server was last heard, Unix milliseconds. Nothing before the first checkpoint.
    pub(super) fn of(held: &Held, heard: u64) -> Option<Self> {
        Some(Self {
            checkpoint: held.chain.note()?.to_owned(),
            bundle: held.bundle.clone(),
            estate: held
                .estate
                .as_ref()
                .map(|estate| (estate.receipt.clone(), Arc::clone(&estate.blob))),
            revoked: held.revoked.values().cloned().collect(),
            serials: held.serials.kept(),
            carried: held.carried.clone(),
            witnessed: held.witnessed.as_ref().map(|it| it.note.clone()),
            unseen: held.unseen.spans(),
            lineage: lineage::links(held.chain.key()),
            heard,
        })
    }
}

/// A revocation whose record a recovery gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Carried {
    pub(super) target: Target,
    /// It hits what was issued before this record.
    pub(super) before: u64,
}

/// What a start finds.
pub(super) struct Found {
    pub(super) checkpoint: String,
    /// Sizes and roots of checkpoints below the head.
    pub(super) known: Vec<(u64, Hash)>,
    pub(super) records: Vec<(Receipt, Vec<u8>)>,
    pub(super) serials: Vec<serials::Kept>,
    pub(super) carried: Vec<Carried>,
    pub(super) witnessed: Option<String>,
    pub(super) unseen: Vec<(u64, u64)>,
    pub(super) lineage: Vec<KeyRotation>,
    pub(super) heard: u64,
}

impl Store {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            checkpoints: Mutex::new(None),
            estate: Mutex::new(None),
            swept: AtomicBool::new(false),
        }
    }

    /// Remembers a checkpoint that was followed. Not flushed: losing the last ones costs a question to the
    /// server, no more.
    pub(super) fn append_checkpoint(&self, size: u64, root: &Hash) -> Result<(), Finding> {
        let path = self.directory.join(CHECKPOINTS);
        let write = || {
            let mut open = self
                .checkpoints
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let file = match &mut *open {
                Some(file) => file,
                none => none.insert(open_checkpoints(&path)?),
            };
            let mut entry = [0; ENTRY];
            let (number, rest) = entry.split_at_mut(8);
            number.copy_from_slice(&size.to_be_bytes());
            rest.copy_from_slice(root);
            let done = file.write_all(&entry);
            if done.is_err() {
                // Opened again, and cut to whole entries, before the next.
                *open = None;
            }
            done
        };
        write().map_err(|error: io::Error| broken(&path, &error.to_string()))
    }

    /// Forgets the checkpoints below the head, whose history was given up. What is lost by it costs a
    /// question to the server, no more: so this comes before the new head is kept.
    pub(super) fn forget_checkpoints(&self) -> Result<(), Finding> {
        let mut open = self
            .checkpoints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // The open file is the old one from here on.
        *open = None;
        write(&self.directory, CHECKPOINTS, &[])
            .map_err(|error| broken(&self.directory, &error.to_string()))
    }

    /// The newest entries; the file is cut down to them when it has become long.
    fn known(&self) -> Result<Vec<(u64, Hash)>, Finding> {
        let bytes = self.read(CHECKPOINTS)?.unwrap_or_default();
        let entries: Vec<(u64, Hash)> = bytes
            .as_chunks::<ENTRY>()
            .0
            .iter()
            .filter_map(|entry| {
                let (size, root) = entry.split_first_chunk::<8>()?;
                Some((u64::from_be_bytes(*size), root.try_into().ok()?))
            })
            .collect();
        let old = entries.len().saturating_sub(REMEMBERED);
        if old > REMEMBERED {
            let newest = bytes.get(old * ENTRY..).unwrap_or_default();
            write(&self.directory, CHECKPOINTS, newest)
                .map_err(|error| broken(&self.directory, &error.to_string()))?;
        }
        Ok(entries.into_iter().skip(old).collect())
    }

    /// Writes what `take` takes. One writer at a time, and each takes what is newest when its turn comes.
    pub(super) fn keep(&self, take: impl FnOnce() -> Option<Snapshot>) -> Result<(), Finding> {
        let mut written = self.estate.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = take() else {
            return Ok(());
        };
        let failed = |error: io::Error| broken(&self.directory, &error.to_string());
        let mut replaced = !self.swept.load(Ordering::Relaxed);
        if let Some((_, blob)) = &snapshot.estate {
            let version = HexDigest::of(blob);
            if *written != Some(version) {
                write(&self.directory, &estate_file(&version), blob).map_err(failed)?;
                *written = Some(version);
                replaced = true;
            }
        }
        let encode = |receipt: &Receipt| {
            receipt
                .encode()
                .map(|bytes| crypto::base64::encode(&bytes))
                .map_err(|error| broken(&self.directory, &error.to_string()))
        };
        let stored = Stored {
            v: 1,
            checkpoint: snapshot.checkpoint,
            bundle: snapshot.bundle.as_ref().map(encode).transpose()?,
            estate: snapshot
                .estate
                .as_ref()
                .map(|(receipt, _)| encode(receipt))
                .transpose()?,
            revoked: snapshot
                .revoked
                .iter()
                .map(encode)
                .collect::<Result<_, _>>()?,
            serials: snapshot.serials,
            carried: snapshot.carried,
            witnessed: snapshot.witnessed,
            unseen: snapshot.unseen,
            lineage: snapshot.lineage,
            heard: snapshot.heard,
        };
        let bytes = serde_json::to_vec(&stored)
            .map_err(|error| broken(&self.directory, &error.to_string()))?;
        // INVARIANT: the next start reads what is written; else what is there stays.
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE {
            let what = format!("{} bytes, of which a start reads {MAX_FILE}", bytes.len());
            return Err(broken(&self.directory, &what));
        }
        write(&self.directory, STATE, &bytes).map_err(failed)?;
        if replaced && let Some(version) = *written {
            let swept = sweep(&self.directory, &estate_file(&version));
            if let Err(error) = &swept {
                // It is asked for again with what is kept next.
                tracing::warn!(%error, "an estate that was replaced is not removed");
            }
            self.swept.store(swept.is_ok(), Ordering::Relaxed);
        }
        Ok(())
    }

    pub(super) fn load(&self) -> Result<Option<Found>, Finding> {
        let Some(bytes) = self.read(STATE)? else {
            return Ok(None);
        };
        let stored: Stored = serde_json::from_slice(&bytes)
            .map_err(|error| broken(&self.directory, &error.to_string()))?;
        let decode = |text: &String| {
            let bytes = crypto::base64::decode(text)
                .map_err(|error| broken(&self.directory, &error.to_string()))?;
            Receipt::decode(&bytes).map_err(|error| broken(&self.directory, &error.to_string()))
        };
        let mut records = Vec::new();
        for text in stored.bundle.iter().chain(&stored.revoked) {
            records.push((decode(text)?, Vec::new()));
        }
        if let Some(text) = &stored.estate {
            let receipt = decode(text)?;
            let version = version(&receipt).map_err(|what| broken(&self.directory, &what))?;
            let blob = self.read(&estate_file(&version))?.unwrap_or_default();
            *self.estate.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
            records.push((receipt, blob));
        }
        Ok(Some(Found {
            checkpoint: stored.checkpoint,
            known: self.known()?,
            records,
            serials: stored.serials,
            carried: stored.carried,
            witnessed: stored.witnessed,
            unseen: stored.unseen,
            lineage: stored.lineage,
            heard: stored.heard,
        }))
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Finding> {
        let path = self.directory.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(broken(&path, &error.to_string())),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE)
            .read_to_end(&mut bytes)
            .map_err(|error| broken(&path, &error.to_string()))?;
        Ok(Some(bytes))
    }
}

/// A write that failed half-way left less than an entry; what follows it has to begin at a whole one.
fn open_checkpoints(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).append(true).open(path)?;
    let length = file.metadata()?.len();
    let whole = length - length % ENTRY as u64;
    if whole != length {
        file.set_len(whole)?;
    }
    Ok(file)
}

/// The version of the estate whose receipt this is.
fn version(receipt: &Receipt) -> Result<HexDigest, String> {
    ledger::Record::parse(&receipt.record)
        .and_then(|record| record.expect_body::<ledger::body::EstateVersion>())
        .map(|body| body.version)
        .map_err(|error| error.to_string())
}

/// Each version has its own file, written before what names it.
fn estate_file(version: &HexDigest) -> String {
    format!("estate-{version}.json")
}

/// Removes each estate but the one that is named: also what a run that was killed has left. The server may have erased
/// what stands in it.
fn sweep(directory: &Path, keep: &str) -> io::Result<()> {
    let mut removed = false;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("estate-") && name != keep {
            fs::remove_file(entry.path())?;
            removed = true;
        }
    }
    if removed {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The file is there whole and durable, or as it was.
fn write(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.new"));
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, directory.join(name))?;
    File::open(directory)?.sync_all()
}

fn broken(path: &Path, what: &str) -> Finding {
    Finding::new("FOLLOW-STORE", format!("what is followed cannot be kept in {}", path.display()))
        .observed(what)
        .next("free disk space or mend the folder; if it is damaged remove it, and the server sends all again")
}
