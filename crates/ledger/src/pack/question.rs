//! What a pack answers. Nothing vouches for `question.json`, so it has one spelling, says nothing that a
//! verifier does not look at, and is shown to whoever verifies.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Bytes of a question, at most.
const MAX_QUESTION: usize = 4_096;

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
}

impl Question {
    /// Reads a question as somebody asks it. `None`: it is none, or too long, or has control characters.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        let question: Self = (text.len() <= MAX_QUESTION)
            .then(|| serde_json::from_slice(text).ok())
            .flatten()?;
        question.is_printable().then_some(question)
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
            Self::Issuance { .. } => server,
            Self::Record { ledger, .. } => names(ledger, origin, server),
        }
    }

    fn is_printable(&self) -> bool {
        let texts = match self {
            Self::Access {
                identity, resource, ..
            } => [identity.as_str(), resource.as_deref().unwrap_or_default()],
            Self::Record { ledger, .. } => [ledger.as_str(), ""],
            Self::Issuance { serial } => [serial.as_str(), ""],
        };
        !texts.concat().chars().any(char::is_control)
    }
}

/// True if `name` means the ledger `origin`: by its origin, its last part, or as the server's.
#[must_use]
pub fn names(name: &str, origin: &str, server: bool) -> bool {
    let last = origin.rsplit('/').next();
    match name {
        "" | "server" => server,
        name => name == origin || !server && last == Some(name),
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
        }
    }
}
