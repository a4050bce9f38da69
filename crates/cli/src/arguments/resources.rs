//! The commands under `resources`: what is protected.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum ResourcesCommand {
    /// Declare in an estate's files what a live system has; what people wrote there stays as it is
    #[command(subcommand)]
    Sync(SyncCommand),
}

#[derive(Debug, Subcommand)]
pub enum SyncCommand {
    /// Schemas, tables, views, columns and functions of a PostgreSQL database
    #[command(
        after_long_help = "The password, if there is one, comes from --password-file or PGPASSWORD. Any role that may connect will do. Over a socket PostgreSQL mostly goes by who runs the command (peer): as root or yourself, put `sudo -u postgres` before the last two.\n\nExamples:\n  trilith resources sync postgres --url 'postgresql://reader@db.example.org/shop' --ca-file ca.pem --password-file pw --estate estate\n  trilith resources sync postgres --url 'postgresql://postgres@/shop?host=/run/postgresql' --estate estate --check\n  trilith resources sync postgres --url 'postgresql://postgres@/shop?host=/run/postgresql' --schema public --prune"
    )]
    Postgres(PostgresArguments),
    /// Routes of an API, from its OpenAPI document in JSON
    #[command(
        after_long_help = "Examples:\n  trilith resources sync openapi --file openapi.json --api billing --estate estate\n  trilith resources sync openapi --file openapi.json --api billing --base /v1 --check"
    )]
    Openapi(OpenapiArguments),
    /// Tools of an MCP server, each with the digest of its definition as its label `definition`
    #[command(
        after_long_help = "The server is asked by revision 2026-07-28, and by 2025-11-25 if it does not answer that.\n\nExamples:\n  trilith resources sync mcp --server notes --url https://notes.example.org/mcp --token-file token --estate estate\n  trilith resources sync mcp --server files --estate estate --command npx -y @modelcontextprotocol/server-filesystem /srv\n  trilith resources sync mcp --server notes --url http://127.0.0.1:8000/mcp --accept-changed"
    )]
    Mcp(McpArguments),
}

/// What every source is asked.
#[derive(Debug, Args)]
pub struct SyncArguments {
    /// Folder of the estate
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub estate: PathBuf,
    /// Write nothing; exit with 1 if there is something to do
    #[arg(long)]
    pub check: bool,
    /// Take out what is declared and gone; without this it is only reported
    #[arg(long)]
    pub prune: bool,
    /// Let what is new have the classification of what it lies in, instead of the most restricted
    #[arg(long)]
    pub inherit: bool,
}

#[derive(Debug, Args)]
pub struct PostgresArguments {
    #[command(flatten)]
    pub sync: SyncArguments,
    /// Where and as whom: postgresql://ROLE@HOST[:PORT]/DATABASE, or with ?host=FOLDER for a Unix socket
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// What the estate calls the database; by default what the server calls it
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// Only this schema; may be given more than once
    #[arg(long = "schema", value_name = "SCHEMA")]
    pub schemas: Vec<String>,
    /// The system's schemas as well: pg_catalog, information_schema
    #[arg(long)]
    pub system: bool,
    /// PEM file of the authorities that may certify the server; not for a Unix socket
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// File with the role's password; without it PGPASSWORD, and else none
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct OpenapiArguments {
    #[command(flatten)]
    pub sync: SyncArguments,
    /// The document: OpenAPI 3 or Swagger 2.0, in JSON
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    /// What the estate calls the API
    #[arg(long, value_name = "NAME")]
    pub api: String,
    /// What stands before each path; by default the path on which the document's servers agree
    #[arg(long, value_name = "PATH")]
    pub base: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "endpoint", args = ["url", "command"])]
pub struct McpArguments {
    #[command(flatten)]
    pub sync: SyncArguments,
    /// What the estate calls the server
    #[arg(long, value_name = "NAME")]
    pub server: String,
    /// The server's address: https://…, or http://… on this machine
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// A program that is the server, over its standard streams, with all that it is given: comes last
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// PEM file of the authorities that may certify the server; by default those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub ca_file: Option<PathBuf>,
    /// File with a bearer token for the server
    #[arg(long, value_name = "FILE", conflicts_with = "command")]
    pub token_file: Option<PathBuf>,
    /// Which revision of MCP to speak
    #[arg(long, value_enum, default_value_t = ProtocolArgument::Either)]
    pub protocol: ProtocolArgument,
    /// Take definitions that changed as the ones that count from now on
    #[arg(long)]
    pub accept_changed: bool,
    /// Seconds that the server may take in all
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub timeout: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ProtocolArgument {
    Either,
    #[value(name = "2026-07-28")]
    Stateless,
    #[value(name = "2025-11-25")]
    Initialized,
}
