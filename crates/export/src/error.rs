//! Why an export ends before its end.

use facts::Finding;
use ledger::Code as _;
use ledger_store::StoreError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the ledger")]
    Ledger(#[from] StoreError),
    #[error("{0} holds no ledger")]
    NoLedger(PathBuf),
    #[error("{0}")]
    Refused(Box<Finding>),
    /// The ledger is not the one that was exported before, or not what its head was signed for.
    #[error("{0}")]
    Broken(Box<Finding>),
}

impl Error {
    pub(crate) fn refused(finding: Finding) -> Self {
        Self::Refused(Box::new(finding))
    }

    pub(crate) fn broken(finding: Finding) -> Self {
        Self::Broken(Box::new(finding))
    }

    /// Whether a ledger is damaged, shorter than it was, or another one: what verification fails on.
    #[must_use]
    pub const fn is_broken(&self) -> bool {
        matches!(
            self,
            Self::Broken(_)
                | Self::Ledger(
                    StoreError::Corrupt { .. }
                        | StoreError::RolledBack { .. }
                        | StoreError::Tiles { .. }
                        | StoreError::Forked { .. }
                        | StoreError::NotOurs { .. }
                        | StoreError::Record(_)
                )
        )
    }

    /// For people, and for whoever reads JSON.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Ledger(error @ StoreError::Pruned { .. }) => Finding::new(
                "EXPORT-PRUNED",
                "the next records to be exported are gone from this folder",
            )
            .observed(error.to_string())
            .next("export from the server's data_dir: its mirror has what gateways have pruned; of the server's own ledger, from the copy that its `retention` record names"),
            Self::Ledger(error) if self.is_broken() => {
                Finding::new("EXPORT-LEDGER", facts::with_causes(self))
                    .observed(error.code())
                    .next("restore the ledger from a backup or from the server's mirror; to export what is sound, name it with --ledger")
            }
            Self::Ledger(error) => Finding::new("EXPORT-LEDGER", facts::with_causes(self))
                .observed(error.code())
                .next("name the folder of a server, gateway or decision point that you may read"),
            Self::NoLedger(folder) => Finding::new("EXPORT-NO-LEDGER", self.to_string())
                .expected("a data_dir, or the folder of one ledger, with `segments` in it")
                .observed(folder.display().to_string())
                .next("name the `data_dir` of server.toml, gateway.toml or pdp.toml"),
            Self::Refused(finding) | Self::Broken(finding) => (**finding).clone(),
        }
    }
}
