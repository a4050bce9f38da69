//! A workload: a process of its own, with a SPIFFE library that others wrote.

use crate::machine::Machine;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Obeys one line at a time and answers each with one line of JSON.
const SCRIPT: &str = r#"
import json, os, sys, threading, grpc
from spiffe import WorkloadApiClient
socket = sys.argv[1]
def say(**fields): print(json.dumps(fields), flush=True)
client = WorkloadApiClient(socket)
def ids(context): return [str(s.spiffe_id) for s in context.x509_svids]
for line in sys.stdin:
    word = line.strip()
    try:
        if word == "connect":
            grpc.channel_ready_future(client._channel).result(10)
            say(connected=True)
        elif word == "x509":
            say(ids=ids(client.fetch_x509_context()))
        elif word == "jwt":
            token = client.fetch_jwt_svid(audience={"db"}).token
            say(token=str(client.validate_jwt_svid(token, audience="db").spiffe_id))
        elif word == "watch":
            client.stream_x509_contexts(lambda c: say(update=ids(c)), lambda e: say(ended=str(e)))
        elif word == "setuid":
            os.setresuid(12345, 12345, 12345); say(done=True)
    except Exception as error:
        say(error=str(error))
"#;

pub(crate) struct Workload {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// What it runs.
    pub(crate) program: PathBuf,
}

fn python(test: &str) -> Option<PathBuf> {
    let found = testkit::venv_python(&["spiffe"]);
    if found.is_none() {
        testkit::skip(
            test,
            "no target/venv with the package spiffe; run cargo xtask test",
        );
    }
    found
}

impl Workload {
    /// A program called `name` that is no interpreter by its name: a copy of Python.
    pub(crate) fn start(test: &str, machine: &Machine, name: &str) -> Option<Self> {
        let python = python(test)?;
        let program = machine.directory.path().join(name);
        // The program moves, its standard library stays.
        let original = std::fs::canonicalize(&python).unwrap();
        let home = original.parent().unwrap().parent().unwrap();
        std::fs::copy(&original, &program).unwrap();
        let site = python.parent().unwrap().parent().unwrap().join("lib");
        let version = std::fs::read_dir(site).unwrap().next().unwrap().unwrap();
        let packages = version.path().join("site-packages");
        Some(Self::spawn(
            &program,
            Command::new(&program)
                .env("PYTHONPATH", packages)
                .env("PYTHONHOME", home),
            machine,
        ))
    }

    fn spawn(program: &Path, command: &mut Command, machine: &Machine) -> Self {
        let mut child = command
            .args(["-c", SCRIPT])
            .arg(machine.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            input: child.stdin.take().unwrap(),
            lines: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
            program: program.to_owned(),
        }
    }

    pub(crate) async fn tell(&mut self, word: &str) {
        self.input
            .write_all(format!("{word}\n").as_bytes())
            .await
            .unwrap();
    }

    pub(crate) async fn says(&mut self) -> Value {
        let line = self.lines.next_line().await.unwrap();
        serde_json::from_str(&line.expect("the workload ended; see its output")).unwrap()
    }

    pub(crate) async fn ask(&mut self, word: &str) -> Value {
        self.tell(word).await;
        self.says().await
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}
