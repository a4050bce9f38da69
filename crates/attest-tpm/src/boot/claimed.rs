//! What a log says of a boot that nobody quoted: for people who look at a machine before it is enrolled.

use super::chain::{Loader, Mok, Piece};
use super::judge::judge;
use super::measurement::Measurement;
use super::references::References;
use super::secure_boot::Authority;
use super::verify::{Boot, verify};
use crate::eventlog::Log;
use crate::pcr::QuotedPcrs;
use crypto::Hash;
use facts::{Finding, Timestamp};
use std::collections::BTreeMap;

/// A log and the values that it amounts to, or that somebody read out of a chip. No signature stands behind
/// them: it cannot be judged, and gives no facts.
#[derive(Debug, Clone)]
pub struct Claimed(Boot);

impl Claimed {
    /// Reads `log`, and compares it with `pcrs` where they are given.
    ///
    /// # Errors
    /// As [`verify`].
    pub fn read(
        log: &Log<'_>,
        pcrs: Option<&BTreeMap<u32, [u8; 32]>>,
    ) -> Result<Self, Vec<Finding>> {
        let values = match pcrs {
            Some(pcrs) => pcrs.clone(),
            None => replayed(log).map_err(|finding| vec![finding])?,
        };
        verify(log, &QuotedPcrs::claimed(values)).map(Self)
    }

    /// In the order of the log.
    #[must_use]
    pub fn measurements(&self) -> &[Measurement] {
        self.0.measurements()
    }

    /// The words by which systemd has gone on in PCR 11, if the values were read after it did.
    #[must_use]
    pub fn phases(&self) -> &[&'static str] {
        self.0.phases()
    }

    /// As somebody said, or as the log amounts to.
    #[must_use]
    pub fn value(&self, pcr: u32) -> Option<&[u8; 32]> {
        self.0.pcrs().value(pcr)
    }

    /// What of it `references` do not allow: nothing, if they allow all. That approves nothing.
    #[must_use]
    pub fn faults(&self, references: &References, now: Timestamp) -> Vec<Finding> {
        judge(&self.0, references, now).err().unwrap_or_default()
    }

    /// As [`Boot::authorities`].
    #[must_use]
    pub fn authorities(&self) -> &[Authority] {
        self.0.authorities()
    }

    #[must_use]
    pub fn outline(&self) -> Outline {
        self.0.outline()
    }
}

/// A boot in short, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    pub loader: Loader,
    pub shim: bool,
    /// Or why it is not known.
    pub secure_boot: Result<bool, String>,
    /// The version that firmware measured of itself.
    pub firmware: Option<String>,
    /// shim's revocation level, as text.
    pub sbat: Option<String>,
    pub mok: Option<Mok>,
    pub kernel: Option<Piece>,
    pub initrd: Option<Piece>,
    /// If the log has exactly one, in plain text.
    pub command_line: Option<String>,
}

impl Boot {
    #[must_use]
    pub fn outline(&self) -> Outline {
        Outline {
            loader: self.loader(),
            shim: self.has_shim(),
            secure_boot: match self.secure_boot() {
                Ok(policy) => Ok(policy.enabled),
                Err(unknown) => Err(unknown.to_string()),
            },
            firmware: self.firmware(),
            sbat: self.sbat().map(str::to_owned),
            mok: self.mok(),
            kernel: self.kernel(),
            initrd: self.initrd(),
            command_line: self.command_line(),
        }
    }
}

/// Every PCR, by its events.
fn replayed(log: &Log<'_>) -> Result<BTreeMap<u32, [u8; 32]>, Finding> {
    if !log.has(Hash::Sha256) {
        // Which `verify` says.
        return Ok(BTreeMap::new());
    }
    let replay = log.replay(Hash::Sha256)?;
    let values = (0..24).filter_map(|pcr| Some((pcr, *replay.value(pcr).as_array::<32>()?)));
    Ok(values.collect())
}
