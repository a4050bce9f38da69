//! Who is at the other end of a Unix socket, and what it runs: by pidfd and `/proc`.
//!
//! Collects and judges nothing: `attest-code` turns a [`Snapshot`] into facts.
//!
//! A pid is a number that the kernel hands out again; a pidfd is the process itself. Everything here is
//! read through one open `/proc/PID` directory (which the kernel ties to the process, not to the number)
//! between two looks at the pidfd. If the process was alive at the second look, its pid was never free,
//! so what was read in between is the caller's.
//!
//! What this does not stop are tricks inside one uid: a trusted process that passes its socket on,
//! `LD_PRELOAD`, `ptrace`. Facts about code therefore hold between uids.

mod digest;
mod executable;
mod peer;
mod text;
mod verity;

pub use digest::{Digests, MAX_EXECUTABLE};
pub use executable::{Digest, Executable, FileId, Program};
pub use text::unit_of_cgroup;
pub use verity::Verity;
pub(crate) use verity::measure as measure_verity;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::Path;

/// `/proc/PID/stat` counts in `USER_HZ`, which is 100 on every architecture that Rust's tier 1 and 2 cover.
const TICKS_PER_SECOND: u64 = 100;
/// How often [`Caller::observe`] starts over when the process executes something else meanwhile.
const ATTEMPTS: usize = 3;

/// How sure it is that the pid belongs to the process that connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Identification {
    /// `SO_PEERPIDFD` (Linux 6.5): the kernel itself names the process.
    Pidfd,
    /// `SO_PEERCRED`, then `pidfd_open`, and the process did not start after the accept. A pid that was
    /// freed and taken again between connect and accept goes unseen.
    Raceable,
}

#[derive(Debug, thiserror::Error)]
pub enum IdentifyError {
    #[error("the socket's peer credentials cannot be read")]
    Credentials(#[source] std::io::Error),
    #[error("the caller lives in a PID namespace that is not visible from here")]
    Namespace,
    #[error("the caller is gone already")]
    Gone,
    #[error("no pidfd for pid {pid}")]
    Pidfd {
        pid: i32,
        #[source]
        source: std::io::Error,
    },
    #[error("pid {pid} started after the connection was accepted: it is not the caller")]
    StartedLater { pid: i32 },
    #[error("/proc/{pid}/{file} cannot be read")]
    Proc {
        pid: i32,
        file: &'static str,
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    #[error("the caller is gone")]
    Gone,
    #[error("the caller keeps executing other programs; asked {ATTEMPTS} times")]
    Changing,
    #[error(
        "the caller connected as uid {connected_uid} gid {connected_gid} and runs as uid {uid} gid {gid} now"
    )]
    Credentials {
        connected_uid: u32,
        connected_gid: u32,
        uid: u32,
        gid: u32,
    },
    #[error("/proc/{pid}/{file} cannot be read")]
    Proc {
        pid: i32,
        file: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("/proc/{pid}/{file} has an unknown form")]
    Form { pid: i32, file: &'static str },
    #[error("program {path:?}: {reason}")]
    Program {
        path: std::path::PathBuf,
        reason: String,
    },
}

/// A moment on the clock that process start times are told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime {
    ticks: u64,
}

impl BootTime {
    /// Now, rounded up to the next tick, so that what started before never seems to have started after.
    #[must_use]
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self {
            ticks: seconds * TICKS_PER_SECOND + nanos.div_ceil(1_000_000_000 / TICKS_PER_SECOND),
        }
    }

    /// `ticks` of 1/100 s since boot, as `/proc/PID/stat` has them.
    #[must_use]
    pub const fn from_ticks(ticks: u64) -> Self {
        Self { ticks }
    }
}

/// A process that connected to us. As long as it is held, its pid means this process or none.
#[derive(Debug)]
pub struct Caller {
    pidfd: OwnedFd,
    pid: i32,
    uid: u32,
    gid: u32,
    started: u64,
    identification: Identification,
}

/// What a caller was at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub pid: i32,
    /// In ticks of 1/100 s since boot. (pid, started) is unique while the machine is up.
    pub started: u64,
    /// Effective ids, equal to those at connect.
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, sorted.
    pub groups: Vec<u32>,
    pub executable: Executable,
    /// Path in the unified (or systemd's) hierarchy.
    pub cgroup: Option<String>,
    /// The system manager's unit that the cgroup lies in.
    pub unit: Option<String>,
    pub identification: Identification,
}

impl Caller {
    /// The process that connected `socket`, an accepted connection. `accepted` is the time of the accept
    /// or later; only kernels without `SO_PEERPIDFD` need it.
    pub fn of(socket: impl AsFd, accepted: BootTime) -> Result<Self, IdentifyError> {
        let socket = socket.as_fd();
        let credentials = peer::credentials(socket).map_err(IdentifyError::Credentials)?;
        match peer::pidfd(socket) {
            Ok(Some(pidfd)) => Self::from_pidfd(pidfd, credentials),
            Ok(None) => Self::from_credentials(credentials, accepted),
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                Err(IdentifyError::Gone)
            }
            Err(error) => Err(IdentifyError::Credentials(error)),
        }
    }

    fn from_pidfd(pidfd: OwnedFd, credentials: peer::Credentials) -> Result<Self, IdentifyError> {
        let pid = peer::pid_of(&pidfd).map_err(|error| match error {
            peer::PidError::Gone => IdentifyError::Gone,
            peer::PidError::Elsewhere => IdentifyError::Namespace,
            peer::PidError::Read(source) => IdentifyError::Credentials(source),
        })?;
        Self::bind(pidfd, pid, credentials, Identification::Pidfd)
    }

    fn from_credentials(
        credentials: peer::Credentials,
        accepted: BootTime,
    ) -> Result<Self, IdentifyError> {
        let pid = credentials.pid;
        let number = Pid::from_raw(pid).ok_or(IdentifyError::Namespace)?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|errno| match errno {
            Errno::SRCH => IdentifyError::Gone,
            other => IdentifyError::Pidfd {
                pid,
                source: other.into(),
            },
        })?;
        let caller = Self::bind(pidfd, pid, credentials, Identification::Raceable)?;
        if caller.started > accepted.ticks {
            return Err(IdentifyError::StartedLater { pid });
        }
        Ok(caller)
    }

    fn bind(
        pidfd: OwnedFd,
        pid: i32,
        credentials: peer::Credentials,
        identification: Identification,
    ) -> Result<Self, IdentifyError> {
        let read = |file, error: ObserveError| match error {
            ObserveError::Gone => IdentifyError::Gone,
            ObserveError::Proc { source, .. } => IdentifyError::Proc { pid, file, source },
            other => IdentifyError::Proc {
                pid,
                file,
                source: std::io::Error::other(other),
            },
        };
        let entry = Entry::open(pid).map_err(|error| read("", error))?;
        let started = entry.started().map_err(|error| read("stat", error))?;
        if !alive(pidfd.as_fd()) {
            return Err(IdentifyError::Gone);
        }
        Ok(Self {
            pidfd,
            pid,
            uid: credentials.uid,
            gid: credentials.gid,
            started,
            identification,
        })
    }

    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid
    }

    /// Effective uid when it connected.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }

    /// Effective gid when it connected.
    #[must_use]
    pub const fn gid(&self) -> u32 {
        self.gid
    }

    /// In ticks of 1/100 s since boot. (pid, started) is unique while the machine is up.
    #[must_use]
    pub const fn started(&self) -> u64 {
        self.started
    }

    #[must_use]
    pub const fn identification(&self) -> Identification {
        self.identification
    }

    /// False once the process has ended, even if nobody has reaped it.
    #[must_use]
    pub fn still_alive(&self) -> bool {
        alive(self.pidfd.as_fd())
    }

    /// What the caller is now. Blocks on file I/O: the executable is read in full the first time.
    pub fn observe(&self, digests: &Digests) -> Result<Snapshot, ObserveError> {
        for _ in 0..ATTEMPTS {
            if let Some(snapshot) = self.observe_once(digests)? {
                return Ok(snapshot);
            }
        }
        Err(ObserveError::Changing)
    }

    /// `None` if the process executed something else while it was looked at.
    fn observe_once(&self, digests: &Digests) -> Result<Option<Snapshot>, ObserveError> {
        let entry = self.entry()?;
        let status = entry.status()?;
        let executable = executable::running(&entry, digests)?;
        let cgroup = text::cgroup(&entry.read("cgroup")?);
        if entry.status()? != status || executable::running_id(&entry)? != executable.id {
            return Ok(None);
        }
        self.finish(&entry)?;
        if (status.uid, status.gid) != (self.uid, self.gid) {
            return Err(ObserveError::Credentials {
                connected_uid: self.uid,
                connected_gid: self.gid,
                uid: status.uid,
                gid: status.gid,
            });
        }
        let unit = cgroup.as_deref().and_then(text::unit_of_cgroup);
        Ok(Some(Snapshot {
            pid: self.pid,
            started: self.started,
            uid: status.uid,
            gid: status.gid,
            groups: status.groups,
            executable,
            cgroup,
            unit,
            identification: self.identification,
        }))
    }

    /// The program at `path` (absolute) as the caller's root shows it, for a helper that is about to
    /// execute it. It must be a regular file that the caller may execute: what it may not run it must
    /// not learn the digest of.
    pub fn program(
        &self,
        path: &Path,
        snapshot: &Snapshot,
        digests: &Digests,
    ) -> Result<Program, ObserveError> {
        let entry = self.entry()?;
        let program = executable::program(&entry, path, snapshot, digests)?;
        self.finish(&entry)?;
        Ok(program)
    }

    fn entry(&self) -> Result<Entry, ObserveError> {
        let entry = Entry::open(self.pid)?;
        // The directory was opened by number: it is the caller's only if the caller was alive afterwards.
        if !self.still_alive() {
            return Err(ObserveError::Gone);
        }
        Ok(entry)
    }

    /// INVARIANT: nothing that was read from `entry` is returned unless this succeeds after it.
    fn finish(&self, entry: &Entry) -> Result<(), ObserveError> {
        if entry.started()? != self.started || !self.still_alive() {
            return Err(ObserveError::Gone);
        }
        Ok(())
    }
}

/// A pidfd polls readable once its process has ended. An error is taken for an end.
fn alive(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(poll(&mut fds, Some(&now)), Ok(0))
}

/// An open `/proc/PID`.
#[derive(Debug)]
struct Entry {
    pid: i32,
    directory: OwnedFd,
}

impl Entry {
    fn open(pid: i32) -> Result<Self, ObserveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())
            .map(|directory| Self { pid, directory })
            .map_err(|errno| Self::error(pid, "", errno))
    }

    fn error(pid: i32, file: &'static str, errno: Errno) -> ObserveError {
        match errno {
            Errno::SRCH | Errno::NOENT => ObserveError::Gone,
            other => ObserveError::Proc {
                pid,
                file,
                source: other.into(),
            },
        }
    }

    fn read(&self, file: &'static str) -> Result<String, ObserveError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.directory, file, flags, Mode::empty())
            .map_err(|errno| Self::error(self.pid, file, errno))?;
        text::read_capped(opened).map_err(|source| {
            match source.raw_os_error().map(Errno::from_raw_os_error) {
                Some(Errno::SRCH) => ObserveError::Gone,
                _ => ObserveError::Proc {
                    pid: self.pid,
                    file,
                    source,
                },
            }
        })
    }

    fn started(&self) -> Result<u64, ObserveError> {
        text::started(&self.read("stat")?).ok_or(ObserveError::Form {
            pid: self.pid,
            file: "stat",
        })
    }

    fn status(&self) -> Result<text::Status, ObserveError> {
        text::status(&self.read("status")?).ok_or(ObserveError::Form {
            pid: self.pid,
            file: "status",
        })
    }
}

#[cfg(test)]
mod tests;
