//! Why a round of publishing found no good end, by who has to act.

use facts::Finding;
use ledger_store::StoreError;

/// What ends a round.
#[derive(Debug)]
pub enum Failure {
    /// Nobody: the store or the line to it has trouble, and the next round begins where this one ended.
    Again(Finding),
    /// The operator. Nothing was replaced, and nothing is until the store says something else; but for a head whose proof
    /// of being anchored the store refuses, which is there without it.
    Refused(Finding),
}

impl Failure {
    #[must_use]
    pub const fn finding(&self) -> &Finding {
        match self {
            Self::Again(finding) | Self::Refused(finding) => finding,
        }
    }

    pub(crate) fn again(place: &str, why: impl std::fmt::Display) -> Self {
        Self::Again(
            Finding::new(
                "PUBLISH-UNREACHABLE",
                format!("the object store {place} does not answer"),
            )
            .observed(why.to_string())
            .next("look at the store and the line to it; it is tried again by itself"),
        )
    }

    /// A read of the ledger on this machine's disk. What was pruned does not come back: nothing is tried again.
    pub(crate) fn read(error: &StoreError) -> Self {
        match error {
            StoreError::Pruned { .. } => Self::Refused(
                Finding::new(
                    "PUBLISH-PRUNED",
                    "the object store lacks records that were pruned from this server",
                )
                .expected("a store that has every record up to the lowest one that is left here")
                .observed(error.to_string())
                .next("publish to the store that had them: a new one cannot be filled from a server that was pruned"),
            ),
            error => Self::ledger(error),
        }
    }

    /// The ledger on this machine's disk.
    pub(crate) fn ledger(why: impl std::fmt::Display) -> Self {
        Self::Again(
            Finding::new("PUBLISH-READ", "this ledger cannot be read to be published")
                .observed(why.to_string())
                .next("look at this machine's disk and at the server's log; it is tried again by itself"),
        )
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.finding().fmt(f)
    }
}
