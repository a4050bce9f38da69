//! gRPC definitions: generated code, and nothing else. `proto/` has the sources, `cargo xtask codegen` makes it.
//!
//! No crate hands these types on: each plane turns them into its own at the edge.

#![forbid(unsafe_code)]

/// What the planes say to one another, administration, and the helper service.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated"
)]
pub mod v1 {
    include!("gen/trilith.v1.rs");
}

/// The SPIFFE Workload API.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated"
)]
pub mod workload {
    include!("gen/_.rs");
}

/// What Envoy asks an external authorizer.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated"
)]
pub mod ext_authz {
    include!("gen/envoy.service.auth.v3.rs");
}
