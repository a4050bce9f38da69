//! The long-running roles: configuration in, a plane until it is told to stop.

mod decisions;
mod new_log;
mod snapshot;

use crate::Failure;
use crate::arguments::{Global, Role, ServerArguments, ServerCommand};
use crate::runtime::{block_on, cancelled_by_signal};
use anyhow::Context as _;
use facts::Finding;
use gateway_postgres::RunError;
use std::path::{Path, PathBuf};

/// Issuance is CPU work on a pool of its own; these threads only wait and pass on.
const SERVER_THREADS: usize = 2;
const GATEWAY_THREADS: usize = 2;
/// Decisions are made on other threads.
const PDP_THREADS: usize = 2;
/// Signatures and the disk have other threads.
const WITNESS_THREADS: usize = 2;

/// INVARIANT 2: a role that would leave its keys in a core file does not start.
fn protected(outcome: std::io::Result<()>) -> Result<(), Failure> {
    outcome
        .context("cannot keep this process out of core files")
        .map_err(Failure::from)
}

pub(crate) fn server(arguments: ServerArguments, global: &Global) -> Result<(), Failure> {
    match &arguments.command {
        Some(ServerCommand::NewLog(arguments)) => return new_log::run(arguments),
        Some(ServerCommand::RebuildState(arguments)) => {
            return snapshot::rebuild(arguments, global);
        }
        Some(ServerCommand::Snapshot(arguments)) => return snapshot::snapshot(arguments, global),
        Some(ServerCommand::Prune(arguments)) => return snapshot::prune(arguments, global),
        None => {}
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
    if let Some(section) = config.decisions.take() {
        return decisions::agent(config, section);
    }
    agent::runtime()
        .context("cannot start the async runtime")?
        .block_on(async {
            agent::run(config, cancelled_by_signal()?)
                .await
                .map_err(|error| error.finding().into())
        })
}

pub(crate) fn gateway(config: &Path) -> Result<(), Failure> {
    if let Err(error) = std::fs::File::open(config) {
        let what = format!("cannot read {}: {error}", config.display());
        return Err(Finding::new("GATEWAY-CONFIG", what)
            .next("name a file with --config; docs/reference/config.md lists its keys")
            .into());
    }
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
            .map_err(gateway_ended)
    })
}

fn gateway_ended(error: RunError) -> Failure {
    let taken = |what: String| {
        Finding::new("GATEWAY-LISTEN", what)
            .next("end what listens there, or name another address in gateway.toml")
            .into()
    };
    match error {
        RunError::Refused(finding) => finding.into(),
        RunError::Listen { address, source } => {
            taken(format!("cannot listen on {address}: {source}"))
        }
        other => {
            let error = anyhow::Error::from(other);
            // Nothing else of a gateway's start binds an address.
            let in_use = error
                .chain()
                .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
                .find(|cause| cause.kind() == std::io::ErrorKind::AddrInUse);
            match in_use {
                Some(cause) => taken(format!("cannot listen on `http_listen`: {cause}")),
                None => error.context("the gateway ended").into(),
            }
        }
    }
}

pub(crate) fn pdp(config: &Path) -> Result<(), Failure> {
    // The node agent looks at what this process runs, and may do so under the same uid.
    protected(device::memory::no_core_files())?;
    let config = pdp::Config::read(config)?;
    block_on(PDP_THREADS, async {
        let cancelled = cancelled_by_signal()?;
        let (stop, stopping) = tokio::sync::watch::channel(false);
        tokio::spawn(async move {
            cancelled.cancelled().await;
            stop.send_replace(true);
        });
        pdp::run(config, stopping).await.map_err(pdp_ended)
    })
}

fn pdp_ended(error: pdp::RunError) -> Failure {
    let taken = |what: String| {
        Finding::new("PDP-LISTEN", what)
            .next("end what listens there, or name another place in pdp.toml")
            .into()
    };
    match error {
        pdp::RunError::Refused(finding) => finding.into(),
        pdp::RunError::Listen { address, source } => {
            taken(format!("cannot listen on {address}: {source}"))
        }
        pdp::RunError::Socket(source) => taken(facts::with_causes(&source)),
        other => anyhow::Error::from(other)
            .context("the decision point ended")
            .into(),
    }
}

pub(crate) fn witness(config: &Path) -> Result<(), Failure> {
    protected(device::memory::hide())?;
    let config = witness::Config::read(config)?;
    block_on(WITNESS_THREADS, async {
        witness::run(config, cancelled_by_signal()?)
            .await
            .map_err(|error| error.finding().into())
    })
}

/// The JSON Schema of the role's configuration file.
pub(crate) fn schema(role: Role) -> serde_json::Value {
    match role {
        Role::Server => server::Config::json_schema(),
        Role::Agent => decisions::schema(),
        Role::Gateway => gateway_postgres::json_schema(),
        Role::Pdp => pdp::json_schema(),
        Role::Witness => witness::json_schema(),
        Role::Monitor => monitor::json_schema(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &Path) -> Finding {
        gateway(config).unwrap_err().findings()[0].clone()
    }

    #[test]
    fn a_gateway_without_its_file_asks_for_one() {
        let finding = refused(Path::new("/nonexistent/gateway.toml"));
        assert_eq!(finding.code, "GATEWAY-CONFIG");
        assert!(finding.next.unwrap().starts_with("name a file"));
    }

    #[test]
    fn a_decision_point_without_its_file_or_on_a_taken_port_says_so() {
        let told = |config: &Path| pdp(config).unwrap_err().findings()[0].clone();
        let finding = told(Path::new("/nonexistent/pdp.toml"));
        assert_eq!(finding.code, "PDP-CONFIG");
        assert!(
            finding.message.contains("/nonexistent/pdp.toml"),
            "{finding}"
        );
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pdp.toml");
        let pin = format!("tl1:{}", "0".repeat(64));
        let text = format!(
            "[pdp]\ntrust_domain = \"example.org\"\nname = \"pdp-1\"\nidentity = \"gateway/pdp\"\n\
             server = \"127.0.0.1:1\"\npin = \"{pin}\"\ndata_dir = \"{}\"\n\
             [listen]\naddress = \"{address}\"\n[[caller]]\nidentity = \"envoy/edge\"\n",
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let finding = told(&config);
        assert_eq!(finding.code, "PDP-LISTEN", "{finding}");
        assert!(finding.message.contains(&address.to_string()) && finding.next.is_some());
    }

    #[test]
    fn a_second_gateway_on_a_taken_port_says_so() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("gateway.toml");
        let pin = format!("tl1:{}", "0".repeat(64));
        let text = format!(
            "[gateway]\ntrust_domain = \"example.org\"\nname = \"pg-1\"\nidentity = \"gateway/pg\"\n\
             server = \"127.0.0.1:1\"\npin = \"{pin}\"\ndata_dir = \"{}\"\n\
             [listen]\naddress = \"{address}\"\n[[postgres]]\ndatabase = \"shop\"\n\
             [postgres.upstream]\nsocket_folder = \"/nonexistent\"\n\
             [postgres.admin]\nrole = \"trilith_gateway\"\n",
            folder.path().display()
        );
        std::fs::write(&config, text).unwrap();
        let finding = refused(&config);
        assert_eq!(finding.code, "GATEWAY-LISTEN", "{finding}");
        assert!(
            finding.to_string().contains(&address.to_string()),
            "{finding}"
        );
        assert!(finding.next.is_some());
    }
}
