//! `server.toml`: strict, every key documented, every default with its reason.

mod labels;
mod oidc;
mod publish;
mod tee_fetch;
mod witnesses;

pub use self::oidc::Oidc;
pub use labels::Label;
pub use publish::{BucketStyle, Publish};
pub use tee_fetch::{TeeFetch, TeeSource, TeeVendor};
pub use witnesses::Witnesses;

use facts::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The whole file. Unknown keys are refused.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The namespace of this authority, without scheme: `example.org`.
    pub trust_domain: String,
    /// Ledger, blobs, state and gateways' mirrors live here. Made with mode 0700 if absent.
    pub data_dir: PathBuf,
    /// Where agents and gateways connect: `0.0.0.0:7443`.
    pub listen: SocketAddr,
    /// Health, metrics, checkpoints and bundle over plain HTTP.
    /// Loopback, because metrics tell what runs here; nothing secret is served.
    #[serde(default = "default_http")]
    pub http_listen: SocketAddr,
    /// Serve entry bundles over HTTP on an address that is not loopback. Records name identities
    /// and resources, so the default is no.
    #[serde(default)]
    pub http_entries: bool,
    /// Serve `/ledgers`, those of gateways, decision points and agents, over HTTP on an address that is not loopback:
    /// each with its name, key, size, anchor, hashes and labels; entry bundles only with `http_entries` as well. They say
    /// who has a ledger here and how much is accessed by the second, so the default is no.
    #[serde(default)]
    pub http_ledgers: bool,
    /// Administration. Default: `admin.sock` in the data directory.
    #[serde(default)]
    pub admin_socket: Option<PathBuf>,
    /// The cvc5 program that proves invariants: a path, or a name to be found on `PATH`.
    #[serde(default = "default_solver")]
    pub solver: PathBuf,
    /// Another cvc5, or a Z3 (a program whose name begins with `z3`), which has to agree on everything that is proved.
    /// Records say how many solvers did. Where none is named and `z3` is installed, it is asked as well, and its answers
    /// count.
    #[serde(default)]
    pub second_solver: Option<PathBuf>,
    /// Endorsements of confidential machines: one JSON file with certificates, revocation lists and
    /// collateral, as docs/attestation/snp.md describes it. It is not trusted, and read again when it has
    /// changed. Absent: only what a machine brings endorses it.
    #[serde(default)]
    pub tee_endorsements: Option<PathBuf>,
    /// Asks vendors for the endorsements of machines that are not in that file. Absent: nobody is asked for
    /// anything.
    #[serde(default)]
    pub tee_fetch: Option<TeeFetch>,
    /// Who cosigns this ledger's checkpoints. Absent: nobody is asked, and who follows it believes its key.
    #[serde(default)]
    pub witnesses: Option<Witnesses>,
    /// Where the ledger is published. Absent: nowhere but over `http_listen`.
    #[serde(default)]
    pub publish: Option<Publish>,
    /// Who is told by blinded labels which records are about what is his. Absent: nobody.
    #[serde(default)]
    pub label: Vec<Label>,
    pub custody: Custodies,
    #[serde(default)]
    pub lifetimes: Lifetimes,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub attestation: Attestation,
    /// Keep the certificate of each X.509-SVID that is issued, in `certificates` in the data directory, so that packs
    /// have it. On: it takes no more disk than the records of the issuances.
    #[serde(default = "default_true")]
    pub keep_certificates: bool,
    /// Where people log in. Absent: nowhere, and administration is the local socket's alone.
    #[serde(default)]
    pub oidc: Vec<Oidc>,
}

/// Where keys live. CA and ledger keys must not live in one place: whoever takes one of the two
/// still cannot mint an identity that goes unseen.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Custodies {
    /// Root, issuing and JWT keys.
    pub ca: Custody,
    /// The key that signs checkpoints.
    pub ledger: Custody,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Custody {
    /// PKCS #8 files of mode 0600 in a directory of mode 0700.
    File { dir: PathBuf },
}

impl Custody {
    /// Where this custody keeps what it has.
    pub(crate) fn dir(&self) -> &Path {
        let Self::File { dir } = self;
        dir
    }
}

/// In seconds.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lifetimes {
    /// Workloads' X.509-SVIDs; an estate may say less. 1 h: what a revocation that does not reach
    /// a foreign peer costs.
    pub x509_s: u64,
    /// JWT-SVIDs. 5 min, because a bearer token cannot be cut elsewhere.
    pub jwt_s: u64,
    /// Nodes' SVIDs. 1 h: a node proves itself again when it renews at half of it, and evidence
    /// older than `max_age` under `[evidence]` of the estate (1 h as well) issues nothing.
    pub node_s: u64,
    /// 30 d.
    pub issuing_ca_s: u64,
    /// 10 y.
    pub root_ca_s: u64,
    /// A successor of a root or JWT key stands in the bundle this long before it signs. 25 min:
    /// five of the refresh intervals that the bundle names.
    pub announce_s: u64,
    /// Certificates begin this much earlier than now, for peers whose clocks are behind. 10 s.
    pub skew_s: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            x509_s: 3_600,
            jwt_s: 300,
            node_s: 3_600,
            issuing_ca_s: 30 * 86_400,
            root_ca_s: 3_650 * 86_400,
            announce_s: 1_500,
            skew_s: 10,
        }
    }
}

/// How machines with a TPM go on proving themselves after they joined, in seconds.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Attestation {
    /// A machine is asked for a quote this often; when its kernel measures something it is asked at once.
    /// 30: a chip takes half a second for a quote.
    pub interval_s: u64,
    /// A machine that reference values speak of and that has not answered for so long is evicted.
    /// 180: agents connect again within 30 s after a server has restarted.
    pub window_s: u64,
    /// Good answers of a machine are recorded together, as `attested`, this long after the first of them.
    /// 3,600: ten thousand machines cost three records a second.
    pub record_s: u64,
}

impl Default for Attestation {
    fn default() -> Self {
        Self {
            interval_s: 30,
            window_s: 180,
            record_s: 3_600,
        }
    }
}

/// What callers may cost.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one gRPC message from a node or gateway. 4 MiB: an event log and an IMA list of 30,000
    /// entries fit.
    pub message_bytes: usize,
    /// Bytes of one message to the admin socket. 32 MiB: a large estate.
    pub admin_message_bytes: usize,
    /// Connections with an SVID to the TLS port at once. When there are more, an identity that has more than
    /// others gives way to those; if none has, whoever comes is turned away.
    pub connections: usize,
    /// Connections without an SVID at once. 1,024: machines that join. When there are more, the oldest of
    /// the address that has the most gives way.
    pub strangers: usize,
    /// A connection without an SVID is closed after so many seconds. 60: the slowest TPM joins in it.
    pub stranger_s: u64,
    /// TLS handshakes under way at once; when there are more, the oldest of the address that has the most
    /// gives way.
    pub handshakes: usize,
    /// TLS handshakes must end within this many milliseconds.
    pub handshake_ms: u64,
    /// Join attempts a minute from one address.
    pub joins_per_peer: u32,
    /// Join attempts a minute in all.
    pub joins: u32,
    /// TPM joins that have been challenged and not finished; as many again for renewals.
    pub join_sessions: usize,
    /// Refused joins and assumes are recorded once in this many seconds, with their count.
    pub refusal_window_s: u64,
    /// Workloads of one node.
    pub workloads_per_node: usize,
    /// SVIDs that one node may be issued a second, in the long run. 50: 4,096 workloads that renew
    /// every half hour need 3; what is beyond is a node that was taken over.
    pub issued_per_node: u32,
    /// SVIDs that one node may be issued at once beyond that. 8,192: a machine that starts everything.
    pub issued_per_node_burst: u32,
    /// A workload of which nothing has changed is issued its SVIDs again no sooner than after so many
    /// seconds. 2: long enough to be no load, short enough for an agent that lost an answer.
    pub reissue_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 4 << 20,
            admin_message_bytes: 32 << 20,
            connections: 20_000,
            strangers: 1_024,
            stranger_s: 60,
            handshakes: 1_024,
            handshake_ms: 5_000,
            joins_per_peer: 30,
            joins: 3_000,
            join_sessions: 1_024,
            refusal_window_s: 5,
            workloads_per_node: 4_096,
            issued_per_node: 50,
            issued_per_node_burst: 8_192,
            reissue_s: 2,
        }
    }
}

const fn default_http() -> SocketAddr {
    SocketAddr::V4(std::net::SocketAddrV4::new(
        std::net::Ipv4Addr::LOCALHOST,
        7480,
    ))
}

const fn default_true() -> bool {
    true
}

fn default_solver() -> PathBuf {
    PathBuf::from("cvc5")
}

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not a server configuration")]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error(
        "[custody.ca] and [custody.ledger] name the same place; give them different directories"
    )]
    OneCustody,
    #[error("{key} is {value}; it must lie between {low} and {high}")]
    Range {
        key: &'static str,
        value: u64,
        low: u64,
        high: u64,
    },
    #[error("{0}")]
    TrustDomain(String),
    #[error("[[oidc]]: {0}")]
    Oidc(String),
    #[error("[witnesses]: {0}")]
    Witnesses(String),
    #[error("[[label]]: {0}")]
    Label(String),
    #[error("[publish]: {0}")]
    Publish(String),
}

impl ConfigError {
    /// As a user sees it.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let what = match self {
            Self::Read { path, source } => {
                return Finding::new(
                    "SERVER-CONFIG",
                    format!("cannot read {}: {source}", path.display()),
                )
                .next("name a file with --config; docs/reference/config.md lists its keys");
            }
            Self::Parse { path, source } => {
                format!("{}: {}", path.display(), source.to_string().trim_end())
            }
            Self::TrustDomain(problem) => format!("trust_domain: {problem}"),
            other => other.to_string(),
        };
        Finding::new("SERVER-CONFIG", what).next("correct server.toml")
    }
}

impl Config {
    /// Reads and checks `path`. Relative paths in it are relative to its directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let base = path.parent().unwrap_or(Path::new(""));
        config.rebase(base);
        config.check()?;
        Ok(config)
    }

    /// Refuses what would start and then not work.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.custody.ca == self.custody.ledger {
            return Err(ConfigError::OneCustody);
        }
        if let Err(error) = spiffe_core::TrustDomain::new(&self.trust_domain) {
            return Err(ConfigError::TrustDomain(error.to_string()));
        }
        if let Some(fetch) = &self.tee_fetch {
            fetch.check()?;
        }
        Oidc::check(&self.oidc)?;
        Label::check(&self.label)?;
        if let Some(witnesses) = &self.witnesses {
            witnesses.check()?;
        }
        if let Some(publish) = &self.publish {
            publish.check()?;
        }
        let day = 86_400;
        within(&[
            ("lifetimes.x509_s", self.lifetimes.x509_s, 10, day),
            ("lifetimes.jwt_s", self.lifetimes.jwt_s, 10, day),
            ("lifetimes.node_s", self.lifetimes.node_s, 10, 30 * day),
            (
                "lifetimes.issuing_ca_s",
                self.lifetimes.issuing_ca_s,
                10,
                self.lifetimes.root_ca_s,
            ),
            (
                "lifetimes.root_ca_s",
                self.lifetimes.root_ca_s,
                day,
                20_000 * day,
            ),
            ("lifetimes.skew_s", self.lifetimes.skew_s, 0, 600),
            (
                "attestation.interval_s",
                self.attestation.interval_s,
                1,
                3_600,
            ),
            (
                "attestation.window_s",
                self.attestation.window_s,
                self.attestation.interval_s.saturating_mul(2),
                day,
            ),
            ("attestation.record_s", self.attestation.record_s, 1, day),
            ("limits.stranger_s", self.limits.stranger_s, 1, 3_600),
            ("limits.reissue_s", self.limits.reissue_s, 0, 60),
            (
                "limits.issued_per_node",
                u64::from(self.limits.issued_per_node),
                1,
                1_000_000,
            ),
            (
                "limits.issued_per_node_burst",
                u64::from(self.limits.issued_per_node_burst),
                1,
                1_000_000_000,
            ),
        ])
    }

    /// The JSON Schema of `server.toml`.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.admin_socket
            .clone()
            .unwrap_or_else(|| self.data_dir.join("admin.sock"))
    }

    fn rebase(&mut self, base: &Path) {
        self.data_dir = base.join(&self.data_dir);
        self.admin_socket = self.admin_socket.as_ref().map(|path| base.join(path));
        let endorsements = self.tee_endorsements.as_ref();
        self.tee_endorsements = endorsements.map(|path| base.join(path));
        if let Some(fetch) = &mut self.tee_fetch {
            fetch.rebase(base);
        }
        for oidc in &mut self.oidc {
            oidc.rebase(base);
        }
        if let Some(witnesses) = &mut self.witnesses {
            witnesses.rebase(base);
        }
        if let Some(publish) = &mut self.publish {
            publish.rebase(base);
        }
        for label in &mut self.label {
            label.rebase(base);
        }
        for custody in [&mut self.custody.ca, &mut self.custody.ledger] {
            let Custody::File { dir } = custody;
            *dir = base.join(&*dir);
        }
    }
}

/// Each is a key, its value, and the lowest and the highest that it may have.
fn within(values: &[(&'static str, u64, u64, u64)]) -> Result<(), ConfigError> {
    for &(key, value, low, high) in values {
        if !(low..=high).contains(&value) {
            return Err(ConfigError::Range {
                key,
                value,
                low,
                high,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        trust_domain = "example.org"
        data_dir = "data"
        listen = "127.0.0.1:7443"
        [custody.ca]
        kind = "file"
        dir = "keys/ca"
        [custody.ledger]
        kind = "file"
        dir = "keys/ledger"
    "#;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path)
    }

    #[test]
    fn the_smallest_file_is_enough() {
        let config = load(FILE).unwrap();
        assert_eq!(config.lifetimes.x509_s, 3_600);
        assert!(config.data_dir.is_absolute());
        assert!(config.admin_socket().ends_with("data/admin.sock"));
    }

    #[test]
    fn what_it_does_not_know_it_refuses() {
        let unknown = FILE.replace("data_dir", "colour = 1\ndata_dir");
        assert!(matches!(load(&unknown), Err(ConfigError::Parse { .. })));
        let shared = FILE.replace("keys/ledger", "keys/ca");
        assert!(matches!(load(&shared), Err(ConfigError::OneCustody)));
        let long = format!("{FILE}\n[lifetimes]\nx509_s = 100000\n");
        assert!(matches!(load(&long), Err(ConfigError::Range { .. })));
        for bad in [
            "issuer = \"http://login.example.org\"\nclient_id = \"t\"",
            "issuer = \"https://login.example.org\"\nclient_id = \"\"",
            "issuer = \"https://login.example.org\"\nclient_id = \"t\"\nalgorithms = [\"none\"]",
            "issuer = \"https://login.example.org\"\nclient_id = \"t\"\nalgorithms = [\"HS256\"]",
            "issuer = \"https://login.example.org\"\nclient_id = \"t\"\nalgorithms = []",
        ] {
            let file = format!("{FILE}\n[[oidc]]\n{bad}\n");
            assert!(matches!(load(&file), Err(ConfigError::Oidc(_))), "{bad}");
        }
        let long = "issuer = \"https://login.example.org\"\nclient_id = \"t\"\nsession_s = 7200";
        let file = format!("{FILE}\n[[oidc]]\n{long}\n");
        assert!(matches!(load(&file), Err(ConfigError::Range { .. })));
        let domain = FILE.replace("example.org", "Example.org");
        assert!(matches!(load(&domain), Err(ConfigError::TrustDomain(_))));
    }
}
