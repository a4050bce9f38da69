//! What is sent to a mirror of a log, and what it answers: `add-entries` of c2sp.org/tlog-mirror. Bytes only: no
//! connection and no state. A mirror is a cosigner that keeps the entries too; its pending checkpoint comes by
//! [`crate::witness`].
//!
//! ```text
//! header: origin, [start, end), ticket | package | package | ...
//! package: entries of one bundle of the log, or of a part of it | subtree proof to the checkpoint of `end`
//! ```

mod answer;
mod incoming;
mod package;

pub use answer::{Answer, INFO_TYPE, Info};
pub use incoming::Incoming;
pub use package::{Package, Span};

use crate::Code;
use crate::tile::WIDTH;
use thiserror::Error;

/// "The request body MUST have `Content-Type` of `application/octet-stream`".
pub const ENTRIES_TYPE: &str = "application/octet-stream";
/// "clients SHOULD limit each `add-entries` request to at most 32 entry packages (8192 entries)."
pub const MAX_PACKAGES: usize = 32;
/// "1 byte, encoding an 8-bit unsigned integer, `num_hashes`, which MUST be at most 63".
pub const MAX_HASHES: usize = 63;
/// Bytes of a header without its origin and ticket.
const FIXED: usize = 2 + 8 + 8 + 2;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MirrorError {
    #[error("not an add-entries request: {0}")]
    Request(&'static str),
    #[error("the package of the entries {start} to {end} is not one: {what}")]
    Package {
        start: u64,
        end: u64,
        what: &'static str,
    },
    #[error("not a mirror's answer: {0}")]
    Answer(&'static str),
}

impl Code for MirrorError {
    fn code(&self) -> &'static str {
        match self {
            Self::Request(_) | Self::Package { .. } => "LEDGER-MIRROR-REQUEST",
            Self::Answer(_) => "LEDGER-MIRROR-ANSWER",
        }
    }
}

/// The head of the body of `POST <submission prefix>/add-entries`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    origin: String,
    start: u64,
    end: u64,
    ticket: Vec<u8>,
}

impl Upload {
    /// The entries from `start` on of the log, under its checkpoint of `end` entries. `ticket` is what the mirror
    /// has said, or empty.
    pub fn new(origin: &str, start: u64, end: u64, ticket: Vec<u8>) -> Result<Self, MirrorError> {
        let short = |length: usize| u16::try_from(length).is_ok();
        if origin.is_empty() || !short(origin.len()) || !short(ticket.len()) {
            return Err(MirrorError::Request("an origin or ticket without a length"));
        }
        if start > end {
            return Err(MirrorError::Request("it begins after its end"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            start,
            end,
            ticket,
        })
    }

    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    #[must_use]
    pub const fn start(&self) -> u64 {
        self.start
    }

    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    #[must_use]
    pub fn ticket(&self) -> &[u8] {
        &self.ticket
    }

    /// What stands before the packages. INVARIANT: `parse(x)? == Some((upload, length of upload.bytes()))`.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut all = Vec::with_capacity(FIXED + self.origin.len() + self.ticket.len());
        all.extend_from_slice(&length(self.origin.as_bytes()));
        all.extend_from_slice(self.origin.as_bytes());
        all.extend_from_slice(&self.start.to_be_bytes());
        all.extend_from_slice(&self.end.to_be_bytes());
        all.extend_from_slice(&length(&self.ticket));
        all.extend_from_slice(&self.ticket);
        all
    }

    /// Reads the head, and how many bytes it has; `None` if more of it has to come.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, MirrorError> {
        let mut rest = bytes;
        let read = (|| {
            let origin = sized(&mut rest)?;
            let (start, end) = (number(&mut rest)?, number(&mut rest)?);
            Some((origin, start, end, sized(&mut rest)?))
        })();
        let Some((origin, start, end, ticket)) = read else {
            return Ok(None);
        };
        let origin = std::str::from_utf8(origin)
            .map_err(|_error| MirrorError::Request("its origin is not UTF-8"))?;
        let upload = Self::new(origin, start, end, ticket.to_vec())?;
        Ok(Some((upload, bytes.len() - rest.len())))
    }

    /// The package that begins with entry `from`: "a fixed canonical sequence of entry packages, aligned at
    /// multiples of 256". `None` at the end.
    #[must_use]
    pub fn span(&self, from: u64) -> Option<Span> {
        if from < self.start || from >= self.end {
            return None;
        }
        let first = from - from % WIDTH;
        let end = first
            .checked_add(WIDTH)
            .map_or(self.end, |end| end.min(self.end));
        Some(Span {
            first,
            start: from,
            end,
        })
    }

    /// All packages, in their order.
    pub fn spans(&self) -> impl Iterator<Item = Span> {
        std::iter::successors(self.span(self.start), |span| self.span(span.end))
    }
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_be_bytes(*number))
}

fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (bytes, after) = crate::bundle::split_entry(rest)?;
    *rest = after;
    Some(bytes)
}
