//! Delegating on, for `trilith delegate`: a workload that acts for somebody lets another act in its turn.
//!
//! It asks the server itself, by the SVID that the local agent gives it: the agent has no part in who acts for
//! whom. The server is known by the roots that come with that SVID, so nothing has to be pinned.

use crate::client::{Client, ClientError, Svid};
use crate::join::finding_of;
use crypto::KeyPair;
use facts::{Finding, Timestamp};
use proto::v1;
use proto::v1::delegate_client::DelegateClient;
use spiffe_core::delegation::DelegationToken;
use spiffe_core::x509::split_certificates;
use spiffe_core::{Bundle, SpiffeId, X509Svid};
use std::sync::Arc;
use std::time::Duration;
use svid_tls::OwnSvid;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct DelegateOptions {
    /// Of the Workload API: `unix:///run/trilith/workload.sock`.
    pub socket: String,
    /// `HOST:PORT` of the server.
    pub server: String,
    /// By which this process acts for somebody.
    pub token: String,
    /// Path or SPIFFE ID.
    pub to: String,
    /// Empty: any.
    pub actions: Vec<String>,
    pub resources: Vec<String>,
    /// Seconds; 0: as long as it may last.
    pub ttl_s: u64,
    /// How long to wait for an identity; `None`: for ever.
    pub wait: Option<Duration>,
}

/// A delegation that the server made.
pub struct Delegated {
    pub token: String,
    pub jti: String,
    pub expires_at: Timestamp,
    /// Of its record in the server's ledger.
    pub index: u64,
}

/// # Errors
/// Why there is no SVID, no server, or no such delegation.
pub async fn delegate(options: DelegateOptions) -> Result<Delegated, Finding> {
    let token = DelegationToken::parse(&options.token)?;
    let delegate = token.claimed().last().map(|link| link.to.clone());
    let delegate =
        delegate.ok_or_else(|| Finding::new("DELEGATE-TOKEN", "the token lets nobody act"))?;
    let svid = svid(&options.socket, &delegate, options.wait).await?;
    let domain = delegate.trust_domain();
    let key = KeyPair::from_pkcs8(&svid.key).map_err(|error| odd(error.to_string()))?;
    let chain = X509Svid::parse_concatenated(&svid.chain)?;
    let chain = chain.chain().map(<[u8]>::to_vec).collect();
    let own = OwnSvid::new(chain, Arc::new(key)).map_err(|error| odd(error.to_string()))?;
    let mut bundle = Bundle::new(domain.clone());
    for root in split_certificates(&svid.bundle)? {
        bundle
            .add_x509_authority(root)
            .map_err(|error| odd(error.to_string()))?;
    }
    let link = link::authenticated(&options.server, &domain, own, Arc::new(bundle)).await;
    let link = link.map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        Finding::new("DELEGATE-SERVER", error.to_string())
            .observed(source.unwrap_or_default())
            .next("look at --server, and whether the server can be reached from here")
    })?;
    let request = v1::DelegateRequest {
        token: options.token,
        to: options.to,
        actions: options.actions,
        resources: options.resources,
        ttl_s: options.ttl_s,
    };
    let made = DelegateClient::new(link.channel).next(request).await;
    let made = made.map_err(|status| {
        finding_of(&status).unwrap_or_else(|| {
            Finding::new("DELEGATE-REFUSED", status.message().to_owned())
                .observed(format!("{:?}", status.code()))
                .next("look at the server's log, and that it has the version of this program")
        })
    })?;
    let made = made.into_inner();
    Ok(Delegated {
        token: made.token,
        jti: made.jti,
        expires_at: Timestamp::from_millis(made.expires),
        index: made.index,
    })
}

/// The SVID of whom the token lets act: no other would be believed.
async fn svid(socket: &str, delegate: &SpiffeId, wait: Option<Duration>) -> Result<Svid, Finding> {
    let wanted = async {
        let client = Client::connect(socket).await?;
        client.x509().await?.next().await
    };
    let held = match wait {
        Some(limit) => tokio::time::timeout(limit, wanted)
            .await
            .unwrap_or_else(|_| Err(ClientError::Unavailable("no identity in time".to_owned()))),
        None => wanted.await,
    };
    let held = held.map_err(|error| error.finding())?;
    let names: Vec<String> = held.iter().map(|svid| svid.spiffe_id.clone()).collect();
    let found = held
        .into_iter()
        .find(|svid| svid.spiffe_id == delegate.as_str());
    found.ok_or_else(|| {
        Finding::new(
            "DELEGATE-IDENTITY",
            "the token lets another act than this process is",
        )
        .expected(delegate.to_string())
        .observed(names.join(", "))
        .next("run it as the workload that the token was made for")
    })
}

fn odd(what: String) -> Finding {
    Finding::new("DELEGATE-SVID", "what the agent gave cannot be used")
        .observed(what)
        .next("look at the agent's log, and that it has the version of this program")
}
