//! Where identities come from: the seam that the node agent fills.

use crate::{JwtSvid, Refusal, State};
use std::any::Any;
use std::future::Future;
use std::io;
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::watch;

/// Attests callers and serves what they may hold.
pub trait Source: Send + Sync + 'static {
    /// A process on the other side of a connection.
    type Caller: Send + Sync + 'static;

    /// Identifies whoever made `connection`; called once, right after the accept, and must not block.
    /// On an error the connection is closed.
    fn identify(&self, connection: &UnixStream) -> io::Result<Self::Caller>;

    /// Attests `caller` as it is now and follows what it may hold.
    fn subscribe(
        &self,
        caller: Arc<Self::Caller>,
    ) -> impl Future<Output = Result<Subscription, Refusal>> + Send;

    /// Attests `caller` as it is now and has JWT-SVIDs issued to it.
    fn jwt(
        &self,
        caller: Arc<Self::Caller>,
        query: JwtQuery,
    ) -> impl Future<Output = Result<Vec<JwtSvid>, Refusal>> + Send;

    /// Validates `token` for `caller`, of which `audience` must be one (JWT-SVID spec, section 6).
    fn validate(
        &self,
        caller: Arc<Self::Caller>,
        audience: String,
        token: String,
    ) -> impl Future<Output = Result<Validated, Refusal>> + Send;
}

/// A running subscription. Dropping it tells the source that the stream has ended.
pub struct Subscription {
    pub states: watch::Receiver<State>,
    /// Whatever the source must keep for as long.
    pub held: Box<dyn Any + Send>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// A well-formed request for JWT-SVIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtQuery {
    /// At least one, none empty.
    pub audience: Vec<String>,
    /// `None`: every identity of the caller.
    pub spiffe_id: Option<String>,
}

/// A JWT-SVID that was found valid.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    pub spiffe_id: String,
    pub claims: serde_json::Map<String, serde_json::Value>,
}
