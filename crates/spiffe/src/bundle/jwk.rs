//! JSON Web Keys as they stand in bundles (RFC 7517, RFC 7518 section 6). Form only: what a key may
//! be used for, the bundle decides.

use crypto::base64;
use crypto::jws::{Curve, VerificationKey};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::public_key::PublicKey;

/// Unknown parameters are ignored, keys are read one by one: "Parameters not defined here MAY be
/// included as implementers see fit".
#[derive(Serialize, Deserialize)]
pub(super) struct JwkSet {
    pub(super) keys: Vec<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spiffe_sequence: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) spiffe_refresh_hint: Option<u64>,
}

#[derive(Default, Serialize, Deserialize)]
pub(super) struct Jwk {
    #[serde(rename = "kty")]
    key_type: String,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<String>,
    #[serde(default, rename = "kid", skip_serializing_if = "Option::is_none")]
    pub(super) key_id: Option<String>,
    #[serde(default, rename = "crv", skip_serializing_if = "Option::is_none")]
    curve: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(default, rename = "n", skip_serializing_if = "Option::is_none")]
    modulus: Option<String>,
    #[serde(default, rename = "e", skip_serializing_if = "Option::is_none")]
    exponent: Option<String>,
    #[serde(default, rename = "x5c", skip_serializing_if = "Vec::is_empty")]
    certificates: Vec<String>,
}

impl Jwk {
    /// X509-SVID section 6.2: "If `x5c` is not set, or is empty, then the entry MUST be ignored"; "If
    /// the `x5c` parameter contains multiple values, then all but the first MUST be ignored."
    pub(super) fn certificate(&self) -> Option<Vec<u8>> {
        base64::decode(self.certificates.first()?).ok()
    }

    /// The key, if its type is known and its numbers have the form that RFC 7518 asks for.
    pub(super) fn verification_key(&self) -> Option<VerificationKey> {
        let number = |text: &Option<String>| base64::decode_url(text.as_deref()?).ok();
        match self.key_type.as_str() {
            "EC" => {
                let curve = Curve::from_name(self.curve.as_deref()?)?;
                let (x, y) = (number(&self.x)?, number(&self.y)?);
                let fits = x.len() == curve.field() && y.len() == curve.field();
                fits.then_some(VerificationKey::Ec { curve, x, y })
            }
            "RSA" => {
                let (modulus, exponent) = (number(&self.modulus)?, number(&self.exponent)?);
                let fits =
                    (256..=1024).contains(&modulus.len()) && (1..=8).contains(&exponent.len());
                fits.then_some(VerificationKey::Rsa { modulus, exponent })
            }
            _ => None,
        }
    }

    /// JWT-SVID section 6.1: "The `use` parameter of each JWK entry MUST be set to `jwt-svid`.
    /// Additionally, the `kid` parameter of each JWK entry MUST be set."
    pub(super) fn of_jwt_key(key_id: &str, key: &VerificationKey) -> Self {
        Self {
            usage: Some("jwt-svid".to_owned()),
            key_id: Some(key_id.to_owned()),
            ..Self::of_key(key)
        }
    }

    /// X509-SVID section 6.1: "The `use` parameter of each JWK entry MUST be set to `x509-svid`.
    /// Additionally, the `kid` parameter of each JWK entry MUST NOT be set." `x5c` "MUST include
    /// exactly one CA certificate".
    pub(super) fn of_root(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let key = match certificate.public_key().parsed().ok()? {
            PublicKey::RSA(rsa) => Self::of_key(&VerificationKey::Rsa {
                modulus: without_leading_zeros(rsa.modulus),
                exponent: without_leading_zeros(rsa.exponent),
            }),
            PublicKey::EC(point) => {
                let (x, y) = halves(point.data())?;
                let curve = [Curve::P256, Curve::P384, Curve::P521]
                    .into_iter()
                    .find(|curve| curve.field() == x.len())?;
                let (x, y) = (x.to_vec(), y.to_vec());
                Self::of_key(&VerificationKey::Ec { curve, x, y })
            }
            // RFC 8037, section 2.
            PublicKey::Unknown(raw) if raw.len() == 32 => Self {
                key_type: "OKP".to_owned(),
                curve: Some("Ed25519".to_owned()),
                x: Some(base64::encode_url(raw)),
                ..Self::default()
            },
            _ => return None,
        };
        Some(Self {
            usage: Some("x509-svid".to_owned()),
            certificates: vec![base64::encode(der)],
            ..key
        })
    }

    fn of_key(key: &VerificationKey) -> Self {
        let number = |bytes: &[u8]| Some(base64::encode_url(bytes));
        match key {
            VerificationKey::Ec { curve, x, y } => Self {
                key_type: "EC".to_owned(),
                curve: Some(curve.name().to_owned()),
                x: number(x),
                y: number(y),
                ..Self::default()
            },
            VerificationKey::Rsa { modulus, exponent } => Self {
                key_type: "RSA".to_owned(),
                modulus: number(modulus),
                exponent: number(exponent),
                ..Self::default()
            },
        }
    }
}

/// The coordinates of an uncompressed point.
fn halves(point: &[u8]) -> Option<(&[u8], &[u8])> {
    let coordinates = point.strip_prefix(&[4])?;
    coordinates.split_at_checked(coordinates.len() / 2)
}

fn without_leading_zeros(number: &[u8]) -> Vec<u8> {
    number
        .iter()
        .skip_while(|byte| **byte == 0)
        .copied()
        .collect()
}
