//! What a change of policies newly allows and newly denies over any data, as a request or as a proof that there
//! is none.

use crate::fixture::{cvc5, patient, shop, shop_files, shop_with};
use estate::Estate;
use estate_prove::{Options, Witness, Witnesses, witnesses_blocking};
use expect_test::{Expect, expect};

fn check(old: &Estate, new: &Estate, options: &Options, expected: &Expect) -> Witnesses {
    let said = witnesses_blocking(old, new, options).unwrap();
    let line = |witness: &Witness| match witness {
        Witness::Proved { .. } => "none: proved".to_owned(),
        Witness::Found { witness, before } => {
            let before: Vec<_> = before.iter().map(ToString::to_string).collect();
            format!(
                "{} (today: {}) {}",
                witness.text,
                witness.today,
                before.join(" and ")
            )
        }
        Witness::Unknown { why } => format!("unknown: {why}"),
    };
    expected.assert_eq(&format!(
        "allowed: {}\ndenied: {}\n",
        line(&said.newly_allowed).trim_end(),
        line(&said.newly_denied).trim_end()
    ));
    said
}

const READS: &str = "@id(\"reads\")\npermit (principal is Identity, action == Action::\"truncate\", resource is Table)\n\
    when { resource.classification == \"public\" && principal.kind == \"service\" };";

#[test]
fn a_permit_that_is_added_widens_and_one_that_is_taken_away_narrows() {
    let Some(options) = cvc5("a_permit_that_is_added_widens") else {
        return;
    };
    let (without, with) = (shop(), shop_with(&[("policies/x.cedar", READS)]));
    check(
        &without,
        &with,
        &options,
        &expect![[r#"
        allowed: some Identity of kind "service" could truncate some Table of classification "public", because of policies/x.cedar:1 "reads" (today: false)
        denied: none: proved
    "#]],
    );
    check(
        &with,
        &without,
        &options,
        &expect![[r#"
        allowed: none: proved
        denied: some Identity of kind "service" could not truncate some Table of classification "public", because no policy allows it (today: false) policies/x.cedar:1 "reads"
    "#]],
    );
}

#[test]
fn a_forbid_narrows_and_without_it_more_is_possible() {
    let Some(options) = cvc5("a_forbid_narrows") else {
        return;
    };
    let forbid = "@id(\"freeze\")\nforbid (principal, action == Action::\"insert\", resource is Table)\n\
                  when { resource.classification == \"internal\" };";
    let (without, with) = (shop(), shop_with(&[("policies/x.cedar", forbid)]));
    check(
        &without,
        &with,
        &options,
        &expect![[r#"
        allowed: none: proved
        denied: Identity::"payments/api" could not insert Table::"shop/public/orders" of classification "internal", because of policies/x.cedar:1 "freeze" (today: true) policies/shop.cedar:20 "payments keeps orders"
    "#]],
    );
    check(
        &with,
        &without,
        &options,
        &expect![[r#"
            allowed: Identity::"payments/api" could insert Table::"shop/public/orders" of classification "internal", because of policies/shop.cedar:20 "payments keeps orders" (owner payments team) (today: true)
            denied: none: proved
        "#]],
    );
}

#[test]
fn another_condition_does_both() {
    let Some(options) = cvc5("another_condition_does_both") else {
        return;
    };
    let other = READS.replace("\"public\"", "\"internal\"");
    let (old, new) = (
        shop_with(&[("policies/x.cedar", READS)]),
        shop_with(&[("policies/x.cedar", &other)]),
    );
    check(
        &old,
        &new,
        &options,
        &expect![[r#"
        allowed: some Identity of kind "service" could truncate some Table of classification "internal", because of policies/x.cedar:1 "reads" (today: false)
        denied: some Identity of kind "service" could not truncate some Table of classification "public", because no policy allows it (today: false) policies/x.cedar:1 "reads"
    "#]],
    );
}

#[test]
fn the_same_in_other_words_is_proved_to_do_nothing() {
    let Some(options) = cvc5("the_same_in_other_words") else {
        return;
    };
    let other = "@id(\"reads\")\npermit (principal is Identity, action == Action::\"truncate\", resource is Table)\n\
        unless { !(principal.kind == \"service\") || resource.classification != \"public\" };";
    let old = shop_with(&[("policies/x.cedar", READS)]);
    let said = check(
        &old,
        &shop_with(&[("policies/x.cedar", other)]),
        &options,
        &expect![[r"
            allowed: none: proved
            denied: none: proved
        "]],
    );
    // The solver was asked of the one kind of request that has changed, each way.
    for witness in [said.newly_allowed, said.newly_denied] {
        assert!(
            matches!(witness, Witness::Proved { asked: 1 }),
            "{witness:?}"
        );
    }
}

/// Cedar skips the policy that errs, where an estate denies: it is not proved that nothing changes.
#[test]
fn a_policy_that_can_err_denies() {
    let Some(options) = cvc5("a_policy_that_can_err_denies") else {
        return;
    };
    let errs = "@id(\"errs\")\nforbid (principal, action == Action::\"insert\", resource is Table) when \
        { context.workload has uid && context.workload.uid > 0 && context.workload.uid + 9223372036854775807 < 0 };";
    check(
        &shop(),
        &shop_with(&[("policies/x.cedar", errs)]),
        &options,
        &expect![[r#"
        allowed: none: proved
        denied: unknown: PROVE-ERRS: policies/x.cedar:1 "errs" can err, which denies, and one of the two versions does not have it
    "#]],
    );
}

#[test]
fn where_no_policy_changes_nothing_is_asked() {
    let mut files = shop_files();
    files.insert(
        "identities/more.toml",
        "[[identity]]\npath = \"more/app\"\nkind = \"service\"\nowner = \"team\"\n",
    );
    let options = Options {
        solver: "/nonexistent/cvc5".into(),
        ..Options::default()
    };
    let said = witnesses_blocking(&shop(), &crate::fixture::compile(&files), &options);
    assert!(said.is_none(), "{said:?}");
}

fn unknown(witness: &Witness) -> &'static str {
    match witness {
        Witness::Unknown { why } => why.code,
        other => panic!("{other:?}"),
    }
}

/// What has only come takes nothing away: that is known without a solver.
#[test]
fn a_solver_that_is_missing_or_slow_makes_it_unknown_within_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let slow = folder.path().join("slow");
    testkit::script(
        &slow,
        "n=0\nwhile read -r line; do case \"$line\" in *check-sat*) n=$((n+1));\n\
         case $n in 1) echo sat;; 2) echo unsat;; esac;; esac; done",
    )
    .unwrap();
    let new = shop_with(&[("policies/x.cedar", READS)]);
    for (solver, code) in [
        ("/nonexistent/cvc5".into(), "PROVE-SOLVER-START"),
        (slow, "PROVE-TIMEOUT"),
    ] {
        let options = Options {
            solver,
            ..Options::default()
        };
        // Without its bound the slow one would be waited for for ever.
        let said = witnesses_blocking(&shop(), &new, &options.for_a_hint()).unwrap();
        assert_eq!(unknown(&said.newly_allowed), code);
        let none = matches!(said.newly_denied, Witness::Proved { asked: 0 });
        assert!(none, "{:?}", said.newly_denied);
    }
}

/// It answers both questions of its rehearsal, and then calls everything possible, without a model that is so.
#[test]
fn what_does_not_come_out_when_it_is_evaluated_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let lies = folder.path().join("lies");
    testkit::script(
        &lies,
        "n=0\nwhile read -r line; do case \"$line\" in *check-sat*) n=$((n+1));\n\
         case $n in 2) echo unsat;; *) echo sat;; esac;; *get-model*) echo '(';echo ')';; esac; done",
    )
    .unwrap();
    let options = patient(Options {
        solver: lies,
        ..Options::default()
    });
    let new = shop_with(&[("policies/x.cedar", READS)]);
    let said = witnesses_blocking(&shop(), &new, &options).unwrap();
    let code = unknown(&said.newly_allowed);
    assert!(
        matches!(code, "PROVE-REPLAY" | "PROVE-SOLVER-MODEL"),
        "{code}"
    );
}
