//! Children that end with the process that started them, also when it is killed and can drop nothing.

use std::ffi::OsStr;
use std::io;
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, channel};

/// What the kernel sends to a child whose parent is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parting {
    Kill,
    /// PostgreSQL: at once, and its own children and shared memory with it.
    Quit,
}

/// `program`, to be started by [`spawn`].
///
/// # Errors
/// When `setpriv` is missing: it is of util-linux, which every Debian has.
pub fn command(program: impl AsRef<OsStr>, parting: Parting) -> io::Result<Command> {
    let [setpriv] = crate::tools(["setpriv"]).map_err(io::Error::other)?;
    let signal = match parting {
        Parting::Kill => "KILL",
        Parting::Quit => "QUIT",
    };
    // It becomes the program: the child's id is the program's.
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", signal, "--"]).arg(program);
    Ok(command)
}

type Job = Box<dyn FnOnce() + Send>;

/// The kernel takes the end of the *thread* that started a child for the end of its parent (prctl(2),
/// PR_SET_PDEATHSIG), and each test has a thread of its own. So one thread starts all of them, and lives as long
/// as this process.
static STARTER: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (sender, jobs) = channel::<Job>();
    std::thread::spawn(move || jobs.into_iter().for_each(|job| job()));
    sender
});

/// Starts what [`command`] made.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(mut command: Command) -> io::Result<Child> {
    let (sender, started) = channel();
    let job = move || {
        // INVARIANT: whoever asked waits below, so that the child reaches an owner.
        drop(sender.send(command.spawn()));
    };
    let gone = || io::Error::other("the thread that starts children is gone");
    STARTER.send(Box::new(job)).map_err(|_gone| gone())?;
    started.recv().map_err(|_gone| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;
    use std::time::{Duration, Instant};

    const PARENT: &str = "TRILITH_TEST_PARENT";

    /// Not a test of its own: the parent that the one below kills.
    #[test]
    fn a_parent() {
        let Some(file) = std::env::var_os(PARENT) else {
            return;
        };
        let start = || {
            let mut sleep = command("/bin/sleep", Parting::Kill).unwrap();
            sleep.arg("600");
            spawn(sleep).unwrap()
        };
        // The thread that asked for it is gone long before this process is.
        let mut child = std::thread::spawn(start).join().unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let told = std::path::PathBuf::from(file);
        let part = told.with_extension("part");
        std::fs::write(&part, child.id().to_string()).unwrap();
        std::fs::rename(part, told).unwrap();
        child.wait().unwrap();
    }

    fn runs(pid: &str) -> bool {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"/bin/sleep")
    }

    /// Killed tests had left emulators and databases behind, until the machine was full of them.
    #[test]
    fn a_child_of_a_killed_test_is_gone() {
        let folder = crate::temp_dir().unwrap();
        let told = folder.path().join("pid");
        let mut parent = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mortal::tests::a_parent"])
            .env(PARENT, &told)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Instant::now() + Duration::from_secs(30);
        let wait = |what: &str, holds: &dyn Fn() -> bool| {
            while !holds() {
                assert!(Instant::now() < limit, "{what}");
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        wait("the child starts", &|| told.exists());
        let child = std::fs::read_to_string(&told).unwrap();
        assert!(runs(&child), "it outlives the thread that asked for it");
        parent.kill().unwrap();
        parent.wait().unwrap();
        wait("the child ends", &|| !runs(&child));
    }
}
