//! Why a round found no good end, by who has to act.

use crate::Misbehaviour;
use facts::Finding;

/// What ends a round.
#[derive(Debug)]
pub enum Failure {
    /// No answer that counts: perhaps the next round has one.
    Unreachable(Finding),
    /// This machine: the configuration, the state, the webhook.
    Local(Finding),
    /// What is shown is not what was signed, or does not go on from it. Nothing of it was taken.
    Broken(Finding),
    /// The log's key has signed two histories.
    Misbehaved(Finding, Box<Misbehaviour>),
}

impl Failure {
    #[must_use]
    pub const fn finding(&self) -> &Finding {
        match self {
            Self::Unreachable(finding)
            | Self::Local(finding)
            | Self::Broken(finding)
            | Self::Misbehaved(finding, _) => finding,
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.finding().fmt(f)
    }
}
