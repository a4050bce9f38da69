//! A Sigstore bundle of version 0.1, 0.2 or 0.3, read and not verified: what stands in it is what somebody
//! claims.
//!
//! The format is `dev.sigstore.bundle.v1.Bundle` of Sigstore's protobuf specifications.

use crate::dsse::Envelope;
use crate::json::{Base64, Hash, Number};
use crypto::chain;
use facts::{Finding, Timestamp};
use serde::Deserialize;

/// The longest seen, npm's provenance, has 11 KiB.
pub const MAX_BUNDLE: usize = 4 * 1024 * 1024;
const MAX_ENTRIES: usize = 8;
const MAX_TIMESTAMPS: usize = 8;
const MAX_PROOF: usize = 64;
/// A signature, or an entry of a log beside what it signs.
const MAX_SIGNATURE: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    V01OrV02,
    V03,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    /// Who signed, where the bundle says so by certificate; a key is named by the caller's references.
    pub(super) certificate: Option<Vec<u8>>,
    pub(super) entries: Vec<Entry>,
    pub(super) timestamps: Vec<Vec<u8>>,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Message {
        hash: chain::Hash,
        digest: Vec<u8>,
        signature: Vec<u8>,
    },
    /// With exactly one signature.
    Envelope(Envelope),
}

impl Content {
    /// The one signature.
    pub(super) fn signature(&self) -> &[u8] {
        match self {
            Self::Message { signature, .. } => signature,
            Self::Envelope(envelope) => envelope.signature(),
        }
    }
}

/// An entry of a transparency log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) log: [u8; 32],
    /// Position in the whole log, which the promise is about.
    pub(super) index: u64,
    pub(super) kind: String,
    pub(super) version: String,
    /// When the log says that it took it in. Worth something only under a promise.
    pub(super) integrated: Option<Timestamp>,
    /// Signed entry timestamp.
    pub(super) promise: Option<Vec<u8>>,
    pub(super) proof: Option<Proof>,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    /// Position in the tree that the checkpoint is of, which may be one shard of the log.
    pub(super) index: u64,
    pub(super) size: u64,
    pub(super) root: [u8; 32],
    pub(super) hashes: Vec<[u8; 32]>,
    pub(super) checkpoint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: String,
    verification_material: Material,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<RawBytes>,
    x509_certificate_chain: Option<Certificates>,
    public_key: Option<KeyHint>,
    #[serde(default)]
    tlog_entries: Vec<LogEntry>,
    timestamp_verification_data: Option<Timestamps>,
}

/// Which key is meant is for the caller's references to say.
#[derive(Deserialize)]
struct KeyHint {}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBytes {
    raw_bytes: Base64,
}

#[derive(Deserialize)]
struct Certificates {
    certificates: Vec<RawBytes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Timestamps {
    #[serde(default)]
    rfc3161_timestamps: Vec<SignedTimestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignedTimestamp {
    signed_timestamp: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageSignature {
    message_digest: MessageDigest,
    signature: Base64,
}

#[derive(Deserialize)]
struct MessageDigest {
    algorithm: String,
    digest: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEntry {
    log_index: Number,
    log_id: LogId,
    kind_version: KindVersion,
    #[serde(default)]
    integrated_time: Number,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Option<InclusionProof>,
    canonicalized_body: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: Hash,
}

#[derive(Deserialize)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Promise {
    signed_entry_timestamp: Base64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InclusionProof {
    #[serde(default)]
    log_index: Number,
    root_hash: Hash,
    tree_size: Number,
    #[serde(default)]
    hashes: Vec<Hash>,
    checkpoint: Option<CheckpointText>,
}

#[derive(Deserialize)]
struct CheckpointText {
    envelope: String,
}

impl Bundle {
    /// # Errors
    /// `SIGSTORE-BUNDLE-STRUCTURE`, `-VERSION`, `-SIGNATURES`, `-KEY`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        if bytes.len() > MAX_BUNDLE {
            return Err(malformed(format!("{} bytes", bytes.len()))
                .expected(format!("at most {MAX_BUNDLE} bytes")));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        let version = version(&document.media_type)?;
        let material = document.verification_material;
        if material.tlog_entries.len() > MAX_ENTRIES {
            return Err(malformed(format!(
                "{} log entries",
                material.tlog_entries.len()
            )));
        }
        let timestamps = material
            .timestamp_verification_data
            .map_or_else(Vec::new, |data| data.rfc3161_timestamps);
        if timestamps.len() > MAX_TIMESTAMPS {
            return Err(malformed(format!("{} timestamps", timestamps.len())));
        }
        Ok(Self {
            certificate: signer(
                version,
                material.certificate,
                material.x509_certificate_chain,
                material.public_key,
            )?,
            entries: material
                .tlog_entries
                .into_iter()
                .map(Entry::of)
                .collect::<Result<_, _>>()?,
            timestamps: timestamps
                .into_iter()
                .map(|one| one.signed_timestamp.0)
                .collect(),
            content: content(document.message_signature, document.dsse_envelope)?,
        })
    }
}

fn version(media_type: &str) -> Result<Version, Finding> {
    match media_type {
        "application/vnd.dev.sigstore.bundle+json;version=0.1"
        | "application/vnd.dev.sigstore.bundle.v0.1+json"
        | "application/vnd.dev.sigstore.bundle+json;version=0.2"
        | "application/vnd.dev.sigstore.bundle.v0.2+json" => Ok(Version::V01OrV02),
        "application/vnd.dev.sigstore.bundle+json;version=0.3"
        | "application/vnd.dev.sigstore.bundle.v0.3+json" => Ok(Version::V03),
        other => Err(Finding::new(
            "SIGSTORE-BUNDLE-VERSION",
            "not a Sigstore bundle of a version that is read here",
        )
        .expected("application/vnd.dev.sigstore.bundle.v0.3+json, or version 0.1 or 0.2")
        .observed(other.chars().take(128).collect::<String>())),
    }
}

/// The signer's certificate. Certificates above it are the trusted root's business and are not read.
fn signer(
    version: Version,
    certificate: Option<RawBytes>,
    chain: Option<Certificates>,
    key: Option<KeyHint>,
) -> Result<Option<Vec<u8>>, Finding> {
    match (certificate, chain, key) {
        (Some(one), None, None) => Ok(Some(one.raw_bytes.0)),
        // "In a version 0.3 bundle … verification materials MUST be a single certificate."
        (None, Some(chain), None) if version != Version::V03 => chain
            .certificates
            .into_iter()
            .next()
            .map(|leaf| Some(leaf.raw_bytes.0))
            .ok_or_else(|| malformed("an empty chain of certificates".to_owned())),
        (None, Some(_), None) => Err(malformed("a chain in a bundle of version 0.3".to_owned())),
        (None, None, Some(KeyHint {})) => Ok(None),
        (None, None, None) => Err(malformed("neither certificate nor key".to_owned())),
        _ => Err(malformed("more than one kind of signer".to_owned())),
    }
}

fn content(
    message: Option<MessageSignature>,
    envelope: Option<Envelope>,
) -> Result<Content, Finding> {
    match (message, envelope) {
        (Some(message), None) => {
            let hash = match message.message_digest.algorithm.as_str() {
                "SHA2_256" => chain::Hash::Sha256,
                "SHA2_384" => chain::Hash::Sha384,
                "SHA2_512" => chain::Hash::Sha512,
                _ => return Err(malformed("a digest that is not SHA-2".to_owned())),
            };
            Ok(Content::Message {
                hash,
                digest: message.message_digest.digest.0,
                signature: message.signature.0,
            })
        }
        (None, Some(envelope)) if envelope.signatures().len() == 1 => {
            Ok(Content::Envelope(envelope))
        }
        // Which of them the log entry, the timestamp and the certificate are about would be anybody's guess.
        (None, Some(envelope)) => Err(Finding::new(
            "SIGSTORE-BUNDLE-SIGNATURES",
            "a bundle's envelope has exactly one signature",
        )
        .expected("1 signature")
        .observed(envelope.signatures().len().to_string())),
        (None, None) => Err(malformed(
            "neither message signature nor envelope".to_owned(),
        )),
        (Some(_), Some(_)) => Err(malformed("message signature and envelope".to_owned())),
    }
    .and_then(|content| {
        if content.signature().len() > MAX_SIGNATURE {
            return Err(malformed("a signature longer than any in use".to_owned()));
        }
        Ok(content)
    })
}

impl Entry {
    /// Kinds of entries that logs of the second generation (Rekor v2) write, and no others.
    pub(super) fn is_of_one_tree(&self) -> bool {
        matches!(self.kind.as_str(), "hashedrekord" | "dsse") && self.version == "0.0.2"
    }

    fn of(entry: LogEntry) -> Result<Self, Finding> {
        if entry
            .inclusion_proof
            .as_ref()
            .is_some_and(|proof| proof.hashes.len() > MAX_PROOF)
        {
            return Err(malformed(format!(
                "a proof of more than {MAX_PROOF} hashes"
            )));
        }
        // Zero is how protobuf writes that there is none; no log took anything in in 1970.
        let integrated = Some(entry.integrated_time.0)
            .filter(|seconds| *seconds > 0)
            .map(Timestamp::from_secs);
        Ok(Self {
            log: entry.log_id.key_id.0,
            index: entry.log_index.0,
            kind: entry.kind_version.kind,
            version: entry.kind_version.version,
            integrated,
            promise: entry
                .inclusion_promise
                .map(|promise| promise.signed_entry_timestamp.0),
            proof: entry.inclusion_proof.map(|proof| Proof {
                index: proof.log_index.0,
                size: proof.tree_size.0,
                root: proof.root_hash.0,
                hashes: proof.hashes.into_iter().map(|hash| hash.0).collect(),
                checkpoint: proof.checkpoint.map(|checkpoint| checkpoint.envelope),
            }),
            body: entry.canonicalized_body.0,
        })
    }
}

fn malformed(observed: String) -> Finding {
    Finding::new("SIGSTORE-BUNDLE-STRUCTURE", "the bundle cannot be read")
        .expected("a Sigstore bundle in JSON")
        .observed(observed)
}
