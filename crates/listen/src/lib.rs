//! Connections with those who are not known: what a listener gives to them, which is places that nobody can keep from others
//! and plain HTTP within bounds, and how one of them is reached. Who somebody is and what it may do is for the planes.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod asking;
mod http;
mod peer;
mod places;
mod source;

pub use asking::{Answering, ask};
pub use http::{AGE, CONNECTIONS, HEAD, LONGEST_HEAD, serve_each, serve_http};
pub use peer::{Peer, Stream, Unfit, Unreached, Url, is_this_machine};
pub use places::{Ended, Place, Places};
pub use source::Source;

use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// Rest after a failed accept.
const REST: Duration = Duration::from_millis(50);

/// The next connection. An accept that fails is tried again: out of descriptors, most likely, and those
/// in use come back. Can be dropped without losing a connection.
pub async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(REST).await;
            }
        }
    }
}
