//! `gateway.toml`. Strict: a key that is not known is an error. Each default has its reason beside it.

use crate::application::ApplicationName;
use crate::sql;
use crate::upstream::{Address, Wanted};
use facts::Finding;
use gateway::Delegation;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The whole file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What every gateway has: trust domain, server, identity, data directory.
    pub gateway: gateway::Config,
    /// Where clients connect.
    pub listen: ListenConfig,
    /// How it has to be known on whose behalf a session acts. `proven`, so that what is recorded as done for
    /// somebody was agreed to by them: `trilith.on_behalf_of` is refused. `claimed` takes it as well, which only
    /// narrows and is recorded as told.
    #[serde(default)]
    pub delegation: Delegation,
    /// How the name is recorded that a client gives its application (`application_name`), which may be a person's:
    /// `recorded`, as it is; `hashed`, by its HMAC under a key in the gateway's data directory; `dropped`, not at all.
    /// Records stay for ever. `recorded`, because it says whose pool a session is of.
    #[serde(default)]
    pub application_name: ApplicationName,
    /// What is refused before it is read.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// The databases behind this gateway, each once.
    #[serde(rename = "postgres")]
    pub databases: Vec<PostgresConfig>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenConfig {
    /// `0.0.0.0:6432`
    pub address: SocketAddr,
    /// Sessions at once. 1000: more than the database takes, whose own limit is kept as well.
    #[serde(default = "default_connections")]
    pub max_connections: usize,
    /// Sessions of one identity in one database at once, and connections of its role there, whoever opens
    /// them. Default: half of what the database bears, so that no identity alone takes them all.
    #[serde(default)]
    pub max_sessions_per_identity: Option<usize>,
    /// Connections at once that have not shown an SVID, and as many again that have and are not admitted
    /// yet. They hold no session's place. 200: when there are more, the oldest of the address, or of the
    /// identity, that has the most gives way.
    #[serde(default = "default_handshakes")]
    pub max_handshakes: usize,
    /// Seconds in which a client has to have said all that it says before its session, TLS included; the
    /// login at the database has as long again. 10: a slow client holds a place no longer.
    #[serde(default = "default_handshake")]
    pub handshake_timeout_s: u64,
    /// Bytes of one message of a client, at most. 64 MiB: parameters of some megabytes; bulk data comes by COPY.
    #[serde(default = "default_message")]
    pub max_message_bytes: usize,
}

/// How much text one message may hold. What is beyond is denied and costs next to nothing.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Bytes of the text of one Query or Parse. 1 MiB: long literals cost little.
    #[serde(default = "default_statement_bytes")]
    pub max_statement_bytes: usize,
    /// Tokens in it. 50,000: an INSERT of 1,000 rows with 10 columns has 22,000; each costs up to 5 µs and
    /// 2.5 KB while it is read.
    #[serde(default = "default_statement_tokens")]
    pub max_statement_tokens: usize,
    /// Statements in one Query. 1000: each has records of its own.
    #[serde(default = "default_statements")]
    pub max_statements: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_statement_bytes: default_statement_bytes(),
            max_statement_tokens: default_statement_tokens(),
            max_statements: default_statements(),
        }
    }
}

/// One database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Its name, upstream and in the estate.
    pub database: String,
    pub upstream: UpstreamConfig,
    /// How the gateway manages its roles and reads the catalogue.
    pub admin: AdminConfig,
    /// Sessions in this database at once. Default, and at most: what the database bears by its
    /// `max_connections` and its own limit, less what it reserves and what the gateway needs for itself.
    #[serde(default)]
    pub max_sessions: Option<usize>,
    /// Seconds after which a definition made past the gateway is seen, at most. 2: one cheap query.
    #[serde(default = "default_refresh")]
    pub catalog_refresh_s: u64,
}

/// Where the database listens: a Unix socket, or TCP with TLS.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// Folder of the Unix socket, as libpq's `host`. Without it `host` and `ca_file` are needed.
    #[serde(default)]
    pub socket_folder: Option<PathBuf>,
    #[serde(default)]
    pub host: Option<String>,
    /// PEM file with the roots that the server's certificate chains to.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default = "default_port")]
    pub port: u16,
}

/// The administrative login. The role needs CREATEROLE and ownership of, or grant options on, what is
/// granted; a superuser has them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminConfig {
    pub role: String,
    /// Without it the operating system's user is the proof (peer authentication).
    #[serde(default)]
    pub password_file: Option<PathBuf>,
}

const fn default_connections() -> usize {
    1000
}
const fn default_handshakes() -> usize {
    200
}
const fn default_handshake() -> u64 {
    10
}
const fn default_message() -> usize {
    64 << 20
}
const fn default_statement_bytes() -> usize {
    1 << 20
}
const fn default_statement_tokens() -> usize {
    50_000
}
const fn default_statements() -> usize {
    1000
}
const fn default_refresh() -> u64 {
    2
}
const fn default_port() -> u16 {
    5432
}

/// What a connection has to keep to.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) handshakes: usize,
    pub(crate) handshake: Duration,
    pub(crate) message_bytes: usize,
    pub(crate) delegation: Delegation,
    /// Of a session that asks for none. `public` as PostgreSQL's own default; `"$user"` names no schema.
    pub(crate) search_path: Vec<String>,
}

fn wrong(what: impl Into<String>) -> Finding {
    Finding::new("GATEWAY-CONFIG", what).next("correct gateway.toml")
}

impl Config {
    /// Parses and checks.
    ///
    /// # Errors
    /// `GATEWAY-CONFIG`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        let config: Self = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// `GATEWAY-CONFIG`.
    pub fn read(path: &Path) -> Result<Self, Finding> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| wrong(format!("{}: {error}", path.display())))?;
        Self::parse(&text)
    }

    fn check(&self) -> Result<(), Finding> {
        self.gateway.check()?;
        if self.databases.is_empty() {
            return Err(wrong("no [[postgres]] database"));
        }
        let limits = self.databases.iter().map(|database| database.max_sessions);
        if limits
            .chain([self.listen.max_sessions_per_identity])
            .any(|limit| limit == Some(0))
        {
            return Err(wrong("a limit of no sessions lets nobody in").expected("1 or more"));
        }
        for (at, database) in self.databases.iter().enumerate() {
            if self
                .databases
                .iter()
                .take(at)
                .any(|other| other.database == database.database)
            {
                return Err(wrong("a database is listed twice").observed(database.database.clone()));
            }
        }
        Ok(())
    }

    /// What is configured for `database`. The gateway keeps an administrative connection for each database
    /// of a server, and may need one more while it replaces one that broke.
    pub(crate) fn wanted(&self, database: &PostgresConfig) -> Wanted {
        let beside = |other: &&PostgresConfig| other.upstream.place() == database.upstream.place();
        Wanted {
            gateway: self.listen.max_connections,
            database: database.max_sessions,
            identity: self.listen.max_sessions_per_identity,
            own: self.databases.iter().filter(beside).count() + 1,
        }
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            handshakes: self.listen.max_handshakes,
            handshake: Duration::from_secs(self.listen.handshake_timeout_s),
            message_bytes: self.listen.max_message_bytes,
            delegation: self.delegation,
            search_path: vec!["public".to_owned()],
        }
    }
}

impl LimitsConfig {
    pub(crate) const fn of_text(&self) -> sql::Limits {
        sql::Limits {
            bytes: self.max_statement_bytes,
            tokens: self.max_statement_tokens,
            statements: self.max_statements,
        }
    }
}

impl UpstreamConfig {
    fn place(&self) -> (Option<&Path>, Option<&str>, u16) {
        (
            self.socket_folder.as_deref(),
            self.host.as_deref(),
            self.port,
        )
    }

    pub(crate) fn address(&self) -> Result<Address, Finding> {
        match (&self.socket_folder, &self.host, &self.ca_file) {
            (Some(folder), None, None) => Ok(Address::Unix {
                socket: folder.join(format!(".s.PGSQL.{}", self.port)),
            }),
            (None, Some(host), Some(ca_file)) => Ok(Address::Tls {
                host: host.clone(),
                port: self.port,
                config: Arc::new(tls_client(ca_file)?),
            }),
            _ => Err(wrong(
                "`upstream` needs either `socket_folder`, or `host` and `ca_file`",
            )),
        }
    }
}

fn tls_client(ca_file: &Path) -> Result<rustls::ClientConfig, Finding> {
    let unusable = |what: String| wrong(format!("{}: {what}", ca_file.display()));
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(ca_file).map_err(|error| unusable(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(error.to_string()))?;
    }
    let config = rustls::ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

impl AdminConfig {
    pub(crate) fn password(&self) -> Result<Option<crypto::SecretBytes>, Finding> {
        let Some(path) = &self.password_file else {
            return Ok(None);
        };
        let mut bytes =
            std::fs::read(path).map_err(|error| wrong(format!("{}: {error}", path.display())))?;
        while bytes
            .last()
            .is_some_and(|last| matches!(last, b'\n' | b'\r'))
        {
            bytes.pop();
        }
        Ok(Some(crypto::SecretBytes::new(bytes)))
    }
}

/// The published schema of `gateway.toml`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [gateway]
        trust_domain = "example.org"
        name = "pg-1"
        identity = "gateway/pg"
        server = "127.0.0.1:7443"
        pin = "tl1:00"
        data_dir = "/var/lib/trilith/gateway"
        [listen]
        address = "127.0.0.1:6432"
        [[postgres]]
        database = "shop"
        upstream = { socket_folder = "/run/postgresql" }
        admin = { role = "postgres" }
    "#;

    #[test]
    fn a_small_file_is_enough() {
        let config = Config::parse(FILE).unwrap();
        assert_eq!(config.listen.max_connections, 1000);
        assert_eq!(config.limits.max_statements, 1000);
        let address = config.databases[0].upstream.address().unwrap();
        assert_eq!(address.to_string(), "/run/postgresql/.s.PGSQL.5432");
    }

    #[test]
    fn a_key_that_is_not_known_is_an_error() {
        let typo = FILE.replace("[listen]", "[listen]\nadress = 1");
        assert_eq!(Config::parse(&typo).unwrap_err().code, "GATEWAY-CONFIG");
    }

    #[test]
    fn a_limit_of_nothing_is_an_error() {
        for line in [
            "[listen]\nmax_sessions_per_identity = 0",
            "[[postgres]]\nmax_sessions = 0",
        ] {
            let (table, _) = line.split_once('\n').unwrap();
            let error = Config::parse(&FILE.replace(table, line)).unwrap_err();
            assert!(error.message.contains("lets nobody in"), "{error}");
        }
    }

    #[test]
    fn databases_of_one_server_share_what_it_bears() {
        let other = "[[postgres]]\ndatabase = \"NAME\"\nupstream = { socket_folder = \"PLACE\" }\nadmin = { role = \"a\" }\n";
        let mut file = FILE.to_owned();
        for (name, place) in [("b", "/run/postgresql"), ("c", "/elsewhere")] {
            file.push_str(&other.replace("NAME", name).replace("PLACE", place));
        }
        let config = Config::parse(&file).unwrap();
        let own = config
            .databases
            .iter()
            .map(|database| config.wanted(database).own);
        assert_eq!(own.collect::<Vec<_>>(), [3, 3, 2]);
    }

    #[test]
    fn a_database_over_the_network_needs_roots() {
        let file = FILE.replace(
            "socket_folder = \"/run/postgresql\"",
            "host = \"db.example.org\"",
        );
        let config = Config::parse(&file).unwrap();
        assert!(config.databases[0].upstream.address().is_err());
    }
}
