//! Who is it? From a chain of certificates to a principal, or to a finding.

use crate::Following;
use facts::{FactSet, Finding, Timestamp};
use ledger::body::Issuance;
use rustls_pki_types::CertificateDer;
use spiffe_core::{SpiffeId, VerifiedIssuance, receipt, shown};
use std::time::Duration;

/// A receipt that is newer than the followed chain may arrive while the checkpoint is on its way.
pub(crate) const CATCH_UP: Duration = Duration::from_secs(2);

/// An admitted peer.
#[derive(Debug, Clone)]
pub struct Principal {
    pub spiffe_id: SpiffeId,
    /// `payments/api`
    pub path: String,
    /// Of the SVID that the session rests on now.
    pub serial: String,
    pub not_after: Timestamp,
    /// Name of the machine that it was issued for.
    pub node: String,
    /// The facts that its issuance record shows.
    pub facts: FactSet,
    /// Index of that record in the server's ledger.
    pub issuance: u64,
}

impl Following {
    /// INVARIANT 1: an SVID of the own trust domain counts only with a receipt that matches the certificate
    /// and whose checkpoint lies on the followed chain.
    ///
    /// # Errors
    /// `GATEWAY-STALE`, `GATEWAY-UNWITNESSED`, `GATEWAY-NO-ESTATE`, `GATEWAY-FOREIGN-DOMAIN`, `GATEWAY-REVOKED`,
    /// `GATEWAY-BELOW-FLOOR`, `GATEWAY-UNDECLARED`, and the codes of `svid-tls` and `spiffe` for SVID and receipt.
    pub async fn admit(
        &self,
        chain: &[CertificateDer<'_>],
        now: Timestamp,
    ) -> Result<Principal, Finding> {
        let current = self.fresh(now)?;
        self.seen_by_others(now)?;
        let svid = svid_tls::peer::validate(chain, self, now)?;
        if !svid.spiffe_id.is_member_of(self.trust_domain()) {
            return Err(Finding::new(
                "GATEWAY-FOREIGN-DOMAIN",
                "no policy names the peer's trust domain",
            )
            .expected(self.trust_domain().to_string())
            .observed(svid.spiffe_id.to_string()));
        }
        let verified = receipt::check(&svid, &self.ledger_key())?;
        self.on_chain(&verified.receipt.checkpoint, CATCH_UP)
            .await?;
        above_floor(&verified, current.floor)?;

        let principal = Principal {
            path: svid.spiffe_id.identity_path().to_owned(),
            spiffe_id: svid.spiffe_id,
            serial: svid.serial,
            not_after: svid.not_after,
            node: node_name(&verified.issuance),
            facts: shown::facts(&verified.issuance),
            issuance: verified.receipt.index,
        };
        self.refuse_revoked(&principal)?;
        if current.estate.identity(&principal.path).is_none() {
            return Err(Finding::new(
                "GATEWAY-UNDECLARED",
                "the estate that decides now does not declare the peer's identity",
            )
            .observed(principal.spiffe_id.to_string())
            .next("declare it in identities/, or find out who still uses it"));
        }
        Ok(principal)
    }

    /// The path by which the estate that decides now declares the principal: of an instance, its template's. Its
    /// own, where nothing declares it.
    #[must_use]
    pub fn declared_path(&self, principal: &Principal) -> String {
        let current = self.current();
        let declared = current
            .as_ref()
            .and_then(|current| current.estate.identity(&principal.path));
        declared.map_or_else(|| principal.path.clone(), |identity| identity.path.clone())
    }

    /// # Errors
    /// `GATEWAY-REVOKED`.
    pub fn refuse_revoked(&self, principal: &Principal) -> Result<(), Finding> {
        self.revocations(|revocations| revocations.hit(principal))
            .map_or(Ok(()), |why| {
                Err(
                    Finding::new("GATEWAY-REVOKED", format!("the peer is not let in: {why}"))
                        .observed(format!("{} {}", principal.spiffe_id, principal.serial)),
                )
            })
    }
}

/// What was issued under an estate older than the floor is not let in (DESIGN, section 8).
fn above_floor(verified: &VerifiedIssuance, floor: u64) -> Result<(), Finding> {
    let issued_under = verified.receipt.record.estate().map(|estate| estate.index);
    if floor == 0 || issued_under.is_some_and(|index| index >= floor) {
        return Ok(());
    }
    Err(Finding::new(
        "GATEWAY-BELOW-FLOOR",
        "the SVID was issued under an estate that is no longer accepted",
    )
    .expected(format!("the estate of record {floor} or a later one"))
    .observed(issued_under.map_or_else(
        || "none".to_owned(),
        |index| format!("that of record {index}"),
    ))
    .next("the peer's agent renews it under the estate in force"))
}

/// Issuance records name the node by name or by SPIFFE ID.
fn node_name(issuance: &Issuance) -> String {
    let node = issuance.node.as_str();
    node.rsplit_once("/trilith/node/")
        .map_or(node, |(_, name)| name)
        .to_owned()
}
