//! People who log in over the network: by an ID token that this server validates itself, made for a nonce
//! that this server gave, and a key that never leaves the person's client.
//!
//! ```text
//! Begin: issuer, key ──→ nonce (kept nowhere: a MAC over issuer, key and time)
//! Finish: ID token, proof by the key ──→ judged → person of the estate → record → session of that key
//! Enter: proof by the key ──→ this connection is the session's; Admin asks it at each call
//! ```
//! Sessions are kept in memory alone: a restart ends them all. No secret of one is ever sent; a proof binds the
//! TLS connection that it is sent over. What a person may do is Cedar's to decide.

mod gate;
mod nonce;
mod provider;
mod session;

pub(crate) use gate::gate;
pub(crate) use session::{Guest, LoggedIn, logged_in};

use self::nonce::Nonces;
use crate::config::Config;
use crate::core::{Core, draft};
use crate::delegating;
use crate::join::refused;
use crate::listener::Peer;
use crate::refusal::Refusal;
use crypto::{Algorithm, PublicKey};
use estate::ResourceRef;
use facts::Finding;
use ledger::body::{self, Body as _, TargetKind};
use oidc::proof::{Purpose, nonce, transcript};
use proto::v1;
use proto::v1::people_server::People as PeopleRpc;
use provider::Provider;
use session::{Session, Sessions};
use spiffe_core::SpiffeId;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// Providers, the logins that are under way, and the sessions that live.
pub(crate) struct People {
    nonces: Nonces,
    providers: Vec<Arc<Provider>>,
    sessions: Sessions,
}

impl People {
    /// Reads the authorities that certify the providers: blocks.
    pub(crate) fn open(config: &Config) -> Result<Self, Finding> {
        let providers = config.oidc.iter();
        let providers = providers.map(|terms| Provider::open(terms).map(Arc::new));
        Ok(Self {
            nonces: Nonces::default(),
            providers: providers.collect::<Result<_, _>>()?,
            sessions: Sessions::default(),
        })
    }

    /// Ends the sessions of those whom `estate` does not know by the login that they came with.
    pub(crate) fn keep(&self, estate: &estate::Estate) {
        self.sessions.retain(|session| session.is_of(estate));
    }

    fn provider(&self, issuer: &str) -> Result<&Arc<Provider>, Refusal> {
        let found = self
            .providers
            .iter()
            .find(|provider| provider.terms.issuer == issuer);
        found.ok_or_else(|| {
            let known = self.providers.iter().map(|one| one.terms.issuer.as_str());
            Refusal::Invalid(
                Finding::new("LOGIN-ISSUER", "nobody logs in at this provider here")
                    .expected(known.collect::<Vec<_>>().join(", "))
                    .observed(issuer.chars().take(200).collect::<String>())
                    .next("name an `issuer` of [[oidc]] in server.toml, to the letter"),
            )
        })
    }
}

pub(crate) struct PeopleService(pub(crate) Arc<Core>);

/// The connection that a request came over.
fn peer<T>(request: &Request<T>) -> Result<Peer, Refusal> {
    request.extensions().get::<Peer>().cloned().ok_or_else(|| {
        Refusal::Denied(Finding::new(
            "LOGIN-CONNECTION",
            "people log in over TLS alone",
        ))
    })
}

/// A client's key. Other kinds would bring nothing but more code that reads what strangers send.
fn client_key(spki: &[u8]) -> Result<PublicKey, Refusal> {
    let key = PublicKey::from_spki_der(spki).ok();
    key.filter(|key| matches!(key.algorithm(), Algorithm::EcdsaP256 | Algorithm::Ed25519))
        .ok_or_else(|| {
            Refusal::Invalid(
                Finding::new("LOGIN-KEY", "this key is taken for no session")
                    .expected("a DER SubjectPublicKeyInfo of a P-256 or Ed25519 key"),
            )
        })
}

impl PeopleService {
    /// INVARIANT: the signature covers the exporter of the connection that it came over, so it is worth
    /// nothing on another.
    fn proved(
        &self,
        peer: &Peer,
        key: &PublicKey,
        (purpose, about): (Purpose, &[u8]),
        proof: &[u8],
    ) -> Result<(), Refusal> {
        let domain = self.0.trust_domain.as_str();
        let signed = transcript(purpose, domain, &peer.exporter, &key.spki_sha256(), about);
        key.verify(&signed, proof).map_err(|_| {
            Refusal::Denied(
                Finding::new(
                    "LOGIN-PROOF",
                    "the caller does not show that it holds the key",
                )
                .expected("a signature over this connection by the key of the login")
                .next("log in again: trilith login"),
            )
        })
    }

    async fn finish_login(
        &self,
        peer: &Peer,
        request: v1::LoginFinish,
    ) -> Result<v1::LoginDone, Refusal> {
        let core = &self.0;
        let provider = core.people.provider(&request.issuer)?;
        let key = client_key(&request.public_key)?;
        let token = request.id_token.as_str();
        if token.len() > oidc::MAX_TOKEN {
            let finding = Finding::new("OIDC-TOKEN-FORM", "this is no ID token")
                .expected(format!("at most {} bytes", oidc::MAX_TOKEN));
            return Err(Refusal::Invalid(finding));
        }
        self.proved(
            peer,
            &key,
            (Purpose::Login, token.as_bytes()),
            &request.proof,
        )?;
        let now = core.now();
        let given = core
            .people
            .nonces
            .given(&request.issuer, &key, &request.nonce, now)?;
        let denied = Refusal::Denied;
        let algorithms = &provider.terms.algorithms;
        let named = oidc::claimed_key(token, algorithms).map_err(denied)?;
        let keys = provider.keys(&named).await.map_err(Refusal::Unavailable)?;
        // What the client asked the provider for is of this key: see `oidc::proof::nonce`.
        let asked = nonce(
            core.trust_domain.as_str(),
            &key.spki_sha256(),
            &request.nonce,
        );
        let expected = oidc::Expected {
            issuer: &provider.terms.issuer,
            client_id: &provider.terms.client_id,
            audience: provider.terms.audience.as_deref(),
            algorithms,
            nonce: &asked,
            asked_at: given.at,
            skew_s: provider.terms.skew_s,
            max_age_s: provider.terms.max_age_s,
        };
        let now = core.now();
        let subject = oidc::verify(token, &keys, &expected, now).map_err(denied)?;
        core.people.nonces.used(&request.nonce, given, now)?;
        let current = core.estate()?;
        let person = current.estate.person(subject.issuer(), subject.subject());
        let person = person
            .map(|identity| identity.path.clone())
            .ok_or_else(|| {
                Refusal::Denied(
                    Finding::new("LOGIN-PERSON", "the estate knows nobody by this login")
                        .expected("an identity of kind \"person\" with this `login`")
                        .observed(format!(
                            "issuer {}, subject {}",
                            subject.issuer(),
                            subject.subject()
                        ))
                        .next("declare the person in identities/ and apply the estate"),
                )
            })?;
        not_revoked(core, &person)?;
        let until = now.plus_secs(provider.terms.session_s);
        let session = Session::new(&subject, person, key, until);
        let index = self.record(&session, "login").await?;
        // What came into the ledger before the record counts as well.
        not_revoked(core, session.person())?;
        core.people
            .sessions
            .begin(Arc::new(session.recorded(index)));
        Ok(v1::LoginDone {
            person: session.person().to_owned(),
            expires: until.as_millis(),
            index,
        })
    }

    /// Durable when it returns.
    async fn record(&self, session: &Session, action: &str) -> Result<u64, Refusal> {
        let core = &self.0;
        let detail = serde_json::json!({
            "issuer": session.issuer(),
            "session": crypto::hex::encode(&session.key_digest()),
            "until": session.until().as_millis(),
        });
        let body = body::Admin {
            principal: format!("Identity::{:?}", session.person()),
            action: action.to_owned(),
            resource: ResourceRef::estate(core.trust_domain.as_str()).to_string(),
            allow: true,
            policies: Vec::new(),
            detail: detail.to_string(),
        };
        let by = format!("person:{}", session.person());
        let committed = core
            .append_one(draft(body.record().actor(&by, "oidc"))?)
            .await?;
        Ok(committed.index())
    }

    /// The session of a key, once its holder has shown the key on this connection.
    fn session(
        &self,
        peer: &Peer,
        request: &v1::SessionProof,
        purpose: Purpose,
    ) -> Result<Arc<Session>, Refusal> {
        let digest: Result<[u8; 32], _> = request.key.as_slice().try_into();
        let found = digest.ok().and_then(|key| self.0.people.sessions.of(&key));
        let session = found.ok_or_else(session::none)?;
        self.proved(peer, session.key(), (purpose, &[]), &request.proof)?;
        Ok(session)
    }
}

/// A person whose identity was revoked logs in no more until it is restored.
fn not_revoked(core: &Core, person: &str) -> Result<(), Refusal> {
    let id = format!("spiffe://{}/{person}", core.trust_domain);
    if core.state().barred(&id).is_none() && !core.unrecorded.holds(TargetKind::Identity, &id) {
        return Ok(());
    }
    Err(Refusal::Denied(
        Finding::new("LOGIN-REVOKED", "the person's identity was revoked")
            .observed(person.to_owned())
            .next("let an administrator restore it: trilith restore PATH --reason TEXT"),
    ))
}

#[tonic::async_trait]
impl PeopleRpc for PeopleService {
    async fn begin(
        &self,
        request: Request<v1::LoginBegin>,
    ) -> Result<Response<v1::LoginBegun>, Status> {
        let request = request.into_inner();
        let provider = self.0.people.provider(&request.issuer)?;
        let key = client_key(&request.public_key)?;
        let (nonce, expires) = self
            .0
            .people
            .nonces
            .give(&request.issuer, &key, self.0.now());
        Ok(Response::new(v1::LoginBegun {
            client_id: provider.terms.client_id.clone(),
            nonce,
            expires: expires.as_millis(),
            max_age_s: provider.terms.max_age_s.unwrap_or(0),
        }))
    }

    async fn finish(
        &self,
        request: Request<v1::LoginFinish>,
    ) -> Result<Response<v1::LoginDone>, Status> {
        let peer = peer(&request)?;
        let finished = self.finish_login(&peer, request.into_inner()).await;
        if let Err(refusal) = &finished {
            tracing::warn!(address = %peer.address, finding = %refusal.finding(), "a login is refused");
        }
        Ok(Response::new(finished?))
    }

    async fn enter(
        &self,
        request: Request<v1::SessionProof>,
    ) -> Result<Response<v1::SessionEntered>, Status> {
        let peer = peer(&request)?;
        let session = self.session(&peer, request.get_ref(), Purpose::Enter)?;
        peer.guest.enter(&session)?;
        let person = logged_in(&self.0, &peer)?;
        Ok(Response::new(v1::SessionEntered {
            person: person.person().to_owned(),
            expires: session.until().as_millis(),
        }))
    }

    async fn logout(
        &self,
        request: Request<v1::SessionProof>,
    ) -> Result<Response<v1::SessionEnded>, Status> {
        let peer = peer(&request)?;
        let session = self.session(&peer, request.get_ref(), Purpose::Logout)?;
        // It ends whether or not that can be recorded.
        self.0.people.sessions.end(&session.key_digest());
        let index = self.record(&session, "logout").await?;
        Ok(Response::new(v1::SessionEnded { index }))
    }

    async fn delegate(
        &self,
        request: Request<v1::DelegateRequest>,
    ) -> Result<Response<v1::Delegated>, Status> {
        let core = &self.0;
        let person = logged_in(core, &peer(&request)?)?;
        let asked = request.into_inner();
        if !asked.token.is_empty() {
            return Err(Refusal::Invalid(
                Finding::new("DELEGATION-FIRST", "a person delegates by no token")
                    .expected("a request without one: the session says who delegates")
                    .next(
                        "leave the token out, or present it as the workload that it was made for",
                    ),
            )
            .into());
        }
        match delegating::first(core, &person, asked.into()).await {
            Ok(made) => Ok(Response::new(delegating::told(made))),
            Err(refusal) => {
                refused(core, "delegate", refusal.finding());
                Err(refusal.into())
            }
        }
    }

    async fn delegations(
        &self,
        request: Request<v1::OwnDelegations>,
    ) -> Result<Response<v1::DelegationsShown>, Status> {
        let core = &self.0;
        let person = logged_in(core, &peer(&request)?)?;
        let shown = delegating::begun_by(core, &id(core, &person)?);
        Ok(Response::new(v1::DelegationsShown {
            json: shown.to_string(),
        }))
    }

    async fn take_back(
        &self,
        request: Request<v1::TakeBackRequest>,
    ) -> Result<Response<v1::TakenBack>, Status> {
        let core = &self.0;
        let person = logged_in(core, &peer(&request)?)?;
        let id = id(core, &person)?;
        match delegating::take_back(core, &id, request.into_inner()).await {
            Ok(index) => Ok(Response::new(v1::TakenBack {
                index: index.unwrap_or_default(),
                recorded: index.is_some(),
            })),
            Err(refusal) => {
                refused(core, "take back", refusal.finding());
                Err(refusal.into())
            }
        }
    }
}

fn id(core: &Core, person: &LoggedIn) -> Result<SpiffeId, Refusal> {
    let id = core.trust_domain.identity(person.person());
    id.map_err(|error| Refusal::internal("naming a person", &error))
}
