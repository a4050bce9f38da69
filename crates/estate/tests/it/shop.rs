//! The example estate: its whole matrix as one file to review, its tests, its answers.

use crate::fixture::{compile, example, facts, shop, shop_files};
use estate::{Action, Answer, Estate, EstateFiles, Request, ResourceRef};
use expect_test::{expect, expect_file};
use facts::{FactSet, names};
use std::fmt::Write as _;

#[test]
fn the_whole_decision_matrix() {
    expect_file!["../golden/shop_matrix.txt"].assert_eq(&matrix(&shop()));
}

#[test]
fn the_whole_decision_matrix_of_the_estate_with_kinds_of_its_own() {
    let storage = compile(&example("estate-storage"));
    expect_file!["../golden/storage_matrix.txt"].assert_eq(&matrix(&storage));
}

/// Every identity, action and resource, declared or not. A question mark: it depends on facts.
///
/// What is allowed is asked for one by one as well, so that the file cannot be wrong where the search is.
fn matrix(estate: &Estate) -> String {
    let mut text = String::new();
    for identity in estate.identities() {
        writeln!(text, "{} ({})", identity.path, identity.kind.as_str()).unwrap();
        let answer = estate.what_can(&identity.path);
        assert!(answer.errors.is_empty(), "{:?}", answer.errors);
        one_by_one(estate, &identity.path, &answer);
        let mut rows: Vec<(&ResourceRef, Vec<String>)> = Vec::new();
        let mut accesses: Vec<_> = answer.accesses.iter().collect();
        accesses.sort_by_key(|access| (&access.resource, access.action));
        for access in accesses {
            let mark = if access.is_unconditional() { "" } else { "?" };
            let cell = format!("{}{mark}", access.action);
            match rows.last_mut() {
                Some((resource, cells)) if *resource == &access.resource => cells.push(cell),
                _ => rows.push((&access.resource, vec![cell])),
            }
        }
        for (resource, cells) in rows {
            writeln!(text, "  {resource}: {}", cells.join(" ")).unwrap();
        }
    }
    text
}

fn one_by_one(estate: &Estate, path: &str, answer: &Answer) {
    for resource in estate.used_resources() {
        for action in estate.uses() {
            if !estate.resource_kinds(action).contains(&resource.kind) {
                continue;
            }
            let decided = estate.decide_regardless(path, action, &resource);
            let found = answer
                .accesses
                .iter()
                .filter(|access| access.action == action && access.resource == resource);
            // `define` on a schema also stands for what no file lists in it.
            let certain = found.clone().any(estate::Access::is_unconditional);
            let possible = found.count() > 0;
            let told = (decided.decision.allow, decided.depends.is_some());
            if told.0 {
                assert!(certain, "{path} {action} {resource}");
            }
            if told.1 {
                assert!(possible, "{path} {action} {resource}");
            }
            if told == (false, false) && action != Action::Define {
                assert!(!possible, "{path} {action} {resource}");
            }
        }
    }
}

#[test]
fn its_own_tests_pass() {
    let outcomes = shop().run_tests();
    assert!(outcomes.len() >= 8);
    for outcome in outcomes {
        assert!(
            outcome.passed,
            "{}:{}: {:?}",
            outcome.file, outcome.line, outcome.failure
        );
    }
}

#[test]
fn a_failing_test_says_what_came_and_why() {
    let mut files = shop_files();
    files.insert(
        "tests/wrong.toml",
        "[[test]]\nname = \"x\"\nprincipal = \"reporting/nightly\"\naction = \"select\"\n\
         resource = \"shop/public/customers\"\nexpect = \"allow\"\n",
    );
    let estate = crate::fixture::compile(&files);
    let failed: Vec<_> = estate
        .run_tests()
        .into_iter()
        .filter(|outcome| !outcome.passed)
        .collect();
    assert_eq!(failed.len(), 1);
    expect![[r#"expected Allow; got Deny, as no policy allows it; policies/shop.cedar:28 "reporting reads customers, on machines with a TPM" asks for context.machine has join, but context.machine.join is absent; policies/shop.cedar:37 "the shop's own programs read what is not personal" asks for ["public", "internal"].contains(resource.classification), but resource.classification is "pii"; policies/shop.cedar:58 "everyone who may connect may read the catalog" asks for resource.classification == "catalog", but resource.classification is "pii"; policies/shop.cedar:12 "payments reads customers" asks for principal == Identity::"payments/api", but principal is Identity::"reporting/nightly"; policies/shop.cedar:46 "database administrators see and shape everything but personal data" asks for principal in Group::"operators", but principal is Identity::"reporting/nightly""#]].assert_eq(failed[0].failure.as_ref().unwrap());
}

#[test]
fn who_reads_customers() {
    expect![[r#"
        payments/api by policies/shop.cedar:12 "payments reads customers"
        reporting/nightly by policies/shop.cedar:28 "reporting reads customers, on machines with a TPM" when context.machine has join && context.machine.join == "tpm"
    "#]].assert_eq(&lines(
        &shop().who_can(Action::Select, &ResourceRef::table("shop/public/customers")),
    ));
}

#[test]
fn why_not_gives_the_condition_that_failed() {
    let estate = shop();
    let by_token = facts(&[(names::MACHINE_JOIN, "token".into())]);
    let explanation = estate.why(&Request {
        principal: "reporting/nightly",
        action: Action::Select,
        resource: ResourceRef::table("shop/public/customers"),
        facts: &by_token,
    });
    assert!(!explanation.decision.allow);
    let near = &explanation.decision.near[0];
    expect![[r#"policies/shop.cedar:28 "reporting reads customers, on machines with a TPM": context.machine.join == "tpm", but context.machine.join is "token""#]].assert_eq(&format!("{}: {}", near.policy, near.failed));
}

#[test]
fn why_an_allow_names_the_policy_and_its_place() {
    let estate = shop();
    let explanation = estate.why(&Request {
        principal: "payments/api",
        action: Action::Select,
        resource: ResourceRef::table("shop/public/cards"),
        facts: &FactSet::new(),
    });
    assert!(explanation.decision.allow);
    let policy = &explanation.decision.policies[0];
    expect![[r#"policies/shop.cedar:3 "payments reads cards""#]].assert_eq(&policy.to_string());
    assert_eq!(policy.annotations["reason"], "it charges them");
    assert!(explanation.texts[0].starts_with("@id(\"payments reads cards\")"));
    assert_eq!(explanation.classification.as_deref(), Some("pii"));
}

#[test]
fn grants_are_what_a_database_role_needs() {
    let grants = shop().grants("reporting/nightly");
    let text: String = grants
        .iter()
        .map(|grant| {
            format!(
                "{} {:?} conditional {:?}\n",
                grant.resource, grant.actions, grant.conditional
            )
        })
        .collect();
    expect![[r#"
        Schema::"shop/information_schema" [Select] conditional []
        Schema::"shop/pg_catalog" [Select] conditional []
        Table::"shop/public/customers" [] conditional [Select]
        Table::"shop/public/order_totals" [Select] conditional []
        Table::"shop/public/orders" [Select] conditional []
        Table::"shop/public/products" [Select] conditional []
    "#]]
    .assert_eq(&text);
}

#[test]
fn the_blob_carries_the_whole_estate() {
    let files = shop_files();
    let back = EstateFiles::from_blob(&files.to_blob()).unwrap();
    assert_eq!(crate::fixture::compile(&back).version(), shop().version());
}

#[test]
fn a_column_makes_its_table_as_restricted_as_itself() {
    let estate = shop();
    assert_eq!(
        estate
            .table("shop/public/customers")
            .unwrap()
            .classification,
        "pii"
    );
    let unlisted = estate.object(&ResourceRef::table("shop/public/new"));
    assert_eq!(
        (unlisted.classification.as_str(), unlisted.declared),
        ("restricted", false)
    );
    let catalog = estate.object(&ResourceRef::table("shop/pg_catalog/pg_class"));
    assert_eq!(catalog.classification, "catalog");
}

#[test]
fn the_schema_for_editors_covers_every_file() {
    let schema = estate::json_schema();
    let mut globs: Vec<_> = schema.as_object().unwrap().keys().cloned().collect();
    globs.sort();
    assert_eq!(
        globs,
        [
            "delegations/*",
            "estate.toml",
            "identities/*",
            "references/*",
            "resources/*",
            "tests/*"
        ]
    );
    assert_eq!(schema["identities/*"]["additionalProperties"], false);
}

fn lines(answer: &Answer) -> String {
    let mut text = String::new();
    for access in &answer.accesses {
        let policies: Vec<_> = access.policies.iter().map(ToString::to_string).collect();
        write!(text, "{} by {}", access.identity, policies.join(", ")).unwrap();
        for residual in &access.when {
            write!(text, " when {}", residual.condition).unwrap();
        }
        for residual in &access.unless {
            write!(text, " unless {}", residual.condition).unwrap();
        }
        text.push('\n');
    }
    text
}

#[test]
fn an_expected_policy_is_named_by_id_or_place_and_a_failure_says_both() {
    let mut files = shop_files();
    let line = files.0["policies/shop.cedar"]
        .lines()
        .position(|line| line.contains("payments reads customers"))
        .unwrap()
        + 1;
    files.insert(
        "tests/x.toml",
        format!(
            "[[test]]\nname = \"by place\"\nprincipal = \"payments/api\"\naction = \"select\"\n\
             resource = \"shop/public/customers\"\nexpect = \"allow\"\nwhy = [\"policies/shop.cedar:{}\"]\n\
             [[test]]\nname = \"by another\"\nprincipal = \"payments/api\"\naction = \"select\"\n\
             resource = \"shop/public/cards\"\nexpect = \"allow\"\nwhy = [\"payments reads customers\"]\n\
             [[test]]\nname = \"denied by default\"\nprincipal = \"gateway/pg\"\naction = \"select\"\n\
             resource = \"shop/public/cards\"\nexpect = \"deny\"\nwhy = []\n\
             [[test]]\nname = \"denied by a policy\"\nprincipal = \"agents/helper\"\naction = \"select\"\n\
             resource = \"shop/public/cards\"\nexpect = \"deny\"\nwhy = []\n\
             [[test]]\nname = \"by a policy that there is not\"\nprincipal = \"payments/api\"\naction = \"select\"\n\
             resource = \"shop/public/cards\"\nexpect = \"allow\"\nwhy = [\"payments reads card\"]\n",
            line + 2
        ),
    );
    let outcomes = compile(&files).run_tests();
    let said: String = outcomes
        .iter()
        .filter(|outcome| outcome.file == "tests/x.toml")
        .map(|outcome| {
            let failure = outcome.failure.as_deref().unwrap_or("ok");
            format!("{}: {failure}\n", outcome.name)
        })
        .collect();
    expect![[r#"
        by place: ok
        by another: expected Allow because of policies/shop.cedar:12 "payments reads customers"; got Allow because of policies/shop.cedar:3 "payments reads cards"
        denied by default: ok
        denied by a policy: expected Deny, as no policy allows it; got Deny because of policies/shop.cedar:67 "an AI agent never touches personal or unclassified data"
        by a policy that there is not: ESTATE-TEST-WHY: no policy is "payments reads card" (did you mean `payments reads cards`?)
    "#]].assert_eq(&said);
}
