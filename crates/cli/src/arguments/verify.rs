//! Checking what was handed on, and saying what to trust.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub struct VerifyArguments {
    /// The file that `trilith pack` wrote, or a .tlog-proof of any log that the trust file names
    pub pack: PathBuf,
    /// What you trust: trust domain, ledger key, root certificates, and the policy of your witnesses
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// For a .tlog-proof: the record that is proved, byte for byte, unless the proof carries it as `extra`
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Print every record of a pack as it stands, besides the account of what was done
    #[arg(long)]
    pub raw: bool,
}

#[derive(Debug, Args)]
pub struct TrustArguments {
    /// Put this policy of logs, witnesses and a quorum (c2sp.org/tlog-policy) into the trust file
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}
