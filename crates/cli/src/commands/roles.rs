//! The long-running roles: configuration in, a plane until it is told to stop.

use crate::arguments::{ConfigArgument, Role, ServerArguments, ServerCommand};
use crate::runtime::{block_on, cancelled_by_signal};
use crate::{Failure, output};
use anyhow::Context as _;
use facts::Finding;
use std::path::{Path, PathBuf};

/// Issuance is CPU work on a pool of its own; these threads only wait and pass on.
const SERVER_THREADS: usize = 2;
const GATEWAY_THREADS: usize = 2;

/// INVARIANT 2: a role that would leave its keys in a core file does not start.
fn protected(outcome: std::io::Result<()>) -> Result<(), Failure> {
    outcome
        .context("cannot keep this process out of core files")
        .map_err(Failure::from)
}

pub(crate) fn server(arguments: ServerArguments) -> Result<(), Failure> {
    if let Some(ServerCommand::RebuildState(ConfigArgument { config })) = arguments.command {
        let rebuilt =
            server::rebuild_state(&server_config(&config)?).map_err(|error| error.finding())?;
        output::line(format_args!(
            "state of {} records, digest {}",
            rebuilt.records,
            crypto::hex::encode(&rebuilt.digest)
        ));
        return Ok(());
    }
    protected(device::memory::hide())?;
    let config = server_config(&given(arguments.config)?)?;
    block_on(SERVER_THREADS, async {
        let cancelled = cancelled_by_signal()?;
        server::run(config, async move { cancelled.cancelled().await })
            .await
            .map_err(|error| error.finding().into())
    })
}

pub(crate) fn agent(config: Option<PathBuf>, token: Option<agent::Token>) -> Result<(), Failure> {
    protected(device::memory::hide())?;
    let mut config = agent::AgentConfig::load(&given(config)?).map_err(|error| error.finding())?;
    config.token_given = token;
    agent::runtime()
        .context("cannot start the async runtime")?
        .block_on(async {
            agent::run(config, cancelled_by_signal()?)
                .await
                .map_err(|error| error.finding().into())
        })
}

pub(crate) fn gateway(config: &Path) -> Result<(), Failure> {
    // The node agent looks at what the gateway runs, and may do so under the same uid.
    protected(device::memory::no_core_files())?;
    let config = gateway_postgres::Config::read(config)?;
    block_on(GATEWAY_THREADS, async {
        let cancelled = cancelled_by_signal()?;
        let (stop, stopping) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            cancelled.cancelled().await;
            stop.send_replace(true);
        });
        gateway_postgres::run(config, stopping)
            .await
            .context("the gateway ended")
            .map_err(Failure::from)
    })
}

/// The JSON Schema of the role's configuration file.
pub(crate) fn schema(role: Role) -> serde_json::Value {
    match role {
        Role::Server => server::Config::json_schema(),
        Role::Agent => agent::AgentConfig::json_schema(),
        Role::Gateway => gateway_postgres::json_schema(),
    }
}

fn server_config(path: &Path) -> Result<server::Config, Failure> {
    server::Config::load(path).map_err(|error| error.finding().into())
}

/// clap asks for it; a subcommand would have been taken before.
fn given(config: Option<PathBuf>) -> Result<PathBuf, Failure> {
    config.ok_or_else(|| {
        Finding::new("CLI-CONFIG", "no configuration file was named")
            .next("name it with --config FILE")
            .into()
    })
}
