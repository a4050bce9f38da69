//! What an estate adds to the schema: own kinds of resources, actions and attributes, from the declaration to
//! every question about them.

use crate::fixture::{compile, example, problems_with, render, shop_files};
use estate::{Action, Estate, EstateFiles, Problem, Request, ResourceRef, diff};
use expect_test::{Expect, expect};
use facts::FactSet;

/// `examples/estate-storage` as it stands in the repository.
fn files() -> EstateFiles {
    example("estate-storage")
}

fn storage() -> Estate {
    compile(&files())
}

fn bucket(name: &str) -> ResourceRef {
    format!("Bucket::{name:?}").parse().unwrap()
}

fn action(name: &str) -> Action {
    name.parse().unwrap()
}

/// Every decision, by the index and by plain Cedar, which have to agree.
fn matrix(estate: &Estate) -> String {
    let facts = FactSet::new();
    let mut text = String::new();
    for identity in estate.identities() {
        for resource in estate.resources() {
            let allowed: Vec<String> = estate
                .uses()
                .filter(|action| {
                    let request = Request {
                        principal: &identity.path,
                        action: *action,
                        resource: resource.resource.clone(),
                        facts: &facts,
                    };
                    let decision = estate.decide(&request);
                    let plainly = estate.decide_plainly(&request);
                    assert_eq!(decision, plainly, "{action} {}", resource.resource);
                    decision.allow
                })
                .map(|action| action.to_string())
                .collect();
            let name = &resource.resource;
            text.push_str(&format!(
                "{} {name}: {}\n",
                identity.path,
                allowed.join(" ")
            ));
        }
    }
    text
}

#[test]
fn own_kinds_and_actions_are_decided() {
    expect![[r#"
        billing/api Bucket::"invoices": get-object list-objects put-object
        billing/api Bucket::"scratch": list-objects
        billing/api Bucket::"site": get-object list-objects
        billing/api Region::"eu": 
        web/site Bucket::"invoices": 
        web/site Bucket::"scratch": 
        web/site Bucket::"site": get-object list-objects
        web/site Region::"eu": 
    "#]]
    .assert_eq(&matrix(&storage()));
}

#[test]
fn classification_owner_and_labels_come_from_what_a_resource_lies_in() {
    let estate = storage();
    let shown: String = estate
        .resources()
        .map(|one| {
            format!(
                "{} {}{} {:?} {:?}\n",
                one.resource,
                one.classification,
                if one.unclassified {
                    " (unclassified)"
                } else {
                    ""
                },
                one.owner,
                one.labels
            )
        })
        .collect();
    expect![[r#"
        Bucket::"invoices" pii Some("platform") {"country": "de", "team": "billing"}
        Bucket::"scratch" restricted (unclassified) None {}
        Bucket::"site" public Some("platform") {"country": "de", "team": "platform"}
        Region::"eu" pii Some("platform") {"country": "de", "team": "platform"}
    "#]]
    .assert_eq(&shown);
}

#[test]
fn questions_are_answered_about_own_kinds() {
    let estate = storage();
    let who = estate.who_can(action("get-object"), &bucket("invoices"));
    let who: Vec<_> = who.accesses.iter().map(|one| &one.identity).collect();
    assert_eq!(who, ["billing/api"]);
    let what = estate.what_can("web/site");
    assert!(what.errors.is_empty(), "{:?}", what.errors);
    let what: Vec<_> = what
        .accesses
        .iter()
        .map(|one| format!("{} {}", one.action, one.resource))
        .collect();
    assert_eq!(
        what,
        [
            "get-object Bucket::\"site\"",
            "list-objects Bucket::\"site\""
        ]
    );
    let why = estate.why(&Request {
        principal: "web/site",
        action: action("put-object"),
        resource: bucket("invoices"),
        facts: &FactSet::new(),
    });
    assert_eq!(why.classification.as_deref(), Some("pii"));
    let near = why.decision.near.first().unwrap();
    assert_eq!(near.policy.id, "billing uses what is financial");
    // Roles in databases know nothing of buckets.
    assert!(estate.grants("billing/api").is_empty());
}

#[test]
fn what_is_not_declared_is_not_there() {
    let estate = storage();
    for (name, resource) in [
        ("get-object", bucket("other")),
        ("delete-object", bucket("invoices")),
        ("get-object", ResourceRef::table("shop/public/cards")),
        ("select", bucket("invoices")),
    ] {
        let decision = estate.decide(&Request {
            principal: "billing/api",
            action: action(name),
            resource,
            facts: &FactSet::new(),
        });
        assert!(!decision.allow);
        assert_eq!(decision.errors.len(), 1, "{name}");
    }
    let answer = estate.who_can(action("delete-object"), &bucket("invoices"));
    assert_eq!(answer.errors.len(), 1);
}

#[test]
fn invariants_hold_today_of_own_kinds() {
    let mut files = files();
    files.insert(
        "invariants/storage.cedar",
        "@id(\"no tier one writes\")\nnever (principal, action == Action::\"put-object\", resource is Bucket)\n\
         when { principal.attributes.tier < 2 };\n\
         @id(\"nobody lists what is personal\")\nnever (principal, action in Action::\"reads\", resource is Bucket)\n\
         when { resource.classification == \"pii\" };\n",
    );
    let estate = compile(&files);
    let found: Vec<String> = estate
        .invariants()
        .iter()
        .map(|invariant| serde_json::to_string(&estate.holds_today(invariant)).unwrap())
        .collect();
    assert!(found[0].contains("\"holds\""), "{}", found[0]);
    assert!(found[1].contains("\"broken\""), "{}", found[1]);
    assert!(
        found[1].contains("invoices") && !found[1].contains("scratch"),
        "{}",
        found[1]
    );
}

#[test]
fn a_change_of_an_own_resource_shows_in_the_diff() {
    let mut changed = files();
    let text = changed.0["resources/storage.toml"].replace("groups = [\"finance\"]\n", "");
    changed.insert("resources/storage.toml", text);
    let diff = diff(&storage(), &compile(&changed));
    assert_eq!(diff.resources.changed, ["Bucket::\"invoices\""]);
    let narrowed: Vec<_> = diff
        .narrowed
        .iter()
        .filter_map(|change| change.before.as_ref())
        .map(|one| format!("{} {} {}", one.identity, one.action, one.resource))
        .collect();
    assert_eq!(
        narrowed,
        [
            "billing/api get-object Bucket::\"invoices\"",
            "billing/api put-object Bucket::\"invoices\""
        ]
    );
}

#[test]
fn tests_of_policies_speak_of_own_actions() {
    let mut files = files();
    let test = |action: &str| {
        format!(
            "[[test]]\nname = \"x\"\nprincipal = \"billing/api\"\naction = \"{action}\"\n\
             resource = 'Bucket::\"invoices\"'\nexpect = \"allow\"\n"
        )
    };
    for outcome in compile(&files).run_tests() {
        assert!(outcome.passed, "{:?}", outcome.failure);
    }
    files.insert("tests/storage.toml", test("put-objekt"));
    expect![[r#"
        tests/storage.toml:4:10: ESTATE-TEST: no schema declares an action `put-objekt` (did you mean `put-object`?)
    "#]]
    .assert_eq(&problems_of(&files));
}

#[test]
fn tools_and_routes_are_of_the_base_schema() {
    let mut files = shop_files();
    files.insert(
        "resources/tools.toml",
        r#"
[[resource]]
kind = "ToolServer"
name = "tickets"
classification = "internal"

[[resource]]
kind = "Tool"
name = "tickets/search"

[[resource]]
kind = "Api"
name = "billing"

[[resource]]
kind = "Route"
name = "billing/GET/v1/invoices/{id}"
classification = "public"
"#,
    );
    files.insert(
        "policies/tools.cedar",
        r#"@id("the helper uses what is not personal")
permit (principal == Identity::"agents/helper", action == Action::"call", resource)
when { ["public", "internal"].contains(resource.classification) };"#,
    );
    let estate = compile(&files);
    let call = |resource: &str| {
        estate
            .decide(&Request {
                principal: "agents/helper",
                action: Action::Call,
                resource: resource.parse().unwrap(),
                facts: &FactSet::new(),
            })
            .allow
    };
    assert!(call("Tool::\"tickets/search\""));
    // Of a classified server, so classified; of one that nobody classified, not.
    assert!(call("Tool::\"tickets/new-and-unlisted\""));
    assert!(!call("Tool::\"other/search\""));
    assert!(call("Route::\"billing/GET/v1/invoices/{id}\""));
    assert!(!call("Route::\"billing/DELETE/v1/invoices/{id}\""));
    let what = estate.what_can("agents/helper");
    let calls: Vec<_> = what
        .accesses
        .iter()
        .filter(|access| access.action == Action::Call)
        .map(|access| access.resource.to_string())
        .collect();
    assert_eq!(
        calls,
        [
            "ToolServer::\"tickets\"",
            "Tool::\"tickets/search\"",
            "Route::\"billing/GET/v1/invoices/{id}\""
        ]
    );
}

fn problems_of(files: &EstateFiles) -> String {
    match Estate::compile(files) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => render(&problems),
    }
}

fn check_schema(text: &str, expected: &Expect) {
    expected.assert_eq(&problems_with("schema/own.cedarschema", text));
}

#[test]
fn a_schema_that_would_make_decisions_unanswerable_is_refused_at_its_line() {
    check_schema(
        "entity Bucket",
        &expect![[r#"
            schema/own.cedarschema:1:14: ESTATE-SCHEMA-SYNTAX: error parsing schema: unexpected end of input: expected `,`, `;`, `=`, `{`, `enum`, `in`, or `tags`
        "#]],
    );
    check_schema(
        "\nentity Table = { classification: String };\n",
        &expect![[r#"
            schema/own.cedarschema:2: ESTATE-SCHEMA-NAME: `Table` is of the base schema and means what it means
        "#]],
    );
    check_schema(
        "\n\nentity Bucket;\n",
        &expect![[r#"
        schema/own.cedarschema:3: ESTATE-SCHEMA-KIND: `Bucket` has no `classification: String` (write `entity … = { classification: String, owner?: String } tags String;`)
    "#]],
    );
    check_schema(
        "entity Bucket = { classification: String, keeper: Identity };",
        &expect![[r#"
            schema/own.cedarschema:1: ESTATE-SCHEMA-KIND: `Bucket` has `keeper`, of a type that no declaration can give (texts, integers, booleans, and sets of texts)
        "#]],
    );
    check_schema(
        "entity Bucket in [Identity] = { classification: String };",
        &expect![[r#"
            schema/own.cedarschema:1: ESTATE-SCHEMA-KIND: `Bucket` lies in `Identity`, which is no kind of resources (a resource lies in resources and in `Group`)
        "#]],
    );
    check_schema(
        "entity bucket = { classification: String };",
        &expect![[r#"
            schema/own.cedarschema:1: ESTATE-SCHEMA-KIND: `bucket` is no name for a kind of resources (a capital letter, then at most 61 letters, digits and `_`)
        "#]],
    );
    check_schema(
        "namespace Cloud { entity Bucket = { classification: String }; }",
        &expect![[r#"
            schema/own.cedarschema:1: ESTATE-SCHEMA-NAME: the namespace `Cloud` is not read (declare it without a namespace)
        "#]],
    );
    check_schema(
        "entity Bucket = { classification: String };\n\
         action get appliesTo { principal: [Workload], resource: [Bucket], context: Facts };",
        &expect![[r#"
            schema/own.cedarschema:2: ESTATE-SCHEMA-ACTION: `get` is done by others than identities (write `appliesTo { principal: [Identity], resource: […], context: Facts }`)
        "#]],
    );
    check_schema(
        "entity Bucket = { classification: String };\n\
         action get appliesTo { principal: [Identity], resource: [Bucket] };",
        &expect![[r#"
            schema/own.cedarschema:2: ESTATE-SCHEMA-ACTION: `get` is not done under the facts of a session (write `appliesTo { principal: [Identity], resource: […], context: Facts }`)
        "#]],
    );
    check_schema(
        "action get appliesTo { principal: [Identity], resource: [Estate], context: Facts };",
        &expect![[r#"
            schema/own.cedarschema:1: ESTATE-SCHEMA-ACTION: `get` is done to `Estate`, which is no kind of resources (write `appliesTo { principal: [Identity], resource: […], context: Facts }`)
        "#]],
    );
    check_schema(
        "action select appliesTo { principal: [Identity], resource: [Table], context: Facts };",
        &expect![[r#"
            schema/own.cedarschema:1: ESTATE-SCHEMA-NAME: `select` is of the base schema and means what it means
        "#]],
    );
    check_schema(
        "entity Bucket in [Regoin] = { classification: String };",
        &expect![[r#"
            schema/own.cedarschema:1: ESTATE-SCHEMA-KIND: `Bucket` lies in `Regoin`, which is no kind of resources (a resource lies in resources and in `Group`)
        "#]],
    );
    check_schema(
        "type TableAttributes = { days: Long };",
        &expect![[r#"
        schema/own.cedarschema:1: ESTATE-SCHEMA-TYPE: `days` must be optional: tables that no file lists lack it (write `days?: …`)
    "#]],
    );
    check_schema(
        "type IdentityAttributes = { tier: Long };",
        &expect![[r#"
            identities/shop.toml:8:8: ESTATE-ATTRIBUTE: identity `payments/api` has no `tier`, which its schema requires (attributes.tier = … (an integer))
            identities/shop.toml:17:8: ESTATE-ATTRIBUTE: identity `reporting/nightly` has no `tier`, which its schema requires (attributes.tier = … (an integer))
            identities/shop.toml:26:8: ESTATE-ATTRIBUTE: identity `agents/helper` has no `tier`, which its schema requires (attributes.tier = … (an integer))
            identities/shop.toml:36:8: ESTATE-ATTRIBUTE: identity `ops/psql` has no `tier`, which its schema requires (attributes.tier = … (an integer))
            identities/shop.toml:43:8: ESTATE-ATTRIBUTE: identity `gateway/pg` has no `tier`, which its schema requires (attributes.tier = … (an integer))
        "#]],
    );
}

#[test]
fn declarations_are_held_to_the_schema() {
    let check = |resources: &str, expected: &Expect| {
        let mut files = files();
        files.insert("resources/storage.toml", resources);
        files.insert("policies/storage.cedar", "");
        expected.assert_eq(&problems_of(&files));
    };
    check(
        "[[resource]]\nkind = \"Buckett\"\nname = \"a\"\n",
        &expect![[r#"
            resources/storage.toml:2:8: ESTATE-RESOURCE-KIND: no schema declares a kind of resources `Buckett` (did you mean `Bucket`?)
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Table\"\nname = \"a/b/c\"\n",
        &expect![[r#"
            resources/storage.toml:2:8: ESTATE-RESOURCE-KIND: no schema declares a kind of resources `Table` (what lies in a database stands under `[[database]]`)
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Bucket\"\nname = \"a\"\nattributes = { publik = true }\n",
        &expect![[r#"
            resources/storage.toml:4:16: ESTATE-ATTRIBUTE: no schema gives Bucket::"a" an attribute `publik` (did you mean `public`?)
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Bucket\"\nname = \"a\"\nattributes = { public = \"yes\" }\n",
        &expect![[r#"
            resources/storage.toml:4:25: ESTATE-ATTRIBUTE: `public` must be true or false, not yes
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Bucket\"\nname = \"a\"\nin = [\"Region::\\\"us\\\"\"]\n",
        &expect![[r#"
            resources/storage.toml:4:7: ESTATE-RESOURCE-PARENT: Region::"us" is not declared
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Region\"\nname = \"r\"\n[[resource]]\nkind = \"Region\"\nname = \"s\"\nin = ['Region::\"r\"']\n",
        &expect![[r#"
            resources/storage.toml:7:7: ESTATE-RESOURCE-PARENT: a Region does not lie in a Region
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Bucket\"\nname = \"a\"\n[[resource]]\nkind = \"Bucket\"\nname = \"a\"\n",
        &expect![[r#"
            resources/storage.toml:6:8: ESTATE-DUPLICATE: resource `a` is declared twice; first at resources/storage.toml:3
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Tool\"\nname = \"a\"\n",
        &expect![[r#"
            resources/storage.toml:3:8: ESTATE-NAME: `a` is no name of a Tool (write server/tool)
        "#]],
    );
    check(
        "[[resource]]\nkind = \"Bucket\"\nname = \"a\"\nclassification = \"secret\"\ngroups = [\"finanze\"]\n",
        &expect![[r#"
            resources/storage.toml:4:18: ESTATE-CLASSIFICATION: no classification `secret` is known
            resources/storage.toml:5:11: ESTATE-GROUP: no group `finanze` is declared (did you mean `finance`?)
        "#]],
    );
}

#[test]
fn resources_that_lie_in_one_another_are_refused() {
    let mut files = files();
    files.insert(
        "schema/storage.cedarschema",
        files.0["schema/storage.cedarschema"].clone()
            + "\nentity Folder in [Folder] = { classification: String };",
    );
    let folder = |name: usize, parent: usize| {
        format!(
            "[[resource]]\nkind = \"Folder\"\nname = \"f{name}\"\nin = ['Folder::\"f{parent}\"']\n"
        )
    };
    files.insert("resources/cycle.toml", folder(0, 1) + &folder(1, 0));
    let found = problems_of(&files);
    assert!(found.contains("ESTATE-RESOURCE-CYCLE"), "{found}");
    let chain: String = (0..100_000)
        .map(|number| folder(number, number + 1))
        .collect();
    let end = "[[resource]]\nkind = \"Folder\"\nname = \"f100000\"\nclassification = \"public\"\n";
    files.insert("resources/cycle.toml", chain + end);
    let problems: Vec<Problem> = Estate::compile(&files).unwrap_err();
    let codes: Vec<_> = problems.iter().map(|one| one.code.as_str()).collect();
    assert!(codes.iter().all(|code| *code == "ESTATE-RESOURCE-CYCLE"));
    assert!(codes.len() < 5_000, "{}", codes.len());
    // However their names are ordered: those that others lie in first.
    let folder = |name: usize| {
        let inside = format!("in = ['Folder::\"f{:03}\"']\n", name.saturating_sub(1));
        let inside = if name == 0 { "" } else { &inside };
        format!("[[resource]]\nkind = \"Folder\"\nname = \"f{name:03}\"\n{inside}")
    };
    files.insert(
        "resources/cycle.toml",
        (0..32).map(folder).collect::<String>(),
    );
    compile(&files);
    files.insert(
        "resources/cycle.toml",
        (0..40).map(folder).collect::<String>(),
    );
    let found = problems_of(&files);
    assert_eq!(found.matches("ESTATE-RESOURCE-CYCLE").count(), 1, "{found}");
}

#[test]
fn very_many_wrong_names_are_told_and_the_first_of_them_with_what_was_meant() {
    let mut files = files();
    let bucket = |number: usize| {
        format!(
            "[[resource]]\nkind = \"Bucket\"\nname = \"b{number}\"\nin = ['Region::\"eu{number}\"']\n"
        )
    };
    files.insert(
        "resources/many.toml",
        (0..20_000).map(bucket).collect::<String>(),
    );
    let problems: Vec<Problem> = Estate::compile(&files).unwrap_err();
    assert_eq!(problems.len(), 20_000);
    let told = |problem: &&Problem| problem.code == "ESTATE-RESOURCE-PARENT";
    assert_eq!(problems.iter().filter(told).count(), 20_000);
    let hints = problems.iter().filter(|problem| problem.hint.is_some());
    assert!(hints.count() <= 100);
}

#[test]
fn of_two_that_a_resource_lies_in_the_more_restricted_counts() {
    let mut files = files();
    files.insert(
        "resources/more.toml",
        "[[resource]]\nkind = \"Region\"\nname = \"us\"\nclassification = \"public\"\nowner = \"other\"\n\
         labels = { country = \"us\" }\n\
         [[resource]]\nkind = \"Bucket\"\nname = \"both\"\nin = ['Region::\"us\"', 'Region::\"eu\"']\n",
    );
    expect![[r#"
        resources/more.toml:9: ESTATE-LABEL: Bucket::"both" would inherit the label `country` as "us" and as "de" (give it a label `country` of its own)
    "#]]
    .assert_eq(&problems_of(&files));
    let text = files.0["resources/more.toml"].clone() + "labels = { country = \"de\" }\n";
    files.insert("resources/more.toml", text);
    let estate = compile(&files);
    let both = estate
        .resources()
        .find(|one| one.resource.path == "both")
        .unwrap();
    assert_eq!(both.classification, "pii");
    assert_eq!(both.owner, None);
    assert_eq!(both.labels["team"], "platform");
}
