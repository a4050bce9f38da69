//! Refusals as they leave the server: a finding, and how gRPC callers should take it.
//!
//! The status carries the finding as JSON in its details, so that CLI, agent and gateway show the
//! same words as the log and the ledger.

use facts::Finding;
use ledger_store::StoreError;
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

    pub(crate) fn is_disk_full(&self) -> bool {
        self.finding().code == "SERVER-DISK-FULL"
    }

    /// Nothing new can be recorded, so nothing new is granted.
    pub(crate) fn disk_full() -> Self {
        Self::Unavailable(
            Finding::new(
                "SERVER-DISK-FULL",
                "the server's disk is full: nothing new is granted, revocations go on",
            )
            .expected("room for the record in the server's data directory")
            .next("free space there; it goes on by itself"),
        )
    }

    /// What was pruned is no failure: told by which record, and who has it.
    fn pruned(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if let Some(pruned @ StoreError::Pruned { .. }) = error.downcast_ref() {
                return Some(Self::Unknown(
                    Finding::new(
                        "LEDGER-PRUNED",
                        "this needs records that are gone from this server",
                    )
                    .observed(pruned.to_string())
                    .next("the record says who has them (`policy`): trilith ledger search --type retention; whoever has a copy asks that one, as docs/operate/packs.md says: trilith pack --folder COPY --trust FILE --record LEDGER:INDEX --output FILE"),
                ));
            }
            cause = error.source();
        }
        None
    }

    /// The server's own failure: logged in full, told in short. What was pruned is told in full.
    pub fn internal(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        if let Some(pruned) = Self::pruned(error) {
            return pruned;
        }
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
        let finding = short(refusal.finding());
        let details = serde_json::to_vec(&finding).unwrap_or_default();
        let mut message = finding.to_string();
        cut(&mut message);
        Self::with_details(refusal.code(), message, details.into())
    }
}

/// A status travels in headers, of which clients take 16 KiB: more, and they see none of it.
fn short(finding: &Finding) -> Finding {
    let mut finding = finding.clone();
    cut(&mut finding.message);
    let texts = [
        &mut finding.expected,
        &mut finding.observed,
        &mut finding.next,
    ];
    texts.into_iter().flatten().for_each(cut);
    finding
}

/// At most so many bytes, without what JSON would make six of.
fn cut(text: &mut String) {
    const LONGEST: usize = 1_024;
    const MARK: &str = " …";
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST - MARK.len()));
        text.push_str(MARK);
    }
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, " ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_fits_into_headers_whatever_the_finding_says() {
        for filler in ["x", "\"", "\u{1}", "€", "\n"] {
            let long = filler.repeat(100_000);
            let finding = Finding::new("TEST", long.clone())
                .expected(long.clone())
                .observed(long.clone())
                .next(long);
            let status = Status::from(Refusal::Denied(finding));
            // As tonic writes them: percent-encoded, and in base64.
            let message: usize = status
                .message()
                .bytes()
                .map(|byte| if byte.is_ascii_alphanumeric() { 1 } else { 3 })
                .sum();
            let headers = message + status.details().len().div_ceil(3) * 4;
            assert!(headers < 15_000, "{headers} bytes of {filler:?}");
            let told: Finding = serde_json::from_slice(status.details()).unwrap();
            assert_eq!(told.code, "TEST");
            assert!(told.message.len() <= 1_024);
        }
    }
}
