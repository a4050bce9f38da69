//! What ties the attestation key to a machine: an endorsement key, whose TPM opens a credential only
//! while it holds the attestation key; or, where a cloud gives its machines none, whoever vouches for the
//! attestation key itself.

use super::{JoinExpectation, check_secret};
use crate::ak::{self, Vouched};
use crate::ek::{self, EndorsementKey, References};
use crate::keys::SigningKey;
use crate::message::{JoinAnswer, JoinRequest};
use facts::{Finding, Source, Timestamp};

#[derive(Debug, Clone)]
pub enum Anchor {
    Endorsement(EndorsementKey),
    Attestation,
}

/// The key that a machine's TPM is known by: its endorsement key, or its attestation key where the first
/// is not there. SHA-256 of the key's public area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chip {
    Endorsement([u8; 32]),
    Attestation([u8; 32]),
}

/// Why a machine's TPM is trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    Endorsement(ek::Trust),
    Attestation(ak::Trust),
}

impl Trust {
    /// What stands behind a chip that is trusted so. Emulators, clouds and pinned keys may be honest, but no
    /// hardware vendor stands behind them.
    #[must_use]
    pub const fn root(&self) -> Source {
        match self {
            Self::Endorsement(ek::Trust::Chain {
                emulated: false, ..
            }) => Source::Hardware,
            Self::Attestation(ak::Trust::Vouched(source)) => *source,
            Self::Endorsement(_) | Self::Attestation(_) => Source::Verified,
        }
    }

    pub(super) const fn instance(&self) -> Option<&ak::Instance> {
        match self {
            Self::Attestation(ak::Trust::Chain { instance, .. }) => instance.as_ref(),
            Self::Endorsement(_) | Self::Attestation(_) => None,
        }
    }
}

impl Chip {
    #[must_use]
    pub const fn sha256(&self) -> &[u8; 32] {
        match self {
            Self::Endorsement(digest) | Self::Attestation(digest) => digest,
        }
    }
}

impl Anchor {
    /// What the join rests on.
    ///
    /// # Errors
    /// `TPM-STRUCTURE`, `TPM-EK-KEY`; `TPM-JOIN-ANCHOR` for both kinds at once.
    pub fn read(request: &JoinRequest) -> Result<Self, Finding> {
        let none = request.ek_public.is_empty();
        let spare = if none {
            !request.ek_certificate.is_empty()
        } else {
            !request.ak_certificate.is_empty()
        };
        if spare {
            return Err(Finding::new(
                "TPM-JOIN-ANCHOR",
                "a certificate came along for a key that the join does not rest on",
            )
            .expected(
                "an endorsement key and its certificate, or the attestation key's certificate",
            )
            .next("let the node agent read the keys"));
        }
        if none {
            return Ok(Self::Attestation);
        }
        EndorsementKey::parse(&request.ek_public).map(Self::Endorsement)
    }

    /// The key that the machine's TPM is known by.
    #[must_use]
    pub fn chip(&self, ak: &SigningKey) -> Chip {
        match self {
            Self::Endorsement(ek) => Chip::Endorsement(*ek.sha256()),
            Self::Attestation => Chip::Attestation(ak.sha256),
        }
    }

    /// Why the machine's TPM is trusted at `now`; `vouched` is another verifier's word.
    ///
    /// # Errors
    /// As [`References::trust`] and [`References::trust_attestation`].
    pub fn trust(
        &self,
        ak: &SigningKey,
        request: &JoinRequest,
        references: &References,
        vouched: Option<&Vouched>,
        now: Timestamp,
    ) -> Result<Trust, Vec<Finding>> {
        match self {
            Self::Endorsement(ek) => references
                .trust(ek, &request.ek_certificate, now)
                .map(Trust::Endorsement),
            Self::Attestation => references
                .trust_attestation(ak, &request.ak_certificate, vouched, now)
                .map(Trust::Attestation),
        }
    }

    /// The TPM with the endorsement key holds the attestation key.
    ///
    /// # Errors
    /// `TPM-ACTIVATION`.
    pub(super) fn activated(
        &self,
        expectation: &JoinExpectation,
        answer: &JoinAnswer,
    ) -> Result<(), Finding> {
        let held = match self {
            Self::Endorsement(_) => check_secret(&expectation.secret, &answer.activated_secret),
            // There was no credential to open.
            Self::Attestation => answer.activated_secret.is_empty(),
        };
        if held {
            return Ok(());
        }
        Err(Finding::new(
            "TPM-ACTIVATION",
            "the endorsement key's TPM does not hold the attestation key",
        )
        .expected("the secret that was encrypted to this endorsement key for this key's name")
        .next("answer with the TPM that the endorsement key was read from"))
    }
}
