//! Validating: form first, then the signature, then the claims. Nothing in a token is believed
//! before its signature has verified under the bundle of the trust domain that its subject names.

use super::RECEIPT_CLAIM;
use crate::{Bundle, SpiffeId};
use crypto::jws::{Curve, JwsAlgorithm, VerificationKey};
use crypto::{PublicKey, base64};
use facts::{Finding, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Longest token: a receipt and as much again.
const MAX_TOKEN: usize = 64 * 1024;

/// A JWT-SVID as it was presented. [`JwtSvid::validate`] makes something of it. Has no `Debug`: it is
/// a bearer's secret.
pub struct JwtSvid {
    algorithm: JwsAlgorithm,
    key_id: Option<String>,
    /// `header.claims`, encoded.
    input: String,
    signature: Vec<u8>,
    subject: SpiffeId,
    claims: Claims,
    all_claims: Map<String, Value>,
    receipt: Option<Vec<u8>>,
    input_without_receipt_sha256: [u8; 32],
}

/// A JWT-SVID that was valid for its audience at the time it was checked.
#[derive(Debug, Clone)]
pub struct ValidatedJwt {
    pub spiffe_id: SpiffeId,
    pub audience: Vec<String>,
    pub expires_at: Timestamp,
    pub issued_at: Option<Timestamp>,
    /// `jti`.
    pub id: Option<String>,
    /// Id of the key that the signature verified with.
    pub key_id: String,
    /// SHA-256 of the SPKI of that key; `None` for kinds that this authority does not sign with.
    pub issuer_spki_sha256: Option<[u8; 32]>,
    /// The encoded `ledger::Receipt` in the token, unverified.
    pub receipt: Option<Vec<u8>>,
    pub input_without_receipt_sha256: [u8; 32],
    /// Every claim, for whoever knows what to make of it.
    pub claims: Map<String, Value>,
}

/// Serde refuses a header that stands twice, and here also any other: JWT-SVID section 2: "Any header
/// not described here, registered or private, MUST NOT be included in the JWT-SVID JOSE Header."
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    #[expect(dead_code, reason = "read before anything else, by `algorithm`")]
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
}

/// Serde refuses one of these that stands twice; others are read into a map.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    aud: Option<Audience>,
    exp: Option<NumericDate>,
    iat: Option<NumericDate>,
    nbf: Option<NumericDate>,
    jti: Option<String>,
    trilith_receipt: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Audience {
    fn values(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// RFC 7519, section 2: seconds since the epoch, "non-integer values can be represented".
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum NumericDate {
    Whole(u64),
    Fraction(f64),
}

impl NumericDate {
    /// `None` before 1970 and for what is no time.
    fn timestamp(self) -> Option<Timestamp> {
        match self {
            Self::Whole(seconds) => Some(Timestamp::from_secs(seconds)),
            Self::Fraction(seconds) if (0.0..1e12).contains(&seconds) => {
                let duration = std::time::Duration::try_from_secs_f64(seconds).ok()?;
                Some(Timestamp::from_secs(duration.as_secs()))
            }
            Self::Fraction(_) => None,
        }
    }
}

impl JwtSvid {
    /// Reads a token in compact serialisation.
    ///
    /// # Errors
    /// `SVID-JWT-PARSE`, `SVID-JWT-ALGORITHM`, `SVID-JWT-HEADER`, `SVID-ID`,
    /// `SVID-RECEIPT-MALFORMED`.
    pub fn parse(token: &str) -> Result<Self, Finding> {
        let malformed = |what: &str| Finding::new("SVID-JWT-PARSE", what);
        if token.len() > MAX_TOKEN {
            return Err(malformed("the token is too long")
                .expected(format!("at most {MAX_TOKEN} bytes"))
                .observed(format!("{} bytes", token.len())));
        }
        // JWT-SVID section 5.1: "MUST be serialized using the Compact Serialization method".
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("the token is not in compact serialisation"));
        };
        let decode = |part: &str| base64::decode_url(part);
        let header_json = decode(header).map_err(|_| malformed("the header is not base64url"))?;
        let algorithm = algorithm(&header_json)?;
        let parsed: Header = serde_json::from_slice(&header_json).map_err(|error| {
            Finding::new("SVID-JWT-HEADER", "the header is not that of a JWT-SVID")
                .expected("alg, and at most kid and typ")
                .observed(error.to_string())
        })?;
        // JWT-SVID section 2.3: "The `typ` header is optional. If set, its value MUST be either
        // `JWT` or `JOSE`."
        if !matches!(parsed.typ.as_deref(), None | Some("JWT" | "JOSE")) {
            return Err(
                Finding::new("SVID-JWT-HEADER", "the token is of another type")
                    .expected("typ JWT or JOSE"),
            );
        }
        let claims_json = decode(claims).map_err(|_| malformed("the claims are not base64url"))?;
        let all_claims = serde_json::from_slice(&claims_json)
            .map_err(|_| malformed("the claims are no JSON object"))?;
        let typed: Claims = serde_json::from_slice(&claims_json)
            .map_err(|error| malformed("the claims are malformed").observed(error.to_string()))?;
        let subject: SpiffeId = typed.sub.parse().map_err(|error| {
            Finding::new("SVID-ID", format!("the subject is no SPIFFE ID: {error}"))
        })?;
        let (receipt, input_without_receipt_sha256) = match &typed.trilith_receipt {
            None => (
                None,
                crypto::sha256(format!("{header}.{claims}").as_bytes()),
            ),
            Some(receipt) => {
                let (receipt, rest) = split_receipt(&claims_json, receipt)?;
                let input = format!("{header}.{}", base64::encode_url(&rest));
                (Some(receipt), crypto::sha256(input.as_bytes()))
            }
        };
        Ok(Self {
            algorithm,
            key_id: parsed.kid,
            input: format!("{header}.{claims}"),
            signature: decode(signature)
                .map_err(|_| malformed("the signature is not base64url"))?,
            subject,
            claims: typed,
            all_claims,
            receipt,
            input_without_receipt_sha256,
        })
    }

    /// What the token says of its bearer. Nothing about it is authenticated yet.
    #[must_use]
    pub fn claimed_id(&self) -> &SpiffeId {
        &self.subject
    }

    /// `audience` is the value that the validator identifies with.
    ///
    /// # Errors
    /// `SVID-TRUST-DOMAIN`, `SVID-BUNDLE-EMPTY`, `SVID-JWT-SIGNATURE`, `SVID-JWT-AUDIENCE`,
    /// `SVID-JWT-EXPIRY`, `SVID-EXPIRED`, `SVID-NOT-YET-VALID`, `SVID-ID`.
    pub fn validate(
        self,
        bundle: &Bundle,
        audience: &str,
        now: Timestamp,
    ) -> Result<ValidatedJwt, Finding> {
        if !self.subject.is_member_of(bundle.trust_domain()) {
            return Err(
                Finding::new("SVID-TRUST-DOMAIN", "the token is of another trust domain")
                    .expected(bundle.trust_domain().as_str())
                    .observed(self.subject.trust_domain_name()),
            );
        }
        let (key_id, key) = self.signed_by(bundle)?;
        if self.subject.is_root() {
            return Err(Finding::new("SVID-ID", "a workload's SPIFFE ID has a path")
                .observed(self.subject.to_string()));
        }
        let expires_at = self.check_claims(audience, now)?;
        let time = |date: Option<NumericDate>| date.and_then(NumericDate::timestamp);
        Ok(ValidatedJwt {
            spiffe_id: self.subject,
            audience: self
                .claims
                .aud
                .as_ref()
                .map_or_else(Vec::new, |audience| audience.values().to_vec()),
            expires_at,
            issued_at: time(self.claims.iat),
            id: self.claims.jti,
            key_id,
            issuer_spki_sha256: spki_sha256(&key),
            receipt: self.receipt,
            input_without_receipt_sha256: self.input_without_receipt_sha256,
            claims: self.all_claims,
        })
    }

    /// The key of `bundle` that signed the token: the one it names, or else any that fits.
    fn signed_by(&self, bundle: &Bundle) -> Result<(String, VerificationKey), Finding> {
        let keys = bundle.jwt_authorities();
        if keys.is_empty() {
            return Err(Finding::new(
                "SVID-BUNDLE-EMPTY",
                "the trust domain has no keys for JWT-SVIDs",
            )
            .observed(bundle.trust_domain().as_str()));
        }
        let candidates = keys
            .iter()
            .filter(|(id, _)| self.key_id.as_ref().is_none_or(|named| named == *id));
        for (id, key) in candidates {
            let verified = key.verify(self.algorithm, self.input.as_bytes(), &self.signature);
            if verified.is_ok() {
                return Ok((id.clone(), key.clone()));
            }
        }
        let known: Vec<&str> = keys.keys().map(String::as_str).collect();
        Err(Finding::new(
            "SVID-JWT-SIGNATURE",
            "no key of the trust domain signed this token",
        )
        .expected(format!("one of the keys {}", known.join(", ")))
        .observed(self.key_id.as_deref().map_or_else(
            || "no key id".to_owned(),
            |id| format!("key id {}", id.escape_default()),
        )))
    }

    /// The registered claims; returns the expiry.
    fn check_claims(&self, audience: &str, now: Timestamp) -> Result<Timestamp, Finding> {
        // JWT-SVID section 3.2: "Validators MUST reject tokens without an `aud` claim set, or if the
        // value that the validator identifies with is not present as an `aud` element."
        let audiences = self.claims.aud.as_ref().map_or(&[][..], Audience::values);
        if !audiences.iter().any(|value| value == audience) {
            return Err(
                Finding::new("SVID-JWT-AUDIENCE", "the token is for another audience")
                    .expected(audience)
                    .observed(format!("{} other audiences", audiences.len())),
            );
        }
        // JWT-SVID section 3.3: "The `exp` claim MUST be set, and validators MUST reject tokens
        // without this claim." RFC 7519, section 4.1.4: "on or after which the JWT MUST NOT be
        // accepted".
        let expires_at = self
            .claims
            .exp
            .and_then(NumericDate::timestamp)
            .ok_or_else(|| Finding::new("SVID-JWT-EXPIRY", "the token has no expiry"))?;
        if now >= expires_at {
            return Err(Finding::new("SVID-EXPIRED", "the token has expired")
                .expected(format!("a time before {expires_at}"))
                .observed(now.to_string()));
        }
        let not_before = match self.claims.nbf {
            None => Timestamp::EPOCH,
            Some(date) => date
                .timestamp()
                .ok_or_else(|| Finding::new("SVID-JWT-PARSE", "nbf is not a time"))?,
        };
        if now < not_before {
            return Err(
                Finding::new("SVID-NOT-YET-VALID", "the token is not valid yet")
                    .expected(format!("a time from {not_before}"))
                    .observed(now.to_string())
                    .next("compare the clocks of both machines"),
            );
        }
        Ok(expires_at)
    }
}

/// JWT-SVID section 4: "Validators MUST ensure that the `alg` header is set to a supported value
/// before processing." So it is looked at before anything else in the header.
fn algorithm(header: &[u8]) -> Result<JwsAlgorithm, Finding> {
    #[derive(Deserialize)]
    struct OnlyAlgorithm {
        alg: String,
    }
    let named = serde_json::from_slice::<OnlyAlgorithm>(header).ok();
    named
        .as_ref()
        .and_then(|header| JwsAlgorithm::from_name(&header.alg))
        .ok_or_else(|| {
            Finding::new(
                "SVID-JWT-ALGORITHM",
                "the token's algorithm is not one of JWT-SVID's nine",
            )
            .expected("RS, ES or PS with 256, 384 or 512")
            .observed(named.map_or_else(
                || "none".to_owned(),
                |header| {
                    header
                        .alg
                        .chars()
                        .take(16)
                        .flat_map(char::escape_default)
                        .collect()
                },
            ))
        })
}

/// The decoded receipt and the claims as they are without it. It must stand last, written as
/// [`JwtTbs::with_receipt`](super::JwtTbs::with_receipt) writes it, so that there is one way to take
/// it away.
fn split_receipt(claims: &[u8], receipt: &str) -> Result<(Vec<u8>, Vec<u8>), Finding> {
    let end = format!(",\"{RECEIPT_CLAIM}\":\"{receipt}\"}}");
    let rest = claims.strip_suffix(end.as_bytes());
    let decoded = base64::decode_url(receipt).ok();
    let (Some(rest), Some(decoded)) = (rest, decoded) else {
        return Err(Finding::new(
            "SVID-RECEIPT-MALFORMED",
            "the receipt claim is not what an authority writes",
        )
        .expected("the last claim, base64url, no spaces around it"));
    };
    Ok((decoded, [rest, b"}"].concat()))
}

fn spki_sha256(key: &VerificationKey) -> Option<[u8; 32]> {
    let key = match key {
        VerificationKey::Ec { curve, x, y } => match curve {
            Curve::P256 => PublicKey::from_p256_xy(x, y),
            Curve::P384 => PublicKey::from_p384_xy(x, y),
            Curve::P521 => return None,
        },
        VerificationKey::Rsa { modulus, exponent } => PublicKey::from_rsa(modulus, exponent),
    };
    key.ok().map(|key| key.spki_sha256())
}
