//! What policies say of themselves, in answers and in lint.

use crate::fixture::{compile, shop, shop_files};
use estate::{Remark, ResourceRef};
use expect_test::expect;

fn lint(path: &str, text: &str) -> Vec<Remark> {
    let known = shop().lint();
    let mut files = shop_files();
    files.insert(path, text);
    let mut remarks = compile(&files).lint();
    remarks.retain(|remark| !known.contains(remark));
    remarks
}

fn lines(remarks: &[Remark]) -> String {
    remarks.iter().map(|remark| format!("{remark}\n")).collect()
}

const SCOPE: &str = "forbid (principal == Identity::\"payments/api\", action == Action::\"insert\", \
                     resource == Table::\"shop/public/cards\");\n";

#[test]
fn the_policy_of_an_answer_says_whose_it_is_why_it_stands_and_for_which_control() {
    let estate = shop();
    let resource: ResourceRef = "shop/public/cards".parse().unwrap();
    let answer = estate.who_can("select".parse().unwrap(), &resource);
    let told: Vec<String> = answer
        .accesses
        .iter()
        .flat_map(|access| &access.policies)
        .map(|policy| policy.with_reasons())
        .collect();
    expect![[r#"policies/shop.cedar:3 "payments reads cards" (owner payments team; reason it charges them)"#]].assert_eq(&told.join("\n"));
    let guard = estate::cedar::singles(&estate)
        .map(|single| single.reference().clone())
        .find(|policy| policy.line == 67)
        .unwrap();
    expect![[r#"policies/shop.cedar:67 "an AI agent never touches personal or unclassified data" (owner data protection; reason what is personal is seen by programs that were reviewed for it; control SOC2-CC6.1)"#]].assert_eq(&guard.with_reasons());
}

#[test]
fn a_misspelt_annotation_is_remarked_on_and_one_of_ones_own_is_not() {
    let text = format!(
        "@id(\"a\") @onwer(\"me\") {SCOPE}@id(\"b\") @Control(\"x\") {SCOPE}\
         @id(\"c\") @ticket(\"OPS-7\") @advice(\"ask\") {SCOPE}@id(\"d\") @reason(\" \") {SCOPE}\
         @id(\"e\") @proof(\"today\") {SCOPE}"
    );
    let remarks: Vec<Remark> = lint("policies/x.cedar", &text)
        .into_iter()
        .filter(|remark| remark.problem.code.starts_with("LINT-ANNOTATION"))
        .collect();
    expect![[r#"
        warning: policies/x.cedar:1: LINT-ANNOTATION-UNKNOWN: `@onwer` is no annotation that answers repeat (did you mean `@owner`?)
        warning: policies/x.cedar:2: LINT-ANNOTATION-UNKNOWN: `@Control` is no annotation that answers repeat (did you mean `@control`?)
        warning: policies/x.cedar:4: LINT-ANNOTATION-EMPTY: `@reason` says nothing (write `@reason("…")`, or leave it out)
    "#]].assert_eq(&lines(&remarks));
}

#[test]
fn an_invariant_knows_one_more() {
    let body = "never (principal is Identity, action == Action::\"truncate\", \
                resource == Table::\"shop/public/cards\");\n";
    let of = |annotation: &str| {
        let remarks = lint(
            "invariants/x.cedar",
            &format!("@id(\"x\") {annotation} {body}"),
        );
        let codes = remarks.iter().map(|remark| remark.problem.code.clone());
        codes.collect::<Vec<_>>()
    };
    assert_eq!(of("@proof(\"today\")"), [""; 0]);
    assert_eq!(of("@prof(\"today\")"), ["LINT-ANNOTATION-UNKNOWN"]);
}

/// Whoever reads a remark sees whom to ask.
#[test]
fn a_remark_on_a_policy_says_whose_it_is() {
    let text = "@id(\"wide\") @owner(\"data team\") @control(\"SOC2-CC6.1\")\n\
                permit (principal is Identity, action == Action::\"update\", resource is Table)\n\
                when { principal.kind == \"job\" };";
    let remarks = lint("policies/x.cedar", text);
    let wide = remarks
        .iter()
        .find(|remark| remark.problem.code == "LINT-GRANTS-WIDE")
        .unwrap();
    let said = " (owner data team; control SOC2-CC6.1)";
    assert!(wide.to_string().ends_with(said), "{wide}");
    let policy = wide.policy.as_ref().unwrap();
    assert_eq!(
        (policy.id.as_str(), policy.annotations["owner"].as_str()),
        ("wide", "data team")
    );
}
