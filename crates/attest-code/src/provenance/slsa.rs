//! What the two versions of SLSA provenance call builder, source, ref, commit and workflow.
//!
//! In version 1 the meaning of `externalParameters` depends on the build type (slsa.dev/spec/v1.0/provenance,
//! "BuildDefinition"). Those of the build types below are read; of another no source is known.

use super::{Provenance, Repository};
use crate::signer::is_plain;
use facts::Finding;
use serde_json::Value;

/// Where a build type keeps the source.
#[derive(Clone, Copy)]
enum Layout {
    /// `externalParameters.<name>` with `repository`, `ref`, `path`.
    Workflow(&'static str),
    /// The first of `resolvedDependencies`.
    FirstDependency,
}

const BUILD_TYPES: [(&str, Layout); 5] = [
    // GitHub's own attestations, and npm's.
    (
        "https://actions.github.io/buildtypes/workflow/v1",
        Layout::Workflow("workflow"),
    ),
    (
        "https://slsa-framework.github.io/github-actions-buildtypes/workflow/v1",
        Layout::Workflow("workflow"),
    ),
    (
        "https://cloud.google.com/build/gcb-buildtypes/google-worker/v1",
        Layout::Workflow("buildConfigSource"),
    ),
    // The generators of slsa-github-generator.
    (
        "https://github.com/slsa-framework/slsa-github-generator/delegator-generic@v0",
        Layout::FirstDependency,
    ),
    (
        "https://github.com/slsa-framework/slsa-github-generator/delegator-lowperms-generic@v0",
        Layout::FirstDependency,
    ),
];

pub(super) fn version_1(predicate: &Value) -> Result<Provenance, Finding> {
    let builder = required(predicate, "/runDetails/builder/id")?;
    let build_type = required(predicate, "/buildDefinition/buildType")?;
    let none = Value::Null;
    let definition = predicate.get("buildDefinition").unwrap_or(&none);
    let dependencies: &[Value] = definition
        .get("resolvedDependencies")
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice);
    let layout = BUILD_TYPES
        .iter()
        .find_map(|(known, layout)| (*known == build_type).then_some(*layout));
    let mut provenance = Provenance {
        builder,
        build_type,
        source: None,
        reference: None,
        commit: None,
        workflow: None,
    };
    match layout {
        None => {}
        Some(Layout::Workflow(name)) => {
            let workflow = definition
                .get("externalParameters")
                .and_then(|parameters| parameters.get(name))
                .unwrap_or(&none);
            provenance.source = text(workflow, "/repository")
                .and_then(|uri| Repository::parse(&uri))
                .map(|repository| repository.name);
            provenance.reference = text(workflow, "/ref");
            provenance.workflow = text(workflow, "/path");
            let source = provenance.source.as_deref();
            provenance.commit = source.and_then(|source| commit_of(source, dependencies));
        }
        Some(Layout::FirstDependency) => {
            let first = dependencies.first().unwrap_or(&none);
            let repository = text(first, "/uri").and_then(|uri| Repository::parse(&uri));
            if let Some(repository) = repository {
                provenance.source = Some(repository.name);
                provenance.reference = repository.reference;
                provenance.commit = commit(first);
            }
        }
    }
    Ok(provenance)
}

/// slsa.dev/spec/v0.2/provenance: `configSource` is "the git reference … that the top-level input" is from,
/// for every build type, and `entryPoint` "the path to a file".
pub(super) fn version_0_2(predicate: &Value) -> Result<Provenance, Finding> {
    let none = Value::Null;
    let config = predicate
        .pointer("/invocation/configSource")
        .unwrap_or(&none);
    let repository = text(config, "/uri").and_then(|uri| Repository::parse(&uri));
    let commit = repository.as_ref().and_then(|_| commit(config));
    let (source, reference) = match repository {
        Some(repository) => (Some(repository.name), repository.reference),
        None => (None, None),
    };
    Ok(Provenance {
        builder: required(predicate, "/builder/id")?,
        build_type: required(predicate, "/buildType")?,
        source,
        reference,
        commit,
        workflow: text(config, "/entryPoint"),
    })
}

/// The commit of the only dependency that is this source; two of them are no clear statement.
fn commit_of(source: &str, dependencies: &[Value]) -> Option<String> {
    let mut found = dependencies.iter().filter(|dependency| {
        text(dependency, "/uri")
            .and_then(|uri| Repository::parse(&uri))
            .is_some_and(|repository| repository.name == source)
    });
    match (found.next(), found.next()) {
        (Some(only), None) => commit(only),
        _ => None,
    }
}

fn commit(descriptor: &Value) -> Option<String> {
    text(descriptor, "/digest/gitCommit")
        .or_else(|| text(descriptor, "/digest/sha1"))
        .filter(|commit| {
            let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            matches!(commit.len(), 40 | 64) && commit.bytes().all(hexadecimal)
        })
}

fn required(predicate: &Value, pointer: &str) -> Result<String, Finding> {
    text(predicate, pointer).ok_or_else(|| {
        Finding::new("SLSA-STRUCTURE", "the provenance cannot be read")
            .expected(format!("a text at {pointer}"))
            .next("let the builder write provenance of SLSA v1")
    })
}

/// A plain text; anything else is as good as absent.
fn text(value: &Value, pointer: &str) -> Option<String> {
    value
        .pointer(pointer)?
        .as_str()
        .filter(|text| is_plain(text))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn github(dependencies: &Value) -> Value {
        json!({
            "buildDefinition": {
                "buildType": "https://actions.github.io/buildtypes/workflow/v1",
                "externalParameters": {"workflow": {
                    "ref": "refs/tags/v1",
                    "repository": "https://github.com/acme/payments",
                    "path": ".github/workflows/release.yml",
                }},
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": "https://builder"}},
        })
    }

    #[test]
    fn an_unknown_build_type_states_no_source() {
        let mut predicate = github(&json!([]));
        predicate["buildDefinition"]["buildType"] = json!("https://example.org/own");
        let found = version_1(&predicate).unwrap();
        assert_eq!(found.source, None);
        assert_eq!(found.workflow, None);
        assert_eq!(found.build_type, "https://example.org/own");
    }

    #[test]
    fn a_commit_is_that_of_the_source_and_of_no_other_dependency() {
        let (ours, theirs) = ("a".repeat(40), "b".repeat(40));
        let source = json!({
            "uri": "git+https://github.com/acme/payments@refs/tags/v1",
            "digest": {"gitCommit": ours},
        });
        let other = json!({
            "uri": "git+https://github.com/acme/other@refs/tags/v1",
            "digest": {"gitCommit": theirs},
        });
        let commit = |dependencies| version_1(&github(&dependencies)).unwrap().commit;
        assert_eq!(commit(json!([other.clone(), source.clone()])), Some(ours));
        assert_eq!(commit(json!([other])), None);
        assert_eq!(commit(json!([source.clone(), source])), None);
        assert_eq!(commit(json!([])), None);
    }

    #[test]
    fn builder_and_build_type_have_to_be_stated() {
        for missing in ["runDetails", "buildDefinition"] {
            let mut predicate = github(&json!([]));
            predicate.as_object_mut().unwrap().remove(missing);
            assert_eq!(version_1(&predicate).unwrap_err().code, "SLSA-STRUCTURE");
        }
        assert!(version_0_2(&json!({"builder": {"id": 7}, "buildType": "x"})).is_err());
    }
}
