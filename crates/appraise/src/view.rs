//! One way to look at a boot, whether a quote stands behind it or not. Only for reading.

use attest_tpm::boot::{Authority, Boot, Claimed, Measurement, Outline, References, judge};
use facts::{Finding, Timestamp};
use std::collections::BTreeMap;

#[derive(Debug, Clone, Copy)]
enum Of<'a> {
    Quoted(&'a Boot),
    Claimed(&'a Claimed),
}

/// What was measured, and the values that it amounts to.
#[derive(Debug, Clone)]
pub struct View<'a> {
    of: Of<'a>,
    pub(crate) measurements: &'a [Measurement],
    pub(crate) phases: &'a [&'static str],
}

impl<'a> View<'a> {
    /// Whether a TPM's signature stands behind the values.
    #[must_use]
    pub const fn is_quoted(&self) -> bool {
        matches!(self.of, Of::Quoted(_))
    }

    pub(crate) fn value(&self, pcr: u32) -> Option<[u8; 32]> {
        match self.of {
            Of::Quoted(boot) => boot.pcrs().value(pcr).copied(),
            Of::Claimed(claimed) => claimed.value(pcr).copied(),
        }
    }

    pub(crate) fn values(&self) -> BTreeMap<u32, [u8; 32]> {
        let values = (0..24).filter_map(|pcr| Some((pcr, self.value(pcr)?)));
        values.collect()
    }

    pub(crate) fn authorities(&self) -> &'a [Authority] {
        match self.of {
            Of::Quoted(boot) => boot.authorities(),
            Of::Claimed(claimed) => claimed.authorities(),
        }
    }

    /// What of it `references` do not allow.
    pub(crate) fn faults(&self, references: &References, now: Timestamp) -> Vec<Finding> {
        match self.of {
            Of::Quoted(boot) => judge(boot, references, now).err().unwrap_or_default(),
            Of::Claimed(claimed) => claimed.faults(references, now),
        }
    }

    pub(crate) fn outline(&self) -> Outline {
        match self.of {
            Of::Quoted(boot) => boot.outline(),
            Of::Claimed(claimed) => claimed.outline(),
        }
    }
}

impl<'a> From<&'a Boot> for View<'a> {
    fn from(boot: &'a Boot) -> Self {
        Self {
            of: Of::Quoted(boot),
            measurements: boot.measurements(),
            phases: boot.phases(),
        }
    }
}

impl<'a> From<&'a Claimed> for View<'a> {
    fn from(claimed: &'a Claimed) -> Self {
        Self {
            of: Of::Claimed(claimed),
            measurements: claimed.measurements(),
            phases: claimed.phases(),
        }
    }
}
