//! Reading a token and believing it: form, signature, time, and who presents it. Nothing in it counts before.

use super::TYPE;
use super::mint::{claims, header};
use super::terms::{Terms, Written};
use crate::jwt::RECEIPT_CLAIM;
use crate::{Bundle, SpiffeId};
use crypto::jws::{JwsAlgorithm, VerificationKey};
use crypto::{PublicKey, base64};
use facts::{Finding, Timestamp};
use serde::Deserialize;

/// Longest token: a receipt and as much again.
const MAX_TOKEN: usize = 64 * 1024;

/// A token as somebody presents it. [`DelegationToken::verify`] makes something of it. It has no `Debug`: who
/// sees it learns who may act for whom.
pub struct DelegationToken {
    terms: Terms,
    key_id: String,
    /// `header.claims`, encoded.
    input: String,
    signature: Vec<u8>,
    receipt: Option<Vec<u8>>,
    input_without_receipt_sha256: [u8; 32],
}

/// A token that the trust domain signed, that had not ended, and that its own delegate presented.
#[derive(Debug, Clone)]
pub struct Presented {
    pub terms: Terms,
    /// SHA-256 of the SPKI of the key that signed.
    pub(super) issuer_spki_sha256: [u8; 32],
    pub(super) receipt: Option<Vec<u8>>,
    pub(super) input_without_receipt_sha256: [u8; 32],
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// What the rest of a token follows from. That it does, the comparison of bytes shows.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    delegations: Vec<Written>,
    trilith_receipt: Option<String>,
}

impl DelegationToken {
    /// Reads a token in compact serialisation, in the one spelling that an authority writes.
    ///
    /// # Errors
    /// `DELEGATION-TOKEN-PARSE`, `DELEGATION-TOKEN-TYPE`, `DELEGATION-TOKEN-ALGORITHM`, and those of [`Terms::new`].
    pub fn parse(token: &str) -> Result<Self, Finding> {
        if token.len() > MAX_TOKEN {
            return Err(malformed("it is too long")
                .expected(format!("at most {MAX_TOKEN} bytes"))
                .observed(format!("{} bytes", token.len())));
        }
        let mut parts = token.split('.');
        let (Some(head), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("it is not in compact serialisation"));
        };
        let decode = |part: &str| base64::decode_url(part).map_err(|_| malformed("it is not base64url"));
        let (header_json, claims_json, signature) = (decode(head)?, decode(body)?, decode(signature)?);
        let key_id = key_id(&header_json)?;
        let read: Claims = serde_json::from_slice(&claims_json)
            .map_err(|error| malformed("its claims cannot be read").observed(error.to_string()))?;
        let terms = Terms::read(&read.sub, read.delegations)?;
        let end = match &read.trilith_receipt {
            None => "}".to_owned(),
            Some(receipt) => format!(",\"{RECEIPT_CLAIM}\":\"{receipt}\"}}"),
        };
        let whole = claims(&terms).map_err(|_| malformed("its claims cannot be written again"))?;
        let open = whole.strip_suffix('}').unwrap_or_default();
        // Who acts, `jti`, `exp`, `iss` and `aud` follow from the chain: one that says otherwise is two tokens in one.
        if claims_json != format!("{open}{end}").as_bytes() {
            return Err(malformed("its claims are not as an authority writes them"));
        }
        let receipt = read.trilith_receipt.as_deref().map(decode).transpose()?;
        let bare = format!("{head}.{}", base64::encode_url(whole.as_bytes()));
        Ok(Self {
            terms,
            key_id,
            input: format!("{head}.{body}"),
            signature,
            receipt,
            input_without_receipt_sha256: crypto::sha256(bare.as_bytes()),
        })
    }

    /// Who may act for whom by it, if it is true. Nothing about it is authenticated yet.
    #[must_use]
    pub const fn claimed(&self) -> &Terms {
        &self.terms
    }

    /// Believes it, if the trust domain signed it, none of its delegations has ended, and `presenter`, who has
    /// shown its SVID, is the last in its chain.
    ///
    /// # Errors
    /// `DELEGATION-TOKEN-DOMAIN`, `DELEGATION-TOKEN-SIGNATURE`, `DELEGATION-TOKEN-EXPIRED`,
    /// `DELEGATION-TOKEN-PRESENTER`.
    pub fn verify(
        self,
        bundle: &Bundle,
        presenter: &SpiffeId,
        now: Timestamp,
    ) -> Result<Presented, Finding> {
        let issuer_spki_sha256 = self.signed_by(bundle)?;
        self.in_time(now)?;
        self.presented_by(presenter)?;
        Ok(Presented {
            terms: self.terms,
            issuer_spki_sha256,
            receipt: self.receipt,
            input_without_receipt_sha256: self.input_without_receipt_sha256,
        })
    }

    /// SHA-256 of the SPKI of the key that signed it.
    fn signed_by(&self, bundle: &Bundle) -> Result<[u8; 32], Finding> {
        if !self.terms.person().is_member_of(bundle.trust_domain()) {
            return Err(Finding::new(
                "DELEGATION-TOKEN-DOMAIN",
                "the delegation token is of another trust domain",
            )
            .expected(bundle.trust_domain().as_str())
            .observed(self.terms.person().trust_domain_name()));
        }
        let key = bundle.jwt_authorities().get(&self.key_id);
        key.filter(|key| {
            let signed = key.verify(JwsAlgorithm::Es256, self.input.as_bytes(), &self.signature);
            signed.is_ok()
        })
        .and_then(spki_sha256)
        .ok_or_else(|| {
            Finding::new(
                "DELEGATION-TOKEN-SIGNATURE",
                "no key of the trust domain signed this delegation token",
            )
            .expected("ES256 by the key that it names, of the bundle in force")
            .observed(format!("key id {}", self.key_id.escape_default()))
            .next("ask for a new one: trilith delegate")
        })
    }

    fn in_time(&self, now: Timestamp) -> Result<(), Finding> {
        let ended = self.terms.links().iter().find(|link| now >= link.expires_at);
        ended.map_or(Ok(()), |link| {
            let what = format!("the delegation to {} has ended", link.to);
            Err(Finding::new("DELEGATION-TOKEN-EXPIRED", what)
                .expected(format!("a time before {}", link.expires_at))
                .observed(now.to_string())
                .next("ask for a new one: trilith delegate, or have the person log in again"))
        })
    }

    /// INVARIANT: no bearer's token. Whoever steals it has to be its delegate as well.
    fn presented_by(&self, presenter: &SpiffeId) -> Result<(), Finding> {
        let delegate = self.terms.last().map(|link| &link.to);
        if delegate == Some(presenter) {
            return Ok(());
        }
        Err(Finding::new(
            "DELEGATION-TOKEN-PRESENTER",
            "the delegation token was made for somebody else",
        )
        .expected(delegate.map(ToString::to_string).unwrap_or_default())
        .observed(presenter.to_string())
        .next("present it with the SVID of whom it lets act, or have that one delegate on"))
    }
}

/// The header says type, algorithm and key and nothing else, in one spelling.
fn key_id(json: &[u8]) -> Result<String, Finding> {
    let read: Header = serde_json::from_slice(json)
        .map_err(|error| malformed("its header cannot be read").observed(error.to_string()))?;
    let shown = |text: &str| -> String { text.chars().take(32).flat_map(char::escape_default).collect() };
    if read.typ != TYPE {
        return Err(
            Finding::new("DELEGATION-TOKEN-TYPE", "this is no delegation token")
                .expected(format!("typ {TYPE}"))
                .observed(shown(&read.typ)),
        );
    }
    // One algorithm, and not the token's choice: no `none`, and no key taken for another kind's.
    if read.alg != "ES256" {
        return Err(Finding::new(
            "DELEGATION-TOKEN-ALGORITHM",
            "delegation tokens are signed with ES256",
        )
        .expected("ES256")
        .observed(shown(&read.alg)));
    }
    let canonical = header(&read.kid).ok();
    if canonical.as_deref().map(str::as_bytes) != Some(json) {
        return Err(malformed("its header is not as an authority writes it"));
    }
    Ok(read.kid)
}

fn spki_sha256(key: &VerificationKey) -> Option<[u8; 32]> {
    match key {
        VerificationKey::Ec { x, y, .. } => {
            let key = PublicKey::from_p256_xy(x, y).ok()?;
            Some(key.spki_sha256())
        }
        VerificationKey::Rsa { .. } => None,
    }
}

fn malformed(what: &str) -> Finding {
    Finding::new("DELEGATION-TOKEN-PARSE", format!("this is no delegation token: {what}"))
}
