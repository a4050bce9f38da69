//! A second solver of another make: found by itself or named, it agrees, contradicts, or does not answer.

use crate::fixture::{compile, cvc5, shop, shop_files, shop_with, shop_without_the_guard};
use estate::Means;
use estate_prove::{
    Lint, Memory, Options, Report, Result, Widening, Witness, Witnesses, lint_blocking,
    newly_allowed_blocking, prove_beside, prove_blocking, witnesses_blocking,
};
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// A folder with a program `z3` in it, as the only one of a `PATH`.
fn path_with(script: &str) -> (tempfile::TempDir, OsString) {
    let folder = tempfile::tempdir().unwrap();
    testkit::script(&folder.path().join("z3"), script).unwrap();
    let path = folder.path().as_os_str().to_owned();
    (folder, path)
}

/// The options with the real one, if it is installed.
pub(crate) fn z3(name: &str) -> Option<Options> {
    let options = cvc5(name)?;
    let path = std::env::var_os("PATH")?;
    if !std::env::split_paths(&path).any(|folder| folder.join("z3").is_file()) {
        testkit::skip(name, "z3 is not on PATH");
        return None;
    }
    Some(Options {
        find_second: Some(path),
        ..options
    })
}

/// Passes the rehearsal, whose answers are known, and then does as told.
fn after_rehearsal(then: &str) -> String {
    format!(
        "case \"$1\" in --version) echo Z3 of a test; exit;; esac\n\
         n=0\nwhile read -r line; do case \"$line\" in *check-sat*) n=$((n+1));\n\
         case $n in 1|3) echo sat;; 2|4|5|6) echo unsat;; *) {then};; esac;; esac; done"
    )
}

fn found(script: &str, options: &Options) -> Report {
    let (_folder, path) = path_with(script);
    let options = Options {
        find_second: Some(path),
        ..options.clone()
    };
    prove_blocking(&compile(&shop_files()), &options)
}

fn codes(report: &Report) -> Vec<&str> {
    let each = report
        .invariants
        .iter()
        .filter_map(|one| match &one.result {
            Result::Unknown { why } => Some(why.code),
            _ => None,
        });
    each.collect()
}

/// What cvc5 says of the example, and of it without what makes it hold, Z3 says as well.
#[test]
fn a_solver_of_another_make_that_is_installed_is_found_and_agrees() {
    let Some(options) = z3("a_solver_of_another_make_that_is_installed_is_found_and_agrees") else {
        return;
    };
    let estate = compile(&shop_files());
    let report = prove_blocking(&estate, &options);
    assert!(report.is_accepted(), "{:?}", codes(&report));
    assert_eq!(report.engines.solvers, 2);
    let second = report.engines.second.clone().unwrap();
    assert!(second.starts_with("Z3 version"), "{second}");
    let broken = prove_blocking(&compile(&shop_without_the_guard()), &options);
    assert!(!broken.is_accepted() && codes(&broken).is_empty());
    // Named, it is the same.
    let path = options.find_second.clone().unwrap();
    let program = std::env::split_paths(&path).map(|folder| folder.join("z3"));
    let named = Options {
        second: program.into_iter().find(|program| program.is_file()),
        find_second: None,
        ..options
    };
    let report = prove_blocking(&estate, &named);
    assert!(report.is_accepted(), "{:?}", codes(&report));
    assert_eq!(report.engines.solvers, 2);
}

#[test]
fn a_solver_that_contradicts_is_not_passed_over() {
    let Some(options) = cvc5("a_solver_that_contradicts_is_not_passed_over") else {
        return;
    };
    let report = found(&after_rehearsal("echo sat"), &options);
    assert!(!report.is_accepted());
    assert!(
        codes(&report).contains(&"PROVE-SOLVERS-DISAGREE"),
        "{:?}",
        codes(&report)
    );
}

/// Nobody asked for it, so it takes nothing away; and what one proved is not said to be proved by two.
#[test]
fn a_solver_that_was_found_and_does_not_answer_vouches_for_nothing() {
    let Some(options) = cvc5("a_solver_that_was_found_and_does_not_answer_vouches_for_nothing")
    else {
        return;
    };
    for script in [
        "case \"$1\" in --version) echo Z3 of a test; exit;; esac; exit 1".to_owned(),
        // It knows no sets.
        "case \"$1\" in --version) echo Z3 of a test; exit;; esac; while read -r line; do case \"$line\" in *check-sat*) echo unsat;; esac; done".to_owned(),
        after_rehearsal("echo unknown"),
        after_rehearsal("exit 1"),
        after_rehearsal("echo '(error \"no\")'"),
    ] {
        let report = found(&script, &options);
        assert!(report.is_accepted(), "{script} {:?}", codes(&report));
        assert_eq!(report.engines.solvers, 1, "{script}");
        assert_eq!(report.engines.second, None, "{script}");
    }
    // Named, it has to answer.
    let (_folder, path) = path_with(&after_rehearsal("echo unknown"));
    let named = Options {
        second: Some(Path::new(&path).join("z3")),
        ..options
    };
    assert!(!prove_blocking(&compile(&shop_files()), &named).is_accepted());
}

/// What one solver proved is known, and is not taken for what two proved once the other is there again.
#[test]
fn what_is_known_of_one_is_not_known_of_two() {
    let Some(options) = cvc5("what_is_known_of_one_is_not_known_of_two") else {
        return;
    };
    let memory = Memory::default();
    let estate = compile(&shop_files());
    let (folder, path) = path_with(&after_rehearsal("echo unknown"));
    let options = Options {
        find_second: Some(path),
        ..options
    };
    assert_eq!(prove_beside(&estate, &options, &memory).engines.solvers, 1);
    let known = memory.len();
    // Of the same name and version, and now it answers: what is known is what one said.
    testkit::script(&folder.path().join("z3"), &after_rehearsal("echo unsat")).unwrap();
    let again = prove_beside(&estate, &options, &memory);
    assert_eq!((again.engines.solvers, memory.len()), (1, known));
    assert!(again.is_accepted());
}

/// No text shows that two patterns exclude each other: only a solver says that it never matches.
const NEVER: &str = "@id(\"never\") forbid (principal is Identity, action == Action::\"insert\", resource is Table)\n\
     when { principal.owner like \"a*\" && principal.owner like \"b*\" };\n";

fn beside(script: &str, options: &Options) -> (tempfile::TempDir, Options) {
    let (folder, path) = path_with(script);
    let options = Options {
        find_second: Some(path),
        ..options.clone()
    };
    (folder, options)
}

fn linted(options: &Options) -> (Lint, usize) {
    let lint = lint_blocking(&shop_with(&[("policies/x.cedar", NEVER)]), options);
    let findings = lint.findings.iter();
    let by_solver = findings.filter(|one| one.by == Means::Solver).count();
    (lint, by_solver)
}

/// What `NEVER` newly forbids is nothing: that is what two have to agree on.
fn compared(options: &Options) -> Witnesses {
    let with = shop_with(&[("policies/x.cedar", NEVER)]);
    witnesses_blocking(&shop(), &with, options).unwrap()
}

/// Nothing is newly allowed without it, either.
fn widened(options: &Options) -> Widening {
    let with = shop_with(&[("policies/x.cedar", NEVER)]);
    newly_allowed_blocking(&with, &shop(), options)
}

/// Once, lint and a plan's witnesses asked one solver, whoever else was there.
#[test]
fn lint_and_witnesses_say_only_what_both_solvers_agree_on() {
    let Some(options) = cvc5("lint_and_witnesses_say_only_what_both_solvers_agree_on") else {
        return;
    };
    let (_folder, contradicted) = beside(&after_rehearsal("echo sat"), &options);
    let (lint, by_solver) = linted(&contradicted);
    assert_eq!(by_solver, 0, "{:?}", lint.findings);
    let told = lint.not_asked.iter();
    let disagree = told.filter(|one| one.contains("PROVE-SOLVERS-DISAGREE"));
    assert!(disagree.count() > 0, "{:?}", lint.not_asked);
    let said = compared(&contradicted).newly_denied;
    assert!(
        matches!(&said, Witness::Unknown { why } if why.code == "PROVE-SOLVERS-DISAGREE"),
        "{said:?}"
    );

    let said = widened(&contradicted);
    assert!(
        matches!(&said, Widening::Unknown { why } if why.code == "PROVE-SOLVERS-DISAGREE"),
        "{said:?}"
    );

    let (_folder, agreed) = beside(&after_rehearsal("echo unsat"), &options);
    let (lint, by_solver) = linted(&agreed);
    assert!(by_solver > 0 && lint.not_asked.is_empty(), "{lint:?}");
    assert_eq!(
        (lint.solvers, lint.second.as_deref()),
        (2, Some("Z3 of a test"))
    );
    let said = compared(&agreed);
    assert!(
        matches!(said.newly_denied, Witness::Proved { asked: 1.. }),
        "{said:?}"
    );
    assert_eq!(said.engines.solvers, 2);
    let said = widened(&agreed);
    assert!(
        matches!(
            said,
            Widening::Nothing {
                asked: 1..,
                solvers: 2
            }
        ),
        "{said:?}"
    );
}

#[test]
fn lint_and_witnesses_say_that_one_solver_vouched() {
    let Some(options) = cvc5("lint_and_witnesses_say_that_one_solver_vouched") else {
        return;
    };
    let (_folder, silent) = beside(&after_rehearsal("echo unknown"), &options);
    for options in [&options, &silent] {
        let (lint, by_solver) = linted(options);
        assert!(by_solver > 0, "{lint:?}");
        assert_eq!((lint.solvers, lint.second), (1, None));
        let said = compared(options);
        assert!(
            matches!(said.newly_denied, Witness::Proved { asked: 1.. }),
            "{said:?}"
        );
        assert_eq!(said.engines.solvers, 1);
        assert_eq!(said.engines.second, None);
        let said = widened(options);
        assert!(
            matches!(
                said,
                Widening::Nothing {
                    asked: 1..,
                    solvers: 1
                }
            ),
            "{said:?}"
        );
    }
}

#[test]
fn a_real_z3_agrees_with_lint_and_witnesses() {
    let Some(options) = z3("a_real_z3_agrees_with_lint_and_witnesses") else {
        return;
    };
    let (lint, by_solver) = linted(&options);
    assert!(by_solver > 0 && lint.not_asked.is_empty(), "{lint:?}");
    assert_eq!(lint.solvers, 2, "{lint:?}");
    let said = compared(&options);
    assert!(
        matches!(said.newly_denied, Witness::Proved { asked: 1.. }),
        "{said:?}"
    );
    assert_eq!(said.engines.solvers, 2, "{said:?}");
}

/// On a machine that is busy the second one takes long, and answers. Who has the time waits for it, and who has not is told
/// that one vouched. Once, tests counted on the second one to be quick, and failed where it was not.
#[test]
fn a_second_solver_that_is_slow_vouches_where_there_is_time() {
    let Some(options) = cvc5("a_second_solver_that_is_slow_vouches_where_there_is_time") else {
        return;
    };
    let (_folder, slow) = beside(&after_rehearsal("sleep 3; echo unsat"), &options);
    let with = shop_with(&[("policies/x.cedar", NEVER)]);
    let said = |options: &Options| witnesses_blocking(&shop(), &with, options).unwrap();
    assert_eq!(said(&slow).engines.solvers, 2);
    // Of the time for a question, one that was only found has a quarter.
    let hasty = Options {
        question: Duration::from_secs(8),
        ..slow
    };
    assert_eq!(said(&hasty).engines.solvers, 1);
}
