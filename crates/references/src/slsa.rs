//! Provenance: a DSSE envelope that is signed by a key we were given, and the subjects of the in-toto
//! statement in it (DSSE 1.0.2; in-toto Attestation Framework 1.0; SLSA 1.0).
//!
//! Keyless signatures are judged in `attest-code`; this is for builders whose key is known.

use crate::Digest;
use crypto::PublicKey;
use facts::Finding;
use serde::Deserialize;
use std::collections::BTreeMap;

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENTS: [&str; 2] = [
    "https://in-toto.io/Statement/v1",
    "https://in-toto.io/Statement/v0.1",
];
const LARGEST: usize = 16 * 1024 * 1024;
const MOST_SUBJECTS: usize = 10_000;

/// What a builder said, once it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Names and digests of what was built.
    pub subjects: Vec<(String, Digest)>,
    pub predicate_type: String,
    /// Who says to have built it, in a SLSA provenance.
    pub builder: Option<String>,
    /// SHA-256 of the key's SPKI.
    pub key: Digest,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_type: String,
    payload: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawStatement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    #[serde(default)]
    predicate: serde_json::Value,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

fn refused(what: impl Into<String>) -> Finding {
    Finding::new("REF-SLSA", "the provenance cannot be read")
        .expected("a DSSE envelope with an in-toto statement whose subjects have SHA-256 digests")
        .observed(what)
        .next("fetch the provenance of the build again")
}

/// Checks an envelope against `keys` and reads its statement.
///
/// # Errors
/// `REF-SLSA`, `REF-SLSA-SIGNATURE`.
pub fn verify(envelope: &[u8], keys: &[PublicKey]) -> Result<Statement, Finding> {
    if envelope.len() > LARGEST {
        return Err(refused("more than 16 MiB"));
    }
    let envelope: Envelope =
        serde_json::from_slice(envelope).map_err(|error| refused(error.to_string()))?;
    let base64 =
        |text: &str| crypto::base64::decode(text).map_err(|error| refused(error.to_string()));
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(refused(format!(
            "the payload type {:?}",
            envelope.payload_type
        )));
    }
    let payload = base64(&envelope.payload)?;
    let signed = pre_authentication(&envelope.payload_type, &payload);
    for signature in &envelope.signatures {
        let signature = base64(&signature.sig)?;
        let key = keys
            .iter()
            .find(|key| key.verify(&signed, &signature).is_ok());
        if let Some(key) = key {
            return statement(&payload, Digest(key.spki_sha256()));
        }
    }
    Err(Finding::new(
        "REF-SLSA-SIGNATURE",
        "nobody who is trusted signed this provenance",
    )
    .expected(format!("a signature by one of {} keys", keys.len()))
    .observed(format!(
        "{} signatures by others",
        envelope.signatures.len()
    ))
    .next("give the builder's public key with --key"))
}

/// `DSSEv1 LEN(type) type LEN(payload) payload`
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

fn statement(payload: &[u8], key: Digest) -> Result<Statement, Finding> {
    let raw: RawStatement =
        serde_json::from_slice(payload).map_err(|error| refused(error.to_string()))?;
    if !STATEMENTS.contains(&raw.kind.as_str()) {
        return Err(refused(format!("a statement of type {:?}", raw.kind)));
    }
    if raw.subject.is_empty() || raw.subject.len() > MOST_SUBJECTS {
        return Err(refused(format!("{} subjects", raw.subject.len())));
    }
    let subjects = raw
        .subject
        .into_iter()
        .map(|subject| {
            let sha256 = subject
                .digest
                .get("sha256")
                .and_then(|hex| hex.parse().ok());
            let missing = || refused(format!("the subject {:?} without SHA-256", subject.name));
            Ok((subject.name.clone(), sha256.ok_or_else(missing)?))
        })
        .collect::<Result<_, _>>()?;
    // Version 1 and version 0.2 of the provenance predicate.
    let builder = ["/runDetails/builder/id", "/builder/id"]
        .iter()
        .find_map(|place| raw.predicate.pointer(place)?.as_str());
    Ok(Statement {
        subjects,
        predicate_type: raw.predicate_type,
        builder: builder.map(str::to_owned),
        key,
    })
}
