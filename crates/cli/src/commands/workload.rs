//! On the workload's side: `exec`, `files`, `whoami`.

use crate::arguments::{ExecArguments, FilesArguments, Global, WorkloadSocket};
use crate::commands::administer;
use crate::runtime::cancelled_by_signal;
use crate::{Failure, output};
use agent::client::Client;
use agent::helper::{self, ExecOptions, FilesOptions, Patience};
use facts::Finding;
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) async fn exec(arguments: ExecArguments) -> Result<ExitCode, Failure> {
    let mut command = arguments.command.into_iter();
    let program = command
        .next()
        .ok_or_else(|| Failure::usage("name a program to run"))?;
    let options = ExecOptions {
        socket: arguments.socket.socket,
        identity: arguments.identity,
        patience: patience(arguments.wait),
        program: program.into(),
        arguments: command.map(Into::into).collect(),
    };
    let code = helper::exec(&options)
        .await
        .map_err(|error| Failure::all(error.findings()))?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

pub(crate) async fn files(arguments: FilesArguments) -> Result<(), Failure> {
    let mode = u32::from_str_radix(arguments.mode.trim_start_matches("0o"), 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| Failure::usage(format!("--mode {} is not an octal mode", arguments.mode)))?;
    let options = FilesOptions {
        socket: arguments.socket.socket,
        identity: arguments.identity,
        patience: patience(arguments.wait),
        directory: arguments.directory,
        owner: arguments.owner,
        mode,
        reload: arguments.reload,
        once: arguments.once,
    };
    helper::files(&options, cancelled_by_signal()?)
        .await
        .map_err(|error| Failure::all(error.findings()))
}

pub(crate) async fn whoami(socket: WorkloadSocket, global: &Global) -> Result<(), Failure> {
    let client = Client::connect(&socket.socket)
        .await
        .map_err(|error| error.finding())?;
    let status = client.status(None).await.map_err(|error| error.finding())?;
    administer::print(&status, global);
    match refused(&status) {
        Some(finding) => Err(finding.into()),
        None => Ok(()),
    }
}

/// Why the agent can say nothing: `CODE: message` of its document.
fn refused(status: &Value) -> Option<Finding> {
    let told = status.get("refused")?.as_str()?;
    let (code, next) = if told.contains("AGENT-OFFLINE") {
        (
            "AGENT-OFFLINE",
            "look whether the server runs and at the agent's log",
        )
    } else {
        ("AGENT-DENIED", "look at the agent's log")
    };
    let message = told.strip_prefix("AGENT-OFFLINE: ").unwrap_or(told);
    Some(Finding::new(code, message).next(next))
}

fn patience(seconds: Option<u64>) -> Patience {
    Patience {
        limit: seconds.map(Duration::from_secs),
        tell: |finding| output::note(format_args!("trilith: {finding}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_agent_that_can_say_nothing_is_a_failure() {
        let told =
            json!({ "v": 1, "refused": "AGENT-OFFLINE: the server cannot be reached; try again" });
        let finding = refused(&told).unwrap();
        assert_eq!(finding.code, "AGENT-OFFLINE");
        assert_eq!(finding.message, "the server cannot be reached; try again");
        assert!(refused(&json!({ "v": 1, "identities": [] })).is_none());
    }
}
