//! CMS `SignedData` (RFC 5652) with exactly one signer: what time stampers answer with, and what the kernel
//! takes a policy in. The reader checks one signer's signature; whose certificate counts is the caller's
//! question.

use crate::authority::kind;
use crate::certificate::Certificate;
use crate::der::{self, Reader};
use crypto::chain::{self, Hash, Kind};
use crypto::{Algorithm, Signer};
use x509_parser::asn1_rs::{Oid, oid};

const SIGNED_DATA: Oid<'static> = oid!(1.2.840.113549.1.7.2);
pub(crate) const DATA: Oid<'static> = oid!(1.2.840.113549.1.7.1);
const CONTENT_TYPE: Oid<'static> = oid!(1.2.840.113549.1.9.3);
const MESSAGE_DIGEST: Oid<'static> = oid!(1.2.840.113549.1.9.4);
const MAX_CERTIFICATES: usize = 8;
const MAX_ATTRIBUTES: usize = 16;

const HASHES: [(Oid<'static>, Hash); 3] = [
    (oid!(2.16.840.1.101.3.4.2.1), Hash::Sha256),
    (oid!(2.16.840.1.101.3.4.2.2), Hash::Sha384),
    (oid!(2.16.840.1.101.3.4.2.3), Hash::Sha512),
];
const RSA: Oid<'static> = oid!(1.2.840.113549.1.1.1);
/// Elliptic curves or RSA, and the hash.
const SCHEMES: [(Oid<'static>, bool, Hash); 6] = [
    (oid!(1.2.840.10045.4.3.2), true, Hash::Sha256),
    (oid!(1.2.840.10045.4.3.3), true, Hash::Sha384),
    (oid!(1.2.840.10045.4.3.4), true, Hash::Sha512),
    (oid!(1.2.840.113549.1.1.11), false, Hash::Sha256),
    (oid!(1.2.840.113549.1.1.12), false, Hash::Sha384),
    (oid!(1.2.840.113549.1.1.13), false, Hash::Sha512),
];

/// A message, read and not verified.
#[derive(Debug)]
pub(crate) struct SignedData<'a> {
    /// The OID of what is signed.
    pub(crate) content_type: &'a [u8],
    pub(crate) content: &'a [u8],
    /// Certificates that the signer sent along.
    pub(crate) certificates: Vec<&'a [u8]>,
    /// Raw DER name and the content of the INTEGER.
    pub(crate) issuer: &'a [u8],
    pub(crate) serial: &'a [u8],
    hash: Hash,
    /// OIDs with the one value of each.
    attributes: Option<Attributes<'a>>,
    scheme: &'a [u8],
    signature: &'a [u8],
}

#[derive(Debug)]
struct Attributes<'a> {
    content: &'a [u8],
    list: Vec<(&'a [u8], &'a [u8])>,
}

/// The hash of that OID.
pub(crate) fn hash_of(oid: &[u8]) -> Option<Hash> {
    HASHES
        .iter()
        .find_map(|(known, hash)| (known.as_bytes() == oid).then_some(*hash))
}

impl<'a> SignedData<'a> {
    /// Reads `ContentInfo { signedData, SignedData }` of one signer who is named by issuer and serial.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut info = Reader::only(der::SEQUENCE, bytes)?;
        if info.take(der::OID)? != SIGNED_DATA.as_bytes() {
            return None;
        }
        let mut outer = info.enter(der::context(0))?;
        info.end()?;
        let mut data = outer.enter(der::SEQUENCE)?;
        outer.end()?;
        data.take(der::INTEGER)?;
        data.take(der::SET)?;
        let mut encapsulated = data.enter(der::SEQUENCE)?;
        let content_type = encapsulated.take(der::OID)?;
        let mut explicit = encapsulated.enter(der::context(0))?;
        let content = explicit.take(der::OCTET_STRING)?;
        explicit.end()?;
        encapsulated.end()?;
        let certificates = elements(data.optional(der::context(0))?.unwrap_or_default())?;
        data.optional(der::context(1))?;
        let mut signers = data.enter(der::SET)?;
        data.end()?;
        let mut signer = signers.enter(der::SEQUENCE)?;
        signers.end()?;

        // Version 1: the signer is named by issuer and serial number (RFC 5652, section 5.3).
        if signer.take(der::INTEGER)? != [1] {
            return None;
        }
        let mut name = signer.enter(der::SEQUENCE)?;
        let issuer = name.whole(der::SEQUENCE)?;
        let serial = name.take(der::INTEGER)?;
        name.end()?;
        let hash = hash_of(signer.algorithm()?)?;
        let attributes = match signer.optional(der::context(0))? {
            Some(content) => Some(Attributes::read(content)?),
            None => None,
        };
        let scheme = signer.algorithm()?;
        let signature = signer.take(der::OCTET_STRING)?;
        signer.optional(der::context(1))?;
        signer.end()?;
        Some(Self {
            content_type,
            content,
            certificates,
            issuer,
            serial,
            hash,
            attributes,
            scheme,
            signature,
        })
    }

    /// The one value of a signed attribute.
    pub(crate) fn attribute(&self, oid: &Oid<'_>) -> Option<&'a [u8]> {
        self.attributes.as_ref()?.value(oid)
    }

    /// Whether this is the certificate that the signer names.
    pub(crate) fn names(&self, certificate: &Certificate<'_>) -> bool {
        certificate.issuer() == self.issuer && certificate.serial() == self.serial
    }

    /// Whether `certificate`'s key signed the content, directly or through the signed attributes.
    pub(crate) fn signed_by(&self, certificate: &Certificate<'_>) -> Option<()> {
        let key = certificate.key().ok()?;
        let kind = kind(&key)?;
        self.check_scheme(kind)?;
        let Some(attributes) = &self.attributes else {
            let message = self.content;
            return chain::verify(kind, self.hash, key.raw(), message, self.signature).ok();
        };
        // RFC 5652, section 5.4: the digest is of the content, the type is that of the content, and "a
        // separate encoding of the signedAttrs field is performed … with an EXPLICIT SET OF tag".
        let digest = Reader::new(attributes.value(&MESSAGE_DIGEST)?).take(der::OCTET_STRING)?;
        let content_type = Reader::new(attributes.value(&CONTENT_TYPE)?).take(der::OID)?;
        if digest != self.hash.digest(self.content) || content_type != self.content_type {
            return None;
        }
        let message = der::element(der::SET, &[attributes.content]);
        chain::verify(kind, self.hash, key.raw(), &message, self.signature).ok()
    }

    /// The signature algorithm fits the key and the digest algorithm.
    fn check_scheme(&self, kind: Kind) -> Option<()> {
        let rsa = kind == Kind::Rsa;
        if rsa && self.scheme == RSA.as_bytes() {
            return Some(());
        }
        SCHEMES
            .iter()
            .any(|(oid, curve, hash)| {
                oid.as_bytes() == self.scheme && *curve != rsa && *hash == self.hash
            })
            .then_some(())
    }
}

impl<'a> Attributes<'a> {
    fn read(content: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(content);
        let mut list = Vec::new();
        while !reader.is_empty() {
            let mut attribute = reader.enter(der::SEQUENCE)?;
            let oid = attribute.take(der::OID)?;
            let value = attribute.take(der::SET)?;
            attribute.end()?;
            let twice = list.iter().any(|(seen, _)| *seen == oid);
            if twice || list.len() == MAX_ATTRIBUTES {
                return None;
            }
            list.push((oid, value));
        }
        Some(Self { content, list })
    }

    fn value(&self, oid: &Oid<'_>) -> Option<&'a [u8]> {
        self.list
            .iter()
            .find_map(|(found, value)| (*found == oid.as_bytes()).then_some(*value))
    }
}

fn elements(content: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = Reader::new(content);
    let mut elements = Vec::new();
    while !reader.is_empty() {
        if elements.len() == MAX_CERTIFICATES {
            return None;
        }
        elements.push(reader.next()?.whole);
    }
    Some(elements)
}

/// Where the signed bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placement {
    Inside,
    Detached,
}

/// `SignedData` over `content`, without signed attributes, by the holder of `certificate`: what
/// `openssl smime -sign -binary -noattr -nosmimecap -outform der` writes. With [`Placement::Inside`] it is
/// what the kernel takes for an IPE policy.
///
/// # Errors
/// If the signer signs in a way that no CMS reader expects, or not at all.
pub(crate) fn sign(
    content: &[u8],
    certificate: &Certificate<'_>,
    signer: &dyn Signer,
    placement: Placement,
) -> Result<Vec<u8>, crypto::Error> {
    let algorithm = signer.public_key().algorithm();
    let unsupported = crypto::Error::Unsupported {
        algorithm,
        operation: "signing a CMS message",
    };
    let null = der::element(der::NULL, &[]);
    let (hash, scheme) = match algorithm {
        Algorithm::EcdsaP256 => (
            Hash::Sha256,
            algorithm_identifier(SCHEMES[0].0.as_bytes(), &[]),
        ),
        Algorithm::EcdsaP384 => (
            Hash::Sha384,
            algorithm_identifier(SCHEMES[1].0.as_bytes(), &[]),
        ),
        Algorithm::Rsa => (Hash::Sha256, algorithm_identifier(RSA.as_bytes(), &null)),
        Algorithm::Ed25519 | Algorithm::MlDsa44 => return Err(unsupported),
    };
    let digest = HASHES
        .iter()
        .find(|(_, known)| *known == hash)
        .map(|(oid, _)| algorithm_identifier(oid.as_bytes(), &null))
        .ok_or(unsupported)?;
    let signature = signer.sign(content)?;

    let version = der::element(der::INTEGER, &[&[1]]);
    let data = der::element(der::OID, &[DATA.as_bytes()]);
    let inside = match placement {
        Placement::Inside => der::element(
            der::context(0),
            &[&der::element(der::OCTET_STRING, &[content])],
        ),
        Placement::Detached => Vec::new(),
    };
    let name = der::element(
        der::SEQUENCE,
        &[
            certificate.issuer(),
            &der::element(der::INTEGER, &[certificate.serial()]),
        ],
    );
    let signer_info = der::element(
        der::SEQUENCE,
        &[
            &version,
            &name,
            &digest,
            &scheme,
            &der::element(der::OCTET_STRING, &[&signature]),
        ],
    );
    let signed_data = der::element(
        der::SEQUENCE,
        &[
            &version,
            &der::element(der::SET, &[&digest]),
            &der::element(der::SEQUENCE, &[&data, &inside]),
            &der::element(der::context(0), &[certificate.der]),
            &der::element(der::SET, &[&signer_info]),
        ],
    );
    Ok(der::element(
        der::SEQUENCE,
        &[
            &der::element(der::OID, &[SIGNED_DATA.as_bytes()]),
            &der::element(der::context(0), &[&signed_data]),
        ],
    ))
}

fn algorithm_identifier(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    der::element(
        der::SEQUENCE,
        &[&der::element(der::OID, &[oid]), parameters],
    )
}
