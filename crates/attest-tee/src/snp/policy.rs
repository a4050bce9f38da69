//! How a guest may be run: the bits of its policy and of its platform, and who in it may ask.

use super::report::Report;
use crate::allow;
use attest::Findings;
use facts::Finding;

/// What the owner asks of a guest's policy and platform. Debugging is never accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Bits of `POLICY` that must not be set. Default: a migration agent and CXL, each of which gives
    /// the guest's memory to something that the report does not describe.
    pub forbidden: u64,
    /// Bits of `POLICY` that must be set. Default: none.
    pub required: u64,
    /// Bits of `PLATFORM_INFO` that must be set. Default: none; older firmware knows few of them.
    pub platform: u64,
    /// The least privileged level that may ask. Default 0: what else runs in the guest, a paravisor
    /// excepted, does not speak for it.
    pub vmpl: u32,
}

impl Policy {
    /// Simultaneous multithreading is allowed.
    pub const SMT: u64 = 1 << 16;
    /// A migration agent may be associated.
    pub const MIGRATION: u64 = 1 << 18;
    /// The host may read and write the guest's memory.
    pub const DEBUG: u64 = 1 << 19;
    pub const SINGLE_SOCKET: u64 = 1 << 20;
    pub const CXL: u64 = 1 << 21;
    pub const AES_256_XTS: u64 = 1 << 22;
    pub const RAPL_DISABLED: u64 = 1 << 23;
    pub const CIPHERTEXT_HIDING: u64 = 1 << 24;
    pub const PAGE_SWAP_DISABLED: u64 = 1 << 25;
    /// Has to be set (ABI, table 9).
    const RESERVED_ONE: u64 = 1 << 17;

    /// `PLATFORM_INFO`: memory encryption for the host as well, error correction, and the check for
    /// aliased memory that stops `BadRAM`.
    pub const PLATFORM_TSME: u64 = 1 << 1;
    pub const PLATFORM_ECC: u64 = 1 << 2;
    pub const PLATFORM_RAPL_DISABLED: u64 = 1 << 3;
    pub const PLATFORM_CIPHERTEXT_HIDING: u64 = 1 << 4;
    pub const PLATFORM_ALIAS_CHECKED: u64 = 1 << 5;

    pub(super) fn check(&self, report: &Report, findings: &mut Findings) {
        let policy = report.guest_policy;
        findings.check(policy & Self::DEBUG == 0, || {
            Finding::new(
                "TEE-SNP-DEBUG",
                "the guest's policy allows debugging by its host",
            )
            .expected("POLICY.DEBUG = 0")
            .observed(format!("{policy:#x}"))
            .next("launch the guest without the debug bit; nothing in an estate allows it")
        });
        let forbidden = policy & self.forbidden & !Self::DEBUG;
        let missing = (self.required | Self::RESERVED_ONE) & !policy;
        findings.check(forbidden == 0 && missing == 0, || {
            Finding::new(
                "TEE-SNP-POLICY",
                "the guest's policy is not one that is accepted",
            )
            .expected(format!(
                "bits {:#x} set, bits {:#x} not",
                self.required | Self::RESERVED_ONE,
                self.forbidden
            ))
            .observed(format!("{policy:#x}"))
            .next(allow::policy(forbidden, missing))
        });
        let info = report.platform_info;
        findings.check(self.platform & !info == 0, || {
            Finding::new(
                "TEE-SNP-PLATFORM",
                "the host is not configured as the references ask",
            )
            .expected(format!("PLATFORM_INFO bits {:#x} set", self.platform))
            .observed(format!("{info:#x}"))
            .next(allow::platform(self.platform & !info))
        });
        findings.check(report.vmpl <= self.vmpl.min(3), || {
            Finding::new(
                "TEE-SNP-VMPL",
                "the report was asked for by something that does not speak for the guest",
            )
            .expected(format!("VMPL {} or less", self.vmpl.min(3)))
            .observed(report.vmpl.to_string())
            .next(format!(
                "ask from the most privileged level of the guest{}",
                match report.vmpl {
                    level @ 1..=3 => format!(
                        ", or say `vmpl = {level}` in [tee.policy] of the estate's [[tee]], if what runs there \
                         speaks for the guest"
                    ),
                    _ => String::new(),
                }
            ))
        });
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            forbidden: Self::MIGRATION | Self::CXL,
            required: 0,
            platform: 0,
            vmpl: 0,
        }
    }
}
