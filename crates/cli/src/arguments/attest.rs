//! The commands under `attest`: verdicts, the boots behind them, and estates tried on them.

use attest_tee::Artefact;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum AttestCommand {
    /// Say what a machine booted and ran, what was wrong with it, what would have been good, and what to run
    #[command(
        after_long_help = "Of files, nobody vouches for what is said: they are for looking at a machine before it is enrolled.\n\nExamples:\n  trilith attest explain db-1\n  trilith attest explain server:7 --json\n  trilith attest explain --event-log /sys/kernel/security/tpm0/binary_bios_measurements --ima /sys/kernel/security/ima/binary_runtime_measurements --pcrs /sys/class/tpm/tpm0/pcr-sha256 --estate ./estate --ring canary"
    )]
    Explain(ExplainArguments),
    /// Compare two boots: PCRs, events, files and facts that differ
    #[command(
        after_long_help = "A and B are verdicts (server:7), nodes (db-1), what `attest explain --json` printed (./db-1.json), event logs\n(./binary_bios_measurements), or folders with copies of the kernel's files by their names\n(binary_bios_measurements, binary_runtime_measurements). What is no record and no node has a / in it.\n\nExamples:\n  trilith attest diff server:7 server:19\n  trilith attest diff ./before.json db-1\n  trilith attest diff ./copy-of-db-1 ./copy-of-db-2 --json"
    )]
    Diff(DiffArguments),
    /// Try an estate that is not in force on the evidence of machines; exit code 3 if one would be evicted
    #[command(
        after_long_help = "The judgement is that of a join. What a kernel measured since a machine last proved itself whole is not kept.\nThe machine sends it again when the estate is applied.\n\nExamples:\n  trilith attest dry-run --estate ./estate --all\n  trilith attest dry-run --estate ./estate --node db-1\n  trilith attest dry-run --estate ./estate --all --since server:1000"
    )]
    DryRun(DryRunArguments),
    /// Ask a machine for a quote now and wait for what comes of it; exit code 3 if it is evicted for its answer
    #[command(after_long_help = "Example:\n  trilith attest ask db-1")]
    Ask {
        /// The node's name
        node: String,
    },
    /// Print a signed statement about a machine that stands now, for relying parties that are not Trilith
    /// (EAR, a JWT by a key of the trust bundle)
    #[command(
        after_long_help = "Examples:\n  trilith attest ear db-1\n  trilith attest ear db-1 --nonce 0a1b2c3d4e5f6071"
    )]
    Ear(EarArguments),
    /// Fill and show a bundle of endorsements of confidential machines, for servers that fetch none
    #[command(subcommand)]
    Endorsements(EndorsementsCommand),
}

#[derive(Debug, Subcommand)]
pub enum EndorsementsCommand {
    /// Fetch documents from AMD and Intel, check them to the vendors' roots, and add them to a bundle
    #[command(
        after_long_help = "Names stand in the refusal of a machine that lacks them. Intel's four documents of a platform go together.\nCopy the bundle to where the server's `tee_endorsements` names it.\n\nExamples:\n  trilith attest endorsements fetch --into endorsements.json snp-crl:milan\n  trilith attest endorsements fetch --into endorsements.json tcb-info:tdx:90c06f000000 qe-identity:tdx pck-crl:platform intel-root-crl\n  trilith attest endorsements fetch --into endorsements.json --intel-url https://pccs.example:8081 --ca pccs.pem tcb-info:tdx:90c06f000000 qe-identity:tdx pck-crl:platform intel-root-crl"
    )]
    Fetch(EndorsementsFetchArguments),
    /// Show what a bundle has, and until when each counts
    #[command(
        after_long_help = "Examples:\n  trilith attest endorsements list endorsements.json\n  trilith attest endorsements list endorsements.json --json"
    )]
    List(EndorsementsListArguments),
}

#[derive(Debug, Args)]
pub struct EndorsementsFetchArguments {
    /// Documents by name
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<Artefact>,
    /// The bundle; it is made if it is not there, and replaced whole
    #[arg(long, value_name = "FILE")]
    pub into: PathBuf,
    /// A mirror of AMD's key server
    #[arg(long, value_name = "URL")]
    pub amd_url: Option<String>,
    /// A mirror of Intel's service, or a caching service (PCCS)
    #[arg(long, value_name = "URL")]
    pub intel_url: Option<String>,
    /// The only authorities that may certify what is connected to, PEM; else those of the system
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The chain of authorities that the documents lead to, PEM; else the vendors' own
    #[arg(long, value_name = "FILE")]
    pub root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct EndorsementsListArguments {
    /// The bundle
    #[arg(value_name = "FILE")]
    pub bundle: PathBuf,
}

#[derive(Debug, Args)]
pub struct EarArguments {
    /// The node's name
    pub node: String,
    /// What the relying party sent: 8 to 64 bytes, hexadecimal
    #[arg(long, value_name = "HEX", value_parser = hex_bytes)]
    pub nonce: Option<Nonce>,
}

/// Bytes that were typed in hexadecimal digits.
#[derive(Debug, Clone)]
pub struct Nonce(pub Vec<u8>);

fn hex_bytes(text: &str) -> Result<Nonce, String> {
    let bytes = crypto::hex::decode(text);
    bytes
        .map(Nonce)
        .map_err(|_| "expected an even number of hexadecimal digits".to_owned())
}

#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// The verdict's record in the server's ledger, `server:INDEX` or its index alone, or a node, of which it is the newest
    #[arg(value_name = "RECORD|NODE", value_parser = verdict, required_unless_present = "event_log", conflicts_with_all = ["event_log", "ima", "pcrs", "ring"])]
    pub verdict: Option<Verdict>,
    /// Instead of a verdict: an event log, as /sys/kernel/security/tpm0/binary_bios_measurements
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// With --event-log: the kernel's list, as /sys/kernel/security/ima/binary_runtime_measurements
    #[arg(long, value_name = "FILE", requires = "event_log")]
    pub ima: Option<PathBuf>,
    /// With --event-log: the chip's values, which the log is compared with: what tpm2_pcrread prints, or /sys/class/tpm/tpm0/pcr-sha256
    #[arg(long, value_name = "PATH", requires = "event_log")]
    pub pcrs: Option<PathBuf>,
    /// The estate's folder: commands in the answer name it so, and files are compared with its reference values
    #[arg(long, value_name = "DIR")]
    pub estate: Option<PathBuf>,
    /// With --event-log: the pool that the machine is to stand in
    #[arg(long, value_name = "POOL", requires = "event_log")]
    pub ring: Option<String>,
}

#[derive(Debug, Args)]
pub struct DiffArguments {
    /// A verdict, a node, or a path with a / in it
    #[arg(value_parser = side)]
    pub a: Side,
    /// What it is compared with
    #[arg(value_parser = side)]
    pub b: Side,
}

#[derive(Debug, Args)]
pub struct DryRunArguments {
    /// Folder of the estate
    #[arg(long, value_name = "DIR")]
    pub estate: PathBuf,
    /// Only this node
    #[arg(long, required_unless_present = "all", conflicts_with = "all")]
    pub node: Option<String>,
    /// Every node
    #[arg(long)]
    pub all: bool,
    /// Refused verdicts from this record on as well
    #[arg(long, value_name = "RECORD", value_parser = record)]
    pub since: Option<u64>,
}

/// Which verdict is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Record(u64),
    /// The newest of a node.
    Node(String),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    Verdict(Verdict),
    Path(PathBuf),
}

fn record(text: &str) -> Result<u64, String> {
    let index = text.strip_prefix("server:").unwrap_or(text);
    index.parse().map_err(|_| {
        "verdicts are records of the server's ledger: name one as server:20, or 20".to_owned()
    })
}

fn verdict(text: &str) -> Result<Verdict, String> {
    if text.contains(':') || text.parse::<u64>().is_ok() {
        return record(text).map(Verdict::Record);
    }
    let is_name = |one: char| one.is_ascii_alphanumeric() || "._-".contains(one);
    if text.is_empty() || !text.chars().all(is_name) {
        return Err(
            "name a record, as server:20, or a node, as `trilith agent list` does".to_owned(),
        );
    }
    Ok(Verdict::Node(text.to_owned()))
}

fn side(text: &str) -> Result<Side, String> {
    if text.contains('/') {
        return Ok(Side::Path(PathBuf::from(text)));
    }
    verdict(text).map(Side::Verdict)
}
