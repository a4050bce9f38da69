//! Why a question has no answer.

use facts::Finding;
use ledger::Code as _;
use ledger_store::StoreError;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading the ledger")]
    Ledger(#[from] StoreError),
    #[error("reading or writing the index over the records")]
    Index(#[from] store::Error),
    #[error("{0} holds no ledger")]
    NoLedger(PathBuf),
    /// What is asked cannot be answered; the finding says what to ask instead.
    #[error("{0}")]
    Refused(Box<Finding>),
    /// The index does not say what the ledger says.
    #[error("{0}")]
    Lied(Box<Finding>),
}

impl Error {
    pub(crate) fn refused(finding: Finding) -> Self {
        Self::Refused(Box::new(finding))
    }

    /// For people, and for whoever reads JSON.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Ledger(error @ StoreError::Pruned { .. }) => Finding::new(
                "RECORDS-PRUNED",
                "this needs records that are gone from this folder",
            )
            .observed(error.to_string())
            .next("of a gateway's or decision point's ledger, ask with the server's data_dir as --folder: its mirror has what they have pruned; of the server's own, with the copy as --folder: its `retention` record says in `policy` who has one (trilith ledger search --type retention)"),
            Self::Ledger(error) => Finding::new("RECORDS-LEDGER", facts::with_causes(self))
                .observed(error.code())
                .next("name the folder of a server, gateway or decision point that you may read; where a copy is damaged, name another copy of it"),
            Self::Index(_) => Finding::new("RECORDS-INDEX", facts::with_causes(self)).next(
                "remove the index's file, which is made anew, or keep it elsewhere with --index",
            ),
            Self::NoLedger(folder) => Finding::new("RECORDS-NO-LEDGER", self.to_string())
                .expected("a data_dir, or the folder of one ledger, with `segments` in it; of packs also tiles: `tile` and `checkpoint`, or a mirror's `state`")
                .observed(folder.display().to_string())
                .next("name the `data_dir` of server.toml, gateway.toml or pdp.toml, or a copy of it"),
            Self::Refused(finding) | Self::Lied(finding) => (**finding).clone(),
        }
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::refused(finding)
    }
}
