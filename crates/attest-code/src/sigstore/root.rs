//! A trusted root: the keys and certificates of one Sigstore deployment, as data. It comes from the estate's
//! references, never from a network, and counts as long as the owner keeps it there.
//!
//! The format is `application/vnd.dev.sigstore.trustedroot+json` of Sigstore's protobuf specifications.

use crate::authority::{Authorities, Purpose, kind};
use crate::certificate::Lifetime;
use crate::json::{Base64, Hash};
use crate::time::rfc3339;
use crypto::chain::{self, Kind};
use crypto::{PublicKey, sha256};
use facts::{Finding, Timestamp};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The public-good root has 7 KiB.
pub const MAX_ROOT: usize = 1024 * 1024;
/// Logs, or authorities, of one kind.
const MAX_ENTRIES: usize = 64;

/// A trusted root, parsed; every chain in it is verified link by link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedRoot {
    pub(super) logs: BTreeMap<[u8; 32], Log>,
    pub(super) certificate_logs: BTreeMap<[u8; 32], CertificateLog>,
    pub(super) certificate_authorities: Vec<Authorities>,
    pub(super) timestamp_authorities: Vec<Authorities>,
}

/// A transparency log of signatures (Rekor).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) key: PublicKey,
    pub(super) window: Lifetime,
}

/// A Certificate Transparency log (RFC 6962).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CertificateLog {
    pub(super) kind: Kind,
    pub(super) key: Vec<u8>,
    pub(super) window: Lifetime,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    media_type: String,
    #[serde(default)]
    tlogs: Vec<LogEntry>,
    #[serde(default)]
    ctlogs: Vec<LogEntry>,
    #[serde(default)]
    certificate_authorities: Vec<AuthorityEntry>,
    #[serde(default)]
    timestamp_authorities: Vec<AuthorityEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogEntry {
    #[serde(default)]
    hash_algorithm: Option<String>,
    public_key: KeyEntry,
    log_id: LogId,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyEntry {
    raw_bytes: Base64,
    valid_for: Period,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    key_id: Hash,
}

#[derive(Deserialize)]
struct Period {
    start: String,
    end: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorityEntry {
    cert_chain: Chain,
    valid_for: Period,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<CertificateEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateEntry {
    raw_bytes: Base64,
}

impl TrustedRoot {
    /// Reads a trusted root.
    ///
    /// # Errors
    /// `SIGSTORE-ROOT-STRUCTURE`, with the part that is wrong: one bad entry refuses the whole, because
    /// an owner should not find out by a refusal which half of a root counts.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        if bytes.len() > MAX_ROOT {
            return Err(unusable(format!("{} bytes", bytes.len()))
                .expected(format!("at most {MAX_ROOT} bytes")));
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|error| unusable(error.to_string()))?;
        let known = [
            "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "application/vnd.dev.sigstore.trustedroot.v0.1+json",
            "application/vnd.dev.sigstore.trustedroot.v0.2+json",
        ];
        if !known.contains(&document.media_type.as_str()) {
            return Err(unusable(format!("media type {:?}", document.media_type))
                .expected("a trusted root of version 0.1 or 0.2"));
        }
        for (what, count) in [
            ("logs", document.tlogs.len()),
            ("certificate logs", document.ctlogs.len()),
            (
                "certificate authorities",
                document.certificate_authorities.len(),
            ),
            (
                "timestamp authorities",
                document.timestamp_authorities.len(),
            ),
        ] {
            if count > MAX_ENTRIES {
                return Err(
                    unusable(format!("{count} {what}")).expected(format!("at most {MAX_ENTRIES}"))
                );
            }
        }
        let mut root = Self {
            logs: BTreeMap::new(),
            certificate_logs: BTreeMap::new(),
            certificate_authorities: authorities(
                &document.certificate_authorities,
                Purpose::CodeSigning,
            )?,
            timestamp_authorities: authorities(
                &document.timestamp_authorities,
                Purpose::TimeStamping,
            )?,
        };
        for entry in &document.tlogs {
            let id = entry.log_id.key_id.0;
            if root.logs.insert(id, Log::of(entry)?).is_some() {
                return Err(twice(&id));
            }
        }
        for entry in &document.ctlogs {
            let id = entry.log_id.key_id.0;
            let log = CertificateLog::of(entry)?;
            if root.certificate_logs.insert(id, log).is_some() {
                return Err(twice(&id));
            }
        }
        Ok(root)
    }
}

impl Log {
    fn of(entry: &LogEntry) -> Result<Self, Finding> {
        if entry
            .hash_algorithm
            .as_deref()
            .is_some_and(|name| name != "SHA2_256")
        {
            return Err(unusable("a log that does not hash with SHA-256".to_owned()));
        }
        let key = PublicKey::from_spki_der(&entry.public_key.raw_bytes.0)
            .map_err(|error| unusable(format!("a log's {error}")))?;
        Ok(Self {
            key,
            window: window(&entry.public_key.valid_for)?,
        })
    }

    /// Whether the log's key made `signature`.
    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify(message, signature).is_ok()
    }
}

impl CertificateLog {
    /// RFC 6962, section 3.2: "The log's ID … is the SHA-256 hash of the log's public key".
    fn of(entry: &LogEntry) -> Result<Self, Finding> {
        let bytes = &entry.public_key.raw_bytes.0;
        if sha256(bytes) != entry.log_id.key_id.0 && PublicKey::from_spki_der(bytes).is_ok() {
            return Err(unusable(
                "a certificate log whose id is not its key's hash".to_owned(),
            ));
        }
        let (kind, key) = match PublicKey::from_spki_der(bytes) {
            Ok(key) => {
                let kind = kind(&key).ok_or_else(|| {
                    unusable("a certificate log with a key that RFC 6962 does not know".to_owned())
                })?;
                (kind, key.raw().to_vec())
            }
            // `PKCS1_RSA_…`: the bare key. Whether it is one shows when it verifies something.
            Err(_) => (Kind::Rsa, bytes.clone()),
        };
        Ok(Self {
            kind,
            key,
            window: window(&entry.public_key.valid_for)?,
        })
    }

    pub(super) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        chain::verify(
            self.kind,
            chain::Hash::Sha256,
            &self.key,
            message,
            signature,
        )
        .is_ok()
    }
}

fn authorities(entries: &[AuthorityEntry], purpose: Purpose) -> Result<Vec<Authorities>, Finding> {
    entries
        .iter()
        .map(|entry| {
            let chain: Vec<Vec<u8>> = entry
                .cert_chain
                .certificates
                .iter()
                .map(|certificate| certificate.raw_bytes.0.clone())
                .collect();
            Authorities::load(&chain, window(&entry.valid_for)?, purpose).map_err(unusable)
        })
        .collect()
}

fn window(period: &Period) -> Result<Lifetime, Finding> {
    let time = |text: &str| -> Result<Timestamp, Finding> {
        rfc3339(text).ok_or_else(|| unusable(format!("the time {text:?}")))
    };
    let window = Lifetime {
        from: time(&period.start)?,
        until: period.end.as_deref().map(time).transpose()?,
    };
    if window.until.is_some_and(|until| until < window.from) {
        return Err(unusable(format!("a validity of {window}")));
    }
    Ok(window)
}

fn twice(id: &[u8; 32]) -> Finding {
    unusable(format!("log {} twice", crypto::hex::encode(id)))
}

fn unusable(observed: String) -> Finding {
    Finding::new(
        "SIGSTORE-ROOT-STRUCTURE",
        "a trusted root of the references cannot be used",
    )
    .observed(observed)
    .next("take the file that the Sigstore deployment publishes, for example by `cosign trusted-root create`")
}
