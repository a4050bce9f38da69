//! Chains of authorities, as trusted roots hold them: the one that issues first, the root last. They are
//! parsed and verified link by link when the root is loaded, so that a verification checks one signature.
//!
//! RFC 5280, section 6, as far as these authorities use it: names, signatures, validity, basic constraints,
//! path length, key usage, extended key usage. There is no revocation: a chain that is taken back gets an
//! end in the trusted root.

use crate::certificate::{Certificate, Lifetime};
use attest::x509;
use crypto::chain::Kind;
use crypto::{Algorithm, PublicKey, sha256};
use facts::Timestamp;

const DEEPEST: usize = 8;

/// What an authority's certificates are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    CodeSigning,
    TimeStamping,
}

/// A chain, and when it may be relied on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorities {
    /// A time stamper's own certificate, where the chain begins with it.
    pub(crate) holder: Option<Vec<u8>>,
    members: Vec<Authority>,
    window: Lifetime,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Authority {
    title: String,
    subject: Vec<u8>,
    key: PublicKey,
    lifetime: Lifetime,
    path_length: Option<usize>,
}

/// The authority that issued a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Issuer {
    /// SHA-256 of its SPKI.
    pub(crate) key_hash: [u8; 32],
}

/// Why a chain does not carry a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unchained {
    /// None of the chain has the issuer's name, or its key did not sign.
    Stranger(String),
    /// It did, but not at that time, or it may not.
    Unfit(String),
}

impl Authorities {
    /// Reads a chain of DER certificates.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn load(
        chain: &[Vec<u8>],
        window: Lifetime,
        purpose: Purpose,
    ) -> Result<Self, String> {
        if chain.is_empty() || chain.len() > DEEPEST {
            return Err(format!("a chain of {} certificates", chain.len()));
        }
        let mut parsed = Vec::with_capacity(chain.len());
        for der in chain {
            parsed.push(Certificate::parse(der)?);
        }
        for pair in parsed.windows(2) {
            if let [below, above] = pair {
                signed_by(below, &above.key()?)
                    .map_err(|problem| format!("{}: {problem}", below.title()))?;
                if below.issuer() != above.subject() {
                    return Err(format!("{} was issued by another", below.title()));
                }
            }
        }
        let begins_with_holder = purpose == Purpose::TimeStamping
            && parsed.first().is_some_and(|one| !one.is_authority());
        let holder = if begins_with_holder {
            Some(parsed.remove(0).der.to_vec())
        } else {
            None
        };
        let members = parsed
            .iter()
            .map(|one| {
                Authority::of(one, purpose).map_err(|problem| format!("{}: {problem}", one.title()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if members.is_empty() {
            return Err("a chain without an authority".to_owned());
        }
        Ok(Self {
            holder,
            members,
            window,
        })
    }

    pub(crate) fn title(&self) -> &str {
        self.members.first().map_or("", |first| &first.title)
    }

    /// Whether `certificate` was issued under this chain.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn issued(&self, certificate: &Certificate<'_>) -> Result<Issued<'_>, Unchained> {
        let mut named = None;
        for (at, authority) in self.members.iter().enumerate() {
            if authority.subject != certificate.issuer() {
                continue;
            }
            match signed_by(certificate, &authority.key) {
                Ok(()) => {
                    return Ok(Issued {
                        chain: self,
                        above: self.members.get(at..).unwrap_or_default(),
                        issuer: Issuer {
                            key_hash: sha256(authority.key.spki_der()),
                        },
                    });
                }
                Err(problem) => named = Some(format!("{}: {problem}", authority.title)),
            }
        }
        Err(Unchained::Stranger(named.unwrap_or_else(|| {
            format!("issuer {}", certificate.x509.issuer())
        })))
    }
}

/// A certificate's path to the end of a chain. It has yet to be valid at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Issued<'a> {
    chain: &'a Authorities,
    above: &'a [Authority],
    pub(crate) issuer: Issuer,
}

impl Issued<'_> {
    /// # Errors
    /// Which certificate, or the chain as a whole, does not count at `at`.
    pub(crate) fn counts_at(&self, at: Timestamp) -> Result<(), Unchained> {
        if !self.chain.window.contains(at) {
            return Err(Unchained::Unfit(format!(
                "{} counts {}, not at {at}",
                self.chain.title(),
                self.chain.window
            )));
        }
        for (below, authority) in self.above.iter().enumerate() {
            if !authority.lifetime.contains(at) {
                return Err(Unchained::Unfit(format!(
                    "{} is valid {}, not at {at}",
                    authority.title, authority.lifetime
                )));
            }
            if authority.path_length.is_some_and(|limit| below > limit) {
                return Err(Unchained::Unfit(format!(
                    "{}: its path length is exceeded",
                    authority.title
                )));
            }
        }
        Ok(())
    }
}

impl Authority {
    fn of(certificate: &Certificate<'_>, purpose: Purpose) -> Result<Self, String> {
        x509::may_certify(&certificate.x509, None)?;
        // Stricter than RFC 5280, section 4.2.1.3, which lets old roots do without.
        if !matches!(certificate.x509.key_usage(), Ok(Some(_))) {
            return Err("no key usage".to_owned());
        }
        match certificate.x509.extended_key_usage() {
            Ok(None) => {}
            Ok(Some(usage)) => {
                let fits = usage.value.any
                    || match purpose {
                        Purpose::CodeSigning => usage.value.code_signing,
                        Purpose::TimeStamping => usage.value.time_stamping,
                    };
                if !fits {
                    return Err("it is for another purpose".to_owned());
                }
            }
            Err(_) => return Err("unreadable extended key usage".to_owned()),
        }
        Ok(Self {
            title: certificate.title(),
            subject: certificate.subject().to_vec(),
            key: certificate.key()?,
            lifetime: certificate.lifetime(),
            path_length: certificate.path_length(),
        })
    }
}

/// Whether `key` signed the certificate.
///
/// # Errors
/// Why not.
pub(crate) fn signed_by(
    certificate: &Certificate<'_>,
    key: &PublicKey,
) -> Result<(), &'static str> {
    let kind = kind(key).ok_or("a kind of key that signs no certificates here")?;
    x509::verify_as(
        kind,
        key.raw(),
        &certificate.x509.signature_algorithm,
        certificate.tbs(),
        &certificate.x509.signature_value.data,
    )
}

/// How keys of that kind sign; `None` for Ed25519, which has one way only, and for ML-DSA, which
/// signs no code here.
pub(crate) fn kind(key: &PublicKey) -> Option<Kind> {
    match key.algorithm() {
        Algorithm::EcdsaP256 => Some(Kind::P256),
        Algorithm::EcdsaP384 => Some(Kind::P384),
        Algorithm::Rsa => Some(Kind::Rsa),
        Algorithm::Ed25519 | Algorithm::MlDsa44 => None,
    }
}
