//! One key certifies one identity of one machine.
//!
//! The state knows the keys of what is recorded. Between the look at it and the record another request
//! could present the same key: so a key is claimed first and let go when the record is in the state.

use crate::core::Core;
use crate::refusal::Refusal;
use crypto::PublicKey;
use facts::Finding;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

struct Holder {
    spiffe_id: String,
    node: String,
    /// Requests that hold it for the same.
    count: usize,
}

/// Keys whose records are on their way, by SHA-256 of their SPKI.
#[derive(Default)]
pub(crate) struct Claims(Mutex<HashMap<[u8; 32], Holder>>);

/// A key that is claimed; dropped, it is free, or stands in the state.
pub(crate) struct Claim {
    claims: Arc<Claims>,
    key: [u8; 32],
}

impl Claims {
    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Holder>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims `key` for `spiffe_id` on `node`.
    ///
    /// INVARIANT: the state is looked at under the lock, and a claim is let go only after its record
    /// is in the state: between the two nobody finds a bound key free.
    pub(crate) fn claim(
        core: &Core,
        key: &PublicKey,
        spiffe_id: &str,
        node: &str,
    ) -> Result<Claim, Refusal> {
        let digest = key.spki_sha256();
        let mut held = core.claims.lock();
        let state = core.state();
        let other = state
            .svid_of_key(&digest)
            .is_some_and(|svid| svid.spiffe_id != spiffe_id || svid.node != node);
        drop(state);
        let claimed = held
            .get(&digest)
            .is_some_and(|holder| holder.spiffe_id != spiffe_id || holder.node != node);
        if other || claimed {
            return Err(Refusal::Denied(
                Finding::new("KEY-BOUND", "the key is already bound to another identity")
                    .expected("a fresh key")
                    .next("make a new key for each identity"),
            ));
        }
        held.entry(digest)
            .or_insert_with(|| Holder {
                spiffe_id: spiffe_id.to_owned(),
                node: node.to_owned(),
                count: 0,
            })
            .count += 1;
        Ok(Claim {
            claims: Arc::clone(&core.claims),
            key: digest,
        })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut held = self.claims.lock();
        if let Some(holder) = held.get_mut(&self.key) {
            holder.count -= 1;
            if holder.count == 0 {
                held.remove(&self.key);
            }
        }
    }
}
