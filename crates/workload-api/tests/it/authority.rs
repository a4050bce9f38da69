//! A certificate authority for tests: root, issuing CA, JWT key, and whatever they sign.

use crypto::{Algorithm, KeyPair, Signer};
use facts::Timestamp;
use spiffe_core::jwt::{JwtParams, JwtTbs};
use spiffe_core::x509::authority::{AuthorityParams, issuing, root};
use spiffe_core::{Bundle, Issuer, LeafParams, Serial, SpiffeId, TrustDomain};
use std::sync::Arc;
use workload_api::{JwtSvid, Trust, X509Svid};
use zeroize::Zeroizing;

pub(crate) struct Authority {
    pub(crate) trust_domain: TrustDomain,
    issuer: Issuer,
    jwt: KeyPair,
    pub(crate) bundle: Bundle,
}

fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP256).unwrap()
}

fn serial() -> Serial {
    Serial::from_random(crypto::random())
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let trust_domain = TrustDomain::new(name).unwrap();
        let now = Timestamp::now();
        let params = || AuthorityParams {
            serial: serial(),
            not_before: now.minus_secs(60),
            not_after: now.plus_secs(86_400),
        };
        let (root_key, issuing_key, jwt) = (Arc::new(key()), Arc::new(key()), key());
        let root_der = root(&trust_domain, &params(), root_key.as_ref()).unwrap();
        let parent = Issuer::new(&root_der, root_key).unwrap();
        let issuing_der =
            issuing(&trust_domain, &params(), issuing_key.public_key(), &parent).unwrap();
        let mut bundle = Bundle::new(trust_domain.clone()).with_sequence(1);
        bundle.add_x509_authority(&root_der).unwrap();
        bundle.add_jwt_authority("jwt-1", jwt.public_key()).unwrap();
        Self {
            trust_domain,
            issuer: Issuer::new(&issuing_der, issuing_key).unwrap(),
            jwt,
            bundle,
        }
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        self.trust_domain.identity(path).unwrap()
    }

    pub(crate) fn x509(&self, path: &str, hint: &str) -> Arc<X509Svid> {
        let now = Timestamp::now();
        let subject = key();
        let tbs = self
            .issuer
            .leaf(&LeafParams {
                spiffe_id: self.id(path),
                public_key: subject.public_key().clone(),
                serial: serial(),
                not_before: now.minus_secs(30),
                not_after: now.plus_secs(3600),
                dns_names: Vec::new(),
            })
            .unwrap();
        let leaf = tbs
            .without_receipt()
            .sign(self.issuer.signer().as_ref())
            .unwrap();
        Arc::new(X509Svid {
            spiffe_id: self.id(path).to_string(),
            chain: [leaf.as_slice(), self.issuer.certificate()].concat().into(),
            key: Zeroizing::new(subject.to_pkcs8().unwrap().to_vec()),
            hint: hint.to_owned(),
        })
    }

    pub(crate) fn jwt(&self, path: &str, audience: &[String], lives_s: u64) -> JwtSvid {
        let now = Timestamp::now().minus_secs(10);
        let tbs = JwtTbs::new(
            &JwtParams {
                spiffe_id: self.id(path),
                audience: audience.to_vec(),
                id: serial(),
                issued_at: now,
                expires_at: now.plus_secs(lives_s),
            },
            "jwt-1",
        )
        .unwrap();
        JwtSvid {
            spiffe_id: self.id(path).to_string(),
            token: tbs.without_receipt().sign(&self.jwt).unwrap(),
            hint: String::new(),
        }
    }

    pub(crate) fn trust(&self) -> Arc<Trust> {
        Arc::new(Trust {
            trust_domain: self.trust_domain.id().to_string(),
            x509: self.bundle.x509_concatenated().into(),
            jwks: self.bundle.to_jwt_jwks().into(),
            ..Trust::default()
        })
    }
}
