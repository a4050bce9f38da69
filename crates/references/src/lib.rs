//! Reference values: what good looks like, computed from signed artefacts and never learned from a
//! machine that was believed to be good.
//!
//! Bytes, keys and `now` come in as arguments; nothing here opens a file or a socket.
//! - [`debian`]: a signed `InRelease`, its `Packages`, the `.deb` they name, and every file in it;
//! - [`pe`], [`boot`], [`uefi`]: PE images and the PCR values that booting them gives;
//! - [`oci`], [`slsa`]: the files of an image, the subjects of a provenance statement;
//! - [`Generation`], [`References`]: the values with their sources and windows of validity, and what
//!   is asked of them.
//!
//! What a machine presents is verified elsewhere (`attest-tpm`, `attest-code`); here stands what it is
//! compared with.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "tests may panic"
    )
)]

pub mod archive;
pub mod boot;
mod boots;
mod bytes;
pub mod debian;
mod der;
mod digest;
mod explain;
mod file;
mod generation;
pub mod import;
pub mod oci;
pub mod openpgp;
pub mod pcr;
pub mod pe;
mod set;
pub mod slsa;
mod time;
pub mod uefi;
pub mod unpack;
pub mod verity;

pub use boots::{Boot, Boots};
pub use digest::Digest;
pub use file::{FileDigests, Hasher};
pub use generation::{
    ALL_RINGS, Artefact, ArtefactKind, BootRule, FileValue, Generation, Part, Parts, PcrEvent,
    PcrValue, ReferenceFile, SecureBoot, Source, SourceKind, Unpredicted, Withdrawal,
};
pub use set::{At, Found, Known, Lapse, References, Via};
pub use time::{date, moment, rfc3339};
