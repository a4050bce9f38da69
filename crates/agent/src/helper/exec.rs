//! `trilith exec -- CMD`: runs a program with an identity in files that only it and its user can read.
//!
//! The agent attests this process (uid, groups, unit) and hashes the program's file itself; that this
//! process then runs that file is this process's word. See `docs/decisions/0005-exec-helper.md`.

use super::folder::{BUNDLE, Folder, KEY, SVID, failed};
use super::{Change, Follow, HelperError, Patience};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io::IsTerminal as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

#[derive(Debug, Clone)]
pub struct ExecOptions {
    /// `unix:///run/trilith/workload.sock`
    pub socket: String,
    /// SPIFFE ID; by default the first that the agent gives.
    pub identity: Option<String>,
    pub patience: Patience,
    /// The program, by path or by name in `PATH`.
    pub program: OsString,
    pub arguments: Vec<OsString>,
}

/// Runs the program to its end and returns its exit code (128 and the signal's number if a signal ended
/// it). Signals are passed on. The files are renewed while it runs and removed with it.
///
/// The program finds them in `PGSSLCERT`, `PGSSLKEY`, `PGSSLROOTCERT`, and in `SPIFFE_SVID_FILE`,
/// `SPIFFE_KEY_FILE`, `SPIFFE_BUNDLE_FILE`; `SPIFFE_ID` and `SPIFFE_ENDPOINT_SOCKET` are set as well.
///
/// # Errors
/// [`HelperError`] if there is no identity, or the program cannot be started.
pub async fn exec(options: &ExecOptions) -> Result<i32, HelperError> {
    let program = resolve(&options.program)?;
    let mut follow = Follow::new(&options.socket, Some(&program), options.identity.as_deref());
    let svid = follow.first(&options.patience).await?;
    let private = Private::make()?;
    private.0.write(&svid)?;
    // Before the child exists: no signal is lost.
    let mut signals = Signals::listen()?;
    let mut child = spawn(options, &program, &private.0, &svid.spiffe_id)?;
    loop {
        tokio::select! {
            ended = child.wait() => {
                let status = ended.map_err(|error| failed("wait for", &program, error))?;
                return Ok(code(status));
            }
            Some(signal) = signals.0.recv() => pass_on(&child, signal),
            change = follow.next() => match change {
                Change::Held(svid) => private.0.write(&svid)?,
                Change::Withdrawn(why) => {
                    tracing::warn!(why, "the identity was withdrawn; its files are removed");
                    private.0.withdraw()?;
                }
            },
        }
    }
}

fn spawn(
    options: &ExecOptions,
    program: &Path,
    folder: &Folder,
    spiffe_id: &str,
) -> Result<Child, HelperError> {
    Command::new(program)
        .args(&options.arguments)
        .env("PGSSLCERT", folder.file(SVID))
        .env("PGSSLKEY", folder.file(KEY))
        .env("PGSSLROOTCERT", folder.file(BUNDLE))
        .env("SPIFFE_SVID_FILE", folder.file(SVID))
        .env("SPIFFE_KEY_FILE", folder.file(KEY))
        .env("SPIFFE_BUNDLE_FILE", folder.file(BUNDLE))
        .env("SPIFFE_ID", spiffe_id)
        .env("SPIFFE_ENDPOINT_SOCKET", &options.socket)
        .spawn()
        .map_err(|error| failed("run", program, error))
}

/// As `execvp(3)` would find it; absolute and without links, so that what the agent hashes is what runs.
fn resolve(program: &OsStr) -> Result<PathBuf, HelperError> {
    let unknown = || HelperError::Program(program.to_string_lossy().into_owned());
    let executable = |path: &Path| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
    };
    let named = Path::new(program);
    let found = if named.components().count() > 1 {
        Some(named.to_owned())
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .map(|folder| folder.join(named))
            .find(|candidate| executable(candidate))
    };
    let found = found.ok_or_else(unknown)?;
    let resolved = fs::canonicalize(&found).map_err(|_| unknown())?;
    if executable(&resolved) {
        Ok(resolved)
    } else {
        Err(unknown())
    }
}

fn code(status: ExitStatus) -> i32 {
    let by_signal = || status.signal().map(|signal| 128 + signal);
    status.code().or_else(by_signal).unwrap_or(1)
}

/// A folder of our own on a file system in memory, removed with everything in it.
struct Private(Folder);

impl Private {
    fn make() -> Result<Self, HelperError> {
        let uid = rustix::process::getuid().as_raw();
        let candidates = [
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from),
            Some(PathBuf::from(format!("/run/user/{uid}"))),
            Some(PathBuf::from("/dev/shm")),
            Some(std::env::temp_dir()),
        ];
        let parent = candidates
            .into_iter()
            .flatten()
            .find(|path| path.is_absolute() && path.is_dir())
            .unwrap_or_else(|| PathBuf::from("/tmp"));
        let name = crypto::hex::encode(&crypto::random::<16>());
        let path = parent.join(format!("trilith-exec-{name}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| failed("make", &path, error))?;
        Folder::open(&path, 0o600, None).map(Self)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0.path) {
            tracing::warn!(path = %self.0.path.display(), %error, "the identity's files could not be removed");
        }
    }
}

/// The signals that are passed on.
struct Signals(mpsc::Receiver<Signal>);

impl Signals {
    fn listen() -> Result<Self, HelperError> {
        let (sender, receiver) = mpsc::channel(8);
        // A terminal sends these two to the whole foreground group: the program has them already.
        let from_terminal = std::io::stdin().is_terminal();
        let all = [
            (SignalKind::terminate(), Signal::TERM, true),
            (SignalKind::hangup(), Signal::HUP, true),
            (SignalKind::user_defined1(), Signal::USR1, true),
            (SignalKind::user_defined2(), Signal::USR2, true),
            (SignalKind::interrupt(), Signal::INT, !from_terminal),
            (SignalKind::quit(), Signal::QUIT, !from_terminal),
        ];
        for (kind, number, pass) in all {
            let mut incoming = signal(kind)
                .map_err(|error| failed("listen for signals of", "self".as_ref(), error))?;
            let sender = sender.clone();
            tokio::spawn(async move {
                while incoming.recv().await.is_some() {
                    if pass && sender.send(number).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Self(receiver))
    }
}

fn pass_on(child: &Child, signal: Signal) {
    // Not reaped yet, so the number is still the child's.
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(pid) = pid.and_then(Pid::from_raw)
        && let Err(error) = kill_process(pid, signal)
    {
        tracing::warn!(%error, ?signal, "the signal could not be passed on");
    }
}
