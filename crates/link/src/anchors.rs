//! First contact: ask whoever answers for its anchors, and believe them only if they are the pinned ones.

use crate::{LinkError, first_contact};
use facts::Finding;
use proto::v1;
use proto::v1::join_client::JoinClient;
use spiffe_core::TrustDomain;
use svid_tls::pin::{Anchors, PinnedAnchors};

#[derive(Debug, thiserror::Error)]
pub enum AnchorsError {
    #[error("connecting for first contact")]
    Link(#[from] LinkError),
    #[error("the server's answer to Join.Anchors: {code:?} {message}")]
    Status { code: tonic::Code, message: String },
    #[error("{0}")]
    Refused(Finding),
}

/// The anchors of `trust_domain` as `server` presents them, and as they were pinned: both forms of the same.
///
/// # Errors
/// `LINK-TRUST-DOMAIN`, `TLS-PIN-MISMATCH` and what else [`Anchors::check`] refuses.
pub async fn anchors(
    server: &str,
    trust_domain: &TrustDomain,
    pin: &str,
) -> Result<(Anchors, PinnedAnchors), AnchorsError> {
    let answer = ask(server).await?;
    if answer.trust_domain != trust_domain.as_str() {
        return Err(AnchorsError::Refused(
            Finding::new("LINK-TRUST-DOMAIN", "the server is of another trust domain")
                .expected(trust_domain.as_str())
                .observed(answer.trust_domain),
        ));
    }
    let anchors = Anchors {
        trust_domain: answer.trust_domain,
        roots: answer.x509_authorities,
        ledger_key: answer.ledger_key,
    };
    let pinned = anchors.check(pin).map_err(AnchorsError::Refused)?;
    Ok((anchors, pinned))
}

/// How the ledger of whoever answers at `server` went on as new logs, as it says: links that vouch for themselves to
/// those who know one of the keys. Empty if there is one log.
///
/// # Errors
/// If nobody answers.
pub async fn lineage(server: &str) -> Result<String, AnchorsError> {
    Ok(ask(server).await?.lineage)
}

async fn ask(server: &str) -> Result<v1::Anchors, AnchorsError> {
    let link = first_contact(server).await?;
    JoinClient::new(link.channel)
        .anchors(v1::AnchorsRequest {})
        .await
        .map(tonic::Response::into_inner)
        .map_err(|status| AnchorsError::Status {
            code: status.code(),
            message: status.message().to_owned(),
        })
}
