//! What a pack answers. Nothing vouches for `question.json`, so it has one spelling, says nothing that a
//! verifier does not look at, and is shown to whoever verifies.

use crate::HexDigest;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;

/// Bytes of a question, at most.
const MAX_QUESTION: usize = 4_096;
/// Records that may be asked for by their places.
const MAX_RANGE: u64 = 10_000;

/// A question, as it stands in `question.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// What an identity did through gateways: its sessions, what it asked for in them and what became
    /// of that. It is put to every gateway's ledger.
    Access {
        /// SPIFFE ID, or its path in the trust domain.
        identity: String,
        /// Only what touched this resource; all sessions still.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        resource: Option<String>,
        /// Only so many records of each ledger, the newest, and the sessions and intents that those
        /// belong to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        newest: Option<u64>,
    },
    /// One record.
    Record {
        /// Origin of the ledger or its last part; empty or `server`: the server's.
        #[serde(default)]
        ledger: String,
        index: u64,
    },
    /// The issuance of an SVID, in the server's ledger.
    Issuance {
        /// Lower-case hex, or the `jti` of a JWT.
        serial: String,
    },
    /// All of one session at a gateway: its beginning and end, each operation, what became of it, and what
    /// the gateway's ledger says of itself meanwhile: starts, stops and gaps.
    Session {
        /// Origin of the gateway's ledger or its last part.
        ledger: String,
        session: String,
    },
    /// An identity from its first issuance to its last: each with its verdict, what was refused, delegated and
    /// revoked, and how the machines went on that it was issued to. It is put to the server's ledger.
    Lifetime {
        /// SPIFFE ID, or its path in the trust domain.
        identity: String,
    },
    /// The records of one ledger from one place to another, both included; no more than 10,000.
    Range {
        /// As for a record.
        #[serde(default)]
        ledger: String,
        from: u64,
        to: u64,
    },
    /// The records of a ledger, or of all, whose time is `from` or later and before `to`.
    Period {
        /// As for a record; every ledger if it is not there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ledger: Option<String>,
        /// Unix milliseconds, by the clock of whoever keeps the ledger.
        from: u64,
        to: u64,
    },
    /// A change of the estate: the version and the one before it, its proofs and approvals, who did it, and
    /// what was revoked for it.
    Estate { version: HexDigest },
    /// A verdict of the server's ledger, with its evidence, and what rests on it: the state of its machine, and
    /// each identity that was given or refused by it.
    Verdict { index: u64 },
}

impl Question {
    /// Reads a question as somebody asks it. `None`: it is none, or too long, or has control characters.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let question: Self = (text.len() <= MAX_QUESTION)
            .then(|| serde_json::from_slice(text).ok())
            .flatten()?;
        (question.is_printable() && question.is_bounded()).then_some(question)
    }

    /// Reads `question.json`: as [`Question::read`], and every other spelling than
    /// [`Question::to_json`]'s is refused.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::read(text).filter(|question| question.to_json().as_bytes() == text)
    }

    /// The one spelling.
    #[must_use]
    pub fn to_json(&self) -> String {
        // INVARIANT: strings and numbers under known names always serialise.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// True if the question is about the ledger `origin`, which is the server's if `server`.
    #[must_use]
    pub fn is_about(&self, origin: &str, server: bool) -> bool {
        match self {
            Self::Access { .. } => !server,
            Self::Period { ledger: None, .. } => true,
            Self::Issuance { .. }
            | Self::Lifetime { .. }
            | Self::Estate { .. }
            | Self::Verdict { .. } => server,
            Self::Session { ledger, .. } => !server && names(ledger, origin, server),
            Self::Record { ledger, .. }
            | Self::Range { ledger, .. }
            | Self::Period {
                ledger: Some(ledger),
                ..
            } => names(ledger, origin, server),
        }
    }

    /// The places that it asks for by number, in a ledger that it is about.
    pub(super) fn places(&self) -> Option<RangeInclusive<u64>> {
        match self {
            Self::Record { index, .. } | Self::Verdict { index } => Some(*index..=*index),
            Self::Range { from, to, .. } => Some(*from..=*to),
            _ => None,
        }
    }

    /// True if the records of the ledger `origin` answer only all together, so that it takes its entries to see
    /// that none is missing.
    pub(super) fn needs_entries(&self, origin: &str, server: bool) -> bool {
        match self {
            Self::Record { .. } | Self::Range { .. } => false,
            _ => self.is_about(origin, server) || server && self.is_followed(),
        }
    }

    /// True if it is put to ledgers of gateways up to their newest anchors, which the server's entries name.
    pub(super) const fn is_followed(&self) -> bool {
        matches!(
            self,
            Self::Access { .. } | Self::Session { .. } | Self::Period { .. }
        )
    }

    /// True if it names its ledger.
    pub(super) const fn is_named(&self) -> bool {
        matches!(
            self,
            Self::Record { .. }
                | Self::Session { .. }
                | Self::Range { .. }
                | Self::Period {
                    ledger: Some(_),
                    ..
                }
        )
    }

    fn is_bounded(&self) -> bool {
        match self {
            Self::Range { from, to, .. } => {
                to.checked_sub(*from).is_some_and(|more| more < MAX_RANGE)
            }
            Self::Period { from, to, .. } => from < to,
            _ => true,
        }
    }

    fn is_printable(&self) -> bool {
        let texts = match self {
            Self::Access {
                identity, resource, ..
            } => [identity.as_str(), resource.as_deref().unwrap_or_default()],
            Self::Session { ledger, session } => [ledger.as_str(), session.as_str()],
            Self::Record { ledger, .. } | Self::Range { ledger, .. } => [ledger.as_str(), ""],
            Self::Period { ledger, .. } => [ledger.as_deref().unwrap_or_default(), ""],
            Self::Issuance { serial } => [serial.as_str(), ""],
            Self::Lifetime { identity } => [identity.as_str(), ""],
            Self::Estate { .. } | Self::Verdict { .. } => [""; 2],
        };
        !texts.concat().chars().any(char::is_control)
    }
}

/// An identity as it stands in records: a SPIFFE ID.
pub(super) fn spiffe_id(identity: &str, trust_domain: &str) -> String {
    match identity.starts_with("spiffe://") {
        true => identity.to_owned(),
        false => format!("spiffe://{trust_domain}/{identity}"),
    }
}

/// True if `name` means the ledger `origin`: by its origin, its last part, or as the server's. A ledger that went on as
/// a new log is meant by its former names too: records keep their places.
#[must_use]
pub fn names(name: &str, origin: &str, server: bool) -> bool {
    match name {
        "" | "server" => server,
        name if server => name == origin,
        name => crate::is_called(origin, name),
    }
}

/// For people: completes "asked:".
impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Access {
                identity,
                resource,
                newest,
            } => {
                write!(f, "what {identity} did through gateways")?;
                if let Some(resource) = resource {
                    write!(f, ", to {resource}")?;
                }
                if let Some(newest) = newest {
                    write!(f, "; of each ledger the newest {newest} records")?;
                }
                Ok(())
            }
            Self::Record { ledger, index } if ledger.is_empty() => {
                write!(f, "record {index} of the server's ledger")
            }
            Self::Record { ledger, index } => write!(f, "record {index} of {ledger}"),
            Self::Issuance { serial } => write!(f, "the issuance of SVID {serial}"),
            Self::Session { ledger, session } => write!(f, "session {session} at {ledger}"),
            Self::Lifetime { identity } => {
                write!(f, "{identity}, from its first issuance to its last")
            }
            Self::Range { ledger, from, to } => {
                write!(f, "records {from} to {to} of {}", ledger_name(ledger))
            }
            Self::Period { ledger, from, to } => {
                let of = ledger.as_deref().map_or("every ledger", ledger_name);
                write!(
                    f,
                    "records of {of} from {from} until before {to} (Unix milliseconds)"
                )
            }
            Self::Estate { version } => write!(f, "the change to estate {version}"),
            Self::Verdict { index } => {
                write!(
                    f,
                    "verdict {index} of the server's ledger, and what rests on it"
                )
            }
        }
    }
}

const fn ledger_name(ledger: &str) -> &str {
    match ledger.is_empty() {
        true => "the server's ledger",
        false => ledger,
    }
}
