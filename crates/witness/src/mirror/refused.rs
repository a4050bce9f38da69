//! Why a mirror gives no line: as HTTP has it, and for people.

use crate::store::StoreError;
use facts::Finding;
use ledger::mirror::{Answer, Info, MirrorError, Span};
use ledger::{Code as _, CosignerError, ProofError};

#[derive(Debug)]
pub enum MirrorRefused {
    /// It cannot be read, or ended within its first package.
    Request(MirrorError),
    Broken(&'static str),
    /// Not a log that is mirrored here.
    Origin {
        origin: String,
    },
    /// The log has shown no checkpoint yet.
    Nothing {
        origin: String,
    },
    /// The mirror is somewhere else.
    Conflict(Info),
    /// Something was kept, not all of it.
    Part(Info),
    /// These are no entries of the log.
    Unproved {
        span: Span,
        proof: ProofError,
    },
    Full {
        free: u64,
        spare: u64,
    },
    /// Another upload has its place, and nothing of it was whole.
    Busy,
    Sign(CosignerError),
    /// The note would be too large.
    Lines,
    Store(StoreError),
}

impl MirrorRefused {
    /// As HTTP has it.
    #[must_use]
    pub fn answer(&self) -> Answer {
        let status = match self {
            Self::Conflict(info) => return Answer::Conflict(info.clone()),
            Self::Part(info) => return Answer::Part(info.clone()),
            Self::Request(_) | Self::Broken(_) => 400,
            Self::Origin { .. } => 404,
            Self::Nothing { .. } | Self::Unproved { .. } => 422,
            Self::Sign(_) | Self::Lines => 500,
            Self::Store(_) | Self::Busy => 503,
            Self::Full { .. } => 507,
        };
        Answer::Refused { status }
    }

    /// For people.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Request(error) => Finding::new(error.code(), facts::with_causes(error))
                .next("send what c2sp.org/tlog-mirror says of add-entries"),
            Self::Broken(what) => Finding::new("WITNESS-MIRROR-BROKEN", *what)
                .next("send one package whole, at least; what was taken before is kept"),
            Self::Origin { origin } => Finding::new(
                "WITNESS-MIRROR-ORIGIN",
                format!("{origin:?} is not a log that is mirrored here"),
            )
            .next("ask the operator of the mirror to add the log, with its verifier key"),
            Self::Nothing { origin } => Finding::new(
                "WITNESS-MIRROR-NOTHING",
                format!("no checkpoint of {origin:?} is known here"),
            )
            .next("send a checkpoint by add-checkpoint first"),
            Self::Conflict(info) | Self::Part(info) => Finding::new(
                "WITNESS-MIRROR-NEXT",
                format!("the next entry is {}, of {}", info.next, info.size),
            )
            .next("go on from there"),
            Self::Unproved { span, proof } => Finding::new(
                "WITNESS-MIRROR-UNPROVED",
                format!("the entries {} to {} are not shown to be the log's", span.start, span.end),
            )
            .observed(facts::with_causes(proof))
            .next("send the entries of the checkpoint, and the proof that c2sp.org/tlog-mirror asks for; if there is none, the log's history has changed"),
            Self::Full { free, spare } => Finding::new(
                "WITNESS-MIRROR-FULL",
                "the disk of the mirror has no room for more entries",
            )
            .expected(format!("{spare} bytes that stay free"))
            .observed(format!("{free} free bytes"))
            .next("make room on the mirror's disk, or lower `mirror.min_free_mib` in witness.toml; uploads then go on where they were"),
            Self::Busy => Finding::new(
                "WITNESS-MIRROR-BUSY",
                "others are uploading, and no package of this upload was whole",
            )
            .next("send it again, in one go; the operator of the mirror may raise `mirror.uploads`"),
            Self::Sign(error) => Finding::new("WITNESS-SIGN", facts::with_causes(error))
                .next("look at the folder of the witness's keys"),
            Self::Lines => Finding::new(
                "WITNESS-MIRROR-LINES",
                "the checkpoint with the mirror's lines would be too large",
            )
            .next("name fewer keys of the log in witness.toml"),
            Self::Store(error) => error.finding(),
        }
    }
}
