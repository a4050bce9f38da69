//! What `trilith estate lint` says without a solver, on the example and on estates with one fault each.

use crate::fixture::{compile, shop, shop_files};
use estate::{Estate, EstateFiles, Remark, Severity};
use expect_test::expect;

fn lines(remarks: &[Remark]) -> String {
    remarks.iter().map(|remark| format!("{remark}\n")).collect()
}

/// What is said of the example with these files on top, and not of the example.
fn said(changes: &[(&str, &str)]) -> String {
    let known = shop().lint();
    let mut files = shop_files();
    for (path, text) in changes {
        files.insert(*path, *text);
    }
    let mut remarks = compile(&files).lint();
    remarks.retain(|remark| !known.contains(remark));
    lines(&remarks)
}

fn policy(text: &str) -> String {
    said(&[("policies/x.cedar", text)])
}

#[test]
fn the_example_has_one_thing_to_say() {
    expect![[r#"
        warning: policies/shop.cedar:28: LINT-FACT-UNSTATED: nobody states `machine.join` as "tpm": no `[[tpm_root]]` and no `[[machine]]` with a TPM's key is declared: all join by token; what needs it is granted to nobody (declare whose TPMs count, `[[tpm_root]]`, or pin keys: `[[machine]]`) (owner data team)
    "#]].assert_eq(&lines(&shop().lint()));
}

#[test]
fn conditions_that_contradict_each_other_are_errors() {
    expect![[r#"
        error: policies/x.cedar:1: LINT-NEVER-MATCHES: it never forbids anything: `resource.classification` is to be "pii" and is not to be (correct the condition, or delete the policy)
    "#]].assert_eq(&policy(
        "@id(\"x\")\nforbid (principal is Identity, action == Action::\"insert\", resource is Table)\n\
         when { principal.kind == \"job\" && resource.classification == \"pii\" }\n\
         unless { resource.classification == \"pii\" };",
    ));
}

#[test]
fn what_is_declared_otherwise_is_a_warning() {
    expect![[r#"
        warning: policies/x.cedar:1: LINT-NEVER-MATCHES: it never permits anything: `principal.kind` is to be "service" and "job" at once, as it is declared (correct the condition, or delete the policy)
        warning: policies/x.cedar:4: LINT-NEVER-MATCHES: it never permits anything: `resource.classification` is to be "pii" and "public" at once, as it is declared (correct the condition, or delete the policy)
    "#]].assert_eq(&policy(
        "@id(\"x\")\npermit (principal == Identity::\"payments/api\", action == Action::\"insert\", \
         resource == Table::\"shop/public/cards\")\n\
         when { principal.kind == \"job\" };\n\
         @id(\"y\")\npermit (principal == Identity::\"payments/api\", action == Action::\"insert\", \
         resource == Table::\"shop/public/cards\")\n\
         when { resource.classification == \"public\" };",
    ));
}

#[test]
fn a_grant_of_everything_is_an_error_and_a_wide_one_a_warning() {
    expect![[r#"
        warning: policies/shop.cedar:3: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other) (owner payments team; reason it charges them)
        warning: policies/shop.cedar:12: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other) (owner payments team)
        warning: policies/shop.cedar:20: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other) (owner payments team)
        warning: policies/shop.cedar:28: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other) (owner data team)
        warning: policies/shop.cedar:37: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other) (owner platform team)
        warning: policies/shop.cedar:46: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other) (owner platform team)
        warning: policies/shop.cedar:58: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other) (owner platform team)
        error: policies/x.cedar:1: LINT-GRANTS-ALL: its scope takes in every identity and every action and every resource (name whom, what and where in the scope: `principal in Group::"…"`, `action == Action::"select"`, `resource in Schema::"…"`)
        warning: policies/x.cedar:2: LINT-GRANTS-WIDE: its scope takes in every identity and every resource, and its conditions alone limit it (name whom, what and where in the scope: `principal in Group::"…"`, `action == Action::"select"`, `resource in Schema::"…"`)
        warning: policies/x.cedar:2: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "all" permits as well (delete one of the two, or narrow the other)
    "#]].assert_eq(&policy(
        "@id(\"all\") permit (principal is Identity, action, resource);\n\
         @id(\"wide\") permit (principal is Identity, action == Action::\"update\", resource is Table)\n\
         when { principal.kind == \"job\" };",
    ));
}

/// Administrators are named by the estate itself; what they may do is wide by nature.
#[test]
fn administrators_may_do_everything() {
    let mut files = shop_files();
    let own = "permit (principal == Admin::\"uid:0\", action, resource);";
    files.insert("policies/administrators.cedar", own);
    let about = |remark: &Remark| remark.problem.file == "policies/administrators.cedar";
    assert!(!compile(&files).lint().iter().any(about));
}

#[test]
fn values_that_there_never_are_come_with_what_was_meant() {
    expect![[r#"
        error: policies/x.cedar:1: LINT-VALUE-UNKNOWN: `resource.classification` is compared with "pi": nothing declared is called so (did you mean `pii`?)
        error: policies/x.cedar:3: LINT-VALUE-UNKNOWN: `principal.kind` is compared with "ai_agent": there is no such value (did you mean `ai-agent`?)
        error: policies/x.cedar:5: LINT-VALUE-UNKNOWN: `principal.code.known_as` is compared with "payment-api": nothing declared is called so (did you mean `payments-api`?)
        error: policies/x.cedar:7: LINT-VALUE-UNKNOWN: `principal.machine.tee.kind` is compared with "sgx2": there is no such value (did you mean `sgx`?)
        warning: policies/x.cedar:7: LINT-FACT-UNSTATED: nobody states `machine.tee.kind`: no `[[tee]]` of references/ asks for pool `demo`; what needs it is granted to nobody (declare what the machines' hardware has to show: `[[tee]]`)
    "#]].assert_eq(&policy(
        "@id(\"a\") forbid (principal is Identity, action == Action::\"insert\", resource is Table)\n\
         when { resource.classification == \"pi\" };\n\
         @id(\"b\") forbid (principal is Identity, action == Action::\"insert\", resource is Table)\n\
         when { [\"ai_agent\", \"job\"].contains(principal.kind) };\n\
         @id(\"c\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"payments/api\")\n\
         when { principal has uid && principal has code && \
         principal.code.known_as.contains(\"payment-api\") };\n\
         @id(\"d\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"payments/api\")\n\
         when { principal.machine has tee.kind && principal.machine.tee.kind == \"sgx2\" };",
    ));
}

#[test]
fn facts_that_nobody_states_are_warnings_until_somebody_does() {
    let boot = "@id(\"x\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
                resource == Identity::\"payments/api\")\n\
                when { principal.machine has boot.secure_boot && principal.machine.boot.secure_boot };";
    expect![[r#"
        warning: policies/x.cedar:1: LINT-FACT-UNSTATED: nobody states `machine.boot.secure_boot`: no machine of pool `demo` is declared with a TPM's key: all join by token; what needs it is granted to nobody (pin the machines' keys: `[[machine]]` with `pool` and `ek_sha256`)
    "#]].assert_eq(&policy(boot));
    let digest = "ab".repeat(32);
    let machines = format!(
        "[[pool]]\nname = \"demo\"\n[[machine]]\nname = \"m1\"\npool = \"demo\"\nek_sha256 = [\"{digest}\"]\n"
    );
    let pinned = said(&[
        ("policies/x.cedar", boot),
        ("references/machines.toml", &machines),
    ]);
    assert_eq!(pinned, "");
}

/// A forbid whose exception nobody has forbids everybody: the lint said "forbidden to nobody".
#[test]
fn what_follows_from_an_unstated_fact_is_said_for_when_and_unless() {
    let granted_to_nobody = "what needs it is granted to nobody";
    let granted_to_all = "it is granted as if the exception were not there";
    let forbidden_to_nobody = "what needs it is forbidden to nobody";
    let forbidden_to_all = "it is forbidden to everybody in the policy's scope";
    let sealed = "principal.machine has boot.secure_boot && principal.machine.boot.secure_boot";
    let by_tpm = "principal.machine has join && principal.machine.join == \"tpm\"";
    let not_by_tpm = "principal.machine has join && principal.machine.join != \"tpm\"";
    let cases = [
        ("permit", format!("when {{ {sealed} }}"), granted_to_nobody),
        ("permit", format!("unless {{ {sealed} }}"), granted_to_all),
        (
            "forbid",
            format!("when {{ {sealed} }}"),
            forbidden_to_nobody,
        ),
        ("forbid", format!("unless {{ {sealed} }}"), forbidden_to_all),
        // A denial turns each of them round.
        ("permit", format!("when {{ !({sealed}) }}"), granted_to_all),
        (
            "permit",
            format!("unless {{ !({sealed}) }}"),
            granted_to_nobody,
        ),
        (
            "forbid",
            format!("when {{ !({sealed}) }}"),
            forbidden_to_all,
        ),
        (
            "forbid",
            format!("unless {{ !({sealed}) }}"),
            forbidden_to_nobody,
        ),
        // So does a value that nobody states of a fact that is stated.
        ("permit", format!("when {{ {by_tpm} }}"), granted_to_nobody),
        ("permit", format!("when {{ {not_by_tpm} }}"), granted_to_all),
        ("forbid", format!("unless {{ {by_tpm} }}"), forbidden_to_all),
        (
            "forbid",
            format!("unless {{ {not_by_tpm} }}"),
            forbidden_to_nobody,
        ),
    ];
    for (effect, clause, so) in cases {
        let text = format!(
            "@id(\"x\") {effect} (principal in Pool::\"demo\", action == Action::\"assume\", \
             resource == Identity::\"payments/api\")\n{clause};"
        );
        let said = policy(&text);
        let unstated: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("LINT-FACT-UNSTATED"))
            .collect();
        assert!(
            matches!(unstated.as_slice(), [one] if one.contains(so)),
            "{effect} {clause}: {said}"
        );
    }
}

/// A rule for `webb` bound nobody, and nothing said so.
#[test]
fn a_ring_that_is_no_pool_is_a_warning() {
    let references = "[[pool]]\nname = \"web\"\n\n[[boot]]\nname = \"web\"\nfrom = [\"shim-grub-linux\"]\n\
                      rings = [\"webb\", \"web\", \"nowhere\"]\n\n[[boot]]\nname = \"all\"\n\
                      from = [\"shim-grub-linux\"]\nrings = [\"*\"]\n";
    let said = said(&[("references/x.toml", references)]);
    let of_rings: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("LINT-RING-UNKNOWN"))
        .collect();
    expect![[r#"
        warning: references/x.toml:7: LINT-RING-UNKNOWN: boot rule `web` is for ring `nowhere`, in which no machine can be: no such pool is declared (there is demo, web; declare it, `[[pool]]`, or name every ring: `*`)
        warning: references/x.toml:7: LINT-RING-UNKNOWN: boot rule `web` is for ring `webb`, in which no machine can be: no such pool is declared (did you mean `web`?)"#]]
    .assert_eq(&of_rings.join("\n"));
}

#[test]
fn what_leads_nowhere_is_said_where_it_is_declared() {
    let key = crate::code::pem(&crate::code::key());
    let references = format!(
        "[[pool]]\nname = \"spare\"\n\n[[code]]\nname = \"old\"\nsha256 = []\n\n\
         [[signer]]\nname = \"ci\"\nkey = \"\"\"\n{key}\"\"\"\n"
    );
    expect![[r#"
        warning: identities/x.toml:2: LINT-GROUP-EMPTY: group `nobody` has no members (name it under `groups` of an identity, a resource or an administrator, or delete it)
        warning: identities/x.toml:5: LINT-IDENTITY-UNREACHABLE: nobody may become identity `x/y` (add a policy for `assume` in policies/, or delete the identity)
        warning: references/x.toml:2: LINT-REFERENCE-UNUSED: pool `spare` is used by nothing (name it in a policy: `principal in Pool::"…"`; or delete it)
        warning: references/x.toml:5: LINT-REFERENCE-UNUSED: code `old` is used by nothing (ask for it: `principal.code.known_as.contains("…")`; or delete it)
        warning: references/x.toml:9: LINT-REFERENCE-UNUSED: signer `ci` is used by nothing (name it in a `[[provenance]]`, ask for `code.approved_by`; or delete it)
    "#]].assert_eq(&said(&[
        (
            "identities/x.toml",
            "[[group]]\nname = \"nobody\"\n\n[[identity]]\npath = \"x/y\"\nkind = \"job\"\nowner = \"x\"\n",
        ),
        ("references/x.toml", &references),
    ]));
}

#[test]
fn what_a_wider_policy_says_as_well_is_said_once() {
    expect![[r#"
        warning: policies/x.cedar:2: LINT-NEVER-MATCHES: it never permits anything: `principal.owner` is to be "payments team" and "x" at once, as it is declared (correct the condition, or delete the policy)
        warning: policies/x.cedar:2: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "wide" permits as well (delete one of the two, or narrow the other)
        warning: policies/x.cedar:3: LINT-SHADOWED: everything that it permits, policies/x.cedar:1 "wide" permits as well (delete one of the two, or narrow the other)
        warning: policies/x.cedar:6: LINT-FORBIDDEN: everything that it permits, policies/x.cedar:5 "never" forbids (delete one of the two, or narrow the other)
    "#]].assert_eq(&policy(
        "@id(\"wide\") permit (principal in Group::\"shop\", action in [Action::\"update\", \
         Action::\"insert\"], resource in Schema::\"shop/public\");\n\
         @id(\"within\") permit (principal == Identity::\"payments/api\", action == Action::\"update\", \
         resource == Table::\"shop/public/cards\") when { principal.owner == \"x\" };\n\
         @id(\"again\") permit (principal in Group::\"shop\", action in [Action::\"insert\", \
         Action::\"update\"], resource in Schema::\"shop/public\");\n\
         @id(\"beside\") permit (principal in Group::\"operators\", action == Action::\"update\", \
         resource == Table::\"shop/public/cards\");\n\
         @id(\"never\") forbid (principal is Identity, action == Action::\"truncate\", resource);\n\
         @id(\"forbidden\") permit (principal in Group::\"shop\", action == Action::\"truncate\", \
         resource in Schema::\"shop/public\") when { principal.kind == \"job\" };",
    ));
}

#[test]
fn what_a_test_names_and_there_is_not_is_said_where_it_is_named() {
    expect![[r#"
        error: tests/x.toml:7:8: ESTATE-TEST-WHY: no policy is "payments reads card" (did you mean `payments reads cards`?)
        error: tests/x.toml:7:31: ESTATE-TEST-WHY: no policy is "policies/shop.cedar:1" (name a policy by its @id, or by file:line)
        error: tests/x.toml:10:13: ESTATE-IDENTITY-UNKNOWN: no identity `payment/api` is declared (did you mean `payments/api`?)
    "#]].assert_eq(&said(&[(
        "tests/x.toml",
        "[[test]]\nname = \"x\"\nprincipal = \"payments/api\"\naction = \"select\"\n\
         resource = \"shop/public/cards\"\nexpect = \"allow\"\n\
         why = [\"payments reads card\", \"policies/shop.cedar:1\"]\n\
         [[test]]\nname = \"y\"\nprincipal = \"payment/api\"\naction = \"select\"\n\
         resource = \"shop/public/cards\"\nexpect = \"deny\"\n",
    )]));
}

/// It is proved at once, and keeps nothing from happening.
#[test]
fn an_invariant_about_nothing_is_an_error() {
    expect![[r#"
        error: invariants/x.cedar:1: LINT-VALUE-UNKNOWN: `resource.classification` is compared with "ppi": nothing declared is called so (did you mean `pii`?)
        error: invariants/x.cedar:3: LINT-NEVER-MATCHES: it is about no request, and so holds always: `principal.kind` is to be "job" and "ai-agent" at once (correct the condition, or delete the invariant)
    "#]].assert_eq(&said(&[(
        "invariants/x.cedar",
        "@id(\"a\") never (principal is Identity, action == Action::\"select\", resource is Table)\n\
         when { resource.classification == \"ppi\" };\n\
         @id(\"b\") never (principal is Identity, action == Action::\"select\", resource is Table)\n\
         when { principal.kind == \"job\" && principal.kind == \"ai-agent\" };\n",
    )]));
}

#[test]
fn what_computes_may_err() {
    expect![[r#"
        warning: policies/x.cedar:1: LINT-MAY-ERR: it computes, and may overflow: an error of any policy of a request is a denial (compare without `+`, `-` and `*`; with cvc5 installed, this is proved or shown)
    "#]].assert_eq(&policy(
        "@id(\"x\") forbid (principal is Identity, action == Action::\"insert\", resource is Table) when \
         { context.workload has uid && context.workload.uid + 1 == 1 };",
    ));
}

#[test]
fn remarks_serialize_flat_and_stable() {
    let mut files = EstateFiles::bootstrap("example.org", 0);
    files.insert("identities/x.toml", "[[group]]\nname = \"nobody\"\n");
    let remarks = Estate::compile(&files).unwrap().lint();
    assert_eq!(remarks.len(), 1);
    assert_eq!(remarks[0].severity, Severity::Warning);
    expect![[r#"
        {
          "severity": "warning",
          "file": "identities/x.toml",
          "line": 2,
          "code": "LINT-GROUP-EMPTY",
          "message": "group `nobody` has no members",
          "hint": "name it under `groups` of an identity, a resource or an administrator, or delete it",
          "by": "declarations"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&remarks[0]).unwrap());
}

#[test]
fn a_problem_points_at_its_column_and_says_what_was_meant() {
    let cases = [
        (
            "policies/x.cedar",
            "@id(\"x\")\npermit (principal is Identity, action == Action::\"select\", resource is Table)\n  \
             when { resource.clasification == \"pii\" };",
        ),
        (
            "policies/x.cedar",
            "@id(\"x\")\npermit (principal is Identty, action == Action::\"select\", resource is Table);",
        ),
        (
            "policies/x.cedar",
            "@id(\"x\")\npermit (principal is Identity, action == Action::\"selct\", resource is Table);",
        ),
        (
            "policies/x.cedar",
            "@id(\"x\") permit (\n  principal in Group::\"shopp\",\n  action == Action::\"select\",\n  \
             resource in Schema::\"shop/publik\"\n);",
        ),
        (
            "invariants/x.cedar",
            "@id(\"x\")\nnever (principal == Identity::\"payment/api\", action == Action::\"select\", resource);",
        ),
        (
            "identities/x.toml",
            "[[identity]]\npath = \"a/b\"\nkind = \"job\"\nowner = \"é\"\ngroups = [\"shop\", \"shopp\"]\n",
        ),
        (
            "identities/x.toml",
            "[[identity]]\npath = \"a/b\"\nkind = \"jb\"\nowner = \"x\"\n",
        ),
    ];
    let found: String = cases
        .iter()
        .map(|(path, text)| crate::fixture::problems_with(path, text))
        .collect();
    expect![[r#"
        policies/x.cedar:3:10: ESTATE-POLICY-TYPE: for policy `x`, attribute `clasification` on entity type `Table` not found (did you mean `classification`?)
        policies/x.cedar:2:22: ESTATE-POLICY-TYPE: for policy `x`, unrecognized entity type `Identty` (did you mean `Identity`?)
        policies/x.cedar:2:42: ESTATE-POLICY-TYPE: for policy `x`, unrecognized action `Action::"selct"` (did you mean `Action::"select"`?)
        policies/x.cedar:2:16: ESTATE-POLICY-NAME: Group::"shopp" is not declared (did you mean Group::"shop"?)
        policies/x.cedar:4:15: ESTATE-POLICY-NAME: Schema::"shop/publik" is not declared (did you mean Schema::"shop/public"?)
        invariants/x.cedar:2:21: ESTATE-POLICY-NAME: Identity::"payment/api" is not declared (did you mean Identity::"payments/api"?)
        identities/x.toml:5:19: ESTATE-GROUP: no group `shopp` is declared (did you mean `shop`?)
        identities/x.toml:3:8: ESTATE-DECLARATION: unknown variant `jb`, expected one of `service`, `job`, `ai-agent`, `person`, `gateway`, `node` (did you mean `job`?)
    "#]].assert_eq(&found);
}
