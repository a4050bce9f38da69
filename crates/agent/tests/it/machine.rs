//! A machine with an agent on it.

use crate::server::{Server, TOKEN};
use agent::{AgentConfig, LocalCallers, RunError, Token};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What only a hung agent, or one that never does what is waited for, uses up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Machine {
    pub(crate) config: AgentConfig,
    running: Option<JoinHandle<Result<(), RunError>>>,
    stop: CancellationToken,
    pub(crate) directory: tempfile::TempDir,
}

impl Machine {
    /// Not started.
    pub(crate) fn new(server: &Server) -> Self {
        let directory = testkit::temp_dir().unwrap();
        // Programs of other users must reach the socket.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let text = format!(
            "trust_domain = \"example.org\"\nserver = \"{}\"\npin = \"{}\"\ndata_dir = \"{}\"\n\
             workload_socket = \"{}\"\n[join]\nmethod = \"token\"\n",
            server.address,
            server.state.authority.pin(),
            directory.path().join("data").display(),
            directory.path().join("api.sock").display(),
        );
        let mut config = AgentConfig::parse(&text, Path::new("agent.toml")).unwrap();
        config.token_given = Some(Token::new(TOKEN));
        Self {
            config,
            running: None,
            stop: CancellationToken::new(),
            directory,
        }
    }

    /// With its agent running and its socket bound.
    pub(crate) async fn started(server: &Server) -> Self {
        let mut machine = Self::new(server);
        machine.start();
        machine.ready().await;
        machine
    }

    /// Where health and metrics will be served.
    pub(crate) fn with_http(&mut self) -> std::net::SocketAddr {
        let address = testkit::port::free().unwrap();
        self.config.http_listen = Some(address);
        address
    }

    pub(crate) fn start(&mut self) {
        self.stop = CancellationToken::new();
        let run = agent::run(self.config.clone(), self.stop.clone());
        self.running = Some(tokio::spawn(run));
    }

    /// As [`Machine::start`], with something beside it.
    pub(crate) fn start_beside<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        beside: impl FnOnce(LocalCallers, CancellationToken) -> F + Send + 'static,
    ) {
        self.stop = CancellationToken::new();
        let run = agent::run_beside(self.config.clone(), self.stop.clone(), beside);
        self.running = Some(tokio::spawn(run));
    }

    /// Waits until the agent answers and has reached the server, or says why it does not start.
    pub(crate) async fn ready(&mut self) {
        loop {
            if let Ok(client) = agent::client::Client::connect(&self.address()).await
                && let Ok(status) = client.status(None).await
                && !is_offline(&status)
            {
                return;
            }
            let running = self.running.as_mut().unwrap();
            if running.is_finished() {
                panic!("the agent ended: {:?}", running.await);
            }
            tokio::task::yield_now().await;
        }
    }

    /// What the agent ended with; one that goes on is a failure.
    pub(crate) async fn ended(&mut self) -> Result<(), RunError> {
        let running = self.running.take().unwrap();
        let ended = tokio::time::timeout(PATIENCE, running).await;
        ended.expect("the agent ends").unwrap()
    }

    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.config.workload_socket.clone()
    }

    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether the agent says that it cannot reach the server.
pub(crate) fn is_offline(status: &serde_json::Value) -> bool {
    let refused = status["refused"].as_str();
    refused.is_some_and(|text| text.contains("AGENT-OFFLINE"))
}
