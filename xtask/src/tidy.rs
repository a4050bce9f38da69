//! `cargo xtask tidy`: the house rules, as code. What rustfmt and clippy already check is not repeated.

mod arrows;
mod documents;
mod lock;
mod manifests;
mod mutants;
mod refusals;
mod rust;
mod verifier;
mod warrants;
mod words;

use crate::arguments::Arguments;
use crate::shell::{Failure, Result};
use crate::workspace::{packages, read_text, tracked_files};
use std::process::ExitCode;

pub(crate) const HELP: &str = "\
Checks the house rules and prints every break of one as `file:line: what`:
  arrows     which crate may use which; the code map of docs/ARCHITECTURE.md says the same
  confined   Cedar, SQL grammar, SQLite and the crypto backend stay in the crates that own them
  manifests  a crate names the dependencies that it uses, and no other
  refusals   what refuses confidential machines says what to do next, each code
  rust       `//!` first, no mod.rs, at most 800 lines, forbid(unsafe_code), no ignored tests, no bare allow
  lock       bans of deny.toml, no unknown source, a limit on the number of packages
  documents  one number per decision, and each invariant links to attack tests that exist;
             a page that source names is there
  mutants    each entry of tests/mutants finds its text once and names tests that exist
  verifier   verifiers/python is short: few lines in all, none too wide
  warrants   what is issued on comes from verifiers: only they name the type that makes it
  words      no paths of one machine and no registry hosts in tracked files

Usage: cargo xtask tidy

Options:
  -h, --help  this text

Examples:
  cargo xtask tidy
";

/// One break of a rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Break {
    file: String,
    /// Counted from one; zero is the file as a whole.
    line: usize,
    what: String,
}

impl Break {
    fn at(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line,
            what: what.into(),
        }
    }

    fn file(file: &str, what: impl Into<String>) -> Self {
        Self::at(file, 0, what)
    }
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    arguments.finish()?;
    check()?;
    Ok(ExitCode::SUCCESS)
}

/// Checks everything; the failure lists every break.
pub(crate) fn check() -> Result<()> {
    let files = tracked_files()?;
    let packages = packages()?;
    let mut breaks = arrows::check(&packages, &read_text("docs/ARCHITECTURE.md")?);
    breaks.extend(lock::check()?);
    breaks.extend(documents::check(
        &files,
        &read_text("docs/THREAT_MODEL.md")?,
    ));
    breaks.extend(mutants::check(&files)?);
    breaks.extend(manifests::check(&packages, &files));
    breaks.extend(rust::check_roots(&packages, &files));
    breaks.extend(verifier::check(&files, |file| read_text(file).ok()));
    breaks.extend(warrants::check_list(&files, |file| read_text(file).ok()));
    for file in &files {
        // What is not UTF-8 has no words: images, archives.
        let Ok(text) = read_text(file) else { continue };
        breaks.extend(words::check(file, &text));
        breaks.extend(documents::named(file, &text, &files));
        if file.ends_with(".rs") {
            breaks.extend(rust::check(file, &text));
            breaks.extend(warrants::check(file, &text));
            breaks.extend(refusals::check(file, &text));
        }
    }
    for broken in &breaks {
        match broken.line {
            0 => println!("{}: {}", broken.file, broken.what),
            line => println!("{}:{line}: {}", broken.file, broken.what),
        }
    }
    if breaks.is_empty() {
        println!("{} files keep the house rules", files.len());
        return Ok(());
    }
    Err(Failure::new(format!("{} house rules broken", breaks.len())).next("cargo xtask tidy"))
}
