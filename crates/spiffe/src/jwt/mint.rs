//! Minting, in the order of issuance: parameters → [`JwtTbs`] (has a digest, cannot be signed) →
//! [`JwtToBeSigned`] (holds the receipt) → token.

use super::RECEIPT_CLAIM;
use crate::SpiffeId;
use crate::x509::Serial;
use crypto::jws::es256_from_der;
use crypto::{Signer, base64};
use facts::Timestamp;
use serde::Serialize;

/// More audiences than a token needs: each can pass it on to the others.
const MAX_AUDIENCES: usize = 16;
/// Bytes of one audience.
const MAX_AUDIENCE: usize = 2048;

/// Why a token cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum JwtError {
    #[error("{0} has no path, and a workload's SPIFFE ID has one")]
    NoPath(SpiffeId),
    #[error("a token names 1 to {MAX_AUDIENCES} audiences of 1 to {MAX_AUDIENCE} bytes")]
    Audience,
    #[error("the token would end at {expires_at}, not after its beginning at {issued_at}")]
    Validity {
        issued_at: Timestamp,
        expires_at: Timestamp,
    },
    #[error("the claims do not serialise")]
    Serialize(#[source] serde_json::Error),
    #[error("the signature could not be made, or is not one of a P-256 key")]
    Sign(#[source] crypto::Error),
}

/// What a token says. Times are cut to the second.
#[derive(Debug, Clone)]
pub struct JwtParams {
    pub spiffe_id: SpiffeId,
    /// Whom it is for; one is best (JWT-SVID section 7.2).
    pub audience: Vec<String>,
    pub id: Serial,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// JWT-SVID section 2: any header but `alg`, `kid` and `typ` "MUST NOT be included".
#[derive(Serialize)]
struct Header<'a> {
    alg: &'static str,
    kid: &'a str,
    typ: &'static str,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    aud: &'a [String],
    exp: u64,
    iat: u64,
    jti: String,
}

/// A token without receipt and signature.
#[derive(Clone)]
pub struct JwtTbs {
    /// Encoded.
    header: String,
    /// JSON, without its closing brace.
    claims: String,
}

impl JwtTbs {
    /// For signing by the key that the bundle has under `key_id`.
    ///
    /// # Errors
    /// [`JwtError`] if `params` do not make a valid JWT-SVID.
    pub fn new(params: &JwtParams, key_id: &str) -> Result<Self, JwtError> {
        if params.spiffe_id.is_root() {
            return Err(JwtError::NoPath(params.spiffe_id.clone()));
        }
        let fits = |audience: &String| (1..=MAX_AUDIENCE).contains(&audience.len());
        if !(1..=MAX_AUDIENCES).contains(&params.audience.len())
            || !params.audience.iter().all(fits)
        {
            return Err(JwtError::Audience);
        }
        let (issued_at, expires_at) = (params.issued_at, params.expires_at);
        if issued_at.as_secs() >= expires_at.as_secs() {
            return Err(JwtError::Validity {
                issued_at,
                expires_at,
            });
        }
        let header = serde_json::to_vec(&Header {
            alg: "ES256",
            kid: key_id,
            typ: "JWT",
        })
        .map_err(JwtError::Serialize)?;
        let mut claims = serde_json::to_string(&Claims {
            sub: params.spiffe_id.as_str(),
            aud: &params.audience,
            exp: expires_at.as_secs(),
            iat: issued_at.as_secs(),
            jti: params.id.to_string(),
        })
        .map_err(JwtError::Serialize)?;
        claims.pop();
        Ok(Self {
            header: base64::encode_url(&header),
            claims,
        })
    }

    /// SHA-256 of the signing input as it is without a receipt: what the issuance record commits to.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        crypto::sha256(self.without_receipt().bytes())
    }

    /// Appends the receipt as the last claim.
    #[must_use]
    pub fn with_receipt(&self, receipt: &[u8]) -> JwtToBeSigned {
        let receipt = base64::encode_url(receipt);
        self.input(&format!(",\"{RECEIPT_CLAIM}\":\"{receipt}\"}}"))
    }

    /// For bearers whose peers cannot take a larger token; our own gateways refuse it.
    #[must_use]
    pub fn without_receipt(&self) -> JwtToBeSigned {
        self.input("}")
    }

    fn input(&self, end: &str) -> JwtToBeSigned {
        let claims = base64::encode_url(format!("{}{end}", self.claims).as_bytes());
        JwtToBeSigned(format!("{}.{claims}", self.header))
    }
}

/// The JWS signing input (RFC 7515, section 5.1).
#[derive(Clone)]
pub struct JwtToBeSigned(pub(crate) String);

impl JwtToBeSigned {
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Signs with a P-256 key and assembles the token.
    ///
    /// # Errors
    /// [`JwtError::Sign`].
    pub fn sign(&self, signer: &dyn Signer) -> Result<String, JwtError> {
        let signature = signer
            .sign(self.bytes())
            .and_then(|der| es256_from_der(&der))
            .map_err(JwtError::Sign)?;
        Ok(format!("{}.{}", self.0, base64::encode_url(&signature)))
    }
}
