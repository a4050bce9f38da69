//! What a mirror answers to `add-entries`.

use super::MirrorError;
use crate::NoteSignature;
use crate::scalar::{decode_base64, parse_decimal};
use std::fmt;
use std::str::FromStr;

/// "the response body MUST have a `Content-Type` of `text/x.tlog.mirror-info`", of 409 and 202.
pub const INFO_TYPE: &str = "text/x.tlog.mirror-info";

/// How far a mirror is. `Display` writes the three lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// "The tree size of a valid pending checkpoint".
    pub size: u64,
    /// The first entry that it does not have.
    pub next: u64,
    /// To be sent back.
    pub ticket: Vec<u8>,
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ticket = crypto::base64::encode(&self.ticket);
        writeln!(f, "{}\n{}\n{ticket}", self.size, self.next)
    }
}

impl FromStr for Info {
    type Err = MirrorError;

    /// INVARIANT: `parse(x)?.to_string() == x`.
    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let read = || {
            let mut lines = text.strip_suffix('\n')?.split('\n');
            let info = Self {
                size: parse_decimal(lines.next()?)?,
                next: parse_decimal(lines.next()?)?,
                ticket: decode_base64(lines.next()?)?,
            };
            // It is sent back behind a length of two bytes.
            let sent = u16::try_from(info.ticket.len()).is_ok();
            (sent && lines.next().is_none()).then_some(info)
        };
        read().ok_or(MirrorError::Answer(
            "not a size, the next entry and a ticket",
        ))
    }
}

/// An answer to `add-entries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200: the mirror has all of it. Signature lines, at least one.
    Mirrored(Vec<NoteSignature>),
    /// 202: it has taken a part.
    Part(Info),
    /// 409: it is somewhere else.
    Conflict(Info),
    /// 400, 404, 422, and whatever else HTTP has. The body of these is for people.
    Refused { status: u16 },
}

impl Answer {
    /// Reads an answer; `kind` is its `Content-Type`.
    pub fn parse(status: u16, kind: Option<&str>, body: &[u8]) -> Result<Self, MirrorError> {
        let text = || std::str::from_utf8(body).map_err(|_| MirrorError::Answer("it is not UTF-8"));
        match status {
            200 => NoteSignature::parse_lines(text()?)
                .map(Self::Mirrored)
                .map_err(|_error| MirrorError::Answer("no signature lines")),
            // Others are of servers in between.
            202 if kind == Some(INFO_TYPE) => text()?.parse().map(Self::Part),
            409 if kind == Some(INFO_TYPE) => text()?.parse().map(Self::Conflict),
            status => Ok(Self::Refused { status }),
        }
    }

    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Mirrored(_) => 200,
            Self::Part(_) => 202,
            Self::Conflict(_) => 409,
            Self::Refused { status } => *status,
        }
    }

    /// The body that goes with it; empty for a refusal.
    #[must_use]
    pub fn body(&self) -> String {
        match self {
            Self::Mirrored(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
            Self::Part(info) | Self::Conflict(info) => info.to_string(),
            Self::Refused { .. } => String::new(),
        }
    }
}
