//! On the workload's side: `exec`, `files`, `whoami`.

use crate::arguments::{ExecArguments, FilesArguments, Global, WorkloadSocket};
use crate::commands::administer;
use crate::runtime::cancelled_by_signal;
use crate::{Failure, output};
use agent::client::{self, Client};
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
    let mut status = client.status(None).await.map_err(|error| error.finding())?;
    let failed = refused(&status);
    if !global.json {
        nearest_first(&mut status);
        // It is said below, once.
        if let Some(status) = status.as_object_mut().filter(|_| failed.is_some()) {
            status.remove("refused");
        }
    }
    administer::print(&status, global);
    match failed {
        Some(finding) => Err(finding.into()),
        None => Ok(()),
    }
}

/// Why the agent can say nothing.
fn refused(status: &Value) -> Option<Finding> {
    let told = status.get("refused")?.as_str()?;
    Some(client::coded(told).unwrap_or_else(|| {
        Finding::new("AGENT-DENIED", told.to_owned()).next("look at the agent's log")
    }))
}

/// For people: the nearest refusals first, and the identities of other machines, which nobody meant, as a number.
fn nearest_first(status: &mut Value) {
    let Some(refused) = status
        .get_mut("refused_identities")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let distance = |one: &Value| {
        let findings = one.get("findings").and_then(Value::as_array);
        let codes = findings.into_iter().flatten();
        let codes = codes.filter_map(|finding| finding.get("code")?.as_str());
        codes.map(helper::distance).min().unwrap_or(u8::MAX)
    };
    refused.sort_by_key(|one| distance(one));
    let elsewhere = helper::distance("ASSUME-PLACEMENT");
    let near = refused
        .iter()
        .filter(|one| distance(one) != elsewhere)
        .count();
    let others = refused.len() - near;
    if others > 1 {
        // One of them shows what the machine would have to be.
        refused.truncate(near + 1);
        if let Some(status) = status.as_object_mut() {
            let told = format!("{} more, for other machines", others - 1);
            status.insert("refused_elsewhere".to_owned(), told.into());
        }
    }
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
        let out = "AGENT-OUT: the server gives this machine no identity; next: look";
        let finding = refused(&json!({ "v": 1, "refused": out })).unwrap();
        assert_eq!(finding.to_string(), out, "one code, one next");
    }

    #[test]
    fn identities_of_other_machines_come_last_and_as_a_number() {
        let of = |path: &str, code: &str| json!({ "spiffe_id": path, "findings": [{ "code": code, "message": "m" }] });
        let mut status = json!({ "refused_identities": [
            of("a", "ASSUME-PLACEMENT"), of("b", "ASSUME-PLACEMENT"), of("c", "ASSUME-CONDITION"),
            of("d", "ASSUME-CODE-DIGEST"), of("e", "ASSUME-PLACEMENT"),
        ] });
        nearest_first(&mut status);
        let listed = status["refused_identities"].as_array().unwrap();
        let names: Vec<&Value> = listed.iter().map(|one| &one["spiffe_id"]).collect();
        assert_eq!(names, ["d", "c", "a"]);
        assert_eq!(status["refused_elsewhere"], "2 more, for other machines");
    }
}
