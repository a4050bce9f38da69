//! The SPIFFE Workload API over a Unix socket: `SPIFFE_Workload_API.md` and `SPIFFE_Workload_Endpoint.md`,
//! profiles X.509 and JWT.
//!
//! This crate speaks the protocol and knows nothing of attestation or of where identities come from:
//! that is the [`Source`], which the node agent implements.
//!
//! - A caller is identified once, when its connection is accepted; the [`Source`] looks at it again at
//!   each call, so a process that executes something else is judged as what it is then.
//! - Streams carry the full state in each message. What is absent from a message is withdrawn, and
//!   `PermissionDenied` in the middle of a stream withdraws everything.
//! - Without the metadata `workload.spiffe.io: true` nothing is answered (endpoint spec, section 6).
//! - The WIT profile is off: its calls are `Unimplemented` (API spec, section 3). gRPC reflection, which
//!   the endpoint spec recommends, is not offered.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may panic"
    )
)]

mod authority;
mod claims;
mod incoming;
mod limits;
mod listener;
mod refusal;
mod service;
mod source;
mod updates;
mod view;

pub use incoming::{Connection, Incoming, Peer};
pub use limits::Limits;
pub use listener::{BindError, Listener};
pub use refusal::Refusal;
pub use service::{Call, Calls, SECURITY_HEADER, WorkloadApi, peer_of, server};
pub use source::{JwtQuery, Source, Subscription, Validated};
pub use updates::{Message, Updates};
pub use view::{JwtSvid, State, Trust, View, X509Svid};
