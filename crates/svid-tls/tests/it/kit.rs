//! A trust domain, a clock, and two ends of a connection in memory.

use crypto::{Algorithm, KeyPair, Signer};
use facts::Timestamp;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, Error, ServerConfig, ServerConnection};
use rustls_pki_types::UnixTime;
use spiffe_core::x509::authority::{self, AuthorityParams};
use spiffe_core::{Bundle, Issuer, LeafParams, Serial, SpiffeId, TrustDomain};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use svid_tls::peer::any_member;
use svid_tls::{Authorizer, BundleSource, ClientAuth, OwnSvid};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_312_969);

#[derive(Debug)]
pub(crate) struct Clock(AtomicU64);

impl Clock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(NOW.as_secs())))
    }

    pub(crate) fn set(&self, now: Timestamp) {
        self.0.store(now.as_secs(), Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = Duration::from_secs(self.0.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(seconds))
    }
}

pub(crate) struct Domain {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) root: Issuer,
    issuing: Issuer,
}

impl Domain {
    pub(crate) fn new(name: &str) -> Self {
        let trust_domain = TrustDomain::new(name).unwrap();
        let params = || AuthorityParams {
            serial: Serial::from_random(crypto::random()),
            not_before: NOW.minus_secs(3600),
            not_after: NOW.plus_secs(86_400),
        };
        let (root_key, issuing_key) = (key(), key());
        let root = authority::root(&trust_domain, &params(), root_key.as_ref()).unwrap();
        let root = Issuer::new(&root, root_key).unwrap();
        let issuing =
            authority::issuing(&trust_domain, &params(), issuing_key.public_key(), &root).unwrap();
        Self {
            trust_domain,
            root,
            issuing: Issuer::new(&issuing, issuing_key).unwrap(),
        }
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        self.trust_domain.identity(path).unwrap()
    }

    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        let mut bundle = Bundle::new(self.trust_domain.clone());
        bundle.add_x509_authority(self.root.certificate()).unwrap();
        Arc::new(bundle)
    }

    /// A chain for `path` and `key` that ends `seconds` from [`NOW`].
    pub(crate) fn chain(&self, path: &str, key: &dyn Signer, seconds: u64) -> Vec<Vec<u8>> {
        let params = LeafParams {
            spiffe_id: self.id(path),
            public_key: key.public_key().clone(),
            serial: Serial::from_random(crypto::random()),
            not_before: NOW.minus_secs(60),
            not_after: NOW.plus_secs(seconds),
            dns_names: Vec::new(),
        };
        let tbs = self.issuing.leaf(&params).unwrap().without_receipt();
        let leaf = tbs.sign(self.issuing.signer().as_ref()).unwrap();
        vec![leaf, self.issuing.certificate().to_vec()]
    }

    pub(crate) fn svid(&self, path: &str, seconds: u64) -> Arc<OwnSvid> {
        let key = key();
        OwnSvid::new(self.chain(path, key.as_ref(), seconds), key).unwrap()
    }

    pub(crate) fn members(&self) -> Authorizer {
        any_member(self.trust_domain.clone())
    }

    /// A server at `path` that requires SVIDs of this domain.
    pub(crate) fn server(&self, clock: &Arc<Clock>) -> ServerConfig {
        let clients = ClientAuth::Required(self.bundle(), self.members());
        server(self.svid("server", 3600), clients, clock)
    }

    /// A client that presents `own` and wants a server of this domain.
    pub(crate) fn client(&self, own: Arc<OwnSvid>, clock: &Arc<Clock>) -> ClientConfig {
        client(own, self.bundle(), self.members(), clock)
    }
}

pub(crate) fn server(own: Arc<OwnSvid>, clients: ClientAuth, clock: &Arc<Clock>) -> ServerConfig {
    let mut config = svid_tls::server(own, clients).unwrap();
    config.time_provider = clock.clone();
    config
}

pub(crate) fn client(
    own: Arc<OwnSvid>,
    bundles: Arc<dyn BundleSource>,
    authorize: Authorizer,
    clock: &Arc<Clock>,
) -> ClientConfig {
    let mut config = svid_tls::client(own, bundles, authorize).unwrap();
    config.time_provider = clock.clone();
    config
}

pub(crate) fn key() -> Arc<dyn Signer> {
    Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap())
}

/// Both ends after a handshake that succeeded.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
}

/// The first error, and the end that raised it.
#[derive(Debug)]
pub(crate) enum Refusal {
    ByClient(Error),
    ByServer(Error),
}

impl Refusal {
    /// The code of the finding inside.
    pub(crate) fn code(&self) -> &str {
        let (Self::ByClient(error) | Self::ByServer(error)) = self;
        svid_tls::finding(error).map_or("no finding", |finding| &finding.code)
    }
}

pub(crate) fn handshake(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> Result<Connection, Refusal> {
    let name = svid_tls::server_name();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    // TLS 1.3 takes fewer turns; what comes after the handshake, tickets, is exchanged as well.
    for _ in 0..6 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().map_err(Refusal::ByServer)?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().map_err(Refusal::ByClient)?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(Connection { client, server })
}

/// As [`handshake`], for configurations that are used once.
pub(crate) fn once(client: ClientConfig, server: ServerConfig) -> Result<Connection, Refusal> {
    handshake(&Arc::new(client), &Arc::new(server))
}
