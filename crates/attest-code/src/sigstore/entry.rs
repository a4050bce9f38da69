//! What a log's entry says was signed, by whom. It has to be this signature, of this signer, over this
//! content: else an entry of another artefact would do (CVE-2022-36056).

use super::bundle::{Content, Entry};
use crate::dsse::Envelope;
use crate::pem;
use crypto::PublicKey;
use crypto::chain::Hash;
use facts::Finding;
use serde_json::Value;

/// Who signed.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    /// DER.
    Certificate(&'a [u8]),
    Key(&'a PublicKey),
}

impl By<'_> {
    fn der(&self) -> &[u8] {
        match self {
            Self::Certificate(der) => der,
            Self::Key(key) => key.spki_der(),
        }
    }

    /// Base64 of PEM.
    fn is_pem_at(&self, value: &Value, pointer: &str) -> bool {
        let label = match self {
            Self::Certificate(_) => "CERTIFICATE",
            Self::Key(_) => "PUBLIC KEY",
        };
        bytes(value, pointer)
            .and_then(|text| String::from_utf8(text).ok())
            .and_then(|text| pem::decode(label, &text))
            .is_some_and(|der| der == self.der())
    }

    /// `{ "x509Certificate": { "rawBytes": … } }` or `{ "publicKey": { "rawBytes": … } }`.
    fn is_verifier_at(&self, value: &Value, pointer: &str) -> bool {
        let field = match self {
            Self::Certificate(_) => "/x509Certificate/rawBytes",
            Self::Key(_) => "/publicKey/rawBytes",
        };
        value
            .pointer(pointer)
            .and_then(|verifier| bytes(verifier, field))
            .is_some_and(|der| der == self.der())
    }
}

/// Checks the body of an entry.
///
/// # Errors
/// `SIGSTORE-LOG-BODY`, with the part that differs.
pub(super) fn check(entry: &Entry, content: &Content, by: By<'_>) -> Result<(), Finding> {
    let body: Value = serde_json::from_slice(&entry.body)
        .map_err(|error| differs(&format!("no JSON: {error}")))?;
    let is = |pointer: &str, expected: &str| {
        body.pointer(pointer).and_then(Value::as_str) == Some(expected)
    };
    if !is("/kind", &entry.kind) || !is("/apiVersion", &entry.version) {
        return Err(differs("another kind or version than the bundle says"));
    }
    let spec = body.get("spec").unwrap_or(&Value::Null);
    match (entry.kind.as_str(), entry.version.as_str(), content) {
        ("hashedrekord", "0.0.1", _) => hashed_1(spec, content, by),
        ("hashedrekord", "0.0.2", _) => hashed_2(spec, content, by),
        ("dsse", "0.0.1", Content::Envelope(envelope)) => dsse_1(spec, envelope, by),
        ("dsse", "0.0.2", Content::Envelope(envelope)) => dsse_2(spec, envelope, by),
        ("intoto", "0.0.2", Content::Envelope(envelope)) => intoto_2(spec, envelope, by),
        _ => Err("a kind of entry that does not say what was signed"),
    }
    .map_err(differs)
}

fn differs(problem: &str) -> Finding {
    Finding::new(
        "SIGSTORE-LOG-BODY",
        "the log's entry is of another signature than the bundle's",
    )
    .expected("an entry of this signer, this signature and what was signed")
    .observed(problem)
}

type Same = Result<(), &'static str>;

/// One of the three parts that have to be the same.
fn same(holds: bool, otherwise: &'static str) -> Same {
    if holds { Ok(()) } else { Err(otherwise) }
}

const DIGEST: &str = "another digest of what was signed";
const SIGNATURE: &str = "another signature";
const SIGNER: &str = "another signer";

/// What was signed, by the hash that the entry uses, if that is known.
fn digest(content: &Content, hash: Hash) -> Option<Vec<u8>> {
    match content {
        Content::Message {
            hash: signed,
            digest,
            ..
        } => (*signed == hash).then(|| digest.clone()),
        Content::Envelope(envelope) => Some(hash.digest(&envelope.signed_bytes())),
    }
}

fn hashed_1(spec: &Value, content: &Content, by: By<'_>) -> Same {
    let hash = match text(spec, "/data/hash/algorithm") {
        Some("sha256") => Hash::Sha256,
        Some("sha384") => Hash::Sha384,
        Some("sha512") => Hash::Sha512,
        _ => return Err(DIGEST),
    };
    let logged = text(spec, "/data/hash/value").and_then(|value| crypto::hex::decode(value).ok());
    same(logged.is_some() && logged == digest(content, hash), DIGEST)?;
    same(
        is_signature(spec, "/signature/content", content.signature()),
        SIGNATURE,
    )?;
    same(by.is_pem_at(spec, "/signature/publicKey/content"), SIGNER)
}

fn hashed_2(spec: &Value, content: &Content, by: By<'_>) -> Same {
    let spec = spec.get("hashedRekordV002").unwrap_or(&Value::Null);
    let hash = match text(spec, "/data/algorithm") {
        Some("SHA2_256") => Hash::Sha256,
        Some("SHA2_384") => Hash::Sha384,
        Some("SHA2_512") => Hash::Sha512,
        _ => return Err(DIGEST),
    };
    let logged = bytes(spec, "/data/digest");
    same(logged.is_some() && logged == digest(content, hash), DIGEST)?;
    same(
        is_signature(spec, "/signature/content", content.signature()),
        SIGNATURE,
    )?;
    same(by.is_verifier_at(spec, "/signature/verifier"), SIGNER)
}

fn dsse_1(spec: &Value, envelope: &Envelope, by: By<'_>) -> Same {
    let logged = payload_hash(spec, "/payloadHash");
    same(
        logged == Some(crypto::sha256(envelope.payload()).to_vec()),
        DIGEST,
    )?;
    let logged = only(spec, "/signatures").ok_or(SIGNATURE)?;
    same(
        is_signature(logged, "/signature", envelope.signature()),
        SIGNATURE,
    )?;
    same(by.is_pem_at(logged, "/verifier"), SIGNER)
}

fn dsse_2(spec: &Value, envelope: &Envelope, by: By<'_>) -> Same {
    let spec = spec.get("dsseV002").unwrap_or(&Value::Null);
    let logged = bytes(spec, "/payloadHash/digest")
        .filter(|_| text(spec, "/payloadHash/algorithm") == Some("SHA2_256"));
    same(
        logged == Some(crypto::sha256(envelope.payload()).to_vec()),
        DIGEST,
    )?;
    let logged = only(spec, "/signatures").ok_or(SIGNATURE)?;
    same(
        is_signature(logged, "/content", envelope.signature()),
        SIGNATURE,
    )?;
    same(by.is_verifier_at(logged, "/verifier"), SIGNER)
}

/// Here the signature is base64 of base64, as clients sent it.
fn intoto_2(spec: &Value, envelope: &Envelope, by: By<'_>) -> Same {
    let logged = payload_hash(spec, "/content/payloadHash");
    same(
        logged == Some(crypto::sha256(envelope.payload()).to_vec()),
        DIGEST,
    )?;
    let logged = text(spec, "/content/envelope/payloadType");
    same(logged == Some(envelope.payload_type()), DIGEST)?;
    let logged = only(spec, "/content/envelope/signatures").ok_or(SIGNATURE)?;
    let signature = bytes(logged, "/sig")
        .and_then(|outer| String::from_utf8(outer).ok())
        .and_then(|inner| crypto::base64::decode(&inner).ok());
    same(
        signature.as_deref() == Some(envelope.signature()),
        SIGNATURE,
    )?;
    same(by.is_pem_at(logged, "/publicKey"), SIGNER)
}

fn payload_hash(spec: &Value, pointer: &str) -> Option<Vec<u8>> {
    let hash = spec.pointer(pointer)?;
    let value = text(hash, "/value").filter(|_| text(hash, "/algorithm") == Some("sha256"))?;
    crypto::hex::decode(value).ok()
}

fn is_signature(value: &Value, pointer: &str, signature: &[u8]) -> bool {
    bytes(value, pointer).as_deref() == Some(signature)
}

/// The only element of a list.
fn only<'a>(value: &'a Value, pointer: &str) -> Option<&'a Value> {
    match value.pointer(pointer)?.as_array()?.as_slice() {
        [only] => Some(only),
        _ => None,
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

fn bytes(value: &Value, pointer: &str) -> Option<Vec<u8>> {
    crypto::base64::decode(text(value, pointer)?).ok()
}
