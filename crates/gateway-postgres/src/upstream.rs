//! The other side: connections to the database, as the administrator and as the per-identity roles.

mod admin;
mod connect;
mod reconcile;
mod scram;
mod snapshot;

pub(crate) use admin::{Admin, AdminError};
pub(crate) use connect::{Address, Connected, Login, UpstreamError};
pub(crate) use reconcile::{reconcile, role_name};
pub(crate) use scram::RoleSecret;
pub(crate) use snapshot::{fingerprint, snapshot};
