//! PostgreSQL sessions of workloads: the SVID from the Workload API by the `spiffe` crate, TLS by rustls, the
//! protocol by `tokio-postgres`.

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use spiffe_client::{WorkloadApiClient, X509Context, X509Svid};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

/// What this process may be, as the Workload API says now.
pub(crate) async fn context(socket: &str) -> X509Context {
    let client = WorkloadApiClient::connect_to(socket).await.unwrap();
    client.fetch_x509_context().await.unwrap()
}

/// TLS with `svid`, which trusts the authorities of its trust domain.
pub(crate) fn by_svid(context: &X509Context, svid: &X509Svid) -> MakeRustlsConnect {
    let mut roots = RootCertStore::empty();
    for (_, bundle) in context.bundle_set().iter() {
        for authority in bundle.authorities() {
            roots
                .add(CertificateDer::from(authority.as_bytes().to_vec()))
                .unwrap();
        }
    }
    let chain = svid.cert_chain().iter();
    let chain = chain.map(|certificate| CertificateDer::from(certificate.as_bytes().to_vec()));
    let key = PrivatePkcs8KeyDer::from(svid.private_key().as_bytes().to_vec());
    connector(roots, Some((chain.collect(), key.into())))
}

/// TLS that trusts the certificates in the PEM file `ca`, with those of the client if it has some.
pub(crate) fn by_files(ca: &Path, client: Option<(&Path, &Path)>) -> MakeRustlsConnect {
    use rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let client = client.map(|(chain, key)| {
        let chain = CertificateDer::pem_file_iter(chain).unwrap();
        (
            chain.map(Result::unwrap).collect(),
            PrivateKeyDer::from_pem_file(key).unwrap(),
        )
    });
    connector(roots, client)
}

fn connector(
    roots: RootCertStore,
    client: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> MakeRustlsConnect {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    MakeRustlsConnect::new(match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// To `port` of loopback.
pub(crate) fn config(port: u16, user: &str) -> Config {
    let mut config = Config::new();
    config
        .host("localhost")
        .hostaddr(std::net::Ipv4Addr::LOCALHOST.into())
        .port(port)
        .user(user)
        .dbname("bench")
        .ssl_mode(tokio_postgres::config::SslMode::Require);
    config
}

/// The serial of `svid`, which has to be valid now.
pub(crate) fn serial(context: &X509Context, svid: &X509Svid) -> String {
    let domain = spiffe_core::TrustDomain::new(crate::site::DOMAIN).unwrap();
    let mut bundle = spiffe_core::Bundle::new(domain);
    for (_, theirs) in context.bundle_set().iter() {
        for authority in theirs.authorities() {
            bundle.add_x509_authority(authority.as_bytes()).unwrap();
        }
    }
    let chain: Vec<&[u8]> = svid
        .cert_chain()
        .iter()
        .map(|certificate| certificate.as_bytes())
        .collect();
    let parsed = spiffe_core::X509Svid::parse(&chain).unwrap();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let now = facts::Timestamp::from_secs(now.as_secs());
    parsed.validate(&bundle, now).unwrap().serial
}
