//! Making, opening and rotating the authority.

use crate::{AuthorityDocument, CertificateAuthority, JwtAuthority, Lifetimes, Tenure};
use crypto::{Algorithm, Custody, PublicKey, Signer, base64};
use facts::Timestamp;
use spiffe_core::bundle::BundleError;
use spiffe_core::x509::BuildError;
use spiffe_core::x509::authority::{AuthorityParams, issuing, root};
use spiffe_core::{Bundle, IdError, Issuer, Serial, TrustDomain};
use std::sync::Arc;

/// Seconds after which consumers should look at the bundle again.
const REFRESH_HINT_S: u64 = 300;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("a key of the authority")]
    Key(#[from] crypto::Error),
    #[error(
        "the authority's key {0:?} is not in its custody: restore it, or recover with new keys"
    )]
    MissingKey(String),
    #[error("a certificate of the authority")]
    Certificate(#[from] BuildError),
    #[error("the trust bundle")]
    Bundle(#[from] BundleError),
    #[error("the authority's trust domain")]
    TrustDomain(#[from] IdError),
    #[error("no {what} signs at {now}: its tenure is over, or the clock is wrong")]
    NoneSigns { what: &'static str, now: Timestamp },
}

/// Signs for one trust domain, with the keys that its [`AuthorityDocument`] names.
pub struct Authority {
    document: AuthorityDocument,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) lifetimes: Lifetimes,
    roots: Vec<Issuer>,
    pub(crate) issuing: Vec<Issuer>,
    pub(crate) jwt: Vec<Arc<dyn Signer>>,
    bundle: Bundle,
}

impl Authority {
    /// Makes keys and certificates for a new trust domain. Record the document, then [`Authority::open`].
    ///
    /// # Errors
    /// If a key cannot be made.
    pub fn create(
        trust_domain: &TrustDomain,
        lifetimes: &Lifetimes,
        custody: &dyn Custody,
        now: Timestamp,
    ) -> Result<AuthorityDocument, AuthorityError> {
        let mut document = AuthorityDocument {
            trust_domain: trust_domain.as_str().to_owned(),
            sequence: 1,
            next_key: 1,
            roots: Vec::new(),
            issuing: Vec::new(),
            jwt: Vec::new(),
        };
        // Nobody has an older bundle: the first keys sign at once.
        let at_once = |lifetime| tenure(now, now, lifetime, lifetimes);
        add_root(
            &mut document,
            trust_domain,
            custody,
            at_once(lifetimes.root_s),
        )?;
        add_issuing(
            &mut document,
            trust_domain,
            custody,
            at_once(lifetimes.issuing_s),
        )?;
        add_jwt(&mut document, custody, at_once(lifetimes.issuing_s))?;
        Ok(document)
    }

    /// The authority that `document` describes.
    ///
    /// # Errors
    /// If a key that may still sign is not in `custody`, or a certificate does not fit its key.
    pub fn open(
        document: AuthorityDocument,
        lifetimes: Lifetimes,
        custody: &dyn Custody,
    ) -> Result<Self, AuthorityError> {
        let trust_domain = TrustDomain::new(&document.trust_domain)?;
        let issuers = |authorities: &[CertificateAuthority]| {
            authorities
                .iter()
                .map(|authority| {
                    let certificate = base64::decode(&authority.certificate)?;
                    Ok(Issuer::new(&certificate, held(custody, &authority.key)?)?)
                })
                .collect::<Result<Vec<_>, AuthorityError>>()
        };
        let jwt = document
            .jwt
            .iter()
            .map(|authority| held(custody, &authority.key))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            roots: issuers(&document.roots)?,
            issuing: issuers(&document.issuing)?,
            jwt,
            bundle: bundle(&document, &trust_domain)?,
            document,
            trust_domain,
            lifetimes,
        })
    }

    /// The document as it should be at `now`, if that is not as it is: successors for keys past half of
    /// their life, nothing any more of keys whose last signature has ended. Record it before opening it.
    ///
    /// INVARIANT: a clock that is wrong for a while takes nothing away for longer. Where no key of a kind signs at `now`,
    /// one is made that signs at once; and a key is forgotten when its end has passed both by `now` and by `settled`, the
    /// time that the ledger goes by.
    ///
    /// # Errors
    /// If a key cannot be made.
    pub fn rotation(
        &self,
        custody: &dyn Custody,
        now: Timestamp,
        settled: Timestamp,
    ) -> Result<Option<AuthorityDocument>, AuthorityError> {
        let mut next = self.document.clone();
        let announce = now.plus_secs(self.lifetimes.announce_s);

        let roots = next.roots.iter().map(|root| root.tenure);
        if let Some(from) = successor(roots, now, announce) {
            let tenure = tenure(now, from, self.lifetimes.root_s, &self.lifetimes);
            add_root(&mut next, &self.trust_domain, custody, tenure)?;
        }
        // Issuing CAs are sent with the leaves, not in the bundle: they need no announcement.
        let issuing = next.issuing.iter().map(|issuing| issuing.tenure);
        if let Some(from) = successor(issuing, now, now) {
            let tenure = tenure(now, from, self.lifetimes.issuing_s, &self.lifetimes);
            add_issuing(&mut next, &self.trust_domain, custody, tenure)?;
        }
        let jwt = next.jwt.iter().map(|jwt| jwt.tenure);
        if let Some(from) = successor(jwt, now, announce) {
            let tenure = tenure(now, from, self.lifetimes.issuing_s, &self.lifetimes);
            add_jwt(&mut next, custody, tenure)?;
        }
        let ended = |tenure: Tenure| tenure.not_after <= now.min(settled);
        next.roots.retain(|root| !ended(root.tenure));
        next.issuing.retain(|issuing| !ended(issuing.tenure));
        next.jwt.retain(|jwt| !ended(jwt.tenure));

        if next == self.document {
            return Ok(None);
        }
        next.sequence += 1;
        Ok(Some(next))
    }

    #[must_use]
    pub const fn document(&self) -> &AuthorityDocument {
        &self.document
    }

    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    #[must_use]
    pub const fn lifetimes(&self) -> &Lifetimes {
        &self.lifetimes
    }

    /// What others verify by.
    #[must_use]
    pub const fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// The root certificates, DER: what first contact pins.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(Issuer::certificate)
    }

    /// The root CAs with their keys, oldest first.
    pub fn root_issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.roots.iter()
    }

    /// Every issuing CA that has not been retired, oldest first.
    pub fn issuers(&self) -> impl Iterator<Item = &Issuer> {
        self.issuing.iter()
    }

    /// The issuing CA that signs at `now`.
    ///
    /// # Errors
    /// [`AuthorityError::NoneSigns`].
    pub fn issuer(&self, now: Timestamp) -> Result<&Issuer, AuthorityError> {
        let tenures = self.document.issuing.iter().map(|issuing| issuing.tenure);
        AuthorityDocument::signing(tenures, now)
            .and_then(|position| self.issuing.get(position))
            .ok_or(AuthorityError::NoneSigns {
                what: "issuing CA",
                now,
            })
    }

    /// Signs what is no identity and stands in no issuance record, by the JWT key of `now`: `sign` gets it
    /// and its id. What it signs must not be readable as anybody's SVID.
    ///
    /// # Errors
    /// [`AuthorityError::NoneSigns`].
    pub fn with_jwt_key<T>(
        &self,
        now: Timestamp,
        sign: impl FnOnce(&dyn Signer, &str) -> T,
    ) -> Result<T, AuthorityError> {
        let (authority, signer) = self.jwt_key(now)?;
        Ok(sign(signer.as_ref(), &authority.kid))
    }

    /// The JWT key that signs at `now`, and its id.
    pub(crate) fn jwt_key(
        &self,
        now: Timestamp,
    ) -> Result<(&JwtAuthority, &Arc<dyn Signer>), AuthorityError> {
        let tenures = self.document.jwt.iter().map(|jwt| jwt.tenure);
        AuthorityDocument::signing(tenures, now)
            .and_then(|position| Some((self.document.jwt.get(position)?, self.jwt.get(position)?)))
            .ok_or(AuthorityError::NoneSigns {
                what: "JWT key",
                now,
            })
    }
}

/// From when the next key signs, if it is time for one: from `soon` on, by when it is known; at once where none signs at
/// `now`, since all have ended or were made by a clock that was ahead.
fn successor(
    tenures: impl Iterator<Item = Tenure> + Clone,
    now: Timestamp,
    soon: Timestamp,
) -> Option<Timestamp> {
    if !tenures.clone().any(|tenure| tenure.signs_at(now)) {
        return Some(now);
    }
    // One of a wrong future is not there when the key that signs now ends: it succeeds nobody.
    let newest = tenures
        .filter(|tenure| tenure.signs_from <= soon)
        .max_by_key(|tenure| tenure.signs_from)?;
    past_half(newest, now).then_some(soon)
}

fn past_half(tenure: Tenure, now: Timestamp) -> bool {
    let half = tenure
        .not_after
        .as_millis()
        .midpoint(tenure.signs_from.as_millis());
    now.as_millis() >= half
}

fn tenure(
    announced: Timestamp,
    signs_from: Timestamp,
    lifetime_s: u64,
    lifetimes: &Lifetimes,
) -> Tenure {
    Tenure {
        announced: announced.minus_secs(lifetimes.backdate_s),
        signs_from: signs_from.minus_secs(if announced == signs_from {
            lifetimes.backdate_s
        } else {
            0
        }),
        not_after: signs_from.plus_secs(lifetime_s),
    }
}

fn held(custody: &dyn Custody, key: &str) -> Result<Arc<dyn Signer>, AuthorityError> {
    custody
        .load(key)?
        .ok_or_else(|| AuthorityError::MissingKey(key.to_owned()))
}

/// A key of a name that was never used. A key left behind by a crash before its document was recorded is
/// found again under the same name and used.
fn new_key(
    document: &mut AuthorityDocument,
    kind: &str,
    custody: &dyn Custody,
) -> Result<(String, Arc<dyn Signer>), AuthorityError> {
    let name = format!("{kind}-{}", document.next_key);
    let signer = custody.load_or_generate(&name, Algorithm::EcdsaP256)?;
    document.next_key += 1;
    Ok((name, signer))
}

fn params(tenure: Tenure) -> AuthorityParams {
    AuthorityParams {
        serial: Serial::from_random(crypto::random()),
        not_before: tenure.announced,
        not_after: tenure.not_after,
    }
}

fn add_root(
    document: &mut AuthorityDocument,
    trust_domain: &TrustDomain,
    custody: &dyn Custody,
    tenure: Tenure,
) -> Result<(), AuthorityError> {
    let (key, signer) = new_key(document, "root", custody)?;
    let certificate = root(trust_domain, &params(tenure), signer.as_ref())?;
    document.roots.push(CertificateAuthority {
        key,
        certificate: base64::encode(&certificate),
        tenure,
    });
    Ok(())
}

/// Below the root that signs when the issuing CA begins; it ends no later than that root.
fn add_issuing(
    document: &mut AuthorityDocument,
    trust_domain: &TrustDomain,
    custody: &dyn Custody,
    tenure: Tenure,
) -> Result<(), AuthorityError> {
    let roots = document.roots.iter().map(|root| root.tenure);
    let parent = AuthorityDocument::signing(roots, tenure.signs_from)
        .and_then(|position| document.roots.get(position))
        .ok_or(AuthorityError::NoneSigns {
            what: "root",
            now: tenure.signs_from,
        })?
        .clone();
    let parent_certificate = base64::decode(&parent.certificate)?;
    let parent_issuer = Issuer::new(&parent_certificate, held(custody, &parent.key)?)?;
    let tenure = Tenure {
        not_after: tenure.not_after.min(parent.tenure.not_after),
        ..tenure
    };
    let (key, signer) = new_key(document, "issuing", custody)?;
    let certificate = issuing(
        trust_domain,
        &params(tenure),
        signer.public_key(),
        &parent_issuer,
    )?;
    document.issuing.push(CertificateAuthority {
        key,
        certificate: base64::encode(&certificate),
        tenure,
    });
    Ok(())
}

fn add_jwt(
    document: &mut AuthorityDocument,
    custody: &dyn Custody,
    tenure: Tenure,
) -> Result<(), AuthorityError> {
    let (key, signer) = new_key(document, "jwt", custody)?;
    let public_key = signer.public_key();
    let digest = public_key.spki_sha256();
    document.jwt.push(JwtAuthority {
        key,
        // Unique and of the key itself: two authorities never share one.
        kid: base64::encode_url(
            digest
                .first_chunk::<16>()
                .map_or(&digest[..], |short| short),
        ),
        spki: base64::encode(public_key.spki_der()),
        tenure,
    });
    Ok(())
}

fn bundle(
    document: &AuthorityDocument,
    trust_domain: &TrustDomain,
) -> Result<Bundle, AuthorityError> {
    let mut bundle = Bundle::new(trust_domain.clone())
        .with_sequence(document.sequence)
        .with_refresh_hint(REFRESH_HINT_S);
    for root in &document.roots {
        bundle.add_x509_authority(&base64::decode(&root.certificate)?)?;
    }
    for jwt in &document.jwt {
        let key = PublicKey::from_spki_der(&base64::decode(&jwt.spki)?)?;
        bundle.add_jwt_authority(&jwt.kid, &key)?;
    }
    Ok(bundle)
}
