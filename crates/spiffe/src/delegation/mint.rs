//! From terms to what is signed. A token is written in one way only, so that reading compares bytes.

use super::terms::{Terms, Written};
use super::{AUDIENCE, TYPE};
use crate::SpiffeId;
use crate::jwt::{JwtError, JwtToBeSigned, RECEIPT_CLAIM};
use crypto::base64;
use serde::Serialize;

#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

/// RFC 8693, section 4.1, of `act`: "The outermost `act` claim represents the current actor while nested `act`
/// claims represent prior actors"; and claims such as `exp` "are not meaningful when used within an `act` claim",
/// so it names who acts and nothing else. What holds of each delegation stands in `delegations`.
#[derive(Serialize)]
struct Claims<'a> {
    iss: String,
    sub: &'a str,
    aud: &'static str,
    iat: u64,
    exp: u64,
    jti: String,
    act: Actor<'a>,
    delegations: Vec<Written>,
}

#[derive(Serialize)]
struct Actor<'a> {
    sub: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    act: Option<Box<Self>>,
}

/// A token without receipt and signature.
#[derive(Clone)]
pub struct DelegationTbs {
    /// Encoded.
    header: String,
    /// JSON, without its closing brace.
    claims: String,
}

impl DelegationTbs {
    /// For signing by the key that the bundle has under `key_id`.
    ///
    /// # Errors
    /// [`JwtError::Serialize`].
    pub fn new(terms: &Terms, key_id: &str) -> Result<Self, JwtError> {
        let mut claims = claims(terms)?;
        claims.pop();
        Ok(Self {
            header: base64::encode_url(header(key_id)?.as_bytes()),
            claims,
        })
    }

    /// SHA-256 of the signing input as it is without a receipt: what the record commits to.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(self.input("}").bytes())
    }

    /// Appends the receipt as the last claim. There is no token without one.
    #[must_use]
    pub fn with_receipt(&self, receipt: &[u8]) -> JwtToBeSigned {
        let receipt = base64::encode_url(receipt);
        self.input(&format!(",\"{RECEIPT_CLAIM}\":\"{receipt}\"}}"))
    }

    fn input(&self, end: &str) -> JwtToBeSigned {
        let claims = base64::encode_url(format!("{}{end}", self.claims).as_bytes());
        JwtToBeSigned(format!("{}.{claims}", self.header))
    }
}

pub(super) fn header(key_id: &str) -> Result<String, JwtError> {
    let header = Header {
        alg: "ES256",
        kid: key_id,
        typ: TYPE,
    };
    serde_json::to_string(&header).map_err(JwtError::Serialize)
}

/// All claims but the receipt.
pub(super) fn claims(terms: &Terms) -> Result<String, JwtError> {
    let delegates = terms.links().iter().map(|link| &link.to);
    let actor = delegates.fold(None, |before, to: &SpiffeId| {
        Some(Actor {
            sub: to.as_str(),
            act: before.map(Box::new),
        })
    });
    let (Some(act), Some(last)) = (actor, terms.last()) else {
        // INVARIANT of `Terms`: there is a link.
        return Err(JwtError::Audience);
    };
    let claims = Claims {
        iss: terms.trust_domain().id().to_string(),
        sub: terms.person().as_str(),
        aud: AUDIENCE,
        iat: last.issued_at.as_secs(),
        exp: last.expires_at.as_secs(),
        jti: last.jti.to_string(),
        act,
        delegations: terms.written(),
    };
    serde_json::to_string(&claims).map_err(JwtError::Serialize)
}
