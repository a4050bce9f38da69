//! For tests only, as a dev-dependency: what a test needs from outside, found in one place.
//!
//! A test that lacks something calls [`skip`] with the reason and returns; `cargo xtask test` fails on
//! every skip that the reviewed `tests/skips.toml` does not list.
//! Nothing here is linked by a running program.

#![forbid(unsafe_code)]

pub mod bench;
pub mod chip;
pub mod debian;
pub mod domain;
mod find;
mod go;
pub mod guest;
pub mod hostile;
pub mod http;
pub mod killed;
pub mod mortal;
pub mod mutation;
pub mod oidc;
pub mod pe;
pub mod pinned;
pub mod port;
pub mod postgres;
pub mod s3;
mod script;
mod skip;
pub mod slow_chip;
pub mod swtpm;
pub mod tsm;
mod until;

pub use find::{
    evidence, peer, postgres_tool, static_agent, target_folder, tool, tools, venv_python, workspace,
};
pub use go::{go_peer, go_tool};
pub use script::script;
pub use skip::skip;
pub use until::{comes_to_hold, found, until};

/// A fresh directory, removed when dropped.
///
/// # Errors
/// When the system's directory for temporary files cannot be written.
pub fn temp_dir() -> std::io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("trilith-test-").tempdir()
}
