//! A timestamp authority and the RFC 3161 responses that it gives.

use super::certificate::{Issuer, serial, stamping_leaf};
use super::der::{ecdsa, element, generalized, integer, name, octets, oid, sequence, utc};
use super::{Deployment, THEN, key};
use crypto::{Algorithm, KeyPair, Signer as _, sha256};
use facts::Timestamp;

const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const TST_INFO: &str = "1.2.840.113549.1.9.16.1.4";
const FROM: Timestamp = Timestamp::from_secs(1_740_000_000);
const UNTIL: Timestamp = Timestamp::from_secs(1_900_000_000);

pub(crate) struct Stamper {
    issuer: Issuer,
    key: KeyPair,
    leaf: Vec<u8>,
}

impl Stamper {
    pub(crate) fn new(organisation: &str) -> Self {
        let issuer = Issuer::new(organisation, &["time"]);
        let key = key(Algorithm::EcdsaP256);
        let leaf = stamping_leaf(
            &issuer,
            "clock",
            key.public_key(),
            (FROM, UNTIL),
            &["time"],
            true,
        );
        Self { issuer, key, leaf }
    }

    /// Leaf, intermediate, root.
    pub(crate) fn chain(&self) -> Vec<Vec<u8>> {
        let mut chain = vec![self.leaf.clone()];
        chain.extend(self.issuer.chain.clone());
        chain
    }
}

/// A response, and what is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StampScript {
    pub(crate) at: Timestamp,
    pub(crate) lie: Lie,
    /// The leaf comes along.
    pub(crate) certificate_inside: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lie {
    None,
    /// Of another signature.
    Imprint,
    Signature,
    /// Signed attributes about another content.
    Digest,
    /// Signed attributes about another type of content.
    ContentType,
    /// The attribute that pins the certificate names another, or is missing.
    SigningCertificate,
    NoSigningCertificate,
    /// A leaf that may do more than stamp, or may not stamp.
    Purposes,
    NotCritical,
    CodeSigner,
    /// Another authority with the same name.
    Stranger,
    /// The leaf has expired.
    Expired,
    Refused,
    TwoSigners,
    Extension,
    Garbage,
}

impl Default for StampScript {
    fn default() -> Self {
        Self {
            at: THEN.plus_secs(1),
            lie: Lie::None,
            certificate_inside: false,
        }
    }
}

impl StampScript {
    pub(crate) fn lying(lie: Lie) -> Self {
        Self {
            lie,
            certificate_inside: true,
            ..Self::default()
        }
    }
}

pub(crate) fn forge(deployment: &Deployment, script: &StampScript, signature: &[u8]) -> Vec<u8> {
    if script.lie == Lie::Garbage {
        return b"no response".to_vec();
    }
    let stranger = Stamper::new("time.forged.test");
    let stamper = if script.lie == Lie::Stranger {
        &stranger
    } else {
        &deployment.stamper
    };
    let leaf_of = |validity, purposes: &[&str], critical| {
        let holder = stamper.key.public_key();
        stamping_leaf(
            &stamper.issuer,
            "clock",
            holder,
            validity,
            purposes,
            critical,
        )
    };
    let leaf = match script.lie {
        Lie::Purposes => leaf_of((FROM, UNTIL), &["time", "code"], true),
        Lie::NotCritical => leaf_of((FROM, UNTIL), &["time"], false),
        Lie::CodeSigner => leaf_of((FROM, UNTIL), &["code"], true),
        Lie::Expired => leaf_of((FROM, THEN.minus_secs(9)), &["time"], true),
        _ => stamper.leaf.clone(),
    };
    let sha256_id = sequence(&[&oid(SHA256), &[5, 0]]);
    let mut imprint = sha256(signature);
    imprint[0] ^= u8::from(script.lie == Lie::Imprint);
    let extra = if script.lie == Lie::Extension {
        element(0xa1, &[&sequence(&[&oid("1.2.3.4"), &octets(&[])])])
    } else {
        Vec::new()
    };
    let info = sequence(&[
        &integer(&[1]),
        &oid("1.3.6.1.4.1.57264.2"),
        &sequence(&[&sha256_id, &octets(&imprint)]),
        &integer(&[7]),
        &generalized(script.at),
        &extra,
    ]);
    let attribute = |kind: &str, value: &[u8]| sequence(&[&oid(kind), &element(0x31, &[value])]);
    let mut digest = sha256(&info);
    digest[0] ^= u8::from(script.lie == Lie::Digest);
    let content_type = if script.lie == Lie::ContentType {
        "1.2.840.113549.1.7.1"
    } else {
        TST_INFO
    };
    let mut pinned = sha256(&leaf);
    pinned[0] ^= u8::from(script.lie == Lie::SigningCertificate);
    let mut attributes = vec![
        attribute("1.2.840.113549.1.9.3", &oid(content_type)),
        attribute("1.2.840.113549.1.9.5", &utc(script.at)),
        attribute("1.2.840.113549.1.9.4", &octets(&digest)),
    ];
    if script.lie != Lie::NoSigningCertificate {
        let id = sequence(&[&sequence(&[&sequence(&[&octets(&pinned)])])]);
        attributes.push(attribute("1.2.840.113549.1.9.16.2.47", &id));
    }
    let attributes = attributes.concat();
    let mut signed = stamper.key.sign(&element(0x31, &[&attributes])).unwrap();
    if script.lie == Lie::Signature {
        signed = stamper.key.sign(b"something else").unwrap();
    }
    let serial = serial(stamper.key.public_key());
    let signer = sequence(&[
        &integer(&[1]),
        &sequence(&[&name("time.forged.test", "intermediate"), &serial]),
        &sha256_id,
        &element(0xa0, &[&attributes]),
        &ecdsa(false),
        &octets(&signed),
    ]);
    let signers = if script.lie == Lie::TwoSigners {
        element(0x31, &[&signer, &signer])
    } else {
        element(0x31, &[&signer])
    };
    let certificates = if script.certificate_inside {
        element(0xa0, &[&leaf])
    } else {
        Vec::new()
    };
    let data = sequence(&[
        &integer(&[3]),
        &element(0x31, &[&sha256_id]),
        &sequence(&[&oid(TST_INFO), &element(0xa0, &[&octets(&info)])]),
        &certificates,
        &signers,
    ]);
    let status = u8::from(script.lie == Lie::Refused) * 2;
    sequence(&[
        &sequence(&[&integer(&[status])]),
        &sequence(&[&oid("1.2.840.113549.1.7.2"), &element(0xa0, &[&data])]),
    ])
}
