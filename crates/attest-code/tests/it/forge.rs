//! A Sigstore deployment that lies as told: its own certificate authority, certificate log, signature logs and
//! timestamp authority, all of software keys. What no real deployment would say can be said with it, one lie
//! at a time; the default tells the truth.
//!
//! The benchmark uses it too, so it stands on its own.

#[path = "forge/certificate.rs"]
pub(crate) mod certificate;
#[path = "forge/der.rs"]
pub(crate) mod der;
#[path = "forge/log.rs"]
pub(crate) mod log;
#[path = "forge/stamp.rs"]
pub(crate) mod stamp;

use attest_code::TrustedRoot;
use certificate::{Issuer, LeafScript};
use crypto::{Algorithm, KeyPair, Signer as _, base64, sha256};
use facts::Timestamp;
use log::{EntryScript, TransparencyLog};
use serde_json::{Value, json};
use stamp::{StampScript, Stamper};

/// When the forged signatures are made.
pub(crate) const THEN: Timestamp = Timestamp::from_secs(1_760_000_000);
/// When they are looked at, a month later: leaves have long expired.
pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_762_600_000);
pub(crate) const WORKFLOW: &str =
    "https://github.com/acme/payments/.github/workflows/release.yml@refs/tags/v1.4.2";
pub(crate) const GITHUB: &str = "https://token.actions.githubusercontent.com";
pub(crate) const ARTIFACT: &[u8] = b"#!/bin/true\nthe code that runs\n";
pub(crate) const COMMIT: &str = "8f70009fde0c94ade6ce2a054b94718c819126ec";
pub(crate) const BUILDER: &str =
    "https://github.com/acme/builders/.github/workflows/build.yml@refs/tags/v2";
pub(crate) const BUILD_TYPE: &str = "https://actions.github.io/buildtypes/workflow/v1";

/// The keys of a deployment.
pub(crate) struct Deployment {
    pub(crate) authority: Issuer,
    pub(crate) certificate_log: KeyPair,
    pub(crate) log: TransparencyLog,
    /// A log of the second generation: Ed25519, no promises.
    pub(crate) second_log: TransparencyLog,
    pub(crate) stamper: Stamper,
    /// Somebody who is in no trusted root.
    pub(crate) stranger: Issuer,
}

pub(crate) fn key(algorithm: Algorithm) -> KeyPair {
    KeyPair::generate(algorithm).unwrap()
}

impl Deployment {
    pub(crate) fn new() -> Self {
        Self {
            authority: Issuer::new("forged.test", &["code"]),
            certificate_log: key(Algorithm::EcdsaP256),
            log: TransparencyLog::first("rekor.forged.test"),
            second_log: TransparencyLog::second("log2.forged.test"),
            stamper: Stamper::new("time.forged.test"),
            stranger: Issuer::new("forged.test", &["code"]),
        }
    }

    /// The trusted root as the deployment would publish it.
    pub(crate) fn root_json(&self) -> Value {
        let since = json!({"start": "2025-01-01T00:00:00Z"});
        let chain = |chain: &[Vec<u8>]| {
            let certificates: Vec<Value> = chain
                .iter()
                .map(|der| json!({"rawBytes": base64::encode(der)}))
                .collect();
            json!({"certificates": certificates})
        };
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [self.log.entry(&since), self.second_log.entry(&since)],
            "ctlogs": [{
                "baseUrl": "https://ct.forged.test",
                "hashAlgorithm": "SHA2_256",
                "publicKey": {
                    "rawBytes": base64::encode(self.certificate_log.public_key().spki_der()),
                    "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                    "validFor": since,
                },
                "logId": {"keyId": base64::encode(&sha256(self.certificate_log.public_key().spki_der()))},
            }],
            "certificateAuthorities": [{
                "subject": {"organization": "forged.test", "commonName": "forged.test"},
                "uri": "https://ca.forged.test",
                "certChain": chain(&self.authority.chain),
                "validFor": since,
            }],
            "timestampAuthorities": [{
                "subject": {"organization": "time.forged.test", "commonName": "time.forged.test"},
                "uri": "https://time.forged.test",
                "certChain": chain(&self.stamper.chain()),
                "validFor": since,
            }],
        })
    }

    pub(crate) fn root(&self) -> TrustedRoot {
        root_of(&self.root_json())
    }
}

pub(crate) fn root_of(json: &Value) -> TrustedRoot {
    TrustedRoot::parse(json.to_string().as_bytes()).unwrap()
}

/// What is signed, how, and what is said of it.
pub(crate) struct Script {
    pub(crate) leaf: LeafScript,
    /// A statement, or the code itself.
    pub(crate) statement: Option<Value>,
    pub(crate) payload_type: &'static str,
    pub(crate) artifact: Vec<u8>,
    /// The signature is by another key than the leaf's.
    pub(crate) signed_by_another: bool,
    pub(crate) entries: Vec<EntryScript>,
    pub(crate) stamps: Vec<StampScript>,
    /// The signer holds this key and no certificate.
    pub(crate) key: Option<KeyPair>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            leaf: LeafScript::default(),
            statement: None,
            payload_type: "application/vnd.in-toto+json",
            artifact: ARTIFACT.to_vec(),
            signed_by_another: false,
            entries: vec![EntryScript::default()],
            stamps: Vec::new(),
            key: None,
        }
    }
}

impl Script {
    pub(crate) fn of_provenance() -> Self {
        Self {
            statement: Some(provenance()),
            ..Self::default()
        }
    }
}

/// SLSA v1 as GitHub's builders write it.
pub(crate) fn provenance() -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{
            "name": "payments",
            "digest": {"sha256": crypto::hex::encode(&sha256(ARTIFACT))},
        }],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"workflow": {
                    "ref": "refs/tags/v1.4.2",
                    "repository": "https://github.com/acme/payments",
                    "path": ".github/workflows/release.yml",
                }},
                "resolvedDependencies": [{
                    "uri": "git+https://github.com/acme/payments@refs/tags/v1.4.2",
                    "digest": {"gitCommit": COMMIT},
                }],
            },
            "runDetails": {"builder": {"id": BUILDER}},
        },
    })
}

/// What one signature is: enough to write log entries and timestamps about it.
pub(crate) struct Signed {
    pub(crate) signature: Vec<u8>,
    /// DER of the leaf, or of the key's SPKI.
    pub(crate) signer: Vec<u8>,
    pub(crate) is_certificate: bool,
    pub(crate) artifact_sha256: [u8; 32],
    /// Payload and what was signed of it.
    pub(crate) envelope: Option<(String, Vec<u8>, Vec<u8>)>,
}

/// A bundle of version 0.3.
pub(crate) fn forge(deployment: &Deployment, script: &Script) -> Value {
    let ephemeral = key(script.leaf.algorithm);
    let signer = script.key.as_ref().unwrap_or(&ephemeral);
    let another = key(script.leaf.algorithm);
    let signing = if script.signed_by_another {
        &another
    } else {
        signer
    };
    let leaf = certificate::leaf(deployment, &script.leaf, signer);
    let envelope = script.statement.as_ref().map(|statement| {
        let payload = statement.to_string().into_bytes();
        let signed = pae(script.payload_type, &payload);
        (script.payload_type.to_owned(), payload, signed)
    });
    let message = envelope
        .as_ref()
        .map_or(script.artifact.as_slice(), |(_, _, signed)| signed);
    let signed = Signed {
        signature: signing.sign(message).unwrap(),
        signer: match &script.key {
            Some(key) => key.public_key().spki_der().to_vec(),
            None => leaf.clone(),
        },
        is_certificate: script.key.is_none(),
        artifact_sha256: sha256(&script.artifact),
        envelope,
    };
    let material = match &script.key {
        Some(_) => json!({"publicKey": {"hint": "forged"}}),
        None => json!({"certificate": {"rawBytes": base64::encode(&leaf)}}),
    };
    let mut bundle = json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material,
    });
    let entries: Vec<Value> = script
        .entries
        .iter()
        .map(|entry| log::forge(deployment, entry, &signed))
        .collect();
    let stamps: Vec<Value> = script
        .stamps
        .iter()
        .map(|stamp| {
            let response = stamp::forge(deployment, stamp, &signed.signature);
            json!({"signedTimestamp": base64::encode(&response)})
        })
        .collect();
    bundle["verificationMaterial"]["tlogEntries"] = json!(entries);
    bundle["verificationMaterial"]["timestampVerificationData"] =
        json!({"rfc3161Timestamps": stamps});
    match &signed.envelope {
        Some((kind, payload, _)) => {
            bundle["dsseEnvelope"] = json!({
                "payloadType": kind,
                "payload": base64::encode(payload),
                "signatures": [{"sig": base64::encode(&signed.signature), "keyid": ""}],
            });
        }
        None => {
            bundle["messageSignature"] = json!({
                "messageDigest": {
                    "algorithm": "SHA2_256",
                    "digest": base64::encode(&signed.artifact_sha256),
                },
                "signature": base64::encode(&signed.signature),
            });
        }
    }
    bundle
}

pub(crate) fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    [head.as_bytes(), payload].concat()
}
