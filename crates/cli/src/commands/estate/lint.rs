//! `trilith estate lint`: what is wrong with a folder, and what should not stand although it is not wrong.

use super::read;
use crate::arguments::{Global, LintArguments};
use crate::{Failure, output};
use anyhow::Context as _;
use estate::{Estate, Means, Problem, Remark, Severity};
use estate_prove::{Lint, Options, lint_blocking};
use serde_json::{Map, Value, json};
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn run(arguments: &LintArguments, global: &Global) -> Result<ExitCode, Failure> {
    let files = read(&arguments.directory)?;
    let defaults = Options::with_solver(std::env::var_os("CVC5"));
    let options = Options {
        total: Duration::from_secs(arguments.timeout),
        ..defaults
    };
    let compiled = Estate::compile(&files);
    let (lint, estate) = match &compiled {
        Ok(estate) => (lint_blocking(estate, &options), Some(estate)),
        Err(problems) => (uncompiled(problems), None),
    };
    if global.json {
        output::json(&document(&lint, estate, &files.version())?);
    } else {
        print(&lint, estate);
    }
    let worst = lint.count(Severity::Error) > 0
        || arguments.deny.is_some() && lint.count(Severity::Warning) > 0;
    Ok(ExitCode::from(if worst { crate::EXIT_FAILED } else { 0 }))
}

/// Of an estate that does not compile its problems, and nothing that would rest on them.
fn uncompiled(problems: &[Problem]) -> Lint {
    Lint {
        findings: problems.iter().cloned().map(Remark::from).collect(),
        solver: None,
        policies_asked: 0,
        pairs_asked: 0,
        not_asked: vec!["anything further: the estate does not compile".to_owned()],
    }
}

fn document(lint: &Lint, estate: Option<&Estate>, version: &str) -> Result<Value, Failure> {
    let document = serde_json::to_value(lint).context("cannot print the findings")?;
    let mut fields = match document {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let mut add = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    add("version", json!(version));
    add("policies", json!(estate.map(Estate::policy_count)));
    add("errors", json!(lint.count(Severity::Error)));
    add("warnings", json!(lint.count(Severity::Warning)));
    Ok(Value::Object(fields))
}

fn print(lint: &Lint, estate: Option<&Estate>) {
    for remark in &lint.findings {
        output::line(remark);
    }
    let by = |means: Means| {
        lint.findings
            .iter()
            .filter(move |one| one.by == means)
            .count()
    };
    match &lint.solver {
        Some(solver) => output::note(format_args!(
            "asked {solver}: {} policies, {} pairs of them; {} findings are its own",
            lint.policies_asked,
            lint.pairs_asked,
            by(Means::Solver)
        )),
        None if estate.is_some() => output::note(
            "no solver was asked: findings are by text and declarations alone; apt install cvc5",
        ),
        None => {}
    }
    for left in &lint.not_asked {
        output::note(format_args!("not asked: {left}"));
    }
    let (errors, warnings) = (lint.count(Severity::Error), lint.count(Severity::Warning));
    let counts = match (errors, warnings) {
        (0, 0) => "no problems".to_owned(),
        _ => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    match estate {
        Some(estate) => output::line(format_args!(
            "{counts}; {} policies, {} invariants, version {}",
            estate.policy_count(),
            estate.invariants().len(),
            estate.version()
        )),
        None => output::line(counts),
    }
}

/// `1 error`, `2 errors`
pub(crate) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::estate::Denied;
    use std::path::Path;

    fn ran(directory: &Path, deny: Option<Denied>) -> String {
        let arguments = LintArguments {
            directory: directory.to_owned(),
            deny,
            timeout: 60,
        };
        let global = Global {
            json: true,
            admin_socket: "/nonexistent".into(),
            admin_server: None,
            session: None,
            log: String::new(),
        };
        format!("{:?}", run(&arguments, &global).unwrap())
    }

    #[test]
    fn warnings_fail_only_where_they_are_denied_and_errors_always() {
        let code = |code: u8| format!("{:?}", ExitCode::from(code));
        let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/estate-shop");
        assert_eq!(ran(&shop, None), code(0));
        assert_eq!(ran(&shop, Some(Denied::Warnings)), code(1));

        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text);
        write("estate.toml", "trust_domain = \"example.org\"\n").unwrap();
        assert_eq!(ran(folder.path(), Some(Denied::Warnings)), code(0));
        std::fs::create_dir(folder.path().join("policies")).unwrap();
        let all = "permit (principal is Identity, action, resource);";
        write("policies/all.cedar", all).unwrap();
        assert_eq!(ran(folder.path(), None), code(1), "LINT-GRANTS-ALL");
        write("policies/all.cedar", "permit (principal is").unwrap();
        assert_eq!(ran(folder.path(), None), code(1), "it does not compile");
    }

    #[test]
    fn numbers_agree_with_their_words() {
        assert_eq!(count(1, "error"), "1 error");
        assert_eq!(count(0, "warning"), "0 warnings");
    }
}
