//! Packs: made, checked, and what to trust when one is.

use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "question")]
pub struct PackQuestion {
    /// One recorded decision or record, as `LEDGER:INDEX`
    #[arg(long, value_name = "RECORD")]
    pub record: Option<String>,
    /// Everything that an identity accessed: of each gateway's ledger its newest 10,000 records. The pack
    /// holds ledgers of at most 65,536 records whole, 64 MiB in all, and so shows that nothing is left out
    #[arg(long, value_name = "IDENTITY")]
    pub accesses: Option<String>,
    /// The issuance of one SVID, by serial; with the server's whole ledger, within the same limits
    #[arg(long, value_name = "SERIAL")]
    pub issuance: Option<String>,
}

#[derive(Debug, Args)]
pub struct PackArguments {
    #[command(flatten)]
    pub question: PackQuestion,
    /// Where to write the pack
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

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
    /// Put this policy of logs, witnesses and a quorum (c2sp.org/tlog-policy) into the trust file; else the one of
    /// the server, if it has one
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
}
