//! What else runs in the agent's process learns who calls, as the Workload API knows it.

use crate::machine::Machine;
use crate::server::Server;
use agent::LocalCallers;
use device::process::{BootTime, Caller};
use std::sync::Arc;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

/// An agent with something beside it, and what that was given.
async fn started(server: &Server) -> (Machine, LocalCallers) {
    let mut machine = Machine::new(server);
    let (sender, given) = oneshot::channel();
    machine.start_beside(|callers, stop| async move {
        let _gone = sender.send(callers);
        stop.cancelled().await;
    });
    machine.ready().await;
    (machine, given.await.unwrap())
}

/// This process, as it connects.
fn caller() -> (Arc<Caller>, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    let caller = Caller::of(&here, BootTime::now()).unwrap();
    (Arc::new(caller), there)
}

#[tokio::test]
async fn what_runs_beside_the_agent_learns_who_calls() {
    let server = Server::start().await;
    let (mut machine, callers) = started(&server).await;
    let (this, _open) = caller();
    let known = callers.known(Arc::clone(&this)).await.unwrap();
    let held: Vec<&str> = known.held.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(held, ["spiffe://example.org/payments/api"]);
    let (_, chain) = known.held.first().unwrap();
    spiffe_core::X509Svid::parse(chain).unwrap();
    // The same entry as of the Workload API: another question is no other request to the server.
    let asked = server.state.book(|book| book.facts.len());
    callers.known(this).await.unwrap();
    assert_eq!(server.state.book(|book| book.facts.len()), asked);
    machine.stop().await;

    // A process that is given nothing is known, and holds nothing.
    let server = Server::start().await;
    server.state.book(|book| book.granted.clear());
    let (mut machine, callers) = started(&server).await;
    let known = callers.known(caller().0).await.unwrap();
    assert!(known.held.is_empty());
    machine.stop().await;
}
