//! One function a command. Roles start planes; the rest asks the server, the local agent or nobody.

mod administer;
mod ask;
mod attest;
mod author;
mod blast;
mod delegation;
pub(crate) mod estate;
mod ledger;
mod monitor;
pub(crate) mod pack;
mod people;
pub(crate) mod plan;
pub(crate) mod proof;
mod records;
mod refs;
mod resources;
pub(crate) mod roles;
mod tpm;
mod workload;

use crate::arguments::{Arguments, Command, ConfigCommand};
use crate::runtime::{block_on, log_to_stderr};
use crate::{Failure, demo, output};
use std::process::ExitCode;

/// Commands that only ask need no more.
const ASKING_THREADS: usize = 1;

/// Who acts on files of this machine, as records name him.
pub(crate) fn by() -> String {
    format!("uid:{}", rustix::process::getuid().as_raw())
}

/// What a pruning took, as `record` says, or would take.
fn pruned(origin: &str, minimum: u64, bytes: u64, record: Option<u64>) -> String {
    let records = format!(
        "records 1 to {} of {origin}, {bytes} bytes",
        minimum.saturating_sub(1)
    );
    match record {
        Some(record) => format!("pruned {records}; record {record} says so"),
        None => format!("would prune {records}"),
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let Arguments { command, global } = arguments;
    match command {
        Command::Server(arguments) => {
            log_to_stderr(&global.log, global.json)?;
            roles::server(arguments, &global)?;
        }
        Command::Agent(arguments) => {
            if let Some(command) = arguments.command {
                block_on(ASKING_THREADS, administer::agents(command, &global))?;
            } else {
                log_to_stderr(&global.log, global.json)?;
                roles::agent(arguments.config, arguments.token)?;
            }
        }
        Command::Gateway(arguments) => {
            log_to_stderr(&global.log, global.json)?;
            roles::gateway(&arguments.config)?;
        }
        Command::Pdp(arguments) => {
            log_to_stderr(&global.log, global.json)?;
            roles::pdp(&arguments.config)?;
        }
        Command::Demo(arguments) => return block_on(2, demo::run(arguments, global)),
        Command::Estate(command) => return estate::run(command, &global),
        Command::Why(arguments) => block_on(ASKING_THREADS, ask::why(arguments, &global))?,
        Command::WhoCan(arguments) => block_on(ASKING_THREADS, ask::who_can(arguments, &global))?,
        Command::BlastRadius(arguments) => {
            block_on(ASKING_THREADS, blast::blast_radius(arguments, &global))?;
        }
        Command::WhatCan(arguments) => block_on(ASKING_THREADS, ask::what_can(arguments, &global))?,
        Command::Ledger(command) => block_on(ASKING_THREADS, ledger::run(command, &global))?,
        Command::Pack(arguments) => block_on(ASKING_THREADS, pack::pack(arguments, &global))?,
        Command::Verify(arguments) => pack::verify(&arguments, &global)?,
        Command::Trust(arguments) => block_on(ASKING_THREADS, pack::trust(&arguments, &global))?,
        Command::Token(command) => block_on(ASKING_THREADS, administer::token(command, &global))?,
        Command::Tpm(command) => tpm::run(command, &global)?,
        Command::Config(ConfigCommand::Schema { role }) => output::json(&roles::schema(role)),
        Command::Attest(command) => return attest::run(command, &global),
        Command::Refs(command) => refs::run(*command, &global)?,
        Command::Resources(command) => return resources::run(*command, &global),
        Command::Revoke(arguments) => {
            block_on(ASKING_THREADS, administer::revoke(arguments, &global))?
        }
        Command::Restore(arguments) => {
            block_on(ASKING_THREADS, administer::restore(arguments, &global))?
        }
        Command::Recover(arguments) => {
            block_on(ASKING_THREADS, administer::recover(arguments, &global))?
        }
        Command::Exec(arguments) => {
            log_to_stderr(&global.log, global.json)?;
            return block_on(ASKING_THREADS, workload::exec(arguments));
        }
        Command::Files(arguments) => {
            log_to_stderr(&global.log, global.json)?;
            block_on(ASKING_THREADS, workload::files(arguments))?
        }
        Command::Whoami(arguments) => {
            block_on(ASKING_THREADS, workload::whoami(arguments, &global))?
        }
        Command::Author(command) => author::run(command, &global)?,
        Command::History(arguments) => match &arguments.at.pdp {
            Some(pdp) => block_on(
                ASKING_THREADS,
                records::live::history(pdp, &arguments, &global),
            )?,
            None => records::history(&arguments, &global)?,
        },
        Command::Unused(arguments) => match &arguments.at.pdp {
            Some(pdp) => block_on(
                ASKING_THREADS,
                records::live::unused(pdp, &arguments, &global),
            )?,
            None => return records::unused(&arguments, &global),
        },
        Command::Replay(arguments) => match &arguments.at.pdp {
            Some(pdp) => block_on(
                ASKING_THREADS,
                records::live::replay(pdp, &arguments, &global),
            )?,
            None => records::replay(&arguments, &global)?,
        },
        Command::Login(arguments) => block_on(ASKING_THREADS, people::login(arguments, &global))?,
        Command::Logout(arguments) => {
            block_on(ASKING_THREADS, people::logout(arguments, &global))?;
        }
        Command::Status => block_on(ASKING_THREADS, administer::status(&global))?,
        Command::Delegate(arguments) => {
            block_on(ASKING_THREADS, delegation::delegate(arguments, &global))?
        }
        Command::Delegation(command) => {
            block_on(ASKING_THREADS, delegation::run(command, &global))?
        }
        Command::Witness(arguments) => {
            log_to_stderr(&global.log, global.json)?;
            roles::witness(&arguments.config)?;
        }
        Command::Monitor(arguments) => {
            log_to_stderr(&global.log, global.json)?;
            return block_on(ASKING_THREADS, monitor::run(arguments, &global));
        }
    }
    Ok(ExitCode::SUCCESS)
}
