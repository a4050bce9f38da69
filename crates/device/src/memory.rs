//! Keeps what this process has in memory, private keys among it, out of core files and from other processes.

#![forbid(unsafe_code)]

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use std::io;

/// The kernel writes no core file of this process, nor of those that it starts. A program that takes core
/// dumps from a pipe is started all the same, and decides by itself: see [`hide`].
///
/// # Errors
/// What the kernel says.
pub fn no_core_files() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// As [`no_core_files`]; beyond that no core dump of this process is made for anybody, and its memory is open
/// to nobody but who may trace every process. Nobody else of its own uid can look at what it runs either: it
/// is not for processes that a node agent attests, which may run under the same uid. Ends with an `exec`.
///
/// # Errors
/// What the kernel says.
pub fn hide() -> io::Result<()> {
    no_core_files()?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{dumpable_behavior, getrlimit};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, ExitStatus};

    const ROLE: &str = "TRILITH_TEST_DIES_AS";

    /// Not a test of its own: what the one below starts, in a process that dies with a key in memory.
    #[test]
    fn dies() {
        let Ok(role) = std::env::var(ROLE) else {
            return;
        };
        let most = getrlimit(Resource::Core).maximum;
        let all = Rlimit {
            current: most,
            maximum: most,
        };
        setrlimit(Resource::Core, all).unwrap();
        match role.as_str() {
            "gateway" => no_core_files().unwrap(),
            "server" => hide().unwrap(),
            _ => {}
        }
        let hidden = dumpable_behavior().unwrap() == DumpableBehavior::NotDumpable;
        assert_eq!(hidden, role == "server");
        std::process::abort();
    }

    fn died_as(role: &str, folder: &std::path::Path) -> ExitStatus {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::tests::dies", "--test-threads=1"])
            .env(ROLE, role)
            .current_dir(folder)
            .status()
            .unwrap()
    }

    /// A process that holds keys is made to crash, and its core file read.
    #[test]
    fn who_holds_keys_leaves_no_core_file() {
        const SIGABRT: i32 = 6;
        let files = |folder: &std::path::Path| std::fs::read_dir(folder).unwrap().count();
        for role in ["gateway", "server"] {
            let folder = tempfile::tempdir().unwrap();
            let died = died_as(role, folder.path());
            assert_eq!(died.signal(), Some(SIGABRT), "{role}");
            assert_eq!(files(folder.path()), 0, "{role}");
            assert!(!(role == "server" && died.core_dumped()), "{role}");
        }
        // Where core files are written into the folder, one that is not protected leaves its own.
        let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
        if pattern.trim() == "core" && getrlimit(Resource::Core).maximum != Some(0) {
            let folder = tempfile::tempdir().unwrap();
            assert!(died_as("nobody", folder.path()).core_dumped());
            assert_eq!(files(folder.path()), 1);
        }
    }
}
