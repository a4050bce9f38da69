//! Why a witness gives no line: as HTTP has it, and for people.

use crate::store::StoreError;
use facts::Finding;
use ledger::witness::{Answer, Refusal, WitnessError};
use ledger::{Code as _, CosignerError};
use std::sync::Arc;
use std::time::Duration;

/// Why no line is given.
#[derive(Debug)]
pub enum Refused {
    /// It cannot be read.
    Request(WitnessError),
    /// The specification says no. `fork` is the log, the first time that it is seen to have signed two histories.
    Refusal {
        refusal: Refusal,
        fork: Option<Arc<str>>,
    },
    /// The log has ended, and went on as another one.
    Ended { origin: Arc<str>, newest: Arc<str> },
    /// The log grows faster than this witness follows.
    Busy { origin: Arc<str>, wait: Duration },
    /// The witness's clock is at or before 1970.
    Clock,
    /// The custody of the key did not sign, or the lines do not fit.
    Sign(CosignerError),
    /// It is not known to be durable, so that it is not given. The witness ends.
    Store(StoreError),
}

impl Refused {
    /// As HTTP has it.
    #[must_use]
    pub const fn answer(&self) -> Answer {
        let status = match self {
            Self::Request(_) => 400,
            Self::Refusal { refusal, .. } => return refusal.answer(),
            // "If the checkpoint is not signed by any trusted key": none is trusted for this origin any more.
            Self::Ended { .. } => 403,
            Self::Busy { .. } => 429,
            Self::Clock | Self::Sign(_) => 500,
            Self::Store(_) => 503,
        };
        Answer::Refused { status }
    }

    /// For people.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Request(error) => Finding::new(error.code(), facts::with_causes(error))
                .next("send what c2sp.org/tlog-witness says of add-checkpoint"),
            Self::Refusal { refusal, .. } => {
                Finding::new(refusal.code(), facts::with_causes(refusal)).next(next(refusal))
            }
            Self::Ended { origin, newest } => Finding::new(
                "WITNESS-LOG-ENDED",
                format!("{origin:?} has ended, and went on as {newest:?}: nothing more of it is cosigned"),
            )
            .next("send checkpoints of the newest log; if yours is that one, ask the operator of the witness to look at its `lineage`"),
            Self::Busy { origin, .. } => Finding::new(
                "WITNESS-BUSY",
                format!("{origin:?} grows faster than this witness follows"),
            )
            .next("cosign fewer checkpoints, or ask the operator of the witness for more"),
            Self::Clock => Finding::new("WITNESS-CLOCK", "the clock of the witness is not set")
                .next("set the clock of the witness's machine"),
            Self::Sign(error) => Finding::new("WITNESS-SIGN", facts::with_causes(error))
                .next("look at the folder of the witness's keys"),
            Self::Store(error) => error.finding(),
        }
    }
}

const fn next(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Origin { .. } => {
            "ask the operator of the witness to add the log, with its verifier key"
        }
        Refusal::Unsigned { .. } | Refusal::Signature(_) => {
            "compare the log's key with the one that the witness was given"
        }
        Refusal::Old { .. } | Refusal::Conflict { .. } => {
            "prove from the size that the witness answered"
        }
        Refusal::EmptyRoot | Refusal::Inconsistent { .. } => {
            "send the consistency proof of that log from that size; if there is none, its history has changed"
        }
    }
}
