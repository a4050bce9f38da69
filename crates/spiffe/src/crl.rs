//! Certificate revocation lists (RFC 5280, section 5), for peers that know nothing of our pushes: the
//! Workload API carries them. Deciding what is revoked is not done here.

use crate::der::{INTEGER, OCTET_STRING, SEQUENCE, Writer, context};
use crate::x509::{
    BuildError, CRL_NUMBER, Issuer, Serial, algorithm_identifier, authority_key_identifier,
    write_time,
};
use facts::Timestamp;

/// One revoked certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    pub serial: Serial,
    pub at: Timestamp,
}

/// What a list says besides who is on it.
#[derive(Debug, Clone, Copy)]
pub struct CrlParams {
    /// RFC 5280, section 5.2.3: a "monotonically increasing sequence number".
    pub number: u64,
    pub this_update: Timestamp,
    pub next_update: Timestamp,
}

/// A signed version 2 list of `issuer`, DER.
///
/// # Errors
/// [`BuildError`].
pub fn build(
    issuer: &Issuer,
    params: &CrlParams,
    revoked: &[Revoked],
) -> Result<Vec<u8>, BuildError> {
    let algorithm = algorithm_identifier(issuer.public_key().algorithm())?;
    let mut tbs = Writer::with_capacity(256 + revoked.len() * 48);
    tbs.nested(SEQUENCE, |list| {
        list.element(INTEGER, &[1]);
        list.raw(algorithm);
        list.raw(issuer.subject());
        write_time(list, params.this_update);
        write_time(list, params.next_update);
        // Section 5.1.2.6: "When there are no revoked certificates, the revoked certificates list
        // MUST be absent."
        if !revoked.is_empty() {
            list.nested(SEQUENCE, |entries| {
                for entry in revoked {
                    entries.nested(SEQUENCE, |fields| {
                        fields.element(INTEGER, entry.serial.as_bytes());
                        write_time(fields, entry.at);
                    });
                }
            });
        }
        list.nested(context(0), |explicit| {
            explicit.nested(SEQUENCE, |extensions| {
                authority_key_identifier(extensions, issuer.key_identifier());
                extensions.nested(SEQUENCE, |extension| {
                    extension.raw(CRL_NUMBER);
                    extension.nested(OCTET_STRING, |value| {
                        value.element(INTEGER, &positive(params.number));
                    });
                });
            });
        });
    });
    let tbs = tbs.finish();
    let signature = issuer.signer().sign(&tbs).map_err(BuildError::Sign)?;
    let mut list = Writer::with_capacity(tbs.len() + 128);
    list.nested(SEQUENCE, |list| {
        list.raw(&tbs);
        list.raw(algorithm);
        list.bit_string(&signature);
    });
    Ok(list.finish())
}

/// The content of a DER INTEGER.
fn positive(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let mut content: Vec<u8> = bytes.into_iter().skip_while(|byte| *byte == 0).collect();
    if content.first().is_none_or(|first| *first >= 0x80) {
        content.insert(0, 0);
    }
    content
}
