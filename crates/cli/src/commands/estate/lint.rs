//! `trilith estate lint`: what is wrong with a folder, and what should not stand although it is not wrong.

use super::read;
use crate::arguments::{Global, LintArguments, PartArguments};
use crate::commands::blast::cannot_go_on;
use crate::{Failure, output};
use anyhow::Context as _;
use estate::{Cursor, Estate, Means, Problem, Remark, Severity};
use estate_prove::{Lint, Options, lint_blocking};
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::process::ExitCode;
use std::time::Duration;

pub(super) fn run(arguments: &LintArguments, global: &Global) -> Result<ExitCode, Failure> {
    let files = read(&arguments.directory)?;
    let defaults = Options::with_solver(std::env::var_os("CVC5"));
    let options = Options {
        total: Duration::from_secs(arguments.timeout),
        find_second: std::env::var_os("PATH"),
        ..defaults
    };
    let compiled = Estate::compile(&files);
    let (lint, estate) = match &compiled {
        Ok(estate) => (lint_blocking(estate, &options), Some(estate)),
        Err(problems) => (uncompiled(problems), None),
    };
    let version = files.version();
    let shown = Shown::of(&arguments.part, &version, lint.findings.len())?;
    if arguments.part.lines {
        lines(&lint, &shown, &version)?;
    } else if global.json {
        output::json(&document(&lint, estate, &shown, &version)?);
    } else {
        print(&lint, estate, &shown);
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
        second: None,
        solvers: 0,
        policies_asked: 0,
        pairs_asked: 0,
        not_asked: vec!["anything further: the estate does not compile".to_owned()],
    }
}

/// Which of the findings are shown, and how to go on. What is counted, and the exit code, are of all of them.
struct Shown {
    findings: Range<usize>,
    next: Option<String>,
}

impl Shown {
    /// # Errors
    /// The cursor is none of this folder's as it is now.
    fn of(part: &PartArguments, version: &str, all: usize) -> Result<Self, Failure> {
        const QUESTION: &str = "lint";
        let from = part.after.as_deref().map_or(Ok(0), |cursor| {
            let cursor: Cursor = cursor.parse()?;
            cursor.given(version, QUESTION)
        });
        let from = from.map_err(cannot_go_on)?.min(all);
        let most = part.limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let until = from.saturating_add(most).min(all);
        let next = Cursor::in_list(version, QUESTION, until);
        Ok(Self {
            findings: from..until,
            next: (until < all).then(|| next.to_string()),
        })
    }

    fn among<'a>(&self, lint: &'a Lint) -> &'a [Remark] {
        lint.findings.get(self.findings.clone()).unwrap_or_default()
    }
}

fn lines(lint: &Lint, shown: &Shown, version: &str) -> Result<(), Failure> {
    for remark in shown.among(lint) {
        let remark = serde_json::to_value(remark).context("cannot print a finding")?;
        output::json(&json!({ "remark": remark }));
    }
    output::json(&json!({"end": {
        "version": version,
        "shown": shown.findings.len(),
        "errors": lint.count(Severity::Error),
        "warnings": lint.count(Severity::Warning),
        "not_asked": lint.not_asked,
        "solvers": lint.solvers,
        "next": shown.next,
    }}));
    Ok(())
}

fn document(
    lint: &Lint,
    estate: Option<&Estate>,
    shown: &Shown,
    version: &str,
) -> Result<Value, Failure> {
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
    add(
        "findings",
        serde_json::to_value(shown.among(lint)).context("cannot print the findings")?,
    );
    if let Some(next) = &shown.next {
        add("next", json!(next));
    }
    Ok(Value::Object(fields))
}

fn print(lint: &Lint, estate: Option<&Estate>, shown: &Shown) {
    for remark in shown.among(lint) {
        output::line(remark);
    }
    if let Some(next) = &shown.next {
        let count = shown.findings.len();
        output::note(format_args!("{count} shown; more with --after {next}"));
    }
    let by = |means: Means| {
        lint.findings
            .iter()
            .filter(move |one| one.by == means)
            .count()
    };
    match &lint.solver {
        Some(solver) => output::note(format_args!(
            "asked {solver}: {} policies, {} pairs of them; {} findings are its own; {}",
            lint.policies_asked,
            lint.pairs_asked,
            by(Means::Solver),
            vouching(lint)
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

/// Who stands behind what is said to be so of any data.
fn vouching(lint: &Lint) -> String {
    match &lint.second {
        Some(second) => format!("{second} agrees"),
        None => "one solver vouches: no second one is installed, or it did not answer".to_owned(),
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
            part: PartArguments::default(),
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
    fn parts_of_the_findings_come_to_all_of_them() {
        let part = |limit, after| PartArguments {
            limit: Some(limit),
            after,
            lines: false,
        };
        let version = "ab".repeat(32);
        let first = Shown::of(&part(2, None), &version, 5).unwrap();
        assert_eq!(first.findings, 0..2);
        let second = Shown::of(&part(2, first.next.clone()), &version, 5).unwrap();
        assert_eq!(second.findings, 2..4);
        let last = Shown::of(&part(2, second.next), &version, 5).unwrap();
        assert_eq!((last.findings, last.next), (4..5, None));
        let other = "cd".repeat(32);
        assert!(
            Shown::of(&part(2, first.next), &other, 5).is_err(),
            "another folder"
        );
        assert!(Shown::of(&part(2, Some("x".to_owned())), &version, 5).is_err());
        let whole = Shown::of(&PartArguments::default(), &version, 5).unwrap();
        assert_eq!((whole.findings, whole.next), (0..5, None));
    }

    #[test]
    fn numbers_agree_with_their_words() {
        assert_eq!(count(1, "error"), "1 error");
        assert_eq!(count(0, "warning"), "0 warnings");
    }
}
