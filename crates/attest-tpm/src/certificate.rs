//! Certificates of TPM keys, one by one: a vendor's of an endorsement key (TCG EK Credential Profile 2.5,
//! section 3), a cloud's of an attestation key. Their chains are `path`'s.
//!
//! Own checks, because web PKI libraries refuse a critical directory name and an empty subject.

use crate::path::{self, Authorities, Ended};
use attest::{Findings, x509};
use crypto::PublicKey;
use facts::{Finding, Timestamp};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, KeyUsage, ParsedExtension, X509Extension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};

/// Longer than any certificate of a TPM's key seen in the field.
const LONGEST: usize = 8192;

/// tcg-kp-EKCertificate.
pub(crate) const EK_CERTIFICATE: Oid<'static> = oid!(2.23.133.8.1);
/// tcg-kp-AIKCertificate.
pub(crate) const AK_CERTIFICATE: Oid<'static> = oid!(2.23.133.8.3);
/// tcg-at-tpmManufacturer, -Model, -Version.
const MANUFACTURER: Oid<'static> = oid!(2.23.133.2.1);
const MODEL: Oid<'static> = oid!(2.23.133.2.2);
const VERSION: Oid<'static> = oid!(2.23.133.2.3);

/// What a certificate of one kind has to be, and what it is called where it is not.
pub(crate) struct Kind {
    /// For people: `the endorsement certificate`.
    pub(crate) title: &'static str,
    /// What it is for, for people: `endorsement key`.
    pub(crate) of: &'static str,
    /// Where chips hold it.
    pub(crate) place: &'static str,
    /// One of them has to be among its extended key usages.
    pub(crate) purposes: &'static [Oid<'static>],
    /// What it has to allow, if it speaks of key usage at all.
    pub(crate) usage: fn(&KeyUsage, &PublicKey) -> bool,
    /// Whether it has to speak of key usage.
    pub(crate) says_usage: bool,
    /// Extensions that whoever asks reads himself.
    pub(crate) known: &'static [Oid<'static>],
    pub(crate) structure: &'static str,
    pub(crate) key: &'static str,
    pub(crate) usages: &'static str,
    pub(crate) name: &'static str,
    pub(crate) critical: &'static str,
    pub(crate) validity: &'static str,
    pub(crate) chain: &'static str,
}

/// A certificate that holds.
#[derive(Debug)]
pub(crate) struct Held<'a> {
    pub(crate) certificate: X509Certificate<'a>,
    pub(crate) root: Ended,
    /// As the certificate names the maker.
    pub(crate) manufacturer: String,
}

/// What a certificate says about `key`, if it is one of `kind` and leads to one of `authorities`.
///
/// # Errors
/// A finding by each of the kind's codes.
pub(crate) fn verify<'a>(
    der: &'a [u8],
    key: &PublicKey,
    kind: &'static Kind,
    authorities: &Authorities,
    now: Timestamp,
) -> Result<Held<'a>, Vec<Finding>> {
    let certificate = parse(der, kind).map_err(|finding| vec![finding])?;
    let mut findings = Findings::new();
    findings.check(same_key(&certificate, key), || {
        let message = format!("{} is for another key", kind.title);
        Finding::new(kind.key, message)
            .expected("the key whose public area was sent")
            .observed(certificate.subject().to_string())
            .next(format!(
                "read the certificate that belongs to this key, {}",
                kind.place
            ))
    });
    usage(&certificate, key, kind, &mut findings);
    let manufacturer = findings.take(manufacturer(&certificate, kind));
    let understood = |one: &X509Extension<'_>| {
        !one.critical || understood(one.parsed_extension()) || kind.known.contains(&one.oid)
    };
    findings.check(certificate.extensions().iter().all(understood), || {
        let message = format!(
            "{} has a critical extension that is not understood",
            kind.title
        );
        Finding::new(kind.critical, message).next("pin the key instead, and report its issuer")
    });
    findings.check(x509::valid_at(certificate.validity(), now), || {
        path::expired(
            kind,
            &certificate.subject().to_string(),
            certificate.validity(),
            now,
        )
    });
    let root = findings.take(path::find(&certificate, kind, authorities, now));
    match (manufacturer, root) {
        (Some(manufacturer), Some(root)) if findings.is_empty() => Ok(Held {
            certificate,
            root,
            manufacturer,
        }),
        _ => Err(findings.into_vec()),
    }
}

fn parse<'a>(der: &'a [u8], kind: &Kind) -> Result<X509Certificate<'a>, Finding> {
    let malformed = |problem: &str| {
        let message = format!("{} cannot be read", kind.title);
        Finding::new(kind.structure, message)
            .expected("one DER certificate of version 3")
            .observed(problem)
            .next("send the certificate as the TPM's NV index holds it, without padding")
    };
    if der.len() > LONGEST {
        return Err(malformed("more than 8192 bytes"));
    }
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| malformed(&error.to_string()))?;
    if certificate.version() != X509Version::V3 {
        return Err(malformed("another version"));
    }
    x509::unambiguous(der, &certificate).map_err(malformed)?;
    Ok(certificate)
}

/// Compares numbers, not SPKIs: some vendors name RSAES-OAEP as the algorithm.
fn same_key(certificate: &X509Certificate<'_>, key: &PublicKey) -> bool {
    let bits = &certificate.public_key().subject_public_key;
    bits.unused_bits == 0 && bits.data.as_ref() == key.raw()
}

fn usage(certificate: &X509Certificate<'_>, key: &PublicKey, kind: &Kind, findings: &mut Findings) {
    let refused = |message: String| {
        let purposes: Vec<String> = kind.purposes.iter().map(Oid::to_id_string).collect();
        Finding::new(kind.usages, message)
            .expected(format!(
                "an end certificate with extended key usage {}",
                purposes.join(" or ")
            ))
            .next("pin the key instead, if its issuer makes such certificates")
    };
    let extended = certificate.extended_key_usage().ok().flatten();
    let listed = |one: &Oid<'_>| kind.purposes.contains(one);
    findings.check(
        extended.is_some_and(|usage| usage.value.other.iter().any(listed)),
        || refused(format!("the certificate is not one for an {}", kind.of)),
    );
    let constraints = certificate.basic_constraints();
    findings.check(
        matches!(constraints, Ok(None))
            || matches!(constraints, Ok(Some(ref basic)) if !basic.value.ca),
        || refused("the certificate is an authority's".to_owned()),
    );
    let allowed = match certificate.key_usage() {
        Ok(None) => !kind.says_usage,
        Ok(Some(usage)) => (kind.usage)(usage.value, key),
        Err(_) => false,
    };
    findings.check(allowed, || {
        refused(format!(
            "the certificate's key usage does not allow what an {} does",
            kind.of
        ))
    });
}

/// The manufacturer in the subject alternative name, which names maker, model and version, and is
/// critical when the subject is empty (RFC 5280, section 4.1.2.6).
fn manufacturer(certificate: &X509Certificate<'_>, kind: &Kind) -> Result<String, Finding> {
    let refused = |observed: &str| {
        let message = format!("{} does not say which TPM it is for", kind.title);
        Finding::new(kind.name, message)
            .expected("a directory name with TPM manufacturer, model and version")
            .observed(observed)
            .next("pin the key instead, if its issuer makes such certificates")
    };
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| refused("an unreadable subject alternative name"))?
        .ok_or_else(|| refused("no subject alternative name"))?;
    if certificate.subject().iter().next().is_none() && !names.critical {
        return Err(refused("an empty subject and names that are not critical"));
    }
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DirectoryName(name) => Some(name),
            _ => None,
        })
        .find_map(|name| {
            attribute(name, &MODEL)?;
            attribute(name, &VERSION)?;
            attribute(name, &MANUFACTURER)
        })
        .map(|id| vendor(&id))
        .ok_or_else(|| refused("names without manufacturer, model and version"))
}

fn attribute(name: &X509Name<'_>, oid: &Oid<'_>) -> Option<String> {
    name.iter_attributes()
        .find(|attribute| attribute.attr_type() == oid)
        .and_then(|attribute| attribute.as_str().ok())
        .map(str::to_owned)
}

/// `id:494E5443` is `INTC` (TCG Vendor ID Registry); what is not printable stays hexadecimal.
fn vendor(id: &str) -> String {
    let digits = id.strip_prefix("id:").unwrap_or(id);
    let letters = crypto::hex::decode(digits).unwrap_or_default();
    let trimmed = letters
        .iter()
        .rposition(|byte| !matches!(byte, 0 | b' '))
        .and_then(|last| letters.get(..=last))
        .unwrap_or_default();
    let printable =
        letters.len() == 4 && !trimmed.is_empty() && trimmed.iter().all(u8::is_ascii_alphanumeric);
    if printable {
        trimmed.iter().copied().map(char::from).collect()
    } else {
        digits
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(16)
            .collect()
    }
}

/// The extensions whose meaning is checked here or that restrict nothing that matters here.
fn understood(extension: &ParsedExtension<'_>) -> bool {
    matches!(
        extension,
        ParsedExtension::BasicConstraints(_)
            | ParsedExtension::KeyUsage(_)
            | ParsedExtension::ExtendedKeyUsage(_)
            | ParsedExtension::SubjectAlternativeName(_)
            | ParsedExtension::CertificatePolicies(_)
    )
}

#[cfg(test)]
mod tests {
    use super::vendor;

    #[test]
    fn vendors_are_named_as_in_the_registry() {
        assert_eq!(vendor("id:494E5443"), "INTC");
        assert_eq!(vendor("id:49465800"), "IFX");
        assert_eq!(vendor("id:53544D20"), "STM");
        assert_eq!(vendor("id:00001014"), "00001014");
        assert_eq!(vendor("id:\u{1b}[31m"), "31m");
    }
}
