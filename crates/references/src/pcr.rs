//! A PCR as it will be: the SHA-256 bank, extended with one event after the other.

use crate::Digest;
use crate::generation::{PcrEvent, PcrValue};

/// SHA-256 of the four zero bytes of an `EV_SEPARATOR` (TCG PC Client Platform Firmware Profile,
/// section 3.3.2.2).
pub const SEPARATOR: [u8; 4] = [0; 4];

/// `EV_EFI_ACTION` before a boot option is started (section 10.4.4).
pub const CALLING: &str = "Calling EFI Application from Boot Option";

/// A PCR that begins at zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pcr {
    index: u8,
    value: [u8; 32],
    events: Vec<PcrEvent>,
}

impl Pcr {
    #[must_use]
    pub const fn new(index: u8) -> Self {
        Self {
            index,
            value: [0; 32],
            events: Vec::new(),
        }
    }

    /// Extends with a digest; `what` says to a person what it is of.
    #[must_use]
    pub fn extend(mut self, what: impl Into<String>, digest: Digest) -> Self {
        self.value = crypto::sha256(&[self.value, digest.0].concat());
        self.events.push(PcrEvent {
            what: what.into(),
            sha256: digest,
        });
        self
    }

    /// Extends with the digest of `data`.
    #[must_use]
    pub fn measure(self, what: impl Into<String>, data: &[u8]) -> Self {
        self.extend(what, Digest::of(data))
    }

    #[must_use]
    pub fn separator(self) -> Self {
        self.measure("separator", &SEPARATOR)
    }

    #[must_use]
    pub fn finish(self) -> PcrValue {
        PcrValue {
            index: self.index,
            sha256: Digest(self.value),
            events: self.events,
        }
    }
}

/// The value that `events` give.
#[must_use]
pub fn replay(events: &[PcrEvent]) -> Digest {
    events.iter().fold(Digest([0; 32]), |value, event| {
        Digest(crypto::sha256(&[value.0, event.sha256.0].concat()))
    })
}
