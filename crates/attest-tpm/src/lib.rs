//! TPM 2.0 verification: endorsement keys and their chains, credential activation, quotes, certified
//! keys, and the join that puts them together; and what a quote stands behind: the [`boot`] of a machine
//! by its event log, and what its kernel measured since ([`ima`]).
//!
//! Pure: bytes, nonce, `now` and reference values are arguments; there is no I/O, no clock, and what
//! comes from a machine is hostile until a check says otherwise. The one source of randomness is the
//! crypto backend's padding in [`make_credential`]; secrets and seeds are passed in.
//! The other side, which talks to the chip, is `device::tpm`.
//!
//! Start at [`join`], at [`continuous`] for what follows it, or at [`boot`]. What each fact proves, and what not, is in `docs/attestation/tpm.md`.
//! Structures and their numbers follow TCG TPM 2.0 Library, Part 2, revision 1.59.

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

pub mod ak;
mod attested;
mod bank;
pub mod boot;
mod bytes;
mod certificate;
mod certify;
pub mod continuous;
mod counted;
mod credential;
pub mod efi;
mod ek;
pub mod eventlog;
pub mod ima;
pub mod join;
mod keys;
mod message;
mod path;
mod pcr;
mod public;
mod quote;
pub mod reference;
pub mod seal;
mod signature;
pub mod strong;
mod transcript;
mod vendors;
mod wire;

pub use attested::{Attested, Body, Clock, Selection};
pub use counted::Counted;
pub use credential::{Credential, make_credential};
pub use ek::{EndorsementKey, POLICY_A, References, Trust};
pub use keys::SigningKey;
pub use message::{Challenge, Challenged, Channel, JoinAnswer, JoinEvidence, JoinRequest};
pub use path::{Authorities, Authority, Cloud};
pub use pcr::{PcrSelection, QuotedPcrs};
pub use public::{Attributes, Key, Name, Public};
pub use quote::Quoted;
pub use signature::Signature;
pub use transcript::{join_transcript, nonce, vouch_message};
pub use vendors::{VENDOR_ROOTS, VendorRoot};
pub use wire::Malformed;

/// Verification of single structures, for evidence that is not a join.
pub mod structure {
    pub use crate::certify::verify as verify_certify;
    pub use crate::quote::verify as verify_quote;
}
