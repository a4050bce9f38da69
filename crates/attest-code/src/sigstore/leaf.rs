//! The certificate that a Sigstore authority (Fulcio) issues to a signer for ten minutes: who signs, and who
//! said so. Its profile is `certificate-specification.md`, its claims `oid-info.md`, both in
//! `sigstore/fulcio/docs`.

use crate::certificate::Certificate;
use crate::der::{self, Reader};
use attest::Findings;
use crypto::PublicKey;
use facts::Finding;
use x509_parser::asn1_rs::{Oid, oid};
use x509_parser::extensions::{GeneralName, ParsedExtension};

const ISSUER_RAW: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.1);
const OTHER_NAME: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.7);
const ISSUER: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.8);
const SOURCE_REPOSITORY: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.12);
const SOURCE_DIGEST: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.13);
const SOURCE_REF: Oid<'static> = oid!(1.3.6.1.4.1.57264.1.14);

/// A signer's certificate, read. What is wrong with it stands in the findings.
pub(super) struct Leaf<'a> {
    pub(super) certificate: Certificate<'a>,
    pub(super) key: PublicKey,
    pub(super) identity: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) claims: Claims,
}

/// What the issuer's token said of the build that signs, as the authority wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Claims {
    /// `https://github.com/acme/payments`
    pub(crate) repository: Option<String>,
    /// The commit.
    pub(crate) digest: Option<String>,
    /// `refs/heads/main`
    pub(crate) reference: Option<String>,
}

impl<'a> Leaf<'a> {
    /// Reads it and notes what a signer's certificate must not be; `None` if it cannot be read.
    pub(super) fn read(der: &'a [u8], findings: &mut Findings) -> Option<Self> {
        let certificate = findings.take(Certificate::parse(der).map_err(malformed))?;
        let key = findings.take(certificate.key().map_err(malformed))?;
        findings.check(may_sign_code(&certificate), || {
            Finding::new(
                "SIGSTORE-CERT-USAGE",
                "the certificate is not one for signing code",
            )
            .expected("a leaf with key usage digitalSignature and extended key usage codeSigning")
            .observed(certificate.title())
        });
        findings.check(certificate.is_understood(), || {
            Finding::new(
                "SIGSTORE-CERT-CRITICAL",
                "the certificate has a critical extension that is not understood",
            )
            .observed(certificate.title())
        });
        let identity = findings.take(identity(&certificate));
        let issuer = findings.take(issuer(&certificate));
        let claim = |oid| text(&certificate, &oid);
        let claims = Claims {
            repository: claim(SOURCE_REPOSITORY),
            digest: claim(SOURCE_DIGEST),
            reference: claim(SOURCE_REF),
        };
        Some(Self {
            certificate,
            key,
            identity,
            issuer,
            claims,
        })
    }
}

fn malformed(problem: &str) -> Finding {
    Finding::new(
        "SIGSTORE-CERT-STRUCTURE",
        "the signer's certificate cannot be read",
    )
    .expected("one DER certificate of version 3")
    .observed(problem)
}

fn may_sign_code(certificate: &Certificate<'_>) -> bool {
    let x509 = &certificate.x509;
    let usage = matches!(x509.key_usage(), Ok(Some(usage)) if usage.value.digital_signature());
    let purpose = matches!(
        x509.extended_key_usage(),
        Ok(Some(usage)) if usage.value.code_signing && !usage.value.any
    );
    usage && purpose && !certificate.is_authority()
}

/// The only subject alternative name.
fn identity(certificate: &Certificate<'_>) -> Result<String, Finding> {
    let names = match certificate.x509.subject_alternative_name() {
        Ok(Some(names)) => names.value.general_names.as_slice(),
        Ok(None) | Err(_) => &[],
    };
    let name = match names {
        [GeneralName::RFC822Name(name) | GeneralName::URI(name)] => Some((*name).to_owned()),
        [GeneralName::OtherName(oid, value)] if *oid == OTHER_NAME => other_name(value),
        _ => None,
    };
    name.filter(|name| is_plain(name)).ok_or_else(|| {
        Finding::new(
            "SIGSTORE-CERT-NAME",
            "the certificate does not name exactly one signer",
        )
        .expected("one e-mail address, URI or Fulcio user name")
        .observed(format!("{} names", names.len()))
    })
}

fn other_name(value: &[u8]) -> Option<String> {
    let mut explicit = Reader::only(der::context(0), value)?;
    let text = explicit.take(der::UTF8_STRING)?;
    explicit.end()?;
    String::from_utf8(text.to_vec()).ok()
}

/// Who vouched for the signer to the authority. Where both spellings stand there they have to agree.
fn issuer(certificate: &Certificate<'_>) -> Result<String, Finding> {
    let raw = certificate
        .extension(&ISSUER_RAW)
        .and_then(|extension| str::from_utf8(extension.value).ok())
        .map(str::to_owned);
    let wrapped = text(certificate, &ISSUER);
    let agreed = match (&raw, &wrapped) {
        (Some(raw), Some(wrapped)) if raw != wrapped => None,
        _ => wrapped.or_else(|| raw.clone()),
    };
    agreed.filter(|issuer| is_plain(issuer)).ok_or_else(|| {
        Finding::new(
            "SIGSTORE-CERT-ISSUER",
            "the certificate does not say who identified the signer",
        )
        .expected("extension 1.3.6.1.4.1.57264.1.8 or .1, in agreement")
        .observed(raw.unwrap_or_else(|| "none".to_owned()))
    })
}

/// A `UTF8String` in an extension.
fn text(certificate: &Certificate<'_>, oid: &Oid<'_>) -> Option<String> {
    let extension = certificate.extension(oid)?;
    if !matches!(
        extension.parsed_extension(),
        ParsedExtension::UnsupportedExtension { .. }
    ) {
        return None;
    }
    let mut reader = Reader::new(extension.value);
    let text = reader.take(der::UTF8_STRING)?;
    reader.end()?;
    String::from_utf8(text.to_vec())
        .ok()
        .filter(|text| is_plain(text))
}

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 1024 && !text.contains(char::is_control)
}
