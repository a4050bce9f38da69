//! Compares a boot with reference values.
//!
//! Every measurement of a judged PCR has to be accounted for: one that is not understood, or that no
//! value allows, refuses the boot. There is no "one of them is good".

mod lists;
mod miss;
mod sections;
mod secure_boot;

use super::approved::Approved;
use super::references::{References, SecureBootRule};
use super::verify::Boot;
use crate::reference::Value;
use crypto::hex;
use facts::{Finding, Timestamp};
use miss::{Miss, Misses};

/// Judges `boot` at `now`.
///
/// # Errors
/// A finding for each fault: `BOOT-UNQUOTED`, `BOOT-UNJUDGED`, `BOOT-PCR`, `BOOT-SEPARATOR`,
/// `BOOT-EVENT`, `BOOT-IMAGE`, `BOOT-SECURE-BOOT`, `BOOT-AUTHORITY`, `BOOT-DBX`, `BOOT-SBAT`,
/// `BOOT-CMDLINE`, `BOOT-GRUB`, `BOOT-FILE`, `BOOT-SECTION`, `BOOT-MOK`. Each names the event and PCR,
/// what was expected, what was seen, the label that comes nearest, and what to run to allow it.
pub fn judge<'a>(
    boot: &'a Boot,
    references: &'a References,
    now: Timestamp,
) -> Result<Approved<'a>, Vec<Finding>> {
    let mut judge = Judge {
        boot,
        references,
        now,
        misses: Misses::new(now),
        command_line: None,
    };
    judge.coverage();
    judge.pinned();
    judge.separators();
    judge.images();
    judge.secure_boot();
    judge.sections();
    judge.command_lines();
    judge.files();
    judge.mok();
    let labels = judge.misses.labels();
    let command_line = judge.command_line.take();
    let findings = judge.misses.into_findings();
    if findings.is_empty() {
        let judged = References::JUDGED
            .into_iter()
            .chain(references.pcrs.keys().copied());
        let judged = judged
            .filter(|pcr| !references.unjudged.contains(pcr))
            .collect();
        Ok(Approved::new(boot, labels, judged, command_line))
    } else {
        Err(findings)
    }
}

/// What a rule says of the boot of a trust domain without knowing its digests: Secure Boot, dbx, shim's level, and
/// each command line that is seen. A program is told by SHA-384 there, and no value is.
pub(super) fn judge_domain(
    boot: &Boot<48>,
    references: &References,
    now: Timestamp,
) -> Vec<Finding> {
    let mut judge = Judge {
        boot,
        references,
        now,
        misses: Misses::new(now),
        command_line: None,
    };
    judge.policy();
    judge.seen_lines();
    judge.misses.into_findings()
}

struct Judge<'a, const N: usize = 32> {
    boot: &'a Boot<N>,
    references: &'a References,
    now: Timestamp,
    misses: Misses<'a>,
    /// The reference value that a digest of the command line turned out to be of.
    command_line: Option<&'a str>,
}

/// What the values of one kind say of something that was measured.
enum Sought<'a, T> {
    Found(&'a Value<T>),
    /// A value outside its window would have matched.
    Lapsed(&'a Value<T>),
    Absent,
}

impl<'a, const N: usize> Judge<'a, N> {
    /// The value that accepts; every label that does counts for the choice of what is nearest.
    fn seek<T>(&mut self, values: &'a [Value<T>], accepts: impl Fn(&T) -> bool) -> Sought<'a, T> {
        let mut found = None;
        let mut lapsed = None;
        for value in values.iter().filter(|value| accepts(&value.value)) {
            if value.window.holds(self.now) {
                self.misses.matched(value);
                found = found.or(Some(value));
            } else {
                lapsed = Some(value);
            }
        }
        match (found, lapsed) {
            (Some(value), _) => Sought::Found(value),
            (None, Some(value)) => Sought::Lapsed(value),
            (None, None) => Sought::Absent,
        }
    }

    /// A miss unless a value of `values` accepts.
    fn require<T>(
        &mut self,
        values: &'a [Value<T>],
        accepts: impl Fn(&T) -> bool,
        shown: impl Fn(&T) -> String,
        miss: Miss,
    ) -> Option<&'a Value<T>> {
        match self.seek(values, accepts) {
            Sought::Found(value) => return Some(value),
            Sought::Lapsed(value) => self.misses.lapsed(miss, value),
            Sought::Absent => self.misses.absent(miss, values, shown),
        }
        None
    }

    /// Whether `pcr` is to be judged by its events.
    fn is_open(&self, pcr: u32) -> bool {
        !self.references.unjudged.contains(&pcr)
    }
}

impl Judge<'_> {
    /// Whether `pcr` has values of its own.
    fn is_pinned(&self, pcr: u32) -> bool {
        self.references.pcrs.contains_key(&pcr)
    }

    /// Every PCR of code was quoted, and something speaks of what is in it.
    fn coverage(&mut self) {
        for pcr in References::JUDGED {
            if !self.is_open(pcr) {
                continue;
            }
            if self.boot.pcrs.value(pcr).is_none() {
                self.misses.push(
                    Finding::new(
                        "BOOT-UNQUOTED",
                        format!("nothing is known of PCR {pcr}: it was not quoted"),
                    )
                    .expected(format!("a quote of PCRs {:?}", References::JUDGED))
                    .next("add it to the PCRs that the server asks for, or list it as unjudged"),
                );
            } else if !self.is_pinned(pcr) && !self.has_list(pcr) && self.has_content(pcr) {
                let first = self.boot.of(pcr).find(|one| !self.boot.is_routine(one));
                let first = first.map(super::Measurement::title).unwrap_or_default();
                self.misses.push(
                    Finding::new(
                        "BOOT-UNJUDGED",
                        format!("no reference value speaks of PCR {pcr}, where {first} was measured"),
                    )
                    .expected(what_judges(pcr))
                    .observed("none")
                    .next(
                        "run trilith refs import with what this machine is to boot, or list the PCR \
                         as unjudged",
                    ),
                );
            }
        }
    }

    fn has_content(&self, pcr: u32) -> bool {
        self.boot.of(pcr).any(|one| !self.boot.is_routine(one))
    }

    fn has_list(&self, pcr: u32) -> bool {
        let references = self.references;
        match pcr {
            2 => !references.drivers.is_empty() || !references.images.is_empty(),
            4 => !references.images.is_empty(),
            7 => {
                references.secure_boot == SecureBootRule::Any || !references.authorities.is_empty()
            }
            8 => !references.command_lines.is_empty(),
            9 | 12 => !references.files.is_empty() || !references.command_lines.is_empty(),
            11 => !references.sections.is_empty(),
            13 => !references.files.is_empty(),
            // What is not allowed by a value has to be empty, so this is always judged.
            14 => true,
            _ => false,
        }
    }

    /// PCRs with values of their own have one of them.
    fn pinned(&mut self) {
        for (pcr, values) in &self.references.pcrs {
            let Some(value) = self.boot.pcrs.value(*pcr) else {
                self.misses.push(
                    Finding::new(
                        "BOOT-UNQUOTED",
                        format!("PCR {pcr} has reference values, and was not quoted"),
                    )
                    .next("add it to the PCRs that the server asks for"),
                );
                continue;
            };
            let events = self.boot.of(*pcr).count();
            let miss = Miss {
                code: "BOOT-PCR",
                message: format!("PCR {pcr}, of {events} events, has no value that is allowed"),
                observed: hex::encode(value),
                next: "look at its events with trilith attest explain; if they are to be allowed, run \
                       trilith refs import",
            };
            self.require(values, |one| one == value, |one| hex::encode(one), miss);
        }
    }

    /// Firmware ended its part in each of its PCRs.
    fn separators(&mut self) {
        for pcr in (0..8).filter(|pcr| self.boot.pcrs.value(*pcr).is_some()) {
            let ended = self
                .boot
                .of(pcr)
                .any(|one| one.meaning == super::Meaning::Boundary);
            if !ended {
                self.misses.push(
                    Finding::new("BOOT-SEPARATOR", format!("PCR {pcr} has no separator"))
                        .expected("EV_SEPARATOR of 0 or 0xffffffff before the boot loader")
                        .observed("none, or one that stands for an error")
                        .next("look for errors of the firmware, and start the machine again"),
                );
            }
        }
    }

    /// Whatever is in PCR 4 and PCR 2 is an image; and there is one.
    fn images(&mut self) {
        let references = self.references;
        let images: Vec<super::Image> = self.boot.images().collect();
        if images.is_empty() && !self.is_pinned(4) {
            self.misses.push(
                Finding::new(
                    "BOOT-IMAGE",
                    "no image was measured: what booted is unknown",
                )
                .expected("an image in PCR 4")
                .next("boot by UEFI, with the TPM enabled in the firmware's set-up"),
            );
        }
        for image in images {
            if !self.has_list(image.pcr) || !self.is_open(image.pcr) {
                continue;
            }
            if image.pcr == 2
                && let Sought::Found(_) = self.seek(&references.drivers, |one| *one == image.digest)
            {
                continue;
            }
            let noted = image.path.as_ref();
            let miss = Miss {
                code: "BOOT-IMAGE",
                message: format!(
                    "event {} (PCR {}): an image was started that is not among the reference values{}",
                    image.event,
                    image.pcr,
                    noted
                        .map(|path| format!(", noted as {path}"))
                        .unwrap_or_default(),
                ),
                observed: hex::encode(&image.digest),
                next: "if it is to be allowed, run trilith refs import with its package or file",
            };
            self.require(
                &references.images,
                |one| *one == image.digest,
                |one| hex::encode(one),
                miss,
            );
        }
    }
}

const fn what_judges(pcr: u32) -> &'static str {
    match pcr {
        2 => "drivers, or values of the PCR",
        4 => "images, or values of the PCR",
        7 => "authorities, or values of the PCR",
        8 => "command lines, or values of the PCR",
        9 | 12 => "files and command lines, or values of the PCR",
        11 => "sections, or values of the PCR",
        _ => "files, or values of the PCR",
    }
}
