//! What the solver finds of policies, and what is said without one.

use crate::fixture::{cvc5, shop_with};
use estate::{Means, Severity};
use estate_prove::{Lint, Options, lint_blocking};
use expect_test::expect;
use std::time::Duration;

/// What stands in `policies/x.cedar`.
fn of_x(lint: &Lint) -> String {
    lint.findings
        .iter()
        .filter(|one| one.problem.file == "policies/x.cedar")
        .map(|one| format!("{one} by {:?}\n", one.by))
        .collect()
}

fn with(text: &str) -> estate::Estate {
    shop_with(&[("policies/x.cedar", text)])
}

/// No text shows that two patterns exclude each other.
const NEVER: &str = "@id(\"never\") forbid (principal is Identity, action == Action::\"insert\", resource is Table)\n\
     when { principal.owner like \"a*\" && principal.owner like \"b*\" };\n";
const ERRS: &str = "@id(\"errs\") forbid (principal is Identity, action == Action::\"insert\", resource is Table)\n\
     when { context.workload has uid && context.workload.uid > 0 && context.workload.uid + 9223372036854775807 < 0 };\n\
     @id(\"does not\") forbid (principal is Identity, action == Action::\"insert\", resource is Table)\n\
     when { context.workload has uid && context.workload.uid > 0 && context.workload.uid < 9 && context.workload.uid + 1 == 3 };\n";
const SHADOWED: &str = "@id(\"wide\") permit (principal in Group::\"shop\", action in [Action::\"insert\", Action::\"update\"], resource is Table)\n\
     when { [\"public\", \"internal\", \"catalog\"].contains(resource.classification) };\n\
     @id(\"narrow\") permit (principal in Group::\"shop\", action == Action::\"update\", resource is Table)\n\
     when { resource.classification == \"public\" && principal.kind == \"job\" };\n\
     @id(\"the same\") permit (principal in Group::\"shop\", action in [Action::\"insert\", Action::\"update\"], resource is Table)\n\
     when { resource.classification == \"catalog\" || resource.classification == \"internal\" || resource.classification == \"public\" };\n\
     @id(\"else\") permit (principal in Group::\"shop\", action == Action::\"update\", resource is Table)\n\
     when { resource.classification == \"pii\" && principal.kind == \"job\" };\n\
     @id(\"forbidden\") permit (principal in Group::\"shop\", action == Action::\"update\", resource)\n\
     when { resource.classification == \"restricted\" && principal.kind == \"ai-agent\" };\n";

#[test]
fn a_condition_that_no_data_meets_is_an_error() {
    let Some(options) = cvc5("a_condition_that_no_data_meets") else {
        return;
    };
    let lint = lint_blocking(&with(NEVER), &options);
    expect![[r#"
        error: policies/x.cedar:1: LINT-NEVER-MATCHES: it never forbids anything: no request of any data meets its conditions (correct the conditions, or delete the policy) by Solver
    "#]].assert_eq(&of_x(&lint));
    assert!(lint.solver.is_some_and(|solver| solver.contains("cvc5")));
    assert!(lint.not_asked.is_empty(), "{:?}", lint.not_asked);
}

#[test]
fn what_errs_is_shown_and_what_does_not_is_not_supposed() {
    let Some(options) = cvc5("what_errs_is_shown") else {
        return;
    };
    let lint = lint_blocking(&with(ERRS), &options);
    expect![[r#"
        error: policies/x.cedar:1: LINT-ERRS: it errs, and whatever errs is denied: some Identity could not insert some Table, with {machine: {}, workload: {cgroup: "", helper: "A", path: "B", uid: 1, unit: "C"}}: error while evaluating policy `errs`: integer overflow while attempting to add the values `1` and `9223372036854775807` (compare without `+`, `-` and `*`, or bound the numbers in conditions before it) by Solver
        error: policies/x.cedar:1: LINT-NEVER-MATCHES: it never forbids anything: no request of any data meets its conditions (correct the conditions, or delete the policy) by Solver
    "#]].assert_eq(&of_x(&lint));
}

#[test]
fn policies_that_change_nothing_are_named_with_what_makes_them_needless() {
    let Some(options) = cvc5("policies_that_change_nothing") else {
        return;
    };
    let lint = lint_blocking(&with(SHADOWED), &options);
    expect![[r#"
        warning: policies/x.cedar:3: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "wide" permits as well (delete one of the two, or narrow the other) by Solver
        warning: policies/x.cedar:5: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "wide" permits as well (delete one of the two, or narrow the other) by Solver
        warning: policies/x.cedar:9: LINT-FORBIDDEN: everything that it permits, policies/shop.cedar:67 "an AI agent never touches personal or unclassified data" forbids (delete one of the two, or narrow the other) by Solver
    "#]].assert_eq(&of_x(&lint));
    assert!(lint.pairs_asked > 0);
}

#[test]
fn the_example_has_nothing_that_only_a_solver_sees() {
    let Some(options) = cvc5("the_example_has_nothing") else {
        return;
    };
    let lint = lint_blocking(&crate::fixture::shop(), &options);
    assert_eq!(lint.count(Severity::Error), 0, "{:?}", lint.findings);
    let by_solver = lint.findings.iter().filter(|one| one.by == Means::Solver);
    assert_eq!(by_solver.count(), 0, "{:?}", lint.findings);
    assert_eq!(lint.policies_asked, crate::fixture::shop().policy_count());
}

#[test]
fn without_a_solver_the_rest_is_said_and_so_is_what_is_missing() {
    let options = Options {
        solver: "/nonexistent/cvc5".into(),
        ..Options::default()
    };
    let lint = lint_blocking(&with(&format!("{NEVER}{ERRS}")), &options);
    expect![[r#"
        warning: policies/x.cedar:3: LINT-MAY-ERR: it computes, and may overflow: an error of any policy of a request is a denial (compare without `+`, `-` and `*`; with cvc5 installed, this is proved or shown) by Text
        warning: policies/x.cedar:5: LINT-MAY-ERR: it computes, and may overflow: an error of any policy of a request is a denial (compare without `+`, `-` and `*`; with cvc5 installed, this is proved or shown) by Text
    "#]].assert_eq(&of_x(&lint));
    assert_eq!((lint.solver, lint.policies_asked), (None, 0));
    expect!["17 of 17 policies: PROVE-SOLVER-START: cannot start `/nonexistent/cvc5`: there is no such file"].assert_eq(&lint.not_asked.join("\n"));
}

/// Whoever has little time is told what was not looked at.
#[test]
fn what_there_was_no_time_for_is_counted() {
    let Some(options) = cvc5("what_there_was_no_time_for") else {
        return;
    };
    let options = Options {
        total: Duration::from_millis(1),
        ..options
    };
    let lint = lint_blocking(&with(SHADOWED), &options);
    assert!(
        lint.not_asked
            .iter()
            .any(|left| left.contains("PROVE-TIMEOUT")),
        "{:?}",
        lint.not_asked
    );
}

/// As many pairs as there are squares of policies: the bound is said.
#[test]
fn pairs_beyond_the_bound_are_counted() {
    let Some(options) = cvc5("pairs_beyond_the_bound") else {
        return;
    };
    let text: String = (0..40)
        .map(|number| {
            format!(
                "@id(\"p{number}\") permit (principal in Group::\"shop\", action == Action::\"update\", resource is Table)\n\
                 when {{ principal.owner == \"{number}\" }};\n"
            )
        })
        .collect();
    let lint = lint_blocking(&with(&text), &options);
    assert!(lint.pairs_asked <= 1_000, "{}", lint.pairs_asked);
    assert!(
        lint.not_asked
            .iter()
            .any(|left| left.contains("pairs of policies")),
        "{:?}",
        lint.not_asked
    );
    assert_eq!(of_x(&lint), "", "each is of its own");
}
