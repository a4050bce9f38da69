//! Which PCR values a log amounts to.

use super::{Event, Format, Kind, Log};
use crypto::Hash;
use facts::Finding;
use std::collections::BTreeMap;

const STARTUP_LOCALITY: &[u8; 16] = b"StartupLocality\0";
/// PCRs of the dynamic root of trust, which are not zero before they are used (PC Client Platform TPM
/// Profile 1.05, section 4.6.2).
const DYNAMIC: std::ops::RangeInclusive<u32> = 17..=22;

/// The values of one bank after every event of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    hash: Hash,
    locality: u8,
    values: BTreeMap<u32, Vec<u8>>,
}

impl Replay {
    /// What `pcr` holds; what it starts with if no event touched it.
    #[must_use]
    pub fn value(&self, pcr: u32) -> Vec<u8> {
        let held = self.values.get(&pcr).cloned();
        held.unwrap_or_else(|| start(self.hash, self.locality, pcr))
    }

    /// The PCRs that events were extended into, ascending.
    pub fn touched(&self) -> impl Iterator<Item = u32> {
        self.values.keys().copied()
    }

    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.hash
    }
}

impl Log<'_> {
    /// Extends every event into the bank of `hash`. `EV_NO_ACTION` is never extended; of one,
    /// `StartupLocality`, comes what PCR 0 begins with.
    ///
    /// # Errors
    /// `EVENTLOG-BANK` if an event has no digest of that bank. `EVENTLOG-LOCALITY` for a locality that
    /// no firmware starts a TPM from, one that is said twice, or one after PCR 0 was extended.
    pub fn replay(&self, hash: Hash) -> Result<Replay, Finding> {
        let mut replay = Replay {
            hash,
            locality: self.locality()?,
            values: BTreeMap::new(),
        };
        for event in self.measured() {
            let digest = event.digest(hash).ok_or_else(|| without(event, hash))?;
            let next = hash.digest(&[&replay.value(event.pcr), digest]);
            replay.values.insert(event.pcr, next);
        }
        Ok(replay)
    }

    /// The events that were extended, in order.
    pub fn measured(&self) -> impl Iterator<Item = &Event<'_>> {
        self.events.iter().filter(|event| event.is_measured())
    }

    /// The locality that the TPM was started from (Platform Firmware Profile 1.06, section 10.4.5.3).
    fn locality(&self) -> Result<u8, Finding> {
        let mut found = None;
        let mut extended = false;
        for event in &self.events {
            extended |= event.is_measured() && event.pcr == 0;
            let Some(rest) = event.data.strip_prefix(STARTUP_LOCALITY) else {
                continue;
            };
            if event.kind != Kind::NO_ACTION {
                continue;
            }
            match rest {
                [locality @ (0 | 3 | 4)] if !extended && found.is_none() && event.pcr == 0 => {
                    found = Some(*locality);
                }
                _ => {
                    return Err(Finding::new(
                        "EVENTLOG-LOCALITY",
                        format!(
                            "{} says that the TPM started as it cannot have",
                            event.title()
                        ),
                    )
                    .expected("locality 0, 3 or 4, once, before anything is in PCR 0")
                    .observed(crypto::hex::encode(rest)));
                }
            }
        }
        Ok(found.unwrap_or(0))
    }
}

fn without(event: &Event<'_>, hash: Hash) -> Finding {
    Finding::new(
        "EVENTLOG-BANK",
        format!("{} has no digest of the {hash} bank", event.title()),
    )
    .expected(format!("a digest of {hash} for each event"))
    .next("enable the SHA-256 bank in the firmware's set-up")
}

fn start(hash: Hash, locality: u8, pcr: u32) -> Vec<u8> {
    let mut value = if DYNAMIC.contains(&pcr) {
        vec![0xff; hash.length()]
    } else {
        vec![0; hash.length()]
    };
    if pcr == 0
        && let Some(last) = value.last_mut()
    {
        *last = locality;
    }
    value
}

impl Format {
    /// For messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Legacy => "TCG_PCR_EVENT, SHA-1 alone",
            Self::CryptoAgile => "TCG_PCR_EVENT2",
        }
    }
}
