//! Attacks on decisions. Each fails when the check that it guards is removed.

use crate::fixture::{compile, problems_with, shop_files, shop_with_policy};
use estate::{Action, Estate, Request, ResourceRef};
use facts::FactSet;

fn helper_reads(estate: &Estate, table: &str) -> estate::Decision {
    estate.decide(&Request {
        principal: "agents/helper",
        action: Action::Select,
        resource: ResourceRef::table(table),
        facts: &FactSet::new(),
    })
}

/// Cedar skips a policy that errs: a `forbid` made to overflow would let through what it forbids.
#[test]
fn a_forbid_that_errs_denies() {
    let estate = shop_with_policy(
        "@id(\"errs\") forbid (principal == Identity::\"agents/helper\", action == Action::\"select\", \
         resource) when { 9223372036854775807 + (if resource.classification == \"public\" then 1 else 0) > 0 };",
    );
    let decision = helper_reads(&estate, "shop/public/products");
    assert!(!decision.allow);
    assert!(
        decision.errors[0].starts_with("ESTATE-EVALUATION"),
        "{:?}",
        decision.errors
    );
    // Where it does not err it does not match either: the condition is `> 0`, so it forbids.
    assert!(!helper_reads(&estate, "shop/public/orders").allow);
}

#[test]
fn a_permit_that_errs_denies_what_another_permits() {
    let estate = shop_with_policy(
        "@id(\"errs\") permit (principal, action == Action::\"select\", resource is Table) \
         when { 9223372036854775807 + (if resource.classification == \"public\" then 1 else 0) < 0 };",
    );
    assert!(!helper_reads(&estate, "shop/public/products").allow);
    assert!(helper_reads(&estate, "shop/public/orders").allow);
    let listed = estate.who_can(Action::Select, &ResourceRef::table("shop/public/products"));
    assert!(listed.accesses.is_empty(), "{:?}", listed.accesses);
}

#[test]
fn an_action_that_does_not_apply_is_no_way_around() {
    let estate = crate::fixture::shop();
    for (principal, action, resource) in [
        (
            "ops/psql",
            Action::Execute,
            ResourceRef::table("shop/public/orders"),
        ),
        (
            "ops/psql",
            Action::Apply,
            ResourceRef::estate("demo.trilith"),
        ),
        (
            "ops/psql",
            Action::Assume,
            ResourceRef::identity("payments/api"),
        ),
        (
            "ops/psql",
            Action::Select,
            ResourceRef::table("shop/public/orders/x"),
        ),
        (
            "people/nobody",
            Action::Select,
            ResourceRef::table("shop/public/orders"),
        ),
        ("", Action::Select, ResourceRef::table("")),
    ] {
        let decision = estate.decide(&Request {
            principal,
            action,
            resource,
            facts: &FactSet::new(),
        });
        assert!(
            !decision.allow && !decision.errors.is_empty(),
            "{principal} {action}"
        );
    }
}

#[test]
fn only_declared_administrators_administer() {
    let estate = crate::fixture::shop();
    let whole = ResourceRef::estate("demo.trilith");
    assert!(estate.decide_admin(0, Action::Apply, &whole).allow);
    assert!(!estate.decide_admin(1000, Action::Apply, &whole).allow);
    assert!(
        !estate
            .decide_admin(0, Action::Apply, &ResourceRef::estate("other.trilith"))
            .allow
    );
    assert!(
        !estate
            .decide_admin(0, Action::Select, &ResourceRef::table("shop/public/cards"))
            .allow
    );
    assert!(
        estate
            .decide_admin(0, Action::Revoke, &ResourceRef::machine("m7"))
            .allow
    );
}

#[test]
fn what_a_server_starts_from_lets_its_administrator_in_and_nobody_else() {
    let estate = crate::fixture::compile(&estate::EstateFiles::bootstrap("example.org", 501));
    let whole = ResourceRef::estate("example.org");
    assert!(estate.decide_admin(501, Action::Apply, &whole).allow);
    assert!(!estate.decide_admin(0, Action::Apply, &whole).allow);
}

#[test]
fn a_forbid_over_a_fact_that_no_gateway_sees_is_refused() {
    // `has` of a fact that stands nowhere is false: the `forbid` would never match.
    let policy = "@id(\"x\")\nforbid (principal, action == Action::\"select\", resource)\nwhen { context.machine has boot && context.machine.boot has secure_boot && !context.machine.boot.secure_boot };";
    let problems = problems_with("policies/x.cedar", policy);
    assert!(problems.contains("policies/x.cedar:1: ESTATE-FACT-NOT-VISIBLE: it reads the fact `machine.boot.secure_boot`"), "{problems}");
    let branch = "@id(\"x\")\nforbid (principal, action == Action::\"select\", resource)\nunless { context.machine has boot };";
    let problems = problems_with("policies/x.cedar", branch);
    assert!(problems.contains("`machine.boot`"), "{problems}");
    // Of identities that show it, and of those that the policy cannot concern, nothing is said.
    let shown = "@id(\"x\")\nforbid (principal, action == Action::\"select\", resource)\nwhen { principal.kind == \"ai-agent\" && context.machine has tpm && context.machine.tpm has kind && context.machine.tpm.kind == \"emulated\" };";
    assert_eq!(problems_with("policies/x.cedar", shown), "no problem");
}

#[test]
fn a_test_that_supposes_what_no_gateway_sees_proves_nothing() {
    let mut files = shop_files();
    files.insert(
        "tests/x.toml",
        "[[test]]\nname = \"x\"\nprincipal = \"payments/api\"\naction = \"select\"\n\
         resource = \"shop/public/cards\"\nexpect = \"allow\"\n\
         [test.facts]\n\"workload.gid\" = 7\n",
    );
    let outcomes = compile(&files).run_tests();
    let failure = outcomes
        .iter()
        .find(|one| one.name == "x")
        .unwrap()
        .failure
        .clone();
    assert!(failure.unwrap().contains("not among `visible`"));
}

#[test]
fn what_reaches_undeclared_schemas_and_databases_is_listed() {
    for (scope, shown) in [
        ("resource in Database::\"shop\"", "shop"),
        ("resource", "*"),
    ] {
        let mut files = shop_files();
        files.insert(
            "policies/x.cedar",
            format!("@id(\"x\")\npermit (principal == Identity::\"payments/api\", action == Action::\"select\", {scope});"),
        );
        files.insert(
            "invariants/x.cedar",
            "@id(\"x\")\nnever (principal == Identity::\"payments/api\", action == Action::\"select\", resource)\nwhen { resource.classification == \"restricted\" };",
        );
        let estate = compile(&files);
        let shown = ResourceRef::new(estate::ResourceKind::Database, shown);
        let answer = estate.what_can("payments/api");
        let listed = |access: &estate::Access| access.resource == shown;
        assert!(answer.accesses.iter().any(listed), "{scope}: {answer:?}");
        let invariant = estate
            .invariants()
            .iter()
            .find(|one| one.reference.id == "x")
            .unwrap();
        let today = estate.holds_today(invariant);
        assert!(
            matches!(&today, estate::Today::Broken { by } if by.iter().any(|breach| breach.resource == shown)),
            "{scope}: {today:?}"
        );
    }
}

/// A workload under such a path was issued the identity of the server, or of a machine, and was taken for it.
#[test]
fn the_names_of_trilith_s_own_parts_are_not_declared() {
    for path in [
        "trilith",
        "trilith/server",
        "trilith/node/m1",
        "Trilith/node/m1",
    ] {
        let text = format!("[[identity]]\npath = \"{path}\"\nkind = \"gateway\"\nowner = \"o\"\n");
        let problems = problems_with("identities/x.toml", &text);
        assert!(
            problems.starts_with("identities/x.toml:2:8: ESTATE-IDENTITY-RESERVED: ")
                && problems.contains("does not begin with `trilith`"),
            "{path}: {problems}"
        );
        // In a ledger of before it still compiles: the server refuses what it would issue by it.
        let mut files = shop_files();
        files.insert("identities/x.toml", text);
        let recorded = Estate::compile_recorded(&files).unwrap();
        assert!(recorded.identity(path).is_some() && estate::is_reserved(path));
    }
    let text = "[[identity]]\npath = \"trilithic/node\"\nkind = \"service\"\nowner = \"o\"\n";
    assert_eq!(problems_with("identities/x.toml", text), "no problem");
}

/// An AI agent whose certificate had the gateway's DNS name posed as the gateway to clients that check no more.
#[test]
fn a_dns_name_belongs_to_one_identity() {
    for name in ["localhost", "LocalHost"] {
        let text = format!(
            "[[identity]]\npath = \"agents/evil\"\nkind = \"ai-agent\"\nowner = \"o\"\ndns_names = [\"{name}\"]\n"
        );
        let problems = problems_with("identities/x.toml", &text);
        let refused = "identities/x.toml:5:14: ESTATE-DNS-SHARED: ";
        assert!(
            problems.contains(refused)
                && problems.contains("`gateway/pg` already, at identities/shop.toml:46"),
            "{problems}"
        );
    }
    let text = "[[identity]]\npath = \"a/b\"\nkind = \"service\"\nowner = \"o\"\ndns_names = [\"a.b\", \"a.b\"]\n";
    assert_eq!(problems_with("identities/x.toml", text), "no problem");
}
