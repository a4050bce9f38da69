//! Hostile and mistaken estates: each gets a clear refusal, none gets a panic.

use crate::fixture::{problems_with, render, shop_files};
use estate::{Action, Estate, EstateFiles, MAX_FILES, Request, ResourceRef};
use expect_test::expect;
use facts::FactSet;

fn refused(path: &str, text: &str, code: &str) -> String {
    let problems = problems_with(path, text);
    assert!(problems.contains(code), "expected {code}, came {problems}");
    problems
}

#[test]
fn misspelt_names_are_refused_with_a_suggestion() {
    let policy = "\n@id(\"x\")\npermit (principal == Identity::\"payment/api\", action == Action::\"select\",\n  resource == Table::\"shop/public/card\");";
    expect![[r#"
        policies/x.cedar:3:22: ESTATE-POLICY-NAME: Identity::"payment/api" is not declared (did you mean Identity::"payments/api"?)
        policies/x.cedar:4:15: ESTATE-POLICY-NAME: Table::"shop/public/card" is not declared (did you mean Table::"shop/public/cards"?)
    "#]].assert_eq(&problems_with("policies/x.cedar", policy));
    expect![[r#"
        policies/x.cedar:2:8: ESTATE-POLICY-TYPE: for policy `policies/x.cedar:1`, attribute `clasification` on entity type `Table` not found (did you mean `classification`?)
    "#]].assert_eq(&problems_with(
        "policies/x.cedar",
        "permit (principal is Identity, action == Action::\"select\", resource)\nwhen { resource.clasification == \"pii\" };",
    ));
    expect![[r#"
        identities/x.toml:3:8: ESTATE-DECLARATION: unknown variant `servise`, expected one of `service`, `job`, `ai-agent`, `person`, `gateway`, `node` (did you mean `service`?)
    "#]].assert_eq(&problems_with(
        "identities/x.toml",
        "[[identity]]\npath = \"x/y\"\nkind = \"servise\"\nowner = \"o\"\n",
    ));
    expect![[r#"
        policy/x.cedar: ESTATE-LAYOUT: no folder `policy` is read
    "#]]
    .assert_eq(&problems_with("policy/x.cedar", ""));
}

#[test]
fn conflicting_ids_are_refused_with_both_places() {
    let identity = "[[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"o\"\n";
    refused("identities/x.toml", identity, "ESTATE-DUPLICATE");
    let policy = "@id(\"payments reads cards\")\nforbid (principal, action == Action::\"select\", resource);";
    let problems = refused("policies/x.cedar", policy, "ESTATE-DUPLICATE");
    assert!(
        problems.contains("policies/x.cedar:1") || problems.contains("policies/shop.cedar:3"),
        "{problems}"
    );
}

#[test]
fn look_alike_names_are_refused() {
    // Cyrillic а in the first, another case in the second.
    for (path, code) in [
        ("p\u{430}yments/api", "ESTATE-IDENTITY-PATH"),
        ("payments/API", "ESTATE-LOOKALIKE"),
    ] {
        let text = format!("[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"o\"\n");
        refused("identities/x.toml", &text, code);
    }
    let mixed = "@id(\"x\") permit (principal is Identity, action == Action::\"select\", resource)\nwhen { principal.owner == \"p\u{430}yments te\u{202e}am\" };";
    refused("policies/x.cedar", mixed, "ESTATE-POLICY-SUSPECT");
}

/// A Cyrillic letter in the name of a group or a pool, and in a delegation to a group that looks like another.
#[test]
fn look_alike_groups_and_parties_are_refused() {
    refused(
        "identities/x.toml",
        "[[group]]\nname = \"sh\u{43e}p\"\n",
        "ESTATE-NAME",
    );
    refused(
        "references/x.toml",
        "[[pool]]\nname = \"d\u{435}mo\"\n",
        "ESTATE-NAME",
    );
    let grant = "[[delegation]]\nid = \"x\"\nfrom = 'Group::\"sh\u{43e}p\"'\nto = 'Identity::\"agents/helper\"'\n";
    let problems = refused("delegations/x.toml", grant, "ESTATE-DELEGATION");
    assert!(
        problems.contains("did you mean `Group::\"shop\"`?"),
        "{problems}"
    );
}

/// Once each of them was looked for among all: 100,000 took many minutes.
#[test]
fn very_many_wrong_policies_are_told_each_with_its_line() {
    const WRONG: usize = 4_000;
    let policy = "forbid (principal is Identity, action == Action::\"select\", resource is Table) when { resource.clasification == \"pii\" };\n";
    let mut files = shop_files();
    files.insert("policies/x.cedar", policy.repeat(WRONG));
    let problems = Estate::compile(&files).unwrap_err();
    let lines: std::collections::BTreeSet<u32> = problems
        .iter()
        .filter(|problem| problem.code == "ESTATE-POLICY-TYPE")
        .map(|problem| problem.line)
        .collect();
    assert_eq!(lines.len(), WRONG);
    assert!(lines.contains(&1) && lines.contains(&4_000));
}

/// One identity in very many groups, which are all in one, and very many delegations: everything is answered.
#[test]
fn giant_declared_sets_are_answered() {
    const GROUPS: usize = 5_000;
    let names: Vec<String> = (0..GROUPS).map(|number| format!("\"g{number}\"")).collect();
    let mut text = "[[group]]\nname = \"all\"\n".to_owned();
    let mut grants = String::new();
    for name in &names {
        text += &format!("[[group]]\nname = {name}\ngroups = [\"all\"]\n");
        let from = name.trim_matches('"');
        grants += &format!(
            "[[delegation]]\nid = {name}\nfrom = 'Group::\"{from}\"'\nto = 'Group::\"all\"'\n"
        );
    }
    for path in ["giants/one", "giants/two"] {
        text += &format!(
            "[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"o\"\ngroups = [{}]\n",
            names.join(", ")
        );
    }
    let mut files = shop_files();
    files.insert("identities/x.toml", text);
    files.insert("delegations/x.toml", grants);
    files.insert(
        "policies/x.cedar",
        "permit (principal in Group::\"all\", action == Action::\"select\", resource == Table::\"shop/public/products\");",
    );
    let estate = Estate::compile(&files).unwrap_or_else(|problems| panic!("{}", render(&problems)));
    let products = ResourceRef::table("shop/public/products");
    let answer = estate.who_can(Action::Select, &products);
    assert!(answer.errors.is_empty(), "{:?}", answer.errors);
    assert!(
        answer
            .accesses
            .iter()
            .any(|access| access.identity == "giants/two")
    );
    let chain = estate::Chain::through(["giants/one", "giants/two"]).unwrap();
    let known = estate::ChainFacts::of(estate.prepare(&FactSet::new()));
    let decision = estate.decide_chain(&chain, Action::Select, &products, &known);
    assert!(decision.allow);
    assert_eq!(decision.links[0].grants.len(), GROUPS);
}

#[test]
fn groups_in_a_circle_are_refused() {
    let text = "[[group]]\nname = \"a\"\ngroups = [\"b\"]\n[[group]]\nname = \"b\"\ngroups = [\"c\"]\n[[group]]\nname = \"c\"\ngroups = [\"a\"]\n";
    refused("identities/x.toml", text, "ESTATE-GROUP-CYCLE");
    refused(
        "identities/x.toml",
        "[[group]]\nname = \"a\"\ngroups = [\"a\"]\n",
        "ESTATE-GROUP-CYCLE",
    );
}

#[test]
fn groups_100_000_deep_are_refused() {
    let text: String = (0..100_000)
        .map(|depth| {
            format!(
                "[[group]]\nname = \"g{depth}\"\ngroups = [\"g{}\"]\n",
                depth + 1
            )
        })
        .collect();
    refused(
        "identities/x.toml",
        &format!("{text}[[group]]\nname = \"g100000\"\n"),
        "ESTATE-GROUP-DEPTH",
    );
}

#[test]
fn giant_and_deep_statements_are_refused() {
    let set: String = (0..100_000)
        .map(|number| format!("\"{number}\","))
        .collect();
    let giant = format!(
        "permit (principal, action == Action::\"select\", resource) when {{ [{set}].contains(\"x\") }};"
    );
    refused("policies/x.cedar", &giant, "ESTATE-CEDAR-SIZE");
    let deep = format!(
        "permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(1000),
        ")".repeat(1000)
    );
    refused("policies/x.cedar", &deep, "ESTATE-CEDAR-SIZE");
}

/// The deepest conditions that the caps let through, on a stack as small as a server's threads have.
#[test]
fn the_deepest_conditions_do_not_overflow_a_small_stack() {
    let chain = |operand: &str, times: usize| format!("{} true", operand.repeat(times));
    let nested = |open: &str, close: &str, times: usize| {
        format!("{}true{}", open.repeat(times), close.repeat(times))
    };
    // `policy::MAX_DEPTH`, less the brackets around.
    let n = 195;
    for condition in [
        chain("true && ", n),
        chain("true || ", n),
        chain("if true then false else ", n),
        nested("(", ")", n),
        nested("[", "].contains(true)", n / 2),
        nested("{\"a\": ", "}.a", n / 2),
        chain("true && ", 10_000 / 8),
        nested("!(", ")", 2_000),
    ] {
        let text = format!(
            "permit (principal is Identity, action == Action::\"select\", resource) when {{ {condition} }};"
        );
        let problems = on_a_small_stack(move || compile_and_ask(&text));
        assert!(
            problems == "no problem" || problems.contains("ESTATE-"),
            "{problems}"
        );
    }
}

/// Also decides and asks, and drops the estate, on the same stack.
fn compile_and_ask(policy: &str) -> String {
    let mut files = shop_files();
    files.insert("policies/x.cedar", policy);
    match Estate::compile(&files) {
        Err(problems) => render(&problems),
        Ok(estate) => {
            let answer = estate.what_can("agents/helper");
            assert!(!answer.accesses.is_empty() || !answer.errors.is_empty());
            let products = ResourceRef::table("shop/public/products");
            let request = Request {
                principal: "agents/helper",
                action: Action::Select,
                resource: products,
                facts: &FactSet::new(),
            };
            let decision = estate.why(&request).decision;
            // Unoptimised, Cedar may run short of stack: that is an error and so a denial.
            assert!(decision.allow || !decision.errors.is_empty());
            "no problem".to_owned()
        }
    }
}

fn on_a_small_stack(run: impl FnOnce() -> String + Send + 'static) -> String {
    let thread = std::thread::Builder::new()
        .stack_size(2 * 1024 * 1024)
        .spawn(run)
        .unwrap();
    thread.join().unwrap()
}

#[test]
fn syntax_errors_have_their_line() {
    expect![[r#"
        policies/x.cedar:5:3: ESTATE-CEDAR-SYNTAX: '=' is not a valid operator in Cedar (try using '==' instead)
    "#]].assert_eq(&problems_with(
        "policies/x.cedar",
        "// one\n\npermit (principal, action == Action::\"select\", resource)\nwhen {\n  principal.kind = \"x\"\n};",
    ));
    expect![[r#"
        policies/x.cedar:1: ESTATE-CEDAR-SYNTAX: a policy begins with `permit` or `forbid`, not `allow`
    "#]].assert_eq(&problems_with(
        "policies/x.cedar",
        "allow (principal, action, resource);",
    ));
    expect![[r#"
        invariants/x.cedar:1: ESTATE-CEDAR-SYNTAX: an invariant begins with `never` or `always`, not `permit` (policies stand in policies/*.cedar)
    "#]].assert_eq(&problems_with(
        "invariants/x.cedar",
        "permit (principal, action, resource);",
    ));
}

#[test]
fn templates_are_refused() {
    refused(
        "policies/x.cedar",
        "permit (principal == ?principal, action, resource);",
        "ESTATE-CEDAR-SYNTAX",
    );
}

#[test]
fn conditions_that_follow_references_are_refused() {
    let text = "@id(\"x\") permit (principal is Identity, action == Action::\"select\", resource)\nwhen { Identity::\"payments/api\".kind == \"service\" };";
    refused("policies/x.cedar", text, "ESTATE-POLICY-TYPE");
}

#[test]
fn assume_without_placement_is_refused() {
    let policy = |scope: &str, condition: &str| {
        format!(
            "@id(\"x\") permit ({scope}, action == Action::\"assume\", resource == Identity::\"payments/api\"){condition};"
        )
    };
    let uid = " when { principal has uid && principal.uid == 0 }";
    expect![[r#"
        policies/x.cedar:1: ESTATE-ASSUME-PLACEMENT: it rests on `principal.uid`, which any node agent can assert, and names no machines (write `principal in Pool::"…"`, or compare `principal.machine.name`)
    "#]].assert_eq(&problems_with(
        "policies/x.cedar",
        &policy("principal", uid),
    ));
    refused(
        "policies/x.cedar",
        &policy("principal", ""),
        "ESTATE-ASSUME-PLACEMENT",
    );
    for word in [
        "principal.machine has enforcement && principal.machine.enforcement == \"enforced\"",
        "principal.machine has ipe && principal.machine.ipe has sha256 && principal.machine.ipe.sha256 == \"00\"",
    ] {
        refused(
            "policies/x.cedar",
            &policy("principal", &format!(" when {{ {word} }}")),
            "ESTATE-ASSUME-PLACEMENT",
        );
    }
    let either = " when { principal.machine has pool && principal.machine.pool == \"demo\" || principal has uid && principal.uid == 0 }";
    refused(
        "policies/x.cedar",
        &policy("principal", either),
        "ESTATE-ASSUME-PLACEMENT",
    );
    let code = " when { principal has code && principal.code.known_as.contains(\"psql\") }";
    refused(
        "policies/x.cedar",
        &policy("principal in Pool::\"demo\"", code),
        "ESTATE-ASSUME-UID",
    );
    let named = " when { principal.machine has name && principal.machine.name == \"m1\" && principal has uid && principal.uid == 0 }";
    assert_eq!(
        problems_with("policies/x.cedar", &policy("principal", named)),
        "no problem"
    );
}

#[test]
fn too_many_files_and_too_many_bytes_are_refused() {
    let mut files = shop_files();
    for number in 0..=MAX_FILES {
        files.insert(format!("tests/{number}.toml"), "");
    }
    assert!(render(&Estate::compile(&files).unwrap_err()).contains("ESTATE-FILES-COUNT"));
    let mut files = shop_files();
    files.insert("policies/x.cedar", "/".repeat(17 * 1024 * 1024));
    assert!(render(&Estate::compile(&files).unwrap_err()).contains("ESTATE-FILES-SIZE"));
}

#[test]
fn an_empty_estate_says_what_it_needs() {
    expect![[r#"
        estate.toml: ESTATE-LAYOUT: the file is missing (it needs at least: trust_domain = "example.org")
    "#]].assert_eq(&render(&Estate::compile(&EstateFiles::new()).unwrap_err()));
}

#[test]
fn every_problem_is_reported_not_the_first() {
    let mut files = shop_files();
    files.insert(
        "identities/x.toml",
        "[[identity]]\npath = \"/x\"\nkind = \"job\"\nowner = \"\"\ngroups = [\"shopp\"]\n",
    );
    let problems = Estate::compile(&files).unwrap_err();
    let codes: Vec<_> = problems
        .iter()
        .map(|problem| (problem.line, problem.code.as_str()))
        .collect();
    assert_eq!(
        codes,
        [
            (2, "ESTATE-IDENTITY-OWNER"),
            (2, "ESTATE-IDENTITY-PATH"),
            (5, "ESTATE-GROUP")
        ]
    );
}

#[test]
fn a_file_that_does_not_parse_hides_no_other_and_nothing_is_said_of_its_names() {
    let mut files = shop_files();
    for (name, text) in &mut files.0 {
        if name.starts_with("identities/") {
            text.push_str("\nonwer = 1\n");
        }
    }
    files.insert("identities/groups.toml", "onwer = 1\n");
    files.insert(
        "policies/x.cedar",
        "permit (principal, action, resource) when { 1 + };\n",
    );
    files.insert(
        "invariants/x.cedar",
        "nevr (principal, action, resource);\n",
    );
    let problems = Estate::compile(&files).unwrap_err();
    let codes: Vec<_> = problems
        .iter()
        .map(|problem| problem.code.as_str())
        .collect();
    assert!(
        codes
            .iter()
            .all(|code| ["ESTATE-DECLARATION", "ESTATE-CEDAR-SYNTAX"].contains(code)),
        "{}",
        render(&problems)
    );
    for file in [
        "identities/groups.toml",
        "policies/x.cedar",
        "invariants/x.cedar",
    ] {
        assert!(
            problems.iter().any(|problem| problem.file == file),
            "{file}"
        );
    }
}
