//! Real guests for tests: Debian kernels under OVMF with Secure Boot and swtpm, in QEMU's software emulation.
//!
//! [`Lab::find`] says what is missing here. A test makes the pieces of a boot from it ([`Owner`], [`Kernel`],
//! [`Initramfs`], [`uki`], [`disk`], [`firmware`]) and runs a [`Guest`], which obeys commands on a serial
//! line. Nothing needs root, and nothing outside of a guest is emulated away: what joins is the static node
//! agent, over the guest's own network.

pub mod cpio;
pub mod disk;
pub mod firmware;
mod initramfs;
mod kernel;
mod machine;
mod owner;
mod run;
pub mod uki;

pub use initramfs::Initramfs;
pub use kernel::Kernel;
pub use machine::{Guest, HOST, Plan, Ran};
pub use owner::Owner;
pub use run::GuestError;

use crate::find;
use std::path::PathBuf;

/// Where Debian's packages put what boots.
const OVMF: &str = "/usr/share/OVMF";
const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const PROGRAMS: [&str; 17] = [
    "dpkg-deb",
    "fsverity",
    "ldd",
    "mcopy",
    "mkfs.ext4",
    "mkfs.vfat",
    "mmd",
    "objcopy",
    "openssl",
    "qemu-system-x86_64",
    "sbsign",
    "setpriv",
    "swtpm",
    "swtpm_localca",
    "swtpm_setup",
    "xz",
    "zstd",
];

/// What boots are made with, all of it found.
#[derive(Debug, Clone)]
pub struct Lab {
    /// `trilith-agent` as `cargo xtask agent-static` builds it.
    pub agent: PathBuf,
    pub busybox: PathBuf,
}

impl Lab {
    /// # Errors
    /// The first thing that is missing, for [`crate::skip`].
    pub fn find() -> Result<Self, String> {
        find::tools(PROGRAMS)?;
        for (file, package) in [
            (format!("{OVMF}/OVMF_CODE_4M.secboot.fd"), "ovmf"),
            (format!("{OVMF}/OVMF_VARS_4M.fd"), "ovmf"),
            (STUB.to_owned(), "systemd-boot-efi"),
        ] {
            if !PathBuf::from(&file).is_file() {
                return Err(format!("no {file}: {package} is not installed"));
            }
        }
        let [busybox] = find::tools(["busybox"])?;
        let agent = find::static_agent("guest")
            .ok_or("no static agent; run cargo xtask agent-static --profile guest")?;
        Ok(Self { agent, busybox })
    }
}

/// Says what a boot did, past the capture of the test harness.
pub fn report(line: &str) {
    use std::io::Write as _;
    // Nobody is left to tell when stderr is closed; the test says what matters.
    let _closed = std::io::stderr().write_all(format!("GUEST {line}\n").as_bytes());
}
