//! Verification of confidential machines: SEV-SNP reports, TDX and SGX quotes, Nitro and NitroTPM
//! documents, and the vTPM of Azure's confidential machines.
//!
//! Pure: bytes, what was asked, `now`, roots, endorsements and reference values are arguments, a
//! [`Verdict`](attest::Verdict) is the answer. Nothing is fetched: certificates, revocation lists and
//! Intel's collateral come in as bytes, perhaps out of a [`Bundle`]. What comes from a machine is
//! hostile until a check says otherwise; so is a bundle, since all that counts in it is signed.
//!
//! One module for each kind of evidence: [`snp`], [`tdx`], [`sgx`], [`nitro`], [`azure`]; what TDX and
//! SGX share is in [`intel`]. What each fact proves, and what not, is in `docs/attestation`.
//! Not here: collection on the machine (`device`), the TPM half of a join (`attest-tpm`), what the
//! outcome means to other relying parties (`attest::ar4si`, `attest::ear`).

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

mod allow;
mod artefact;
pub mod azure;
mod bundle;
mod code;
mod crl;
pub mod endorsed;
pub mod intel;
pub mod nitro;
pub mod sgx;
pub mod snp;
pub mod tdx;
mod time;
mod wire;

pub use artefact::{Anchors, Answer, Artefact, Endorsement, NotAnArtefact};
pub use bundle::{Bundle, Listed};
pub use code::Code;
pub use crl::Revocation;

use facts::{Source, Warrant};

/// What hardware and its paravisor say is all of the machine.
const WARRANT: Warrant = Warrant::of(Source::Hardware, &["machine."]);
