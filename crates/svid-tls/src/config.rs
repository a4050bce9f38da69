//! The configurations, one function for each role. Each turns resumption and early data off itself:
//! the library's defaults are not relied on.

use crate::peer::{Authorizer, BundleSource};
use crate::verify::{SvidVerifier, UnknownServer};
use crate::{Error, OwnSvid};
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoClientAuth, NoServerSessionStorage, danger::ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::{DnsName, ServerName};
use std::sync::Arc;

/// What a server asks of its clients.
#[derive(Clone)]
pub enum ClientAuth {
    /// Nothing: for first contact, where the client has no identity yet.
    None,
    /// An SVID, if the client has one; what it presents is checked.
    Optional(Arc<dyn BundleSource>, Authorizer),
    /// An SVID.
    Required(Arc<dyn BundleSource>, Authorizer),
}

/// A server that presents `own`.
///
/// # Errors
/// [`Error::Provider`].
pub fn server(own: Arc<OwnSvid>, clients: ClientAuth) -> Result<ServerConfig, Error> {
    let provider = crypto::provider();
    let svid = |bundles, authorize, mandatory| -> Arc<dyn ClientCertVerifier> {
        Arc::new(SvidVerifier {
            bundles,
            authorize,
            mandatory,
            algorithms: provider.signature_verification_algorithms,
        })
    };
    let verifier = match clients {
        ClientAuth::None => Arc::new(NoClientAuth),
        ClientAuth::Optional(bundles, authorize) => svid(bundles, authorize, false),
        ClientAuth::Required(bundles, authorize) => svid(bundles, authorize, true),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::Provider)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// A client that presents `own` and accepts the servers that `authorize` lets in. Dial with
/// [`server_name`]: names are not looked at.
///
/// # Errors
/// [`Error::Provider`].
pub fn client(
    own: Arc<OwnSvid>,
    bundles: Arc<dyn BundleSource>,
    authorize: Authorizer,
) -> Result<ClientConfig, Error> {
    let provider = crypto::provider();
    let verifier = SvidVerifier {
        bundles,
        authorize,
        mandatory: true,
        algorithms: provider.signature_verification_algorithms,
    };
    client_with(provider, Arc::new(verifier), own)
}

/// A client that presents nothing and does not know the server yet. For asking for the anchors, which
/// are then compared with the pin ([`Anchors::check`](crate::pin::Anchors::check)), and for nothing
/// else; the connection that follows is made with [`client`] over the pinned anchors.
///
/// # Errors
/// [`Error::Provider`].
pub fn first_contact() -> Result<ClientConfig, Error> {
    let provider = crypto::provider();
    let algorithms = provider.signature_verification_algorithms;
    client_with(
        provider,
        Arc::new(UnknownServer { algorithms }),
        OwnSvid::empty(),
    )
}

fn client_with(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    own: Arc<OwnSvid>,
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(Error::Provider)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(own);
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    // The name would be the same constant for everyone.
    config.enable_sni = false;
    Ok(config)
}

/// What rustls wants to be told as the server's name; it is neither sent nor compared.
#[must_use]
pub fn server_name() -> ServerName<'static> {
    DnsName::try_from("svid.invalid").map_or_else(
        |_| ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        ServerName::DnsName,
    )
}
