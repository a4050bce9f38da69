//! Signatures by a pinned key, without certificate and log: over bytes of code, over cosign's "simple
//! signing" payload for a container image, over a DSSE envelope.

use crate::authority::kind;
use crate::dsse::Envelope;
use crate::signer::{PinnedKey, Signer};
use crate::statement::Statement;
use crate::vouched::nobody;
use crate::{Artifact, CodeReferences, Vouched};
use crypto::chain;
use crypto::chain::Hash;
use facts::Finding;
use serde::Deserialize;

const MAX_SIGNATURE: usize = 2048;
const MAX_PAYLOAD: usize = 64 * 1024;

/// Verifies a detached signature over the code itself, as `cosign sign-blob --key` makes it once its base64
/// is taken off: ECDSA and RSA (PKCS #1 v1.5) over SHA-256, P-384 over SHA-384, Ed25519 over the bytes.
///
/// # Errors
/// `CODE-SIGNATURE`, `CODE-SIGNER-NONE`.
pub fn verify_blob(
    signature: &[u8],
    artifact: &Artifact<'_>,
    references: &CodeReferences,
) -> Result<Vouched, Finding> {
    let (signer, key) = find(references, |key| signed_blob(key, artifact, signature))?;
    Ok(Vouched::by_key(signer, key, None, None))
}

/// Verifies cosign's signature of a container image: the payload names the image's manifest by digest.
///
/// # Errors
/// `CODE-SIGNATURE`, `CODE-SIGNER-NONE`, `IMAGE-PAYLOAD`.
pub fn verify_simple_signing(
    payload: &[u8],
    signature: &[u8],
    manifest: &[u8; 32],
    references: &CodeReferences,
) -> Result<Vouched, Finding> {
    if payload.len() > MAX_PAYLOAD {
        return Err(payload_is_not("a payload of at most 65536 bytes"));
    }
    let signed = Artifact::of_bytes(payload);
    let (signer, key) = find(references, |key| signed_blob(key, &signed, signature))?;
    let payload: Payload = serde_json::from_slice(payload)
        .map_err(|error| payload_is_not("JSON with critical.image").observed(error.to_string()))?;
    let critical = payload.critical;
    let known = [
        "cosign container image signature",
        "atomic container signature",
    ];
    if !known.contains(&critical.kind.as_str()) {
        return Err(payload_is_not(known[0]).observed(format!("{:?}", critical.kind)));
    }
    let expected = format!("sha256:{}", crypto::hex::encode(manifest));
    if critical.image.digest != expected {
        return Err(payload_is_not(&expected).observed(format!("{:?}", critical.image.digest)));
    }
    Ok(Vouched::by_key(signer, key, None, None).of_name(critical.identity.name))
}

/// Verifies an envelope with an in-toto statement about `artifact`.
///
/// # Errors
/// `DSSE-STRUCTURE`, `CODE-SIGNATURE`, `CODE-SIGNER-NONE`, `STATEMENT-…`.
pub fn verify_envelope(
    envelope: &[u8],
    artifact: &Artifact<'_>,
    references: &CodeReferences,
) -> Result<Vouched, Finding> {
    let envelope = Envelope::parse(envelope)?;
    let (signer, key) = find(references, |key| envelope.signed_by(&key.key).is_ok())?;
    let statement = Statement::parse(envelope.payload_type(), envelope.payload(), artifact)?;
    Ok(Vouched::by_key(signer, key, Some(statement), None))
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    #[serde(default)]
    identity: Named,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Default, Deserialize)]
struct Named {
    #[serde(rename = "docker-reference")]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The first signer whose key made the signature. Keys whose signatures have to be logged do not count here:
/// there is no log to look at.
fn find(
    references: &CodeReferences,
    signed: impl Fn(&PinnedKey) -> bool,
) -> Result<(&Signer, &PinnedKey), Finding> {
    let keys: Vec<_> = references
        .pinned_keys()
        .filter(|(_, key, _)| key.root.is_none())
        .map(|(signer, key, _)| (signer, key))
        .collect();
    if keys.is_empty() {
        return Err(nobody());
    }
    let labels: Vec<&str> = keys.iter().map(|(signer, _)| signer.label()).collect();
    let expected = format!("a signature by {}", labels.join(" or "));
    keys.into_iter()
        .find(|(_, key)| signed(key))
        .ok_or_else(|| {
            Finding::new(
                "CODE-SIGNATURE",
                "no key of the references made the signature over this",
            )
            .expected(expected)
            .next("attach the signature that was made for this build")
        })
}

fn signed_blob(pinned: &PinnedKey, artifact: &Artifact<'_>, signature: &[u8]) -> bool {
    let key = &pinned.key;
    if signature.len() > MAX_SIGNATURE {
        return false;
    }
    let Some(kind) = kind(key) else {
        return artifact
            .bytes()
            .is_some_and(|bytes| key.verify(bytes, signature).is_ok());
    };
    let hash = if kind == chain::Kind::P384 {
        Hash::Sha384
    } else {
        Hash::Sha256
    };
    artifact.digest(hash).is_some_and(|digest| {
        chain::verify_digest(kind, hash, key.raw(), &digest, signature).is_ok()
    })
}

fn payload_is_not(expected: &str) -> Finding {
    Finding::new("IMAGE-PAYLOAD", "what was signed does not name this image")
        .expected(expected)
        .next("attach the signature that was made for this image")
}
