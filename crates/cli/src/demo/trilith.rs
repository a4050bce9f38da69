//! This very binary, run as a user would run it.

use super::process::{Parting, mortal};
use anyhow::Context as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The one JSON document on stdout.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_str(&self.stdout)
            .with_context(|| format!("not JSON: {:?} {}", self.stdout, self.stderr))
    }

    /// One JSON document a line.
    pub(crate) fn json_lines(&self) -> anyhow::Result<Vec<Value>> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}")))
            .collect()
    }

    pub(crate) fn ok(self) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.code == 0,
            "exit code {}: {}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

/// The command line, with the socket of the demo's server.
#[derive(Debug, Clone)]
pub(crate) struct Trilith {
    binary: PathBuf,
    admin: PathBuf,
}

impl Trilith {
    pub(crate) fn new(admin: PathBuf) -> anyhow::Result<Self> {
        Ok(Self {
            binary: std::env::current_exe().context("cannot find this binary")?,
            admin,
        })
    }

    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    pub(crate) fn command(&self) -> Command {
        self.prepared(Command::new(&self.binary))
    }

    /// A long-running role: it ends with the demo.
    pub(crate) fn role(&self, role: &str, config: &Path) -> Command {
        let mut command = self.prepared(mortal(&self.binary, Parting::Kill));
        command.arg(role).arg("--config").arg(config);
        command
    }

    fn prepared(&self, mut command: Command) -> Command {
        command
            .env("TRILITH_ADMIN_SOCKET", &self.admin)
            .stdin(Stdio::null());
        command
    }

    /// Runs `trilith ARGUMENTS --json` to its end without blocking the runtime.
    pub(crate) async fn run(&self, arguments: &[&str]) -> anyhow::Result<Ran> {
        let mut command = self.command();
        command.args(arguments).arg("--json");
        let name = arguments.join(" ");
        let output = tokio::task::spawn_blocking(move || command.output())
            .await?
            .with_context(|| format!("cannot run `trilith {name}`"))?;
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}
