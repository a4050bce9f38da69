//! What follows from the digests of code: reference values, signatures, provenance.

use crate::fixture::{compile, facts, problems_with, shop_files};
use crypto::{Algorithm, KeyPair, Signer as _};
use estate::Estate;
use facts::{FactSet, Source, Timestamp, names};
use serde_json::json;

const CODE: &[u8] = b"the program";
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn digest() -> String {
    crypto::hex::encode(&crypto::sha256(CODE))
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP256).unwrap()
}

pub(crate) fn pem(key: &KeyPair) -> String {
    let der = crypto::base64::encode(key.public_key().spki_der());
    format!("-----BEGIN PUBLIC KEY-----\n{der}\n-----END PUBLIC KEY-----\n")
}

/// A program in the demo pool whose executable has the digest.
fn running(sha256: &str) -> FactSet {
    facts(&[
        (names::MACHINE_POOL, "demo".into()),
        (names::WORKLOAD_UID, 0_u32.into()),
        (names::WORKLOAD_PATH, "/usr/bin/program".into()),
        (names::CODE_SHA256, sha256.into()),
    ])
}

/// The shop with these references, JSON.
pub(crate) fn estate(references: &serde_json::Value) -> Estate {
    let mut files = shop_files();
    files.insert("references/vouching.json", references.to_string());
    compile(&files)
}

fn evidence(form: &str, content: impl Into<String>) -> serde_json::Value {
    json!({"sha256": digest(), "form": form, "content": content.into()})
}

/// An envelope by `key` around provenance of the program, as GitHub's builders write it.
fn provenance(key: &KeyPair, repository: &str) -> String {
    let kind = "application/vnd.in-toto+json";
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "program", "digest": {"sha256": digest()}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {
                    "ref": "refs/tags/v2",
                    "repository": format!("https://{repository}"),
                    "path": ".github/workflows/release.yml",
                }},
                "resolvedDependencies": [{
                    "uri": format!("git+https://{repository}@refs/tags/v2"),
                    "digest": {"gitCommit": "3".repeat(40)},
                }],
            },
            "runDetails": {"builder": {"id": "https://builders.example/one"}},
        },
    });
    let payload = statement.to_string().into_bytes();
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    let signature = key.sign(&[head.as_bytes(), &payload].concat()).unwrap();
    json!({
        "payloadType": kind,
        "payload": crypto::base64::encode(&payload),
        "signatures": [{"sig": crypto::base64::encode(&signature)}],
    })
    .to_string()
}

fn by_provenance(key: &KeyPair, envelope: String) -> serde_json::Value {
    json!({
        "signer": [{"name": "builder", "key": pem(key)}],
        "provenance": [{
            "name": "released by acme",
            "signers": ["builder"],
            "builder": "https://builders.example/one",
            "source": "github.com/acme/program",
            "ref": "refs/tags/*",
        }],
        "evidence": [evidence("dsse-envelope", envelope)],
    })
}

#[test]
fn provenance_of_the_right_source_becomes_facts_that_decide() {
    let key = key();
    let mut files = shop_files();
    let envelope = provenance(&key, "github.com/acme/program");
    let references = by_provenance(&key, envelope);
    files.insert("references/vouching.json", references.to_string());
    files.insert(
        "policies/code.cedar",
        "@id(\"what acme released\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"payments/api\") when { principal has code && principal.code has source && \
         principal.code.source == \"github.com/acme/program\" && principal has uid && principal.uid == 0 };",
    );
    let estate = compile(&files);
    let mut workload = running(&digest());
    assert!(!estate.assume(&workload, "payments/api").allow);
    let (derived, findings) = estate.code_facts(&workload, NOW);
    assert!(findings.is_empty(), "{findings:?}");
    for (name, expected) in [
        (names::CODE_SOURCE, "github.com/acme/program"),
        (names::CODE_REF, "refs/tags/v2"),
        (names::CODE_APPROVED_BY, "released by acme"),
        (names::CODE_BUILDER, "https://builders.example/one"),
    ] {
        assert_eq!(derived.text(name), Some(expected), "{name}");
    }
    for fact in derived.iter() {
        assert!(estate::is_derived_of_code(&fact.name), "{}", fact.name);
        workload.insert(fact.clone());
    }
    assert!(estate.assume(&workload, "payments/api").allow);
    // Other code has no part in it.
    let (derived, findings) = estate.code_facts(&running(&"9".repeat(64)), NOW);
    assert!(derived.is_empty() && findings.is_empty(), "{findings:?}");
}

#[test]
fn what_nobody_who_is_named_said_is_no_fact() {
    let (key, stranger) = (key(), key());
    for (references, code) in [
        (
            by_provenance(&key, provenance(&stranger, "github.com/acme/program")),
            "CODE-SIGNATURE",
        ),
        (
            by_provenance(&key, provenance(&key, "github.com/mallory/program")),
            "SLSA-SOURCE",
        ),
        (by_provenance(&key, "{}".to_owned()), "DSSE-STRUCTURE"),
    ] {
        let (derived, findings) = estate(&references).code_facts(&running(&digest()), NOW);
        assert!(derived.is_empty(), "{derived:?}");
        let codes: Vec<_> = findings.iter().map(|one| one.code.as_ref()).collect();
        assert!(codes.contains(&code), "{code}: {codes:?}");
    }
}

#[test]
fn a_fact_of_code_is_as_sure_as_the_digest_that_it_rests_on() {
    let key = key();
    let signature = crypto::base64::encode(&key.sign(CODE).unwrap());
    let estate = estate(&json!({
        "signer": [{"name": "release key", "key": pem(&key)}],
        "evidence": [evidence("signature", signature)],
    }));
    for source in [Source::Asserted, Source::Verified] {
        let mut workload = FactSet::new();
        workload.state(names::CODE_SHA256, digest(), source, NOW);
        let (derived, findings) = estate.code_facts(&workload, NOW);
        assert!(findings.is_empty(), "{findings:?}");
        let approved = derived.fact(names::CODE_APPROVED_BY).unwrap();
        assert_eq!(approved.value, "release key".into());
        assert!(derived.fact(names::CODE_SIGNER_KEY).is_some());
        assert!(derived.iter().all(|fact| fact.source == source));
        // What somebody weaker states beside it changes nothing of what follows from this one.
        let measured = format!("sha256:{}", "4".repeat(64));
        workload.state(names::CODE_FSVERITY, measured, Source::Asserted, NOW);
        let (derived, _) = estate.code_facts(&workload, NOW);
        assert!(derived.iter().all(|fact| fact.source == source));
    }
}

fn generation(name: &str, sha256: &str, fsverity: &str) -> serde_json::Value {
    json!({
        "name": name, "rings": ["demo"],
        "valid_from": "2026-01-01T00:00:00Z", "imported_at": "2026-01-01T00:00:00Z",
        "source": [{"id": "s", "kind": "pinned", "name": "s", "sha256": "0".repeat(64)}],
        "artefact": [{
            "kind": "deb", "name": "program", "version": "2.0", "sha256": "5".repeat(64), "source": "s",
            "file": [{"path": "/usr/bin/program", "sha256": sha256, "fsverity": fsverity}],
        }],
    })
}

#[test]
fn code_goes_by_its_reference_value_until_that_is_withdrawn_whoever_signed_it() {
    let key = key();
    let signature = crypto::base64::encode(&key.sign(CODE).unwrap());
    let mut references = json!({
        "signer": [{"name": "release key", "key": pem(&key)}],
        "evidence": [evidence("signature", signature)],
        "generation": [generation("one", &digest(), &"6".repeat(64))],
    });
    let workload = running(&digest());
    let (derived, findings) = estate(&references).code_facts(&workload, NOW);
    assert!(findings.is_empty(), "{findings:?}");
    let label = "program 2.0 /usr/bin/program";
    assert_eq!(derived.text(names::CODE_REFERENCE), Some(label));
    assert_eq!(derived.text(names::CODE_APPROVED_BY), Some("release key"));
    // By what the kernel measures alone.
    let measured = facts(&[
        (names::MACHINE_POOL, "demo".into()),
        (
            names::CODE_FSVERITY,
            format!("sha256:{}", "6".repeat(64)).as_str().into(),
        ),
    ]);
    let (derived, _) = estate(&references).code_facts(&measured, NOW);
    assert_eq!(derived.text(names::CODE_REFERENCE), Some(label));
    // On a machine of another ring, it is not good there.
    let mut elsewhere = workload.clone();
    elsewhere.state(names::MACHINE_POOL, "lab", Source::Verified, NOW);
    let (derived, findings) = estate(&references).code_facts(&elsewhere, NOW);
    assert!(derived.is_empty());
    assert_eq!(findings[0].code, "REF-RING");

    references["withdrawn"] = json!([{
        "name": "program", "version": "2.0", "at": "2026-06-01T00:00:00Z", "reason": "a hole",
    }]);
    let (derived, findings) = estate(&references).code_facts(&workload, NOW);
    assert!(derived.is_empty(), "{derived:?}");
    assert_eq!(findings[0].code, "REF-WITHDRAWN");
    assert!(
        findings[0].to_string().contains("a hole"),
        "{}",
        findings[0]
    );
}

#[test]
fn code_goes_by_a_name_by_its_measured_digest_too() {
    let mut files = shop_files();
    let measured = format!("sha256:{}", "7".repeat(64));
    files.insert(
        "references/measured.toml",
        format!("[[code]]\nname = \"measured\"\nfsverity = [\"{measured}\"]\n"),
    );
    files.insert(
        "policies/code.cedar",
        "@id(\"measured\") permit (principal in Pool::\"demo\", action == Action::\"assume\", \
         resource == Identity::\"payments/api\") when { principal has code && \
         principal.code.known_as.contains(\"measured\") && principal has uid && principal.uid == 0 };",
    );
    let estate = compile(&files);
    let mut workload = running(&"9".repeat(64));
    assert!(!estate.assume(&workload, "payments/api").allow);
    workload.state(names::CODE_FSVERITY, measured, Source::Asserted, NOW);
    assert!(estate.assume(&workload, "payments/api").allow);
}

#[test]
fn who_may_vouch_is_written_out_or_refused() {
    let key = pem(&key());
    for (text, expected) in [
        (
            "[[signer]]\nname = \"a\"\nroot = \"r\"\nidentity = \"x@example.org\"\n".to_owned(),
            "references/bad.toml:2:8: ESTATE-VOUCHING",
        ),
        (
            "\n[[signer]]\nname = \"a\"\n".to_owned(),
            "references/bad.toml:3:8: ESTATE-VOUCHING",
        ),
        (
            "[[trusted_root]]\nname = \"r\"\njson = \"{}\"\n".to_owned(),
            "SIGSTORE-ROOT-STRUCTURE",
        ),
        (
            format!("[[signer]]\nname = \"a\"\nkey = '''{key}'''\n[[signer]]\nname = \"a\"\nkey = '''{key}'''\n"),
            "ESTATE-DUPLICATE",
        ),
        (
            "[[provenance]]\nname = \"p\"\nsigners = [\"nobody\"]\nbuilder = \"b\"\nsource = \"github.com/a/b\"\n".to_owned(),
            "nobody",
        ),
        (
            "[[evidence]]\nsha256 = \"00\"\nform = \"signature\"\ncontent = \"AA==\"\n".to_owned(),
            "references/bad.toml:2:10: ESTATE-DIGEST",
        ),
        (
            format!("[[evidence]]\nsha256 = \"{}\"\nform = \"signature\"\ncontent = \"?\"\n", digest()),
            "ESTATE-EVIDENCE",
        ),
        (
            "[[evidence]]\nform = \"dsse-envelope\"\ncontent = \"{}\"\n".to_owned(),
            "references/bad.toml:3:11: ESTATE-EVIDENCE",
        ),
        (
            "[[evidence]]\nimage = \"latest\"\nform = \"dsse-envelope\"\ncontent = \"{}\"\n".to_owned(),
            "references/bad.toml:2:9: ESTATE-DIGEST",
        ),
        (
            format!("[[evidence]]\nimage = \"sha256:{0}\"\nsha256 = \"{0}\"\nform = \"dsse-envelope\"\ncontent = \"{{}}\"\n", digest()),
            "ESTATE-EVIDENCE",
        ),
        (
            format!("[[evidence]]\nimage = \"sha256:{}\"\nform = \"simple-signing\"\ncontent = \"{{}}\"\n", digest()),
            "ESTATE-EVIDENCE",
        ),
        (
            format!("[[evidence]]\nsha256 = \"{}\"\nform = \"simple-signing\"\ncontent = \"{{}}\"\nsignature = \"AA==\"\n", digest()),
            "ESTATE-EVIDENCE",
        ),
        (
            "[[code]]\nname = \"c\"\nfsverity = [\"00\"]\n".to_owned(),
            "ESTATE-DIGEST",
        ),
    ] {
        let problems = problems_with("references/bad.toml", &text);
        assert!(problems.contains(expected), "{text}: {problems}");
    }
}

/// A gateway sees no code without its digest: a `forbid` over its source would never match there.
#[test]
fn what_rests_on_the_digest_needs_the_digest_to_be_visible() {
    let mut files = shop_files();
    for (path, visible) in [
        ("blind", "\"code.source\""),
        ("sees", "\"code.source\", \"code.sha256\""),
    ] {
        files.insert(
            format!("identities/{path}.toml"),
            format!(
                "[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"o\"\nvisible = [{visible}]\n"
            ),
        );
    }
    let policy = |path: &str| {
        format!(
            "@id(\"by source\") forbid (principal == Identity::\"{path}\", action == Action::\"select\", resource) \
             when {{ context has code && context.code has source && context.code.source == \"bad\" }};"
        )
    };
    files.insert("policies/source.cedar", policy("sees"));
    compile(&files);
    files.insert("policies/source.cedar", policy("blind"));
    let problems = estate::Estate::compile(&files).unwrap_err();
    let codes: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert!(
        codes
            .iter()
            .any(|one| one.contains("ESTATE-FACT-NOT-VISIBLE")),
        "{codes:?}"
    );
}
