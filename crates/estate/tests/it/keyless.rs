//! Keyless signatures that nobody here made, through the files of an estate, at their own time.

use crate::code::estate;
use crate::fixture::facts;
use estate::Estate;
use facts::{FactSet, Finding, Timestamp, names};
use serde_json::{Value, json};
use std::path::PathBuf;

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const PUBLISH: &str = "https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml@refs/tags/v0.0.1";
const LINT: &str = "github.com/aspect-build/rules_lint";
const WHEEL: &str =
    "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/*";
/// When the log took in the provenance, and the signature of the wheel.
const BUILT: Timestamp = Timestamp::from_secs(1_743_033_000);
const SIGNED: Timestamp = Timestamp::from_secs(1_710_888_076);

struct Recorded {
    sigstore: PathBuf,
    slsa: PathBuf,
}

impl Recorded {
    fn find() -> Option<Self> {
        let folders = testkit::evidence()
            .map(|folder| (folder.join("sigstore"), folder.join("slsa")))
            .filter(|(sigstore, slsa)| sigstore.is_dir() && slsa.is_dir());
        let Some((sigstore, slsa)) = folders else {
            testkit::skip(
                "estate::sigstore",
                "no recorded bundles; set TRILITH_EVIDENCE",
            );
            return None;
        };
        Some(Self { sigstore, slsa })
    }

    fn root(&self) -> String {
        std::fs::read_to_string(self.sigstore.join("public-good.json")).unwrap()
    }

    fn other_root(&self) -> String {
        std::fs::read_to_string(self.sigstore.join("github_trusted_root.json")).unwrap()
    }

    /// Provenance of a file, and the SHA-256 of that.
    fn provenance(&self) -> (String, String) {
        let read = |name: &str| std::fs::read(self.slsa.join(name)).unwrap();
        let built = crypto::hex::encode(&crypto::sha256(&read("MODULE.bazel")));
        let bundle = String::from_utf8(read("MODULE.bazel.intoto.jsonl")).unwrap();
        (bundle, built)
    }

    /// A signature without a statement, and the SHA-256 that it is over.
    fn signature(&self) -> (String, String) {
        let path = self.sigstore.join("bundle_v3_github.whl.sigstore");
        let text = std::fs::read_to_string(path).unwrap();
        let bundle: Value = serde_json::from_str(&text).unwrap();
        let digest = &bundle["messageSignature"]["messageDigest"]["digest"];
        let digest = crypto::base64::decode(digest.as_str().unwrap()).unwrap();
        (text, crypto::hex::encode(&digest))
    }

    /// References that trust one keyless signer.
    fn trusting(&self, identity: &str, issuer: &str) -> Value {
        json!({
            "trusted_root": [{"name": "public", "json": self.root()}],
            "signer": [{"name": "publisher", "root": "public", "identity": identity, "issuer": issuer}],
        })
    }

    fn with_provenance(&self, identity: &str, issuer: &str, source: &str) -> Value {
        let (bundle, built) = self.provenance();
        let mut references = self.trusting(identity, issuer);
        references["provenance"] = json!([{
            "name": "rules_lint", "signers": ["publisher"], "builder": PUBLISH, "source": source,
        }]);
        references["evidence"] =
            json!([{"sha256": built, "form": "sigstore-bundle", "content": bundle}]);
        references
    }
}

fn running(sha256: &str) -> FactSet {
    facts(&[
        (names::MACHINE_POOL, "demo".into()),
        (names::CODE_SHA256, sha256.into()),
    ])
}

fn refused(estate: &Estate, sha256: &str, now: Timestamp, expected: &str) {
    let (known, findings) = estate.code_facts(&running(sha256), now);
    let of_signer = known
        .iter()
        .filter(|fact| fact.name != names::CODE_IMAGE_DIGEST);
    let of_signer = of_signer.filter(|fact| fact.name != names::CODE_REFERENCE);
    assert_eq!(of_signer.count(), 0, "{known:?}");
    let codes: Vec<&str> = findings
        .iter()
        .map(|one: &Finding| one.code.as_ref())
        .collect();
    assert!(codes.contains(&expected), "{expected}: {codes:?}");
}

#[test]
fn recorded_provenance_in_an_estate_becomes_facts_of_the_program() {
    let Some(recorded) = Recorded::find() else {
        return;
    };
    let (_, built) = recorded.provenance();
    let good = estate(&recorded.with_provenance(PUBLISH, GITHUB, LINT));
    // A bundle does not end: its times are those of the log.
    for now in [BUILT, Timestamp::from_secs(1_900_000_000)] {
        let (known, findings) = good.code_facts(&running(&built), now);
        assert!(findings.is_empty(), "{findings:?}");
        for (name, expected) in [
            (names::CODE_APPROVED_BY, "rules_lint"),
            (names::CODE_SIGNER_IDENTITY, PUBLISH),
            (names::CODE_SIGNER_ISSUER, GITHUB),
            (names::CODE_SOURCE, LINT),
            (names::CODE_BUILDER, PUBLISH),
            (
                names::CODE_COMMIT,
                "8f70009fde0c94ade6ce2a054b94718c819126ec",
            ),
            (names::CODE_REF, "refs/heads/publish-to-bcr"),
            (names::CODE_WORKFLOW, ".github/workflows/release.yml"),
        ] {
            assert_eq!(known.text(name), Some(expected), "{name}");
        }
    }
    let (known, findings) = good.code_facts(&running(&"9".repeat(64)), BUILT);
    assert!(known.is_empty() && findings.is_empty());
    refused(
        &good,
        &built,
        BUILT.minus_secs(86_400),
        "SIGSTORE-TIME-FUTURE",
    );
}

#[test]
fn recorded_provenance_is_refused_under_any_other_name_issuer_root_or_source() {
    let Some(recorded) = Recorded::find() else {
        return;
    };
    let (_, built) = recorded.provenance();
    let elsewhere = PUBLISH.replace("bazel-contrib", "mallory");
    let other_tag = PUBLISH.replace("v0.0.1", "v0.0.2");
    let login = "https://github.com/login/oauth";
    for (references, expected) in [
        (
            recorded.with_provenance(&elsewhere, GITHUB, LINT),
            "SIGSTORE-IDENTITY",
        ),
        (
            recorded.with_provenance(&other_tag, GITHUB, LINT),
            "SIGSTORE-IDENTITY",
        ),
        (
            recorded.with_provenance(PUBLISH, login, LINT),
            "SIGSTORE-ISSUER",
        ),
        (
            recorded.with_provenance(PUBLISH, GITHUB, "github.com/acme/x"),
            "SLSA-SOURCE",
        ),
    ] {
        refused(&estate(&references), &built, BUILT, expected);
    }
    let mut references = recorded.with_provenance(PUBLISH, GITHUB, LINT);
    references["trusted_root"][0]["json"] = json!(recorded.other_root());
    refused(&estate(&references), &built, BUILT, "SIGSTORE-CERT-CHAIN");
    // Under the digest of another program, it is not that program's.
    let mut references = recorded.with_provenance(PUBLISH, GITHUB, LINT);
    references["evidence"][0]["sha256"] = json!("9".repeat(64));
    refused(
        &estate(&references),
        &"9".repeat(64),
        BUILT,
        "STATEMENT-SUBJECT",
    );
}

#[test]
fn a_recorded_signature_in_an_estate_becomes_facts_of_the_program() {
    let Some(recorded) = Recorded::find() else {
        return;
    };
    let (bundle, sha256) = recorded.signature();
    let with = |identity: &str, issuer: &str| {
        let mut references = recorded.trusting(identity, issuer);
        references["evidence"] =
            json!([{"sha256": sha256, "form": "sigstore-bundle", "content": bundle}]);
        estate(&references)
    };
    let (known, findings) = with(WHEEL, GITHUB).code_facts(&running(&sha256), SIGNED);
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(known.text(names::CODE_APPROVED_BY), Some("publisher"));
    assert_eq!(known.text(names::CODE_SIGNER_ISSUER), Some(GITHUB));
    let identity = known.text(names::CODE_SIGNER_IDENTITY).unwrap();
    assert!(
        identity.starts_with(WHEEL.trim_end_matches('*')),
        "{identity}"
    );
    // A signature says nothing of the source.
    assert_eq!(known.text(names::CODE_SOURCE), None);
    let heads = WHEEL.replace("tags", "heads");
    refused(&with(&heads, GITHUB), &sha256, SIGNED, "SIGSTORE-IDENTITY");
    refused(
        &with(WHEEL, "https://evil.test"),
        &sha256,
        SIGNED,
        "SIGSTORE-ISSUER",
    );
}

/// The server sees the digest of an image's manifest and never the manifest: recorded provenance of a file stands
/// for that of an image whose manifest has its digest.
#[test]
fn recorded_provenance_of_an_image_becomes_facts_of_its_programs() {
    let Some(recorded) = Recorded::find() else {
        return;
    };
    let (bundle, built) = recorded.provenance();
    let program = "7".repeat(64);
    let with = |identity: &str, about: &str| {
        let mut references = recorded.with_provenance(identity, GITHUB, LINT);
        references["evidence"] = json!([{
            "image": format!("sha256:{about}"), "form": "sigstore-bundle", "content": bundle,
        }]);
        references["generation"] = json!([{
            "name": "lint", "rings": ["demo"],
            "valid_from": "2024-01-01T00:00:00Z", "imported_at": "2024-01-01T00:00:00Z",
            "source": [{"id": "i", "kind": "pinned", "name": "lint", "sha256": about}],
            "artefact": [{
                "kind": "oci", "name": "lint", "sha256": about, "source": "i",
                "file": [{"path": "/lint", "sha256": program}],
            }],
        }]);
        estate(&references)
    };
    let (known, findings) = with(PUBLISH, &built).code_facts(&running(&program), BUILT);
    assert!(findings.is_empty(), "{findings:?}");
    for (name, expected) in [
        (names::CODE_IMAGE_DIGEST, format!("sha256:{built}").as_str()),
        (names::CODE_IMAGE_APPROVED_BY, "rules_lint"),
        (names::CODE_IMAGE_SIGNER_IDENTITY, PUBLISH),
        (names::CODE_IMAGE_SIGNER_ISSUER, GITHUB),
        (names::CODE_IMAGE_SOURCE, LINT),
    ] {
        assert_eq!(known.text(name), Some(expected), "{name}");
    }
    let elsewhere = PUBLISH.replace("bazel-contrib", "mallory");
    refused(
        &with(&elsewhere, &built),
        &program,
        BUILT,
        "SIGSTORE-IDENTITY",
    );
    refused(
        &with(PUBLISH, &"8".repeat(64)),
        &program,
        BUILT,
        "STATEMENT-SUBJECT",
    );
}
