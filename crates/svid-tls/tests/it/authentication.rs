//! Who gets in, who does not, and why.

use crate::kit::{Clock, Domain, NOW, Refusal, client, key, once, server};
use crypto::{Algorithm, KeyPair, Signer as _};
use facts::Finding;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, NamedGroup, ProtocolVersion, SignatureScheme, version::TLS12};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use spiffe_core::{Bundle, TrustDomain};
use std::sync::{Arc, Mutex};
use svid_tls::peer::{any_member, exactly, validate};
use svid_tls::{BundleSource, ClientAuth, Error, OwnSvid, channel_binding};

#[test]
fn both_sides_know_each_other() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let own = domain.svid("payments/api", 3600);
    let client = client(own, domain.bundle(), exactly(domain.id("server")), &clock);
    let connection = once(client, domain.server(&clock)).unwrap();
    let (client, server) = (&connection.client, &connection.server);
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    for (certificates, path) in [
        (server.peer_certificates(), "payments/api"),
        (client.peer_certificates(), "server"),
    ] {
        let svid = validate(certificates.unwrap(), domain.bundle().as_ref(), NOW).unwrap();
        assert_eq!(svid.spiffe_id, domain.id(path));
    }
}

#[test]
fn a_channel_binding_is_of_one_connection() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let bindings = || {
        let client = domain.client(domain.svid("a", 3600), &clock);
        let connection = once(client, domain.server(&clock)).unwrap();
        let ours = channel_binding(&connection.client).unwrap();
        (ours, channel_binding(&connection.server).unwrap())
    };
    let (first, second) = (bindings(), bindings());
    assert_eq!(first.0, first.1);
    assert_eq!(second.0, second.1);
    assert_ne!(first.0, second.0);
}

#[test]
fn tls_1_2_is_not_spoken() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let mut old = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    old.time_provider = clock.clone();
    assert!(matches!(
        once(old, domain.server(&clock)),
        Err(Refusal::ByServer(_))
    ));
}

#[test]
fn expired_svids_are_refused_by_both_sides() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    clock.set(NOW.plus_secs(31));
    let stale_client = domain.client(domain.svid("a", 30), &clock);
    let refused = once(stale_client, domain.server(&clock)).unwrap_err();
    assert!(matches!(refused, Refusal::ByServer(_)));
    assert_eq!(refused.code(), "SVID-EXPIRED");

    let clients = ClientAuth::Required(domain.bundle(), domain.members());
    let stale_server = server(domain.svid("server", 30), clients, &clock);
    let refused = once(domain.client(domain.svid("a", 3600), &clock), stale_server).unwrap_err();
    assert!(matches!(refused, Refusal::ByClient(_)));
    assert_eq!(refused.code(), "SVID-EXPIRED");
}

#[test]
fn foreign_trust_domains_are_refused() {
    let (ours, theirs) = (Domain::new("example.org"), Domain::new("example.com"));
    let clock = Clock::new();
    let foreign = client(
        theirs.svid("a", 3600),
        ours.bundle(),
        ours.members(),
        &clock,
    );
    let refused = once(foreign, ours.server(&clock)).unwrap_err();
    assert_eq!(refused.code(), "TLS-PEER-DOMAIN");
    // Federated: the SVID is valid, and still has to be let in.
    let foreign = || {
        client(
            theirs.svid("a", 3600),
            ours.bundle(),
            ours.members(),
            &clock,
        )
    };
    let bundles = Arc::new(Bundles(Mutex::new(vec![ours.bundle(), theirs.bundle()])));
    let federated = |authorize| {
        let clients = ClientAuth::Required(bundles.clone(), authorize);
        server(ours.svid("server", 3600), clients, &clock)
    };
    let refused = once(foreign(), federated(ours.members())).unwrap_err();
    assert_eq!(refused.code(), "TLS-PEER-ID");
    let admitted = once(
        foreign(),
        federated(any_member(theirs.trust_domain.clone())),
    );
    assert!(admitted.is_ok());
}

#[test]
fn a_ca_of_the_same_name_is_another_ca() {
    let (ours, impostor) = (Domain::new("example.org"), Domain::new("example.org"));
    let clock = Clock::new();
    let forged = ours.client(impostor.svid("a", 3600), &clock);
    let refused = once(forged, ours.server(&clock)).unwrap_err();
    assert_eq!(refused.code(), "SVID-PATH");
    let refused = once(
        ours.client(ours.svid("a", 3600), &clock),
        impostor.server(&clock),
    );
    assert_eq!(refused.unwrap_err().code(), "SVID-PATH");
}

#[test]
fn the_authorizer_has_the_last_word() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let wrong = client(
        domain.svid("a", 3600),
        domain.bundle(),
        exactly(domain.id("other-server")),
        &clock,
    );
    let refused = once(wrong, domain.server(&clock)).unwrap_err();
    assert_eq!(refused.code(), "TLS-PEER-ID");
    let clients = ClientAuth::Required(
        domain.bundle(),
        Arc::new(|_| Err(Finding::new("TEST-REVOKED", "revoked"))),
    );
    let closed = server(domain.svid("server", 3600), clients, &clock);
    let refused = once(domain.client(domain.svid("a", 3600), &clock), closed).unwrap_err();
    assert_eq!(refused.code(), "TEST-REVOKED");
}

#[test]
fn a_client_without_an_svid_gets_in_only_where_it_may() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let nobody = || domain.client(OwnSvid::empty(), &clock);
    assert!(matches!(
        once(nobody(), domain.server(&clock)),
        Err(Refusal::ByServer(rustls::Error::NoCertificatesPresented))
    ));
    let own = || domain.svid("server", 3600);
    let optional = || ClientAuth::Optional(domain.bundle(), domain.members());
    for clients in [ClientAuth::None, optional()] {
        let connection = once(nobody(), server(own(), clients, &clock)).unwrap();
        assert!(connection.server.peer_certificates().is_none());
    }
    // Optional is not unchecked.
    let other = Domain::new("example.com");
    let foreign = domain.client(other.svid("a", 3600), &clock);
    let refused = once(foreign, server(own(), optional(), &clock)).unwrap_err();
    assert_eq!(refused.code(), "TLS-PEER-DOMAIN");
}

#[test]
fn a_stolen_chain_is_worth_nothing_without_its_key() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let chain = domain.chain("payments/api", key().as_ref(), 3600);
    assert!(matches!(
        OwnSvid::new(chain.clone(), key()),
        Err(Error::Chain)
    ));
    assert!(matches!(OwnSvid::new(Vec::new(), key()), Err(Error::Chain)));

    let thief = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let pkcs8 = thief.to_pkcs8().unwrap().to_vec();
    let signing = crypto::provider()
        .key_provider
        .load_private_key(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8)))
        .unwrap();
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let mut config = domain.client(OwnSvid::empty(), &clock);
    config.client_auth_cert_resolver =
        Arc::new(Stolen(Arc::new(CertifiedKey::new(chain, signing))));
    let refused = once(config, domain.server(&clock)).unwrap_err();
    assert!(
        matches!(
            &refused,
            Refusal::ByServer(rustls::Error::InvalidCertificate(
                rustls::CertificateError::BadSignature
            ))
        ),
        "{refused:?}"
    );
}

#[test]
fn renewal_and_loss_take_effect_at_the_next_handshake() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let own = domain.svid("a", 30);
    let client = Arc::new(domain.client(own.clone(), &clock));
    let server = Arc::new(domain.server(&clock));
    let attempt = || crate::kit::handshake(&client, &server);
    assert!(attempt().is_ok());
    clock.set(NOW.plus_secs(60));
    assert_eq!(attempt().unwrap_err().code(), "SVID-EXPIRED");
    let renewed = key();
    own.set(domain.chain("a", renewed.as_ref(), 3600), renewed)
        .unwrap();
    assert!(attempt().is_ok());
    own.clear();
    assert!(attempt().is_err());
}

#[test]
fn a_changed_bundle_takes_effect_at_the_next_handshake() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    let bundles = Arc::new(Bundles(Mutex::new(vec![domain.bundle()])));
    let clients = ClientAuth::Required(bundles.clone(), domain.members());
    let server = Arc::new(server(domain.svid("server", 3600), clients, &clock));
    let client = Arc::new(domain.client(domain.svid("a", 3600), &clock));
    assert!(crate::kit::handshake(&client, &server).is_ok());
    let emptied = Bundle::new(domain.trust_domain.clone());
    *bundles.0.lock().unwrap() = vec![Arc::new(emptied)];
    let refused = crate::kit::handshake(&client, &server).unwrap_err();
    assert_eq!(refused.code(), "SVID-BUNDLE-EMPTY");
}

#[test]
fn every_kind_of_key_serves() {
    let (domain, clock) = (Domain::new("example.org"), Clock::new());
    for algorithm in [
        Algorithm::EcdsaP256,
        Algorithm::EcdsaP384,
        Algorithm::Ed25519,
    ] {
        let pair = Arc::new(KeyPair::generate(algorithm).unwrap());
        assert_eq!(pair.public_key().algorithm(), algorithm);
        let own = OwnSvid::new(domain.chain("a", pair.as_ref(), 3600), pair).unwrap();
        assert!(once(domain.client(own, &clock), domain.server(&clock)).is_ok());
    }
}

struct Bundles(Mutex<Vec<Arc<Bundle>>>);

impl BundleSource for Bundles {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
        let bundles = self.0.lock().unwrap();
        bundles
            .iter()
            .find(|bundle| bundle.trust_domain() == trust_domain)
            .cloned()
    }
}

#[derive(Debug)]
struct Stolen(Arc<CertifiedKey>);

impl ResolvesClientCert for Stolen {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
