//! A server with people in its estate, and a person's way to it.

use super::forger::Forger;
use crate::harness::{Fixture, Link, estate};
use crypto::{Algorithm, KeyPair, Signer as _};
use estate::EstateFiles;
use oidc::proof::{Purpose, transcript};
use proto::v1;
use proto::v1::admin_client::AdminClient;
use proto::v1::people_client::PeopleClient;
use std::sync::Arc;
use svid_tls::{BundleSource, OwnSvid};
use tonic::Status;
use tonic::transport::Channel;

pub(super) const PEOPLE: &str = r#"
[[identity]]
path = "people/ada"
kind = "person"
owner = "people"
login = { issuer = "ISSUER", subject = "ada-1" }
[[identity]]
path = "people/bob"
kind = "person"
owner = "people"
groups = ["operators"]
login = { issuer = "ISSUER", subject = "bob-2" }
"#;

/// Ada administers; Bob only logs in.
pub(super) fn with_people(issuer: &str) -> EstateFiles {
    let mut files = estate();
    let settings = format!(
        "{}[[administrator]]\nperson = \"people/ada\"\ngroups = [\"operators\"]\n",
        files.0["estate.toml"]
    );
    files.insert("estate.toml", settings);
    files.insert("identities/people.toml", PEOPLE.replace("ISSUER", issuer));
    files
}

/// Without Ada, and whatever names her.
pub(super) fn without_ada(issuer: &str) -> EstateFiles {
    let mut files = with_people(issuer);
    files.insert("estate.toml", estate().0["estate.toml"].clone());
    let people = PEOPLE.replace("ISSUER", issuer);
    let (_, bob) = people.rsplit_once("[[identity]]").unwrap();
    files.insert("identities/people.toml", format!("[[identity]]{bob}"));
    files
}

pub(crate) fn oidc(issuer: &str, more: &str) -> String {
    format!("[[oidc]]\nissuer = \"{issuer}\"\nclient_id = \"trilith\"\n{more}\n")
}

/// A server with people in its estate.
pub(super) struct World {
    pub(super) fixture: Fixture,
    pub(super) anchors: Arc<dyn BundleSource>,
    /// Lines of its configuration.
    pub(super) config: String,
}

/// A connection, and the key that stands for the person on it.
pub(crate) struct Client {
    pub(crate) link: Link,
    pub(crate) key: Arc<KeyPair>,
}

pub(crate) fn key() -> Arc<KeyPair> {
    Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap())
}

impl World {
    pub(super) async fn start(issuer: &str, config: String) -> Self {
        let fixture = Fixture::configured(&config).await;
        fixture.apply(&with_people(issuer)).await.unwrap();
        let pin = fixture.status().await["pin"].as_str().unwrap().to_owned();
        let anchors = fixture.anchors(&pin).await;
        Self {
            fixture,
            anchors,
            config,
        }
    }

    pub(super) async fn of(forger: &Forger) -> Self {
        Self::start(&forger.issuer, oidc(&forger.issuer, "")).await
    }

    pub(super) async fn client(&self, key: &Arc<KeyPair>) -> Client {
        let anchors = Arc::clone(&self.anchors);
        let link = Link::dial(self.fixture.address(), OwnSvid::empty(), anchors).await;
        Client {
            link,
            key: Arc::clone(key),
        }
    }

    pub(super) async fn restart(&mut self) {
        self.fixture.stop().await;
        let config = crate::harness::config_with(self.fixture.dir.path(), &self.config);
        self.fixture.server = Some(server::start(config).await.unwrap());
    }

    /// Logs `subject` in with `key` by a token that the forger makes.
    pub(super) async fn login(
        &self,
        forger: &Forger,
        key: &Arc<KeyPair>,
        subject: &str,
    ) -> v1::LoginDone {
        let client = self.client(key).await;
        let begun = client.begin(&forger.issuer).await.unwrap();
        let token = forger.token(subject, &client.asked(&begun));
        client
            .finish(&forger.issuer, &begun.nonce, &token)
            .await
            .unwrap()
    }

    /// Administration with the session of `key`.
    pub(super) async fn enter(&self, key: &Arc<KeyPair>) -> Result<AdminClient<Channel>, Status> {
        self.client(key).await.enter().await
    }
}

impl Client {
    pub(crate) fn people(&self) -> PeopleClient<Channel> {
        PeopleClient::new(self.link.channel.clone())
    }

    pub(super) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.link.channel.clone())
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        self.key.public_key().spki_der().to_vec()
    }

    pub(super) fn proof(&self, purpose: Purpose, about: &[u8]) -> Vec<u8> {
        let digest = self.key.public_key().spki_sha256();
        let domain = crate::harness::DOMAIN;
        let signed = transcript(purpose, domain, &self.link.exporter, &digest, about);
        self.key.sign(&signed).unwrap()
    }

    pub(crate) async fn begin(&self, issuer: &str) -> Result<v1::LoginBegun, Status> {
        let request = v1::LoginBegin {
            issuer: issuer.to_owned(),
            public_key: self.spki(),
        };
        Ok(self.people().begin(request).await?.into_inner())
    }

    /// The nonce that this client asks the provider for.
    pub(crate) fn asked(&self, begun: &v1::LoginBegun) -> String {
        let key = self.key.public_key().spki_sha256();
        ::oidc::proof::nonce(crate::harness::DOMAIN, &key, &begun.nonce)
    }

    pub(crate) async fn finish(
        &self,
        issuer: &str,
        nonce: &str,
        token: &str,
    ) -> Result<v1::LoginDone, Status> {
        let request = v1::LoginFinish {
            issuer: issuer.to_owned(),
            public_key: self.spki(),
            nonce: nonce.to_owned(),
            id_token: token.to_owned(),
            proof: self.proof(Purpose::Login, token.as_bytes()),
        };
        Ok(self.people().finish(request).await?.into_inner())
    }

    pub(super) fn session(&self, purpose: Purpose) -> v1::SessionProof {
        v1::SessionProof {
            key: self.key.public_key().spki_sha256().to_vec(),
            proof: self.proof(purpose, &[]),
        }
    }

    pub(crate) async fn enter(&self) -> Result<AdminClient<Channel>, Status> {
        self.people().enter(self.session(Purpose::Enter)).await?;
        Ok(self.admin())
    }

    pub(super) async fn logout(&self) -> Result<v1::SessionEnded, Status> {
        let ended = self.people().logout(self.session(Purpose::Logout)).await?;
        Ok(ended.into_inner())
    }
}
