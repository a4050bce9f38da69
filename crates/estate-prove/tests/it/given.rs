//! What a proof takes for granted: it makes provable what is not of all data, and is worth nothing where it
//! does not hold of what is declared.

use crate::fixture::{cvc5, shop_files};
use estate::{Estate, EstateFiles, Today};
use estate_prove::{InvariantReport, Options, Result, prove_blocking};
use expect_test::expect;

/// Two teams, a table that is one's secret, a permit for whoever is of a table's team, and an invariant.
fn files(given: &str) -> EstateFiles {
    let mut files = EstateFiles::bootstrap("example.org", 0);
    let classes = "classifications = [\"public\", \"secret\", \"restricted\"]\n";
    files.insert(
        "estate.toml",
        format!("trust_domain = \"example.org\"\n{classes}"),
    );
    let identity = |team: &str| {
        format!(
            "[[identity]]\npath = \"{team}/app\"\nkind = \"service\"\nowner = \"{team}\"\n\
             labels = {{ team = \"{team}\" }}\n"
        )
    };
    files.insert(
        "identities/all.toml",
        identity("research") + &identity("sales"),
    );
    files.insert(
        "policies/team.cedar",
        "@id(\"teams read their own\")\npermit (principal, action == Action::\"select\", resource is Table)\n\
         when { resource.hasTag(\"team\") && principal.hasTag(\"team\")\n\
                && resource.getTag(\"team\") == principal.getTag(\"team\") };",
    );
    files.insert(
        "resources/all.toml",
        "[[database]]\nname = \"shop\"\nclassification = \"public\"\n\
         [[database.schema]]\nname = \"lab\"\n\
         [[database.schema.table]]\nname = \"plans\"\nclassification = \"secret\"\n\
         labels = { team = \"research\" }\n\
         [[database.schema.table]]\nname = \"prices\"\nlabels = { team = \"sales\" }\n",
    );
    files.insert(
        "invariants/team.cedar",
        format!(
            "@id(\"secrets stay in research\")\nnever (principal, action == Action::\"select\", resource is Table)\n\
             when {{ resource.classification == \"secret\" }}\n\
             unless {{ principal.hasTag(\"team\") && principal.getTag(\"team\") == \"research\" }}\n{given};"
        ),
    );
    files
}

const RESEARCH: &str = "given { resource.classification != \"secret\" || \
                        (resource.hasTag(\"team\") && resource.getTag(\"team\") == \"research\") }";

fn proved(files: &EstateFiles, options: &Options) -> InvariantReport {
    let estate = Estate::compile(files).unwrap_or_else(|problems| panic!("{problems:?}"));
    let report = prove_blocking(&estate, options);
    let mut found = report.invariants.into_iter();
    found
        .find(|one| one.invariant.id == "secrets stay in research")
        .unwrap()
}

#[test]
fn what_holds_only_of_labelled_tables_is_proved_given_the_labels() {
    let Some(options) = cvc5("given_the_labels") else {
        return;
    };
    let without = proved(&files(""), &options);
    assert!(
        matches!(without.result, Result::Broken { .. }),
        "{}",
        without.result
    );
    let with = proved(&files(RESEARCH), &options);
    assert!(matches!(with.result, Result::Proved), "{}", with.result);
    assert_eq!(with.givens.len(), 1);
    assert_eq!(with.givens[0].given, RESEARCH);
    assert!(with.givens[0].holds(), "{:?}", with.givens[0].today);
    assert!(with.is_accepted());
}

#[test]
fn a_proof_that_takes_for_granted_what_does_not_hold_is_not_accepted() {
    let Some(options) = cvc5("takes_for_granted_what_does_not_hold") else {
        return;
    };
    let mut files = files(RESEARCH);
    let text = files.0["resources/all.toml"].replace("team = \"research\"", "team = \"sales\"");
    files.insert("resources/all.toml", text);
    let report = proved(&files, &options);
    assert!(matches!(report.result, Result::Proved), "{}", report.result);
    assert!(!report.is_accepted());
    let Today::Broken { by } = &report.givens[0].today else {
        panic!("{:?}", report.givens);
    };
    let listed: Vec<_> = by
        .iter()
        .filter(|one| one.resource.path == "shop/lab/plans")
        .collect();
    assert_eq!(listed.len(), 1, "{by:?}");
    assert_eq!(listed[0].principal, "Identity::\"sales/app\"");
    // Even where its author asks for today alone: what is not looked at is not known.
    let text = files.0["invariants/team.cedar"].replace("never (", "@proof(\"today\")\nnever (");
    files.insert("invariants/team.cedar", text);
    assert!(!proved(&files, &options).is_accepted());
}

#[test]
fn a_given_over_facts_or_out_of_place_is_refused() {
    let problems = |given: &str| match Estate::compile(&files(given)) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => problems
            .iter()
            .map(|problem| format!("{problem}\n"))
            .collect(),
    };
    expect![[r#"
        invariants/team.cedar:5: ESTATE-INVARIANT-GIVEN: a given speaks of what is declared, not of the facts of a session (write it as a `when` of the invariant)
    "#]]
    .assert_eq(&problems("given { context.machine has join }"));
    expect![[r#"
        invariants/team.cedar:5:9: ESTATE-POLICY-TYPE: for policy `secrets stay in research`, attribute `clasification` on entity type `Table` not found (did you mean `classification`?)
    "#]].assert_eq(&problems("given { resource.clasification == \"x\" }"));
    let many = "given { resource.hasTag(\"x\") }\n".repeat(9);
    expect![[r#"
        invariants/team.cedar:1: ESTATE-INVARIANT-GIVEN: an invariant takes 9 things for granted; at most 8 (join those that belong together by `&&`, or cut the invariant in two)
    "#]].assert_eq(&problems(&many));
    let mut in_policy = shop_files();
    in_policy.insert(
        "policies/x.cedar",
        "permit (principal, action, resource) given { true };",
    );
    assert!(Estate::compile(&in_policy).is_err());
    let set = estate::format(
        "invariants/team.cedar",
        &files(RESEARCH).0["invariants/team.cedar"],
    );
    expect![[r#"
        @id("secrets stay in research")
        never (
          principal,
          action == Action::"select",
          resource is Table
        )
        when { resource.classification == "secret" }
        unless { principal.hasTag("team") && principal.getTag("team") == "research" }
        given
        {
          resource.classification != "secret" ||
          (resource.hasTag("team") && resource.getTag("team") == "research")
        };
    "#]]
    .assert_eq(&set.unwrap().text);
}
