//! The signed certificate timestamp inside a signer's certificate: proof that the authority showed the
//! certificate to a Certificate Transparency log before it issued it (RFC 6962, sections 3.2 and 3.3).

use super::root::TrustedRoot;
use crate::certificate::Certificate;
use crate::der::{self, Reader};
use crypto::chain::Kind;
use facts::{Finding, Timestamp};
use x509_parser::asn1_rs::{Oid, oid};

const SCT_LIST: Oid<'static> = oid!(1.3.6.1.4.1.11129.2.4.2);
const MAX_SCTS: usize = 8;

/// One timestamp of the list.
struct Sct<'a> {
    log: &'a [u8],
    at: u64,
    extensions: &'a [u8],
    kind: Kind,
    signature: &'a [u8],
}

/// Checks that a log of `root` signed for `certificate`, which the authority with the key of that hash
/// issued, when the log's key counted.
///
/// # Errors
/// `SIGSTORE-SCT`.
pub(super) fn check(
    certificate: &Certificate<'_>,
    issuer_key_hash: &[u8; 32],
    root: &TrustedRoot,
) -> Result<(), Finding> {
    let list = certificate
        .extension(&SCT_LIST)
        .ok_or_else(|| refused("no timestamp"))?;
    let list = read_list(list.value).ok_or_else(|| refused("an unreadable list of timestamps"))?;
    let tbs = without_list(certificate.tbs())
        .ok_or_else(|| refused("a certificate that cannot be taken apart"))?;
    let mut problem = "no timestamp of a log of the trusted root";
    for sct in &list {
        let Some(log) = <[u8; 32]>::try_from(sct.log)
            .ok()
            .and_then(|id| root.certificate_logs.get(&id))
        else {
            continue;
        };
        if !log.window.contains(Timestamp::from_millis(sct.at)) {
            problem = "a timestamp from when its log did not count";
        } else if sct.kind != log.kind {
            problem = "a timestamp signed by another kind of key than its log's";
        } else if log.signed(&signed_bytes(sct, issuer_key_hash, &tbs), sct.signature) {
            return Ok(());
        } else {
            problem = "a timestamp that its log did not sign for this certificate";
        }
    }
    Err(refused(problem))
}

fn refused(problem: &str) -> Finding {
    Finding::new(
        "SIGSTORE-SCT",
        "no Certificate Transparency log saw the signer's certificate",
    )
    .expected("a signed certificate timestamp of a log of the trusted root")
    .observed(problem)
}

/// `SignedCertificateTimestampList` in an OCTET STRING.
fn read_list(extension: &[u8]) -> Option<Vec<Sct<'_>>> {
    let mut outer = Reader::new(extension);
    let bytes = outer.take(der::OCTET_STRING)?;
    outer.end()?;
    let (mut list, rest) = vector(bytes)?;
    if !rest.is_empty() {
        return None;
    }
    let mut scts = Vec::new();
    while !list.is_empty() {
        let (sct, rest) = vector(list)?;
        if scts.len() == MAX_SCTS {
            return None;
        }
        scts.push(read_sct(sct)?);
        list = rest;
    }
    Some(scts)
}

fn read_sct(bytes: &[u8]) -> Option<Sct<'_>> {
    let (&version, rest) = bytes.split_first()?;
    let (log, rest) = rest.split_at_checked(32)?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (extensions, rest) = vector(rest)?;
    let ([hash, signature], rest) = rest.split_first_chunk::<2>()?;
    // RFC 5246, section 7.4.1.4.1: sha256(4) with ecdsa(3) or rsa(1), which is all that RFC 6962 allows.
    let kind = match (hash, signature) {
        (4, 3) => Kind::P256,
        (4, 1) => Kind::Rsa,
        _ => return None,
    };
    let (signature, rest) = vector(rest)?;
    (version == 0 && rest.is_empty()).then_some(Sct {
        log,
        at: u64::from_be_bytes(*at),
        extensions,
        kind,
        signature,
    })
}

/// Bytes behind their length of two bytes, and what follows.
fn vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// RFC 6962, section 3.2: the `digitally-signed` structure of a precertificate entry.
fn signed_bytes(sct: &Sct<'_>, issuer_key_hash: &[u8; 32], tbs: &[u8]) -> Vec<u8> {
    const VERSION_1: u8 = 0;
    const CERTIFICATE_TIMESTAMP: u8 = 0;
    const PRECERT_ENTRY: [u8; 2] = [0, 1];
    // INVARIANT: certificates are at most 16 KiB long.
    let [.., high, middle, low] = tbs.len().to_be_bytes();
    let [.., more, less] = sct.extensions.len().to_be_bytes();
    [
        &[VERSION_1, CERTIFICATE_TIMESTAMP][..],
        &sct.at.to_be_bytes(),
        &PRECERT_ENTRY,
        issuer_key_hash,
        &[high, middle, low],
        tbs,
        &[more, less],
        sct.extensions,
    ]
    .concat()
}

/// The part that was signed, as the log saw it: without the extension that holds the list.
fn without_list(tbs: &[u8]) -> Option<Vec<u8>> {
    let mut fields = Reader::only(der::SEQUENCE, tbs)?;
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while !fields.is_empty() {
        let field = fields.next()?;
        if field.tag != der::context(3) {
            kept.push(field.whole.to_vec());
            continue;
        }
        let mut list = Reader::only(der::SEQUENCE, field.content)?;
        let mut extensions: Vec<&[u8]> = Vec::new();
        while !list.is_empty() {
            let extension = list.whole(der::SEQUENCE)?;
            let oid = Reader::only(der::SEQUENCE, extension)?.take(der::OID)?;
            if oid != SCT_LIST.as_bytes() {
                extensions.push(extension);
            }
        }
        let sequence = der::element(der::SEQUENCE, &extensions);
        kept.push(der::element(der::context(3), &[&sequence]));
    }
    let parts: Vec<&[u8]> = kept.iter().map(Vec::as_slice).collect();
    Some(der::element(der::SEQUENCE, &parts))
}
