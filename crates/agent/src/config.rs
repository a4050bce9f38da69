//! `agent.toml`: what an operator writes, parsed once into types that cannot be wrong.
//!
//! Unknown keys are refused. Nothing here touches the machine.

use facts::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The whole of `agent.toml`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The trust domain's name, without `spiffe://`: `example.org`.
    pub trust_domain: String,
    /// Host and port of the server's gRPC listener: `server.example.org:7443`.
    pub server: String,
    /// The digest that `trilith token create` printed: `tl1:` and 64 hexadecimal digits. It pins trust
    /// bundle and ledger key at first contact; afterwards the bundle that the server pushes is kept.
    pub pin: String,
    /// Keeps the node's key and state, mode 0700. Never copy it to another machine: both are locked.
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// The Workload API's socket. Workloads get `SPIFFE_ENDPOINT_SOCKET=unix://` and this path.
    #[serde(default = "default_workload_socket")]
    pub workload_socket: PathBuf,
    /// Serves `/healthz` and `/metrics` over plain HTTP. Absent: not served. Bind it to loopback.
    #[serde(default)]
    pub http_listen: Option<SocketAddr>,
    /// Whether JWT-SVIDs carry their receipt as a claim. Our own gateways refuse one without, and then so
    /// does `ValidateJWTSVID` here; tokens for others are shorter without. Alike on every machine.
    #[serde(default = "default_true")]
    pub jwt_receipt: bool,
    /// Who has to have seen the server's ledger. Absent: its key is believed.
    #[serde(default)]
    pub witnesses: Option<WitnessesConfig>,
    pub join: JoinConfig,
    /// What is kept of the node's key on a machine with a TPM, where the server approves boots.
    #[serde(default)]
    pub seal: SealConfig,
    #[serde(default)]
    pub enforcement: EnforcementConfig,
    /// Decisions for local callers. `trilith agent` serves them, and takes the section out; any other program that
    /// finds it does not start.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    pub decisions: Option<toml::Table>,
    /// A token from the command line or the environment; it goes before the file.
    #[serde(skip)]
    pub token_given: Option<Token>,
}

/// Whether the node's key outlives the agent, and what becomes of it in a boot that is not approved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SealConfig {
    /// It is kept, sealed to the TPM for the boots that the authority has approved. In any other boot the agent
    /// does not start.
    #[default]
    Strict,
    /// It is kept likewise; in any other boot the state is set aside, and the machine joins anew.
    Rejoin,
    /// It is not kept: each start of the agent joins anew. A state that was sealed is opened once more.
    Off,
}

/// Whoever takes the server's keys can issue to this machine alone; not with the cosignatures of witnesses that look
/// at all of its ledger.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WitnessesConfig {
    /// The file that names them and how many are enough, as c2sp.org/tlog-policy has it. Not the server's copy: from
    /// the witnesses' operators.
    pub policy: PathBuf,
    /// Nothing new is handed out once enough witnesses have not looked at the server's ledger for so many seconds, by
    /// their clocks. 900: the server tells of them once a minute, and SVIDs are renewed long before they end.
    #[serde(default = "max_unwitnessed_s")]
    pub max_unwitnessed_s: u64,
}

const fn max_unwitnessed_s() -> u64 {
    900
}

/// What the agent may make the kernel enforce.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnforcementConfig {
    /// Whether the agent installs the IPE policy that the estate names for this machine, and gives the files
    /// that it lists a Merkle tree. Without it the agent only says what the kernel enforces. It takes root.
    #[serde(default)]
    pub install: bool,
}

/// A join token. Never printed.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl Token {
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.trim().to_owned()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// How this machine proves itself at first contact.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
pub enum JoinConfig {
    /// By its TPM: `device:/dev/tpmrm0`, or `swtpm:/path/to/socket` for an emulated one.
    Tpm {
        tpm: String,
        /// The kernel's list of what it measured. With a `device:` it is
        /// `/sys/kernel/security/ima/binary_runtime_measurements`, which the agent has to be able to read,
        /// and `runtime_measurements_count` beside it; an emulator has none unless it is named here.
        #[serde(default)]
        ima_list: Option<PathBuf>,
        /// The firmware's log of what it measured. With a `device:` it is what the kernel kept; an emulator has
        /// none unless it is named here.
        #[serde(default)]
        event_log: Option<PathBuf>,
        /// Who reports on the confidential hardware that this machine runs in. With a `device:` it is the
        /// kernel, in its usual place, if there is such hardware; an emulator has none unless it is named here.
        #[serde(default)]
        #[schemars(with = "Option<TeeEntry>")]
        tee: Option<TeeConfig>,
    },
    /// As an enclave, which has no TPM: by what its hardware signs about it. The key stays in the enclave's memory, and
    /// each start of the agent joins anew.
    Enclave {
        enclave: EnclaveConfig,
        /// Nitro: the security module, by default `/dev/nsm`, or the socket of an emulator. Gramine: the folder of its
        /// files, by default `/dev/attestation`.
        #[serde(default)]
        device: Option<PathBuf>,
    },
    /// By a one-time token. It proves nothing about the machine, and the facts say so.
    Token {
        /// A file with the token, readable by the agent only; else `TRILITH_JOIN_TOKEN` or `--token`. It is
        /// read at each join: a new token in it lets a machine that was away for too long come back.
        #[serde(default)]
        token_file: Option<PathBuf>,
    },
}

/// What an enclave is asked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnclaveConfig {
    /// An enclave of AWS Nitro, by its security module.
    Nitro,
    /// An enclave of SGX, by Gramine's files.
    Gramine,
}

/// Who reports on the hardware of a machine, which then joins with a report or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "TeeEntry")]
pub enum TeeConfig {
    /// The kernel, through configfs-tsm: anew for each join.
    Kernel {
        reports: PathBuf,
        event_log: Option<PathBuf>,
    },
    /// A paravisor, at each boot.
    Paravisor {
        of: Paravisor,
        /// TDX: who makes a quote of what the paravisor reports.
        quotes: SocketAddr,
    },
    /// AWS's hypervisor, by this program: anew for each join.
    NitroTpm(PathBuf),
}

/// A machine that is named here joins with a report or not at all. Exactly one of `reports`, `paravisor` and
/// `nitro_tpm_attest`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TeeEntry {
    /// The folder of the kernel's configfs-tsm: `/sys/kernel/config/tsm/report`.
    #[serde(default)]
    reports: Option<PathBuf>,
    /// TDX: the event log of the boot, `/sys/firmware/acpi/tables/data/CCEL`.
    #[serde(default)]
    event_log: Option<PathBuf>,
    /// Whose paravisor reports. The machine is then known by the attestation key that it vouches for, and no more
    /// by the endorsement key of its TPM.
    #[serde(default)]
    paravisor: Option<Paravisor>,
    /// A paravisor on TDX: the address of the host's service that makes the quote, by HTTP. Default
    /// `169.254.169.254:80`, Azure's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    quotes: Option<SocketAddr>,
    /// AWS's program that asks for the document about a NitroTPM: `/usr/bin/nitro-tpm-attest`.
    #[serde(default)]
    nitro_tpm_attest: Option<PathBuf>,
}

impl TryFrom<TeeEntry> for TeeConfig {
    type Error = &'static str;

    fn try_from(entry: TeeEntry) -> Result<Self, Self::Error> {
        let event_log = entry.event_log;
        if entry.quotes.is_some() && entry.paravisor.is_none() {
            return Err("`quotes` goes with `paravisor` alone");
        }
        match (entry.reports, entry.paravisor, entry.nitro_tpm_attest) {
            (Some(reports), None, None) => Ok(Self::Kernel { reports, event_log }),
            (None, Some(of), None) if event_log.is_none() => Ok(Self::Paravisor {
                of,
                quotes: entry.quotes.unwrap_or(device::azure::QUOTES),
            }),
            (None, None, Some(program)) if event_log.is_none() => Ok(Self::NitroTpm(program)),
            _ => Err(
                "name one of `reports`, `paravisor` and `nitro_tpm_attest`, and `event_log` with `reports` alone",
            ),
        }
    }
}

/// A maker of paravisors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Paravisor {
    Azure,
}

impl std::fmt::Debug for JoinConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tpm {
                tpm,
                ima_list,
                event_log,
                tee,
            } => f
                .debug_struct("Tpm")
                .field("tpm", tpm)
                .field("ima_list", ima_list)
                .field("event_log", event_log)
                .field("tee", tee)
                .finish(),
            Self::Enclave { enclave, device } => f
                .debug_struct("Enclave")
                .field("enclave", enclave)
                .field("device", device)
                .finish(),
            Self::Token { token_file } => f
                .debug_struct("Token")
                .field("token_file", token_file)
                .finish(),
        }
    }
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("/var/lib/trilith/agent")
}

fn default_workload_socket() -> PathBuf {
    PathBuf::from("/run/trilith/workload.sock")
}

const fn default_true() -> bool {
    true
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path:?} cannot be read")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} is not a valid agent configuration")]
    Parse {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{path:?}: {key} {problem}")]
    Value {
        path: PathBuf,
        key: &'static str,
        problem: String,
    },
    #[error("the join token: {0}")]
    Token(String),
    #[error("the token file {path:?} cannot be read")]
    TokenFile {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} has mode {mode:04o}: others could read the token in it")]
    TooOpen { path: PathBuf, mode: u32 },
}

impl ConfigError {
    /// As a user sees it.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let finding = |code, next: String| Finding::new(code, self.to_string()).next(next);
        match self {
            Self::Read { path, source } => Finding::new(
                "AGENT-CONFIG",
                format!("cannot read {}: {source}", path.display()),
            )
            .next("name a file that the agent may read; docs/reference/config.md lists its keys"),
            Self::Parse { path, source } => Finding::new(
                "AGENT-CONFIG",
                format!("{}: {}", path.display(), source.to_string().trim_end()),
            )
            .next("correct agent.toml"),
            Self::Value { path, key, problem } => Finding::new(
                "AGENT-CONFIG",
                format!("{}: {key} {problem}", path.display()),
            )
            .next("correct agent.toml"),
            Self::Token(_) => finding(
                "AGENT-TOKEN",
                "at the server: trilith token create --node NAME --pool POOL; put the token into the \
                 file that join.token_file names, mode 0600"
                    .to_owned(),
            ),
            Self::TokenFile { path, source } => Finding::new(
                "AGENT-TOKEN",
                format!("cannot read the token file {}: {source}", path.display()),
            )
            .next(
                "at the server: trilith token create --node NAME --pool POOL; put the token into \
                 that file, mode 0600",
            ),
            Self::TooOpen { path, mode } => Finding::new(
                "AGENT-TOKEN-MODE",
                format!("others may read the token file {}", path.display()),
            )
            .expected("mode 0600")
            .observed(format!("mode {mode:04o}"))
            .next(format!("chmod go= {}", path.display())),
        }
    }
}

impl AgentConfig {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Checks `text`; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source,
        })?;
        let wrong = |key, problem: &str| ConfigError::Value {
            path: path.to_owned(),
            key,
            problem: problem.to_owned(),
        };
        let port = config.server.rsplit_once(':').map(|(_, port)| port);
        if port.is_none_or(|port| port.parse::<u16>().is_err()) {
            return Err(wrong("server", "must be host:port"));
        }
        if !is_pin(&config.pin) {
            let problem = "must be `tl1:` and 64 hexadecimal digits, as `trilith token create` and `trilith status` print it";
            return Err(wrong("pin", problem));
        }
        for (key, value) in [
            ("data_dir", &config.data_dir),
            ("workload_socket", &config.workload_socket),
        ] {
            if !value.is_absolute() {
                return Err(wrong(key, "must be an absolute path"));
            }
        }
        if config.workload_socket.starts_with(&config.data_dir) {
            return Err(wrong(
                "workload_socket",
                "lies in data_dir, which nobody else may enter",
            ));
        }
        Ok(config)
    }

    /// The JSON Schema of `agent.toml`.
    #[must_use]
    pub fn json_schema() -> serde_json::Value {
        schemars::schema_for!(Self).to_value()
    }

    /// Whether this machine can prove itself anew: by its hardware, or by a token that is there.
    pub(crate) fn can_join_again(&self) -> bool {
        match self.join {
            JoinConfig::Tpm { .. } | JoinConfig::Enclave { .. } => true,
            JoinConfig::Token { .. } => self.token(true).is_ok(),
        }
    }

    /// The token to join by: the one given before the file. To join again, the file before the one given,
    /// which was good for one join.
    pub(crate) fn token(&self, again: bool) -> Result<Zeroizing<String>, ConfigError> {
        let file = match &self.join {
            JoinConfig::Token { token_file } => token_file.as_deref(),
            JoinConfig::Tpm { .. } | JoinConfig::Enclave { .. } => None,
        };
        let token = match (&self.token_given, file) {
            (Some(given), Some(path)) if again => {
                read_token(path).unwrap_or_else(|_| given.clone())
            }
            (Some(given), _) => given.clone(),
            (None, Some(path)) => read_token(path)?,
            (None, None) => {
                return Err(ConfigError::Token(
                    "none given; set join.token_file, TRILITH_JOIN_TOKEN or --token".to_owned(),
                ));
            }
        };
        if token.0.is_empty() || token.0.len() > 512 {
            return Err(ConfigError::Token(
                "empty, or longer than 512 bytes".to_owned(),
            ));
        }
        Ok(token.0)
    }
}

/// The form of a pin; whose it is shows at first contact.
fn is_pin(text: &str) -> bool {
    text.strip_prefix("tl1:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// A token that others may read is not taken, as custody takes no such key.
fn read_token(path: &Path) -> Result<Token, ConfigError> {
    let failed = |source| ConfigError::TokenFile {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(ConfigError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    let mut read = Zeroizing::new(String::new());
    file.read_to_string(&mut read).map_err(failed)?;
    Ok(Token::new(&read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const GOOD: &str = r#"
        trust_domain = "example.org"
        server = "127.0.0.1:8443"
        pin = "tl1:0000000000000000000000000000000000000000000000000000000000000000"
        [join]
        method = "token"
        token_file = "/etc/trilith/token"
    "#;

    fn parse(text: &str) -> Result<AgentConfig, ConfigError> {
        AgentConfig::parse(text, Path::new("agent.toml"))
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let config = parse(GOOD).unwrap();
        assert_eq!(config.data_dir, Path::new("/var/lib/trilith/agent"));
        assert_eq!(
            config.workload_socket,
            Path::new("/run/trilith/workload.sock")
        );
        assert!(config.http_listen.is_none() && config.jwt_receipt);
        assert!(!config.enforcement.install, "a machine opts in");
    }

    #[test]
    fn what_is_unknown_or_malformed_is_refused() {
        for (from, to) in [
            ("pin =", "pni ="),
            ("tl1:0", "tl1:abc0"),
            ("tl1:0", "tl1:g"),
            ("tl1:", ""),
            ("token_file", "tokenfile"),
            ("\"token\"", "\"hope\""),
            ("127.0.0.1:8443", "127.0.0.1"),
            ("server =", "data_dir = \"here\"\nserver ="),
            ("server =", "data_dir = \"/run\"\nserver ="),
        ] {
            assert!(
                parse(&GOOD.replacen(from, to, 1)).is_err(),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn one_speaks_for_the_hardware_of_a_machine() {
        let with = |tee: &str| {
            let text = format!("[join]\nmethod = \"tpm\"\ntpm = \"swtpm:/x\"\n[join.tee]\n{tee}");
            let before = GOOD.split("[join]").next().unwrap();
            let config = parse(&(before.to_owned() + &text)).ok()?;
            match config.join {
                JoinConfig::Tpm { tee, .. } => tee,
                JoinConfig::Token { .. } | JoinConfig::Enclave { .. } => None,
            }
        };
        let azure = with("paravisor = \"azure\"\n").unwrap();
        let quotes = device::azure::QUOTES;
        let of = Paravisor::Azure;
        assert_eq!(azure, TeeConfig::Paravisor { of, quotes });
        let kernel = with("reports = \"/r\"\nevent_log = \"/l\"\n").unwrap();
        assert!(matches!(
            kernel,
            TeeConfig::Kernel {
                event_log: Some(_),
                ..
            }
        ));
        assert!(with("nitro_tpm_attest = \"/bin/attest\"\n").is_some());
        for none in [
            "",
            "paravisor = \"other\"\n",
            "paravisor = \"azure\"\nreports = \"/r\"\n",
            "paravisor = \"azure\"\nevent_log = \"/l\"\n",
            "event_log = \"/l\"\n",
        ] {
            assert!(with(none).is_none(), "{none}");
        }
    }

    #[test]
    fn a_machine_can_join_again_with_a_token_that_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let named = GOOD.replacen("/etc/trilith/token", file.to_str().unwrap(), 1);
        let config = parse(&named).unwrap();
        assert!(!config.can_join_again(), "the file is not there");
        std::fs::write(&file, "abc\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(config.can_join_again());
        let mut config = config;
        config.token_given = Some(Token::new("spent"));
        assert_eq!(config.token(false).unwrap().as_str(), "spent");
        assert_eq!(config.token(true).unwrap().as_str(), "abc");
    }

    #[test]
    fn a_token_on_the_command_line_goes_before_the_file() {
        let mut config = parse(GOOD).unwrap();
        assert!(matches!(
            config.token(false),
            Err(ConfigError::TokenFile { .. })
        ));
        config.token_given = Some(Token::new(" abc\n"));
        assert_eq!(config.token(false).unwrap().as_str(), "abc");
        assert!(!format!("{config:?}").contains("abc"));
    }

    #[test]
    fn a_token_file_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "abc\n").unwrap();
        let named = GOOD.replacen("/etc/trilith/token", file.to_str().unwrap(), 1);
        let config = parse(&named).unwrap();
        for mode in [0o644, 0o640, 0o604] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            let finding = config.token(false).unwrap_err().finding();
            assert_eq!(finding.code, "AGENT-TOKEN-MODE");
            assert_eq!(finding.observed, Some(format!("mode {mode:04o}")));
        }
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o400)).unwrap();
        assert_eq!(config.token(false).unwrap().as_str(), "abc");
    }
}
