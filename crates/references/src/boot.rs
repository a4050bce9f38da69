//! What booting a chain of images gives: PCR 4, 9, 11, 12 and 14, and the events that lead there.
//!
//! PCR 7 is in [`crate::uefi`]; it depends on the machine's keys more than on the images.
//! Not predicted are PCR 0 to 3, 5 and 6, which the firmware's vendor alone knows, and PCR 8, into which
//! GRUB measures each command that it happens to run.

mod linux;
mod shim;
mod uki;

pub use linux::{EfiStub, kernel_parameters};
pub use shim::{SHIM_VENDOR, SbatLevel, Shim};
pub use uki::{Phase, Uki, sections_pcr11};

use crate::Digest;
use crate::generation::PcrValue;
use crate::pcr::{CALLING, Pcr};

/// PCR 4 of a boot option whose first image has the Authenticode digest `first`, and starts `then`, each
/// measured as often as it stands there.
///
/// Firmware that tries other boot options first, or runs drivers from PCI cards, measures more; such a
/// machine's PCR 4 is not this one.
#[must_use]
pub fn boot_loader(first: (&str, Digest), then: &[(&str, Digest)]) -> PcrValue {
    let mut pcr = Pcr::new(4)
        .measure(CALLING, CALLING.as_bytes())
        .separator()
        .extend(first.0, first.1);
    for (what, digest) in then {
        pcr = pcr.extend(*what, *digest);
    }
    pcr.finish()
}

/// PCR 4 of shim, GRUB and a kernel as Debian signs them.
///
/// GRUB 2.06 has the kernel measured twice: by shim's verification, and by `LoadImage`.
#[must_use]
pub fn shim_grub_linux(shim: Digest, grub: Digest, kernel: Digest) -> PcrValue {
    boot_loader(
        ("shim", shim),
        &[
            ("grub", grub),
            ("kernel", kernel),
            ("kernel, loaded", kernel),
        ],
    )
}

/// PCR 9 of a boot through GRUB: every file that GRUB opens, in order, by the SHA-256 of its content.
#[must_use]
pub fn grub_files(files: &[(&str, Digest)]) -> PcrValue {
    let mut pcr = Pcr::new(9);
    for (path, digest) in files {
        pcr = pcr.extend(*path, *digest);
    }
    pcr.finish()
}
