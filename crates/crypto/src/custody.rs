//! The trait behind which private keys live. Implementations are in the crate `custody`.

use crate::{Algorithm, Error, Signer};
use std::sync::Arc;

/// A place that holds private keys by name and signs with them; the keys need not be able to leave.
///
/// Names are lower-case letters, digits, `-` and `.`; what else an implementation refuses.
/// The CA's keys and the ledger's keys are held under different custody configuration, so that who
/// takes one does not have the other.
pub trait Custody: Send + Sync {
    /// The key of that name; made, and durable before this returns, if there is none.
    ///
    /// # Errors
    /// If it can be neither read nor made, or if the one that is there has another algorithm.
    fn load_or_generate(&self, name: &str, algorithm: Algorithm) -> Result<Arc<dyn Signer>, Error>;

    /// The key of that name, if there is one.
    ///
    /// # Errors
    /// If it is there and cannot be used.
    fn load(&self, name: &str) -> Result<Option<Arc<dyn Signer>>, Error>;

    /// Removes the key of that name; nothing to do if there is none.
    ///
    /// # Errors
    /// If it is there and cannot be removed.
    fn remove(&self, name: &str) -> Result<(), Error>;
}
