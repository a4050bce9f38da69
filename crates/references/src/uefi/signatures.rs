//! `EFI_SIGNATURE_LIST` (UEFI 2.10, section 32.4.1): what db, dbx and the MOK lists hold.

use crate::Digest;
use crate::bytes::{guid, size, slice};
use crate::pe::SignedImage;
use facts::Finding;

/// A5C059A1-94E4-4AA7-87B5-AB155C2BF072
const X509: [u8; 16] = [
    0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72,
];
/// C1C41626-504C-4092-ACA9-41F936934328
const SHA256: [u8; 16] = [
    0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28,
];
/// 3BD2A492-96C0-4079-B420-FCF98EF103ED: SHA-256 of a certificate's TBS, and when it was revoked.
const X509_SHA256: [u8; 16] = [
    0x92, 0xa4, 0xd2, 0x3b, 0xc0, 0x96, 0x79, 0x40, 0xb4, 0x20, 0xfc, 0xf9, 0x8e, 0xf1, 0x03, 0xed,
];
const HEADER: usize = 28;
const OWNER: usize = 16;
const MOST_ENTRIES: usize = 65_536;

/// The entries of all lists, in order.
#[derive(Debug, Clone)]
pub struct SignatureLists<'a>(Vec<Entry<'a>>);

#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    kind: [u8; 16],
    /// `EFI_SIGNATURE_DATA`: owner, then the signature.
    data: &'a [u8],
}

impl<'a> Entry<'a> {
    fn signature(&self) -> &'a [u8] {
        self.data.get(OWNER..).unwrap_or_default()
    }
}

impl<'a> SignatureLists<'a> {
    /// # Errors
    /// `REF-UEFI-SIGNATURES`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Finding> {
        let refused = || {
            Finding::new("REF-UEFI-SIGNATURES", "a signature database is damaged")
                .expected("EFI_SIGNATURE_LISTs one after the other")
                .observed("lengths that do not fit")
                .next("copy the variables from the machine again")
        };
        let mut entries = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = list(rest, &mut entries).ok_or_else(refused)?;
        }
        Ok(Self(entries))
    }

    /// Owner and signature of every X.509 entry.
    pub fn certificates(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.0
            .iter()
            .filter(|entry| entry.kind == X509)
            .map(|entry| {
                (
                    entry.data.get(..OWNER).unwrap_or_default(),
                    entry.signature(),
                )
            })
    }

    /// The `EFI_SIGNATURE_DATA` of the first certificate under which `signed` is accepted.
    #[must_use]
    pub fn accepts(&self, signed: &SignedImage<'_>) -> Option<Vec<u8>> {
        let mut certificates = self.0.iter().filter(|entry| entry.kind == X509);
        certificates
            .find(|entry| signed.chains_to(entry.signature()))
            .map(|entry| entry.data.to_vec())
    }

    /// Whether a certificate of `signed`, or one that issued it, stands here: by itself or by the SHA-256
    /// of its TBS.
    #[must_use]
    pub fn denies(&self, signed: &SignedImage<'_>) -> bool {
        let hashes: Vec<Digest> = signed.tbs_digests().collect();
        self.0.iter().any(|entry| match entry.kind {
            X509 => signed.chains_to(entry.signature()),
            X509_SHA256 => {
                let hash = slice(entry.signature(), 0, 32).unwrap_or_default();
                hashes.iter().any(|digest| digest.as_bytes() == hash)
            }
            _ => false,
        })
    }

    /// The `EFI_SIGNATURE_DATA` that holds the image digest.
    #[must_use]
    pub fn digest(&self, digest: &Digest) -> Option<Vec<u8>> {
        let mut digests = self.0.iter().filter(|entry| entry.kind == SHA256);
        digests
            .find(|entry| entry.signature() == digest.as_bytes())
            .map(|entry| entry.data.to_vec())
    }
}

fn list<'a>(bytes: &'a [u8], entries: &mut Vec<Entry<'a>>) -> Option<&'a [u8]> {
    let kind = guid(bytes, 0)?;
    let length = size(bytes, 16)?;
    let header = size(bytes, 20)?;
    let each = size(bytes, 24)?;
    let (whole, rest) = bytes.split_at_checked(length)?;
    let data = whole.get(HEADER.checked_add(header)?..)?;
    if each <= OWNER || data.len() % each != 0 {
        return None;
    }
    for data in data.chunks_exact(each) {
        if entries.len() == MOST_ENTRIES {
            return None;
        }
        entries.push(Entry { kind, data });
    }
    Some(rest)
}

/// A list of one certificate.
#[must_use]
pub fn x509_list(owner: &[u8; 16], certificate: &[u8]) -> Vec<u8> {
    let each = OWNER.saturating_add(certificate.len());
    let field = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    [
        X509.as_slice(),
        &field(HEADER.saturating_add(each)),
        &field(0),
        &field(each),
        owner,
        certificate,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_stand_one_after_the_other() {
        let owner = [7; 16];
        let both = [x509_list(&owner, b"one"), x509_list(&owner, b"second")].concat();
        let lists = SignatureLists::parse(&both).unwrap();
        let found: Vec<_> = lists.certificates().collect();
        assert_eq!(
            found,
            [(&owner[..], &b"one"[..]), (&owner[..], &b"second"[..])]
        );
        assert!(SignatureLists::parse(&both[..both.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, at in 0_usize..70, byte: u8) {
            let _refused = SignatureLists::parse(&bytes);
            let mut damaged = x509_list(&[7; 16], b"certificate");
            if let Some(place) = damaged.get_mut(at) {
                *place = byte;
            }
            let _refused = SignatureLists::parse(&damaged);
        }
    }
}
