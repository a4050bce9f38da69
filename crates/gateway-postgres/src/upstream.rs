//! The other side: connections to the database, as the administrator and as the per-identity roles.

mod admin;
mod capacity;
mod connect;
mod reconcile;
mod roles;
mod scram;
mod snapshot;

pub(crate) use admin::{Admin, AdminError, literal};
pub(crate) use capacity::{Allowance, Capacity, Wanted, capacity, short};
pub(crate) use connect::{Address, Connected, Login, TOO_MANY_CONNECTIONS, UpstreamError};
pub(crate) use reconcile::reconcile;
pub(crate) use roles::Roles;
pub(crate) use scram::RoleSecret;
pub(crate) use snapshot::{columns, fingerprint, snapshot};
