//! A disk in memory that forgets what was not synced, tears what is in flight, and fails where it
//! is told to. What a real disk may do after a crash, it does at random.

use ledger_store::{Disk, DiskFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

/// What happens to the next operation that changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is reported as failed, but everything was stored.
    FailedAndStored,
    /// It is reported as failed, and nothing was stored.
    FailedNotStored,
    /// Half of it is stored, and it is reported as failed.
    Short,
    /// The disk is full; of data half is stored, of names everything.
    Full,
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    /// Writes since the last sync: offset and bytes; a truncation is a length.
    pending: Vec<Change>,
    now: Vec<u8>,
}

enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

#[derive(Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<File>>>,
    /// Names as they would be found after a crash.
    durable_names: BTreeMap<PathBuf, Arc<Mutex<File>>>,
    locked: BTreeSet<PathBuf>,
    countdown: Option<(u64, Fault)>,
    operations: u64,
    /// Bytes that the disk holds; `None`: no limit.
    capacity: Option<u64>,
    reserved: u64,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

impl MemoryDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Lets the operation after the next `after` ones fail.
    pub(crate) fn fail(&self, after: u64, fault: Fault) {
        self.state().countdown = Some((after, fault));
    }

    /// The same disk without the fault that has not come yet.
    pub(crate) fn healed(self) -> Self {
        self.state().countdown = None;
        self
    }

    /// Operations that changed something so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn limit(&self, capacity: Option<u64>) {
        self.state().capacity = capacity;
    }

    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    /// The machine loses power. Of what was not synced `dice` decides: gone, there, or torn.
    pub(crate) fn crash(&self, mut dice: impl FnMut(u64) -> u64) -> Self {
        let state = self.state();
        let mut files = BTreeMap::new();
        for (path, file) in &state.durable_names {
            let file = file.lock().unwrap();
            let mut content = file.durable.clone();
            for change in &file.pending {
                match (change, dice(4)) {
                    (_, 0) => break,
                    (Change::Truncate(length), _) => content.truncate(*length as usize),
                    (Change::Write(at, bytes), 1) => {
                        let kept = dice(bytes.len() as u64 + 1) as usize;
                        write(&mut content, *at, &bytes[..kept]);
                    }
                    (Change::Write(at, bytes), 2) => {
                        // The end reached the disk, a piece before it did not.
                        let mut torn = bytes.clone();
                        let from = dice(torn.len() as u64) as usize;
                        let to = (from + 64).min(torn.len());
                        torn[from..to].fill(0);
                        write(&mut content, *at, &torn);
                    }
                    (Change::Write(at, bytes), _) => write(&mut content, *at, bytes),
                }
            }
            let file = File {
                durable: content.clone(),
                pending: Vec::new(),
                now: content,
            };
            files.insert(path.clone(), Arc::new(Mutex::new(file)));
        }
        let after = State {
            durable_names: files.clone(),
            files,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(after)))
    }
}

fn write(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    let at = at as usize;
    if content.len() < at + bytes.len() {
        content.resize(at + bytes.len(), 0);
    }
    content[at..at + bytes.len()].copy_from_slice(bytes);
}

fn failed() -> io::Error {
    io::Error::other("injected")
}

impl State {
    fn used(&self) -> u64 {
        let files = self.files.values();
        let bytes: usize = files.map(|file| file.lock().unwrap().now.len()).sum();
        bytes as u64 + self.reserved
    }

    /// The fault of this operation, if it is its turn.
    fn turn(&mut self) -> Option<Fault> {
        self.operations += 1;
        match &mut self.countdown {
            Some((0, fault)) => {
                let fault = *fault;
                self.countdown = None;
                Some(fault)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }
}

/// Runs `act` as the fault says; `half` stands in for a short one.
fn faulty(fault: Option<Fault>, act: impl FnOnce(), half: impl FnOnce()) -> io::Result<()> {
    match fault {
        None => act(),
        Some(Fault::FailedAndStored) => {
            act();
            return Err(failed());
        }
        Some(Fault::FailedNotStored) => return Err(failed()),
        Some(Fault::Short) => {
            half();
            return Err(failed());
        }
        Some(Fault::Full) => {
            half();
            return Err(io::ErrorKind::StorageFull.into());
        }
    }
    Ok(())
}

/// As [`faulty`] for an operation that has no half.
fn faulty_name(fault: Option<Fault>, act: impl FnOnce()) -> io::Result<()> {
    if fault == Some(Fault::Full) {
        act();
        return Err(io::ErrorKind::StorageFull.into());
    }
    faulty(fault, act, || ())
}

struct Open {
    disk: MemoryDisk,
    file: Arc<Mutex<File>>,
}

impl Open {
    fn change(&self, at: u64, bytes: &[u8]) {
        let mut file = self.file.lock().unwrap();
        write(&mut file.now, at, bytes);
        file.pending.push(Change::Write(at, bytes.to_vec()));
    }
}

impl DiskFile for Open {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.lock().unwrap().now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.file.lock().unwrap();
        let rest = file.now.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let fault = state.turn();
        let room = state
            .capacity
            .map(|capacity| capacity.saturating_sub(state.used()));
        drop(state);
        let grows = (offset + bytes.len() as u64).saturating_sub(self.length()?);
        if room.is_some_and(|room| grows > room) {
            self.change(offset, &bytes[..bytes.len() / 2]);
            return Err(io::ErrorKind::StorageFull.into());
        }
        faulty(
            fault,
            || self.change(offset, bytes),
            || self.change(offset, &bytes[..bytes.len() / 2]),
        )
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let fault = self.disk.state().turn();
        let act = || {
            let mut file = self.file.lock().unwrap();
            file.now.resize(length as usize, 0);
            file.pending.push(Change::Truncate(length));
        };
        faulty(fault, act, || ())
    }

    fn sync(&self) -> io::Result<()> {
        let fault = self.disk.state().turn();
        let act = || {
            let mut file = self.file.lock().unwrap();
            file.durable = file.now.clone();
            file.pending.clear();
        };
        faulty(fault, act, || ())
    }
}

struct Lock(MemoryDisk, PathBuf);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.state().locked.remove(&self.1);
    }
}

impl Disk for MemoryDisk {
    fn create_dir_all(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.state().files.get(path).cloned();
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let disk = self.clone();
        Ok(Box::new(Open { disk, file }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self
            .state()
            .files
            .entry(path.to_owned())
            .or_default()
            .clone();
        let disk = self.clone();
        Ok(Box::new(Open { disk, file }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let inside = state.files.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name());
        Ok(names
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.turn();
        let act = || {
            if let Some(file) = state.files.remove(from) {
                state.files.insert(to.to_owned(), file);
            }
        };
        faulty_name(fault, act)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.turn();
        if path.ends_with("reserve") {
            state.reserved = 0;
        }
        faulty_name(fault, || drop(state.files.remove(path)))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.turn();
        let act = || {
            state
                .durable_names
                .retain(|path, _| path.parent() != Some(dir));
            let inside = state
                .files
                .iter()
                .filter(|(path, _)| path.parent() == Some(dir));
            let inside: Vec<_> = inside
                .map(|(path, file)| (path.clone(), file.clone()))
                .collect();
            state.durable_names.extend(inside);
        };
        faulty_name(fault, act)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        if self.state().locked.insert(path.to_owned()) {
            Ok(Box::new(Lock(self.clone(), path.to_owned())))
        } else {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }

    fn reserve(&self, _path: &Path, bytes: u64) -> io::Result<()> {
        let mut state = self.state();
        let room = state
            .capacity
            .map(|capacity| capacity.saturating_sub(state.used()));
        if room.is_some_and(|room| bytes > room + state.reserved) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.reserved = bytes;
        Ok(())
    }
}
