//! On the workload's side: `exec`, `files`, `whoami`.

use crate::Failure;
use crate::arguments::{ExecArguments, FilesArguments, Global, WorkloadSocket};
use crate::commands::administer;
use crate::runtime::cancelled_by_signal;
use agent::client::Client;
use agent::helper::{self, ExecOptions, FilesOptions};
use anyhow::Context as _;
use std::process::ExitCode;

pub(crate) async fn exec(arguments: ExecArguments) -> Result<ExitCode, Failure> {
    let mut command = arguments.command.into_iter();
    let program = command
        .next()
        .ok_or_else(|| Failure::usage("name a program to run"))?;
    let options = ExecOptions {
        socket: arguments.socket.socket,
        identity: arguments.identity,
        program: program.into(),
        arguments: command.map(Into::into).collect(),
    };
    let code = helper::exec(&options)
        .await
        .context("the program was not run")?;
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
        directory: arguments.directory,
        owner: arguments.owner,
        mode,
        reload: arguments.reload,
        once: arguments.once,
    };
    Ok(helper::files(&options, cancelled_by_signal()?)
        .await
        .context("the files are not kept")?)
}

pub(crate) async fn whoami(socket: WorkloadSocket, global: &Global) -> Result<(), Failure> {
    let client = Client::connect(&socket.socket).await.context("no agent")?;
    let status = client
        .status(None)
        .await
        .context("the agent does not answer")?;
    administer::print(&status, global);
    Ok(())
}
