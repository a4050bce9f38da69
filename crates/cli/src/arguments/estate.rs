//! The commands under `estate`, and the questions that are put to one.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub enum EstateCommand {
    /// Show what applying DIR would change, and whether the invariants hold
    #[command(
        after_long_help = "Examples:\n  trilith estate plan ./estate\n  trilith estate plan ./estate --markdown > plan.md\n  trilith estate plan ./estate --replay 30 --folder /var/lib/trilith/server\n  trilith estate plan ./estate --limit 200 --json"
    )]
    Plan {
        /// Folder of the estate
        directory: PathBuf,
        /// As GitHub-flavoured Markdown, for a comment on a pull request
        #[arg(long, conflicts_with_all = ["limit", "after", "lines"])]
        markdown: bool,
        /// Show the accesses of so many days that would change as well, of the records in --folder
        #[arg(
            long,
            value_name = "DAYS",
            requires = "folder",
            conflicts_with = "lines"
        )]
        replay: Option<u64>,
        /// The server's data_dir, with its gateways' records; may be given more than once
        #[arg(long, value_name = "DIR", requires = "replay")]
        folder: Vec<PathBuf>,
        #[command(flatten)]
        part: PartArguments,
    },
    /// Make DIR the current version: atomically, only if every invariant is proved, and recorded
    #[command(
        after_long_help = "Examples:\n  trilith estate apply ./estate --message 'reporting reads orders'\n  trilith estate apply ./estate --reissue --message 'after the incident of 12 May'\n  trilith estate apply ./estate --evict 2 --revoke 14 --message 'the old kernel ends'"
    )]
    Apply {
        /// Folder of the estate
        directory: PathBuf,
        /// Why, for the record
        #[arg(long, short, default_value = "")]
        message: String,
        /// The version that the change was planned against; refused if it is no longer the current one
        #[arg(long, value_name = "VERSION")]
        base: Option<String>,
        /// Have every identity issued anew under it: gateways let in nothing that was issued before.
        /// DIR may be the version in force
        #[arg(long)]
        reissue: bool,
        /// Machines that it may evict, as many as the plan names; refused if there are more by now
        #[arg(long, value_name = "N", default_value_t = 0)]
        evict: u64,
        /// SVIDs that it may revoke, as many as the plan names; asked for where these are more than half of
        /// those that stand, and refused if there are more by now
        #[arg(long, value_name = "N", default_value_t = 0)]
        revoke: u64,
        /// What another author has signed, from `trilith estate approve`; more than once if need be
        #[arg(long, value_name = "FILE")]
        approval: Vec<PathBuf>,
        #[command(flatten)]
        signing: SigningArguments,
    },
    /// Prove the invariants of DIR on this machine; needs cvc5, not the server
    #[command(after_long_help = "Example:\n  trilith estate prove estate --timeout 120")]
    Prove {
        /// Folder of the estate
        directory: PathBuf,
        /// Seconds that the solver may take for each invariant
        #[arg(long, default_value_t = 60)]
        timeout: u64,
        /// Another cvc5, or a Z3, which has to agree on everything that is proved
        #[arg(long, value_name = "SOLVER")]
        second_solver: Option<PathBuf>,
    },
    /// Run the policy tests of DIR on this machine
    #[command(after_long_help = "Example:\n  trilith estate test estate")]
    Test {
        /// Folder of the estate
        directory: PathBuf,
    },
    /// Check DIR without the server: every problem, and what should not stand although it is none, with file,
    /// line and what to do; asks cvc5 as well where it is installed, and exits with 1 if there are errors
    #[command(
        after_long_help = "Examples:\n  trilith estate lint estate\n  trilith estate lint estate --deny warnings --json"
    )]
    Lint(LintArguments),
    /// Write policies and invariants of DIR by Cedar's own formatter, with every comment and meaning kept, and
    /// of TOML the blank space; a file that does not parse is left alone
    #[command(
        after_long_help = "Examples:\n  trilith estate fmt estate\n  trilith estate fmt estate --check"
    )]
    Fmt(FmtArguments),
    /// Write an applied version to a folder
    #[command(
        after_long_help = "Examples:\n  trilith estate export /tmp/estate\n  trilith estate export /tmp/before --version 83b746bf"
    )]
    Export {
        /// Folder to write to: new, or empty
        directory: PathBuf,
        /// The version; the current one by default
        #[arg(long, value_name = "VERSION")]
        version: Option<String>,
    },
    /// Sign, as an author, what DIR takes from invariants: that one is weakened, removed or not proved
    #[command(
        after_long_help = "Example:\n  trilith estate approve ./estate --author bob --keys ~/.trilith/author --out bob.json"
    )]
    Approve {
        /// Folder of the estate
        directory: PathBuf,
        /// Who signs, as estate.toml of the version in force names the author
        #[arg(long, value_name = "NAME")]
        author: String,
        /// Folder of the author's key, from `trilith author key create`
        #[arg(long, value_name = "KEYS")]
        keys: PathBuf,
        /// Hours for which it is good; at most a week
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=168))]
        hours: u64,
        /// Where to write it, for `trilith estate apply --approval`
        #[arg(long, default_value = "approval.json", value_name = "FILE")]
        out: PathBuf,
    },
    /// Say from which record to which an invariant held, by a ledger's folder; needs no server
    #[command(
        after_long_help = "Examples:\n  trilith estate held 'no AI agent ever writes personal data' --data /backup/trilith --trust trust.json\n  trilith estate held 'no AI agent ever writes personal data' --data /backup/trilith --trust trust.json --verify"
    )]
    Held(HeldArguments),
    /// Show what TO allows that FROM does not, and the reverse: a request over any data each way, or the proof that
    /// there is none, and every access of what is declared; needs no server where both are folders
    #[command(
        after_long_help = "Examples:\n  trilith estate diff current ./estate\n  trilith estate diff 83b746bf current --json\n  trilith estate diff ./before ./after --lines"
    )]
    Diff(EstateDiffArguments),
    /// Print the JSON Schema of the estate's files
    #[command(after_long_help = "Example:\n  trilith estate schema > estate.schema.json")]
    Schema,
}

/// Whose signature an apply brings along, made on the spot.
#[derive(Debug, Args)]
pub struct SigningArguments {
    /// Sign as this author what the change takes from invariants
    #[arg(long, value_name = "NAME", requires = "keys")]
    pub author: Option<String>,
    /// Folder of the author's key
    #[arg(long, value_name = "KEYS", requires = "author")]
    pub keys: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct HeldArguments {
    /// The invariant's @id
    pub invariant: String,
    /// The data directory of a server that does not run, or a copy of it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Whom to believe, from `trilith trust`
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// From this record of the server's ledger on
    #[arg(long, value_name = "INDEX", default_value_t = 0)]
    pub from: u64,
    /// Up to this record
    #[arg(long, value_name = "INDEX")]
    pub to: Option<u64>,
    /// Prove each span again by cvc5, from the estates that the records name
    #[arg(long)]
    pub verify: bool,
    /// Seconds that the solver may take for each question
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
}

/// What authors of an estate do with their keys.
#[derive(Debug, Subcommand)]
pub enum AuthorCommand {
    /// An author's key
    #[command(subcommand)]
    Key(AuthorKeyCommand),
}

#[derive(Debug, Subcommand)]
pub enum AuthorKeyCommand {
    /// Make the key in KEYS if there is none, and print what estate.toml has to say of it
    #[command(
        after_long_help = "Example:\n  trilith author key create bob --keys ~/.trilith/author"
    )]
    Create {
        /// The author's name in the estate
        name: String,
        /// Folder of the key: this user's alone, made if it is not there
        #[arg(long, value_name = "KEYS")]
        keys: PathBuf,
    },
}

#[derive(Debug, Args)]
pub struct LintArguments {
    /// Folder of the estate
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Exit with 1 for warnings as well
    #[arg(long, value_name = "WHAT")]
    pub deny: Option<Denied>,
    /// Seconds that the solver may take in all
    #[arg(long, default_value_t = 60)]
    pub timeout: u64,
    #[command(flatten)]
    pub part: PartArguments,
}

#[derive(Debug, Args)]
pub struct EstateDiffArguments {
    /// A folder, `current` for the version that the server has in force, or 8 digits or more of one that it had
    pub from: String,
    /// As FROM
    pub to: String,
    /// Seconds that the solver may take each way
    #[arg(long, default_value_t = 5)]
    pub timeout: u64,
    #[command(flatten)]
    pub part: PartArguments,
}

/// What `--deny` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Denied {
    Warnings,
}

#[derive(Debug, Args)]
pub struct FmtArguments {
    /// Folder of the estate
    #[arg(default_value = ".")]
    pub directory: PathBuf,
    /// Write nothing; exit with 1 if a file would change
    #[arg(long)]
    pub check: bool,
}

#[derive(Debug, Args)]
pub struct WhyArguments {
    /// An identity such as `payments/api`, or the id of a recorded decision such as `pg-1:42`
    pub principal: String,
    /// What it does: `select`, `insert`, `update`, `delete`, `truncate`, `define` or `execute`
    pub action: Option<String>,
    /// To what, as the estate names it: `DATABASE/SCHEMA/TABLE`, of a column `DATABASE/SCHEMA/TABLE/COLUMN`
    pub resource: Option<String>,
    /// Those for whom it acts, who began it first: `people/ada,agents/assistant`
    #[arg(long, value_name = "IDENTITIES", value_delimiter = ',')]
    pub on_behalf_of: Vec<String>,
}

#[derive(Debug, Args)]
pub struct WhoCanArguments {
    /// What is done: `select`, `insert`, `update`, `delete`, `truncate`, `define` or `execute`
    pub action: String,
    /// To what, as the estate names it: `DATABASE/SCHEMA/TABLE`, of a column `DATABASE/SCHEMA/TABLE/COLUMN`
    pub resource: String,
    #[command(flatten)]
    pub part: PartArguments,
    /// Only who may do it for these, who began it first: `people/ada,agents/assistant`
    #[arg(long, value_name = "IDENTITIES", value_delimiter = ',')]
    pub on_behalf_of: Vec<String>,
}

#[derive(Debug, Args)]
pub struct WhatCanArguments {
    /// An identity's path, as `payments/api`, or its SPIFFE ID
    pub principal: String,
    #[command(flatten)]
    pub part: PartArguments,
}

/// Which part of an answer, and how.
#[derive(Debug, Default, Args)]
pub struct PartArguments {
    /// Print this many at most, and how to go on; by default all, as they are found
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Go on where an answer to the same question ended that was cut by `--limit`
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Print each item as one line of JSON, and at the end `{"end": …}`
    #[arg(long)]
    pub lines: bool,
}

#[derive(Debug, Args)]
pub struct BlastArguments {
    /// What was taken
    #[command(subcommand)]
    pub taken: TakenCommand,
    /// Folder of the estate; by default the version that the server has in force
    #[arg(long, value_name = "DIR", global = true)]
    pub estate: Option<PathBuf>,
    #[command(flatten)]
    pub part: PartArguments,
}

#[derive(Debug, Subcommand)]
pub enum TakenCommand {
    /// Root on a machine
    #[command(after_long_help = "Example:\n  trilith blast-radius machine db-7 --pool databases")]
    Machine {
        /// Its name
        name: String,
        /// Its pool, if the estate does not declare the machine
        #[arg(long)]
        pool: Option<String>,
    },
    /// Whatever runs a program
    #[command(
        after_long_help = "Example:\n  trilith blast-radius code $(sha256sum < /usr/bin/psql | cut -c 1-64)"
    )]
    Code {
        /// The program's SHA-256, hex
        sha256: String,
    },
    /// The key or account of a signer
    #[command(after_long_help = "Example:\n  trilith blast-radius signer release --json")]
    Signer {
        /// The signer's name in the estate's references
        name: String,
    },
    /// An identity's SVID and key
    #[command(after_long_help = "Example:\n  trilith blast-radius identity payments/api")]
    Identity {
        /// The identity's path
        path: String,
    },
    /// A gateway, which acts in the name of everybody
    #[command(after_long_help = "Example:\n  trilith blast-radius gateway gateway/pg")]
    Gateway {
        /// The gateway's identity
        path: String,
    },
    /// The server with its keys
    Server,
    /// A local user of the server's machine, or a person's session, by which it is administered
    #[command(after_long_help = "Example:\n  trilith blast-radius administrator person:people/ada")]
    Administrator {
        /// As `uid:0`, or `person:people/ada`
        who: String,
    },
    /// The key of a root that vouches for TPMs or confidential machines
    #[command(after_long_help = "Example:\n  trilith blast-radius root amd")]
    Root {
        /// The root's name in the estate's references, or as `machine.tee.root` has the vendor's
        name: String,
    },
}
