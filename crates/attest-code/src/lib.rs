//! What a workload is, and where its code comes from. Pure: bytes, digests, `now` and reference values in,
//! facts or findings out.
//!
//! - **The process**: [`workload_facts`] states what `device::process` observed and the node agent carries.
//!   Every fact of it has source `asserted`: the node agent says so, and its word counts only on machines
//!   that a policy names. A fact that cannot be stated truthfully is absent, so that a policy which needs it
//!   does not hold; [`notes`] says why it is absent.
//! - **The code**: [`judge`] says whether the references approve the digests that run: by a listed digest, by a
//!   signature ([`verify_bundle`], [`verify_blob`], [`verify_simple_signing`], [`verify_envelope`]) or by SLSA
//!   provenance ([`ProvenanceRule`]); [`image`] reads container images. Its facts have source `verified`.
//! - **Enforcement**: [`FsVerityDigest`], [`IpePolicy`] and [`Manifest`] turn the same references into what the
//!   kernel enforces.
//!
//! `docs/attestation/code.md` says what is checked and what is not.

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

mod artifact;
mod authority;
mod certificate;
mod cms;
mod der;
mod dsse;
mod fsverity;
pub mod image;
mod interpreter;
mod ipe;
mod json;
mod judge;
mod key_signed;
mod manifest;
mod observed;
mod pem;
mod provenance;
mod references;
mod rules;
mod signer;
mod sigstore;
mod statement;
mod time;
mod vouched;

pub use artifact::Artifact;
pub use fsverity::{FsVerityAlgorithm, FsVerityDigest};
pub use interpreter::{INTERPRETERS, is_interpreter};
pub use ipe::{Execution, IpePolicy, Operation, PolicyPlan, PolicyVersion, SignedPolicy};
pub use judge::{CodeEvidence, Form, Running, judge};
pub use key_signed::{verify_blob, verify_envelope, verify_simple_signing};
pub use manifest::{Manifest, ManifestFile, ManifestPolicy};
pub use observed::{Caller, Digest, Observed, Program};
pub use provenance::ProvenanceRule;
pub use references::{CodeDigest, CodeReferences, DigestReference, Window};
pub use rules::{notes, workload_facts};
pub use signer::{Identity, Signer};
pub use sigstore::{MAX_BUNDLE, MAX_ROOT, TrustedRoot};
pub use statement::{PAYLOAD_TYPE, Statement};
pub use vouched::{Vouched, verify_bundle};
