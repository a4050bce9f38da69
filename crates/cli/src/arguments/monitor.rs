//! `trilith monitor`.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["config", "misbehaviour", "label_key"]))]
pub struct MonitorArguments {
    /// monitor.toml: the log, its witnesses, and what is expected of what is yours
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Look once and end, as for cron; without it, look every `interval_s` until a signal
    #[arg(long, requires = "config")]
    pub once: bool,
    /// Check a file that shows that a log has signed two histories, and nothing else; it ends with 5 if it is one
    #[arg(long, value_name = "FILE")]
    pub misbehaviour: Option<PathBuf>,
    /// Make a key for blinded labels in a new file: for `[labels]` of monitor.toml, and `[[label]]` of the log's server
    #[arg(long, value_name = "FILE")]
    pub label_key: Option<PathBuf>,
}
