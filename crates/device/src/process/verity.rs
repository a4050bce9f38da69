//! The fs-verity digest of an open file: what the kernel itself checks each read against
//! (Linux, Documentation/filesystems/fsverity.rst, `FS_IOC_MEASURE_VERITY`).

use rustix::fd::AsFd;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl, opcode};
use std::ffi::c_void;

/// A digest as the kernel gives it; at most 64 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// `FS_VERITY_HASH_ALG_…`: 1 is SHA-256, 2 SHA-512.
    pub algorithm: u16,
    pub digest: Vec<u8>,
}

/// The digest of `file`, opened for reading; `None` if it has no Merkle tree, or its file system knows none.
/// Takes as long for a large file as for a small one: nothing is read.
pub(crate) fn measure(file: impl AsFd) -> Option<Verity> {
    let asked = Measure(Answer {
        algorithm: 0,
        size: LARGEST,
        digest: [0; LARGEST as usize],
    });
    #[expect(unsafe_code, reason = "rustix has no FS_IOC_MEASURE_VERITY")]
    // SAFETY: `Measure` describes the call as the kernel defines it; the kernel writes at most `size` bytes
    // behind the header, and there are as many.
    let answer = unsafe { ioctl(file, asked) }.ok()?;
    let digest = answer.digest.get(..usize::from(answer.size))?;
    Some(Verity {
        algorithm: answer.algorithm,
        digest: digest.to_vec(),
    })
}

const LARGEST: u16 = 64;

/// `struct fsverity_digest`, whose last member has no fixed length.
#[derive(Clone, Copy)]
#[repr(C)]
struct Answer {
    algorithm: u16,
    /// In: the room for the digest; out: its length.
    size: u16,
    digest: [u8; LARGEST as usize],
}

/// What the kernel counts of it in the call's number.
#[repr(C)]
struct Header {
    algorithm: u16,
    size: u16,
}

struct Measure(Answer);

#[expect(unsafe_code, reason = "rustix has no FS_IOC_MEASURE_VERITY")]
// SAFETY: the number is `_IOWR('f', 134, struct fsverity_digest)`, and the pointer is to such a struct with
// `size` bytes of room behind its header.
unsafe impl Ioctl for Measure {
    type Output = Answer;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<Header>(b'f', 134)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.0).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, answer: *mut c_void) -> rustix::io::Result<Answer> {
        // SAFETY: it is what `as_ptr` gave.
        Ok(unsafe { *answer.cast::<Answer>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_has_the_kernels_number() {
        let asked = Measure(Answer {
            algorithm: 0,
            size: LARGEST,
            digest: [0; LARGEST as usize],
        });
        assert_eq!(asked.opcode(), 0xc004_6686);
    }

    #[test]
    fn a_file_without_a_tree_has_no_digest() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(measure(&file), None);
    }
}
