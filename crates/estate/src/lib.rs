//! Everything declared: identities, resources, policies; decide, explain, search, diff.
//!
//! Pure: text in, decisions out. Files, clocks, solvers and the network are the callers' business;
//! proofs live in `estate-prove`. With that crate, the only one that names Cedar: what stands in
//! this crate's public API is ours, except [`cedar`], which exists for `estate-prove` alone.
//!
//! ```text
//! EstateFiles ─parse→ declarations ─resolve→ Model ─┐
//!             └─parse→ Policies, Invariants ────────┴─index→ Estate ─→ assume, decide, why, who_can …
//! ```

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

mod action;
mod administrator;
mod annotation;
mod approval;
mod ask;
mod assumptions;
mod authorize;
mod blast;
mod candidates;
pub mod cedar;
mod chain;
mod code;
mod columns;
mod decision;
mod declare;
mod diff;
mod duration;
mod enforcement;
mod entities;
mod estate;
mod expectations;
mod explain;
mod fact_schema;
mod files;
mod format;
mod index;
mod invariant;
mod lint;
mod model;
mod policy;
mod policy_text;
mod problem;
mod refusal;
mod regardless;
mod resolve;
mod resource;
mod sieve;
mod statements;
mod suggest;
mod template;
mod today;
mod vocabulary;
mod word;

pub use action::Action;
pub use administrator::Administrator;
pub use annotation::{ANNOTATIONS, said};
pub use approval::{
    Approval, ApprovalSubject, GovernedChange, GovernedKind, LONGEST_APPROVAL_MS, approval_bytes,
    approved,
};
pub use ask::{Access, Accesses, Answer, Cursor, CursorError, Grant, Page, Residual};
pub use authorize::Prepared;
pub use blast::{
    ActsFor, Blast, BlastAnswer, BlastCounts, BlastItem, BlastPage, BlastPath, BlastStep, Reach,
    Taken,
};
pub use chain::{
    Chain, ChainAccess, ChainAnswer, ChainDecision, ChainExplanation, ChainFacts, DelegationRef,
    Hop, HopFacts, Link, MOST_PRINCIPALS,
};
pub use code::{
    Judged, Sha256Digests, Subject, fsverity_digest, is_derived_of_code, is_digest_of_code,
    malformed_digest_of_code, sha256_digests_of_code, sha256_of_fsverity,
};
pub use columns::Alone;
pub use decision::{Condition, Decision, Effect, Explanation, Near, Observed, PolicyRef, Request};
pub use declare::{
    Certifies, Cloud, ColumnMode, GuestPolicyBit, IdentityKind, PlatformBit, RecordingMode,
    TcbStatus, TeeGeneration, TeeKind, TeeRevocation, json_schema,
};
pub use diff::{AccessChange, Diff, Named, diff};
pub use enforcement::{Emitted, EnforcementPlan};
pub use estate::Estate;
pub use expectations::TestOutcome;
pub use files::{EstateFiles, MAX_FILES, MAX_TOTAL_BYTES};
pub use format::{Formatted, format};
pub use invariant::{Except, Given, Invariant, InvariantKind};
pub use lint::rings::unknown_rings;
pub use lint::{Annotated, Means, Remark, Severity};
pub use model::{
    CodeReference, Column, Delegation, Enforcement, Identity, Login, Machine, NitroImage,
    NitroReference, Party, References, Resource, Scope, Settings, SgxBy, SgxImage, SgxReference,
    SnpBy, SnpImage, SnpPolicy, SnpReference, TableInfo, TdxImage, TdxReference, TeeReference,
    TeeRoot, TeeTerms, TpmRoot,
};
pub use policy_text::{PolicyText, policy_texts};
pub use problem::Problem;
pub use regardless::Regardless;
pub use resolve::{CLASSIFICATIONS, is_reserved};
pub use resource::{ResourceKind, ResourceRef};
pub use suggest::closest;
pub use today::{Breach, Today};
pub use word::Word;
