//! Measures the verification of Sigstore bundles on one core: provenance in a DSSE envelope, certificate with
//! SCT, log entry with proof, checkpoint and promise. Beside it, in the same run, the bare signature checks
//! that it cannot do without, and `sigstore-verify` over the same bundle. One JSON object a line; exits 1 when
//! a bundle is not affirmed, or a changed one is. `--quick` measures less.
//!
//! Every verification is of another bundle, over its own code; only the trusted root is loaded beforehand, as
//! a server holds it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a program for people at a terminal, over data that it made itself; the forge tells lies too"
)]

#[path = "../tests/it/forge.rs"]
mod forge;

use attest_code::{Artifact, CodeReferences, Identity, Signer, verify_bundle};
use crypto::chain::{self, Hash, Kind};
use crypto::{Algorithm, KeyPair, Signer as _, sha256};
use forge::{Deployment, GITHUB, NOW, Script, WORKFLOW, key, provenance};
use serde_json::json;
use sigstore_verify::trust_root::TrustedRoot;
use sigstore_verify::types::Bundle;
use sigstore_verify::{VerificationPolicy, Verifier};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;
use testkit::bench::{Plan, row};

const ID: &str = "attest.sigstore_per_s";
const PEER: &str = "attest.sigstore_vs_peer";

/// Different bundles; more would only take longer to make.
const BUNDLES: usize = 64;

struct Signed {
    code: Vec<u8>,
    bundle: String,
}

fn bundles(deployment: &Deployment) -> Vec<Signed> {
    (0..BUNDLES)
        .map(|number| {
            let code = format!("code {number}").into_bytes();
            let mut statement = provenance();
            statement["subject"][0]["digest"]["sha256"] =
                json!(crypto::hex::encode(&sha256(&code)));
            let script = Script {
                statement: Some(statement),
                ..Script::default()
            };
            Signed {
                code,
                bundle: forge::forge(deployment, &script).to_string(),
            }
        })
        .collect()
}

fn references(deployment: &Deployment) -> CodeReferences {
    let roots = BTreeMap::from([("forged".to_owned(), deployment.root())]);
    let identity = Identity::parse(WORKFLOW).unwrap();
    let signer = Signer::keyless("release", "forged", identity, GITHUB).unwrap();
    CodeReferences::new(roots, Vec::new(), vec![signer], Vec::new()).unwrap()
}

/// How often a second `check` is done, over `count` of them; false if one of them is not as it should be.
fn per_second(count: usize, mut check: impl FnMut(usize) -> bool) -> (f64, bool) {
    let mut good = true;
    for at in 0..count / 10 {
        good &= check(at);
    }
    let began = Instant::now();
    for at in 0..count {
        good &= check(at);
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let rate = count as f64 / began.elapsed().as_secs_f64();
    (rate, good)
}

/// The signatures of one bundle: the certificate's by P-384; certificate log, promise, checkpoint and envelope
/// by P-256.
struct Bare {
    authority: KeyPair,
    others: Vec<KeyPair>,
    message: Vec<u8>,
    signatures: Vec<Vec<u8>>,
}

impl Bare {
    fn new() -> Self {
        let authority = key(Algorithm::EcdsaP384);
        let others: Vec<KeyPair> = (0..4).map(|_| key(Algorithm::EcdsaP256)).collect();
        let message = vec![7; 1024];
        let signatures = std::iter::once(&authority)
            .chain(&others)
            .map(|key| key.sign(&message).unwrap())
            .collect();
        Self {
            authority,
            others,
            message,
            signatures,
        }
    }

    fn check(&self) -> bool {
        let authority = self.authority.public_key();
        let (first, rest) = self.signatures.split_first().unwrap();
        let chain = chain::verify(
            Kind::P384,
            Hash::Sha384,
            authority.raw(),
            &self.message,
            first,
        );
        let others = self.others.iter().zip(rest);
        chain.is_ok()
            && others
                .map(|(key, signature)| key.public_key().verify(&self.message, signature))
                .all(|result| result.is_ok())
    }
}

fn main() -> ExitCode {
    let plan = Plan::from_arguments().expect("arguments of the benchmark");
    let count = if plan.quick { 300 } else { 6_000 };
    let deployment = Deployment::new();
    let signed = bundles(&deployment);
    let references = references(&deployment);
    let verified = |signed: &Signed, bundle: &str| {
        let artifact = Artifact::of_bytes(&signed.code);
        verify_bundle(bundle.as_bytes(), &artifact, &references, NOW).is_ok()
    };
    let (ours, mut good) = per_second(count, |at| {
        let one = &signed[at % BUNDLES];
        verified(one, &one.bundle)
    });
    // What was measured is a verification: another code's bundle is refused.
    good &= !verified(&signed[0], &signed[1].bundle);
    if plan.wants(ID) {
        let bare = Bare::new();
        let (raw, checked) = per_second(count, |_| bare.check());
        good &= checked;
        row(
            ID,
            ours,
            "bundles/s",
            Some((raw, "the five signature checks alone")),
        )
        .expect("stdout");
    }
    if plan.wants(ID) || plan.wants(PEER) {
        let root = TrustedRoot::from_json(&deployment.root_json().to_string()).unwrap();
        let verifier = Verifier::new(&root).unwrap();
        let policy = VerificationPolicy::new(WORKFLOW, GITHUB);
        let (theirs, checked) = per_second(count / 4, |at| {
            let one = &signed[at % BUNDLES];
            let bundle = Bundle::from_json(&one.bundle).unwrap();
            verifier.verify(&one.code, &bundle, &policy).is_ok()
        });
        good &= checked;
        row(PEER, ours, "bundles/s", Some((theirs, "sigstore-verify"))).expect("stdout");
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
