//! SLSA provenance against rules, and the judge that turns all of it into facts.

use crate::common::{ANY_TAG, codes_of, keyless, references, release, rule};
use crate::forge::certificate::LeafScript;
use crate::forge::{
    ARTIFACT, BUILD_TYPE, BUILDER, COMMIT, Deployment, GITHUB, NOW, Script, WORKFLOW, forge,
    provenance,
};
use attest_code::{
    CodeDigest, CodeEvidence, CodeReferences, DigestReference, Form, ProvenanceRule, Running,
    Signer, Window, judge,
};
use crypto::sha256;
use expect_test::expect;
use facts::{Outcome, Source, Timestamp, Verdict, names};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

fn about() -> CodeDigest {
    CodeDigest::Sha256(sha256(ARTIFACT))
}

fn running() -> Running {
    Running {
        digests: vec![about()],
    }
}

fn bundle(deployment: &Deployment, script: &Script) -> CodeEvidence {
    CodeEvidence {
        about: about(),
        form: Form::Bundle(forge(deployment, script).to_string().into_bytes()),
    }
}

fn shown(verdict: &Verdict) -> String {
    let mut text = String::new();
    for fact in verdict.facts.iter() {
        writeln!(text, "{} = {} ({})", fact.name, fact.value, fact.source).unwrap();
    }
    for finding in &verdict.findings {
        writeln!(text, "{finding}").unwrap();
    }
    text
}

fn judged(references: &CodeReferences, evidence: &[CodeEvidence]) -> Verdict {
    judge(&running(), evidence, references, NOW)
}

fn of_statement(change: impl FnOnce(&mut Value)) -> Script {
    let mut statement = provenance();
    change(&mut statement);
    Script {
        statement: Some(statement),
        ..Script::default()
    }
}

#[test]
fn provenance_that_a_rule_accepts_becomes_facts() {
    let deployment = Deployment::new();
    let references = references(deployment.root(), vec![release()], vec![rule()]);
    let verdict = judged(
        &references,
        &[bundle(&deployment, &Script::of_provenance())],
    );
    assert_eq!(verdict.outcome(), Outcome::Affirmed);
    assert!(
        verdict
            .facts
            .iter()
            .all(|fact| fact.source == Source::Verified)
    );
    assert!(
        verdict
            .facts
            .iter()
            .all(|fact| names::ALL.contains(&fact.name.as_str()))
    );
    assert_eq!(verdict.evidence[0].kind, "sigstore-bundle");
    expect![[r#"
        code.approved_by = payments (verified)
        code.build_type = https://actions.github.io/buildtypes/workflow/v1 (verified)
        code.builder = https://github.com/acme/builders/.github/workflows/build.yml@refs/tags/v2 (verified)
        code.commit = 8f70009fde0c94ade6ce2a054b94718c819126ec (verified)
        code.ref = refs/tags/v1.4.2 (verified)
        code.signer.identity = https://github.com/acme/payments/.github/workflows/release.yml@refs/tags/v1.4.2 (verified)
        code.signer.issuer = https://token.actions.githubusercontent.com (verified)
        code.source = github.com/acme/payments (verified)
        code.workflow = .github/workflows/release.yml (verified)
    "#]]
    .assert_eq(&shown(&verdict));
}

#[test]
fn older_provenance_says_the_same() {
    let deployment = Deployment::new();
    let references = references(deployment.root(), vec![release()], vec![rule()]);
    let script = of_statement(|statement| {
        statement["_type"] = json!("https://in-toto.io/Statement/v0.1");
        statement["predicateType"] = json!("https://slsa.dev/provenance/v0.2");
        statement["predicate"] = json!({
            "builder": {"id": BUILDER},
            "buildType": BUILD_TYPE,
            "invocation": {"configSource": {
                "uri": "git+https://github.com/acme/payments@refs/tags/v1.4.2",
                "digest": {"sha1": COMMIT},
                "entryPoint": ".github/workflows/release.yml",
            }},
        });
    });
    let verdict = judged(&references, &[bundle(&deployment, &script)]);
    let text = |name| verdict.facts.text(name).unwrap_or_default().to_owned();
    assert_eq!(text(names::CODE_SOURCE), "github.com/acme/payments");
    assert_eq!(text(names::CODE_REF), "refs/tags/v1.4.2");
    assert_eq!(text(names::CODE_COMMIT), COMMIT);
    assert_eq!(text(names::CODE_WORKFLOW), ".github/workflows/release.yml");
}

#[test]
fn provenance_of_something_else_is_refused() {
    let deployment = Deployment::new();
    let strict = rule()
        .of_reference("refs/tags/*")
        .unwrap()
        .by_workflow(".github/workflows/release.yml")
        .by_build_type(BUILD_TYPE);
    let references = references(deployment.root(), vec![release()], vec![strict]);
    let workflow = "/predicate/buildDefinition/externalParameters/workflow";
    let set = |pointer: String, value: Value| {
        of_statement(move |statement| *statement.pointer_mut(&pointer).unwrap() = value)
    };
    let cases: Vec<(&str, Script, &[&str])> = vec![
        ("the truth", Script::of_provenance(), &[]),
        (
            "other code",
            set("/subject/0/digest/sha256".into(), json!("00".repeat(32))),
            &["CODE-UNKNOWN", "STATEMENT-SUBJECT"],
        ),
        (
            "no code",
            set("/subject".into(), json!([])),
            &["CODE-UNKNOWN", "STATEMENT-SUBJECT"],
        ),
        (
            "code by a digest that nobody knows",
            set("/subject/0/digest".into(), json!({"sha1": "00"})),
            &["CODE-UNKNOWN", "STATEMENT-SUBJECT"],
        ),
        (
            "no statement",
            set("/_type".into(), json!("https://in-toto.io/Statement/v9")),
            &["CODE-UNKNOWN", "STATEMENT-STRUCTURE"],
        ),
        (
            "another builder",
            set(
                "/predicate/runDetails/builder/id".into(),
                json!("https://evil.test"),
            ),
            &["CODE-UNKNOWN", "SLSA-BUILDER"],
        ),
        (
            "no builder",
            set("/predicate/runDetails".into(), json!({})),
            &["CODE-UNKNOWN", "SLSA-STRUCTURE"],
        ),
        // The certificate names the repository that the token was for.
        (
            "another source",
            set(
                format!("{workflow}/repository"),
                json!("https://github.com/evil/payments"),
            ),
            &["CODE-UNKNOWN", "SLSA-CERTIFICATE"],
        ),
        (
            "another ref",
            set(format!("{workflow}/ref"), json!("refs/tags/v9")),
            &["CODE-UNKNOWN", "SLSA-CERTIFICATE"],
        ),
        (
            "another commit",
            set(
                "/predicate/buildDefinition/resolvedDependencies/0/digest/gitCommit".into(),
                json!("0".repeat(40)),
            ),
            &["CODE-UNKNOWN", "SLSA-CERTIFICATE"],
        ),
        (
            "another workflow",
            set(
                format!("{workflow}/path"),
                json!(".github/workflows/test.yml"),
            ),
            &["CODE-UNKNOWN", "SLSA-WORKFLOW"],
        ),
        (
            "another build type, whose source is not known",
            set(
                "/predicate/buildDefinition/buildType".into(),
                json!("https://own.test/v1"),
            ),
            &[
                "CODE-UNKNOWN",
                "SLSA-SOURCE",
                "SLSA-REF",
                "SLSA-WORKFLOW",
                "SLSA-BUILD-TYPE",
            ],
        ),
        (
            "an unknown version",
            set(
                "/predicateType".into(),
                json!("https://slsa.dev/provenance/v9"),
            ),
            &["CODE-UNKNOWN", "SLSA-VERSION"],
        ),
        (
            "a report of faults",
            set(
                "/predicateType".into(),
                json!("https://in-toto.io/attestation/vulns"),
            ),
            &["CODE-UNKNOWN", "SLSA-MISSING"],
        ),
        (
            "a signature alone",
            Script::default(),
            &["CODE-UNKNOWN", "SLSA-MISSING"],
        ),
    ];
    for (what, script, expected) in cases {
        let verdict = judged(&references, &[bundle(&deployment, &script)]);
        assert_eq!(
            codes_of(&verdict.findings),
            expected,
            "{what}: {}",
            shown(&verdict)
        );
        assert_eq!(verdict.facts.is_empty(), !expected.is_empty(), "{what}");
    }
}

/// What the certificate does not say it cannot contradict; then the rule alone decides.
#[test]
fn a_rule_decides_where_the_certificate_is_silent() {
    let deployment = Deployment::new();
    let references = references(
        deployment.root(),
        vec![release()],
        vec![rule().of_reference("refs/tags/v1.4.2").unwrap()],
    );
    let silent = || LeafScript {
        repository: "",
        commit: "",
        reference: "",
        ..LeafScript::default()
    };
    let workflow = "/predicate/buildDefinition/externalParameters/workflow";
    for (field, value, expected) in [
        (
            "repository",
            "https://github.com/evil/payments",
            "SLSA-SOURCE",
        ),
        (
            "repository",
            "https://github.com/acme/payments/../evil",
            "SLSA-SOURCE",
        ),
        ("ref", "refs/tags/v9", "SLSA-REF"),
    ] {
        let mut script = of_statement(|statement| {
            *statement
                .pointer_mut(&format!("{workflow}/{field}"))
                .unwrap() = json!(value);
        });
        script.leaf = silent();
        let verdict = judged(&references, &[bundle(&deployment, &script)]);
        assert_eq!(
            codes_of(&verdict.findings),
            ["CODE-UNKNOWN", expected],
            "{value}"
        );
    }
}

#[test]
fn only_the_signer_that_a_rule_names_vouches_by_it() {
    let deployment = Deployment::new();
    let other = "https://github.com/acme/other/.github/workflows/x.yml@refs/tags/*";
    let references = references(
        deployment.root(),
        vec![release(), keyless("other", other, GITHUB)],
        vec![
            ProvenanceRule::new("payments", &["other"], BUILDER, "github.com/acme/payments")
                .unwrap(),
        ],
    );
    // `release` has no rule: its provenance says nothing that counts, its signature alone would.
    let verdict = judged(
        &references,
        &[bundle(&deployment, &Script::of_provenance())],
    );
    assert_eq!(
        codes_of(&verdict.findings),
        ["CODE-UNKNOWN", "STATEMENT-PREDICATE"]
    );
    let verdict = judged(&references, &[bundle(&deployment, &Script::default())]);
    assert_eq!(verdict.facts.text(names::CODE_APPROVED_BY), Some("release"));
    assert_eq!(verdict.facts.text(names::CODE_SOURCE), None);
}

#[test]
fn a_statement_approves_only_if_its_type_does() {
    let deployment = Deployment::new();
    let kind = "https://acme.test/released/v1";
    let script = of_statement(|statement| statement["predicateType"] = json!(kind));
    let with = |signer: Signer| {
        let references = references(deployment.root(), vec![signer], Vec::new());
        judged(&references, &[bundle(&deployment, &script)])
    };
    assert_eq!(
        codes_of(&with(release()).findings),
        ["CODE-UNKNOWN", "STATEMENT-PREDICATE"]
    );
    let approved = with(release().approves_by(kind));
    assert_eq!(
        approved.facts.text(names::CODE_APPROVED_BY),
        Some("release")
    );
}

#[test]
fn what_the_owner_wrote_first_speaks() {
    let deployment = Deployment::new();
    let exact = || keyless("exact", WORKFLOW, GITHUB);
    let narrow =
        || ProvenanceRule::new("narrow", &["exact"], BUILDER, "github.com/acme/payments").unwrap();
    let wide = || {
        ProvenanceRule::new("wide", &["exact"], BUILDER, "github.com/acme/payments")
            .unwrap()
            .of_reference("refs/tags/*")
            .unwrap()
    };
    for (rules, first) in [
        (vec![narrow(), wide()], "narrow"),
        (vec![wide(), narrow()], "wide"),
    ] {
        let references = references(deployment.root(), vec![exact()], rules);
        let verdict = judged(
            &references,
            &[bundle(&deployment, &Script::of_provenance())],
        );
        assert_eq!(verdict.facts.text(names::CODE_APPROVED_BY), Some(first));
    }
    // Whichever bundle comes first: provenance speaks before a signature.
    let signers = || vec![keyless("plain", ANY_TAG, GITHUB), exact()];
    let signed = CodeEvidence {
        about: about(),
        form: Form::Signature({
            let key = crate::forge::key(crypto::Algorithm::EcdsaP256);
            crypto::Signer::sign(&key, ARTIFACT).unwrap()
        }),
    };
    let references = references(deployment.root(), signers(), Vec::new());
    let verdict = judged(
        &references,
        &[signed, bundle(&deployment, &Script::default())],
    );
    assert_eq!(verdict.facts.text(names::CODE_APPROVED_BY), Some("plain"));
}

fn listed(windows: &[(Option<u64>, Option<u64>)]) -> CodeReferences {
    let at = |days: Option<u64>| days.map(|days| Timestamp::from_secs(days * 86_400));
    let digests = windows
        .iter()
        .map(|(from, until)| DigestReference {
            digest: about(),
            label: "payments 1.4.2".to_owned(),
            source: "InRelease of 2025-10-09".to_owned(),
            window: Window {
                from: at(*from),
                until: at(*until),
            },
        })
        .collect();
    CodeReferences::new(BTreeMap::new(), digests, Vec::new(), Vec::new()).unwrap()
}

#[test]
fn a_listed_digest_counts_within_its_window() {
    let day = NOW.as_secs() / 86_400;
    let outcome = |windows: &[(Option<u64>, Option<u64>)]| {
        let verdict = judge(&running(), &[], &listed(windows), NOW);
        match verdict.findings.first() {
            None => verdict
                .facts
                .text(names::CODE_REFERENCE)
                .unwrap()
                .to_owned(),
            Some(finding) => finding.code.to_string(),
        }
    };
    assert_eq!(outcome(&[(None, None)]), "payments 1.4.2");
    assert_eq!(outcome(&[(Some(day - 9), Some(day + 9))]), "payments 1.4.2");
    assert_eq!(outcome(&[(Some(day - 9), Some(day))]), "CODE-WITHDRAWN");
    assert_eq!(outcome(&[(Some(day + 1), None)]), "CODE-NOT-YET");
    // An upgrade raises no alarm: one generation that counts is enough.
    assert_eq!(
        outcome(&[(None, Some(day)), (Some(day), Some(day + 9))]),
        "payments 1.4.2"
    );
    assert_eq!(outcome(&[]), "CODE-UNKNOWN");
}

#[test]
fn a_withdrawn_version_stays_withdrawn_whoever_signed_it() {
    let deployment = Deployment::new();
    let roots = BTreeMap::from([("forged".to_owned(), deployment.root())]);
    let withdrawn = DigestReference {
        digest: about(),
        label: "payments 1.4.2".to_owned(),
        source: "CVE-2025-0001".to_owned(),
        window: Window {
            from: None,
            until: Some(NOW),
        },
    };
    let references =
        CodeReferences::new(roots, vec![withdrawn], vec![release()], vec![rule()]).unwrap();
    let verdict = judged(
        &references,
        &[bundle(&deployment, &Script::of_provenance())],
    );
    assert_eq!(verdict.outcome(), Outcome::Refused);
    expect![[r#"
        CODE-WITHDRAWN: this code was withdrawn; expected payments 1.4.2, which counts until 2025-11-08T11:06:40.000Z; saw sha256:2f685dd0d1b552ccc7ce87a57b0665c35150f5c6a6a9b878db230fe8431ad05f at 2025-11-08T11:06:40.000Z, listed by CVE-2025-0001; next: run the version that is approved now, or `trilith refs import` a generation with it
    "#]]
    .assert_eq(&shown(&verdict));
}

#[test]
fn evidence_of_other_code_says_nothing() {
    let deployment = Deployment::new();
    let references = references(deployment.root(), vec![release()], Vec::new());
    let mut evidence = bundle(&deployment, &Script::default());
    evidence.about = CodeDigest::Sha256([7; 32]);
    let verdict = judged(&references, &[evidence.clone()]);
    assert_eq!(
        codes_of(&verdict.findings),
        ["CODE-UNKNOWN", "CODE-EVIDENCE"]
    );
    let many = vec![evidence; 65];
    let verdict = judged(&references, &many);
    assert!(verdict.findings.len() <= 64);
    // Nothing runs: nothing is approved.
    let verdict = judge(
        &Running::default(),
        &[bundle(&deployment, &Script::default())],
        &references,
        NOW,
    );
    assert_eq!(
        codes_of(&verdict.findings),
        ["CODE-UNKNOWN", "CODE-EVIDENCE"]
    );
}

#[test]
fn references_that_do_not_fit_together_are_refused() {
    let deployment = Deployment::new();
    let roots = || BTreeMap::from([("forged".to_owned(), deployment.root())]);
    let new = |digests, signers, rules| CodeReferences::new(roots(), digests, signers, rules);
    assert!(new(Vec::new(), vec![release()], vec![rule()]).is_ok());
    let elsewhere = Signer::keyless(
        "x",
        "absent",
        attest_code::Identity::parse("a@acme.test").unwrap(),
        GITHUB,
    );
    let key = crypto::Signer::public_key(&crate::forge::key(crypto::Algorithm::Ed25519)).clone();
    let reversed = DigestReference {
        digest: about(),
        label: "x".to_owned(),
        source: String::new(),
        window: Window {
            from: Some(NOW),
            until: Some(NOW),
        },
    };
    let unnamed = DigestReference {
        label: " ".to_owned(),
        window: Window::default(),
        ..reversed.clone()
    };
    for (what, found) in [
        (
            "a root is missing",
            new(Vec::new(), vec![elsewhere.unwrap()], Vec::new()),
        ),
        (
            "a key's log is missing",
            new(
                Vec::new(),
                vec![Signer::key("k", key).unwrap().logged_by("absent")],
                Vec::new(),
            ),
        ),
        (
            "a signer is missing",
            new(Vec::new(), Vec::new(), vec![rule()]),
        ),
        (
            "a signer twice",
            new(Vec::new(), vec![release(), release()], Vec::new()),
        ),
        (
            "a rule twice",
            new(Vec::new(), vec![release()], vec![rule(), rule()]),
        ),
        (
            "an empty window",
            new(vec![reversed], Vec::new(), Vec::new()),
        ),
        ("no label", new(vec![unnamed], Vec::new(), Vec::new())),
    ] {
        assert_eq!(found.unwrap_err().code, "CODE-REFERENCE-WHOLE", "{what}");
    }
    for rule in [
        ProvenanceRule::new("x", &[], BUILDER, "github.com/acme/payments"),
        ProvenanceRule::new("x", &["a"], "", "github.com/acme/payments"),
        ProvenanceRule::new("x", &["a"], BUILDER, ""),
        ProvenanceRule::new("x", &["a"], BUILDER, "github.com/acme/*"),
        ProvenanceRule::new(
            "x",
            &["a"],
            BUILDER,
            "github.com/acme/payments@refs/heads/main",
        ),
        rule().of_reference("*"),
        rule().of_reference("v1*"),
    ] {
        assert_eq!(rule.unwrap_err().code, "CODE-REFERENCE-PROVENANCE");
    }
}
