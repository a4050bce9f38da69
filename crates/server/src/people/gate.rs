//! Before administration over the network: who has not entered with a session is turned away before a byte of
//! its message is read.

use super::{LoggedIn, logged_in};
use crate::core::Core;
use crate::listener::Peer;
use crate::refusal::Refusal;
use estate::Administrator;
use facts::Finding;
use std::sync::Arc;
use tonic::{Request, Status};

/// Who administers nothing sends no message of many megabytes here.
fn administrator(core: &Core, person: LoggedIn) -> Result<LoggedIn, Refusal> {
    let who = Administrator::Person(person.person().to_owned());
    if core.estate()?.estate.administers(&who) {
        return Ok(person);
    }
    Err(Refusal::Denied(
        Finding::new("ADMIN-DENIED", "this person administers nothing here")
            .expected(format!(
                "an [[administrator]] with person = {:?}",
                person.person()
            ))
            .observed("none")
            .next("ask an administrator whom the estate names"),
    ))
}

/// The interceptor: puts the [`LoggedIn`](super::LoggedIn) of this moment into each request.
pub(crate) fn gate(
    core: Arc<Core>,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |mut request| {
        let person = match request.extensions().get::<Peer>() {
            Some(peer) => administrator(&core, logged_in(&core, peer)?)?,
            None => {
                let finding = Finding::new("LOGIN-CONNECTION", "people log in over TLS alone");
                return Err(Refusal::Denied(finding).into());
            }
        };
        request.extensions_mut().insert(person);
        Ok(request)
    }
}
