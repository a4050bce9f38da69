//! Verdicts and the boots behind them: explained, compared, and judged by an estate that is not in force.

mod ask;
mod diff;
mod dry_run;
mod ear;
mod endorsements;
mod explain;
mod files;
mod told;

use crate::arguments::{AttestCommand, Global, Verdict};
use crate::runtime::block_on;
use crate::{Failure, admin};
use proto::v1;
use serde_json::Value;
use std::process::ExitCode;

/// Largest answer: a list of a hundred thousand files has some 30 MiB.
const LARGEST: usize = 256 << 20;

pub(super) fn run(command: AttestCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        AttestCommand::Explain(arguments) => match &arguments.event_log {
            Some(log) => files::explain(log, &arguments, global),
            None => block_on(super::ASKING_THREADS, explain::explain(&arguments, global)),
        },
        AttestCommand::Diff(arguments) => {
            block_on(super::ASKING_THREADS, diff::diff(&arguments, global))
        }
        AttestCommand::DryRun(arguments) => {
            block_on(super::ASKING_THREADS, dry_run::dry_run(&arguments, global))
        }
        AttestCommand::Ask { node } => block_on(super::ASKING_THREADS, ask::ask(node, global)),
        AttestCommand::Ear(arguments) => {
            block_on(super::ASKING_THREADS, ear::ear(arguments, global))?;
            Ok(ExitCode::SUCCESS)
        }
        AttestCommand::Endorsements(command) => endorsements::run(command, global),
    }
}

/// What the server says of a verdict and its evidence.
async fn ask(verdict: &Verdict, folder: &str, global: &Global) -> Result<Value, Failure> {
    let (index, node) = match verdict {
        Verdict::Record(index) => (*index, String::new()),
        Verdict::Node(node) => (0, node.clone()),
    };
    let question = v1::AttestQuestion {
        index,
        node,
        folder: folder.to_owned(),
    };
    let mut parts = admin::connect(global)
        .await?
        .attest_explain(question)
        .await
        .map_err(|status| admin::refusal(&status))?
        .into_inner();
    let mut bytes = Vec::new();
    while let Some(part) = parts
        .message()
        .await
        .map_err(|status| admin::refusal(&status))?
    {
        bytes.extend(part.data);
        if bytes.len() > LARGEST {
            return Err(admin::unusable(format!("it has more than {LARGEST} bytes")).into());
        }
    }
    serde_json::from_slice(&bytes)
        .map_err(|error| admin::unusable(format!("it is not JSON: {error}")).into())
}
