//! Child processes of the demo: started in process groups of their own, logging to files, gone when dropped,
//! and gone as well when the demo is killed and can drop nothing.

use anyhow::Context as _;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Of util-linux, which every Debian has. By its path: some children get no `PATH`.
const SETPRIV: &str = "/usr/bin/setpriv";

/// What the kernel sends to a child when the demo is gone.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parting {
    Kill,
    /// PostgreSQL: at once, and its own children and shared memory with it.
    Quit,
}

/// `program`, which the kernel ends when the demo dies, however it dies. To be started by [`spawn`].
pub(crate) fn mortal(program: impl AsRef<OsStr>, parting: Parting) -> Command {
    let signal = match parting {
        Parting::Kill => "KILL",
        Parting::Quit => "QUIT",
    };
    // It becomes the program: its pid, and what the node agent sees of it, are the program's.
    let mut command = Command::new(SETPRIV);
    command.args(["--pdeathsig", signal, "--"]).arg(program);
    command
}

type Job = Box<dyn FnOnce() + Send>;

/// The kernel takes the end of the *thread* that started a child for the end of its parent (prctl(2),
/// PR_SET_PDEATHSIG). So one thread starts all of them, and lives as long as this process.
static STARTER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = channel::<Job>();
    std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
    sender
});

/// Runs `start`, which starts a child, on the thread that lives as long as this process.
pub(crate) fn spawn<T: Send + 'static>(
    start: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    let (sender, started) = channel();
    let job = move || {
        // INVARIANT: whoever asked waits below, so that the child reaches an owner.
        drop(sender.send(start()));
    };
    let gone = || std::io::Error::other("the thread that starts children is gone");
    STARTER.send(Box::new(job)).map_err(|_gone| gone())?;
    started.recv().map_err(|_gone| gone())?
}

/// A child that is terminated, then killed, when dropped.
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command`, which [`mortal`] made, with its output in `logs/NAME.log`.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        logs: &Path,
    ) -> anyhow::Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C reaches the demo alone; it ends the children in order.
            .process_group(0);
        let child =
            spawn(move || command.spawn()).with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits until `ready` holds. Fails with the end of the log if the process ends first.
    pub(crate) async fn wait_until(
        &mut self,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        loop {
            if ready().await {
                return Ok(started.elapsed());
            }
            if let Some(status) = self.child.try_wait()? {
                anyhow::bail!("{} ended with {status}:\n{}", self.name, self.last_lines());
            }
            if started.elapsed() > limit {
                anyhow::bail!(
                    "{} was not ready after {} s:\n{}",
                    self.name,
                    limit.as_secs(),
                    self.last_lines()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let from = lines.len().saturating_sub(12);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let asked = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
            let until = Instant::now() + Duration::from_secs(3);
            while asked.is_ok() && Instant::now() < until {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let killed = self.child.kill();
        let waited = self.child.wait();
        tracing::debug!(name = self.name, ?killed, ?waited, "killed");
    }
}

/// The user that a command runs as when this process is root; PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Looks `name` up in `/etc/passwd`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next() != Some(name) {
                return None;
            }
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(Self { uid, gid })
        })
    }

    /// Setting the uid as root also drops the supplementary groups.
    pub(crate) fn apply(self, command: &mut Command) -> &mut Command {
        command.uid(self.uid).gid(self.gid)
    }
}

/// Runs `command` to its end; its output is part of the error if it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    anyhow::ensure!(
        output.status.success(),
        "{program} ended with {}:\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
