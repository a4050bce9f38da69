//! `cargo xtask codegen`: the committed files that are made from others. The gRPC code is made by the
//! `codegen` package, a program of its own so that xtask does not build protox to run a test.

use crate::arguments::Arguments;
use crate::reference;
use crate::shell::{Doing as _, Failure, Result, run as run_program};
use crate::workspace::{cargo, read_text, root, target};
use std::path::Path;
use std::process::ExitCode;

pub(crate) const HELP: &str = "\
Writes what is made from other files and committed:
  crates/proto/src/gen        the gRPC code, from proto/, without protoc
  docs/reference/findings.md  every refusal's code, from the source
  docs/reference/records.md   what each record says, from ledger::body
  docs/reference/metrics.md   what each process counts, from its metrics.rs
  docs/reference/config.md    every key of the configuration files, from their schemas
  docs/reference/estate.md    every key of an estate's files, from their schema
  docs/reference/cli.md       every command, from its arguments
  docs/reference/*.schema.json  JSON Schemas of these files, as `trilith config schema` and `estate schema`

The last two are written, and with the other tests compared, by tests of `cli`, which alone links what
they are made from; `--check` leaves them to those.

Usage: cargo xtask codegen [--check]

Options:
  --check      write nothing; fail if a committed file is not what would be written
  -h, --help   this text

Examples:
  cargo xtask codegen
  cargo xtask codegen --check
";

/// The tests of `cli` that write a page.
const PAGES: &str = "reference::the_";
const GENERATED: &str = "crates/proto/src/gen";

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let only_check = arguments.flag("--check");
    arguments.finish()?;
    if only_check {
        check()?;
        println!("generated files are what their sources say");
        return Ok(ExitCode::SUCCESS);
    }
    generate(&root().join(GENERATED))?;
    // The schemas first: the page of configuration files is made from them.
    run_program(
        cargo(&["test", "--quiet", "-p", "cli", "--lib", PAGES]).env("UPDATE_EXPECT", "1"),
    )?;
    for (path, text) in reference::pages()? {
        write(&root().join(path), &text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails if a committed file is not what would be written.
pub(crate) fn check() -> Result<()> {
    let fresh = target().join("codegen");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh).doing(fresh.display())?;
    }
    generate(&fresh)?;
    let committed = root().join(GENERATED);
    let mut stale = Vec::new();
    let names = names(&fresh)?;
    if names != self::names(&committed)? {
        stale.push(GENERATED.to_owned());
    }
    for name in names {
        let wanted = std::fs::read(fresh.join(&name)).doing(&name)?;
        if std::fs::read(committed.join(&name)).ok() != Some(wanted) {
            stale.push(format!("{GENERATED}/{name}"));
        }
    }
    for (path, text) in reference::pages()? {
        if read_text(path).ok() != Some(text) {
            stale.push(path.to_owned());
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("stale: {}", stale.join(", "))).next("cargo xtask codegen"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).doing(folder.display())?;
    }
    std::fs::write(path, text).doing(path.display())
}

fn generate(folder: &Path) -> Result<()> {
    run_program(cargo(&["run", "--quiet", "-p", "codegen", "--"]).arg(folder))
}

/// File names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = std::fs::read_dir(folder)
        .doing(folder.display())?
        .map(|entry| {
            let name = entry.doing(folder.display())?.file_name();
            name.into_string()
                .map_err(|name| Failure::new(format!("{name:?} is not UTF-8")))
        })
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}
