//! What a chip counts for itself, and signs with each quote: time, boots, the version of its firmware. A later
//! quote of the same chip counts no less.
//!
//! Whether the chip is the same, and what was seen of it before, is for the caller. That it counts fewer boots
//! is the server's to say: see [`Boot`].

use crate::attested::{Attested, Clock};
use crate::join::Boot;
use crate::quote::Quoted;
use attest::Findings;
use facts::Finding;

/// What one quote counts, or a certification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub clock: Clock,
    /// As the chip's maker numbers it: of one chip a later version is a higher number.
    pub firmware: u64,
}

impl From<&Quoted> for Counted {
    fn from(quoted: &Quoted) -> Self {
        Self {
            clock: quoted.clock,
            firmware: quoted.firmware,
        }
    }
}

impl From<&Attested> for Counted {
    fn from(attested: &Attested) -> Self {
        Self {
            clock: attested.clock,
            firmware: attested.firmware,
        }
    }
}

impl Counted {
    /// Whether `finding` is one of [`Self::since`]'s.
    #[must_use]
    pub fn is_back(finding: &Finding) -> bool {
        matches!(&*finding.code, "TPM-CLOCK-BACK" | "TPM-FIRMWARE-BACK")
    }

    /// What went back since `before`, which the same chip signed earlier.
    ///
    /// `TPM-CLOCK-BACK`: in one boot the clock only goes forward, whatever `safe` says. From one boot to another
    /// it is not compared: after a power cut it goes on from where it was last written, and emulators have been
    /// seen to call it safe (Part 2, section 10.11.1) while it shows less than before.
    ///
    /// `TPM-FIRMWARE-BACK`: the version of the firmware is lower.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<Finding> {
        let (boot, last) = (Boot::from(self.clock), Boot::from(before.clock));
        let back = boot == last && self.clock.clock < before.clock.clock;
        let mut findings = Findings::new();
        findings.check(!back, || {
            Finding::new("TPM-CLOCK-BACK", "the TPM's clock has gone back")
                .expected(format!("at least {} ms", before.clock.clock))
                .observed(format!("{} ms", self.clock.clock))
                .next(
                    "find out who cleared the TPM, or restored it from a copy: of a virtual machine, a snapshot",
                )
        });
        findings.check(self.firmware >= before.firmware, || {
            Finding::new(
                "TPM-FIRMWARE-BACK",
                "the TPM runs older firmware than it did before",
            )
            .expected(format!("at least {:016x}", before.firmware))
            .observed(format!("{:016x}", self.firmware))
            .next("install the newer firmware again, or readmit the machine if the older one was meant")
        });
        findings.into_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Counted = Counted {
        clock: Clock {
            clock: 5_000,
            reset_count: 7,
            restart_count: 1,
            safe: true,
        },
        firmware: 0x0007_0002_0000_0001,
    };

    /// Clock, resets, restarts, `safe`, firmware.
    fn codes(clock: u64, boot: (u32, u32), safe: bool, firmware: u64) -> Vec<String> {
        let now = Counted {
            clock: Clock {
                clock,
                reset_count: boot.0,
                restart_count: boot.1,
                safe,
            },
            firmware,
        };
        let findings = now.since(&BEFORE);
        assert!(findings.iter().all(Counted::is_back));
        findings.into_iter().map(|one| one.code.into()).collect()
    }

    #[test]
    fn in_one_boot_the_clock_only_goes_forward_whatever_the_chip_calls_safe() {
        for safe in [true, false] {
            assert!(codes(5_000, (7, 1), safe, BEFORE.firmware).is_empty());
            let back = codes(4_999, (7, 1), safe, BEFORE.firmware);
            assert_eq!(back, ["TPM-CLOCK-BACK"]);
        }
    }

    #[test]
    fn after_a_power_cut_the_clock_may_come_back() {
        for later in [(7, 2), (8, 0)] {
            for safe in [true, false] {
                assert!(codes(10, later, safe, BEFORE.firmware).is_empty());
            }
        }
        // Fewer boots are refused as such.
        assert!(codes(10, (0, 0), true, BEFORE.firmware).is_empty());
    }

    #[test]
    fn firmware_goes_forward_alone() {
        assert!(codes(6_000, (8, 0), true, BEFORE.firmware + 1).is_empty());
        let older = codes(6_000, (8, 0), true, BEFORE.firmware - 1);
        assert_eq!(older, ["TPM-FIRMWARE-BACK"]);
    }
}
