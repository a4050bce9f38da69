//! What follows for a program from the container images that hold it.

use crate::code::{NOW, estate, key, pem};
use crate::fixture::facts;
use crypto::{KeyPair, Signer as _};
use facts::{Affirmed, FactSet, Finding, Source, names};
use serde_json::{Value, json};

const PROGRAM: &str = "program";
const SHELL: &str = "shell";

/// SHA-256 of a thing by its name.
fn hex(thing: &str) -> String {
    crypto::hex::encode(&crypto::sha256(thing.as_bytes()))
}

fn named(thing: &str) -> String {
    format!("sha256:{}", hex(thing))
}

/// A generation with an image of these files, pinned by the digest of `pinned`.
fn image(name: &str, pinned: &str, files: &[&str]) -> Value {
    let files: Vec<Value> = files
        .iter()
        .map(|file| {
            json!({"path": format!("/usr/bin/{file}"), "sha256": hex(file), "fsverity": hex(&format!("{file} tree"))})
        })
        .collect();
    json!({
        "name": name, "rings": ["demo"],
        "valid_from": "2026-01-01T00:00:00Z", "imported_at": "2026-01-01T00:00:00Z",
        "source": [{"id": "i", "kind": "pinned", "name": name, "sha256": hex(pinned)}],
        "artefact": [{"kind": "oci", "name": name, "sha256": hex(name), "source": "i", "file": files}],
    })
}

/// cosign's signature over an image, put beside the image `about`.
fn signed(key: &KeyPair, named_in_payload: &str, about: &str) -> Value {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": "registry.acme.test/payments"},
            "image": {"docker-manifest-digest": named(named_in_payload)},
            "type": "cosign container image signature",
        },
        "optional": null,
    });
    let payload = payload.to_string();
    let signature = crypto::base64::encode(&key.sign(payload.as_bytes()).unwrap());
    json!({"image": named(about), "form": "simple-signing", "content": payload, "signature": signature})
}

/// Provenance of an image from a tag of acme's, by `key`.
fn built(key: &KeyPair, image: &str, tag: &str) -> Value {
    let kind = "application/vnd.in-toto+json";
    let repository = "https://github.com/acme/payments";
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "another", "digest": {"sha256": hex("another")}},
            {"name": "ghcr.io/acme/payments", "digest": {"sha256": hex(image)}},
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {
                    "ref": format!("refs/tags/{tag}"), "repository": repository, "path": ".github/workflows/release.yml",
                }},
                "resolvedDependencies": [{
                    "uri": format!("git+{repository}@refs/tags/{tag}"), "digest": {"gitCommit": "3".repeat(40)},
                }],
            },
            "runDetails": {"builder": {"id": "https://builders.example/one"}},
        },
    });
    let payload = statement.to_string().into_bytes();
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    let signature = key.sign(&[head.as_bytes(), &payload].concat()).unwrap();
    let envelope = json!({
        "payloadType": kind,
        "payload": crypto::base64::encode(&payload),
        "signatures": [{"sig": crypto::base64::encode(&signature)}],
    });
    json!({"image": named(image), "form": "dsse-envelope", "content": envelope.to_string()})
}

fn rule() -> Value {
    json!([{
        "name": "released by acme", "signers": ["release key"], "builder": "https://builders.example/one",
        "source": "github.com/acme/payments", "ref": "refs/tags/*",
    }])
}

fn references(key: &KeyPair, images: &[Value], evidence: &[Value]) -> Value {
    json!({
        "signer": [{"name": "release key", "key": pem(key)}],
        "generation": images,
        "evidence": evidence,
    })
}

/// A program of the demo pool.
fn running(program: &str) -> FactSet {
    facts(&[
        (names::MACHINE_POOL, "demo".into()),
        (names::WORKLOAD_PATH, "/usr/bin/program".into()),
        (names::CODE_SHA256, hex(program).as_str().into()),
    ])
}

fn known(references: &Value, running: &FactSet) -> (Affirmed, Vec<Finding>) {
    estate(references).code_facts(running, NOW)
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|one| one.code.as_ref()).collect()
}

/// The names, below `code.image.`, of what is known of the image.
fn of_image(facts: &FactSet) -> Vec<String> {
    let of_image = facts
        .iter()
        .filter_map(|fact| fact.name.strip_prefix("code.image."));
    of_image.map(str::to_owned).collect()
}

#[test]
fn a_program_of_a_signed_image_is_known_by_the_image() {
    let key = key();
    // Signed by its manifest, and by the index by which it was pinned.
    for about in ["image", "index"] {
        let references = references(
            &key,
            &[image("image", "index", &[PROGRAM, SHELL])],
            &[signed(&key, about, about)],
        );
        let (known, findings) = known(&references, &running(PROGRAM));
        assert!(findings.is_empty(), "{findings:?}");
        for (name, expected) in [
            (names::CODE_REFERENCE, "image /usr/bin/program"),
            (names::CODE_IMAGE_DIGEST, named("image").as_str()),
            (names::CODE_IMAGE_NAME, "registry.acme.test/payments"),
            (names::CODE_IMAGE_APPROVED_BY, "release key"),
        ] {
            assert_eq!(known.text(name), Some(expected), "{name}");
        }
        // It is the image that was signed, and not the program.
        assert_eq!(known.text(names::CODE_APPROVED_BY), None);
        assert_eq!(known.text(names::CODE_SIGNER_KEY), None);
        assert!(known.iter().all(|fact| fact.source == Source::Verified));
        assert!(
            known
                .iter()
                .all(|fact| estate::is_derived_of_code(&fact.name))
        );
    }
}

#[test]
fn a_program_that_is_in_no_image_is_known_by_none() {
    let key = key();
    let references = references(
        &key,
        &[image("image", "index", &[PROGRAM])],
        &[signed(&key, "image", "image")],
    );
    let (facts, findings) = known(&references, &running("another program"));
    assert!(
        facts.is_empty() && findings.is_empty(),
        "{facts:?} {findings:?}"
    );
    // The digest of the image itself is of no program, nor is a file's of another kind of artefact an image's.
    let (facts, _) = known(&references, &running("image"));
    assert_eq!(of_image(&facts), [""; 0]);
    let mut package = references.clone();
    package["generation"][0]["artefact"][0]["kind"] = json!("deb");
    let (facts, _) = known(&package, &running(PROGRAM));
    assert!(facts.text(names::CODE_REFERENCE).is_some());
    assert_eq!(of_image(&facts), [""; 0]);
}

#[test]
fn what_was_signed_of_another_image_counts_for_nothing() {
    let (key, stranger) = (key(), key());
    for (evidence, expected) in [
        // Another's signature, put beside ours.
        (
            signed(&key, "another", "image"),
            vec!["CODE-UNKNOWN", "IMAGE-PAYLOAD"],
        ),
        // The index was signed, and stands beside the manifest as if it were that.
        (
            signed(&key, "index", "image"),
            vec!["CODE-UNKNOWN", "IMAGE-PAYLOAD"],
        ),
        (
            signed(&stranger, "image", "image"),
            vec!["CODE-UNKNOWN", "CODE-SIGNATURE"],
        ),
        // Of an index by which nobody imported it.
        (signed(&key, "another", "another"), vec![]),
        // Of the program, by its digest as if that were an image.
        (signed(&key, PROGRAM, PROGRAM), vec![]),
    ] {
        let references = references(&key, &[image("image", "index", &[PROGRAM])], &[evidence]);
        let (facts, findings) = known(&references, &running(PROGRAM));
        assert_eq!(codes(&findings), expected);
        assert_eq!(of_image(&facts), ["digest"], "unsigned: {facts:?}");
    }
}

#[test]
fn only_what_a_source_pinned_is_another_name_of_an_image() {
    let key = key();
    let mut references = references(
        &key,
        &[image("image", "index", &[PROGRAM])],
        &[signed(&key, "index", "index")],
    );
    references["generation"][0]["source"][0]["kind"] = json!("slsa");
    let (facts, _) = known(&references, &running(PROGRAM));
    assert_eq!(of_image(&facts), ["digest"]);
}

#[test]
fn provenance_of_an_image_is_weighed_as_that_of_a_program() {
    let key = key();
    let mut references = references(
        &key,
        &[image("image", "image", &[PROGRAM])],
        &[built(&key, "image", "v2")],
    );
    references["provenance"] = rule();
    let (facts, findings) = known(&references, &running(PROGRAM));
    assert!(findings.is_empty(), "{findings:?}");
    for (name, expected) in [
        (names::CODE_IMAGE_SOURCE, "github.com/acme/payments"),
        (names::CODE_IMAGE_REF, "refs/tags/v2"),
        (names::CODE_IMAGE_NAME, "ghcr.io/acme/payments"),
        (names::CODE_IMAGE_APPROVED_BY, "released by acme"),
        (names::CODE_IMAGE_BUILDER, "https://builders.example/one"),
        (names::CODE_IMAGE_WORKFLOW, ".github/workflows/release.yml"),
    ] {
        assert_eq!(facts.text(name), Some(expected), "{name}");
    }
    assert_eq!(facts.text(names::CODE_SOURCE), None);
    // The same, from another repository; a signature alone by who vouches by provenance; another image's.
    references["provenance"][0]["source"] = json!("github.com/acme/other");
    let (facts, findings) = known(&references, &running(PROGRAM));
    assert_eq!(codes(&findings), ["CODE-UNKNOWN", "SLSA-SOURCE"]);
    assert_eq!(of_image(&facts), ["digest"]);
    references["provenance"] = rule();
    references["evidence"] = json!([signed(&key, "image", "image")]);
    let (_, findings) = known(&references, &running(PROGRAM));
    assert_eq!(codes(&findings), ["CODE-UNKNOWN", "SLSA-MISSING"]);
    let mut moved = built(&key, "elsewhere", "v2");
    moved["image"] = json!(named("image"));
    references["evidence"] = json!([moved]);
    let (_, findings) = known(&references, &running(PROGRAM));
    assert_eq!(codes(&findings), ["CODE-UNKNOWN", "STATEMENT-SUBJECT"]);
}

#[test]
fn of_several_images_only_what_they_say_alike_is_known() {
    let key = key();
    let both = [
        image("one", "one", &[PROGRAM, SHELL]),
        image("two", "two", &[SHELL]),
    ];
    // An upgrade: what both were built from stays known, and which of them it is does not.
    let evidence = [built(&key, "one", "v1"), built(&key, "two", "v2")];
    let mut upgrade = references(&key, &both, &evidence);
    upgrade["provenance"] = rule();
    let (facts, findings) = known(&upgrade, &running(SHELL));
    assert_eq!(codes(&findings), ["CODE-IMAGE-SEVERAL"]);
    let alike = [
        "approved_by",
        "build_type",
        "builder",
        "commit",
        "name",
        "signer.key",
        "source",
        "workflow",
    ];
    assert_eq!(of_image(&facts), alike);
    // What is in one of them alone is of that one.
    let (facts, findings) = known(&upgrade, &running(PROGRAM));
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(facts.text(names::CODE_IMAGE_REF), Some("refs/tags/v1"));
    // Nobody signed the other one: it may be what runs.
    let (facts, findings) = known(
        &references(&key, &both, &[signed(&key, "one", "one")]),
        &running(SHELL),
    );
    assert_eq!(codes(&findings), ["CODE-IMAGE-SEVERAL"]);
    assert_eq!(of_image(&facts), [""; 0]);
    // One image in two generations is one.
    let mut again = image("one", "one", &[PROGRAM, SHELL]);
    again["name"] = json!("again");
    let twice = [both[0].clone(), again];
    let (facts, findings) = known(
        &references(&key, &twice, &[signed(&key, "one", "one")]),
        &running(SHELL),
    );
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(
        facts.text(names::CODE_IMAGE_DIGEST),
        Some(named("one").as_str())
    );
}

#[test]
fn a_program_of_very_many_images_is_known_by_none_and_asks_for_no_signature() {
    let key = key();
    let images: Vec<Value> = (0..17)
        .map(|at| image(&format!("i{at}"), "index", &[SHELL]))
        .collect();
    let estate = estate(&references(
        &key,
        &images,
        &[signed(&key, "index", "index")],
    ));
    let (facts, findings) =
        estate.code_facts_by(&running(SHELL), NOW, &|_| panic!("a signature is verified"));
    assert_eq!(codes(&findings), ["CODE-IMAGE-SEVERAL"]);
    assert_eq!(of_image(&facts), [""; 0]);
}

#[test]
fn an_image_counts_where_and_while_its_generation_does() {
    let key = key();
    let evidence = [signed(&key, "image", "image")];
    let good = references(&key, &[image("image", "index", &[PROGRAM])], &evidence);
    let check = |references: &Value, running: &FactSet, expected: &str| {
        let (facts, findings) = known(references, running);
        assert!(facts.is_empty(), "{facts:?}");
        assert_eq!(codes(&findings), [expected]);
    };
    let mut elsewhere = running(PROGRAM);
    elsewhere.state(names::MACHINE_POOL, "lab", Source::Verified, NOW);
    check(&good, &elsewhere, "REF-RING");
    let mut over = good.clone();
    over["generation"][0]["valid_until"] = json!("2026-02-01T00:00:00Z");
    check(&over, &running(PROGRAM), "REF-OVER");
    let mut early = good.clone();
    early["generation"][0]["valid_from"] = json!("2096-02-01T00:00:00Z");
    check(&early, &running(PROGRAM), "REF-NOT-YET");
    let mut withdrawn = good.clone();
    withdrawn["withdrawn"] =
        json!([{"name": "image", "at": "2026-06-01T00:00:00Z", "reason": "a hole"}]);
    check(&withdrawn, &running(PROGRAM), "REF-WITHDRAWN");
    // Where a package brings the same file, the file is good; the image that was withdrawn says nothing of it.
    let mut package = image("package", "package", &[PROGRAM]);
    package["artefact"][0]["kind"] = json!("deb");
    withdrawn["generation"]
        .as_array_mut()
        .unwrap()
        .push(package);
    let (facts, findings) = known(&withdrawn, &running(PROGRAM));
    assert!(findings.is_empty(), "{findings:?}");
    assert!(facts.text(names::CODE_REFERENCE).is_some());
    assert_eq!(of_image(&facts), [""; 0]);
}

#[test]
fn an_interpreter_is_no_image_s_program() {
    let key = key();
    let references = references(
        &key,
        &[image("image", "index", &[PROGRAM])],
        &[signed(&key, "image", "image")],
    );
    let mut interpreter = running(PROGRAM);
    interpreter.state(names::WORKLOAD_INTERPRETER, true, Source::Asserted, NOW);
    let (facts, findings) = known(&references, &interpreter);
    assert_eq!(codes(&findings), ["CODE-IMAGE-INTERPRETER"]);
    assert_eq!(of_image(&facts), [""; 0]);
    interpreter.state(names::WORKLOAD_INTERPRETER, false, Source::Asserted, NOW);
    let (facts, _) = known(&references, &interpreter);
    assert!(facts.text(names::CODE_IMAGE_APPROVED_BY).is_some());
}

#[test]
fn what_is_known_of_an_image_is_as_sure_as_the_digest_of_the_program() {
    let key = key();
    let estate = estate(&references(
        &key,
        &[image("image", "index", &[PROGRAM])],
        &[signed(&key, "image", "image")],
    ));
    for source in [Source::Asserted, Source::Verified] {
        let mut workload = facts(&[(names::MACHINE_POOL, "demo".into())]);
        workload.state(names::CODE_SHA256, hex(PROGRAM), source, NOW);
        // What somebody weaker states beside it changes nothing, be it the tree of another image's file.
        let tree = format!("sha256:{}", hex("another tree"));
        workload.state(names::CODE_FSVERITY, tree, Source::Asserted, NOW);
        let (facts, _) = estate.code_facts(&workload, NOW);
        assert!(facts.text(names::CODE_IMAGE_APPROVED_BY).is_some());
        assert!(facts.iter().all(|fact| fact.source == source), "{facts:?}");
    }
    // By what the kernel measures alone.
    let measured = facts(&[
        (names::MACHINE_POOL, "demo".into()),
        (
            names::CODE_FSVERITY,
            named(&format!("{PROGRAM} tree")).as_str().into(),
        ),
    ]);
    let (facts, _) = estate.code_facts(&measured, NOW);
    assert_eq!(
        facts.text(names::CODE_IMAGE_APPROVED_BY),
        Some("release key")
    );
}
