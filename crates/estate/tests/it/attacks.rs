//! Attacks on decisions. Each fails when the check that it guards is removed.

use crate::fixture::shop_with_policy;
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
            "people/dba",
            Action::Execute,
            ResourceRef::table("shop/public/orders"),
        ),
        (
            "people/dba",
            Action::Apply,
            ResourceRef::estate("demo.trilith"),
        ),
        (
            "people/dba",
            Action::Assume,
            ResourceRef::identity("payments/api"),
        ),
        (
            "people/dba",
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
