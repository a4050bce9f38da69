//! Whether what the server hands out was recorded before it was signed: chain, receipt and, for SVIDs of
//! workloads, that it is the one that was asked for.
//!
//! The ledger's key was pinned at first contact and is parsed once. The agent does not follow the chain of
//! checkpoints: a receipt under a forked one passes here, unless witnesses are asked for (`witnessed`), and gateways,
//! which follow it, refuse it.

use crate::witnessed::Witnessing;
use crypto::PublicKey;
use facts::{Finding, Timestamp};
use ledger::LedgerKey;
use proto::v1;
use spiffe_core::{Bundle, JwtSvid, TrustDomain, ValidatedJwt, ValidatedSvid, X509Svid, receipt};

#[derive(Debug)]
pub(crate) struct Receipts {
    ledger: LedgerKey,
}

impl Receipts {
    /// `spki` is that of the server ledger's key.
    pub(crate) fn new(trust_domain: &TrustDomain, spki: &[u8]) -> Result<Self, Finding> {
        let unusable = |what: String| {
            Finding::new("AGENT-LEDGER-KEY", "the pinned ledger key is not usable")
                .expected("SPKI of an Ed25519 key")
                .observed(what)
                .next("remove the agent's data directory and join anew")
        };
        let key = PublicKey::from_spki_der(spki).map_err(|error| unusable(error.to_string()))?;
        let ledger = LedgerKey::new(&format!("{trust_domain}/server"), key)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { ledger })
    }

    /// Of the server's ledger.
    pub(crate) const fn key(&self) -> &LedgerKey {
        &self.ledger
    }

    /// An X.509-SVID that is valid now and was recorded.
    ///
    /// # Errors
    /// Those of [`X509Svid::validate`] and [`receipt::check`].
    pub(crate) fn x509<T: AsRef<[u8]>>(
        &self,
        bundle: &Bundle,
        chain: &[T],
        now: Timestamp,
    ) -> Result<ValidatedSvid, Finding> {
        let valid = X509Svid::parse(chain)?.validate(bundle, now)?;
        receipt::check(&valid, &self.ledger)?;
        Ok(valid)
    }

    /// As [`Receipts::x509`]; and it is for the identity, serial and key that the server says.
    pub(crate) fn issued(
        &self,
        bundle: &Bundle,
        svid: &v1::X509Svid,
        witnessing: Option<&Witnessing>,
        now: Timestamp,
    ) -> Result<(), Finding> {
        let valid = self.x509(bundle, &svid.certificate_chain, now)?;
        if let Some(witnessing) = witnessing {
            let recorded = receipt::check(&valid, self.key())?;
            witnessing.check(&recorded.receipt.checkpoint, now)?;
        }
        let same = valid.spiffe_id.as_str() == svid.spiffe_id
            && valid.serial == svid.serial
            && valid.public_key.spki_sha256().as_slice() == svid.public_key_sha256;
        if same {
            return Ok(());
        }
        Err(Finding::new(
            "AGENT-SVID-OTHER",
            "the certificate is not the one that the server says it is",
        )
        .expected(format!("{} serial {}", svid.spiffe_id, svid.serial))
        .observed(format!("{} serial {}", valid.spiffe_id, valid.serial)))
    }

    /// A token of the own trust domain that is valid now for `audience` and was recorded.
    ///
    /// # Errors
    /// Those of [`JwtSvid::parse`], [`JwtSvid::validate`] and [`receipt::check_jwt`].
    pub(crate) fn jwt(
        &self,
        bundle: &Bundle,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<ValidatedJwt, Finding> {
        let valid = JwtSvid::parse(token)?.validate(bundle, audience, now)?;
        receipt::check_jwt(&valid, &self.ledger)?;
        Ok(valid)
    }

    /// As [`Receipts::jwt`], of a token that the server has just issued.
    pub(crate) fn jwt_issued(
        &self,
        bundle: &Bundle,
        token: &str,
        audience: &str,
        witnessing: Option<&Witnessing>,
        now: Timestamp,
    ) -> Result<(), Finding> {
        let valid = JwtSvid::parse(token)?.validate(bundle, audience, now)?;
        let recorded = receipt::check_jwt(&valid, &self.ledger)?;
        witnessing.map_or(Ok(()), |witnessing| {
            witnessing.check(&recorded.receipt.checkpoint, now)
        })
    }
}
