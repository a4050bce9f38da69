//! `delegate` and `delegation`.

use super::WorkloadSocket;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct DelegateArguments {
    #[command(flatten)]
    pub socket: WorkloadSocket,
    /// Whom it lets act: the path of an identity, or its SPIFFE ID
    #[arg(long, value_name = "IDENTITY")]
    pub to: String,
    /// The token by which this workload acts; `-` reads standard input. Without it the person delegates who has logged in
    #[arg(long, value_name = "FILE", requires = "server")]
    pub token: Option<PathBuf>,
    /// With --token: where node agents reach the server
    #[arg(long, value_name = "HOST:PORT", requires = "token")]
    pub server: Option<String>,
    /// Only for this action; repeat for more. Any, without it
    #[arg(long = "action", value_name = "ACTION")]
    pub actions: Vec<String>,
    /// Only for this resource and what lies in it; repeat for more. Any, without it
    #[arg(long = "resource", value_name = "RESOURCE")]
    pub resources: Vec<String>,
    /// For so many seconds at most; without it as long as it may last
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 0,
        hide_default_value = true
    )]
    pub ttl: u64,
    /// Fail after so many seconds without an identity; without this, wait for one
    #[arg(long, value_name = "SECONDS")]
    pub wait: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub enum DelegationCommand {
    /// List the delegations that have not ended, and whether each stands
    #[command(
        after_long_help = "Examples:\n  trilith delegation list\n  trilith delegation list people/ada --json\n  trilith --admin-server server.example.org:7443 delegation list --own"
    )]
    List {
        /// Only those with this identity in the chain: its path, or its SPIFFE ID
        identity: Option<String>,
        /// Those of the chains that you began, by your login and not as an administrator
        #[arg(long, conflicts_with = "identity")]
        own: bool,
    },
    /// Take a delegation back, and with it all that rest on it, at once
    ///
    /// With --admin-server whoever has logged in takes back what it let others do itself; anything else is for
    /// administrators.
    #[command(
        after_long_help = "Examples:\n  trilith delegation revoke 4f2d9c7a1b3e5d60718293a4b5c6d7e8 --reason 'the task is over'\n  trilith --admin-server server.example.org:7443 delegation revoke 4f2d9c7a1b3e5d60718293a4b5c6d7e8 --reason 'the task is over'"
    )]
    Revoke {
        /// Its `jti`, as `delegation list` shows it
        jti: String,
        /// Why, for the record
        #[arg(long, value_parser = super::reason)]
        reason: String,
    },
}
