//! `ledger`: searching records, showing one, counting accesses.

use super::{AccessesArguments, MaybeFolderArguments, Moment};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print records that match, oldest first
    #[command(
        after_long_help = "Examples:\n  trilith ledger search --identity agents/helper --type outcome\n  trilith ledger search --ledger '*' --resource shop/public/cards --json\n  trilith ledger search --folder /var/lib/trilith/server --machine db-7 --decision deny --since 30d\n  trilith ledger search --folder /var/lib/trilith/server --resource 'shop/public/*' --limit 100 --receipts --verify --json\n  trilith ledger search --folder /var/lib/trilith/server --ledger server --type issuance --verify --from-url https://ledger.example.org"
    )]
    Search(Box<SearchArguments>),
    /// Print one record whole
    #[command(after_long_help = "Example:\n  trilith ledger show server:12")]
    Show {
        /// `LEDGER:INDEX`, with `server` for the server's ledger
        record: String,
    },
    /// Count what an identity has read and modified, or who touched a resource
    Accesses(AccessesArguments),
    /// Say whether numbered events are missing, and prove what was looked at
    #[command(
        after_long_help = "Exit codes: 0 nothing is missing that no record accounts for, 3 something is.\n\nExamples:\n  trilith ledger completeness --folder /var/lib/trilith/server\n  trilith ledger completeness --folder /var/lib/trilith/server --from 30d --receipts --json"
    )]
    Completeness(CompletenessArguments),
    /// Hand records on to a file, Parquet, a pipe, an HTTP collector, a syslog server or Kafka, each at least once
    #[command(
        after_long_help = "Examples:\n  trilith ledger export --folder /var/lib/trilith/server --to stdout --format ocsf\n  trilith ledger export --folder /var/lib/trilith/server --to file:/var/log/trilith/records.jsonl --cursor /var/lib/trilith-export/cursor.json --follow\n  trilith ledger export --folder /var/lib/trilith/server --to https://collector.example.org/events --header-file /etc/trilith/collector.headers --cursor cursor.json --follow\n  trilith ledger export --folder /var/lib/trilith/server --to kafka+tls://broker.example.org:9093/trilith.records --cursor cursor.json --follow\n  trilith ledger export --folder /var/lib/trilith/server --to parquet:records --cursor cursor.json"
    )]
    Export(ExportArguments),
    /// Erase what records name by commitment or digest; every record and proof stays
    #[command(
        after_long_help = "Without --yes it prints what would go, what has to stay and why, and how many records say it in clear.\n\nExamples:\n  trilith ledger erase --identity people/ada --reason 'case 2026-117'\n  trilith ledger erase --identity people/ada --reason 'case 2026-117' --yes\n  trilith ledger erase --record 41 --record 57 --reason 'case 2026-118' --yes\n  trilith ledger erase --identity people/ada --reason 'case 2026-117' --author bob --keys ~/.trilith/author --sign-to bob.json"
    )]
    Erase(EraseArguments),
    /// Bring a log's entries to a mirror of it (c2sp.org/tlog-mirror), and print the mirror's signature lines
    #[command(
        after_long_help = "A server sends its own ledger by `witnesses.mirrors` in server.toml; this is for other logs, and for ledgers of gateways.\n\nExamples:\n  trilith ledger mirror --from https://log.example.org --key log.example.org+1234abcd+AXn… --to https://mirror.example.net\n  trilith ledger mirror --from /srv/log --key log.example.org+1234abcd+AXn… --to https://mirror.example.net --follow"
    )]
    Mirror(MirrorArguments),
    /// Take away the oldest records of a gateway or decision point that the server has mirrored; a record says so
    #[command(
        after_long_help = "The gateway or decision point must not run. Without --yes it prints what would go. Whole segments of 64 MiB go; hashes stay, so that everything that is left is still proven, and the server's mirror keeps every record.\n\nExamples:\n  trilith ledger prune --folder /var/lib/trilith/gateway --before 90d --reason 'retention 90 days'\n  trilith ledger prune --folder /var/lib/trilith/gateway --before 90d --reason 'retention 90 days' --yes"
    )]
    Prune(PruneArguments),
    /// End the ledger of a gateway or decision point, and go on as a new log with a new key, signed by both
    #[command(
        name = "new-log",
        after_long_help = "The gateway or decision point must not run. All records stay where they are; the server takes the new key when it connects, and records that. Interrupted, it is run again; run again when it is done, it says so and does nothing. The server's own ledger has `trilith server new-log`.\n\nExamples:\n  trilith ledger new-log --folder /var/lib/trilith/gateway --reason 'the key is replaced each year'"
    )]
    NewLog(LedgerNewLogArguments),
}

#[derive(Debug, Args)]
pub struct LedgerNewLogArguments {
    /// The `data_dir` of the gateway or decision point, which does not run
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = super::reason)]
    pub reason: String,
}

#[derive(Debug, Args)]
pub struct PruneArguments {
    /// The `data_dir` of the gateway or decision point, which does not run
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// Only records from before then, a day ago or earlier: `90d`, `2026-05-12`, `2026-05-12T08:30:00Z`
    #[arg(long, value_name = "TIME")]
    pub before: Moment,
    /// Why, or by which policy: it stays in the ledger
    #[arg(long, value_name = "TEXT", value_parser = super::reason)]
    pub reason: String,
    /// Do it; there is no way back
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct EraseArguments {
    /// Everything of this identity: path or SPIFFE ID
    #[arg(long, value_name = "PATH", required_unless_present = "records")]
    pub identity: Option<String>,
    /// What this record of the server's ledger names; may be given more than once
    #[arg(long = "record", value_name = "INDEX")]
    pub records: Vec<u64>,
    /// Why, or at whose request: it stays in the ledger, so the number of a case and no name
    #[arg(long, value_name = "TEXT", value_parser = super::reason)]
    pub reason: String,
    /// Do it; there is no way back
    #[arg(long, conflicts_with = "sign_to")]
    pub yes: bool,
    /// What another author has signed with --sign-to; more than once if need be
    #[arg(long, value_name = "FILE")]
    pub approval: Vec<PathBuf>,
    /// Sign as this author of the estate in force
    #[arg(long, value_name = "NAME", requires = "keys")]
    pub author: Option<String>,
    /// Folder of the author's key
    #[arg(long, value_name = "KEYS", requires = "author")]
    pub keys: Option<PathBuf>,
    /// Only sign, for a day, and write it there for whoever erases
    #[arg(long, value_name = "FILE", requires = "author")]
    pub sign_to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct MirrorArguments {
    /// Where the log is read: the address of its tiles, a folder of them, or the folder of one ledger
    #[arg(long, value_name = "URL|DIR")]
    pub from: String,
    /// Of a log that was pruned, the folder of a copy: entries that are gone at --from are taken from there
    #[arg(long, value_name = "DIR")]
    pub copy: Option<String>,
    /// The log's verifier key
    #[arg(long, value_name = "VKEY")]
    pub key: String,
    /// The first line of the log's checkpoints, where it is not the key's name
    #[arg(long)]
    pub origin: Option<String>,
    /// The mirror's submission prefix
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// A verifier key of the mirror: without a line of it, the log is not mirrored; may be given more than once
    #[arg(long = "mirror-key", value_name = "VKEY")]
    pub mirror_keys: Vec<String>,
    /// PEM file of the authorities that may certify either address; without it, the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Go on with what the log adds, and after failures, until it is stopped
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Args)]
pub struct CompletenessArguments {
    /// The `data_dir` of a server, gateway or decision point, whose process may be running, or the folder of
    /// one ledger; may be given more than once
    #[arg(long = "folder", value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// Only gaps that end then or later: `30d`, `12h`, `2026-05-12`, `2026-05-12T08:30:00Z`
    #[arg(long, value_name = "TIME")]
    pub from: Option<Moment>,
    /// Only gaps that begin before then
    #[arg(long, value_name = "TIME")]
    pub to: Option<Moment>,
    /// With the receipts of the records before and after each gap (in JSON)
    #[arg(long)]
    pub receipts: bool,
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The `data_dir` of a server, gateway or decision point, whose process may be running, or the folder of
    /// one ledger; may be given more than once
    #[arg(long = "folder", value_name = "DIR", required = true)]
    pub folders: Vec<PathBuf>,
    /// Where to: `stdout`, `file:PATH`, `https://HOST/PATH`, `parquet:FOLDER`, `syslog+tls:HOST:PORT`,
    /// `kafka+tls://HOST:PORT/TOPIC`; plain `http://`, `syslog:` and `kafka://`
    /// to addresses of this machine
    #[arg(long, value_name = "SINK")]
    pub to: String,
    /// `cloudevents` (1.0) or `ocsf` (1.3.0)
    #[arg(long, default_value = "cloudevents")]
    pub format: String,
    /// Keep here what was taken, and go on from there
    #[arg(long, value_name = "FILE")]
    pub cursor: Option<PathBuf>,
    /// Go on with new records until it is stopped
    #[arg(long)]
    pub follow: bool,
    /// Only this ledger: `server`, a gateway's name or a whole origin; may be given more than once
    #[arg(long = "ledger", value_name = "NAME")]
    pub ledgers: Vec<String>,
    /// PEM file of the authorities that may certify the collector; without it, the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Send the headers in this file as well, one `Name: value` a line
    #[arg(long, value_name = "FILE")]
    pub header_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SearchArguments {
    /// `server`, a gateway's name, or `*` for every ledger
    #[arg(long, default_value = "*")]
    pub ledger: String,
    /// Only records of this type; may be given more than once
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Only records of this identity
    #[arg(long)]
    pub identity: Option<String>,
    /// Only records that touch this resource
    #[arg(long)]
    pub resource: Option<String>,
    /// Start at this index
    #[arg(long, default_value_t = 0)]
    pub from: u64,
    /// Stop after this many; 0 means all
    #[arg(long, default_value_t = 0)]
    pub limit: u64,
    #[command(flatten)]
    pub at: MaybeFolderArguments,
    /// Only records of this machine, and of the identities that were issued on it; with --folder
    #[arg(long, value_name = "MACHINE")]
    pub machine: Option<String>,
    /// Only records of code with this digest, and of the identities that were issued to it; with --folder
    #[arg(long, value_name = "SHA256")]
    pub code: Option<String>,
    /// Only records of this action; with --folder
    #[arg(long)]
    pub action: Option<String>,
    /// Only what was allowed or denied; with --folder
    #[arg(long, value_name = "allow|deny")]
    pub decision: Option<String>,
    /// Only records that name this policy by its id; with --folder
    #[arg(long, value_name = "ID")]
    pub policy: Option<String>,
    /// Only records of what was done on behalf of this identity, proven or told; with --folder
    #[arg(long, value_name = "IDENTITY")]
    pub on_behalf_of: Option<String>,
    /// Only records from then on: `30d`, `12h`, `2026-05-12`, `2026-05-12T08:30:00Z`; with --folder
    #[arg(long, value_name = "TIME")]
    pub since: Option<Moment>,
    /// Only records before then; with --folder
    #[arg(long, value_name = "TIME")]
    pub until: Option<Moment>,
    /// Only records made under this version of the estate; with --folder
    #[arg(long, value_name = "VERSION")]
    pub estate_version: Option<String>,
    /// Go on where an answer said that there is more; with --folder
    #[arg(long, value_name = "CURSOR")]
    pub cursor: Option<String>,
    /// With proof for each record that it is in its ledger (in JSON); with --folder
    #[arg(long)]
    pub receipts: bool,
    /// Derive the answer again from every record of the ledgers, and say if the index lied; with --folder
    #[arg(long, conflicts_with = "pdp")]
    pub verify: bool,
    /// With --verify: from the tiles of this ledger that are served there, and not from the folder. Of one --ledger
    #[arg(long, value_name = "URL", requires = "verify")]
    pub from_url: Option<String>,
    /// PEM file of the authorities that may certify --from-url; without it, the system's
    #[arg(long, value_name = "FILE", requires = "from_url")]
    pub from_ca_file: Option<PathBuf>,
}

impl SearchArguments {
    /// An option that was given and that the server is not asked with.
    pub(crate) fn only_of_folders(&self) -> Option<&'static str> {
        let given = [
            ("--machine", self.machine.is_some()),
            ("--code", self.code.is_some()),
            ("--action", self.action.is_some()),
            ("--decision", self.decision.is_some()),
            ("--policy", self.policy.is_some()),
            ("--on-behalf-of", self.on_behalf_of.is_some()),
            ("--since", self.since.is_some()),
            ("--until", self.until.is_some()),
            ("--estate-version", self.estate_version.is_some()),
            ("--cursor", self.cursor.is_some()),
            ("--receipts", self.receipts),
            ("--verify", self.verify),
        ];
        given
            .into_iter()
            .find(|(_, given)| *given)
            .map(|(name, _)| name)
    }
}
