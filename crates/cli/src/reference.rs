//! `docs/reference/cli.md` is what the arguments say: every command, what it takes, and its examples.

use crate::arguments::Role;
use clap::{Arg, Command};
use expect_test::expect_file;
use std::fmt::Write as _;

const HEAD: &str = "\
# Commands

What `trilith COMMAND --help` says, on one page.
Exit codes: 0 done, 1 refused or failed, 2 usage, 3 verification failed; of `trilith monitor` also 4 something that nobody expected, 5 a log has signed two histories.
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

#[test]
fn every_argument_says_what_it_is() {
    fn silent(command: &Command, path: &str, found: &mut Vec<String>) {
        let path = format!("{path} {}", command.get_name());
        let arguments = own(command).filter(|argument| argument.get_help().is_none());
        found.extend(arguments.map(|argument| format!("{path} {argument}")));
        for inner in subcommands(command) {
            silent(inner, &path, found);
        }
    }
    let mut found = Vec::new();
    let mut trilith = crate::command();
    trilith.build();
    silent(&trilith, "", &mut found);
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
            && !matches!(argument.get_action(), clap::ArgAction::Version)
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
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|_| argument.get_action().takes_values())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        let values = if values.is_empty() {
            String::new()
        } else {
            format!(": {}", values.join(", "))
        };
        let usage = argument.to_string().replace('|', "\\|");
        let _ = writeln!(
            page,
            "| `{usage}` | {}{values} | {} | {variable} |",
            help.replace('|', "\\|"),
            defaults.join(" ")
        );
    }
}

/// The schemas of the configuration files are what the structs that parse them say.
#[test]
fn the_schemas_are_what_the_structs_say() {
    for (role, file) in [
        (
            Role::Server,
            expect_file!["../../../docs/reference/server.schema.json"],
        ),
        (
            Role::Agent,
            expect_file!["../../../docs/reference/agent.schema.json"],
        ),
        (
            Role::Gateway,
            expect_file!["../../../docs/reference/gateway.schema.json"],
        ),
        (
            Role::Pdp,
            expect_file!["../../../docs/reference/pdp.schema.json"],
        ),
        (
            Role::Witness,
            expect_file!["../../../docs/reference/witness.schema.json"],
        ),
        (
            Role::Monitor,
            expect_file!["../../../docs/reference/monitor.schema.json"],
        ),
    ] {
        let schema = crate::commands::roles::schema(role);
        assert_eq!(schema["additionalProperties"], false, "{role:?} is strict");
        let text = serde_json::to_string_pretty(&schema).unwrap();
        file.assert_eq(&format!("{text}\n"));
    }
}

/// The schemas of an estate's files are what the structs say that parse them.
#[test]
fn the_schema_of_an_estate_is_what_the_structs_say() {
    let schema = estate::json_schema();
    for (glob, schema) in schema.as_object().unwrap() {
        assert_eq!(schema["additionalProperties"], false, "{glob} is strict");
    }
    let text = serde_json::to_string_pretty(&schema).unwrap();
    expect_file!["../../../docs/reference/estate.schema.json"].assert_eq(&format!("{text}\n"));
}

/// What a message tells its reader to run can be run: the command is there, with every argument that it
/// needs and none that it does not know. In code such words stand in texts, after a quote, a colon or a
/// backtick. A bare `trilith token create` in backticks is a name and not a call.
#[test]
fn every_command_that_a_message_names_can_be_run() {
    let crates = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(crates).unwrap() {
        collect(&entry.unwrap().path().join("src"), &mut sources);
    }
    let mut wrong = Vec::new();
    let mut named = 0;
    for source in sources {
        let text = std::fs::read_to_string(&source).unwrap();
        for mark in ["\"trilith ", ": trilith ", "`trilith ", "or trilith "] {
            for rest in text.split(mark).skip(1) {
                let words = words(rest);
                if !is_command(&words) {
                    continue;
                }
                named += 1;
                // A program's name may stand alone, as `trilith gateway` does in what it says of itself.
                let name = mark.starts_with('`') || words.len() == 1;
                if let Err(why) = runs(&words, name) {
                    wrong.push(format!("{}: {}: {why}", source.display(), words.join(" ")));
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(named > 20, "only {named} commands were found");
}

#[test]
fn a_command_that_lacks_or_invents_an_argument_is_found() {
    for (text, fits) in [
        ("agent readmit {} --reason TEXT\"", true),
        ("agent readmit {}\"", false),
        ("agent readmit\"", false),
        ("restore {} --reason 'two words'; then", true),
        ("estate apply DIR --hard\"", false),
        ("agent leave NODE\"", false),
        ("status lists them\"", false),
        ("status\"", true),
    ] {
        assert_eq!(runs(&words(text), false).is_ok(), fits, "{text}");
    }
    assert!(runs(&words("token create` printed"), true).is_ok());
    assert!(runs(&words("token create --node N` printed"), true).is_err());
}

/// The words of a command, up to where the text goes on about something else; what stands in single
/// quotes is one.
fn words(text: &str) -> Vec<String> {
    let end = text.find(['"', '`', ';', ',', ')']).unwrap_or(text.len());
    let command = text.get(..end).unwrap_or_default().replace("\\\n", " ");
    let mut words = Vec::new();
    for (at, part) in command.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// Prose that only happens to begin like one, as "trilith is a gate", names none.
fn is_command(words: &[String]) -> bool {
    let name = words.first().map_or("", String::as_str);
    name.len() > 2
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn runs(words: &[String], may_be_a_name: bool) -> Result<(), clap::error::ErrorKind> {
    use clap::error::ErrorKind;
    let mut trilith = crate::command();
    trilith.build();
    let mut at = &trilith;
    let mut rest = words;
    while let Some((first, more)) = rest.split_first()
        && let Some(inner) = at.find_subcommand(first)
    {
        (at, rest) = (inner, more);
    }
    if may_be_a_name && rest.is_empty() && !std::ptr::eq(at, &trilith) {
        return Ok(());
    }
    let line = std::iter::once("trilith").chain(words.iter().map(String::as_str));
    match crate::command().try_get_matches_from(line) {
        Ok(_) => Ok(()),
        // A placeholder stands for a number or a name out of a list.
        Err(error) => match error.kind() {
            ErrorKind::InvalidValue | ErrorKind::ValueValidation => Ok(()),
            kind => Err(kind),
        },
    }
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
