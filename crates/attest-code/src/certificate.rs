//! X.509 certificates (RFC 5280) of those who sign code, of their authorities and of those who stamp time.
//! What each kind has to have is said where it is used; what all have to have is said here.

use crypto::PublicKey;
use facts::Timestamp;
use x509_parser::asn1_rs::Oid;
use x509_parser::certificate::{Validity, X509Certificate};
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::x509::X509Version;

/// A certificate that is well formed and says each thing once. Nothing about it is verified.
pub(crate) struct Certificate<'a> {
    pub(crate) x509: X509Certificate<'a>,
    pub(crate) der: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(der: &'a [u8]) -> Result<Self, &'static str> {
        let x509 = attest::x509::parse(der)?;
        if x509.version() != X509Version::V3 {
            return Err("not of version 3");
        }
        let unreadable = x509.extensions().iter().any(|one| {
            one.critical && matches!(one.parsed_extension(), ParsedExtension::ParseError { .. })
        });
        if unreadable {
            return Err("an unreadable critical extension");
        }
        Ok(Self { x509, der })
    }

    /// The part that is signed.
    pub(crate) fn tbs(&self) -> &[u8] {
        self.x509.tbs_certificate.as_ref()
    }

    /// The raw DER names.
    pub(crate) fn issuer(&self) -> &[u8] {
        self.x509.tbs_certificate.issuer.as_raw()
    }

    pub(crate) fn subject(&self) -> &[u8] {
        self.x509.tbs_certificate.subject.as_raw()
    }

    /// The content of the INTEGER.
    pub(crate) fn serial(&self) -> &[u8] {
        self.x509.raw_serial()
    }

    /// # Errors
    /// What is wrong with the key.
    pub(crate) fn key(&self) -> Result<PublicKey, &'static str> {
        PublicKey::from_spki_der(self.x509.public_key().raw)
            .map_err(|_| "a key that is neither P-256, P-384, Ed25519 nor RSA")
    }

    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime::of(self.x509.validity())
    }

    /// What the extension of that OID holds.
    pub(crate) fn extension(&self, oid: &Oid<'_>) -> Option<&X509Extension<'a>> {
        self.x509
            .extensions()
            .iter()
            .find(|extension| extension.oid == *oid)
    }

    /// Whether it says of itself that it is an authority.
    pub(crate) fn is_authority(&self) -> bool {
        matches!(self.x509.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca)
    }

    /// How many authorities may stand below it, if it says so.
    pub(crate) fn path_length(&self) -> Option<usize> {
        let constraints = self.x509.basic_constraints().ok().flatten()?;
        let limit = constraints.value.path_len_constraint?;
        usize::try_from(limit).ok()
    }

    /// Its name for people.
    pub(crate) fn title(&self) -> String {
        let subject = self.x509.subject().to_string();
        if subject.is_empty() {
            "a certificate without a subject".to_owned()
        } else {
            subject
        }
    }

    /// Whether every critical extension is one of those whose meaning is checked here.
    pub(crate) fn is_understood(&self) -> bool {
        self.x509.extensions().iter().all(|extension| {
            !extension.critical
                || matches!(
                    extension.parsed_extension(),
                    ParsedExtension::BasicConstraints(_)
                        | ParsedExtension::KeyUsage(_)
                        | ParsedExtension::ExtendedKeyUsage(_)
                        | ParsedExtension::SubjectAlternativeName(_)
                )
        })
    }
}

/// When something counts: from the first moment to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    pub(crate) from: Timestamp,
    pub(crate) until: Option<Timestamp>,
}

impl Lifetime {
    /// Whole seconds: the last one lasts until the next begins (RFC 5280, section 4.1.2.5).
    fn of(validity: &Validity) -> Self {
        let seconds = |at: i64| Timestamp::from_secs(u64::try_from(at).unwrap_or(0));
        Self {
            from: seconds(validity.not_before.timestamp()),
            until: Some(Timestamp::from_millis(
                seconds(validity.not_after.timestamp())
                    .as_millis()
                    .saturating_add(999),
            )),
        }
    }

    pub(crate) fn contains(&self, at: Timestamp) -> bool {
        self.from <= at && self.until.is_none_or(|until| at <= until)
    }
}

impl std::fmt::Display for Lifetime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.until {
            Some(until) => write!(f, "{} to {until}", self.from),
            None => write!(f, "from {}", self.from),
        }
    }
}
