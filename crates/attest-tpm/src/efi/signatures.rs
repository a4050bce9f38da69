//! `EFI_SIGNATURE_LIST` (UEFI 2.10, section 32.4.1): what PK, KEK, db and dbx hold.

use super::Guid;
use crate::bytes::Bytes;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// More than any forbidden list seen in the field (about 500).
const MOST: usize = 16_384;
/// Of an `EFI_SIGNATURE_LIST` header: type, list size, header size, signature size.
const HEADER: usize = 28;
const OWNER: usize = 16;

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Who put it there, as the one who put it there says.
    pub owner: Guid,
    pub content: Content,
}

/// What an entry lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A certificate: SHA-256 of its DER, and its subject if it can be read.
    Certificate {
        sha256: [u8; 32],
        subject: Option<String>,
    },
    /// The SHA-256 (Authenticode) of an image.
    Image([u8; 32]),
    /// An entry of another type: its type, and SHA-256 of its bytes.
    Other { kind: Guid, sha256: [u8; 32] },
}

impl Content {
    /// What reference values compare: SHA-256 of a certificate or of an unknown entry, or the digest
    /// that is listed.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        match self {
            Self::Certificate { sha256, .. } | Self::Other { sha256, .. } | Self::Image(sha256) => {
                sha256
            }
        }
    }

    pub(super) fn certificate(der: &[u8]) -> Self {
        let subject = X509Certificate::from_der(der).ok();
        Self::Certificate {
            sha256: crypto::sha256(der),
            subject: subject.map(|(_, certificate)| certificate.subject().to_string()),
        }
    }

    fn of(kind: Guid, data: &[u8]) -> Self {
        match data.as_array::<32>() {
            Some(digest) if kind == Guid::SHA256 => Self::Image(*digest),
            _ if kind == Guid::X509 => Self::certificate(data),
            _ => Self::Other {
                kind,
                sha256: crypto::sha256(data),
            },
        }
    }
}

/// Bytes that are not signature lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an EFI_SIGNATURE_LIST: {0}")]
pub struct SignatureListError(&'static str);

/// The entries of all lists in `value`, the contents of a variable. Empty for an empty variable.
///
/// # Errors
/// [`SignatureListError`] for sizes that contradict one another or more entries than 16,384.
pub fn parse_signature_lists(value: &[u8]) -> Result<Vec<Signature>, SignatureListError> {
    let mut bytes = Bytes::new(value);
    let mut signatures = Vec::new();
    while !bytes.is_empty() {
        let short = SignatureListError("shorter than its header");
        let kind = Guid::new(*bytes.array::<16>().ok_or(short)?);
        let list = bytes.u32().ok_or(short)?;
        let header = bytes.u32().ok_or(short)?;
        let each = bytes.u32().ok_or(short)?;
        let body = usize::try_from(list)
            .ok()
            .and_then(|list| list.checked_sub(HEADER))
            .ok_or(SignatureListError("a list size below its header's"))?;
        let body = bytes
            .take(body)
            .ok_or(SignatureListError("a list longer than what is there"))?;
        entries(kind, header, each, body, &mut signatures)?;
    }
    Ok(signatures)
}

fn entries(
    kind: Guid,
    header: u32,
    each: u32,
    body: &[u8],
    signatures: &mut Vec<Signature>,
) -> Result<(), SignatureListError> {
    let sizes = SignatureListError("sizes that do not divide the list");
    let mut bytes = Bytes::new(body);
    bytes.take_u32(header).ok_or(sizes)?;
    let each = usize::try_from(each).map_err(|_| sizes)?;
    let length = each.checked_sub(OWNER).ok_or(sizes)?;
    if !bytes.rest().len().is_multiple_of(each) {
        return Err(sizes);
    }
    while !bytes.is_empty() {
        if signatures.len() >= MOST {
            return Err(SignatureListError("more than 16,384 entries"));
        }
        let owner = Guid::new(*bytes.array::<OWNER>().ok_or(sizes)?);
        let data = bytes.take(length).ok_or(sizes)?;
        signatures.push(Signature {
            owner,
            content: Content::of(kind, data),
        });
    }
    Ok(())
}

/// What one `EFI_SIGNATURE_DATA` lists whose type is not said, as in an authority's event: owner and
/// certificate, or owner and SHA-256; old shims left the owner out.
pub(crate) fn one_signature(value: &[u8]) -> Option<Content> {
    if is_certificate(value) {
        return Some(Content::certificate(value));
    }
    let (_, data) = value.split_at_checked(OWNER)?;
    if is_certificate(data) {
        return Some(Content::certificate(data));
    }
    data.as_array::<32>().map(|digest| Content::Image(*digest))
}

/// Whether `bytes` are exactly one certificate, so that an owner's bytes are not taken for one.
fn is_certificate(bytes: &[u8]) -> bool {
    X509Certificate::from_der(bytes).is_ok_and(|(rest, _)| rest.is_empty())
}

/// A list of one certificate whose owner is shim: how shim builds the list that it measures to PCR 14.
pub(crate) fn x509_list(certificate: &[u8]) -> Option<Vec<u8>> {
    list(Guid::X509, certificate)
}

/// A list of one digest whose owner is shim; of zeros, what shim measures where nothing is enrolled.
pub(crate) fn sha256_list(digest: &[u8; 32]) -> Option<Vec<u8>> {
    list(Guid::SHA256, digest)
}

fn list(kind: Guid, data: &[u8]) -> Option<Vec<u8>> {
    let each = u32::try_from(data.len().checked_add(OWNER)?).ok()?;
    let size = each.checked_add(u32::try_from(HEADER).ok()?)?;
    let mut list = kind.as_bytes().to_vec();
    list.extend(size.to_le_bytes());
    list.extend(0u32.to_le_bytes());
    list.extend(each.to_le_bytes());
    list.extend(Guid::SHIM.as_bytes());
    list.extend(data);
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_entry_by_entry() {
        let mut value = sha256_list(&[7; 32]).unwrap();
        value.extend(x509_list(b"no certificate").unwrap());
        let signatures = parse_signature_lists(&value).unwrap();
        assert_eq!(signatures[0].content, Content::Image([7; 32]));
        assert_eq!(signatures[1].owner, Guid::SHIM);
        assert_eq!(
            signatures[1].content,
            Content::Certificate {
                sha256: crypto::sha256(b"no certificate"),
                subject: None
            }
        );
        assert_eq!(parse_signature_lists(&[]).unwrap(), []);
    }

    #[test]
    fn sizes_that_lie_are_refused() {
        let good = sha256_list(&[7; 32]).unwrap();
        // List size, header size, signature size.
        for (at, value) in [
            (16, 0u32),
            (16, 27),
            (16, u32::MAX),
            (20, 1),
            (20, u32::MAX),
            (24, 0),
            (24, 15),
            (24, 17),
            (24, u32::MAX),
        ] {
            let mut bad = good.clone();
            bad[at..at + 4].copy_from_slice(&value.to_le_bytes());
            assert!(parse_signature_lists(&bad).is_err(), "{at} {value}");
        }
        for cut in 1..good.len() {
            assert!(parse_signature_lists(&good[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_list_of_nothing_but_owners_cannot_fill_the_memory() {
        let mut value = Guid::X509.as_bytes().to_vec();
        let entries = 16_385u32 * 16;
        value.extend((entries + 28).to_le_bytes());
        value.extend(0u32.to_le_bytes());
        value.extend(16u32.to_le_bytes());
        value.resize(28 + entries as usize, 0);
        assert_eq!(
            parse_signature_lists(&value).unwrap_err().to_string(),
            "not an EFI_SIGNATURE_LIST: more than 16,384 entries"
        );
    }
}
