//! Decisions for the callers of one machine, in the process of its node agent: who asks is what the agent knows of
//! the process, by the attestation on which it gives that process its identities, and not what the process says.
//!
//! It evaluates, and nothing more: who searches the whole estate or asks records does so at `trilith pdp`.

use crate::callers::Right;
use crate::config::{
    CallerConfig, Config, Delegation, ExtAuthzConfig, ListenConfig, ProcessConfig,
};
use device::process::Caller;
use facts::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use spiffe_core::SpiffeId;
use std::any::Any;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

/// What the node agent knows of a process.
#[derive(Clone)]
pub struct Attested {
    /// What it may hold now, the default identity first; nothing where it is given none.
    pub held: Vec<Held>,
    /// For as long as it is kept, the agent keeps what it holds renewed.
    pub kept: Arc<dyn Any + Send + Sync>,
}

/// An identity that the agent holds for a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub spiffe_id: SpiffeId,
    /// Certificates, the leaf first; no key.
    pub chain: Vec<Vec<u8>>,
}

/// Who attests local callers.
pub trait Attest: Send + Sync {
    /// Looks at the caller now. A process that is given no identity is attested, and holds nothing.
    ///
    /// # Errors
    /// Why it cannot be looked at, or why nothing is known of it yet.
    fn attest(
        &self,
        caller: Arc<Caller>,
    ) -> Pin<Box<dyn Future<Output = Result<Attested, Finding>> + Send + '_>>;
}

/// `[decisions]` of `agent.toml`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// Names the ledger of these decisions, `TRUST-DOMAIN/gateway/NAME`, and stands in every decision's id. Never
    /// give one name to two machines.
    pub name: String,
    /// Path of the identity, of kind `gateway`, by which the decisions follow the server and their ledger is
    /// anchored: `gateway/decisions/web-1`. The agent asks itself for it, as for any workload: let a policy give it
    /// to the agent's own unit or uid on this machine.
    pub identity: String,
    /// Unix socket for AuthZEN and Envoy's `ext_authz`. Absolute.
    #[serde(default = "default_socket")]
    pub socket: PathBuf,
    /// The ledger, its key, and what is followed of the server. Absolute; made with mode 0700 if absent. Every
    /// decision is durable here before it goes out: there is no other mode.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Health and metrics of the decisions over plain HTTP. Off by default; keep it on loopback.
    #[serde(default)]
    pub http_listen: Option<SocketAddr>,
    /// Who has to have seen the server's ledger: as `witnesses` of `gateway.toml`.
    #[serde(default)]
    pub witnesses: Option<gateway::Witnesses>,
    /// Whether each workload that holds an identity may ask what it may do itself. Off by default: each answer is a
    /// record on this machine's disk.
    #[serde(default)]
    pub own: bool,
    /// How it has to be known on whose behalf a subject acts: `proven`, or `claimed` as well.
    #[serde(default)]
    pub delegation: Delegation,
    /// Identities whose processes on this machine may ask, as the agent knows them. None by default.
    #[serde(default, rename = "caller")]
    pub callers: Vec<CallerConfig>,
    /// Processes that may ask whether they hold an identity or not. None by default.
    #[serde(default, rename = "process")]
    pub processes: Vec<ProcessConfig>,
    /// What HTTP requests mean that Envoy asks about. Without it Envoy's questions are not served.
    #[serde(default)]
    pub ext_authz: Option<ExtAuthzConfig>,
    /// Connections at once. 256.
    #[serde(default = "crate::config::default_connections")]
    pub max_connections: usize,
    /// Seconds for a request's head, its body, and what is to be learned of its caller, each. 10.
    #[serde(default = "crate::config::default_timeout")]
    pub timeout_s: u64,
    /// Bytes of one request's body. 256 KiB.
    #[serde(default = "crate::config::default_body")]
    pub max_body_bytes: usize,
    /// Questions in one request. 256.
    #[serde(default = "crate::config::default_evaluations")]
    pub max_evaluations: usize,
}

/// What `agent.toml` says beside it.
#[derive(Debug, Clone)]
pub struct OfAgent {
    pub trust_domain: String,
    pub server: String,
    pub pin: String,
    pub workload_socket: PathBuf,
    /// Nobody else may enter it, and it may be set aside as a whole.
    pub data_dir: PathBuf,
}

fn default_socket() -> PathBuf {
    PathBuf::from("/run/trilith/decisions.sock")
}
fn default_data_dir() -> PathBuf {
    PathBuf::from("/var/lib/trilith/decisions")
}

fn wrong(what: impl Into<String>) -> Finding {
    Finding::new("PDP-CONFIG", what).next("correct [decisions] in agent.toml")
}

impl LocalConfig {
    /// Of the section as it was read.
    ///
    /// # Errors
    /// `PDP-CONFIG`.
    pub fn read(section: toml::Table) -> Result<Self, Finding> {
        section.try_into().map_err(|error: toml::de::Error| {
            wrong(format!("[decisions]: {}", error.to_string().trim_end()))
        })
    }

    /// As a decision point has it whose only listener is the socket.
    ///
    /// # Errors
    /// `PDP-CONFIG`.
    pub fn beside(self, agent: &OfAgent) -> Result<Config, Finding> {
        if self.callers.is_empty() && self.processes.is_empty() && !self.own {
            return Err(wrong(
                "[decisions] without `own`, a [[decisions.caller]] or a [[decisions.process]] serves nobody",
            ));
        }
        let rights = self.callers.iter().map(|caller| &caller.may);
        let rights = rights.chain(self.processes.iter().map(|process| &process.may));
        if let Some(right) = rights.flatten().find(|right| !right.is_local()) {
            return Err(wrong("the node agent evaluates and does not search")
                .expected("evaluate, evaluate-own or state-facts")
                .observed(right.as_str())
                .next("ask that of trilith pdp"));
        }
        let owned = self.processes.iter().map(|process| &process.may);
        if owned.flatten().any(|right| *right == Right::EvaluateOwn) {
            return Err(wrong(
                "[[decisions.process]] may hold no identity, so `evaluate-own` is for [[decisions.caller]], or `own = true` for all",
            ));
        }
        if self.data_dir.is_relative() {
            return Err(wrong("`decisions.data_dir` is absolute"));
        }
        for own in [&self.data_dir, &self.socket] {
            if own.starts_with(&agent.data_dir) {
                return Err(wrong("`decisions` lies in the agent's `data_dir`")
                    .expected("a place of its own, which outlasts the node's state")
                    .observed(own.display().to_string()));
            }
        }
        if self.socket == agent.workload_socket {
            return Err(wrong("`decisions.socket` is that of the Workload API"));
        }
        let config = Config {
            pdp: gateway::Config {
                trust_domain: agent.trust_domain.clone(),
                name: self.name,
                identity: self.identity,
                server: agent.server.clone(),
                pin: agent.pin.clone(),
                workload_socket: agent.workload_socket.clone(),
                data_dir: self.data_dir,
                http_listen: self.http_listen,
                witnesses: self.witnesses,
            },
            listen: ListenConfig {
                socket: Some(self.socket),
                address: None,
                url: None,
                max_connections: self.max_connections,
                timeout_s: self.timeout_s,
                max_body_bytes: self.max_body_bytes,
                max_evaluations: self.max_evaluations,
                // Nothing is searched here.
                max_page: 1,
                max_tries: 1,
            },
            delegation: self.delegation,
            callers: self.callers,
            processes: self.processes,
            ext_authz: self.ext_authz,
            records: None,
            own: self.own,
        };
        config.check_all().map_err(|finding| Finding {
            next: Some("correct [decisions] in agent.toml".into()),
            ..finding
        })?;
        Ok(config)
    }
}

/// The schema of `[decisions]`.
#[must_use]
pub fn local_json_schema() -> serde_json::Value {
    schemars::schema_for!(LocalConfig).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> OfAgent {
        OfAgent {
            trust_domain: "example.org".to_owned(),
            server: "127.0.0.1:7443".to_owned(),
            pin: "tl1:00".to_owned(),
            workload_socket: PathBuf::from("/run/trilith/workload.sock"),
            data_dir: PathBuf::from("/var/lib/trilith/agent"),
        }
    }

    fn read(more: &str) -> Result<Config, Finding> {
        let text = format!("name = \"web-1\"\nidentity = \"gateway/decisions/web-1\"\n{more}");
        LocalConfig::read(toml::from_str(&text).unwrap())?.beside(&agent())
    }

    #[test]
    fn a_small_section_is_enough_and_names_nobody_by_itself() {
        let config = read("own = true").unwrap();
        assert!(config.own && config.callers.is_empty() && config.processes.is_empty());
        assert_eq!(config.pdp.origin(), "example.org/gateway/web-1");
        assert_eq!(config.delegation, Delegation::Proven);
        assert!(config.listen.address.is_none());
        let nobody = read("").unwrap_err();
        assert!(nobody.message.contains("serves nobody"), "{nobody}");
        assert!(!read("[[caller]]\nidentity = \"envoy/edge\"").unwrap().own);
    }

    #[test]
    fn what_the_agent_does_not_serve_is_refused() {
        for more in [
            "own = true\nsearch = true",
            "own = true\naddress = \"0.0.0.0:7444\"",
            "[[caller]]\nidentity = \"a\"\nmay = [\"search\"]",
            "[[process]]\nuid = 1\nmay = [\"records\"]",
            "[[process]]\nuid = 1\nmay = [\"evaluate-own\"]",
            "[[caller]]\nidentity = \"spiffe://other.org/a\"",
            "own = true\nsocket = \"decisions.sock\"",
            "own = true\nsocket = \"/run/trilith/workload.sock\"",
            "own = true\ndata_dir = \"decisions\"",
            "own = true\ndata_dir = \"/var/lib/trilith/agent/decisions\"",
            "own = true\nmax_evaluations = 0",
        ] {
            assert_eq!(read(more).unwrap_err().code, "PDP-CONFIG", "{more}");
        }
    }
}
