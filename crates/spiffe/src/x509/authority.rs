//! The certificates of authorities: a self-signed root and issuing CAs below it (X509-SVID section
//! 3.2). When they are made and replaced is decided in `identity`.

use super::build::{TbsFields, authority_key_identifier, subject_alt_name, subject_key_identifier};
use super::{BuildError, Issuer, Serial, Tbs, oid};
use crate::TrustDomain;
use crate::der::{SEQUENCE, SET, UTF8_STRING, Writer};
use crypto::{PublicKey, Signer};
use facts::Timestamp;

/// When a CA certificate is valid, and its serial number.
#[derive(Debug, Clone, Copy)]
pub struct AuthorityParams {
    pub serial: Serial,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
}

/// A self-signed root for `trust_domain`, DER.
///
/// # Errors
/// [`BuildError`].
pub fn root(
    trust_domain: &TrustDomain,
    params: &AuthorityParams,
    signer: &dyn Signer,
) -> Result<Vec<u8>, BuildError> {
    let key = signer.public_key();
    let subject = name("root", key);
    let mut extensions = Writer::with_capacity(256);
    extensions.raw(oid::ROOT_BASIC_CONSTRAINTS);
    common(&mut extensions, trust_domain, key);
    Tbs::build(&TbsFields {
        serial: params.serial,
        algorithm: key.algorithm(),
        issuer: &subject,
        not_before: params.not_before,
        not_after: params.not_after,
        subject: &subject,
        public_key: key,
        extensions: extensions.finish(),
    })?
    .without_receipt()
    .sign(signer)
}

/// An issuing CA for `trust_domain` below `parent`, DER. It can sign leaves and nothing below them.
///
/// # Errors
/// [`BuildError`].
pub fn issuing(
    trust_domain: &TrustDomain,
    params: &AuthorityParams,
    key: &PublicKey,
    parent: &Issuer,
) -> Result<Vec<u8>, BuildError> {
    let mut extensions = Writer::with_capacity(256);
    extensions.raw(oid::ISSUING_BASIC_CONSTRAINTS);
    common(&mut extensions, trust_domain, key);
    authority_key_identifier(&mut extensions, parent.key_identifier());
    Tbs::build(&TbsFields {
        serial: params.serial,
        algorithm: parent.public_key().algorithm(),
        issuer: parent.subject(),
        not_before: params.not_before,
        not_after: params.not_after,
        subject: &name("issuing", key),
        public_key: key,
        extensions: extensions.finish(),
    })?
    .without_receipt()
    .sign(parent.signer().as_ref())
}

/// X509-SVID section 4.3: "SVID signing certificates MUST set `keyCertSign`. They MAY set
/// `cRLSign`"; section 3.2: "the SPIFFE ID of a signing certificate MUST NOT have a path component".
fn common(extensions: &mut Writer, trust_domain: &TrustDomain, key: &PublicKey) {
    extensions.raw(oid::AUTHORITY_KEY_USAGE);
    subject_key_identifier(extensions, key);
    subject_alt_name(extensions, &trust_domain.id(), &[], false);
}

/// `O=Trilith, CN=<role> <first 8 bytes of the key's SHA-256>`: another name for every key, so that
/// path building never has to choose between two.
fn name(role: &str, key: &PublicKey) -> Vec<u8> {
    let digest = key.spki_sha256();
    let short = digest.first_chunk::<8>().map_or(&[][..], |first| first);
    let common_name = format!("{role} {}", crypto::hex::encode(short));
    let mut writer = Writer::with_capacity(64);
    writer.nested(SEQUENCE, |name| {
        for (attribute, value) in [
            (oid::ORGANIZATION, "Trilith"),
            (oid::COMMON_NAME, &common_name),
        ] {
            name.nested(SET, |set| {
                set.nested(SEQUENCE, |pair| {
                    pair.raw(attribute);
                    pair.element(UTF8_STRING, value.as_bytes());
                });
            });
        }
    });
    writer.finish()
}
