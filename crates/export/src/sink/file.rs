//! A file that grows by whole lines, and standard output.

use super::{Refusal, lines};
use crate::Event;
use facts::Finding;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Longest line that can be half written: a record, its envelope, and room.
const LOOKED_BACK: u64 = 1 << 20;

pub(super) struct FileSink {
    path: PathBuf,
    file: File,
}

impl FileSink {
    /// Takes a half line at the end away: it was never acknowledged, and comes again.
    pub(super) fn open(path: &Path) -> Result<Self, Finding> {
        Self::at(path).map_err(|error| {
            Finding::new("EXPORT-SINK-FILE", "the file cannot be written to")
                .expected("a regular file of lines that no other process writes, or none yet")
                .observed(format!("{}: {error}", path.display()))
                .next("name another file, or mend its folder's rights")
        })
    }

    fn at(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let whole = whole_lines(&file)?;
        file.set_len(whole)?;
        file.sync_all()?;
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }

    /// On the disk when this returns. The disk is waited for: whoever calls has nothing else to do.
    pub(super) fn take(&mut self, events: &[Event]) -> Result<(), Refusal> {
        // A file that was moved away is another's; the next one is begun.
        if self.was_moved() {
            *self = Self::at(&self.path).map_err(|error| self.again(&error))?;
        }
        let end = self.file.metadata().map_err(|error| self.again(&error))?;
        let end = end.len();
        let written = self
            .file
            .write_all_at(&lines(events), end)
            .and_then(|()| self.file.sync_data());
        written.map_err(|error| {
            // Half a batch would be followed by the whole of it.
            let undone = self.file.set_len(end);
            match undone {
                Ok(()) => self.again(&error),
                Err(undone) => self.again(&undone),
            }
        })
    }

    fn was_moved(&self) -> bool {
        use std::os::unix::fs::MetadataExt as _;
        let (Ok(open), named) = (self.file.metadata(), std::fs::metadata(&self.path)) else {
            return false;
        };
        named.map_or(true, |named| {
            (named.dev(), named.ino()) != (open.dev(), open.ino())
        })
    }

    fn again(&self, error: &io::Error) -> Refusal {
        Refusal::again(format!("{}: {error}", self.path.display()))
    }
}

/// The length up to and with the last line's end.
fn whole_lines(file: &File) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(LOOKED_BACK);
    let mut tail = vec![0; usize::try_from(length - from).unwrap_or_default()];
    file.read_exact_at(&mut tail, from)?;
    match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => Ok(from + u64::try_from(at).unwrap_or_default() + 1),
        None if from == 0 => Ok(0),
        None => Err(io::Error::other(
            "its last line has more than 1 MiB: it is not of an export",
        )),
    }
}

pub(super) fn to_stdout(events: &[Event]) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    let written = out.write_all(&lines(events)).and_then(|()| out.flush());
    written.map_err(closed)
}

/// A pipe whose reader is gone stays so.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn closed(error: io::Error) -> Refusal {
    Refusal::Never(Box::new(
        Finding::new("EXPORT-STDOUT", "standard output takes nothing more")
            .observed(error.to_string())
            .next("run the same command again: with --cursor it goes on where that stands, and without one it begins anew"),
    ))
}
