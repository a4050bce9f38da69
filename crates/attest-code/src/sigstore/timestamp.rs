//! RFC 3161 timestamps: an authority's word that a signature existed at a time.

use super::root::TrustedRoot;
use crate::authority::{Authorities, Unchained};
use crate::certificate::Certificate;
use crate::cms::{SignedData, hash_of};
use crate::der::{self, Reader};
use crate::time::generalized;
use crypto::chain::Hash;
use facts::{Finding, Timestamp};
use x509_parser::asn1_rs::{Oid, oid};

const TST_INFO: Oid<'static> = oid!(1.2.840.113549.1.9.16.1.4);
const SIGNING_CERTIFICATE_V2: Oid<'static> = oid!(1.2.840.113549.1.9.16.2.47);
/// The longest seen has 1.3 KiB.
const LONGEST: usize = 32 * 1024;

/// What a token states, once the whole of it is verified.
struct Stamp<'a> {
    hash: Hash,
    imprint: &'a [u8],
    at: Timestamp,
}

/// Checks that an authority of `root` stamped `signature`, and says when.
///
/// # Errors
/// `SIGSTORE-STAMP`, `-IMPRINT`, `-SIGNER`, `-SIGNATURE`, `-TIME`.
pub(super) fn check(
    response: &[u8],
    signature: &[u8],
    root: &TrustedRoot,
) -> Result<Timestamp, Finding> {
    let (token, stamp) = (response.len() <= LONGEST)
        .then(|| read(response))
        .flatten()
        .ok_or_else(|| {
            Finding::new("SIGSTORE-STAMP", "a timestamp cannot be read")
                .expected("an RFC 3161 response that grants a token with one signer")
                .observed(format!("{} bytes", response.len()))
        })?;
    if stamp.imprint != stamp.hash.digest(signature) {
        return Err(Finding::new(
            "SIGSTORE-STAMP-IMPRINT",
            "a timestamp is of another signature",
        )
        .expected(crypto::hex::encode(&stamp.hash.digest(signature)))
        .observed(crypto::hex::encode(stamp.imprint)));
    }
    let mut failure = signer("no authority of the trusted root issued its certificate".to_owned());
    for authority in &root.timestamp_authorities {
        match by(authority, &token, &stamp) {
            Ok(()) => return Ok(stamp.at),
            Err(Attempt::Stranger) => {}
            Err(Attempt::Refused(finding)) => failure = *finding,
        }
    }
    Err(failure)
}

enum Attempt {
    /// Another authority may have signed.
    Stranger,
    Refused(Box<Finding>),
}

impl From<Finding> for Attempt {
    fn from(finding: Finding) -> Self {
        Self::Refused(Box::new(finding))
    }
}

/// Checks that the token is signed under that authority.
fn by(authority: &Authorities, token: &SignedData<'_>, stamp: &Stamp<'_>) -> Result<(), Attempt> {
    let held = authority.holder.as_deref();
    let candidates = token.certificates.iter().copied().chain(held);
    let certificate = candidates
        .filter_map(|der| Certificate::parse(der).ok())
        .find(|certificate| token.names(certificate))
        .ok_or(Attempt::Stranger)?;
    let issued = authority
        .issued(&certificate)
        .map_err(|_stranger| Attempt::Stranger)?;
    let usage = certificate.x509.extended_key_usage();
    // RFC 3161, section 2.3: "This extension MUST be critical" and have time stamping alone.
    let stamps_only = matches!(
        usage,
        Ok(Some(usage)) if usage.critical
            && usage.value.time_stamping
            && !usage.value.any
            && !usage.value.code_signing
            && usage.value.other.is_empty()
    );
    if !stamps_only || !certificate.is_understood() || certificate.is_authority() {
        return Err(signer(format!("{} is not for timestamps", certificate.title())).into());
    }
    if !names_its_certificate(token, &certificate) {
        return Err(signer("the token names another certificate".to_owned()).into());
    }
    if token.signed_by(&certificate).is_none() {
        return Err(Finding::new(
            "SIGSTORE-STAMP-SIGNATURE",
            "a timestamp's signature does not verify",
        )
        .expected(format!("a signature by {}", certificate.title()))
        .into());
    }
    let lifetime = certificate.lifetime();
    let counts = issued.counts_at(stamp.at).and_then(|()| {
        if lifetime.contains(stamp.at) {
            return Ok(());
        }
        Err(Unchained::Unfit(format!(
            "{} is valid {lifetime}, not at {}",
            certificate.title(),
            stamp.at
        )))
    });
    counts.map_err(
        |(Unchained::Unfit(problem) | Unchained::Stranger(problem))| {
            Finding::new(
                "SIGSTORE-STAMP-TIME",
                "a timestamp is from when its authority did not count",
            )
            .observed(problem)
            .into()
        },
    )
}

fn signer(problem: String) -> Finding {
    Finding::new(
        "SIGSTORE-STAMP-SIGNER",
        "a timestamp is not by a timestamp authority of the trusted root",
    )
    .expected("a certificate for time stamping under an authority of the trusted root")
    .observed(problem)
    .next("take the trusted root of the deployment that the code was signed with")
}

/// RFC 5816: the signed attribute that keeps somebody from swapping the certificate.
fn names_its_certificate(token: &SignedData<'_>, certificate: &Certificate<'_>) -> bool {
    let named = || {
        let value = token.attribute(&SIGNING_CERTIFICATE_V2)?;
        let mut attribute = Reader::only(der::SEQUENCE, value)?;
        let mut list = attribute.enter(der::SEQUENCE)?;
        let mut first = list.enter(der::SEQUENCE)?;
        let hash = match first.optional(der::SEQUENCE)? {
            None => Hash::Sha256,
            Some(algorithm) => hash_of(Reader::new(algorithm).take(der::OID)?)?,
        };
        Some(first.take(der::OCTET_STRING)? == hash.digest(certificate.der))
    };
    named().unwrap_or(false)
}

/// `TimeStampResp` (RFC 3161, section 2.4.2) and the `TSTInfo` in its token.
fn read(response: &[u8]) -> Option<(SignedData<'_>, Stamp<'_>)> {
    let mut outer = Reader::only(der::SEQUENCE, response)?;
    // granted(0) and grantedWithMods(1).
    let status = outer.enter(der::SEQUENCE)?.take(der::INTEGER)?;
    if !matches!(status, [0 | 1]) {
        return None;
    }
    let token = SignedData::parse(outer.whole(der::SEQUENCE)?)?;
    outer.end()?;
    if token.content_type != TST_INFO.as_bytes() {
        return None;
    }
    let mut info = Reader::only(der::SEQUENCE, token.content)?;
    if info.take(der::INTEGER)? != [1] {
        return None;
    }
    info.take(der::OID)?;
    let mut imprint = info.enter(der::SEQUENCE)?;
    let hash = hash_of(imprint.algorithm()?)?;
    let digest = imprint.take(der::OCTET_STRING)?;
    imprint.end()?;
    info.take(der::INTEGER)?;
    let at = generalized(info.take(der::GENERALIZED_TIME)?)?;
    info.optional(der::SEQUENCE)?;
    info.optional(der::BOOLEAN)?;
    info.optional(der::INTEGER)?;
    info.optional(der::context(0))?;
    // Extensions would change what the token means.
    info.end()?;
    Some((
        token,
        Stamp {
            hash,
            imprint: digest,
            at,
        },
    ))
}
