//! Why a call was not answered, and the gRPC status that says so (API spec, section 4.4; endpoint spec,
//! section 7).

use facts::Finding;
use tonic::Status;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `Unavailable`: not ready, or shedding load; try again with backoff.
    Unavailable(Finding),
    /// `PermissionDenied`: no identity is issued to this caller, or not the one that it names.
    Denied(Vec<Finding>),
    /// `InvalidArgument`: the request cannot be answered as it stands.
    Invalid(Finding),
}

impl Refusal {
    #[must_use]
    pub fn unavailable(code: &'static str, message: impl Into<String>) -> Self {
        Self::Unavailable(Finding::new(code, message))
    }

    #[must_use]
    pub fn invalid(code: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(Finding::new(code, message))
    }

    /// For the caller. What a policy expects is for the operator, not for whoever was refused: of a
    /// denial only codes and messages are told.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::Unavailable(finding) => Status::unavailable(finding.to_string()),
            Self::Invalid(finding) => Status::invalid_argument(finding.to_string()),
            Self::Denied(findings) => {
                let mut message = "no identity issued".to_owned();
                for finding in findings.iter().take(4) {
                    message.push_str(&format!("; {}: {}", finding.code, finding.message));
                }
                Status::permission_denied(message)
            }
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.status().message())
    }
}

impl std::error::Error for Refusal {}
