//! Merkle trees of files: what one has, and giving one to a file (Linux,
//! Documentation/filesystems/fsverity.rst, `FS_IOC_ENABLE_VERITY`). From then on the file cannot be written to,
//! and the kernel checks each read of it.

use crate::process::Verity;
use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// `FS_VERITY_HASH_ALG_SHA256`
const SHA256: u32 = 1;
const BLOCK: u32 = 4_096;

/// A regular file that is to get a tree: it has to be opened for reading, and nobody may have it open for
/// writing then.
#[derive(Debug)]
pub struct Enabling(File);

impl Enabling {
    /// Opens `path`, whose last part is no link.
    ///
    /// # Errors
    /// The system's; `InvalidInput` for what is no regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let mut options = File::options();
        let file = options.read(true).custom_flags(flags).open(path)?;
        if !file.metadata()?.is_file() {
            let message = "it is no regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self(file))
    }

    /// # Errors
    /// The system's.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.size())
    }

    /// To be hashed.
    #[must_use]
    pub const fn file(&self) -> &File {
        &self.0
    }

    /// The digest that the kernel has of it; `None` without a tree.
    #[must_use]
    pub fn measure(&self) -> Option<Verity> {
        crate::process::measure_verity(&self.0)
    }

    /// Gives it a tree of SHA-256, blocks of 4096 bytes and no salt. The kernel reads the whole file.
    ///
    /// # Errors
    /// The system's: its file system has no such trees, or somebody has it open for writing.
    pub fn enable(&self) -> io::Result<()> {
        #[expect(unsafe_code, reason = "rustix has no FS_IOC_ENABLE_VERITY")]
        // SAFETY: `Enable` describes the call as the kernel defines it; it reads the structure and neither
        // keeps nor writes anything.
        match unsafe { ioctl(self.0.as_fd(), TREE) } {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The digest of the program that runs here; `None` without a tree.
#[must_use]
pub fn of_self() -> Option<Verity> {
    let file = File::open("/proc/self/exe").ok()?;
    crate::process::measure_verity(&file)
}

/// `struct fsverity_enable_arg`
#[derive(Clone, Copy)]
#[repr(C)]
struct Argument {
    version: u32,
    hash_algorithm: u32,
    block_size: u32,
    salt_size: u32,
    /// A pointer; none.
    salt: u64,
    signature_size: u32,
    reserved_1: u32,
    /// A pointer; none.
    signature: u64,
    reserved_2: [u64; 11],
}

struct Enable(Argument);

/// SHA-256, blocks of 4096 bytes, no salt, no signature.
const TREE: Enable = Enable(Argument {
    version: 1,
    hash_algorithm: SHA256,
    block_size: BLOCK,
    salt_size: 0,
    salt: 0,
    signature_size: 0,
    reserved_1: 0,
    signature: 0,
    reserved_2: [0; 11],
});

#[expect(unsafe_code, reason = "rustix has no FS_IOC_ENABLE_VERITY")]
// SAFETY: the number is `_IOW('f', 133, struct fsverity_enable_arg)`, and the pointer is to such a structure.
unsafe impl Ioctl for Enable {
    type Output = ();

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<Argument>(b'f', 133)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_has_the_kernels_number() {
        assert_eq!(TREE.opcode(), 0x4080_6685);
    }

    #[test]
    fn only_regular_files_get_a_tree() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, b"1").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(Enabling::open(&link).is_err(), "a link");
        assert!(Enabling::open(folder.path()).is_err(), "a folder");
        assert!(Enabling::open(Path::new("/dev/null")).is_err(), "a device");
        let open = Enabling::open(&file).unwrap();
        assert_eq!((open.size().unwrap(), open.measure()), (1, None));
    }
}
