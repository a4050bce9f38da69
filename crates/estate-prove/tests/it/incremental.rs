//! A proof asks again only what a change touches, and agrees with one that knows nothing.

use crate::fixture::{compile, cvc5, shop_files};
use estate::EstateFiles;
use estate_prove::{Memory, Options, Report, Result, prove_beside, prove_blocking};
use std::fmt::Write as _;

/// The shop with very many permits, each for one identity that is no AI agent.
fn crowd(permits: usize, change: &str) -> EstateFiles {
    let mut files = shop_files();
    let mut text = String::new();
    for number in 0..permits {
        writeln!(
            text,
            "@id(\"permit {number}\") permit (principal == Identity::\"payments/api\", \
             action == Action::\"select\", resource == Table::\"shop/public/orders\")\n\
             when {{ principal.owner == \"team {number}\" }};"
        )
        .unwrap();
    }
    files.insert("policies/crowd.cedar", text + change);
    files
}

fn outcomes(report: &Report) -> Vec<String> {
    report
        .invariants
        .iter()
        .map(|one| format!("{} {}", one.invariant.id, one.result))
        .collect()
}

#[test]
fn one_more_policy_is_asked_about_with_its_neighbours_alone() {
    let Some(options) = cvc5("one_more_policy_is_asked_about") else {
        return;
    };
    let memory = Memory::default();
    let before = compile(&crowd(200, ""));
    let first = prove_beside(&before, &options, &memory);
    assert!(first.is_accepted(), "{:?}", outcomes(&first));
    let asked = memory.len();
    assert!(asked > 8, "{asked} questions");
    // Nothing has changed: nothing is asked, so that no solver is needed.
    let deaf = Options {
        solver: "/bin/false".into(),
        ..options.clone()
    };
    let again = prove_beside(&before, &options, &memory);
    assert_eq!(outcomes(&again), outcomes(&first));
    assert_eq!(memory.len(), asked);
    // What another solver has proved is no proof of this one.
    assert!(!prove_beside(&before, &deaf, &memory).is_accepted());
    let change = "@id(\"new\") permit (principal == Identity::\"payments/api\", \
                  action == Action::\"select\", resource == Table::\"shop/public/products\");";
    let after = compile(&crowd(200, change));
    let changed = prove_beside(&after, &options, &memory);
    assert!(changed.is_accepted());
    let more = memory.len() - asked;
    assert!(
        (1..=4).contains(&more),
        "{more} of {asked} questions asked again"
    );
    assert_eq!(
        outcomes(&changed),
        outcomes(&prove_blocking(&after, &options))
    );
}

#[test]
fn a_change_that_breaks_is_found_beside_all_that_is_known() {
    let Some(options) = cvc5("a_change_that_breaks_is_found") else {
        return;
    };
    let memory = Memory::default();
    let options = Options {
        processes: 3,
        ..options
    };
    assert!(prove_beside(&compile(&crowd(60, "")), &options, &memory).is_accepted());
    let change = "@id(\"leak\") permit (principal == Identity::\"reporting/nightly\", \
                  action == Action::\"insert\", resource) when { context.machine has join };";
    let mut files = crowd(60, change);
    files.insert(
        "invariants/more.cedar",
        "@id(\"reporting writes nothing\") never (principal == Identity::\"reporting/nightly\", \
         action in [Action::\"insert\", Action::\"update\"], resource);",
    );
    let broken = prove_beside(&compile(&files), &options, &memory);
    let of = |report: &Report| {
        let found = report.invariants.iter();
        let mut found = found.filter(|one| matches!(one.result, Result::Broken { .. }));
        found.next().unwrap().result.to_string()
    };
    assert!(of(&broken).contains("leak"), "{}", of(&broken));
    // And again: by which request is found anew.
    let again = prove_beside(&compile(&files), &options, &memory);
    assert!(of(&again).contains("leak"), "{}", of(&again));
}

#[test]
fn a_forbid_that_is_taken_away_is_missed() {
    let Some(options) = cvc5("a_forbid_that_is_taken_away") else {
        return;
    };
    let memory = Memory::default();
    assert!(prove_beside(&compile(&shop_files()), &options, &memory).is_accepted());
    let without = compile(&crate::fixture::shop_without_the_guard());
    let report = prove_beside(&without, &options, &memory);
    assert!(!report.is_accepted());
}

#[test]
fn a_second_solver_has_to_agree() {
    let Some(options) = cvc5("a_second_solver_has_to_agree") else {
        return;
    };
    let estate = compile(&shop_files());
    let two = |second: &str| Options {
        second: Some(second.into()),
        ..options.clone()
    };
    let itself = options.solver.to_string_lossy().into_owned();
    let agreed = prove_blocking(&estate, &two(&itself));
    assert!(agreed.is_accepted());
    assert_eq!(agreed.engines.solvers, 2);
    assert_eq!(agreed.engines.second, agreed.engines.solver);
    let alone = prove_blocking(&estate, &options);
    assert_eq!((alone.engines.solvers, alone.engines.second), (1, None));
    // One that is not there leaves the proof to nobody: it was asked for.
    let absent = prove_blocking(&estate, &two("/nonexistent/cvc5"));
    assert!(!absent.is_accepted());
    assert_eq!(absent.engines.solvers, 1);
}

/// Once, who can do it was asked of every identity again at each change.
#[test]
fn what_is_reached_is_not_asked_again_of_those_whom_a_change_leaves() {
    let Some(options) = cvc5("what_is_reached_is_not_asked_again") else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    let program = folder.path().join("solver");
    let real = options.solver.display();
    let script = format!(
        "case \"$1\" in --version) exec {real} --version;; esac\ntee -a {} | {real} \"$@\"",
        said.display()
    );
    testkit::script(&program, &script).unwrap();
    let options = Options {
        solver: program,
        processes: 1,
        ..options
    };
    let asked = || {
        let text = std::fs::read_to_string(&said).unwrap_or_default();
        std::fs::remove_file(&said).ok();
        // Two of them rehearse each process.
        text.matches("(check-sat)").count() - 2 * text.matches("(assert (= x 1))").count()
    };
    let spanning = |change: &str| {
        let mut files = crowd(80, change);
        files.0.retain(|path, _| !path.starts_with("invariants/"));
        files.insert(
            "invariants/root.cedar",
            "@id(\"only what runs as root reads\") never (principal is Identity, \
             action == Action::\"select\", resource is Table) \
             except { principal has uid && principal.uid == 0 };",
        );
        compile(&files)
    };
    let memory = Memory::default();
    let first = prove_beside(&spanning(""), &options, &memory);
    assert!(first.is_accepted(), "{:?}", outcomes(&first));
    let whole = asked();
    assert!(whole > 10, "{whole}");
    assert!(prove_beside(&spanning(""), &options, &memory).is_accepted());
    assert_eq!(asked(), 0, "nothing has changed");
    let change = "@id(\"new\") permit (principal == Identity::\"payments/api\", \
                  action == Action::\"select\", resource == Table::\"shop/public/products\");";
    let changed = prove_beside(&spanning(change), &options, &memory);
    assert!(changed.is_accepted(), "{:?}", outcomes(&changed));
    let again = asked();
    assert!(again * 5 <= whole, "{again} of {whole} questions");
    // Who can do it although he should not is found, whatever is known.
    let open = "@id(\"anybody\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
                resource == Identity::\"payments/api\") when { principal has uid && principal.uid == 7 };";
    let broken = prove_beside(&spanning(open), &options, &memory);
    let said = outcomes(&broken);
    assert!(said.len() == 1 && said[0].contains("anybody"), "{said:?}");
    let anew = outcomes(&prove_blocking(&spanning(open), &options));
    let becomes = |said: &[String]| said[0].split("; and then").next().map(str::to_owned);
    assert_eq!(becomes(&anew), becomes(&said));
}
