//! What can be typed. Each command's long help ends with examples that run as printed.

mod attest;
mod delegation;
pub(crate) mod estate;
mod ledger;
mod monitor;
mod new_log;
mod people;
mod records;
mod refs;
mod resources;
mod snapshot;
mod verify;

pub(crate) use attest::{
    AttestCommand, DiffArguments, DryRunArguments, EarArguments, EndorsementsCommand,
    EndorsementsFetchArguments, EndorsementsListArguments, ExplainArguments, Side, Verdict,
};
pub(crate) use delegation::{DelegateArguments, DelegationCommand};
pub(crate) use estate::{
    AuthorCommand, AuthorKeyCommand, BlastArguments, EstateCommand, EstateDiffArguments,
    FmtArguments, HeldArguments, LintArguments, PartArguments, SigningArguments, TakenCommand,
    WhatCanArguments, WhoCanArguments, WhyArguments,
};
pub(crate) use ledger::{
    CompletenessArguments, EraseArguments, ExportArguments, LedgerCommand, LedgerNewLogArguments,
    MirrorArguments, PruneArguments, SearchArguments,
};
pub(crate) use monitor::MonitorArguments;
pub(crate) use new_log::NewLogArguments;
pub(crate) use people::{LoginArguments, LogoutArguments};
pub(crate) use records::{
    AccessesArguments, FolderArguments, HistoryArguments, MaybeFolderArguments, Moment,
    ReplayArguments, UnusedArguments, WithoutArguments,
};
pub(crate) use refs::{
    ApprovalsArguments, BootArguments, ChangeArguments, CodeArguments, DebianArguments,
    FindArguments, GenerationArguments, ImportCommand, IpeArguments, KernelArguments, OciArguments,
    PhaseArgument, RefsCommand, SecureBootArgument, SlsaArguments, UefiArguments, UkiArguments,
};
pub(crate) use resources::{
    McpArguments, OpenapiArguments, PostgresArguments, ProtocolArgument, ResourcesCommand,
    SyncArguments, SyncCommand,
};
pub(crate) use snapshot::{RebuildArguments, ServerPruneArguments};
pub(crate) use verify::{
    PackArguments, PackQuestion, RecordRange, TrustArguments, VerifyArguments,
};

use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};

/// Machine identity that is proved, decided and recorded.
#[derive(Debug, Parser)]
#[command(name = "trilith", version, max_term_width = 110)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    pub global: Global,
}

/// Options that every command knows.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Print JSON, one document or one object a line; fields are only ever added
    #[arg(long, global = true)]
    pub json: bool,
    /// Unix socket of the server's administration, for the commands that ask it. If nobody says, that of a
    /// server with data_dir /var/lib/trilith/server is found as well; where another has it, `admin_socket` in
    /// server.toml says (`admin.sock` in its data_dir by default)
    #[arg(
        long,
        global = true,
        env = "TRILITH_ADMIN_SOCKET",
        default_value = "/run/trilith/admin.sock",
        value_name = "PATH"
    )]
    pub admin_socket: PathBuf,
    /// Ask this server over the network instead, as the person who has logged in there (`trilith login`)
    #[arg(
        long,
        global = true,
        env = "TRILITH_ADMIN_SERVER",
        value_name = "HOST:PORT"
    )]
    pub admin_server: Option<String>,
    /// File of the session with that server; `trilith/session.json` in $XDG_STATE_HOME or ~/.local/state by
    /// default
    #[arg(long, global = true, env = "TRILITH_SESSION", value_name = "FILE")]
    pub session: Option<PathBuf>,
    /// What to log, as `info` or `server=debug,info`
    #[arg(
        long,
        global = true,
        env = "TRILITH_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server, or rebuild its state from the ledger
    Server(ServerArguments),
    /// Run the node agent, or list and readmit node agents
    Agent(AgentArguments),
    /// Run the gateways of this machine
    #[command(after_long_help = "Example:\n  trilith gateway --config /etc/trilith/gateway.toml")]
    Gateway(ConfigArgument),
    /// Answer others' questions about access, by OpenID AuthZEN and Envoy's ext_authz
    #[command(after_long_help = "Example:\n  trilith pdp --config /etc/trilith/pdp.toml")]
    Pdp(ConfigArgument),
    /// See all three pillars work on this machine, with a real database and an emulated TPM
    #[command(
        after_long_help = "Examples:\n  trilith demo\n  trilith demo --json\n  trilith demo --hold"
    )]
    Demo(DemoArguments),
    /// Check, format, plan, prove, apply and export what is declared
    #[command(subcommand)]
    Estate(EstateCommand),
    /// Say why something is allowed or denied
    #[command(
        after_long_help = "Examples:\n  trilith why payments/api select shop/public/cards\n  trilith why pg-1:42"
    )]
    Why(WhyArguments),
    /// List every identity that may do ACTION on RESOURCE, with the policy that grants it
    #[command(
        after_long_help = "Examples:\n  trilith who-can select shop/public/cards\n  trilith who-can select shop/public/cards --limit 10"
    )]
    WhoCan(WhoCanArguments),
    /// List everything that PRINCIPAL may do, with the policy that grants it
    #[command(
        after_long_help = "Examples:\n  trilith what-can agents/helper\n  trilith what-can agents/helper --lines"
    )]
    WhatCan(WhatCanArguments),
    /// List what whoever takes a machine, some code or a key could become, and what that reaches
    #[command(
        after_long_help = "Examples:\n  trilith blast-radius machine db-7\n  trilith blast-radius identity payments/api --estate ./estate\n  trilith blast-radius signer release --json\n  trilith blast-radius --limit 100 server"
    )]
    BlastRadius(BlastArguments),
    /// Search and show records of the server's and the gateways' ledgers
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Make one file with the answer to a question and all that is needed to check it offline
    #[command(
        after_long_help = "Examples:\n  trilith pack --record pg-1:42 --output access.pack\n  trilith pack --accesses agents/helper --output agent.pack\n  trilith pack --lifetime payments/api --output api.pack --html api.html --trust trust.json\n  trilith pack --range 2h..1h --output hour.pack\n  trilith pack --verdict 17 --output verdict.pack\n  trilith pack --folder /archive/trilith-2026 --trust trust.json --lifetime payments/api --output api.pack"
    )]
    Pack(PackArguments),
    /// Check a pack or a .tlog-proof offline; trust comes from your file, never from what is checked
    #[command(
        after_long_help = "Examples:\n  trilith verify access.pack --trust trust.json\n  trilith verify access.pack --trust trust.json --html access.html\n  trilith verify record.tlog-proof --record record.json --trust trust.json"
    )]
    Verify(VerifyArguments),
    /// Print the trust file that `verify` takes: keep it where you can find it later
    #[command(
        after_long_help = "Examples:\n  trilith trust > trust.json\n  trilith trust --policy witnesses.policy > trust.json"
    )]
    Trust(TrustArguments),
    /// Create one-time join tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look at this machine's TPM
    #[command(subcommand)]
    Tpm(TpmCommand),
    /// Look at what configuration files may say
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Explain verdicts and boots, compare two, and try an estate on evidence that is kept
    #[command(subcommand)]
    Attest(AttestCommand),
    /// Compute reference values from signed packages, boot chains and images
    #[command(subcommand)]
    Refs(Box<RefsCommand>),
    /// Declare what live systems have: databases, APIs, tool servers
    #[command(subcommand)]
    Resources(Box<ResourcesCommand>),
    /// Revoke an identity, one SVID or a machine, at once
    #[command(
        after_long_help = "Examples:\n  trilith revoke identity payments/api --reason 'key leaked'\n  trilith revoke machine db-1 --reason stolen"
    )]
    Revoke(RevokeArguments),
    /// Let a revoked identity be issued again; what was issued before stays cut
    #[command(
        after_long_help = "Example:\n  trilith restore payments/api --reason 'the key was replaced'"
    )]
    Restore(RestoreArguments),
    /// Go on signing although a peer has seen a longer ledger than the server's; what is given up is recorded
    #[command(
        after_long_help = "Example:\n  trilith recover --reason 'the disk of db-1 was lost; backup of Monday restored'"
    )]
    Recover(RecoverArguments),
    /// Run a program that knows nothing of SPIFFE with an identity of its own
    #[command(
        after_long_help = "Example:\n  trilith exec -- /usr/lib/postgresql/15/bin/psql 'host=127.0.0.1 port=6432 dbname=shop sslmode=verify-ca'"
    )]
    Exec(ExecArguments),
    /// Keep certificate, key and bundle as files for a program that reads them
    #[command(
        after_long_help = "Example:\n  trilith files --directory /run/nginx/svid --owner www-data --mode 0640 --reload 'nginx -s reload'"
    )]
    Files(FilesArguments),
    /// Show what the local agent knows of this process, and the identities it gives it
    #[command(after_long_help = "Example:\n  trilith whoami")]
    Whoami(WorkloadSocket),
    /// Show the state of the server, its ledger, gateways and node agents
    #[command(after_long_help = "Example:\n  trilith status")]
    Status,
    /// Make the key by which an author signs what weakens an invariant
    #[command(subcommand)]
    Author(AuthorCommand),
    /// Say since when somebody may do something, by which change of the estate and by whom
    #[command(
        after_long_help = "Examples:\n  trilith history payments/api select shop/public/cards --folder /var/lib/trilith/server\n  trilith history shop/public/cards --folder /var/lib/trilith/server\n  trilith history --policy 'payments reads cards' --folder /var/lib/trilith/server --receipts --json"
    )]
    History(HistoryArguments),
    /// List what is granted and was not used, and print the smaller estate as a patch
    #[command(
        after_long_help = "Examples:\n  trilith unused --folder /var/lib/trilith/server --window 30d\n  trilith unused --folder /var/lib/trilith/server --window 90d --estate ./estate --patch > smaller.patch"
    )]
    Unused(UnusedArguments),
    /// Decide recorded accesses again by another estate: which would be denied, which allowed
    #[command(
        after_long_help = "Examples:\n  trilith replay --estate ./estate --folder /var/lib/trilith/server --since 30d\n  trilith replay --estate ./estate --folder /var/lib/trilith/server --since 2026-05-12 --json"
    )]
    Replay(ReplayArguments),
    /// Let another act for the person who has logged in, or for whom this workload acts; prints the token for it
    #[command(
        after_long_help = "Examples:\n  trilith delegate --admin-server trilith.example.org:7443 --to agents/helper --action select --ttl 900 > ada.token\n  trilith delegate --to agents/summary --token ada.token --server trilith.example.org:7443 --resource shop/public/cards > summary.token"
    )]
    Delegate(DelegateArguments),
    /// List and take back delegations
    #[command(subcommand)]
    Delegation(DelegationCommand),
    /// Log in at an OpenID provider, to administer a server over the network
    #[command(
        after_long_help = "Example:\n  trilith login --admin-server trilith.example.org:7443 --issuer https://login.example.org --trust-domain example.org --pin tl1:0123…"
    )]
    Login(LoginArguments),
    /// End the session that `trilith login` began
    #[command(
        after_long_help = "Example:\n  trilith logout --admin-server trilith.example.org:7443"
    )]
    Logout(LogoutArguments),
    /// Cosign the checkpoints of other logs, and never two histories of one (c2sp.org/tlog-witness)
    #[command(after_long_help = "Example:\n  trilith witness --config /etc/trilith/witness.toml")]
    Witness(ConfigArgument),
    /// Watch a ledger from outside: that it stays one history, and that nothing unexpected of yours stands in it
    #[command(
        after_long_help = "Exit codes: 0 nothing to tell, 1 not reached, 3 not what was signed, 4 something that nobody expected,\n5 the log has signed two histories.\n\nExamples:\n  trilith monitor --config /etc/trilith/monitor.toml\n  trilith monitor --config /etc/trilith/monitor.toml --once --json\n  trilith monitor --misbehaviour misbehaviour-0123456789abcdef.json\n  trilith monitor --label-key label.key"
    )]
    Monitor(MonitorArguments),
}

#[derive(Debug, Args)]
pub struct ConfigArgument {
    /// The configuration file; `docs/reference/config.md` lists every key
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:\n  trilith server --config /etc/trilith/server.toml\n  trilith server rebuild-state --config /etc/trilith/server.toml"
)]
pub struct ServerArguments {
    #[command(subcommand)]
    pub command: Option<ServerCommand>,
    /// The configuration file; `docs/reference/config.md` lists every key
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Drop the state store and compute it again from the newest snapshot and the ledger; the server must not be running
    #[command(
        after_long_help = "Examples:\n  trilith server rebuild-state --config /etc/trilith/server.toml\n  trilith server rebuild-state --config /etc/trilith/server.toml --from-first-record\n  trilith server rebuild-state --config /etc/trilith/server.toml --check --copy /backup/trilith"
    )]
    RebuildState(RebuildArguments),
    /// End the ledger's log and go on as a new one, under a new key; the server must not be running
    #[command(
        after_long_help = "Examples:\n  trilith server new-log --config /etc/trilith/server.toml --reason 'the key is replaced each year'\n  trilith server new-log --config /etc/trilith/server.toml --give-up --reason 'the disk of db-1 was lost; backup of Monday restored'"
    )]
    NewLog(NewLogArguments),
    /// Keep the state after all records as a snapshot that the ledger names; the server must not be running
    #[command(
        after_long_help = "Example:\n  trilith server snapshot --config /etc/trilith/server.toml"
    )]
    Snapshot(ConfigArgument),
    /// Take away the oldest records of the server's own ledger, once somebody else has them
    #[command(
        after_long_help = "The server must not run. Without --yes it prints what would go. Whole segments of 64 MiB go; hashes stay, a snapshot of the state is recorded with it, and records that something lives by are kept.\n\nExamples:\n  trilith server prune --config /etc/trilith/server.toml --before 400d --reason 'retention 400 days' --copy /archive/trilith\n  trilith server prune --config /etc/trilith/server.toml --before 400d --reason 'retention 400 days' --yes"
    )]
    Prune(ServerPruneArguments),
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:\n  trilith agent --config /etc/trilith/agent.toml\n  TRILITH_JOIN_TOKEN=$(cat token) trilith agent --config /etc/trilith/agent.toml\n  trilith agent readmit db-1 --reason 'restored from its image'"
)]
pub struct AgentArguments {
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
    /// The configuration file; `docs/reference/config.md` lists every key
    #[arg(long, value_name = "FILE", required = true)]
    pub config: Option<PathBuf>,
    /// A one-time join token; it goes before the file that `join.token_file` names. On the command line
    /// every user of the machine can read it: prefer the file or the variable
    #[arg(
        long,
        env = "TRILITH_JOIN_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN",
        value_parser = join_token
    )]
    pub token: Option<agent::Token>,
}

/// A reason as it stays in the ledger, whole; the server refuses the same.
fn reason(text: &str) -> Result<String, facts::Finding> {
    server::whole_reason(text)
}

/// Whatever it is, the server judges it.
fn join_token(text: &str) -> Result<agent::Token, std::convert::Infallible> {
    Ok(agent::Token::new(text))
}

#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// List the node agents that ever joined
    #[command(after_long_help = "Example:\n  trilith agent list")]
    List,
    /// Take everything from a machine, at once, until it joins clean
    #[command(
        after_long_help = "Example:\n  trilith agent evict db-1 --reason 'rebuilt while we watch it'"
    )]
    Evict {
        /// The node's name
        node: String,
        /// Why, for the record
        #[arg(long, value_parser = reason)]
        reason: String,
    },
    /// Free a node agent that was locked because two copies of its state were seen
    #[command(
        after_long_help = "Example:\n  trilith agent readmit db-1 --reason 'restored from its image'"
    )]
    Readmit {
        /// The node's name
        node: String,
        /// Why, for the record
        #[arg(long, value_parser = reason)]
        reason: String,
    },
}

#[derive(Debug, Clone, Args)]
pub struct DemoArguments {
    /// Use this TPM instead of a private emulated one, as `/dev/tpmrm0`
    #[arg(long, value_name = "DEVICE")]
    pub tpm: Option<PathBuf>,
    /// Leave everything running at the end and print commands to look around
    #[arg(long)]
    pub hold: bool,
    /// Folder of the demo's programs; by default this binary's own
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Keep the demo's folder, with every log and file in it
    #[arg(long)]
    pub keep: bool,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token that lets one machine join once, and print the pin that its agent needs
    #[command(
        after_long_help = "Example:\n  trilith token create --node db-1 --pool databases --ttl 600"
    )]
    Create {
        /// The name that the machine will have
        #[arg(long)]
        node: String,
        /// The pool that the machine will be in
        #[arg(long)]
        pool: String,
        /// Seconds until the token is worth nothing: 1 to 604800, a week
        #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=604_800))]
        ttl: u32,
    },
}

#[derive(Debug, Subcommand)]
pub enum TpmCommand {
    /// Print the digest of the endorsement key, which `references/` pins, and whether it has a certificate
    #[command(
        after_long_help = "Examples:\n  trilith tpm show\n  trilith tpm show --tpm swtpm:/tmp/tpm.sock"
    )]
    Show {
        /// As in agent.toml: `device:/dev/tpmrm0`, `swtpm:/path/to/socket`
        #[arg(long, default_value = "device:/dev/tpmrm0")]
        tpm: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the JSON Schema of a configuration file, as `docs/reference` has it too
    #[command(after_long_help = "Example:\n  trilith config schema agent > agent.schema.json")]
    Schema {
        /// Whose file
        role: Role,
    },
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum Role {
    Server,
    Agent,
    Gateway,
    Pdp,
    Witness,
    Monitor,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum RevocationKind {
    Identity,
    Serial,
    Machine,
}

#[derive(Debug, Args)]
pub struct RevokeArguments {
    /// What VALUE names
    pub kind: RevocationKind,
    /// The identity's path, the SVID's serial or the node's name
    pub value: String,
    /// Why, for the record
    #[arg(long, value_parser = reason)]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// The identity's path, as `payments/api`, or its SPIFFE ID
    pub identity: String,
    /// Why, for the record
    #[arg(long, value_parser = reason)]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct RecoverArguments {
    /// Why, for the record
    #[arg(long, value_parser = reason)]
    pub reason: String,
}

#[derive(Debug, Clone, Args)]
pub struct WorkloadSocket {
    /// The agent's Workload API
    #[arg(
        long,
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "unix:///run/trilith/workload.sock",
        value_name = "URI"
    )]
    pub socket: String,
}

#[derive(Debug, Args)]
pub struct ExecArguments {
    #[command(flatten)]
    pub socket: WorkloadSocket,
    /// Which identity, where there are several
    #[arg(long, value_name = "SPIFFE_ID")]
    pub identity: Option<String>,
    /// Fail after so many seconds without an identity; without this, wait for one
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// The program and its arguments
    #[arg(trailing_var_arg = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

#[derive(Debug, Args)]
pub struct FilesArguments {
    #[command(flatten)]
    pub socket: WorkloadSocket,
    /// Which identity, where there are several
    #[arg(long, value_name = "SPIFFE_ID")]
    pub identity: Option<String>,
    /// Fail after so many seconds without an identity; without this, wait for one
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
    /// Folder for `svid.pem`, `key.pem` and `bundle.pem`; made with mode 0700 if it is not there
    #[arg(long, value_name = "DIR")]
    pub directory: PathBuf,
    /// User that owns the files
    #[arg(long)]
    pub owner: Option<String>,
    /// Mode of the files; the key never gets more than this
    #[arg(long, default_value = "0600")]
    pub mode: String,
    /// Command to run after each change
    #[arg(long, value_name = "CMD")]
    pub reload: Option<String>,
    /// Write once and end
    #[arg(long)]
    pub once: bool,
}

/// The same refusal, whose usage does not show what the environment says as if it had to be given.
fn without_environment<W: Into<std::ffi::OsString> + Clone>(
    error: clap::Error,
    words: &[W],
) -> clap::Error {
    use clap::builder::{OsStr, Resettable};
    if !error.use_stderr() {
        return error;
    }
    let unset = |argument: clap::Arg| argument.env(Resettable::<OsStr>::Reset);
    let mut tree = command()
        .mut_arg("admin_socket", unset)
        .mut_arg("admin_server", unset);
    match tree.try_get_matches_from_mut(words.iter().cloned()) {
        Err(same) if same.kind() == error.kind() => same,
        _ => error,
    }
}

impl Arguments {
    /// Reads the words of a command line, the program's name first.
    ///
    /// # Errors
    /// What clap finds, and an admin socket for a role, which has what it needs from its configuration: that
    /// flag is for those who ask. The environment variable may be there for them.
    pub fn read<W: Into<std::ffi::OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        let words: Vec<W> = words.into_iter().collect();
        let mut tree = command();
        let matches = tree
            .try_get_matches_from_mut(words.iter().cloned())
            .map_err(|error| without_environment(error, &words))?;
        let mut arguments = <Self as clap::FromArgMatches>::from_arg_matches(&matches)
            .map_err(|error| error.format(&mut tree))?;
        let source = matches.value_source("admin_socket");
        if source == Some(clap::parser::ValueSource::DefaultValue) {
            let socket = &mut arguments.global.admin_socket;
            if let Some(other) = elsewhere(socket, Path::new(SERVERS_OWN)) {
                *socket = other;
            }
        }
        let by_flag =
            |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
        let given = by_flag("admin_socket") || by_flag("admin_server");
        if by_flag("admin_socket") && by_flag("admin_server") {
            return Err(tree.error(
                clap::error::ErrorKind::ArgumentConflict,
                "--admin-socket is for the server of this machine, --admin-server for one over the network: give one",
            ));
        }
        match arguments
            .command
            .says_where_its_server_is()
            .filter(|_| given)
        {
            None => Ok(arguments),
            Some(said) => Err(tree.error(
                clap::error::ErrorKind::ArgumentConflict,
                format!(
                    "--admin-socket and --admin-server are for commands that ask a server; {said}"
                ),
            )),
        }
    }
}

impl Command {
    /// Of a role, what says so instead of a flag.
    const fn says_where_its_server_is(&self) -> Option<&'static str> {
        match self {
            Self::Server(_) => Some(
                "where the server itself has its socket, `admin_socket` in server.toml says \
                 (admin.sock in its data_dir by default)",
            ),
            Self::Agent(AgentArguments { command: None, .. }) => {
                Some("where the node agent's server is, `server` in agent.toml says")
            }
            Self::Gateway(_) => {
                Some("where the gateway's server is, `server` in gateway.toml says")
            }
            Self::Witness(_) => Some("a witness asks no server"),
            Self::Monitor(_) => Some("where the log is, `urls` or `folder` in monitor.toml say"),
            Self::Pdp(_) => Some("where the decision point's server is, `server` in pdp.toml says"),
            _ => None,
        }
    }
}

/// Where a server has its socket that was set up as the documentation does and told nothing of it.
const SERVERS_OWN: &str = "/var/lib/trilith/server/admin.sock";

/// `other`, if it is there and the `usual` place has nothing. A folder that may not be entered is there: whoever
/// asks is told so then.
fn elsewhere(usual: &Path, other: &Path) -> Option<PathBuf> {
    let absent = |path: &Path| {
        std::fs::symlink_metadata(path)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    };
    (absent(usual) && !absent(other)).then(|| other.to_owned())
}

/// The whole command tree, for help snapshots and the reference.
#[must_use]
pub fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests;
