//! Building a leaf: parameters → [`Tbs`] (has a digest, cannot be signed) → [`ToBeSigned`] (holds the
//! receipt) → certificate. Encoding takes about a microsecond; signing is the caller's.

use super::{Serial, oid, write_time};
use crate::der::{self, BOOLEAN_TRUE, INTEGER, OCTET_STRING, SEQUENCE, Writer, context};
use crate::{IdError, SpiffeId};
use crypto::{Algorithm, PublicKey, Signer};
use facts::Timestamp;
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

/// Why a certificate cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// X509-SVID section 3.1.
    #[error("{0} has no path, and a leaf's SPIFFE ID has one")]
    NoPath(SpiffeId),
    #[error("{0:?} is not a DNS name that may stand in a certificate")]
    DnsName(String),
    #[error("the certificate would end at {not_after}, not after its beginning at {not_before}")]
    Validity {
        not_before: Timestamp,
        not_after: Timestamp,
    },
    #[error("the issuer's certificate {0}")]
    Issuer(&'static str),
    #[error("{0} keys do not sign certificates here")]
    Algorithm(Algorithm),
    #[error("SPIFFE ID")]
    Id(#[from] IdError),
    #[error("the signature could not be made")]
    Sign(#[source] crypto::Error),
}

/// What a leaf says. Times are cut to the second.
#[derive(Debug, Clone)]
pub struct LeafParams {
    pub spiffe_id: SpiffeId,
    pub public_key: PublicKey,
    pub serial: Serial,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// For peers that check host names; usually empty.
    pub dns_names: Vec<String>,
}

/// A CA certificate with what builds below it: its name, its key identifier, its key. Cloning it is
/// cheap.
#[derive(Clone)]
pub struct Issuer(Arc<Inner>);

struct Inner {
    certificate: Vec<u8>,
    subject: Vec<u8>,
    key_identifier: Vec<u8>,
    not_after: Timestamp,
    signer: Arc<dyn Signer>,
}

impl Issuer {
    /// # Errors
    /// [`BuildError::Issuer`] if the certificate is not that of a CA or not for `signer`'s key.
    pub fn new(certificate: &[u8], signer: Arc<dyn Signer>) -> Result<Self, BuildError> {
        let problem = BuildError::Issuer;
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| problem("does not parse"))?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err(problem("is not that of a CA"));
        }
        if parsed.public_key().raw != signer.public_key().spki_der() {
            return Err(problem("is for another key"));
        }
        let key_identifier = parsed
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
                _ => None,
            })
            .ok_or(problem("has no subject key identifier"))?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp())
            .map_err(|_| problem("ended before 1970"))?;
        algorithm_identifier(signer.public_key().algorithm())?;
        Ok(Self(Arc::new(Inner {
            subject: parsed.subject().as_raw().to_vec(),
            key_identifier,
            not_after: Timestamp::from_secs(not_after),
            certificate: certificate.to_vec(),
            signer,
        })))
    }

    /// DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.0.certificate
    }

    /// Nothing issued below should live longer.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.0.signer.public_key()
    }

    #[must_use]
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.0.signer
    }

    /// The DER `Name` of the subject, byte for byte: what goes into certificates as the issuer.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.0.subject
    }

    /// The content of the subject key identifier. Computing it anew instead of copying it breaks
    /// peers that compare (OpenSSL does, webpki does not).
    pub(crate) fn key_identifier(&self) -> &[u8] {
        &self.0.key_identifier
    }

    /// The leaf without receipt and signature.
    ///
    /// # Errors
    /// [`BuildError`] if `params` do not make a valid X.509-SVID.
    pub fn leaf(&self, params: &LeafParams) -> Result<Tbs, BuildError> {
        // X509-SVID section 3.1: "Leaf certificate SPIFFE IDs MUST have a non-root path component."
        if params.spiffe_id.is_root() {
            return Err(BuildError::NoPath(params.spiffe_id.clone()));
        }
        if let Some(name) = params.dns_names.iter().find(|name| !is_dns_name(name)) {
            return Err(BuildError::DnsName(name.clone()));
        }
        let mut extensions = Writer::with_capacity(512);
        extensions.raw(oid::LEAF_KEY_USAGE);
        extensions.raw(oid::EXTENDED_KEY_USAGE);
        extensions.raw(oid::LEAF_BASIC_CONSTRAINTS);
        subject_key_identifier(&mut extensions, &params.public_key);
        authority_key_identifier(&mut extensions, self.key_identifier());
        subject_alt_name(&mut extensions, &params.spiffe_id, &params.dns_names, true);
        Tbs::build(&TbsFields {
            serial: params.serial,
            algorithm: self.public_key().algorithm(),
            issuer: self.subject(),
            not_before: params.not_before,
            not_after: params.not_after,
            subject: EMPTY_NAME,
            public_key: &params.public_key,
            extensions: extensions.finish(),
        })
    }
}

/// X509-SVID section 3.1: "The Subject field is not required, however the URI SAN extension MUST be
/// marked as critical if Subject is omitted".
const EMPTY_NAME: &[u8] = &[SEQUENCE, 0];

pub(super) struct TbsFields<'a> {
    pub(super) serial: Serial,
    pub(super) algorithm: Algorithm,
    pub(super) issuer: &'a [u8],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) subject: &'a [u8],
    pub(super) public_key: &'a PublicKey,
    pub(super) extensions: Vec<u8>,
}

/// A `TBSCertificate` (RFC 5280, section 4.1) that cannot be signed yet.
#[derive(Debug, Clone)]
pub struct Tbs {
    /// From `version` to `subjectPublicKeyInfo`.
    head: Vec<u8>,
    /// The extensions one after another, without the receipt.
    extensions: Vec<u8>,
    algorithm: Algorithm,
}

impl Tbs {
    pub(super) fn build(fields: &TbsFields<'_>) -> Result<Self, BuildError> {
        let (not_before, not_after) = (fields.not_before, fields.not_after);
        if not_before.as_secs() >= not_after.as_secs() {
            return Err(BuildError::Validity {
                not_before,
                not_after,
            });
        }
        let mut head = Writer::with_capacity(384);
        head.raw(&[context(0), 3, INTEGER, 1, 2]);
        head.element(INTEGER, fields.serial.as_bytes());
        head.raw(algorithm_identifier(fields.algorithm)?);
        head.raw(fields.issuer);
        head.nested(SEQUENCE, |validity| {
            write_time(validity, not_before);
            write_time(validity, not_after);
        });
        head.raw(fields.subject);
        head.raw(fields.public_key.spki_der());
        Ok(Self {
            head: head.finish(),
            extensions: fields.extensions.clone(),
            algorithm: fields.algorithm,
        })
    }

    /// SHA-256 of the `TBSCertificate` as it is without a receipt: what the issuance record commits
    /// to.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(&encode(&self.head, &self.extensions, &[]))
    }

    /// Appends the receipt as the last extension, not critical, so that other implementations
    /// ignore it.
    #[must_use]
    pub fn with_receipt(&self, receipt: &[u8]) -> ToBeSigned {
        ToBeSigned {
            bytes: encode(&self.head, &self.extensions, &receipt_extension(receipt)),
            algorithm: self.algorithm,
        }
    }

    /// For certificates that no ledger records: CAs, and what tests and attack tools forge.
    #[must_use]
    pub fn without_receipt(&self) -> ToBeSigned {
        ToBeSigned {
            bytes: encode(&self.head, &self.extensions, &[]),
            algorithm: self.algorithm,
        }
    }
}

/// The bytes that the issuer signs.
#[derive(Debug, Clone)]
pub struct ToBeSigned {
    bytes: Vec<u8>,
    algorithm: Algorithm,
}

impl ToBeSigned {
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The certificate, DER. `signature` is over [`ToBeSigned::bytes`]; it is not checked.
    #[must_use]
    pub fn assemble(&self, signature: &[u8]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(self.bytes.len() + signature.len() + 32);
        writer.nested(SEQUENCE, |certificate| {
            certificate.raw(&self.bytes);
            // INVARIANT: `Tbs::build` has refused every other algorithm.
            certificate.raw(algorithm_identifier(self.algorithm).unwrap_or_default());
            certificate.bit_string(signature);
        });
        writer.finish()
    }

    /// Signs and assembles.
    ///
    /// # Errors
    /// [`BuildError::Sign`].
    pub fn sign(&self, signer: &dyn Signer) -> Result<Vec<u8>, BuildError> {
        let signature = signer.sign(&self.bytes).map_err(BuildError::Sign)?;
        Ok(self.assemble(&signature))
    }
}

/// `TBSCertificate` of a head and two runs of extensions. The receipt comes last, so that taking it
/// away again needs three lengths and no knowledge of the rest.
pub(super) fn encode(head: &[u8], extensions: &[u8], receipt: &[u8]) -> Vec<u8> {
    let list = extensions.len() + receipt.len();
    let mut writer = Writer::with_capacity(head.len() + list + 16);
    writer.nested(SEQUENCE, |tbs| {
        tbs.raw(head);
        tbs.nested(context(3), |explicit| {
            explicit.nested(SEQUENCE, |content| {
                content.raw(extensions);
                content.raw(receipt);
            });
        });
    });
    writer.finish()
}

fn receipt_extension(receipt: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(receipt.len() + 48);
    writer.nested(SEQUENCE, |extension| {
        extension.raw(oid::RECEIPT);
        extension.nested(OCTET_STRING, |value| value.element(OCTET_STRING, receipt));
    });
    writer.finish()
}

/// The receipt in `extension`, if that is what it is: the inverse of [`receipt_extension`].
pub(super) fn receipt_in(extension: &[u8]) -> Option<&[u8]> {
    let (content, _) = der::take(SEQUENCE, extension)?;
    let (value, rest) = der::take(OCTET_STRING, content.strip_prefix(oid::RECEIPT)?)?;
    let (receipt, trailing) = der::take(OCTET_STRING, value)?;
    (rest.is_empty() && trailing.is_empty()).then_some(receipt)
}

pub(crate) fn algorithm_identifier(algorithm: Algorithm) -> Result<&'static [u8], BuildError> {
    match algorithm {
        Algorithm::EcdsaP256 => Ok(oid::ECDSA_SHA256),
        Algorithm::EcdsaP384 => Ok(oid::ECDSA_SHA384),
        Algorithm::Ed25519 => Ok(oid::ED25519),
        Algorithm::Rsa | Algorithm::MlDsa44 => Err(BuildError::Algorithm(algorithm)),
    }
}

/// RFC 7093, section 2, method 4: a hash of the whole `SubjectPublicKeyInfo`, here its first 160
/// bits.
pub(super) fn subject_key_identifier(writer: &mut Writer, key: &PublicKey) {
    let hash = key.spki_sha256();
    let identifier = hash.first_chunk::<20>().map_or(&[][..], |first| first);
    writer.nested(SEQUENCE, |extension| {
        extension.raw(oid::SUBJECT_KEY_IDENTIFIER);
        extension.nested(OCTET_STRING, |value| {
            value.element(OCTET_STRING, identifier)
        });
    });
}

pub(crate) fn authority_key_identifier(writer: &mut Writer, key_identifier: &[u8]) {
    writer.nested(SEQUENCE, |extension| {
        extension.raw(oid::AUTHORITY_KEY_IDENTIFIER);
        extension.nested(OCTET_STRING, |value| {
            value.nested(SEQUENCE, |identifier| {
                identifier.element(0x80, key_identifier)
            });
        });
    });
}

pub(super) fn subject_alt_name(
    writer: &mut Writer,
    id: &SpiffeId,
    dns_names: &[String],
    critical: bool,
) {
    writer.nested(SEQUENCE, |extension| {
        extension.raw(oid::SUBJECT_ALT_NAME);
        if critical {
            extension.raw(BOOLEAN_TRUE);
        }
        extension.nested(OCTET_STRING, |value| {
            value.nested(SEQUENCE, |names| {
                // uniformResourceIdentifier [6], dNSName [2].
                names.element(0x86, id.as_str().as_bytes());
                for name in dns_names {
                    names.element(0x82, name.as_bytes());
                }
            });
        });
    });
}

/// RFC 5280, section 4.2.1.6: the preferred name syntax; lower case, no wildcard, no trailing dot.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    name.len() <= 253 && name.split('.').all(label)
}
