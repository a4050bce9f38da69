//! `docs/reference/cli.md` is what the arguments say: every command, what it takes, and its examples.

use clap::{Arg, Command};
use expect_test::expect_file;
use std::fmt::Write as _;

const HEAD: &str = "\
# Commands

What `trilith COMMAND --help` says, on one page.
Exit codes: 0 done, 1 refused or failed, 2 usage, 3 verification failed.
This page is compared with the source by a test of `cli`; `UPDATE_EXPECT=1 cargo test -p cli` writes it anew.
";

#[test]
fn the_page_of_commands_is_what_the_arguments_say() {
    let mut page = HEAD.to_owned();
    let mut trilith = crate::command();
    trilith.build();
    page.push_str("\n## Options of every command\n");
    table(
        &mut page,
        trilith
            .get_arguments()
            .filter(|argument| argument.is_global_set()),
    );
    for command in trilith.get_subcommands() {
        section(&mut page, command, "trilith");
    }
    expect_file!["../../../docs/reference/cli.md"].assert_eq(&page);
}

/// Every command that does something says how it is used by example.
#[test]
fn every_command_with_arguments_has_an_example() {
    fn missing(command: &Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let takes = own(command).next().is_some();
        let shown = command
            .get_after_long_help()
            .is_some_and(|help| help.to_string().contains(&path));
        if takes && !shown {
            found.push(path.clone());
        }
        for inner in subcommands(command) {
            missing(inner, &path, found);
        }
    }
    let mut found = Vec::new();
    let mut trilith = crate::command();
    trilith.build();
    for command in subcommands(&trilith) {
        missing(command, "trilith", &mut found);
    }
    assert_eq!(found, Vec::<String>::new());
}

fn section(page: &mut String, command: &Command, path: &str) {
    if command.get_name() == "help" {
        return;
    }
    let path = format!("{path} {}", command.get_name());
    // Writing to a string cannot fail.
    let _ = write!(page, "\n## {path}\n");
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        let _ = write!(page, "\n{about}.\n");
    }
    if own(command).next().is_some() {
        table(page, own(command));
    }
    if let Some(examples) = command.get_after_long_help() {
        let examples = examples.to_string();
        let examples = examples
            .lines()
            .filter_map(|line| line.strip_prefix("  "))
            .collect::<Vec<_>>();
        let _ = write!(page, "\n```\n{}\n```\n", examples.join("\n"));
    }
    for inner in command.get_subcommands() {
        section(page, inner, &path);
    }
}

fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|inner| inner.get_name() != "help")
}

/// What this command takes and others do not.
fn own(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| {
        !argument.is_global_set()
            && !argument.is_hide_set()
            && argument.get_id() != "help"
            && argument.get_id() != "version"
    })
}

fn table<'a>(page: &mut String, arguments: impl Iterator<Item = &'a Arg>) {
    page.push_str("\n| argument | | default | environment |\n|---|---|---|---|\n");
    for argument in arguments {
        let help = argument
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let defaults: Vec<String> = argument
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let variable = argument
            .get_env()
            .map(|name| format!("`{}`", name.to_string_lossy()))
            .unwrap_or_default();
        let usage = argument.to_string().replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{usage}` | {} | {} | {variable} |",
            help.replace('|', "\\|"),
            defaults.join(" ")
        );
    }
}

/// What a message tells its reader to run can be run.
#[test]
fn every_command_that_a_message_names_exists() {
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(crates).unwrap() {
        collect(&entry.unwrap().path().join("src"), &mut sources);
    }
    let trilith = crate::command();
    let mut unknown = Vec::new();
    let mut named = 0;
    for source in sources {
        let text = std::fs::read_to_string(&source).unwrap();
        // In code such words stand in texts, after a quote, a colon or a backtick.
        for mark in ["\"trilith ", ": trilith ", "`trilith ", "or trilith "] {
            for rest in text.split(mark).skip(1) {
                let mut at = &trilith;
                for word in rest.split_whitespace() {
                    let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                    match at.find_subcommand(name) {
                        Some(inner) => at = inner,
                        None if std::ptr::eq(at, &trilith) && is_name(word) => {
                            unknown.push(format!("{}: trilith {name}", source.display()));
                            break;
                        }
                        None => break,
                    }
                }
                named += usize::from(!std::ptr::eq(at, &trilith));
            }
        }
    }
    assert_eq!(unknown, Vec::<String>::new());
    assert!(named > 20, "only {named} commands were found");
}

/// Looks like the name of a command, not like prose or a placeholder.
fn is_name(word: &str) -> bool {
    word.len() > 2 && word.starts_with(|c: char| c.is_ascii_lowercase())
}

fn collect(folder: &std::path::Path, sources: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("demo") {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(path);
        }
    }
}
