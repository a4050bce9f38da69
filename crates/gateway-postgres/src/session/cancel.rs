//! Cancel requests. They come on a connection of their own, in cleartext from older clients, and carry
//! nothing but the random key that the session was given; so they are rate-limited, recorded as
//! unauthenticated, and can only ever cancel. Over TLS they have to come from the session's identity.

use super::accept::Front;
use crate::database::cause;
use crate::upstream::Address;
use crate::wire::CancelKey;
use facts::Timestamp;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Requests for one session that are looked at in one second. Those with a key that is nobody's cost a
/// look into a table and count for nothing, so that nobody's requests keep anybody else's from acting.
const PER_SECOND: u32 = 10;

#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) address: Address,
    pub(crate) key: CancelKey,
    /// The session, as records name it.
    pub(crate) session: String,
    /// Whose it is.
    pub(crate) spiffe_id: String,
}

struct Listed {
    target: Target,
    second: u64,
    seen: u32,
}

/// What a key leads to.
pub(crate) enum Wanted {
    Target(Target),
    Nobody,
    TooOften,
}

/// Keys of the open sessions.
#[derive(Default)]
pub(crate) struct Cancels(Mutex<HashMap<CancelKey, Listed>>);

/// Withdraws the key when the session ends.
pub(crate) struct Entry {
    cancels: Arc<Cancels>,
    key: CancelKey,
}

impl Cancels {
    /// A fresh key that cancels `target`.
    pub(crate) fn enter(self: &Arc<Self>, target: Target) -> (CancelKey, Entry) {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = loop {
            let key = CancelKey {
                process: u32::from_be_bytes(crypto::random()) >> 1,
                secret: u32::from_be_bytes(crypto::random()),
            };
            if !listed.contains_key(&key) {
                break key;
            }
        };
        listed.insert(
            key,
            Listed {
                target,
                second: 0,
                seen: 0,
            },
        );
        drop(listed);
        (
            key,
            Entry {
                cancels: Arc::clone(self),
                key,
            },
        )
    }

    /// The session that `key` cancels.
    pub(crate) fn find(&self, key: CancelKey, now: Timestamp) -> Wanted {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(listed) = listed.get_mut(&key) else {
            return Wanted::Nobody;
        };
        if listed.second != now.as_secs() {
            listed.second = now.as_secs();
            listed.seen = 0;
        }
        listed.seen += 1;
        if listed.seen > PER_SECOND {
            return Wanted::TooOften;
        }
        Wanted::Target(listed.target.clone())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut listed = self
            .cancels
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listed.remove(&self.key);
    }
}

/// `chain` is what the peer authenticated with; empty in cleartext.
pub(super) async fn cancel(front: &Front, key: CancelKey, chain: &[CertificateDer<'_>]) {
    let target = match front.cancels.find(key, Timestamp::now()) {
        Wanted::Target(target) => target,
        Wanted::Nobody => return tracing::info!("a cancel request names no session"),
        Wanted::TooOften => return tracing::warn!("cancel requests come too fast; one is dropped"),
    };
    let by = if chain.is_empty() {
        None
    } else {
        match front.core.admit(chain).await {
            Ok(principal) => Some(principal),
            Err(finding) => return tracing::warn!(%finding, "who asks to cancel is not admitted"),
        }
    };
    let allow = by
        .as_ref()
        .is_none_or(|principal| principal.spiffe_id.to_string() == target.spiffe_id);
    let recorder = front.core.recorder();
    if let Err(error) = recorder.cancel(&target.session, by.as_ref(), allow).await {
        return tracing::error!(%error, "a cancel request is not recorded and does nothing");
    }
    tracing::info!(
        session = target.session,
        authenticated = by.is_some(),
        allow,
        "cancel request"
    );
    if allow && let Err(error) = target.address.cancel(target.key).await {
        tracing::warn!(%error, cause = cause(&error), "the database was not asked to cancel");
    }
}
