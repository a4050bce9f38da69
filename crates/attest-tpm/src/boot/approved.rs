//! A boot that is as it should be.

use super::verify::Boot;
use std::collections::BTreeSet;

const IMAGES: u32 = 4;
const FILES: u32 = 9;
const SECTIONS: u32 = 11;
/// What goes to the kernel beside the files of PCR 9: GRUB's lines, sections, options and credentials,
/// extensions.
const BESIDE_FILES: [u32; 4] = [8, 11, 12, 13];

/// A boot that reference values allow, in what they speak of. Only [`judge`](super::judge) makes it.
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

    /// Whether every program that was started is one that reference values allow: then what those programs
    /// measured is worth something.
    pub(super) fn has_good_images(&self) -> bool {
        self.judged.contains(&IMAGES) && self.boot.images().all(|image| self.is_judged(image.pcr))
    }

    /// Whether what good programs measured into all of `pcrs` was judged. One that is empty hides nothing.
    pub(super) fn vouches_for(&self, pcrs: &[u32]) -> bool {
        self.has_good_images() && pcrs.iter().all(|pcr| self.is_clear(*pcr))
    }

    /// Whether the boot is told from every other one: the programs, and what they gave to the kernel. Of a
    /// unified image PCR 9 holds again what its sections hold.
    pub(super) fn is_pinned(&self) -> bool {
        let unified = self.is_judged(SECTIONS) && self.boot.sections().next().is_some();
        let by_files = self.is_judged(FILES) && self.boot.of(FILES).next().is_some();
        self.vouches_for(&BESIDE_FILES) && (unified || by_files)
    }

    fn is_judged(&self, pcr: u32) -> bool {
        self.judged.contains(&pcr)
    }

    /// Judged, or known to be empty.
    fn is_clear(&self, pcr: u32) -> bool {
        let is_empty = self.boot.pcrs.value(pcr) == Some(&[0; 32]);
        self.is_judged(pcr) || is_empty && self.boot.of(pcr).next().is_none()
    }

    /// The kernel's command line: in the log, or the reference value that its digest is of.
    #[must_use]
    pub fn command_line(&self) -> Option<&str> {
        self.command_line.as_deref()
    }
}
