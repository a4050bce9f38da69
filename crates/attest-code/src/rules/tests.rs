//! Each test is an observation and the facts expected of it.

use super::*;
use expect_test::{Expect, expect};

fn program(path: &str) -> Program {
    Program {
        name: path.rsplit('/').next().map(str::to_owned),
        path: Some(path.to_owned()),
        digest: Digest::Sha256([0xab; 32]),
        fsverity: None,
    }
}

fn observed(path: &str) -> Observed {
    Observed {
        uid: 1001,
        gid: 1002,
        groups: vec![4, 30],
        program: program(path),
        cgroup: Some("/system.slice/payments.service".to_owned()),
        unit: Some("payments.service".to_owned()),
        caller: Caller::Pidfd,
        is_helper: false,
        on_behalf_of: None,
    }
}

fn check(observed: &Observed, expected: &Expect) {
    let facts = workload_facts(observed, Timestamp::EPOCH);
    assert!(facts.iter().all(|fact| fact.source == Source::Asserted));
    assert!(
        facts
            .iter()
            .all(|fact| names::ALL.contains(&fact.name.as_str()))
    );
    let mut shown: String = facts
        .iter()
        .map(|fact| format!("{} = {}\n", fact.name, fact.value))
        .collect();
    for note in notes(observed) {
        shown.push_str(&format!("! {}\n", note.code));
    }
    expected.assert_eq(&shown);
}

#[test]
fn what_the_kernel_measures_is_stated_of_a_program_and_of_no_interpreter() {
    let measured = crate::FsVerityDigest::Sha256([0xcd; 32]);
    for (path, stated) in [("/usr/bin/payments", true), ("/usr/bin/python3", false)] {
        let mut observed = observed(path);
        observed.program.fsverity = Some(measured);
        let facts = workload_facts(&observed, Timestamp::EPOCH);
        let expected = format!("sha256:{}", "cd".repeat(32));
        let expected = stated.then_some(expected.as_str());
        assert_eq!(facts.text(names::CODE_FSVERITY), expected, "{path}");
    }
}

#[test]
fn a_compiled_service() {
    check(
        &observed("/usr/bin/payments"),
        &expect![[r#"
            code.sha256 = abababababababababababababababababababababababababababababababab
            workload.caller = pidfd
            workload.cgroup = /system.slice/payments.service
            workload.gid = 1002
            workload.groups = [4, 30]
            workload.interpreter = false
            workload.path = /usr/bin/payments
            workload.uid = 1001
            workload.unit = payments.service
        "#]],
    );
}

#[test]
fn an_interpreter_is_never_code_by_its_own_digest() {
    let mut observed = observed("/usr/bin/python3.11");
    observed.caller = Caller::Raceable;
    observed.cgroup = None;
    observed.unit = None;
    check(
        &observed,
        &expect![[r#"
            workload.caller = raceable
            workload.gid = 1002
            workload.groups = [4, 30]
            workload.interpreter = true
            workload.path = /usr/bin/python3.11
            workload.uid = 1001
            ! CODE-INTERPRETER
            ! WORKLOAD-RACEABLE
        "#]],
    );
}

#[test]
fn a_helper_is_never_code_by_its_own_digest() {
    let mut observed = observed("/usr/bin/trilith");
    observed.is_helper = true;
    check(
        &observed,
        &expect![[r#"
            workload.caller = pidfd
            workload.cgroup = /system.slice/payments.service
            workload.gid = 1002
            workload.groups = [4, 30]
            workload.interpreter = false
            workload.path = /usr/bin/trilith
            workload.uid = 1001
            workload.unit = payments.service
            ! CODE-HELPER
        "#]],
    );
}

#[test]
fn behind_a_helper_the_program_counts_and_the_helper_shows() {
    let mut observed = observed("/usr/bin/trilith");
    observed.is_helper = true;
    observed.on_behalf_of = Some(program("/opt/report"));
    check(
        &observed,
        &expect![[r#"
            code.sha256 = abababababababababababababababababababababababababababababababab
            workload.caller = pidfd
            workload.cgroup = /system.slice/payments.service
            workload.gid = 1002
            workload.groups = [4, 30]
            workload.helper = exec
            workload.interpreter = false
            workload.path = /opt/report
            workload.uid = 1001
            workload.unit = payments.service
        "#]],
    );
}

#[test]
fn an_interpreter_behind_a_helper_has_no_digest_either() {
    let mut observed = observed("/usr/bin/trilith");
    observed.on_behalf_of = Some(program("/bin/bash"));
    let facts = workload_facts(&observed, Timestamp::EPOCH);
    assert_eq!(facts.value(names::CODE_SHA256), None);
    assert_eq!(facts.text(names::WORKLOAD_HELPER), Some("exec"));
}

#[test]
fn what_cannot_be_stated_whole_is_absent() {
    let mut observed = observed("/usr/bin/payments");
    observed.groups = (0..257).collect();
    observed.program.path = Some(format!("/{}", "x".repeat(1024)));
    observed.cgroup = Some("/a\nb".to_owned());
    observed.unit = None;
    observed.program.digest = Digest::Absent("larger than 512 MiB".to_owned());
    check(
        &observed,
        &expect![[r#"
            workload.caller = pidfd
            workload.gid = 1002
            workload.interpreter = false
            workload.uid = 1001
            ! CODE-DIGEST
            ! WORKLOAD-GROUPS
        "#]],
    );
}
