//! `trilith server snapshot`, `rebuild-state` and `prune`.

use super::Moment;
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct RebuildArguments {
    /// The configuration file of the server
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Compute it from the first record, and say whether the newest snapshot gives the same
    #[arg(long, conflicts_with_all = ["check", "copy"])]
    pub from_first_record: bool,
    /// Change nothing: compare the snapshots with what the records of --copy give; the server may run
    #[arg(long, requires = "copy")]
    pub check: bool,
    /// A copy of the data directory that has every record: snapshots are compared with what its records give, those
    /// whose blob is lost are made again, and so is the file `apart` of a pruned ledger
    #[arg(long, value_name = "DIR")]
    pub copy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ServerPruneArguments {
    /// The configuration file of the server
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only records from before then, a day ago or earlier: `400d`, `2026-05-12`, `2026-05-12T08:30:00Z`
    #[arg(long, value_name = "TIME")]
    pub before: Moment,
    /// Why, or by which policy: it stays in the ledger
    #[arg(long, value_name = "TEXT", value_parser = super::reason)]
    pub reason: String,
    /// A copy of the data directory that has every record which goes; without it, one of `witnesses.mirrors` is
    /// asked, and has to show each of them
    #[arg(long, value_name = "DIR")]
    pub copy: Option<PathBuf>,
    /// Do it; there is no way back
    #[arg(long)]
    pub yes: bool,
}
