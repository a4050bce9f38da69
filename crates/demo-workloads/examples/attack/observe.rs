//! What anybody near the system can see: the victim's certificates, the bundle, the newest checkpoint.

use anyhow::{Context as _, bail};
use ledger::{Checkpoint, LedgerKey};
use serde_json::{Value, json};
use spiffe_core::{Bundle, SpiffeId, TrustDomain};
use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);
/// A bundle is far smaller.
const MAX_ANSWER: u64 = 1 << 20;

/// The released program, running with the identity that it really has.
pub(crate) struct Program {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Program {
    pub(crate) fn start(program: &Path, workload_api: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(program)
            .env_clear()
            .env("SPIFFE_ENDPOINT_SOCKET", workload_api)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let output = BufReader::new(output).lines();
        let mut program = Self {
            child,
            input,
            output,
        };
        let greeting = program.line()?;
        if greeting.get("event") != Some(&json!("identity")) {
            bail!("the genuine program has no identity: {greeting}");
        }
        Ok(program)
    }

    /// The certificates that it presents to every peer, DER.
    pub(crate) fn certificates(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let answer = self.ask(&json!("chain"))?;
        let chain = answer.get("chain").and_then(Value::as_array);
        chain
            .with_context(|| format!("no certificates: {answer}"))?
            .iter()
            .map(|text| {
                let text = text.as_str().context("a certificate is text")?;
                Ok(crypto::base64::decode(text)?)
            })
            .collect()
    }

    /// Connects to the gateway as who it is. A gateway that turns everybody away refuses no forgery.
    pub(crate) fn connect(
        &mut self,
        gateway: &str,
        database: &str,
        server: &SpiffeId,
    ) -> anyhow::Result<()> {
        let (host, port) = gateway.rsplit_once(':').context("HOST:PORT")?;
        let config =
            format!("host={host} port={port} dbname={database} user=genuine sslmode=require");
        let answer =
            self.ask(&json!({ "connect": { "config": config, "server": server.as_str() } }))?;
        if answer.get("ok") != Some(&json!(true)) {
            bail!("the gateway does not even let the genuine program in: {answer}");
        }
        self.ask(&json!("close"))?;
        Ok(())
    }

    fn ask(&mut self, command: &Value) -> anyhow::Result<Value> {
        writeln!(self.input, "{}", json!({ "id": 1, "command": command }))?;
        self.input.flush()?;
        self.line()
    }

    fn line(&mut self) -> anyhow::Result<Value> {
        let line = self.output.next().context("the program ended")??;
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// The trust bundle, as the server publishes it.
pub(crate) fn bundle(server: &str, trust_domain: &TrustDomain) -> anyhow::Result<Bundle> {
    let jwks = fetch(server, "/bundle.json")?;
    Ok(Bundle::from_jwks(trust_domain.clone(), &jwks)?)
}

/// The newest checkpoint, as the server publishes it.
pub(crate) fn checkpoint(server: &str, key: &LedgerKey) -> anyhow::Result<Checkpoint> {
    let note = String::from_utf8(fetch(server, "/checkpoint")?)?;
    Checkpoint::open(&note, key).context("the genuine checkpoint")
}

/// HTTP/1.0 is enough for a file.
fn fetch(server: &str, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream =
        TcpStream::connect(server).with_context(|| format!("cannot reach {server}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {server}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    let head = answer
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .context("not an HTTP answer")?;
    let status = answer.get(..head).unwrap_or_default();
    if !status
        .get(8..)
        .is_some_and(|rest| rest.starts_with(b" 200"))
    {
        let status = String::from_utf8_lossy(status);
        bail!("GET {path}: {}", status.lines().next().unwrap_or_default());
    }
    Ok(answer.get(head + 4..).unwrap_or_default().to_vec())
}
