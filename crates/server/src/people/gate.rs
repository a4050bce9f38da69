//! Before administration over the network: who has not entered with a session is turned away before a byte of
//! its message is read.

use super::logged_in;
use crate::core::Core;
use crate::listener::Peer;
use crate::refusal::Refusal;
use facts::Finding;
use std::sync::Arc;
use tonic::{Request, Status};

/// The interceptor: puts the [`LoggedIn`](super::LoggedIn) of this moment into each request.
pub(crate) fn gate(
    core: Arc<Core>,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |mut request| {
        let person = match request.extensions().get::<Peer>() {
            Some(peer) => logged_in(&core, peer)?,
            None => {
                let finding = Finding::new("LOGIN-CONNECTION", "people log in over TLS alone");
                return Err(Refusal::Denied(finding).into());
            }
        };
        request.extensions_mut().insert(person);
        Ok(request)
    }
}
