//! Templates of identities: who becomes an instance, what it may use, and what keeps instances apart.

use crate::fixture::{compile, facts, render};
use estate::{Action, Estate, EstateFiles, Request, ResourceRef};
use expect_test::expect;
use facts::{FactSet, names};

const IDENTITIES: &str = r#"
[[group]]
name = "jobs"
[[identity]]
path = "pools/{machine.pool}/jobs/{workload.unit}"
kind = "job"
owner = "platform"
groups = ["jobs"]
visible = ["workload.unit"]
[[identity]]
path = "payments/api"
kind = "service"
owner = "payments"
"#;

const POLICIES: &str = r#"
@id("jobs of the pool")
permit (principal in Pool::"demo", action == Action::"assume", resource in Group::"jobs")
when { principal has uid && principal.uid == 0 };
@id("jobs read orders")
permit (principal == Identity::"pools/{machine.pool}/jobs/{workload.unit}", action == Action::"select", resource == Table::"shop/public/orders");
@id("only the nightly one writes")
permit (principal in Group::"jobs", action == Action::"insert", resource == Table::"shop/public/orders")
when { context.workload has unit && context.workload.unit == "nightly" };
"#;

fn files() -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"example.org\"\n[[administrator]]\nuid = 0\n",
    );
    files.insert("identities/all.toml", IDENTITIES);
    files.insert("references/all.toml", "[[pool]]\nname = \"demo\"\n");
    files.insert(
        "resources/all.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"orders\"\n",
    );
    files.insert("policies/all.cedar", POLICIES);
    files
}

fn estate() -> Estate {
    compile(&files())
}

fn problems(path: &str, text: &str) -> String {
    let mut files = files();
    files.insert(path, text);
    match Estate::compile(&files) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => render(&problems),
    }
}

fn job(unit: &str) -> FactSet {
    facts(&[
        (names::MACHINE_POOL, "demo".into()),
        (names::WORKLOAD_UID, 0_u32.into()),
        (names::WORKLOAD_UNIT, unit.into()),
    ])
}

#[test]
fn a_workload_becomes_the_instance_that_its_facts_make() {
    let estate = estate();
    let found = estate.assumable(&job("nightly"));
    let paths: Vec<_> = found.iter().map(|(one, _)| one.path.as_str()).collect();
    assert_eq!(paths, ["pools/demo/jobs/nightly"]);
    assert_eq!(found[0].0.owner, "platform");
    assert_eq!(found[0].1.policy_ids(), ["jobs of the pool"]);
    assert!(
        estate
            .assume(&job("nightly"), "pools/demo/jobs/nightly")
            .allow
    );
    // By the template's own path it is whichever the facts make.
    let template = "pools/{machine.pool}/jobs/{workload.unit}";
    assert!(estate.assume(&job("nightly"), template).allow);
}

#[test]
fn a_workload_does_not_become_the_instance_of_another() {
    let decision = estate().assume(&job("nightly"), "pools/demo/jobs/hourly");
    assert!(!decision.allow);
    expect!["ASSUME-TEMPLATE-PATH: the facts of this workload make it `pools/demo/jobs/nightly`, not `pools/demo/jobs/hourly`; next: ask for the identity that its facts make"].assert_eq(&decision.findings[0].to_string());
    let elsewhere = facts(&[
        (names::MACHINE_POOL, "lab".into()),
        (names::WORKLOAD_UID, 0_u32.into()),
        (names::WORKLOAD_UNIT, "nightly".into()),
    ]);
    assert!(!estate().assume(&elsewhere, "pools/demo/jobs/nightly").allow);
    assert!(estate().assumable(&elsewhere).is_empty());
}

#[test]
fn a_value_that_is_no_path_segment_is_refused_and_never_escaped() {
    let estate = estate();
    for unit in ["..", "a/b", "a%2Fb", "", "nightly@1", "\u{430}"] {
        assert!(estate.assumable(&job(unit)).is_empty(), "{unit:?}");
        let decision = estate.assume(&job(unit), &format!("pools/demo/jobs/{unit}"));
        assert!(!decision.allow, "{unit:?}");
    }
    let decision = estate.assume(&job("a/b"), "pools/{machine.pool}/jobs/{workload.unit}");
    expect![[r#"ASSUME-TEMPLATE-VALUE: `pools/{machine.pool}/jobs/{workload.unit}`: the fact `workload.unit`, which the path of the identity is made of, says "a/b": no SPIFFE path segment; next: name it by letters, digits, `.`, `-` and `_`, or declare the identity by itself"#]].assert_eq(&decision.findings[0].to_string());
    let unfilled = estate.unfilled(&job("a/b"));
    assert_eq!(unfilled.len(), 1);
    assert_eq!(unfilled[0].1.findings, decision.findings);
    assert!(estate.unfilled(&job("nightly")).is_empty());
    let nobody = facts(&[(names::MACHINE_POOL, "demo".into())]);
    let decision = estate.assume(&nobody, "pools/demo/jobs/nightly");
    assert_eq!(decision.findings[0].code, "ASSUME-TEMPLATE-FACT");
}

#[test]
fn an_instance_may_use_what_its_template_may() {
    let estate = estate();
    let may = |principal: &str, action, facts: &FactSet| {
        estate
            .decide(&Request {
                principal,
                action,
                resource: ResourceRef::table("shop/public/orders"),
                facts,
            })
            .allow
    };
    let nightly = facts(&[(names::WORKLOAD_UNIT, "nightly".into())]);
    let hourly = facts(&[(names::WORKLOAD_UNIT, "hourly".into())]);
    assert!(may("pools/demo/jobs/nightly", Action::Select, &nightly));
    assert!(may("pools/demo/jobs/nightly", Action::Insert, &nightly));
    assert!(may("pools/demo/jobs/hourly", Action::Select, &hourly));
    assert!(!may("pools/demo/jobs/hourly", Action::Insert, &hourly));
    // What is no instance of it is nobody.
    for stranger in [
        "pools/demo/jobs",
        "pools/demo/jobs/a/b",
        "Pools/demo/jobs/a",
    ] {
        assert!(!may(stranger, Action::Select, &nightly), "{stranger}");
        assert!(estate.identity(stranger).is_none(), "{stranger}");
    }
    assert!(
        estate
            .identity("pools/demo/jobs/hourly")
            .unwrap()
            .is_template()
    );
}

#[test]
fn questions_show_templates_as_themselves() {
    let estate = estate();
    let orders = ResourceRef::table("shop/public/orders");
    let who = estate.who_can(Action::Select, &orders);
    let shown: Vec<_> = who
        .accesses
        .iter()
        .map(|one| one.identity.as_str())
        .collect();
    assert_eq!(shown, ["pools/{machine.pool}/jobs/{workload.unit}"]);
    assert!(who.errors.is_empty(), "{:?}", who.errors);
    let of_template = estate.what_can("pools/{machine.pool}/jobs/{workload.unit}");
    let of_instance = estate.what_can("pools/demo/jobs/nightly");
    assert_eq!(of_template.accesses.len(), 2);
    assert_eq!(of_instance.accesses.len(), 2);
    assert_eq!(of_instance.accesses[0].identity, "pools/demo/jobs/nightly");
}

#[test]
fn an_administrator_may_revoke_an_instance_as_its_template() {
    let mut files = files();
    files.insert(
        "policies/admin.cedar",
        "permit (principal == Admin::\"uid:0\", action == Action::\"revoke\", resource in Group::\"jobs\");",
    );
    let estate = compile(&files);
    let revoke = |path: &str| {
        estate
            .decide_admin(0, Action::Revoke, &ResourceRef::identity(path))
            .allow
    };
    assert!(revoke("pools/demo/jobs/nightly"));
    assert!(!revoke("payments/api"));
    assert!(!revoke("pools/demo/other/nightly"));
}

#[test]
fn no_instance_can_be_another_identity() {
    let declared = |path: &str| {
        let text = format!("[[identity]]\npath = \"{path}\"\nkind = \"job\"\nowner = \"x\"\n");
        problems("identities/more.toml", &text)
    };
    for path in [
        "pools/demo/jobs/nightly",
        "POOLS/demo/Jobs/nightly",
        "pools/{machine.name}/jobs/{workload.unit}",
        "pools/demo/jobs/{workload.unit}",
        "pools/{machine.pool}/{machine.name}/{workload.unit}",
    ] {
        let found = declared(path);
        assert!(found.contains("ESTATE-TEMPLATE-OVERLAP"), "{path}: {found}");
    }
    for path in [
        "pools/demo/jobs",
        "pools/demo/web/{workload.unit}",
        "pools/{machine.pool}/web",
    ] {
        assert_eq!(declared(path), "no problem", "{path}");
    }
    expect!["identities/more.toml:2: ESTATE-TEMPLATE-OVERLAP: identity `pools/demo/jobs/nightly` could be an instance of the template `pools/{machine.pool}/jobs/{workload.unit}` (give one of them a path that differs in a segment that is no fact)\n"].assert_eq(&declared("pools/demo/jobs/nightly"));
}

#[test]
fn a_template_says_what_is_wrong_with_it() {
    let declared = |path: &str, more: &str| {
        let text = format!("[[identity]]\npath = \"{path}\"\nowner = \"x\"\n{more}\n");
        problems("identities/more.toml", &text)
    };
    let job = "kind = \"job\"";
    expect![[r#"
        identities/more.toml:2:8: ESTATE-TEMPLATE: "x/{workload.unti}": no verifier states a fact `workload.unti` (did you mean `workload.unit`?)
    "#]].assert_eq(&declared("x/{workload.unti}", job));
    for (path, more, code) in [
        ("x/{workload.uid}", job, "ESTATE-TEMPLATE"),
        ("x/job-{workload.unit}", job, "ESTATE-TEMPLATE"),
        ("x/{workload.unit", job, "ESTATE-TEMPLATE"),
        ("{workload.unit}/x", job, "ESTATE-TEMPLATE"),
        ("trilith/{workload.unit}", job, "ESTATE-IDENTITY-RESERVED"),
        (
            "x/{workload.unit}",
            "kind = \"gateway\"",
            "ESTATE-TEMPLATE-KIND",
        ),
        (
            "x/{workload.unit}",
            "kind = \"service\"\ndns_names = [\"x.example.org\"]",
            "ESTATE-DNS-SHARED",
        ),
    ] {
        let found = declared(path, more);
        assert!(found.contains(code), "{path}: {found}");
    }
}

#[test]
fn a_policy_names_the_template_and_not_one_instance() {
    let text = "permit (principal == Identity::\"pools/demo/jobs/nightly\", action == Action::\"select\", resource == Table::\"shop/public/orders\");";
    expect![[r#"
        policies/more.cedar:1:22: ESTATE-POLICY-NAME: Identity::"pools/demo/jobs/nightly" is not declared (name its template, which stands for all: Identity::"pools/{machine.pool}/jobs/{workload.unit}")
    "#]].assert_eq(&problems("policies/more.cedar", text));
}

/// Whoever asserts the fact chooses the instance: the machines on which that counts have to be named.
#[test]
fn a_template_of_asserted_facts_is_given_only_on_named_machines() {
    let by_join = "permit (principal, action == Action::\"assume\", resource RESOURCE) when { principal.machine has join && principal.machine.join == \"tpm\" };";
    for resource in [
        "== Identity::\"pools/{machine.pool}/jobs/{workload.unit}\"",
        "in Group::\"jobs\"",
        "is Identity",
    ] {
        let found = problems(
            "policies/more.cedar",
            &by_join.replace("RESOURCE", resource),
        );
        assert!(
            found.contains("ESTATE-ASSUME-PLACEMENT"),
            "{resource}: {found}"
        );
    }
    let other = by_join.replace("RESOURCE", "== Identity::\"payments/api\"");
    assert_eq!(problems("policies/more.cedar", &other), "no problem");
}
