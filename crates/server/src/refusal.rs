//! Refusals as they leave the server: a finding, and how gRPC callers should take it.
//!
//! The status carries the finding as JSON in its details, so that CLI, agent and gateway show the
//! same words as the log and the ledger.

use facts::Finding;
use tonic::{Code, Status};

/// A request that is not done, and why.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The caller may not, or what it presented does not hold.
    #[error("{0}")]
    Denied(Finding),
    /// The request makes no sense as it stands.
    #[error("{0}")]
    Invalid(Finding),
    /// It cannot be done as things are now.
    #[error("{0}")]
    Precondition(Finding),
    /// Nothing goes by that name.
    #[error("{0}")]
    Unknown(Finding),
    /// Too much at once.
    #[error("{0}")]
    Limited(Finding),
    /// The server cannot serve: it is stopping, behind a peer, or its ledger has failed.
    #[error("{0}")]
    Unavailable(Finding),
}

impl Refusal {
    #[must_use]
    pub const fn finding(&self) -> &Finding {
        match self {
            Self::Denied(finding)
            | Self::Invalid(finding)
            | Self::Precondition(finding)
            | Self::Unknown(finding)
            | Self::Limited(finding)
            | Self::Unavailable(finding) => finding,
        }
    }

    const fn code(&self) -> Code {
        match self {
            Self::Denied(_) => Code::PermissionDenied,
            Self::Invalid(_) => Code::InvalidArgument,
            Self::Precondition(_) => Code::FailedPrecondition,
            Self::Unknown(_) => Code::NotFound,
            Self::Limited(_) => Code::ResourceExhausted,
            Self::Unavailable(_) => Code::Unavailable,
        }
    }

    /// The server's own failure: logged in full, told in short.
    pub fn internal(what: &'static str, error: &dyn std::error::Error) -> Self {
        let mut chain = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        tracing::error!(error = %chain, "{what}");
        Self::Unavailable(
            Finding::new("SERVER-FAILED", format!("the server failed while {what}"))
                .next("read the server's log"),
        )
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let finding = refusal.finding();
        let details = serde_json::to_vec(finding).unwrap_or_default();
        Self::with_details(refusal.code(), finding.to_string(), details.into())
    }
}
