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
}
