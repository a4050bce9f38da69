//! A solver that hangs, dies, babbles or lies never lets an unproved version through.

use crate::fixture::{compile, cvc5, patient, shop, shop_without_the_guard};
use estate::{Estate, Today};
use estate_prove::{Options, Report, Result, prove_blocking};
use std::time::Duration;

/// The report with `script` (a shell script's body) as the solver, which ends by itself.
fn proved_by(script: &str, estate: &Estate) -> Report {
    within(&patient(Options::default()), script, estate)
}

/// The same, within these bounds.
fn within(bounds: &Options, script: &str, estate: &Estate) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("solver");
    testkit::script(&path, script).unwrap();
    let options = Options {
        solver: path,
        ..bounds.clone()
    };
    prove_blocking(estate, &options)
}

fn code(report: &Report) -> &'static str {
    assert!(!report.is_accepted());
    match &report.invariants[0].result {
        Result::Unknown { why } => why.code,
        other => panic!("{other}"),
    }
}

/// Answers the two questions that every process is asked first, then does as told.
fn after_rehearsal(then: &str) -> String {
    format!(
        "n=0\nwhile read -r line; do case \"$line\" in *check-sat*) n=$((n+1));\n\
         case $n in 1) echo sat;; 2) echo unsat;; *) {then};; esac;; esac; done"
    )
}

#[test]
fn a_solver_that_is_not_there_proves_nothing() {
    let options = Options {
        solver: "/nonexistent/cvc5".into(),
        ..Options::default()
    };
    let report = prove_blocking(&shop(), &options);
    assert_eq!(code(&report), "PROVE-SOLVER-START");
    assert_eq!(report.engines.solvers, 0);
    assert!(said(&report).contains("there is no such file"));
}

/// Once it was "no usable cvc5", as if there were one.
#[test]
fn a_solver_that_is_not_on_the_path_is_said_not_to_be_found() {
    let options = Options {
        solver: "cvc5-of-nobody".into(),
        ..Options::default()
    };
    let said = said(&prove_blocking(&shop(), &options));
    assert!(
        said.contains("cannot start `cvc5-of-nobody`: not found on the PATH"),
        "{said}"
    );
}

fn said(report: &Report) -> String {
    report.invariants[0].result.to_string()
}

/// Reads for as long as there is somebody to listen to, and leaves no process behind.
const HANG: &str = "while read -r line; do :; done";

#[test]
fn a_solver_that_hangs_is_cut() {
    let soon = Duration::from_millis(200);
    let patient = patient(Options::default());
    let [start, question, total] = [
        Options {
            start: soon,
            ..patient.clone()
        },
        Options {
            question: soon,
            ..patient.clone()
        },
        Options {
            total: soon,
            ..patient
        },
    ];
    // Whichever is the shortest, and it alone.
    assert_eq!(code(&within(&start, HANG, &shop())), "PROVE-SOLVER-START");
    assert_eq!(code(&within(&total, HANG, &shop())), "PROVE-TIMEOUT");
    let after = after_rehearsal(HANG);
    assert_eq!(code(&within(&question, &after, &shop())), "PROVE-TIMEOUT");
    assert_eq!(code(&within(&total, &after, &shop())), "PROVE-TIMEOUT");
}

#[test]
fn a_solver_that_exits_proves_nothing() {
    assert_eq!(code(&proved_by("exit 0", &shop())), "PROVE-SOLVER-START");
    assert_eq!(
        code(&proved_by(&after_rehearsal("exit 0"), &shop())),
        "PROVE-SOLVER-FAILED"
    );
}

#[test]
fn a_solver_that_babbles_proves_nothing() {
    assert_eq!(
        code(&proved_by("yes unsatisfactory", &shop())),
        "PROVE-SOLVER-START"
    );
    // Without an end of line, for ever: bounded in memory as well.
    assert_eq!(
        code(&proved_by("cat /dev/zero", &shop())),
        "PROVE-SOLVER-START"
    );
    assert_eq!(
        code(&proved_by(
            &after_rehearsal("echo '(error \"x\")'"),
            &shop()
        )),
        "PROVE-SOLVER-FAILED"
    );
    assert_eq!(
        code(&proved_by(&after_rehearsal("echo unknown"), &shop())),
        "PROVE-SOLVER-UNKNOWN"
    );
}

#[test]
fn a_solver_that_calls_everything_proved_fails_its_rehearsal() {
    let report = proved_by(
        "while read -r line; do case \"$line\" in *check-sat*) echo unsat;; esac; done",
        &shop(),
    );
    assert_eq!(code(&report), "PROVE-SOLVER-START");
}

/// One that knows the rehearsal and lies afterwards: today's declarations contradict it.
#[test]
fn a_lie_that_todays_data_contradict_is_found_out() {
    let mut files = shop_without_the_guard();
    files.insert(
        "policies/extra.cedar",
        "@id(\"x\") permit (principal == Identity::\"agents/helper\", action == Action::\"select\", \
         resource == Table::\"shop/public/cards\");",
    );
    let report = proved_by(&after_rehearsal("echo unsat"), &compile(&files));
    assert_eq!(code(&report), "PROVE-SOLVER-LIES");
    assert!(matches!(report.invariants[0].today, Today::Broken { .. }));
}

/// A model that breaks nothing is no counterexample.
#[test]
fn an_invented_counterexample_is_not_believed() {
    let report = proved_by(&after_rehearsal("echo sat; echo '('; echo ')'"), &shop());
    let codes = [
        "PROVE-REPLAY",
        "PROVE-SOLVER-MODEL",
        "PROVE-SOLVER-FAILED",
        "PROVE-UNSUPPORTED",
    ];
    assert!(
        codes.contains(&code(&report)),
        "{}",
        report.invariants[0].result
    );
}

#[test]
fn a_solver_without_memory_proves_nothing() {
    let Some(options) = cvc5("a_solver_without_memory") else {
        return;
    };
    let report = prove_blocking(
        &shop(),
        &Options {
            memory_kib: 8 * 1024,
            ..options
        },
    );
    assert_eq!(code(&report), "PROVE-SOLVER-START");
}
