//! What a monitor remembers of a log: one file, replaced as a whole. The head and what was looked at go forward only,
//! and alerts stay until they were taken.
//!
//! Whoever can write to it can have a rewritten history taken for the first one, records passed over and alerts
//! forgotten; the head is believed only with the log's signature.

use crate::alert::Alert;
use crate::compare::Head;
use crate::config::{GivenUp, given_up, kept_by};
use crate::labels::Denial;
use crate::{Failure, Misbehaviour};
use facts::Finding;
use ledger::witness::origin_hash;
use ledger::{Digest, Frontier, LogKey, Note, Origin};
use ledger_store::{Disk, read_file, replace};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A thousand alerts with a record of 16 KiB each, written as JSON, fit.
const MAX_STATE: usize = 256 << 20;

/// A whole tile of labels, with its key and its name.
const MAX_LABELS: usize = 512 << 10;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    v: u8,
    pub(crate) origin: String,
    /// The newest head that was taken: its note, and who showed it.
    pub(crate) head: Option<Kept>,
    looked: Looked,
    /// Heads that others have seen, longer than the log's own.
    pub(crate) ahead: Vec<Ahead>,
    /// Of the trouble that lasts: its code, when it began (Unix milliseconds), whether it was told.
    pub(crate) trouble: Option<Trouble>,
    pub(crate) alerts: Vec<Alert>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) by: String,
    pub(crate) note: String,
}

/// The right edge of the tree of records that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Looked {
    size: u64,
    peaks: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ahead {
    pub(crate) by: String,
    pub(crate) note: String,
    pub(crate) since: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trouble {
    pub(crate) code: String,
    pub(crate) since: u64,
    pub(crate) told: bool,
}

/// A folder with a log's state, held by this process alone.
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    name: String,
    pub(crate) document: Document,
    head: Option<Head>,
    /// What the head in the file is, where a later log of the lineage gave it up. It stays there until the monitor has
    /// stepped over.
    given_up: Option<GivenUp>,
    looked: Frontier,
    _lock: Box<dyn Send + Sync>,
}

fn failed(code: &'static str, what: String) -> Failure {
    Failure::Local(
        Finding::new(code, what).next(
            "look at the disk and at who may write there. If the state is lost, move what there is away and begin anew: \
             what changed in between is then not seen",
        ),
    )
}

/// Of a state, whose it is.
#[derive(Deserialize)]
struct Whose {
    origin: String,
}

/// The log of `line` under whose name its state is kept: the first one, or where the monitor was told its links later,
/// the one with which it began.
///
/// INVARIANT: a state of the same lineage is gone on from, or nothing is begun beside it.
fn began<'a>(
    disk: &dyn Disk,
    folder: &Path,
    line: &'a [String],
    origin: &'a str,
) -> Result<&'a str, Failure> {
    let names = disk.list(folder);
    let names = names.map_err(|error| Store::unread(folder, &error))?;
    let mut here = line
        .iter()
        .filter(|log| names.contains(&origin_hash(log).to_string()));
    let (begun, second) = (here.next(), here.next());
    if let (Some(begun), Some(second)) = (begun, second) {
        let path = folder.join(origin_hash(second).to_string());
        return Err(Failure::Local(
            Finding::new(
                "MONITOR-STATE-LINE",
                format!("{} has two states of one ledger: of {begun} and of {second}", folder.display()),
            )
            .expected("one, which goes on with each new log")
            .next(format!(
                "move {} away, and keep it: what was seen by the other is gone on from, and what it has not looked at is looked at again",
                path.display()
            )),
        ));
    }
    let named = |text: &str| Origin::new(text).ok().map(|log| log.place().0.to_owned());
    let ours = named(origin);
    for name in &names {
        let is_state = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_state || line.iter().any(|log| origin_hash(log).to_string() == *name) {
            continue;
        }
        let path = folder.join(name);
        let read = read_file(disk, &path, MAX_STATE);
        let read = read.map_err(|error| Store::unread(&path, &error))?;
        let whose = read.and_then(|bytes| serde_json::from_slice::<Whose>(&bytes).ok());
        let Some(Whose { origin: other }) = whose else {
            continue;
        };
        if ours.is_some() && named(&other) == ours {
            return Err(Failure::Local(
                Finding::new(
                    "MONITOR-STATE-LINE",
                    format!("{} has the state of {other}, and no link says how {origin} goes with it", folder.display()),
                )
                .expected(format!("`log.lineage` with the links of {other} and {origin}"))
                .observed(path.display().to_string())
                .next(
                    "give as `log.lineage` what `trilith trust` prints; of a gateway's ledger, its entry of what the server lists \
                     at `/ledgers`: then what was seen is kept on. To begin with nothing, give another `state_dir`",
                ),
            ));
        }
    }
    Ok(begun.or(line.first()).map_or(origin, String::as_str))
}

impl Store {
    /// Takes the folder, and reads what is there of the log `origin`, or of one of `line`, those that it goes on from.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        line: &[String],
        origin: &str,
        key: &LogKey,
    ) -> Result<Self, Failure> {
        let first = began(&*disk, folder, line, origin)?;
        let name = origin_hash(first).to_string();
        let path = folder.join(&name);
        let io = |what: &str, error: std::io::Error| {
            failed(
                "MONITOR-STATE",
                format!("cannot {what} {}: {error}", path.display()),
            )
        };
        disk.create_dir_all(folder)
            .map_err(|error| io("make the folder of", error))?;
        let lock = disk
            .lock(&path.with_added_extension("lock"))
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::WouldBlock => Failure::Local(
                    Finding::new(
                        "MONITOR-STATE-IN-USE",
                        format!("another process has {}", path.display()),
                    )
                    .next("end the other one, or give this one another `state_dir`"),
                ),
                _ => io("lock", error),
            })?;
        let read = read_file(&*disk, &path, MAX_STATE).map_err(|error| io("read", error))?;
        let unreadable = |why: String| {
            failed(
                "MONITOR-STATE-UNREADABLE",
                format!("{} is not what was written: {why}", path.display()),
            )
        };
        let document = match read {
            None => Document::new(first),
            Some(bytes) => serde_json::from_slice::<Document>(&bytes)
                .map_err(|error| unreadable(error.to_string()))?,
        };
        if document.v != 1 || document.origin != first {
            return Err(unreadable(format!(
                "it is of version {} and of {:?}",
                document.v, document.origin
            )));
        }
        let peaks = document.looked.peaks.iter().map(|peak| peak.0).collect();
        let looked = Frontier::from_peaks(document.looked.size, peaks)
            .ok_or_else(|| unreadable("the edge of its tree has another size".to_owned()))?;
        let kept = document.head.as_ref();
        let given_up = kept.and_then(|kept| given_up(&kept.note, key));
        let head = match kept.filter(|_| given_up.is_none()) {
            None => None,
            Some(kept) => {
                let note =
                    Note::parse(&kept.note).map_err(|error| unreadable(error.to_string()))?;
                let checkpoint =
                    kept_by(&note, key, origin).map_err(|error| unreadable(error.to_string()))?;
                Some(Head {
                    by: format!("this monitor, from {}", kept.by),
                    note: kept.note.clone(),
                    checkpoint,
                })
            }
        };
        let known = head.as_ref().map(|head| &head.checkpoint);
        let known = known.or(given_up.as_ref().map(|given_up| &given_up.checkpoint));
        if looked.size() > known.map_or(0, |known| known.size) {
            return Err(unreadable(
                "it has looked at more than its head has".to_owned(),
            ));
        }
        Ok(Self {
            disk,
            folder: folder.to_owned(),
            name,
            document,
            head,
            given_up,
            looked,
            _lock: lock,
        })
    }

    /// The newest head that was taken.
    pub(crate) const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// What was the newest head, where the log that goes on gave it up.
    pub(crate) const fn given_up(&self) -> Option<&GivenUp> {
        self.given_up.as_ref()
    }

    /// Keeps the note of what was given up beside the state, and says where.
    pub(crate) fn keep_given_up(&self, size: u64) -> Result<PathBuf, Failure> {
        let name = format!("{}.given-up-{size}", self.name);
        let note = self.document.head.as_ref().map_or("", |kept| &kept.note);
        self.put(&name, note.as_bytes())?;
        Ok(self.folder.join(name))
    }

    /// Goes on with a head of the log that gave up the one before, from the records that both share.
    pub(crate) fn step_over(
        &mut self,
        head: Head,
        looked: Frontier,
        alert: Alert,
    ) -> Result<(), Failure> {
        self.document.head = Some(Kept {
            by: head.by.clone(),
            note: head.note.clone(),
        });
        self.document.looked = Looked {
            size: looked.size(),
            peaks: looked.peaks().iter().copied().map(Digest).collect(),
        };
        self.document.alerts.push(alert);
        self.write()?;
        (self.head, self.given_up, self.looked) = (Some(head), None, looked);
        Ok(())
    }

    /// The tree of the records that were looked at.
    pub(crate) const fn looked(&self) -> &Frontier {
        &self.looked
    }

    /// Takes a head that was shown to go on from the one before.
    pub(crate) fn advance(&mut self, head: Head) -> Result<(), Failure> {
        let forward = self.head.as_ref().is_none_or(|old| {
            let (old, new) = (&old.checkpoint, &head.checkpoint);
            old.size < new.size || (old.size == new.size && old.root == new.root)
        });
        if !forward {
            return Err(failed(
                "MONITOR-BACKWARDS",
                "the state would go back: this is a defect of the monitor".to_owned(),
            ));
        }
        self.document.head = Some(Kept {
            by: head.by.clone(),
            note: head.note.clone(),
        });
        self.write()?;
        self.head = Some(head);
        Ok(())
    }

    /// Records up to the edge `looked` were looked at, with these alerts.
    pub(crate) fn look(&mut self, looked: Frontier, alerts: Vec<Alert>) -> Result<(), Failure> {
        if looked.size() < self.looked.size() {
            return Err(failed(
                "MONITOR-BACKWARDS",
                "the state would go back: this is a defect of the monitor".to_owned(),
            ));
        }
        self.document.looked = Looked {
            size: looked.size(),
            peaks: looked.peaks().iter().copied().map(Digest).collect(),
        };
        self.document.alerts.extend(alerts);
        self.write()?;
        self.looked = looked;
        Ok(())
    }

    /// What was changed in the document is durable when this returns.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(&self.document)
            .map_err(|error| failed("MONITOR-STATE", error.to_string()))?;
        self.put(&self.name, &bytes)
    }

    /// Keeps the proof of misbehaviour beside the state, and says where.
    pub(crate) fn keep(&self, misbehaviour: &Misbehaviour) -> Result<PathBuf, Failure> {
        let (name, bytes) = misbehaviour.file();
        self.put(&name, &bytes)?;
        Ok(self.folder.join(name))
    }

    /// Keeps labels that deny their owner what is his.
    pub(crate) fn keep_denial(&self, denial: &Denial) -> Result<(), Failure> {
        let bytes = serde_json::to_vec_pretty(denial);
        let bytes = bytes.map_err(|error| failed("MONITOR-STATE", error.to_string()))?;
        self.put(&denial.name, &bytes)
    }

    /// True if that one is there.
    pub(crate) fn has_denial(&self, denial: &Denial) -> Result<bool, Failure> {
        let there = self.disk.list(&self.folder);
        let there = there.map_err(|error| Self::unread(&self.folder, &error))?;
        Ok(there.contains(&denial.name))
    }

    /// Where labels are kept as they were served.
    fn labels_folder(&self) -> PathBuf {
        self.folder.join(format!("{}.labels", self.name))
    }

    /// Their names, in order.
    pub(crate) fn kept_labels(&self) -> Result<Vec<String>, Failure> {
        let folder = self.labels_folder();
        let names = self.disk.list(&folder);
        let mut names = names.map_err(|error| Self::unread(&folder, &error))?;
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) fn labels_file(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.labels_folder().join(name);
        let read = read_file(&*self.disk, &path, MAX_LABELS);
        read.map_err(|error| Self::unread(&path, &error))
    }

    pub(crate) fn keep_labels(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let folder = self.labels_folder();
        let made = self.disk.create_dir_all(&folder);
        made.and_then(|()| replace(&*self.disk, &folder.join(name), bytes))
            .and_then(|()| self.disk.sync_dir(&folder))
            .and_then(|()| self.disk.sync_dir(&self.folder))
            .map_err(|error| {
                let path = folder.join(name);
                let what = format!("cannot write {}: {error}", path.display());
                failed("MONITOR-STATE", what)
            })
    }

    pub(crate) fn forget_labels(&self, name: &str) -> Result<(), Failure> {
        let path = self.labels_folder().join(name);
        let removed = self.disk.remove(&path);
        removed.map_err(|error| {
            let what = format!("cannot remove {}: {error}", path.display());
            failed("MONITOR-STATE", what)
        })
    }

    fn unread(path: &Path, error: &std::io::Error) -> Failure {
        let what = format!("cannot read {}: {error}", path.display());
        failed("MONITOR-STATE", what)
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), Failure> {
        let path = self.folder.join(name);
        replace(&*self.disk, &path, bytes)
            .and_then(|()| self.disk.sync_dir(&self.folder))
            .map_err(|error| {
                failed(
                    "MONITOR-STATE",
                    format!("cannot write {}: {error}", path.display()),
                )
            })
    }
}

impl Document {
    fn new(origin: &str) -> Self {
        Self {
            v: 1,
            origin: origin.to_owned(),
            head: None,
            looked: Looked {
                size: 0,
                peaks: Vec::new(),
            },
            ahead: Vec::new(),
            trouble: None,
            alerts: Vec::new(),
        }
    }
}
