//! Recorded bundles and provenance that nobody here made: each with its outcome, at its own time.
//!
//! Bundles of Sigstore's staging deployment and of GitHub's private one are looked at under the roots that
//! `sigstore-verify` ships; those of the public one under the recorded root as well.

use crate::common::{code, codes, codes_of, folder};
use attest_code::{
    Artifact, CodeDigest, CodeEvidence, CodeReferences, Form, Identity, ProvenanceRule, Running,
    Signer, TrustedRoot, judge, verify_bundle, verify_envelope,
};
use crypto::{base64, hex, sha256};
use expect_test::expect;
use facts::{Timestamp, names};
use serde_json::Value;
use sigstore_verify::trust_root::{
    SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT, SIGSTORE_STAGING_TRUSTED_ROOT,
};
use std::collections::BTreeMap;
use std::path::Path;

pub(crate) const GITHUB: &str = "https://token.actions.githubusercontent.com";
pub(crate) const LOGIN: &str = "https://github.com/login/oauth";

/// What was signed.
#[derive(Clone, Copy)]
pub(crate) enum Of {
    /// A file beside the bundle.
    File(&'static str),
    Sha256(&'static str),
    Sha512(&'static str),
    /// What the bundle says: nobody recorded the file.
    Itself,
}

/// A recorded bundle, who signed it, when, and what is expected.
pub(crate) struct Recorded {
    pub(crate) file: &'static str,
    pub(crate) of: Of,
    pub(crate) identity: &'static str,
    pub(crate) issuer: &'static str,
    /// When the log took it in, or an authority stamped it.
    pub(crate) at: u64,
    pub(crate) root: &'static str,
    pub(crate) expected: &'static [&'static str],
}

pub(crate) const RECORDED: &[Recorded] = &[
    Recorded {
        file: "conda-attestation.sigstore.json",
        of: Of::File("signed-package-2.1.0-hb0f4dca_0.conda"),
        identity: "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main",
        issuer: GITHUB,
        at: 1_756_728_839,
        root: "recorded",
        expected: &["good"],
    },
    Recorded {
        file: "conda-attestation-rekor2.sigstore.json",
        of: Of::File("signed-package-2.1.0-hb0f4dca_0.conda"),
        identity: "jku@goto.fi",
        issuer: LOGIN,
        at: 1_779_781_341,
        root: "staging",
        expected: &["good"],
    },
    Recorded {
        file: "cosign-v3-blob.sigstore.json",
        of: Of::File("cosign-v3-blob.txt"),
        identity: "w.vollprecht@gmail.com",
        issuer: LOGIN,
        at: 1_764_787_003,
        root: "public",
        expected: &["good"],
    },
    // The recorded root is older than the deployment's timestamp authority.
    Recorded {
        file: "cosign-v3-blob.sigstore.json",
        of: Of::File("cosign-v3-blob.txt"),
        identity: "w.vollprecht@gmail.com",
        issuer: LOGIN,
        at: 1_764_787_003,
        root: "recorded",
        expected: &["SIGSTORE-STAMP-SIGNER"],
    },
    Recorded {
        file: "bundle_v3_github.whl.sigstore",
        of: Of::Itself,
        identity: "https://github.com/trailofbits/rfc8785.py/.github/workflows/release.yml@refs/tags/*",
        issuer: GITHUB,
        at: 1_710_888_076,
        root: "recorded",
        expected: &["good"],
    },
    Recorded {
        file: "sigstore.js@2.0.0-provenance.sigstore.json",
        of: Of::Sha512(
            "46d4e2f74c4877316640000a6fdf8a8b59f1e0847667973e9859f774dd31b8f1\
             e0937813b777fb66a2ac67d50540fe34640966eee9fc2ccca387082b4c85cd3c",
        ),
        identity: "https://github.com/sigstore/sigstore-js/.github/workflows/release.yml@refs/heads/main",
        issuer: GITHUB,
        at: 1_692_374_735,
        root: "recorded",
        expected: &["good"],
    },
    // A promise of the log, and no proof.
    Recorded {
        file: "dsse.sigstore.json",
        of: Of::Sha512(
            "bbfd372fc9beeb777fe35d05bb10c0c70a9733d366a75fed7dd18866c7391de3\
             ee7e88ba74dd47abf3e15c845e547fcf0e5c3da80854c751554224d3a6d4e55f",
        ),
        identity: "brian@dehamer.com",
        issuer: LOGIN,
        at: 1_668_034_836,
        root: "recorded",
        expected: &["SIGSTORE-LOG-PROOF"],
    },
    Recorded {
        file: "dsse-2sigs.sigstore.json",
        of: Of::Sha256("00"),
        identity: "brian@dehamer.com",
        issuer: LOGIN,
        at: 1_668_034_836,
        root: "recorded",
        expected: &["SIGSTORE-BUNDLE-SIGNATURES"],
    },
    // A true entry of the log, of another signature over the same file.
    Recorded {
        file: "bundle_cve_2022_36056.txt.sigstore",
        of: Of::Itself,
        identity: "william@yossarian.net",
        issuer: LOGIN,
        at: 1_712_354_907,
        root: "staging",
        expected: &["SIGSTORE-LOG-BODY"],
    },
    Recorded {
        file: "bundle_no_checkpoint.txt.sigstore",
        of: Of::Itself,
        identity: "william@yossarian.net",
        issuer: LOGIN,
        at: 1_675_118_528,
        root: "staging",
        expected: &["SIGSTORE-LOG-CHECKPOINT"],
    },
    Recorded {
        file: "bundle_no_log_entry.txt.sigstore",
        of: Of::Itself,
        identity: "alex.cameron@trailofbits.com",
        issuer: "https://accounts.google.com",
        at: 1_675_126_656,
        root: "recorded",
        expected: &["SIGSTORE-LOG-MISSING", "SIGSTORE-TIME-MISSING"],
    },
    Recorded {
        file: "bundle_invalid_version.txt.sigstore",
        of: Of::Itself,
        identity: "william@yossarian.net",
        issuer: LOGIN,
        at: 1_710_535_702,
        root: "staging",
        expected: &["SIGSTORE-BUNDLE-VERSION"],
    },
    // GitHub's private deployment has no log, and its certificates do not say who identified the signer.
    Recorded {
        file: "github-private-attestation.sigstore.json",
        of: Of::Sha256("76f1fe8593bf227cca2c089e3c16dc95014a8d3e89c5dd220530469ca043c428"),
        identity: "https://dotcom.releases.github.com",
        issuer: GITHUB,
        at: 1_772_445_135,
        root: "github",
        expected: &["SIGSTORE-CERT-ISSUER", "SIGSTORE-LOG-MISSING"],
    },
    // The recorded root of that deployment has timestamp authorities only.
    Recorded {
        file: "github-private-attestation.sigstore.json",
        of: Of::Sha256("76f1fe8593bf227cca2c089e3c16dc95014a8d3e89c5dd220530469ca043c428"),
        identity: "https://dotcom.releases.github.com",
        issuer: GITHUB,
        at: 1_772_445_135,
        root: "recorded github",
        expected: &[
            "SIGSTORE-CERT-ISSUER",
            "SIGSTORE-LOG-MISSING",
            "SIGSTORE-CERT-CHAIN",
        ],
    },
];

/// The JSON of a trusted root.
pub(crate) fn root_json(evidence: &Path, name: &str) -> String {
    match name {
        "public" => SIGSTORE_PRODUCTION_TRUSTED_ROOT.to_owned(),
        "staging" => SIGSTORE_STAGING_TRUSTED_ROOT.to_owned(),
        "github" => SIGSTORE_GITHUB_TRUSTED_ROOT.to_owned(),
        "recorded github" => {
            std::fs::read_to_string(evidence.join("github_trusted_root.json")).unwrap()
        }
        _ => std::fs::read_to_string(evidence.join("public-good.json")).unwrap(),
    }
}

pub(crate) fn trusting(root: &str, identity: &str, issuer: &str) -> CodeReferences {
    let root = TrustedRoot::parse(root.as_bytes()).unwrap();
    let roots = BTreeMap::from([("root".to_owned(), root)]);
    let identity = Identity::parse(identity).unwrap();
    let signer = Signer::keyless("signer", "root", identity, issuer).unwrap();
    CodeReferences::new(roots, Vec::new(), vec![signer], Vec::new()).unwrap()
}

/// The artefact, or the bytes that it borrows.
pub(crate) fn artifact<'a>(of: Of, bundle: &[u8], file: &'a [u8]) -> Artifact<'a> {
    match of {
        Of::File(_) => Artifact::of_bytes(file),
        Of::Sha256(digest) => {
            let bytes = hex::decode(digest).unwrap();
            Artifact::of_sha256(bytes.try_into().unwrap_or([0; 32]))
        }
        Of::Sha512(digest) => Artifact::of_sha512(hex::decode(digest).unwrap().try_into().unwrap()),
        Of::Itself => {
            let bundle: Value = serde_json::from_slice(bundle).unwrap();
            let digest = &bundle["messageSignature"]["messageDigest"]["digest"];
            let digest = base64::decode(digest.as_str().unwrap()).unwrap();
            Artifact::of_sha256(digest.try_into().unwrap())
        }
    }
}

pub(crate) fn file(evidence: &Path, of: Of) -> Vec<u8> {
    match of {
        Of::File(name) => std::fs::read(evidence.join(name)).unwrap(),
        Of::Sha256(_) | Of::Sha512(_) | Of::Itself => Vec::new(),
    }
}

#[test]
fn every_recorded_bundle_has_its_outcome() {
    let Some(evidence) = folder("attest_code::sigstore", "sigstore") else {
        return;
    };
    for one in RECORDED {
        let bundle = std::fs::read(evidence.join(one.file)).unwrap();
        let file = file(&evidence, one.of);
        let artifact = artifact(one.of, &bundle, &file);
        let root = root_json(&evidence, one.root);
        let references = trusting(&root, one.identity, one.issuer);
        let then = Timestamp::from_secs(one.at);
        let found = verify_bundle(&bundle, &artifact, &references, then);
        assert_eq!(
            codes(&found),
            one.expected,
            "{} under {}: {found:?}",
            one.file,
            one.root
        );
        if one.expected != ["good"] {
            continue;
        }
        // The same bundle, as somebody else's, of something else, or too early.
        let refused = |references: &CodeReferences, artifact: &Artifact<'_>, now| {
            codes(&verify_bundle(&bundle, artifact, references, now))
        };
        let other = trusting(&root, "mallory@evil.test", one.issuer);
        assert_eq!(
            refused(&other, &artifact, then),
            ["SIGSTORE-IDENTITY"],
            "{}",
            one.file
        );
        let other = trusting(&root, one.identity, "https://evil.test");
        assert_eq!(
            refused(&other, &artifact, then),
            ["SIGSTORE-ISSUER"],
            "{}",
            one.file
        );
        let early = then.minus_secs(90);
        assert!(
            refused(&references, &artifact, early).contains(&"SIGSTORE-TIME-FUTURE".to_owned()),
            "{}",
            one.file
        );
        let other = refused(&references, &Artifact::of_bytes(b"other"), then);
        assert!(
            other == ["SIGSTORE-ARTIFACT"] || other == ["STATEMENT-SUBJECT"],
            "{}: {other:?}",
            one.file
        );
    }
    let listed: Vec<&str> = RECORDED.iter().map(|one| one.file).collect();
    for entry in std::fs::read_dir(&evidence).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.contains(".sigstore") || listed.contains(&name.as_str()),
            "{name} has no expected outcome"
        );
    }
}

const MODULE: &str = "06ce330900a7d6403bc8d88e5dfad6aeeb8ae40179f66bb89e69c8bf6f6b1a0b";
const PUBLISH: &str = "https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml@refs/tags/v0.0.1";
const MALICIOUS: &str = "https://github.com/loosebazooka/aa-test/.github/workflows/malicious_attestation.yaml@refs/heads/main";

#[test]
fn recorded_provenance_becomes_facts() {
    let (Some(slsa), Some(sigstore)) = (
        folder("attest_code::slsa", "slsa"),
        folder("attest_code::slsa", "sigstore"),
    ) else {
        return;
    };
    let read = |name: &str| std::fs::read(slsa.join(name)).unwrap();
    let running = Running {
        digests: vec![CodeDigest::Sha256(sha256(&read("MODULE.bazel")))],
    };
    let root = TrustedRoot::parse(root_json(&sigstore, "recorded").as_bytes()).unwrap();
    let references = |identity: &str, source: &str| {
        let roots = BTreeMap::from([("public".to_owned(), root.clone())]);
        let identity = Identity::parse(identity).unwrap();
        let signers = vec![Signer::keyless("publisher", "public", identity, GITHUB).unwrap()];
        let rule = ProvenanceRule::new("rules_lint", &["publisher"], PUBLISH, source).unwrap();
        CodeReferences::new(roots, Vec::new(), signers, vec![rule]).unwrap()
    };
    let lint = "github.com/aspect-build/rules_lint";
    let judged = |file: &str, references: &CodeReferences, at| {
        let evidence = CodeEvidence {
            about: running.digests[0],
            form: Form::Bundle(read(file)),
        };
        judge(&running, &[evidence], references, Timestamp::from_secs(at))
    };
    let good = judged(
        "MODULE.bazel.intoto.jsonl",
        &references(PUBLISH, lint),
        1_743_033_000,
    );
    let facts: Vec<String> = good
        .facts
        .iter()
        .map(|fact| format!("{} = {}", fact.name, fact.value))
        .collect();
    expect![[r"
        code.approved_by = rules_lint
        code.build_type = https://actions.github.io/buildtypes/workflow/v1
        code.builder = https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml@refs/tags/v0.0.1
        code.commit = 8f70009fde0c94ade6ce2a054b94718c819126ec
        code.ref = refs/heads/publish-to-bcr
        code.signer.identity = https://github.com/bazel-contrib/publish-to-bcr/.github/workflows/publish.yaml@refs/tags/v0.0.1
        code.signer.issuer = https://token.actions.githubusercontent.com
        code.source = github.com/aspect-build/rules_lint
        code.workflow = .github/workflows/release.yml
    "]]
    .assert_eq(&(facts.join("\n") + "\n"));
    let other = judged(
        "MODULE.bazel.intoto.jsonl",
        &references(PUBLISH, "github.com/acme/x"),
        1_743_033_000,
    );
    assert_eq!(codes_of(&other.findings), ["CODE-UNKNOWN", "SLSA-SOURCE"]);

    // The same statement, signed by somebody who did not build it.
    let wrong = "MODULE-wrong-signer.bazel.intoto.jsonl";
    let verdict = judged(wrong, &references(PUBLISH, lint), 1_743_446_400);
    assert_eq!(
        codes_of(&verdict.findings),
        ["CODE-UNKNOWN", "SIGSTORE-IDENTITY"]
    );
    // Even under a reference that trusts that signer: its certificate says what it really was.
    let verdict = judged(wrong, &references(MALICIOUS, lint), 1_743_446_400);
    assert_eq!(
        codes_of(&verdict.findings),
        [
            "CODE-UNKNOWN",
            "SLSA-CERTIFICATE",
            "SLSA-CERTIFICATE",
            "SLSA-CERTIFICATE"
        ]
    );
    assert_eq!(
        hex::encode(&sha256(&read("MODULE-wrong-signer.bazel"))),
        MODULE
    );
}

#[test]
fn recorded_npm_provenance_becomes_facts() {
    let Some(evidence) = folder("attest_code::sigstore", "sigstore") else {
        return;
    };
    let one = RECORDED
        .iter()
        .find(|one| one.file.starts_with("sigstore.js"))
        .unwrap();
    let bundle = std::fs::read(evidence.join(one.file)).unwrap();
    let references = trusting(&root_json(&evidence, one.root), one.identity, one.issuer);
    let artifact = artifact(one.of, &bundle, b"");
    let found = verify_bundle(
        &bundle,
        &artifact,
        &references,
        Timestamp::from_secs(one.at),
    );
    let statement = found.unwrap();
    let statement = statement.statement().unwrap();
    assert_eq!(statement.predicate_type(), "https://slsa.dev/provenance/v1");
    assert!(names::ALL.contains(&names::CODE_SOURCE));
}

/// Google's builds are signed by a key that is not recorded: nobody can vouch for them here.
#[test]
fn recorded_provenance_by_an_unknown_key_is_refused() {
    let Some(slsa) = folder("attest_code::slsa", "slsa") else {
        return;
    };
    let text = std::fs::read(slsa.join("gcloud-container-github.json")).unwrap();
    let json: Value = serde_json::from_slice(&text).unwrap();
    let image = hex::decode("f472ca4b68898c951ac3b476cba919d0d56fca4ced631fabcead51e4b2b690e7");
    let artifact = Artifact::of_sha256(image.unwrap().try_into().unwrap());
    let pair = crate::forge::key(crypto::Algorithm::EcdsaP256);
    let key = crypto::Signer::public_key(&pair).clone();
    let signers = vec![Signer::key("another", key).unwrap()];
    let references = CodeReferences::new(BTreeMap::new(), Vec::new(), signers, Vec::new()).unwrap();
    let builds = json["provenance_summary"]["provenance"].as_array().unwrap();
    assert!(!builds.is_empty());
    for build in builds {
        let envelope = build["envelope"].to_string();
        let found = verify_envelope(envelope.as_bytes(), &artifact, &references);
        assert_eq!(code(&found), "CODE-SIGNATURE");
    }
}
