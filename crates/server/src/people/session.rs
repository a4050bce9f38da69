//! Sessions of people, each of one key. In memory alone.

use super::not_revoked;
use crate::core::Core;
use crate::listener::Peer;
use crate::refusal::Refusal;
use crypto::PublicKey;
use estate::{Estate, Login};
use facts::{Finding, Timestamp};
use ledger::body::TargetKind;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio_util::sync::CancellationToken;

/// Of one person at once: laptops and terminals. The oldest gives way.
const OF_A_PERSON: usize = 16;

/// A person who has logged in, as this moment finds the estate and the ledger. Made by [`logged_in`] alone,
/// at each call anew.
#[derive(Debug, Clone)]
pub(crate) struct LoggedIn {
    person: String,
    login: Login,
}

impl LoggedIn {
    /// The path of the person's identity.
    pub(crate) fn person(&self) -> &str {
        &self.person
    }

    /// What the provider knows the person by.
    pub(crate) const fn login(&self) -> &Login {
        &self.login
    }
}

/// One login of one person.
#[derive(Debug, Clone)]
pub(super) struct Session {
    issuer: String,
    subject: String,
    person: String,
    key: PublicKey,
    until: Timestamp,
    /// Of the record of the login.
    index: u64,
    /// Connections of the session end with it.
    ended: CancellationToken,
}

impl Session {
    pub(super) fn new(
        subject: &oidc::Subject,
        person: String,
        key: PublicKey,
        until: Timestamp,
    ) -> Self {
        Self {
            issuer: subject.issuer().to_owned(),
            subject: subject.subject().to_owned(),
            person,
            key,
            until,
            index: 0,
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn recorded(&self, index: u64) -> Self {
        Self {
            index,
            ..self.clone()
        }
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn person(&self) -> &str {
        &self.person
    }

    pub(super) const fn key(&self) -> &PublicKey {
        &self.key
    }

    pub(super) fn key_digest(&self) -> [u8; 32] {
        self.key.spki_sha256()
    }

    pub(super) const fn until(&self) -> Timestamp {
        self.until
    }

    /// Whether `estate` knows the same person by the login that the session began with.
    pub(super) fn is_of(&self, estate: &Estate) -> bool {
        let known = estate.person(&self.issuer, &self.subject);
        known.is_some_and(|identity| identity.path == self.person)
    }
}

/// By SHA-256 of the key.
#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Arc<Session>>>);

impl Sessions {
    /// A key has one session: a new login with it ends the one before.
    pub(super) fn begin(&self, session: Arc<Session>) {
        self.retain(|other| other.until > Timestamp::now());
        let mut sessions = self.lock();
        let mut of_person: Vec<_> = sessions
            .iter()
            .filter(|(_, other)| other.person == session.person)
            .map(|(key, other)| (other.index, *key))
            .collect();
        of_person.sort_unstable();
        let spare = of_person.len().saturating_sub(OF_A_PERSON - 1);
        let oldest = of_person.into_iter().take(spare).map(|(_, key)| key);
        for key in oldest.chain([session.key_digest()]) {
            if let Some(before) = sessions.remove(&key) {
                before.ended.cancel();
            }
        }
        sessions.insert(session.key_digest(), session);
    }

    pub(super) fn of(&self, key: &[u8; 32]) -> Option<Arc<Session>> {
        self.lock().get(key).cloned()
    }

    pub(super) fn end(&self, key: &[u8; 32]) {
        if let Some(session) = self.lock().remove(key) {
            session.ended.cancel();
        }
    }

    pub(super) fn retain(&self, keep: impl Fn(&Session) -> bool) {
        self.lock().retain(|_, session| {
            let kept = keep(session);
            if !kept {
                session.ended.cancel();
            }
            kept
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<Session>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection without an SVID may become: a person's. Once, and for as long as it lasts.
#[derive(Debug, Default)]
pub(crate) struct Guest {
    session: OnceLock<Arc<Session>>,
    /// Somebody has entered.
    entered: CancellationToken,
}

impl Guest {
    pub(super) fn enter(&self, session: &Arc<Session>) -> Result<(), Refusal> {
        let entered = self.session.get_or_init(|| Arc::clone(session));
        if !Arc::ptr_eq(entered, session) {
            return Err(Refusal::Precondition(
                Finding::new("SESSION-OTHER", "this connection is another session's")
                    .next("connect anew"),
            ));
        }
        self.entered.cancel();
        Ok(())
    }

    /// Comes when the connection has to end: that of a stranger after `age`, that of a person with the session.
    pub(crate) async fn leaves(self: Arc<Self>, age: Option<std::time::Duration>) {
        let aged = async {
            match age {
                Some(age) => tokio::time::sleep(age).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = aged => return,
            () = self.entered.cancelled() => {}
        }
        let Some(session) = self.session.get() else {
            return;
        };
        tokio::select! {
            () = tokio::time::sleep(session.until.since(Timestamp::now())) => {}
            () = session.ended.cancelled() => {}
        }
        // For the answer to the call that ended it.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}

/// Who calls over `peer`: whoever entered, if the session lives and the estate in force still knows the person
/// by the login that the session began with.
///
/// INVARIANT: asked at each call, never remembered: who has left the estate is nobody at once.
pub(crate) fn logged_in(core: &Core, peer: &Peer) -> Result<LoggedIn, Refusal> {
    let session = peer.guest.session.get().ok_or_else(none)?;
    let standing = core.people.sessions.of(&session.key_digest());
    if !standing.is_some_and(|standing| Arc::ptr_eq(&standing, session)) {
        return Err(none());
    }
    if core.now() >= session.until {
        core.people.sessions.end(&session.key_digest());
        return Err(Refusal::Denied(
            Finding::new("SESSION-ENDED", "the session has ended")
                .expected(format!("a call before {}", session.until))
                .next("log in again: trilith login"),
        ));
    }
    if !session.is_of(&core.estate()?.estate) {
        core.people.sessions.end(&session.key_digest());
        return Err(Refusal::Denied(
            Finding::new(
                "SESSION-PERSON",
                "the estate knows the person no more by this login",
            )
            .observed(session.person.clone())
            .next("let an administrator declare the person and its `login`; then log in again"),
        ));
    }
    if let Err(refusal) = not_revoked(core, &session.person) {
        core.people.sessions.end(&session.key_digest());
        return Err(refusal);
    }
    // What a revocation has cut stays cut when the identity is restored.
    let id = format!("spiffe://{}/{}", core.trust_domain, session.person);
    let revoked = core.state().revoked(TargetKind::Identity, &id);
    if revoked.is_some_and(|at| at > session.index) {
        core.people.sessions.end(&session.key_digest());
        return Err(none());
    }
    Ok(LoggedIn {
        person: session.person.clone(),
        login: Login {
            issuer: session.issuer.clone(),
            subject: session.subject.clone(),
        },
    })
}

pub(super) fn none() -> Refusal {
    Refusal::Denied(
        Finding::new("SESSION-NONE", "no session of this key lives here")
            .expected("a session that was begun since the server started, and not ended")
            .next("log in: trilith login"),
    )
}
