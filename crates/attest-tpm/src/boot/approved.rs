//! A boot that is as it should be.

use super::verify::Boot;
use std::collections::BTreeSet;

/// A boot that reference values allow, whole. Only [`judge`](super::judge) makes it.
#[derive(Debug, Clone)]
pub struct Approved<'a> {
    pub(super) boot: &'a Boot,
    labels: BTreeSet<String>,
    judged: BTreeSet<u32>,
    command_line: Option<String>,
}

impl<'a> Approved<'a> {
    pub(super) fn new(
        boot: &'a Boot,
        labels: BTreeSet<String>,
        judged: BTreeSet<u32>,
        command_line: Option<&str>,
    ) -> Self {
        Self {
            boot,
            labels,
            judged,
            command_line: boot
                .command_line()
                .or_else(|| command_line.map(str::to_owned)),
        }
    }

    #[must_use]
    pub const fn boot(&self) -> &'a Boot {
        self.boot
    }

    /// The labels of all reference values that matched.
    #[must_use]
    pub const fn labels(&self) -> &BTreeSet<String> {
        &self.labels
    }

    /// The PCRs that were judged: the others say nothing about whether the boot is good.
    #[must_use]
    pub const fn judged(&self) -> &BTreeSet<u32> {
        &self.judged
    }

    /// The kernel's command line: in the log, or the reference value that its digest is of.
    #[must_use]
    pub fn command_line(&self) -> Option<&str> {
        self.command_line.as_deref()
    }
}
