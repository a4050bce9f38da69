//! Issuance in its order: prepare (nothing signed) → the record, durable → finish (signed).
//!
//! INVARIANT 1: nothing is signed whose record is not in the ledger. `finish` takes the receipt and checks
//! that it is for what was prepared; there is no other way to a signature in this crate.

use crate::{Authority, AuthorityError};
use crypto::{PublicKey, Signer};
use facts::Timestamp;
use ledger::body::{Delegation, Issuance};
use ledger::{Receipt, ReceiptError};
use spiffe_core::delegation::{DelegationTbs, Terms};
use spiffe_core::jwt::{JwtError, JwtParams, JwtTbs};
use spiffe_core::x509::BuildError;
use spiffe_core::{Issuer, LeafParams, Serial, SpiffeId, Tbs};
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error("{0} is not of the authority's trust domain")]
    ForeignId(SpiffeId),
    #[error("the certificate cannot be built")]
    Certificate(#[from] BuildError),
    #[error("the token cannot be built")]
    Token(#[from] JwtError),
    #[error("the receipt does not encode")]
    Receipt(#[from] ReceiptError),
    #[error("the receipt is for another issuance: nothing was signed")]
    OtherIssuance,
}

/// A leaf that is built and not signed.
pub struct PreparedX509 {
    tbs: Tbs,
    digest: [u8; 32],
    issuer: Issuer,
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A token that is built and not signed.
pub struct PreparedJwt {
    tbs: JwtTbs,
    digest: [u8; 32],
    signer: Arc<dyn Signer>,
    id: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A delegation token that is built and not signed.
pub struct PreparedDelegation {
    tbs: DelegationTbs,
    signer: Arc<dyn Signer>,
}

impl Authority {
    /// Builds a leaf for `spiffe_id` over `public_key`, valid from a little before `now` for as long as the
    /// authority's settings say, and no longer than its issuing CA.
    ///
    /// # Errors
    /// [`IssueError`] if the identity is of another trust domain or makes no valid SVID.
    pub fn prepare_x509(
        &self,
        spiffe_id: SpiffeId,
        public_key: PublicKey,
        dns_names: Vec<String>,
        serial: Serial,
        now: Timestamp,
    ) -> Result<PreparedX509, IssueError> {
        if !spiffe_id.is_member_of(&self.trust_domain) {
            return Err(IssueError::ForeignId(spiffe_id));
        }
        let issuer = self.issuer(now)?.clone();
        let params = LeafParams {
            spiffe_id,
            public_key,
            serial,
            not_before: now.minus_secs(self.lifetimes.backdate_s),
            not_after: now.plus_secs(self.lifetimes.x509_s).min(issuer.not_after()),
            dns_names,
        };
        let tbs = issuer.leaf(&params)?;
        Ok(PreparedX509 {
            digest: tbs.sha256(),
            tbs,
            issuer,
            serial,
            not_before: params.not_before,
            not_after: params.not_after,
        })
    }

    /// Builds a token for `spiffe_id`.
    ///
    /// # Errors
    /// [`IssueError`] if the identity is of another trust domain or makes no valid SVID.
    pub fn prepare_jwt(
        &self,
        spiffe_id: SpiffeId,
        audience: Vec<String>,
        id: Serial,
        now: Timestamp,
    ) -> Result<PreparedJwt, IssueError> {
        if !spiffe_id.is_member_of(&self.trust_domain) {
            return Err(IssueError::ForeignId(spiffe_id));
        }
        let (authority, signer) = self.jwt_key(now)?;
        let params = JwtParams {
            spiffe_id,
            audience,
            id,
            issued_at: now,
            expires_at: now
                .plus_secs(self.lifetimes.jwt_s)
                .min(authority.tenure.not_after),
        };
        let tbs = JwtTbs::new(&params, &authority.kid)?;
        Ok(PreparedJwt {
            digest: tbs.sha256(),
            tbs,
            signer: Arc::clone(signer),
            id,
            not_before: params.issued_at,
            not_after: params.expires_at,
        })
    }
}

impl Authority {
    /// When the key of JWTs that signs at `now` ends: nothing that it signs is to be believed for longer.
    ///
    /// # Errors
    /// [`AuthorityError::NoneSigns`].
    pub fn jwt_until(&self, now: Timestamp) -> Result<Timestamp, AuthorityError> {
        Ok(self.jwt_key(now)?.0.tenure.not_after)
    }

    /// Builds a delegation token.
    ///
    /// # Errors
    /// [`IssueError`] if its chain is of another trust domain.
    pub fn prepare_delegation(
        &self,
        terms: &Terms,
        now: Timestamp,
    ) -> Result<PreparedDelegation, IssueError> {
        if !terms.person().is_member_of(&self.trust_domain) {
            return Err(IssueError::ForeignId(terms.person().clone()));
        }
        let (authority, signer) = self.jwt_key(now)?;
        Ok(PreparedDelegation {
            tbs: DelegationTbs::new(terms, &authority.kid)?,
            signer: Arc::clone(signer),
        })
    }
}

impl PreparedDelegation {
    /// SHA-256 of the signing input without the receipt: what the record commits to.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.tbs.sha256()
    }

    /// SHA-256 of the signing key's SPKI.
    #[must_use]
    pub fn issuer(&self) -> [u8; 32] {
        self.signer.public_key().spki_sha256()
    }

    /// Signs.
    ///
    /// # Errors
    /// [`IssueError::OtherIssuance`] if `receipt` is not for this very token.
    pub fn finish(&self, receipt: &Receipt) -> Result<String, IssueError> {
        match Delegation::committed_tbs(&receipt.record) {
            Some(tbs) if crypto::constant_time_eq(&tbs.0, &self.digest()) => {}
            _ => return Err(IssueError::OtherIssuance),
        }
        let input = self.tbs.with_receipt(&receipt.encode()?);
        Ok(input.sign(self.signer.as_ref())?)
    }
}

impl PreparedX509 {
    /// SHA-256 of the TBS without the receipt: what the record commits to.
    #[must_use]
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// SHA-256 of the issuing CA's SPKI.
    #[must_use]
    pub fn issuer(&self) -> [u8; 32] {
        self.issuer.public_key().spki_sha256()
    }

    #[must_use]
    pub const fn serial(&self) -> Serial {
        self.serial
    }

    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Signs. The chain is DER, leaf first, without the root.
    ///
    /// # Errors
    /// [`IssueError::OtherIssuance`] if `receipt` is not for this very certificate.
    pub fn finish(&self, receipt: &Receipt) -> Result<Vec<Vec<u8>>, IssueError> {
        check(receipt, self.digest)?;
        let leaf = self
            .tbs
            .with_receipt(&receipt.encode()?)
            .sign(self.issuer.signer().as_ref())?;
        Ok(vec![leaf, self.issuer.certificate().to_vec()])
    }
}

impl PreparedJwt {
    /// SHA-256 of the signing input without the receipt: what the record commits to.
    #[must_use]
    pub const fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// SHA-256 of the signing key's SPKI.
    #[must_use]
    pub fn issuer(&self) -> [u8; 32] {
        self.signer.public_key().spki_sha256()
    }

    /// The token's `jti`.
    #[must_use]
    pub const fn id(&self) -> Serial {
        self.id
    }

    #[must_use]
    pub const fn not_before(&self) -> Timestamp {
        self.not_before
    }

    #[must_use]
    pub const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Signs. With `with_receipt` false the token is recorded all the same, but does not say so.
    ///
    /// # Errors
    /// [`IssueError::OtherIssuance`] if `receipt` is not for this very token.
    pub fn finish(&self, receipt: &Receipt, with_receipt: bool) -> Result<String, IssueError> {
        check(receipt, self.digest)?;
        let input = if with_receipt {
            self.tbs.with_receipt(&receipt.encode()?)
        } else {
            self.tbs.without_receipt()
        };
        Ok(input.sign(self.signer.as_ref())?)
    }
}

/// The receipt's record is of the issuance that has this digest.
fn check(receipt: &Receipt, digest: [u8; 32]) -> Result<(), IssueError> {
    match Issuance::committed_tbs(&receipt.record) {
        Some(tbs) if crypto::constant_time_eq(&tbs.0, &digest) => Ok(()),
        _ => Err(IssueError::OtherIssuance),
    }
}
