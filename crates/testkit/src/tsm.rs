//! A stand-in for the kernel's configfs-tsm, for machines that run in no confidential hardware: a file system
//! (FUSE) that a thread serves as Documentation/ABI/testing/configfs-tsm-report describes it.
//!
//! Folders appear with all their attributes, what is written to `inblob` counts once the file is closed,
//! `generation` counts what was written, and errors are the kernel's. The hardware is the test's.

mod wire;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use wire::{Reply, Request};

pub const EIO: i32 = 5;
pub const EAGAIN: i32 = 11;
pub const EBUSY: i32 = 16;
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;
const EPERM: i32 = 1;

/// Report and auxiliary blob for 64 bytes of the guest's.
pub type Hardware = Box<dyn FnMut(&[u8]) -> (Vec<u8>, Vec<u8>) + Send>;

/// What goes wrong, so many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reading this attribute fails.
    Read(&'static str, i32),
    /// No folder can be made.
    Make(i32),
    /// Somebody else writes to the same folder before the report is read.
    Interferes,
    /// The hardware takes no question: what was written is lost when the file is closed.
    Lost,
}

/// The file system, mounted until it is dropped.
pub struct Tsm {
    folder: tempfile::TempDir,
    shared: Arc<Mutex<Shared>>,
    serving: Option<JoinHandle<()>>,
}

struct Shared {
    provider: String,
    /// Of the privilege level, where the hardware knows levels.
    floor: Option<u64>,
    hardware: Hardware,
    faults: Vec<(Fault, u32)>,
    entries: BTreeMap<u64, Entry>,
    made: u64,
}

#[derive(Default)]
struct Entry {
    name: String,
    question: Vec<u8>,
    /// Written, and not closed yet.
    begun: Option<Vec<u8>>,
    generation: u64,
    level: Option<u64>,
    answer: Option<(Vec<u8>, Vec<u8>)>,
}

const ROOT: u64 = 1;
/// Folders are 100, 200 and so on; attributes follow their folder.
const STEP: u64 = 100;
const ATTRIBUTES: [&str; 7] = [
    "provider",
    "generation",
    "inblob",
    "outblob",
    "auxblob",
    "privlevel",
    "privlevel_floor",
];

impl Tsm {
    /// Mounts hardware of the kernel's driver `provider`; `floor` is that of its privilege levels.
    ///
    /// # Errors
    /// Why it cannot be mounted here: no `/dev/fuse`, or no right to.
    pub fn mount(provider: &str, floor: Option<u64>, hardware: Hardware) -> Result<Self, String> {
        let folder = crate::temp_dir().map_err(|error| error.to_string())?;
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| format!("/dev/fuse: {error}"))?;
        let inherited = device.try_clone().map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-i", "-n", "-t", "fuse"])
            .args(["-o", "fd=0,rootmode=40000,user_id=0,group_id=0"])
            .arg("trilith-tsm")
            .arg(folder.path())
            .stdin(Stdio::from(inherited))
            .output()
            .map_err(|error| format!("mount: {error}"))?;
        if !mounted.status.success() {
            let said = String::from_utf8_lossy(&mounted.stderr);
            return Err(format!("mounting a FUSE file system: {}", said.trim()));
        }
        let shared = Arc::new(Mutex::new(Shared {
            provider: provider.to_owned(),
            floor,
            hardware,
            faults: Vec::new(),
            entries: BTreeMap::new(),
            made: 0,
        }));
        let served = Arc::clone(&shared);
        let serving = std::thread::spawn(move || serve(device, &served));
        Ok(Self {
            folder,
            shared,
            serving: Some(serving),
        })
    }

    /// In the place of `/sys/kernel/config/tsm/report`.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// From now on `fault` happens, `times` times.
    pub fn fails(&self, fault: Fault, times: u32) {
        self.lock().faults.push((fault, times));
    }

    /// Folders that are there, and that ever were.
    #[must_use]
    pub fn entries(&self) -> (usize, u64) {
        let shared = self.lock();
        (shared.entries.len(), shared.made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tsm {
    fn drop(&mut self) {
        let path: PathBuf = self.folder.path().to_owned();
        let ended = Command::new("umount").arg("-l").arg(path).status();
        if ended.is_ok_and(|status| status.success())
            && let Some(serving) = self.serving.take()
        {
            drop(serving.join());
        }
    }
}

fn serve(mut device: File, shared: &Mutex<Shared>) {
    let mut buffer = vec![0; 256 * 1024];
    // The kernel says that the device is gone once nothing is mounted.
    while let Ok(length) = device.read(&mut buffer) {
        let Some(request) = buffer.get(..length).and_then(Request::parse) else {
            continue;
        };
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(reply) = shared.answer(&request) else {
            continue;
        };
        drop(shared);
        if device.write_all(&reply.bytes(request.unique)).is_err() {
            return;
        }
    }
}

impl Shared {
    fn happens(&mut self, fault: Fault) -> bool {
        let left = self
            .faults
            .iter_mut()
            .find(|(one, left)| *one == fault && *left > 0);
        left.map(|(_, left)| *left -= 1).is_some()
    }

    fn refusal(&mut self, what: impl Fn(Fault) -> Option<i32>) -> Option<i32> {
        let mut live = self.faults.iter_mut().filter(|(_, left)| *left > 0);
        live.find_map(|(fault, left)| {
            let errno = what(*fault)?;
            *left -= 1;
            Some(errno)
        })
    }

    fn has(&self, attribute: &str) -> bool {
        self.floor.is_some() || !attribute.starts_with("privlevel")
    }

    /// The folder and the attribute that a number is of.
    fn place(&mut self, node: u64) -> Option<(&mut Entry, Option<&'static str>)> {
        let entry = self.entries.get_mut(&(node / STEP * STEP))?;
        match node % STEP {
            0 => Some((entry, None)),
            index => {
                let index = usize::try_from(index).ok()?.checked_sub(1)?;
                Some((entry, Some(ATTRIBUTES.get(index)?)))
            }
        }
    }

    fn look_up(&mut self, parent: u64, name: &str) -> Option<u64> {
        if parent == ROOT {
            let found = self.entries.iter().find(|(_, entry)| entry.name == name);
            return found.map(|(node, _)| *node);
        }
        self.entries.get(&parent)?;
        let index = ATTRIBUTES.iter().position(|one| *one == name)?;
        let index = u64::try_from(index).ok()?;
        self.has(name).then_some(parent + index + 1)
    }

    /// `None`: the kernel waits for no answer.
    fn answer(&mut self, request: &Request<'_>) -> Option<Reply> {
        let node = request.node;
        Some(match request.operation {
            wire::FORGET | wire::BATCH_FORGET | wire::INTERRUPT => return None,
            wire::INIT => Reply::init(),
            wire::LOOKUP => match self.look_up(node, request.name()) {
                Some(found) => Reply::entry(found, is_folder(found)),
                None => Reply::Error(ENOENT),
            },
            wire::GETATTR | wire::SETATTR => {
                if node == ROOT || self.place(node).is_some() {
                    Reply::attributes(node, is_folder(node))
                } else {
                    Reply::Error(ENOENT)
                }
            }
            wire::MKDIR => self.make(node, request.name_after(8)),
            wire::RMDIR => self.remove(node, request.name()),
            wire::OPEN | wire::OPENDIR => Reply::opened(),
            wire::READ => match self.read(node) {
                Ok(bytes) => Reply::part(&bytes, request),
                Err(errno) => Reply::Error(errno),
            },
            wire::WRITE => self.write(node, request.written()),
            wire::FLUSH => self.closed(node),
            wire::RELEASE | wire::RELEASEDIR | wire::DESTROY | wire::READDIR => {
                Reply::Bytes(Vec::new())
            }
            _ => Reply::Error(ENOSYS),
        })
    }

    fn make(&mut self, parent: u64, name: &str) -> Reply {
        let refused = self.refusal(|fault| match fault {
            Fault::Make(errno) => Some(errno),
            _ => None,
        });
        if let Some(errno) = refused {
            return Reply::Error(errno);
        }
        if parent != ROOT {
            return Reply::Error(EPERM);
        }
        if self.look_up(ROOT, name).is_some() {
            return Reply::Error(EEXIST);
        }
        self.made += 1;
        let node = self.made * STEP;
        let entry = Entry {
            name: name.to_owned(),
            ..Entry::default()
        };
        self.entries.insert(node, entry);
        Reply::entry(node, true)
    }

    fn remove(&mut self, parent: u64, name: &str) -> Reply {
        match self.look_up(parent, name) {
            Some(node) if self.entries.remove(&node).is_some() => Reply::Bytes(Vec::new()),
            _ => Reply::Error(ENOENT),
        }
    }

    fn write(&mut self, node: u64, bytes: &[u8]) -> Reply {
        let floor = self.floor.unwrap_or(0);
        let Some((entry, Some(attribute))) = self.place(node) else {
            return Reply::Error(ENOENT);
        };
        match attribute {
            "inblob" if bytes.len() <= 64 => entry.begun = Some(bytes.to_vec()),
            "privlevel" => {
                let level = std::str::from_utf8(bytes).ok();
                let level = level.and_then(|text| text.trim().parse::<u64>().ok());
                if level.is_none_or(|level| level < floor || level > 3) {
                    return Reply::Error(EINVAL);
                }
                entry.level = level;
                entry.generation += 1;
            }
            _ => return Reply::Error(EINVAL),
        }
        Reply::wrote(bytes.len())
    }

    /// The kernel takes a binary attribute when it is closed, and can say nothing of it then.
    fn closed(&mut self, node: u64) -> Reply {
        let begun = self.place(node).and_then(|(entry, _)| entry.begun.take());
        if let Some(question) = begun
            && !self.happens(Fault::Lost)
            && let Some((entry, _)) = self.place(node)
        {
            entry.question = question;
            entry.generation += 1;
            entry.answer = None;
        }
        Reply::Bytes(Vec::new())
    }

    fn read(&mut self, node: u64) -> Result<Vec<u8>, i32> {
        let attribute = self.place(node).and_then(|(_, attribute)| attribute);
        let attribute = attribute.ok_or(ENOENT)?;
        let refused = self.refusal(|fault| match fault {
            Fault::Read(name, errno) if name == attribute => Some(errno),
            _ => None,
        });
        if let Some(errno) = refused {
            return Err(errno);
        }
        let number = |number: u64| format!("{number}\n").into_bytes();
        match attribute {
            "provider" => Ok(format!("{}\n", self.provider).into_bytes()),
            "privlevel_floor" => Ok(number(self.floor.unwrap_or(0))),
            "generation" => {
                let entry = self.place(node).ok_or(ENOENT)?.0;
                Ok(number(entry.generation))
            }
            "outblob" | "auxblob" => {
                let (report, auxiliary) = self.asked(node)?;
                Ok(if attribute == "outblob" {
                    report
                } else {
                    auxiliary
                })
            }
            _ => Err(EPERM),
        }
    }

    /// The hardware is asked once for each question.
    fn asked(&mut self, node: u64) -> Result<(Vec<u8>, Vec<u8>), i32> {
        let floor = self.floor.unwrap_or(0);
        let entry = self.place(node).ok_or(ENOENT)?.0;
        if let Some(answer) = &entry.answer {
            return Ok(answer.clone());
        }
        let question = entry.question.clone();
        // Below the floor, which is the default, the hardware does not answer.
        if question.is_empty() || entry.level.unwrap_or(0) < floor {
            return Err(EINVAL);
        }
        let answer = (self.hardware)(&question);
        let interferes = self.happens(Fault::Interferes);
        let entry = self.place(node).ok_or(ENOENT)?.0;
        if interferes {
            entry.generation += 1;
        }
        entry.answer = Some(answer.clone());
        Ok(answer)
    }
}

const fn is_folder(node: u64) -> bool {
    node == ROOT || node.is_multiple_of(STEP)
}
