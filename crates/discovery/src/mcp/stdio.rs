//! A program that speaks over its standard streams, a message in each line. It ends with whoever asks it.

use super::http::answers;
use super::{Failure, MAX_MESSAGE, beyond};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Lines of other things that are read before an answer.
const MOST_LINES: usize = 10_000;

pub(super) struct Stdio {
    /// Killed when dropped.
    _child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Stdio {
    /// What it writes to its standard error goes where ours goes.
    pub(super) fn start(words: &[String]) -> Result<Self, Failure> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(Failure::Broken("no program is named".to_owned()));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::Broken(format!("{program} does not start: {error}")))?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(Self {
                _child: child,
                input,
                output: BufReader::new(output),
            }),
            _ => Err(Failure::Broken(format!("{program} has no streams"))),
        }
    }

    pub(super) async fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        self.tell(request).await?;
        for _ in 0..MOST_LINES {
            let line = self.line().await?;
            // What a program prints beside its messages is none.
            if let Ok(message) = serde_json::from_slice::<Value>(&line)
                && answers(&message, request.get("id"))
            {
                return Ok(message);
            }
        }
        Err(beyond(format!("an answer within {MOST_LINES} lines")).into())
    }

    pub(super) async fn tell(&mut self, message: &Value) -> Result<(), Failure> {
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        let written = async {
            self.input.write_all(&line).await?;
            self.input.flush().await
        };
        written
            .await
            .map_err(|error| Failure::Broken(format!("it reads nothing: {error}")))
    }

    async fn line(&mut self) -> Result<Vec<u8>, Failure> {
        let mut line = Vec::new();
        let most = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX);
        let mut limited = (&mut self.output).take(most);
        limited
            .read_until(b'\n', &mut line)
            .await
            .map_err(|error| Failure::Broken(format!("it says nothing: {error}")))?;
        if line.ends_with(b"\n") {
            return Ok(line);
        }
        if line.len() >= MAX_MESSAGE {
            return Err(beyond(format!("a message of at most {MAX_MESSAGE} bytes")).into());
        }
        Err(Failure::Broken("it ended without an answer".to_owned()))
    }
}
