//! The endorsement key's certificate (TCG EK Credential Profile 2.5, section 3), one by one; its chain
//! is `path`'s.
//!
//! Own checks, because web PKI libraries refuse a critical directory name and an empty subject.

use super::path::{self, Authority};
use super::{EndorsementKey, References, Trust};
use attest::{Findings, x509};
use crypto::Algorithm;
use facts::{Finding, Timestamp};
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{X509Name, X509Version};

/// Longer than any endorsement certificate seen in the field.
const LONGEST: usize = 8192;

/// tcg-kp-EKCertificate.
const EK_CERTIFICATE: Oid<'static> = oid!(2.23.133.8.1);
/// tcg-at-tpmManufacturer, -Model, -Version.
const MANUFACTURER: Oid<'static> = oid!(2.23.133.2.1);
const MODEL: Oid<'static> = oid!(2.23.133.2.2);
const VERSION: Oid<'static> = oid!(2.23.133.2.3);

/// Why `ek` is trusted through its certificate.
///
/// # Errors
/// `TPM-EK-CERT-STRUCTURE`, `TPM-EK-CERT-KEY`, `TPM-EK-CERT-USAGE`, `TPM-EK-CERT-NAME`,
/// `TPM-EK-CERT-CRITICAL`, `TPM-EK-CERT-VALIDITY`, `TPM-EK-CHAIN`.
pub(super) fn verify(
    der: &[u8],
    ek: &EndorsementKey,
    references: &References,
    now: Timestamp,
) -> Result<Trust, Vec<Finding>> {
    let certificate = parse(der).map_err(|finding| vec![finding])?;
    let mut findings = Findings::new();
    findings.check(same_key(&certificate, ek), || {
        Finding::new(
            "TPM-EK-CERT-KEY",
            "the certificate is for another endorsement key",
        )
        .expected("the key whose public area was sent")
        .observed(certificate.subject().to_string())
        .next("read the certificate that belongs to this key, at NV index 0x1c00002 or 0x1c0000a")
    });
    usage(&certificate, ek, &mut findings);
    let manufacturer = findings.take(manufacturer(&certificate));
    findings.check(
        certificate
            .extensions()
            .iter()
            .all(|one| !one.critical || understood(one.parsed_extension())),
        || {
            Finding::new(
                "TPM-EK-CERT-CRITICAL",
                "the certificate has a critical extension that is not understood",
            )
            .next("pin the endorsement key instead, and report the vendor")
        },
    );
    findings.check(x509::valid_at(certificate.validity(), now), || {
        path::expired(
            "TPM-EK-CERT-VALIDITY",
            &certificate.subject().to_string(),
            certificate.validity(),
            now,
        )
    });
    let emulated = findings.take(path::find(&certificate, references, now));
    match (manufacturer, emulated) {
        (Some(manufacturer), Some(emulated)) if findings.is_empty() => Ok(Trust::Chain {
            emulated,
            manufacturer,
        }),
        _ => Err(findings.into_vec()),
    }
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Finding> {
    let malformed = |problem: &str| {
        Finding::new(
            "TPM-EK-CERT-STRUCTURE",
            "the endorsement certificate cannot be read",
        )
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
fn same_key(certificate: &X509Certificate<'_>, ek: &EndorsementKey) -> bool {
    let bits = &certificate.public_key().subject_public_key;
    bits.unused_bits == 0 && bits.data.as_ref() == ek.key().raw()
}

fn usage(certificate: &X509Certificate<'_>, ek: &EndorsementKey, findings: &mut Findings) {
    let refused = |message: &str| {
        Finding::new("TPM-EK-CERT-USAGE", message.to_owned())
            .expected("an end certificate with extended key usage 2.23.133.8.1")
            .next("pin the endorsement key instead, if its vendor issues such certificates")
    };
    let extended = certificate.extended_key_usage().ok().flatten();
    findings.check(
        extended.is_some_and(|usage| usage.value.other.contains(&EK_CERTIFICATE)),
        || refused("the certificate is not one for endorsement keys"),
    );
    let constraints = certificate.basic_constraints();
    findings.check(
        matches!(constraints, Ok(None))
            || matches!(constraints, Ok(Some(ref basic)) if !basic.value.ca),
        || refused("the certificate is an authority's"),
    );
    // EK Credential Profile, section 3.2: keyEncipherment for RSA, keyAgreement for ECC.
    let allowed = match certificate.key_usage() {
        Ok(None) => true,
        Ok(Some(usage)) if ek.key().algorithm() == Algorithm::Rsa => usage.value.key_encipherment(),
        Ok(Some(usage)) => usage.value.key_agreement(),
        Err(_) => false,
    };
    findings.check(allowed, || {
        refused("the certificate's key usage does not allow what an endorsement key does")
    });
}

/// The manufacturer in the subject alternative name, which names maker, model and version, and is
/// critical when the subject is empty (RFC 5280, section 4.1.2.6).
fn manufacturer(certificate: &X509Certificate<'_>) -> Result<String, Finding> {
    let refused = |observed: &str| {
        Finding::new(
            "TPM-EK-CERT-NAME",
            "the certificate does not say which TPM it is for",
        )
        .expected("a directory name with TPM manufacturer, model and version")
        .observed(observed)
        .next("pin the endorsement key instead, if its vendor issues such certificates")
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

impl References {
    /// Those with `subject` as their name: roots with whether they are emulated, then the rest.
    pub(super) fn issuers<'a>(
        &'a self,
        subject: &'a [u8],
    ) -> impl Iterator<Item = (&'a Authority, Option<bool>)> {
        // INVARIANT: emulated first. A root that stands in both lists is emulated.
        let emulated = self.emulated_roots.iter().map(|one| (one, Some(true)));
        let vendors = self.ek_roots.iter().map(|one| (one, Some(false)));
        let between = self.ek_intermediates.iter().map(|one| (one, None));
        emulated
            .chain(vendors)
            .chain(between)
            .filter(move |(authority, _)| authority.subject() == subject)
    }
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
