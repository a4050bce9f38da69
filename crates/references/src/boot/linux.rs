//! What the kernel's own EFI stub measures, and what boot loaders measure of its command line.

use crate::Digest;
use crate::bytes::utf16;
use crate::generation::PcrValue;
use crate::pcr::Pcr;

/// A kernel that is started as an EFI program: Linux from 5.17 measures its load options, from 5.15 the
/// initrd that comes by `LoadFile2`, both into PCR 9 (drivers/firmware/efi/libstub).
#[derive(Debug, Clone)]
pub struct EfiStub<'a> {
    /// Without a terminating zero.
    pub cmdline: &'a str,
    /// SHA-256 of all initrds, one behind the other.
    pub initrd: Option<Digest>,
}

impl EfiStub<'_> {
    /// PCR 9. The load options are measured as they are handed over: UTF-16 with its terminating zero.
    #[must_use]
    pub fn pcr9(&self) -> PcrValue {
        let pcr = Pcr::new(9).measure("command line", &utf16(self.cmdline));
        match self.initrd {
            Some(initrd) => pcr.extend("initrd", initrd),
            None => pcr,
        }
        .finish()
    }
}

/// PCR 12: command lines that systemd-boot and systemd-stub take from outside of the image, in the order
/// in which they measure them; each as UTF-16 with its terminating zero.
#[must_use]
pub fn kernel_parameters(cmdlines: &[&str]) -> PcrValue {
    let mut pcr = Pcr::new(12);
    for cmdline in cmdlines {
        pcr = pcr.measure("command line", &utf16(cmdline));
    }
    pcr.finish()
}
