//! What TDX and SGX share: quotes of versions 3, 4 and 5, the chain from the quote to Intel's root, and
//! the collateral by which a platform's TCB is judged.
//!
//! Intel's Data Center Attestation Primitives: "ECDSA Quote Library API" (quotes, appendix A), "TDX DCAP
//! Quoting Library API" (appendix A), "PCK Certificate and CRL Profile", and the Provisioning
//! Certification Service API, version 4. Statuses are converged as Intel's quote verification library
//! does.

mod appraisal;
mod collateral;
mod document;
mod identity;
mod pck;
mod quote;
mod report;
mod roots;
mod status;
mod tcb;

pub use collateral::{Collateral, CollateralBytes};
pub(crate) use document::{identity_window, pck_list_window, root_list_window, tcb_info_window};
pub use quote::{Body, Quote};
pub use report::{EnclaveReport, TdReport};
pub use roots::Roots;
pub use status::TcbStatus;

pub use appraisal::platform;
pub(crate) use appraisal::{Appraised, appraise};
pub use pck::{Ca, Pck};

use std::collections::BTreeSet;

/// Which TCBs the owner accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcbPolicy {
    /// Default: `UpToDate` alone. `Revoked` is never accepted, whatever stands here.
    pub accepted: BTreeSet<TcbStatus>,
    /// The least `tcbEvaluationDataNumber` of TCB info and QE identity, so that old collateral cannot be
    /// put in the place of newer. Default 0.
    pub minimum_evaluation: u32,
}

impl Default for TcbPolicy {
    fn default() -> Self {
        Self {
            accepted: BTreeSet::from([TcbStatus::UpToDate]),
            minimum_evaluation: 0,
        }
    }
}

/// Whether every byte that `mask` leaves is the same.
pub(crate) fn equal_under<const N: usize>(a: &[u8; N], b: &[u8; N], mask: &[u8; N]) -> bool {
    a.iter()
        .zip(b)
        .zip(mask)
        .all(|((a, b), mask)| (a ^ b) & mask == 0)
}
