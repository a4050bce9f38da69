//! Certification paths of what vendors and clouds certify about TPMs, and the authorities that they may
//! end in.
//!
//! RFC 5280 section 6 as far as TPM vendors use it: names, signatures, validity, basic constraints,
//! key usage, path length. No revocation: vendors' CRLs are mostly unreachable and the owner's list of
//! roots is the decision. Name and policy constraints, when critical, are refused.

use crate::certificate::Kind;
use attest::x509::{self, may_certify, signed_by, valid_at};
use facts::{Finding, Timestamp};
use x509_parser::certificate::{Validity, X509Certificate};

/// Intermediates between a key's certificate and its root.
const DEEPEST: usize = 4;
/// Signature checks for one path: bounds the work that a certificate can cause.
const BUDGET: usize = 32;

/// A certificate of a vendor's authority: parsed once, when the references are loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    der: Vec<u8>,
    subject: Vec<u8>,
    title: String,
    cloud: Option<Cloud>,
}

/// A cloud whose certificates name its machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloud {
    Google,
}

/// Where a path ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) emulated: bool,
    /// Whose machines the root may name; never an emulated one's.
    pub(crate) cloud: Option<Cloud>,
}

impl Authority {
    /// Reads one certificate.
    ///
    /// # Errors
    /// `TPM-ROOT-STRUCTURE` if it is no certificate of an authority with a kind of key that is
    /// verified here.
    pub fn from_der(der: &[u8]) -> Result<Self, Finding> {
        let parsed = x509::parse(der).map_err(unusable)?;
        x509::key_kind(parsed.public_key())
            .ok_or_else(|| unusable("a key that is neither RSA nor on P-256, P-384 or P-521"))?;
        may_certify(&parsed, None).map_err(unusable)?;
        Ok(Self {
            der: der.to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
            title: parsed.subject().to_string(),
            cloud: None,
        })
    }

    /// Reads every certificate of a PEM file, as vendors publish them.
    ///
    /// # Errors
    /// `TPM-ROOT-STRUCTURE` for a block that cannot be read, and for a file without any.
    pub fn from_pem(text: &str) -> Result<Vec<Self>, Finding> {
        let blocks = x509::pem(text).map_err(unusable)?;
        blocks.iter().map(|der| Self::from_der(der)).collect()
    }

    /// The same, as a root that may say which machine of `cloud` a key is of. What others say about
    /// machines is not stated.
    #[must_use]
    pub const fn of_cloud(mut self, cloud: Cloud) -> Self {
        self.cloud = Some(cloud);
        self
    }

    /// The raw DER name.
    #[must_use]
    pub fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The name for people.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.title
    }

    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

/// Whom certificates of one kind may come from. All of it is the owner's choice and comes with the
/// estate; nothing is built in.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    /// Those who are what they say: makers of TPMs, clouds.
    pub roots: Vec<Authority>,
    /// Makers of emulated TPMs. What chains to one of them is `emulated`, whatever else it claims.
    pub emulated: Vec<Authority>,
    /// For building paths only; not trusted by themselves.
    pub intermediates: Vec<Authority>,
}

impl Authorities {
    /// Those with `subject` as their name: roots with what they are, then the rest.
    fn issuers<'a>(
        &'a self,
        subject: &'a [u8],
    ) -> impl Iterator<Item = (&'a Authority, Option<Ended>)> {
        // INVARIANT: emulated first. A root that stands in both lists is emulated.
        let emulated = self.emulated.iter().map(|one| {
            let ended = Ended {
                emulated: true,
                cloud: None,
            };
            (one, Some(ended))
        });
        let roots = self.roots.iter().map(|one| {
            let ended = Ended {
                emulated: false,
                cloud: one.cloud,
            };
            (one, Some(ended))
        });
        let between = self.intermediates.iter().map(|one| (one, None));
        emulated
            .chain(roots)
            .chain(between)
            .filter(move |(authority, _)| authority.subject() == subject)
    }
}

fn unusable(problem: &str) -> Finding {
    Finding::new(
        "TPM-ROOT-STRUCTURE",
        "a reference value is no certificate of an authority",
    )
    .expected("a DER or PEM certificate that may certify others")
    .observed(problem)
    .next("remove it from the references")
}

/// In what kind of root the path from `leaf` ends.
///
/// # Errors
/// The kind's code for chains, or for validity if a path fails by time alone.
pub(crate) fn find(
    leaf: &X509Certificate<'_>,
    kind: &'static Kind,
    authorities: &Authorities,
    now: Timestamp,
) -> Result<Ended, Finding> {
    let mut search = Search {
        authorities,
        kind,
        now,
        budget: BUDGET,
        failure: None,
    };
    search.from(leaf, 0).ok_or_else(|| {
        search.failure.unwrap_or_else(|| {
            broken(kind, format!("issuer {}", leaf.issuer())).next(
                "add the root and intermediate certificates of its issuer to the references, \
                 or pin the key",
            )
        })
    })
}

struct Search<'a> {
    authorities: &'a Authorities,
    kind: &'static Kind,
    now: Timestamp,
    budget: usize,
    /// Why the most promising path failed.
    failure: Option<Finding>,
}

impl Search<'_> {
    /// `below` intermediates lie between `certificate`'s issuer and the key's certificate.
    fn from(&mut self, certificate: &X509Certificate<'_>, below: usize) -> Option<Ended> {
        let (authorities, kind) = (self.authorities, self.kind);
        for (authority, root) in authorities.issuers(certificate.issuer().as_raw()) {
            if self.budget == 0 || below > DEEPEST {
                return None;
            }
            self.budget -= 1;
            let Ok(issuer) = x509::parse(&authority.der) else {
                continue;
            };
            if let Err(problem) = signed_by(certificate, &issuer) {
                self.failure
                    .get_or_insert(broken(kind, format!("{}: {problem}", authority.title)));
                continue;
            }
            if let Err(problem) = may_certify(&issuer, Some(below)) {
                self.failure = Some(broken(kind, format!("{}: {problem}", authority.title)));
                continue;
            }
            if !valid_at(issuer.validity(), self.now) {
                self.failure = Some(expired(kind, &authority.title, issuer.validity(), self.now));
                continue;
            }
            if let Some(ended) = root.or_else(|| self.from(&issuer, below + 1)) {
                return Some(ended);
            }
        }
        None
    }
}

fn broken(kind: &Kind, observed: String) -> Finding {
    let message = format!("{} does not lead to a trusted root", kind.title);
    Finding::new(kind.chain, message)
        .expected("a path to one of the roots in the references")
        .observed(observed)
}

pub(crate) fn expired(kind: &Kind, title: &str, validity: &Validity, now: Timestamp) -> Finding {
    let message = format!("the certificate {title} is not valid now");
    Finding::new(kind.validity, message)
        .expected(format!("{} to {}", validity.not_before, validity.not_after))
        .observed(now.to_string())
        .next("check the server's clock; for a lapsed certificate, pin the key")
}
