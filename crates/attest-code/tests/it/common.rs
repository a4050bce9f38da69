//! What the tests share: references that trust the forged deployment's release workflow.

use crate::forge::{ARTIFACT, BUILDER, Deployment, GITHUB, NOW, Script, forge};
use attest_code::{
    Artifact, CodeReferences, Identity, ProvenanceRule, Signer, TrustedRoot, Vouched, verify_bundle,
};
use facts::Finding;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(crate) const ANY_TAG: &str =
    "https://github.com/acme/payments/.github/workflows/release.yml@refs/tags/*";

pub(crate) fn keyless(label: &str, identity: &str, issuer: &str) -> Signer {
    Signer::keyless(label, "forged", Identity::parse(identity).unwrap(), issuer).unwrap()
}

/// The release workflow, by any tag.
pub(crate) fn release() -> Signer {
    keyless("release", ANY_TAG, GITHUB)
}

/// Its provenance, from that source by that builder.
pub(crate) fn rule() -> ProvenanceRule {
    ProvenanceRule::new(
        "payments",
        &["release"],
        BUILDER,
        "github.com/acme/payments",
    )
    .unwrap()
}

pub(crate) fn references(
    root: TrustedRoot,
    signers: Vec<Signer>,
    rules: Vec<ProvenanceRule>,
) -> CodeReferences {
    let roots = BTreeMap::from([("forged".to_owned(), root)]);
    CodeReferences::new(roots, Vec::new(), signers, rules).unwrap()
}

/// Forges a bundle and verifies it under the deployment's own root.
pub(crate) fn verify(deployment: &Deployment, script: &Script) -> Result<Vouched, Vec<Finding>> {
    verify_json(deployment, &forge(deployment, script))
}

pub(crate) fn verify_json(
    deployment: &Deployment,
    bundle: &Value,
) -> Result<Vouched, Vec<Finding>> {
    let references = references(deployment.root(), vec![release()], Vec::new());
    let artifact = Artifact::of_bytes(ARTIFACT);
    verify_bundle(bundle.to_string().as_bytes(), &artifact, &references, NOW)
}

pub(crate) fn codes_of(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|one| one.code.as_ref()).collect()
}

/// The codes of a refusal; `good` if it is none.
pub(crate) fn codes<T>(result: &Result<T, Vec<Finding>>) -> Vec<String> {
    match result {
        Ok(_) => vec!["good".to_owned()],
        Err(findings) => codes_of(findings).into_iter().map(str::to_owned).collect(),
    }
}

pub(crate) fn code<T>(result: &Result<T, Finding>) -> &str {
    match result {
        Ok(_) => "good",
        Err(finding) => &finding.code,
    }
}

/// A folder of recorded evidence, or a skip.
pub(crate) fn folder(test: &str, name: &str) -> Option<PathBuf> {
    let folder = testkit::evidence().map(|all| all.join(name));
    if folder.as_ref().is_some_and(|folder| folder.is_dir()) {
        return folder;
    }
    testkit::skip(test, &format!("no evidence folder with {name}"));
    None
}
