//! `trilith server new-log`.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct NewLogArguments {
    /// The configuration file of the server
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Why, for the record
    #[arg(long, value_parser = super::reason)]
    pub reason: String,
    /// Give up what was published and is not in this copy of the ledger; a `gap` record says so for good
    #[arg(long)]
    pub give_up: bool,
    /// Write the new key and how it follows from the old ones: what witnesses take as `lineage`, before the server
    /// starts. Without root certificates: for packs and monitors print `trilith trust` at the running server
    #[arg(long, value_name = "FILE")]
    pub lineage: Option<PathBuf>,
}
