//! `ledger`: searching records, showing one, counting accesses.

use super::{AccessesArguments, MaybeFolderArguments, Moment};
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Print records that match, oldest first
    #[command(
        after_long_help = "Examples:\n  trilith ledger search --identity agents/helper --type outcome\n  trilith ledger search --ledger '*' --resource shop/public/cards --json\n  trilith ledger search --folder /var/lib/trilith/server --machine db-7 --decision deny --since 30d\n  trilith ledger search --folder /var/lib/trilith/server --resource 'shop/public/*' --limit 100 --receipts --verify --json"
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
