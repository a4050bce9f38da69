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
