//! Becoming an identity: who may, and what a refusal says.

use crate::fixture::{facts, shop, workload};
use expect_test::expect;
use facts::{FactSet, Value, names};

#[test]
fn each_program_becomes_its_own_identity_and_no_other() {
    let estate = shop();
    for (digit, own) in [
        ('1', "payments/api"),
        ('2', "reporting/nightly"),
        ('3', "agents/helper"),
        ('4', "ops/psql"),
    ] {
        let assumable: Vec<_> = estate
            .assumable(&workload(digit))
            .into_iter()
            .map(|(identity, _)| identity.path.clone())
            .collect();
        assert_eq!(assumable, [own]);
    }
}

#[test]
fn another_binary_is_told_what_was_expected_and_seen() {
    let decision = shop().assume(&workload('9'), "payments/api");
    assert!(!decision.allow);
    assert_eq!(decision.findings.len(), 1, "{:?}", decision.findings);
    expect![[r#"ASSUME-CODE-DIGEST: the running executable is not what payments/api is declared to be (policies/assume.cedar:4 "payments-api is what was released, in the demo pool"); expected payments-api (sha256 1111111111111111111111111111111111111111111111111111111111111111); saw 9999999999999999999999999999999999999999999999999999999999999999; next: if this build is meant, add its digest to references/ and apply the estate"#]].assert_eq(&decision.findings[0].to_string());
}

#[test]
fn another_pool_and_another_uid_are_told_so() {
    let estate = shop();
    let elsewhere = facts(&[
        (names::MACHINE_POOL, "lab".into()),
        (names::WORKLOAD_UID, 0_u32.into()),
        (names::CODE_SHA256, "1".repeat(64).into()),
    ]);
    let decision = estate.assume(&elsewhere, "payments/api");
    expect![[r#"ASSUME-PLACEMENT: policies/assume.cedar:4 "payments-api is what was released, in the demo pool" does not let this workload become payments/api; expected principal in Pool::"demo"; saw machine.name is absent, machine.pool is lab; next: look at policies/assume.cedar:4"#]].assert_eq(&decision.findings[0].to_string());
    let mut other_uid: FactSet = workload('1')
        .iter()
        .filter(|fact| fact.name != names::WORKLOAD_UID)
        .cloned()
        .collect();
    other_uid.extend(
        facts(&[(names::WORKLOAD_UID, 1000_u32.into())])
            .iter()
            .cloned(),
    );
    let decision = estate.assume(&other_uid, "payments/api");
    expect![[r#"ASSUME-CONDITION: policies/assume.cedar:4 "payments-api is what was released, in the demo pool" does not let this workload become payments/api; expected principal.uid == 0; saw principal.uid is 1000; next: look at policies/assume.cedar:4"#]].assert_eq(&decision.findings[0].to_string());
}

#[test]
fn nothing_is_assumed_by_default() {
    let estate = shop();
    assert!(estate.assumable(&FactSet::new()).is_empty());
    let decision = estate.assume(&workload('1'), "payments/nobody");
    assert_eq!(decision.findings[0].code, "ESTATE-RESOURCE-UNKNOWN");
}

#[test]
fn an_interpreter_goes_by_no_name() {
    let mut facts = workload('1');
    assert!(shop().assume(&facts, "payments/api").allow);
    facts.extend(
        self::facts(&[(names::WORKLOAD_INTERPRETER, true.into())])
            .iter()
            .cloned(),
    );
    assert!(!shop().assume(&facts, "payments/api").allow);
}

#[test]
fn a_fact_of_the_wrong_type_denies() {
    let facts = facts(&[(names::WORKLOAD_UID, Value::Text("0".to_owned()))]);
    let decision = shop().assume(&facts, "gateway/pg");
    assert_eq!(decision.findings[0].code, "ESTATE-FACT-TYPE");
    assert!(!decision.allow);
}
