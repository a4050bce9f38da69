//! A folder with the binary and the demo's programs, for a user who may be somebody else, and what is left in it.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The demo's clients and the thief's tool, beside the binary under test.
const PROGRAMS: [&str; 4] = [
    "payments-api",
    "reporting-nightly",
    "ai-agent",
    "examples/attack",
];

/// What the demo needs from the machine.
const TOOLS: [&str; 6] = ["swtpm", "swtpm_setup", "cvc5", "initdb", "postgres", "psql"];

/// Where one test runs the binary. `TMPDIR` of everything it starts lies inside.
pub(crate) struct Site {
    folder: tempfile::TempDir,
    user: Option<u32>,
}

impl Site {
    /// For the user `uid`, or for whoever runs the test. The reason to skip, if something is missing.
    pub(crate) fn new(uid: Option<u32>) -> Result<Self, String> {
        testkit::tools(TOOLS)?;
        let trilith = Path::new(env!("CARGO_BIN_EXE_trilith"));
        let built = trilith.parent().expect("the binary has a folder");
        let folder = testkit::temp_dir().expect("a folder");
        open(folder.path(), 0o755);
        for name in ["bin", "bin/examples", "tmp"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        for program in ["trilith"].into_iter().chain(PROGRAMS) {
            let from = built.join(program);
            if !from.exists() {
                return Err(format!(
                    "{program} is not built; run `cargo test -p demo-workloads --no-run` first"
                ));
            }
            std::fs::copy(&from, folder.path().join("bin").join(program)).expect("a copy");
        }
        let site = Self { folder, user: uid };
        // PostgreSQL's own user passes through when the demo runs as root.
        open(&site.temporary(), 0o755);
        if let Some(uid) = uid {
            std::os::unix::fs::chown(site.temporary(), Some(uid), Some(uid)).expect("chown");
        }
        Ok(site)
    }

    /// The binary under test, with an environment that has only what a login shell would set.
    pub(crate) fn trilith(&self) -> Command {
        let mut command = Command::new(self.folder.path().join("bin/trilith"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TMPDIR", self.temporary())
            .env("HOME", self.temporary())
            .current_dir(self.temporary());
        if let Some(uid) = self.user {
            command.uid(uid).gid(uid);
        }
        command
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.folder.path().join("tmp")
    }

    /// Files and folders that the binary left in its `TMPDIR`.
    pub(crate) fn left_files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.temporary())
            .expect("the folder is still there")
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    /// Processes that name this site in their command line, that run one of its programs, or that work in
    /// it, as PostgreSQL's own children do under names that say nothing.
    pub(crate) fn left_processes(&self) -> Vec<String> {
        let mark = self.folder.path().to_str().expect("UTF-8").to_owned();
        let mut left = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
            let folder = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
            if line.contains(&mark) || program.starts_with(&mark) || folder.starts_with(&mark) {
                left.push(format!("{}: {line}", entry.path().display()));
            }
        }
        left
    }
}

fn open(folder: &Path, mode: u32) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode)).expect("a mode");
}
