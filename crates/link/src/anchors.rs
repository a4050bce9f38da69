//! First contact: ask whoever answers for its anchors, and believe them only if they are the pinned ones.

use crate::{Link, LinkError, authenticated, first_contact};
use facts::Finding;
use proto::v1;
use proto::v1::join_client::JoinClient;
use spiffe_core::TrustDomain;
use std::sync::Arc;
use svid_tls::pin::{Anchors, PinnedAnchors};
use svid_tls::{BundleSource, OwnSvid};

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
    let answer = ask(first_contact(server).await?).await?;
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

/// How the ledger of `trust_domain`'s server went on as new logs, as that server says: links that vouch for themselves
/// to those who know one of the keys. Empty if there is one log. A thief of one of the keys can make links too: whoever
/// does not chain to `bundles` is not heard.
///
/// # Errors
/// If the server does not answer, or somebody else does.
pub async fn lineage(
    server: &str,
    trust_domain: &TrustDomain,
    bundles: Arc<dyn BundleSource>,
) -> Result<String, AnchorsError> {
    let link = authenticated(server, trust_domain, OwnSvid::empty(), bundles).await?;
    Ok(ask(link).await?.lineage)
}

async fn ask(link: Link) -> Result<v1::Anchors, AnchorsError> {
    JoinClient::new(link.channel)
        .anchors(v1::AnchorsRequest {})
        .await
        .map(tonic::Response::into_inner)
        .map_err(|status| AnchorsError::Status {
            code: status.code(),
            message: status.message().to_owned(),
        })
}
