//! Bytes from nowhere: nothing panics, and nothing is affirmed that was not said.

use crate::common::{references, release};
use crate::enforcement::{approving, plan};
use crate::forge::stamp::StampScript;
use crate::forge::{ARTIFACT, Deployment, NOW, Script, forge, key};
use attest_code::image::{BlobDigest, Depth, Layout, Platform, read};
use attest_code::{
    Artifact, CodeReferences, FsVerityDigest, Identity, IpePolicy, Manifest, SignedPolicy, Signer,
    TrustedRoot, Vouched, Window, verify_blob, verify_bundle, verify_envelope,
    verify_simple_signing,
};
use crypto::{Algorithm, base64, sha256};
use facts::Finding;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::LazyLock;

struct Made {
    deployment: Deployment,
    references: CodeReferences,
    /// With a rule for provenance.
    ruled: CodeReferences,
    root: Vec<u8>,
    bundle: Value,
    said: Vouched,
    policy: Vec<u8>,
}

impl Made {
    /// A promise or a timestamp may be taken away as long as the other is there; then the signature is known
    /// to be a second younger.
    fn assert_same(&self, said: &Vouched) {
        assert_eq!(said.label(), self.said.label());
        assert_eq!(said.statement(), self.said.statement());
        assert!(said.signed_at() >= self.said.signed_at());
    }
}

/// One good deployment for all tests: keys cost time.
static MADE: LazyLock<Made> = LazyLock::new(|| {
    let deployment = Deployment::new();
    let script = Script {
        stamps: vec![StampScript {
            certificate_inside: true,
            ..StampScript::default()
        }],
        ..Script::of_provenance()
    };
    let bundle = forge(&deployment, &script);
    let pair = key(Algorithm::EcdsaP256);
    let pinned = Signer::key("pinned", crypto::Signer::public_key(&pair).clone()).unwrap();
    let references = references(deployment.root(), vec![release(), pinned], Vec::new());
    let said = check(&references, bundle.to_string().as_bytes()).unwrap();
    let digest = format!("sha256:{}", "ab".repeat(32));
    let approved = approving(&[(&digest, "app", Window::default())]);
    let policy = IpePolicy::new(plan(), &approved, NOW).unwrap();
    let certificate = deployment.authority.chain[0].clone();
    let policy = policy
        .sign(&certificate, &deployment.authority.key)
        .unwrap();
    let ruled = crate::common::references(
        deployment.root(),
        vec![release()],
        vec![crate::common::rule()],
    );
    Made {
        ruled,
        references,
        root: deployment.root_json().to_string().into_bytes(),
        bundle,
        said,
        policy: policy.der().to_vec(),
        deployment,
    }
});

fn check(references: &CodeReferences, bundle: &[u8]) -> Result<Vouched, Vec<Finding>> {
    verify_bundle(bundle, &Artifact::of_bytes(ARTIFACT), references, NOW)
}

/// A changed bundle is refused, or says the same: its decoration is nobody's word.
#[test]
fn a_bundle_with_a_changed_byte_is_refused_or_says_the_same() {
    let made = &*MADE;
    let good = made.bundle.to_string().into_bytes();
    let mut affirmed = 0;
    for at in (0..good.len()).step_by(5) {
        for bits in [1, 0x20] {
            let mut changed = good.clone();
            changed[at] ^= bits;
            if let Ok(said) = check(&made.references, &changed) {
                made.assert_same(&said);
                affirmed += 1;
            }
        }
    }
    assert!(affirmed < good.len() / 50, "{affirmed}");
    for cut in (0..good.len()).step_by(97) {
        assert!(
            check(&made.references, &good[..cut]).is_err(),
            "cut at {cut}"
        );
    }
}

/// Inside the binary parts of a bundle: certificate, timestamp, signatures.
#[test]
fn no_byte_of_the_binary_parts_can_change() {
    let made = &*MADE;
    for pointer in [
        "/verificationMaterial/certificate/rawBytes",
        "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp",
        "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
        "/dsseEnvelope/signatures/0/sig",
    ] {
        let good = base64::decode(made.bundle.pointer(pointer).unwrap().as_str().unwrap()).unwrap();
        let with = |bytes: &[u8]| {
            let mut bundle = made.bundle.clone();
            *bundle.pointer_mut(pointer).unwrap() = json!(base64::encode(bytes));
            check(&made.references, bundle.to_string().as_bytes())
        };
        let step = if good.len() > 200 { 3 } else { 1 };
        for at in (0..good.len()).step_by(step) {
            for bits in [1, 0x80] {
                let mut changed = good.clone();
                changed[at] ^= bits;
                if let Ok(said) = with(&changed) {
                    // In a timestamp: version, digest list and certificate stand outside the signature.
                    assert!(pointer.ends_with("signedTimestamp"), "{pointer} byte {at}");
                    made.assert_same(&said);
                }
            }
        }
        for cut in (0..good.len()).step_by(7) {
            assert!(with(&good[..cut]).is_err(), "{pointer} cut at {cut}");
        }
        let longer = [good.as_slice(), &[0]].concat();
        assert!(with(&longer).is_err(), "{pointer} one byte more");
    }
}

fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = valid.len();
    (
        Just(valid),
        prop::collection::vec((0..length, any::<u8>()), 0..8),
        0..=length,
        prop::collection::vec(any::<u8>(), 0..8),
    )
        .prop_map(|(mut bytes, changes, cut, tail)| {
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.truncate(cut);
            bytes.extend(tail);
            bytes
        })
}

/// JSON of any shape.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| json!(base64::encode(&bytes))),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Value>()),
        ]
    })
}

fn platform() -> Platform {
    Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        variant: None,
    }
}

proptest! {
    #[test]
    fn parsers_survive_noise(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let made = &*MADE;
        drop(TrustedRoot::parse(&bytes));
        drop(check(&made.references, &bytes));
        drop(SignedPolicy::verify(&bytes, &[&bytes]));
        drop(Manifest::parse(&bytes));
        drop(verify_envelope(&bytes, &Artifact::of_bytes(b""), &made.references));
        prop_assert!(verify_blob(&bytes, &Artifact::of_bytes(&bytes), &made.references).is_err());
        prop_assert!(verify_simple_signing(&bytes, &bytes, &[0; 32], &made.references).is_err());
        let text = String::from_utf8_lossy(&bytes);
        drop(FsVerityDigest::parse(&text));
        drop(BlobDigest::parse(&text));
        drop(Identity::parse(&text));
        drop(Signer::key_from_pem("x", &text));
    }

    #[test]
    fn roots_and_policies_survive_near_misses(
        root in mutated(MADE.root.clone()),
        policy in mutated(MADE.policy.clone()),
    ) {
        drop(TrustedRoot::parse(&root));
        drop(SignedPolicy::verify(&policy, &[&policy]));
    }

    /// A field of a good bundle replaced by anything.
    #[test]
    fn bundles_of_any_shape_are_refused_or_say_the_same(
        pointer in prop::sample::select(vec![
            "/mediaType", "/verificationMaterial", "/verificationMaterial/certificate",
            "/verificationMaterial/tlogEntries", "/verificationMaterial/tlogEntries/0",
            "/verificationMaterial/tlogEntries/0/inclusionProof",
            "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint",
            "/verificationMaterial/tlogEntries/0/canonicalizedBody",
            "/verificationMaterial/timestampVerificationData",
            "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0",
            "/dsseEnvelope", "/dsseEnvelope/payload", "/dsseEnvelope/signatures",
        ]),
        value in any_json(),
    ) {
        let made = &*MADE;
        let mut bundle = made.bundle.clone();
        *bundle.pointer_mut(pointer).unwrap() = value;
        if let Ok(said) = check(&made.references, bundle.to_string().as_bytes()) {
            made.assert_same(&said);
        }
    }

    /// Blobs of any shape behind the right digests.
    #[test]
    fn layouts_of_any_shape_are_survived(index in any_json(), manifest in any_json()) {
        let bytes = manifest.to_string().into_bytes();
        let digest = BlobDigest::new(sha256(&bytes));
        let blobs = |asked: &BlobDigest| (*asked == digest).then_some(Cow::Borrowed(bytes.as_slice()));
        let index = index.to_string();
        let layout = Layout { index: index.as_bytes(), blobs: &blobs };
        prop_assert!(read(&layout, digest, &platform(), Depth::Layers).is_err());
    }

    #[test]
    fn signed_statements_of_any_shape_are_survived(payload in any_json(), predicate in any_json()) {
        let made = &*MADE;
        let mut statement = crate::forge::provenance();
        statement["predicate"] = predicate;
        for statement in [payload, statement] {
            let script = Script { statement: Some(statement), ..Script::default() };
            let bundle = forge(&made.deployment, &script).to_string();
            let evidence = attest_code::CodeEvidence {
                about: attest_code::CodeDigest::Sha256(sha256(ARTIFACT)),
                form: attest_code::Form::Bundle(bundle.into_bytes()),
            };
            let running = attest_code::Running { digests: vec![evidence.about] };
            let verdict = attest_code::judge(&running, &[evidence], &made.ruled, NOW);
            prop_assert!(verdict.facts.is_empty());
        }
    }
}
