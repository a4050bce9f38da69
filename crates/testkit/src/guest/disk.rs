//! Disks of a guest, written without root: the EFI system partition, and ext4 for programs.

use super::GuestError;
use super::run::{at, output, program};
use std::fs::File;
use std::path::Path;

/// A FAT32 file system with these files, each with the path that it gets, as `/EFI/BOOT/BOOTX64.EFI`.
///
/// # Errors
/// When `mkfs.vfat` or mtools fail.
pub fn efi(path: &Path, mebibytes: u64, files: &[(&str, &Path)]) -> Result<(), GuestError> {
    empty(path, mebibytes)?;
    output(program("mkfs.vfat")?.args(["-F", "32"]).arg(path))?;
    let mut folders: Vec<&str> = Vec::new();
    for (name, _) in files {
        let parents = Path::new(name).ancestors().skip(1);
        let parents = parents.filter_map(Path::to_str).filter(|path| *path != "/");
        folders.extend(parents);
    }
    folders.sort_unstable();
    folders.dedup();
    for folder in folders {
        let folder = format!("::{folder}");
        output(program("mmd")?.arg("-i").arg(path).arg(folder))?;
    }
    for (name, file) in files {
        let name = format!("::{name}");
        output(program("mcopy")?.arg("-i").arg(path).arg(file).arg(name))?;
    }
    Ok(())
}

/// An ext4 file system that can hold fs-verity files, with what is in `folder`.
///
/// # Errors
/// When `mkfs.ext4` fails.
pub fn ext4(path: &Path, mebibytes: u64, folder: &Path) -> Result<(), GuestError> {
    empty(path, mebibytes)?;
    // Kernels before 6.3 take fs-verity with blocks of a page only.
    let options = [
        "-q",
        "-F",
        "-O",
        "verity",
        "-b",
        "4096",
        "-E",
        "root_owner=0:0",
        "-d",
    ];
    output(program("mkfs.ext4")?.args(options).arg(folder).arg(path)).map(drop)
}

fn empty(path: &Path, mebibytes: u64) -> Result<(), GuestError> {
    File::create(path)
        .and_then(|file| file.set_len(mebibytes << 20))
        .map_err(|source| at(path, source))
}
