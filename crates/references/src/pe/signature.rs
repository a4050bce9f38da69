//! The PKCS #7 signature of a PE image (Authenticode; RFC 2315): that it is over this image, who made
//! it, and under which certificate of a database firmware would accept it.
//!
//! As firmware does, validity periods are not looked at. RSA with SHA-256 only: what UEFI's own
//! authorities and distributions use.

use super::Image;
use crate::Digest;
use crate::der::{self, CONTEXT_0, OCTETS, OID, SEQUENCE, SET};
use crypto::PublicKey;
use facts::Finding;

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const SPC_INDIRECT_DATA: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x01, 0x04];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const SHA256_WITH_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const LARGEST: usize = 256 * 1024;
const MOST_ELEMENTS: usize = 64;
/// Signer, intermediates and root.
const LONGEST_CHAIN: usize = 5;

/// An entry of a signature database that lets an image run, as firmware measures it into PCR 7.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// `db`, `MokListRT`, …
    pub variable: &'static str,
    /// GUID of the variable's vendor.
    pub vendor: [u8; 16],
    /// The `EFI_SIGNATURE_DATA`: owner GUID, then certificate or digest.
    pub data: Vec<u8>,
}

/// A signature that was checked against its image.
#[derive(Debug, Clone)]
pub struct SignedImage<'a> {
    signer: Certificate<'a>,
    others: Vec<Certificate<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Certificate<'a> {
    der: &'a [u8],
    tbs: &'a [u8],
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    spki: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

fn refused(what: &str) -> Finding {
    Finding::new(
        "REF-PE-SIGNATURE",
        "the signature of the image does not hold",
    )
    .expected("an Authenticode signature by RSA and SHA-256 over this image")
    .observed(what)
    .next("sign the image again, for example with sbsign")
}

impl<'a> SignedImage<'a> {
    /// Checks one of [`Image::signatures`].
    ///
    /// # Errors
    /// `REF-PE-SIGNATURE`.
    pub fn verify(image: &Image<'_>, signature: &'a [u8]) -> Result<Self, Finding> {
        if signature.len() > LARGEST {
            return Err(refused("a signature that is too long"));
        }
        let parts = Parts::parse(signature).ok_or_else(|| refused("no PKCS #7 SignedData"))?;
        if parts.image_digest != image.authenticode().as_bytes() {
            return Err(refused("a signature over another image"));
        }
        let attributes = parts
            .attributes
            .ok_or_else(|| refused("a signature without attributes"))?;
        if parts.message_digest() != Some(&crypto::sha256(parts.content)) {
            return Err(refused("a signature over another statement"));
        }
        let position = parts.certificates.iter().position(|certificate| {
            certificate.issuer == parts.issuer && certificate.serial == parts.serial
        });
        let mut others = parts.certificates;
        let signer = position
            .map(|position| others.remove(position))
            .ok_or_else(|| refused("no certificate of the signer"))?;
        // RFC 2315, section 9.3: signed is the SET OF, not the [0] that stands in its place.
        let mut signed = attributes.to_vec();
        if let Some(tag) = signed.first_mut() {
            *tag = SET;
        }
        let key = PublicKey::from_spki_der(signer.spki)
            .ok()
            .filter(|key| key.algorithm() == crypto::Algorithm::Rsa)
            .ok_or_else(|| refused("a signer without an RSA key of 2048 bits or more"))?;
        key.verify(&signed, parts.signature)
            .map_err(|_| refused("a signature by another key"))?;
        Ok(Self { signer, others })
    }

    /// Whether firmware that trusts the certificate `anchor` accepts the signer: it is the signer's own,
    /// or the end of a chain of the certificates that came with the signature.
    #[must_use]
    pub fn chains_to(&self, anchor: &[u8]) -> bool {
        let Some(anchor) = Certificate::parse(anchor) else {
            return false;
        };
        self.chain(&self.signer, &anchor, LONGEST_CHAIN)
    }

    /// Every certificate that came along, the signer's first.
    pub fn certificates(&self) -> impl Iterator<Item = &'a [u8]> {
        std::iter::once(&self.signer)
            .chain(&self.others)
            .map(|certificate| certificate.der)
    }

    /// SHA-256 of the TBS of each certificate, as dbx names them.
    pub(crate) fn tbs_digests(&self) -> impl Iterator<Item = Digest> {
        std::iter::once(&self.signer)
            .chain(&self.others)
            .map(|certificate| Digest::of(certificate.tbs))
    }

    /// SHA-256 of the signer's certificate.
    #[must_use]
    pub fn signer(&self) -> Digest {
        Digest::of(self.signer.der)
    }

    /// The common name of the signer's certificate, empty if it has none.
    #[must_use]
    pub fn signer_name(&self) -> String {
        common_name(self.signer.subject).unwrap_or_default()
    }

    fn chain(&self, from: &Certificate<'a>, anchor: &Certificate<'_>, left: usize) -> bool {
        if from.der == anchor.der || from.is_issued_by(anchor) {
            return true;
        }
        left > 0
            && self.others.iter().any(|issuer| {
                issuer != from
                    && from.is_issued_by(issuer)
                    && self.chain(issuer, anchor, left.saturating_sub(1))
            })
    }
}

impl<'a> Certificate<'a> {
    /// RFC 5280, section 4.1, as far as a chain needs it.
    fn parse(der: &'a [u8]) -> Option<Self> {
        let (whole, rest) = der::take(SEQUENCE, der)?;
        let [tbs, algorithm, signature] = *der::list(whole.content, 3)? else {
            return None;
        };
        let mut fields = der::list(tbs.content, 16)?.into_iter();
        let mut serial = fields.next()?;
        if serial.tag == CONTEXT_0 {
            serial = fields.next()?;
        }
        let _algorithm_inside = fields.next()?;
        let issuer = fields.next()?;
        let _validity = fields.next()?;
        let (subject, spki) = (fields.next()?, fields.next()?);
        Some(Self {
            der: whole.whole,
            tbs: tbs.whole,
            serial: serial.content,
            issuer: issuer.whole,
            subject: subject.whole,
            spki: spki.whole,
            algorithm: der::take(OID, algorithm.content)?.0.content,
            signature: signature.content.strip_prefix(&[0])?,
        })
        .filter(|_| rest.is_empty())
    }

    fn is_issued_by(&self, issuer: &Certificate<'_>) -> bool {
        self.issuer == issuer.subject
            && self.algorithm == SHA256_WITH_RSA
            && PublicKey::from_spki_der(issuer.spki).is_ok_and(|key| {
                key.algorithm() == crypto::Algorithm::Rsa
                    && key.verify(self.tbs, self.signature).is_ok()
            })
    }
}

/// The pieces of a SignedData with one signer.
struct Parts<'a> {
    image_digest: &'a [u8],
    /// The statement, without its tag and length.
    content: &'a [u8],
    certificates: Vec<Certificate<'a>>,
    issuer: &'a [u8],
    serial: &'a [u8],
    attributes: Option<&'a [u8]>,
    signature: &'a [u8],
}

impl<'a> Parts<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        // The table pads a signature with zeros; they are not part of it.
        let (outer, _padding) = der::take(SEQUENCE, bytes)?;
        let (kind, rest) = der::take(OID, outer.content)?;
        let (explicit, _) = der::take(CONTEXT_0, rest)?;
        let (signed, _) = der::take(SEQUENCE, explicit.content)?;
        if kind.content != SIGNED_DATA {
            return None;
        }
        let mut fields = der::list(signed.content, 8)?.into_iter();
        let (_version, _algorithms) = (fields.next()?, fields.next()?);
        let (image_digest, content) = statement(fields.next()?.content)?;
        let mut certificates = Vec::new();
        let mut signers = None;
        for field in fields {
            match field.tag {
                CONTEXT_0 => {
                    for element in der::list(field.content, MOST_ELEMENTS)? {
                        certificates.extend(Certificate::parse(element.whole));
                    }
                }
                SET => signers = Some(field.content),
                _ => {}
            }
        }
        let [signer] = *der::list(signers?, 1)? else {
            return None;
        };
        Self::signer(signer.content, image_digest, content, certificates)
    }

    fn signer(
        bytes: &'a [u8],
        image_digest: &'a [u8],
        content: &'a [u8],
        certificates: Vec<Certificate<'a>>,
    ) -> Option<Self> {
        let mut fields = der::list(bytes, 8)?.into_iter();
        let _version = fields.next()?;
        let [issuer, serial] = *der::list(fields.next()?.content, 2)? else {
            return None;
        };
        let digest = fields.next()?;
        if der::take(OID, digest.content)?.0.content != SHA256 {
            return None;
        }
        let mut field = fields.next()?;
        let mut attributes = None;
        if field.tag == CONTEXT_0 {
            attributes = Some(field.whole);
            field = fields.next()?;
        }
        let signature = fields.next().filter(|field| field.tag == OCTETS)?;
        Some(Self {
            image_digest,
            content,
            certificates,
            issuer: issuer.whole,
            serial: serial.content,
            attributes,
            signature: signature.content,
        })
        .filter(|_| field.tag == SEQUENCE)
    }

    fn message_digest(&self) -> Option<&[u8; 32]> {
        let (attributes, _) = der::next(self.attributes?)?;
        let attributes = der::list(attributes.content, MOST_ELEMENTS)?;
        attributes.iter().find_map(|attribute| {
            let (kind, rest) = der::take(OID, attribute.content)?;
            let (values, _) = der::take(SET, rest)?;
            let (value, _) = der::take(OCTETS, values.content)?;
            (kind.content == MESSAGE_DIGEST)
                .then_some(value.content)?
                .try_into()
                .ok()
        })
    }
}

/// The SHA-256 of the image in an `SpcIndirectDataContent`, and what of it is hashed.
fn statement(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (kind, rest) = der::take(OID, bytes)?;
    let (explicit, _) = der::take(CONTEXT_0, rest)?;
    let (indirect, _) = der::take(SEQUENCE, explicit.content)?;
    let [_data, info] = *der::list(indirect.content, 2)? else {
        return None;
    };
    let [algorithm, digest] = *der::list(info.content, 2)? else {
        return None;
    };
    let sha256 = der::take(OID, algorithm.content)?.0.content == SHA256;
    (kind.content == SPC_INDIRECT_DATA && sha256 && digest.tag == OCTETS)
        .then_some((digest.content, indirect.content))
}

fn common_name(name: &[u8]) -> Option<String> {
    let (name, _) = der::take(SEQUENCE, name)?;
    der::list(name.content, MOST_ELEMENTS)?
        .into_iter()
        .find_map(|set| {
            let (pair, _) = der::take(SEQUENCE, set.content)?;
            let (kind, rest) = der::take(OID, pair.content)?;
            let (value, _) = der::next(rest)?;
            let text = str::from_utf8(value.content).ok()?;
            let plain = !text.chars().any(char::is_control);
            (kind.content == COMMON_NAME && plain).then(|| text.to_owned())
        })
}
