//! Unified kernel images on Debian's systemd-stub, put together by `objcopy` and signed by their owner.

use super::run::{output, program, write};
use super::{GuestError, Kernel, Owner, STUB};
use std::path::Path;

/// Address of each section in the image, with room between them for what they hold.
const OSREL: (&str, &str) = (".osrel", "0x20000");
const CMDLINE: (&str, &str) = (".cmdline", "0x30000");
const LINUX: (&str, &str) = (".linux", "0x2000000");
const INITRD: (&str, &str) = (".initrd", "0x4000000");

/// Writes a signed image of `kernel`, `initrd` and `cmdline` to `path`.
///
/// # Errors
/// When `objcopy` or `sbsign` fail.
pub fn make(
    kernel: &Kernel,
    initrd: &Path,
    cmdline: &str,
    owner: &Owner,
    path: &Path,
) -> Result<(), GuestError> {
    let beside = |name: &str| path.with_extension(name);
    write(
        &beside("osrel"),
        b"ID=trilith-test\nPRETTY_NAME=\"Trilith test guest\"\nVERSION_ID=1\n",
    )?;
    write(&beside("cmdline"), cmdline.as_bytes())?;
    let mut objcopy = program("objcopy")?;
    for ((section, address), file) in [
        (OSREL, beside("osrel")),
        (CMDLINE, beside("cmdline")),
        (LINUX, kernel.image()),
        (INITRD, initrd.to_owned()),
    ] {
        objcopy
            .arg("--add-section")
            .arg(format!("{section}={}", file.display()))
            .arg("--change-section-vma")
            .arg(format!("{section}={address}"));
    }
    output(objcopy.arg(STUB).arg(beside("unsigned")))?;
    owner.sign(&beside("unsigned"), path)
}
