//! Where a boot is measured: into the PCRs of a TPM, or into the registers of a trust domain, which hold several
//! PCRs each.
//!
//! A trust domain's log numbers the registers as UEFI 2.10 does (section 38.4.1): 1 is RTMR 0 with PCR 1 and 7,
//! 2 is RTMR 1 with PCR 2 to 6, 3 is RTMR 2 with PCR 8 to 15, 4 is RTMR 3. Register 0 is MRTD, which no event
//! extends.

/// Which register has what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Those below are firmware's, and shim's.
    pub(super) loaders: u32,
    /// Secure Boot.
    pub(super) policy: u32,
    /// Where firmware measures applications, and drivers of add-in cards. Some clouds measure the applications of
    /// a disk into the latter.
    pub(super) images: &'static [u32],
    /// GRUB's lines.
    pub(super) lines: u32,
    pub(super) files: u32,
    pub(super) sections: u32,
    /// Options in clear, by systemd's boot loader and stub.
    pub(super) options: u32,
    /// shim's lists, where nothing else is.
    pub(super) mok: Option<u32>,
    /// Each of these holds several PCRs, so that more stands beside what is sought.
    pub(super) shared: bool,
}

/// PC Client Platform Firmware Profile 1.06, section 3.3.4.
pub(super) const CHIP: Layout = Layout {
    loaders: 8,
    policy: 7,
    images: &[4, 2],
    lines: 8,
    files: 9,
    sections: 11,
    options: 12,
    mok: Some(14),
    shared: false,
};

pub(super) const DOMAIN: Layout = Layout {
    loaders: 3,
    policy: 1,
    images: &[2],
    lines: 3,
    files: 3,
    sections: 3,
    options: 3,
    mok: None,
    shared: true,
};

impl Layout {
    /// What the register for Secure Boot is called.
    pub(super) const fn policy_name(&self) -> &'static str {
        if self.shared { "RTMR 0" } else { "PCR 7" }
    }
}
