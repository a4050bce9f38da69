//! One of the demo's programs, driven over its standard input and output.

use super::process::{Parting, mortal, spawn};
use anyhow::Context as _;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// No answer takes longer than this.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Workload {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    next: u64,
    /// The first line that it printed: its identity, or that it was refused one.
    pub(crate) greeting: Value,
}

impl Workload {
    /// Starts `program` against the Workload API at `socket` and waits for its first line.
    pub(crate) async fn start(program: &Path, socket: &str) -> anyhow::Result<Self> {
        let mut command = Command::from(mortal(program, Parting::Kill));
        command
            .env_clear()
            .env("SPIFFE_ENDPOINT_SOCKET", socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let runtime = tokio::runtime::Handle::current();
        let started = spawn(move || {
            let _entered = runtime.enter();
            command.spawn()
        });
        let mut child = started.with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut workload = Self {
            child,
            input,
            output: BufReader::new(output).lines(),
            next: 0,
            greeting: Value::Null,
        };
        workload.greeting = workload.line().await?;
        Ok(workload)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// The SPIFFE ID that it got, if it got one.
    pub(crate) fn spiffe_id(&self) -> Option<&str> {
        self.greeting.get("spiffe_id")?.as_str()
    }

    /// Sends one command and waits for its answer.
    pub(crate) async fn ask(&mut self, command: Value) -> anyhow::Result<Value> {
        self.send(command).await?;
        self.answer().await
    }

    /// Sends one command; [`Workload::answer`] takes the answer later.
    pub(crate) async fn send(&mut self, command: Value) -> anyhow::Result<()> {
        self.next += 1;
        let line = format!("{}\n", json!({ "id": self.next, "command": command }));
        self.input.write_all(line.as_bytes()).await?;
        self.input.flush().await?;
        Ok(())
    }

    /// The answer to the last command that was sent.
    pub(crate) async fn answer(&mut self) -> anyhow::Result<Value> {
        loop {
            let line = self.line().await?;
            if line.get("id").and_then(Value::as_u64) == Some(self.next) {
                return Ok(line);
            }
        }
    }

    pub(crate) async fn query(&mut self, sql: &str) -> anyhow::Result<Value> {
        self.ask(json!({ "query": { "sql": sql } })).await
    }

    async fn line(&mut self) -> anyhow::Result<Value> {
        let line = tokio::time::timeout(LIMIT, self.output.next_line())
            .await
            .context("a demo program does not answer")??
            .context("a demo program ended")?;
        serde_json::from_str(&line).with_context(|| format!("a demo program printed {line:?}"))
    }
}
