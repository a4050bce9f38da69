//! People who administer: declared by name, default deny, and no user's number.

use crate::fixture::compile;
use estate::{Action, Administrator, EstateFiles, ResourceRef};

const PEOPLE: &str = r#"
[[group]]
name = "operators"
[[identity]]
path = "people/ada"
kind = "person"
owner = "people"
login = { issuer = "https://login.example.org", subject = "ada-1" }
[[identity]]
path = "people/bob"
kind = "person"
owner = "people"
groups = ["operators"]
login = { issuer = "https://login.example.org", subject = "bob-2" }
[[identity]]
path = "payments/api"
kind = "service"
owner = "payments"
"#;

fn files(administrators: &str, policies: &str) -> EstateFiles {
    let mut files = EstateFiles::new();
    let settings = format!("trust_domain = \"acme.trilith\"\n{administrators}");
    files.insert("estate.toml", settings);
    files.insert("identities/i.toml", PEOPLE);
    files.insert("policies/p.cedar", policies);
    files
}

fn person(path: &str) -> Administrator {
    Administrator::Person(path.to_owned())
}

const ADA: &str = "[[administrator]]\nperson = \"people/ada\"\ngroups = [\"operators\"]\n";

#[test]
fn a_person_administers_by_the_policies_about_its_groups_and_its_name() {
    let whole = ResourceRef::estate("acme.trilith");
    let estate = compile(&files(
        ADA,
        "@id(\"operators plan\")\n\
         permit (principal in Group::\"operators\", action == Action::\"plan\", resource);\n\
         @id(\"ada applies\")\n\
         permit (principal == Admin::\"person:people/ada\", action == Action::\"apply\", resource);\n",
    ));
    let allowed = |action| {
        estate
            .decide_administrator(&person("people/ada"), action, &whole)
            .policy_ids()
    };
    assert_eq!(allowed(Action::Plan), ["operators plan"]);
    assert_eq!(allowed(Action::Apply), ["ada applies"]);
    assert!(
        !estate
            .decide_administrator(&person("people/ada"), Action::Export, &whole)
            .allow
    );
}

/// Bob logs in, and is in the group by which others administer; he is no `[[administrator]]`.
#[test]
fn a_person_whom_the_estate_does_not_name_as_administrator_may_nothing() {
    let whole = ResourceRef::estate("acme.trilith");
    let estate = compile(&files(
        ADA,
        "@id(\"every administrator\")\npermit (principal is Admin, action, resource);\n",
    ));
    assert!(
        estate
            .decide_administrator(&person("people/ada"), Action::Apply, &whole)
            .allow
    );
    for stranger in ["people/bob", "people/eve", "payments/api", "uid:0"] {
        let decision = estate.decide_administrator(&person(stranger), Action::Apply, &whole);
        assert!(!decision.allow, "{stranger}");
        assert!(!decision.errors.is_empty(), "{stranger}");
    }
}

#[test]
fn no_condition_on_a_number_lets_in_a_person() {
    let whole = ResourceRef::estate("acme.trilith");
    let estate = compile(&files(
        ADA,
        "@id(\"users\")\n\
         permit (principal is Admin, action, resource) when { principal.uid >= 0 };\n",
    ));
    assert!(estate.decide_admin(0, Action::Plan, &whole).allow);
    assert!(
        !estate
            .decide_administrator(&person("people/ada"), Action::Plan, &whole)
            .allow
    );
}

#[test]
fn an_administrator_that_nobody_can_be_is_refused() {
    for administrators in [
        "[[administrator]]\nperson = \"people/eve\"\n",
        "[[administrator]]\nperson = \"payments/api\"\n",
        "[[administrator]]\nuid = 0\nperson = \"people/ada\"\n",
        "[[administrator]]\ngroups = []\n",
    ] {
        let problems = estate::Estate::compile(&files(administrators, "")).err();
        let problems = problems.unwrap_or_default();
        assert!(
            problems
                .iter()
                .any(|problem| problem.code == "ESTATE-ADMINISTRATOR"),
            "{administrators}: {problems:?}"
        );
    }
    let twice = format!("{ADA}{ADA}");
    let problems = estate::Estate::compile(&files(&twice, ""))
        .err()
        .unwrap_or_default();
    assert!(
        problems
            .iter()
            .any(|problem| problem.code == "ESTATE-DUPLICATE")
    );
    let unnamed = "permit (principal == Admin::\"person:people/bob\", action, resource);\n";
    let problems = estate::Estate::compile(&files(ADA, unnamed))
        .err()
        .unwrap_or_default();
    assert!(
        problems
            .iter()
            .any(|problem| problem.code == "ESTATE-POLICY-NAME"),
        "{problems:?}"
    );
}
