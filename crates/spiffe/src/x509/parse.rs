//! Taking a certificate chain apart and checking the leaf by itself. Whether the chain leads to a
//! root of the right trust domain is `validate`'s business: nothing parsed here is authenticated.

use super::build::{encode, receipt_in};
use super::oid;
use crate::SpiffeId;
use crate::der::{self, SEQUENCE, context};
use crypto::PublicKey;
use facts::{Finding, Timestamp};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate, X509Version};

/// Longest certificate: a receipt and as much again.
const MAX_CERTIFICATE: usize = 64 * 1024;
/// Certificates in a chain, the leaf included.
const MAX_CHAIN: usize = 8;

/// An X.509-SVID as it was presented: a leaf that obeys X509-SVID.md, and the certificates that came
/// with it. [`X509Svid::validate`] makes something of it.
#[derive(Debug, Clone)]
pub struct X509Svid {
    pub(super) leaf: Leaf,
    pub(super) leaf_der: Vec<u8>,
    pub(super) intermediates: Vec<Vec<u8>>,
}

#[derive(Debug, Clone)]
pub(super) struct Leaf {
    pub(super) spiffe_id: SpiffeId,
    pub(super) serial: String,
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) public_key: PublicKey,
    pub(super) receipt: Option<Vec<u8>>,
    pub(super) tbs_sha256: [u8; 32],
}

impl X509Svid {
    /// Reads a chain of DER certificates, leaf first.
    ///
    /// # Errors
    /// `SVID-SIZE`, `SVID-PARSE`, `SVID-URI-SAN`, `SVID-ID`, `SVID-CA`, `SVID-KEY-USAGE`,
    /// `SVID-EXTENDED-KEY-USAGE`, `SVID-SAN-CRITICAL`, `SVID-KEY-KIND`, `SVID-RECEIPT-MALFORMED`.
    pub fn parse<T: AsRef<[u8]>>(chain: &[T]) -> Result<Self, Finding> {
        let [leaf, intermediates @ ..] = chain else {
            return Err(malformed("the chain is empty"));
        };
        let longest = chain.iter().map(|der| der.as_ref().len()).max();
        if chain.len() > MAX_CHAIN || longest > Some(MAX_CERTIFICATE) {
            return Err(
                Finding::new("SVID-SIZE", "the certificate chain is too large")
                    .expected(format!(
                        "at most {MAX_CHAIN} certificates of at most {MAX_CERTIFICATE} bytes"
                    ))
                    .observed(format!(
                        "{} certificates, the longest of {} bytes",
                        chain.len(),
                        longest.unwrap_or_default()
                    )),
            );
        }
        Ok(Self {
            leaf: Leaf::parse(leaf.as_ref())?,
            leaf_der: leaf.as_ref().to_vec(),
            intermediates: intermediates
                .iter()
                .map(|der| der.as_ref().to_vec())
                .collect(),
        })
    }

    /// As [`X509Svid::parse`], for certificates one after another, as the Workload API carries them.
    ///
    /// # Errors
    /// As [`X509Svid::parse`].
    pub fn parse_concatenated(bytes: &[u8]) -> Result<Self, Finding> {
        Self::parse(&split_certificates(bytes)?)
    }

    /// What the leaf says. Nothing about it is authenticated yet.
    #[must_use]
    pub fn claimed_id(&self) -> &SpiffeId {
        &self.leaf.spiffe_id
    }

    /// The leaf and the certificates that came with it, DER.
    pub fn chain(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.leaf_der.as_slice())
            .chain(self.intermediates.iter().map(Vec::as_slice))
    }
}

/// The certificates in `bytes`, which stand there one after another, as the Workload API carries them.
///
/// # Errors
/// `SVID-PARSE`: it ends within one, or begins with something else.
pub fn split_certificates(bytes: &[u8]) -> Result<Vec<&[u8]>, Finding> {
    let mut certificates = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (_, after) = der::take(SEQUENCE, rest).ok_or_else(|| malformed("not DER"))?;
        let length = rest.len() - after.len();
        certificates.extend(rest.get(..length));
        rest = after;
        if certificates.len() > MAX_CHAIN {
            return Err(Finding::new("SVID-SIZE", "too many certificates"));
        }
    }
    Ok(certificates)
}

/// SHA-256 of the TBS of any certificate without a receipt: what the record of its issuance commits to, if it is an
/// SVID of a ledger.
///
/// # Errors
/// `SVID-PARSE`, `SVID-RECEIPT-MALFORMED`.
pub(crate) fn committed(der: &[u8]) -> Result<[u8; 32], Finding> {
    let (rest, certificate) =
        X509Certificate::from_der(der).map_err(|_| malformed("not an X.509 certificate"))?;
    if !rest.is_empty() {
        return Err(malformed("not one X.509 certificate"));
    }
    Ok(split_receipt(certificate.tbs_certificate.as_ref())?.1)
}

fn malformed(what: impl Into<String>) -> Finding {
    Finding::new("SVID-PARSE", what)
}

impl Leaf {
    fn parse(der: &[u8]) -> Result<Self, Finding> {
        let (rest, certificate) = X509Certificate::from_der(der)
            .map_err(|_| malformed("the leaf is not an X.509 certificate"))?;
        if !rest.is_empty() || certificate.version() != X509Version::V3 {
            return Err(malformed("the leaf is not one X.509 version 3 certificate"));
        }
        // RFC 5280, section 4.2: "A certificate MUST NOT include more than one instance of a
        // particular extension."
        certificate
            .extensions_map()
            .map_err(|_| malformed("an extension of the leaf stands twice"))?;
        check_use(&certificate)?;
        let (receipt, tbs_sha256) = split_receipt(certificate.tbs_certificate.as_ref())?;
        let public_key = PublicKey::from_spki_der(certificate.public_key().raw).map_err(|_| {
            Finding::new(
                "SVID-KEY-KIND",
                "the leaf's key is not one that is verified here",
            )
            .expected("P-256, P-384, Ed25519 or RSA of at least 2048 bits")
        })?;
        Ok(Self {
            spiffe_id: spiffe_id(&certificate)?,
            serial: serial(certificate.raw_serial()),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            public_key,
            receipt,
            tbs_sha256,
        })
    }
}

/// X509-SVID section 5.2: "the validator MUST ensure that the `cA` field in the basic constraints
/// extension is set to `false`, and that `keyCertSign` and `cRLSign` are not set in the key usage
/// extension."
fn check_use(certificate: &X509Certificate<'_>) -> Result<(), Finding> {
    let constraints = certificate
        .basic_constraints()
        .map_err(|_| malformed("basic constraints of the leaf"))?;
    if constraints.is_some_and(|constraints| constraints.value.ca) {
        return Err(Finding::new(
            "SVID-CA",
            "a signing certificate does not authenticate anyone",
        )
        .expected("basic constraints with cA false")
        .observed("cA true"));
    }
    // X509-SVID section 4.3: "The key usage extension MUST be set on all SVIDs, and MUST be marked
    // critical." "Leaf SVIDs MUST set `digitalSignature`." "Leaf SVIDs MUST NOT set `keyCertSign` or
    // `cRLSign`."
    let usage = certificate
        .key_usage()
        .map_err(|_| malformed("key usage of the leaf"))?;
    let fits = usage.as_ref().is_some_and(|usage| {
        usage.critical
            && usage.value.digital_signature()
            && !usage.value.key_cert_sign()
            && !usage.value.crl_sign()
    });
    if !fits {
        return Err(Finding::new(
            "SVID-KEY-USAGE",
            "the leaf's key usage is not that of an X.509-SVID",
        )
        .expected("critical, digitalSignature, neither keyCertSign nor cRLSign")
        .observed(usage.map_or_else(
            || "no key usage".to_owned(),
            |usage| {
                let critical = if usage.critical {
                    "critical"
                } else {
                    "not critical"
                };
                format!("{critical}, {}", usage.value)
            },
        )));
    }
    // X509-SVID section 4.4: "When included, fields `id-kp-serverAuth` and `id-kp-clientAuth` MUST be
    // set."
    let extended = certificate
        .extended_key_usage()
        .map_err(|_| malformed("extended key usage of the leaf"))?;
    if extended.is_some_and(|usage| !(usage.value.server_auth && usage.value.client_auth)) {
        return Err(Finding::new(
            "SVID-EXTENDED-KEY-USAGE",
            "the leaf's extended key usage is not that of an X.509-SVID",
        )
        .expected("both id-kp-serverAuth and id-kp-clientAuth"));
    }
    Ok(())
}

fn spiffe_id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, Finding> {
    let alternative = certificate
        .subject_alternative_name()
        .map_err(|_| malformed("subject alternative name of the leaf"))?;
    let names = alternative
        .as_ref()
        .map_or(&[][..], |names| names.value.general_names.as_slice());
    if names
        .iter()
        .any(|name| matches!(name, GeneralName::Invalid(..)))
    {
        return Err(malformed("a subject alternative name of the leaf"));
    }
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    // X509-SVID section 2: "An X.509 SVID MUST contain exactly one URI SAN"; "Validators encountering
    // an SVID containing more than one URI SAN MUST reject the SVID."
    let (Some(uri), None) = (uris.next(), uris.next()) else {
        let count = names
            .iter()
            .filter(|name| matches!(name, GeneralName::URI(_)))
            .count();
        return Err(
            Finding::new("SVID-URI-SAN", "an X.509-SVID has exactly one URI SAN")
                .expected("1 URI")
                .observed(format!("{count} URIs")),
        );
    };
    // RFC 5280, section 4.1.2.6: if "the subject field contains an empty sequence", the extension
    // "MUST be marked as critical".
    let critical = alternative.as_ref().is_some_and(|names| names.critical);
    if certificate.subject().iter().next().is_none() && !critical {
        return Err(Finding::new(
            "SVID-SAN-CRITICAL",
            "the leaf has no subject, and its subject alternative name is not critical",
        ));
    }
    // X509-SVID section 5.2: "The validator MUST also ensure that the scheme of the SPIFFE ID is set
    // to `spiffe`, and MUST ensure that the SPIFFE ID has a non-root path component."
    let id: SpiffeId = uri.parse().map_err(|error| {
        Finding::new("SVID-ID", format!("the URI SAN is no SPIFFE ID: {error}"))
            .observed(shown(uri))
    })?;
    if id.is_root() {
        return Err(
            Finding::new("SVID-ID", "a leaf's SPIFFE ID has a path").observed(id.to_string())
        );
    }
    Ok(id)
}

/// The receipt, if there is one, and SHA-256 of the TBS without it: the inverse of `build`.
fn split_receipt(tbs: &[u8]) -> Result<(Option<Vec<u8>>, [u8; 32]), Finding> {
    let parts = || {
        let (content, _) = der::take(SEQUENCE, tbs)?;
        let mut rest = content;
        let explicit = loop {
            match der::split(rest)? {
                (tag, explicit, &[]) if tag == context(3) => break explicit,
                (.., after) => rest = after,
            }
        };
        let head = content.get(..content.len() - rest.len())?;
        let (list, _) = der::take(SEQUENCE, explicit)?;
        Some((head, list))
    };
    let (head, list) = parts().ok_or_else(|| malformed("the leaf has no extensions"))?;
    let mut rest = list;
    while !rest.is_empty() {
        let (extension, after) =
            der::take(SEQUENCE, rest).ok_or_else(|| malformed("an extension of the leaf"))?;
        if extension.starts_with(oid::RECEIPT) {
            let before = list.get(..list.len() - rest.len()).unwrap_or_default();
            let receipt = receipt_in(rest)
                .filter(|_| after.is_empty())
                .ok_or_else(|| {
                    Finding::new(
                        "SVID-RECEIPT-MALFORMED",
                        "the receipt extension is not what an authority writes",
                    )
                    .expected("the last extension, not critical, an octet string")
                })?;
            let tbs_sha256 = crypto::sha256(&encode(head, before, &[]));
            return Ok((Some(receipt.to_vec()), tbs_sha256));
        }
        rest = after;
    }
    Ok((None, crypto::sha256(tbs)))
}

/// Lower-case hex without the byte that keeps the number positive.
fn serial(raw: &[u8]) -> String {
    match raw {
        [0, rest @ ..] if !rest.is_empty() => crypto::hex::encode(rest),
        _ => crypto::hex::encode(raw),
    }
}

/// What lies before 1970 is 1970: long expired in any case.
fn time(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(seconds).unwrap_or_default())
}

/// Hostile text, cut to what fits in a finding.
fn shown(text: &str) -> String {
    text.chars()
        .take(128)
        .flat_map(char::escape_default)
        .collect()
}
