//! `pdp.toml`. Strict: a key that is not known is an error. Each default has its reason beside it.

use crate::callers::Right;
use crate::ext_authz::Rules;
use facts::Finding;
pub use gateway::Delegation;
use schemars::JsonSchema;
use serde::Deserialize;
use spiffe_core::{SpiffeId, TrustDomain};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What it shares with gateways: trust domain, server, identity (of kind `gateway`), data directory.
    pub pdp: gateway::Config,
    /// Where questions come in.
    pub listen: ListenConfig,
    /// How it has to be known on whose behalf a subject acts. `proven`, so that what is recorded as done for
    /// somebody was agreed to by them: a chain that is only told is denied. `claimed` takes one as well, which
    /// only narrows and is recorded as told.
    #[serde(default)]
    pub delegation: Delegation,
    /// Identities that may ask over TCP. None by default.
    #[serde(default, rename = "caller")]
    pub callers: Vec<CallerConfig>,
    /// Processes of this machine that may ask over the Unix socket. None by default.
    #[serde(default, rename = "process")]
    pub processes: Vec<ProcessConfig>,
    /// What HTTP requests mean that Envoy asks about. Without it Envoy's questions are not served.
    #[serde(default)]
    pub ext_authz: Option<ExtAuthzConfig>,
    /// Which records may be asked. Without it none.
    #[serde(default)]
    pub records: Option<RecordsConfig>,
    /// Of decisions in a node agent: whoever holds an identity may ask what it may do itself.
    #[serde(skip)]
    pub(crate) own: bool,
}

/// Ledgers of this machine that are read for questions to records; nothing is written to them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecordsConfig {
    /// The `data_dir` of a server, gateway or decision point, whose process may be running, or the folder of one
    /// ledger. Absolute.
    pub folders: Vec<PathBuf>,
    /// Where the indices over them are kept. `records` in `data_dir`: whoever can write to one can hide records
    /// from a question.
    #[serde(default)]
    pub index: Option<PathBuf>,
}

impl RecordsConfig {
    pub(crate) fn indices(&self, data_dir: &Path) -> PathBuf {
        self.index
            .clone()
            .unwrap_or_else(|| data_dir.join("records"))
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// Unix socket, absolute. Callers are attested by pidfd; `[[process]]` says which may ask.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// `0.0.0.0:7444`: TLS with this process's SVID; callers show theirs, and `[[caller]]` says which may ask.
    #[serde(default)]
    pub address: Option<SocketAddr>,
    /// `https://pdp.example.org:7444`, as callers reach it. Without it there is no discovery document.
    #[serde(default)]
    pub url: Option<String>,
    /// Connections at once, on each listener. 256: enforcement points keep theirs open. When there are more,
    /// the oldest of whoever has the most gives way.
    #[serde(default = "default_connections")]
    pub max_connections: usize,
    /// Seconds for a TLS handshake, a request's head, its body, and the SVIDs that it shows, each; a kept
    /// HTTP/1.1 connection ends after as long without a request. 10: a slow caller holds a place no longer.
    #[serde(default = "default_timeout")]
    pub timeout_s: u64,
    /// Bytes of one request's body. 256 KiB: some hundred questions.
    #[serde(default = "default_body")]
    pub max_body_bytes: usize,
    /// Questions in one request. 256: they are recorded by one commit.
    #[serde(default = "default_evaluations")]
    pub max_evaluations: usize,
    /// Results on one page of a search. 1000.
    #[serde(default = "default_page")]
    pub max_page: usize,
    /// Decisions for one page of a search, after which its token says where to go on. 5000: a second at most.
    #[serde(default = "default_tries")]
    pub max_tries: usize,
}

/// An identity that may ask.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CallerConfig {
    /// SPIFFE ID, or the path of an identity of this trust domain.
    pub identity: String,
    #[serde(default = "default_rights")]
    pub may: Vec<Right>,
}

/// A process that may ask: everything that is given here has to hold of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProcessConfig {
    /// Its effective uid.
    pub uid: u32,
    /// The system manager's unit that it runs in: `envoy.service`.
    #[serde(default)]
    pub unit: Option<String>,
    /// Path of its executable, where that is still the file that runs.
    #[serde(default)]
    pub executable: Option<PathBuf>,
    /// SHA-256 of its executable, hex.
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default = "default_rights")]
    pub may: Vec<Right>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtAuthzConfig {
    /// In their order; the first that fits a request counts, and one that fits none is denied.
    #[serde(rename = "rule")]
    pub rules: Vec<RuleConfig>,
}

/// What an HTTP request does to what.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Stands in records: `cards`.
    pub name: String,
    /// Of the request, lower case, without a port. Any by default.
    #[serde(default)]
    pub host: Option<String>,
    /// The path and all under it: `/cards`.
    pub path: String,
    /// `["GET", "HEAD"]`. Any by default.
    #[serde(default)]
    pub methods: Vec<String>,
    /// `select`
    pub action: String,
    pub resource: ResourceConfig,
}

/// A resource by type and id.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceConfig {
    /// `table`
    #[serde(rename = "type")]
    pub kind: String,
    /// `shop/public/cards`; `{method}`, `{host}` and `{path}` stand for the request's, each as one segment.
    pub id: String,
}

pub(crate) const fn default_connections() -> usize {
    256
}
pub(crate) const fn default_timeout() -> u64 {
    10
}
pub(crate) const fn default_body() -> usize {
    256 << 10
}
pub(crate) const fn default_evaluations() -> usize {
    256
}
const fn default_page() -> usize {
    1000
}
const fn default_tries() -> usize {
    5000
}
fn default_rights() -> Vec<Right> {
    vec![Right::Evaluate]
}

fn wrong(what: impl Into<String>) -> Finding {
    Finding::new("PDP-CONFIG", what).next("correct pdp.toml")
}

impl Config {
    /// Parses and checks.
    ///
    /// # Errors
    /// `PDP-CONFIG`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        let config: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `PDP-CONFIG`.
    pub fn read(path: &Path) -> Result<Self, Finding> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("{}: {error}", path.display())))?;
        Self::parse(&text)
    }

    fn check(&self) -> Result<(), Finding> {
        let domain = self.pdp.check().map_err(|finding| Finding {
            code: "PDP-CONFIG".into(),
            ..finding.next("correct pdp.toml")
        })?;
        self.check_listeners()?;
        self.check_rest(&domain)
    }

    /// As [`Config::parse`] checks, without the lists that a file has to have.
    ///
    /// # Errors
    /// `PDP-CONFIG`.
    pub(crate) fn check_all(&self) -> Result<(), Finding> {
        let domain = self.pdp.check().map_err(|finding| Finding {
            code: "PDP-CONFIG".into(),
            ..finding
        })?;
        self.check_rest(&domain)
    }

    fn check_listeners(&self) -> Result<(), Finding> {
        let listen = &self.listen;
        if listen.socket.is_none() && listen.address.is_none() {
            return Err(wrong("`listen` has neither `socket` nor `address`"));
        }
        // Over TCP nobody may ask but whom the file names.
        if listen.address.is_some() && self.callers.is_empty() {
            return Err(wrong("`listen.address` without a [[caller]] serves nobody"));
        }
        if listen.socket.is_some() && self.processes.is_empty() {
            return Err(wrong("`listen.socket` without a [[process]] serves nobody"));
        }
        Ok(())
    }

    fn check_rest(&self, domain: &TrustDomain) -> Result<(), Finding> {
        let listen = &self.listen;
        if let Some(socket) = listen.socket.as_ref().filter(|path| path.is_relative()) {
            return Err(wrong("`listen.socket` is absolute").observed(socket.display().to_string()));
        }
        let numbers = [
            listen.max_connections,
            listen.max_body_bytes,
            listen.max_evaluations,
            listen.max_page,
            listen.max_tries,
        ];
        if numbers.contains(&0) || listen.timeout_s == 0 {
            return Err(wrong("a limit of 0 in `listen` lets nothing in"));
        }
        if let Some(url) = &listen.url {
            let host = url.strip_prefix("https://").unwrap_or_default();
            if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
                return Err(wrong("`listen.url` is https://HOST or https://HOST:PORT")
                    .observed(url.clone()));
            }
        }
        if let Some(records) = &self.records {
            let paths = records.folders.iter().chain(&records.index);
            if records.folders.is_empty() || paths.clone().any(|path| path.is_relative()) {
                return Err(wrong("`records` names `folders`, and absolute ones"));
            }
        }
        for caller in &self.callers {
            caller.id(domain)?;
        }
        for process in &self.processes {
            process.digest()?;
        }
        Rules::new(self.rules())?;
        Ok(())
    }

    /// # Errors
    /// `PDP-CONFIG`.
    pub(crate) fn trust_domain(&self) -> Result<TrustDomain, Finding> {
        TrustDomain::new(&self.pdp.trust_domain).map_err(|error| wrong(error.to_string()))
    }

    pub(crate) fn rules(&self) -> &[RuleConfig] {
        self.ext_authz
            .as_ref()
            .map_or(&[], |ext_authz| ext_authz.rules.as_slice())
    }
}

impl ListenConfig {
    pub(crate) const fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}

impl CallerConfig {
    /// # Errors
    /// `PDP-CONFIG`.
    pub(crate) fn id(&self, domain: &TrustDomain) -> Result<SpiffeId, Finding> {
        let id = if self.identity.starts_with("spiffe:") {
            self.identity.parse()
        } else {
            domain.identity(&self.identity)
        };
        let id = id.map_err(|error| {
            wrong(format!("[[caller]]: {error}")).observed(self.identity.clone())
        })?;
        if id.is_member_of(domain) && !id.is_root() {
            return Ok(id);
        }
        Err(wrong("[[caller]] is no identity of this trust domain")
            .expected(domain.to_string())
            .observed(id.to_string()))
    }
}

impl ProcessConfig {
    /// # Errors
    /// `PDP-CONFIG`.
    pub(crate) fn digest(&self) -> Result<Option<[u8; 32]>, Finding> {
        let Some(text) = &self.sha256 else {
            return Ok(None);
        };
        let digest = crypto::hex::decode(text)
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| {
                wrong("[[process]] `sha256` has 64 hex digits").observed(text.clone())
            })?;
        Ok(Some(digest))
    }
}

/// The published schema of `pdp.toml`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [pdp]
        trust_domain = "example.org"
        name = "pdp-1"
        identity = "gateway/pdp"
        server = "127.0.0.1:7443"
        pin = "tl1:00"
        data_dir = "/var/lib/trilith/pdp"
        [listen]
        socket = "/run/trilith/pdp.sock"
        [[process]]
        uid = 101
        unit = "envoy.service"
    "#;

    fn refused(file: &str) -> Finding {
        Config::parse(file).unwrap_err()
    }

    #[test]
    fn a_small_file_is_enough_and_gives_little() {
        let config = Config::parse(FILE).unwrap();
        assert_eq!(config.processes[0].may, [Right::Evaluate]);
        assert_eq!(config.listen.max_evaluations, 256);
        assert!(config.rules().is_empty() && config.callers.is_empty());
        assert_eq!(config.delegation, Delegation::Proven);
        let told = Config::parse(&format!("delegation = \"claimed\"\n{FILE}")).unwrap();
        assert_eq!(told.delegation, Delegation::Claimed);
    }

    #[test]
    fn nothing_listens_where_nobody_is_named() {
        let open = FILE.replace("[[process]]", "address = \"0.0.0.0:7444\"\n[[process]]");
        assert!(refused(&open).message.contains("[[caller]]"));
        let named = format!("{open}\n[[caller]]\nidentity = \"envoy/edge\"");
        Config::parse(&named).unwrap();
        let (alone, _) = FILE.split_once("[[process]]").unwrap();
        assert!(refused(alone).message.contains("[[process]]"));
        let nowhere = FILE.replace("socket = \"/run/trilith/pdp.sock\"", "");
        assert_eq!(refused(&nowhere).code, "PDP-CONFIG");
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (from, to) in [
            ("uid = 101", "uid = 101\nsha256 = \"abc\""),
            ("uid = 101", "uid = 101\nmay = [\"everything\"]"),
            ("unit =", "units ="),
            ("[listen]", "delegation = \"told\"\n[listen]"),
            ("[listen]", "[listen]\nmax_page = 0"),
            ("[listen]", "[listen]\nurl = \"http://x\""),
            ("[listen]", "[listen]\nurl = \"https://x/y\""),
            ("/run/trilith", "run"),
            ("pdp-1", "PDP 1"),
            (
                "[listen]",
                "[[caller]]\nidentity = \"spiffe://other.org/a\"\n[listen]",
            ),
            ("[listen]", "[[caller]]\nidentity = \"a/../b\"\n[listen]"),
        ] {
            assert_eq!(refused(&FILE.replace(from, to)).code, "PDP-CONFIG", "{to}");
        }
    }
}
