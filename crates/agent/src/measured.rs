//! The kernel's list of what it measured (IMA), as far as this machine has one and the agent may read it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

const KERNEL: &str = "/sys/kernel/security/ima/binary_runtime_measurements";
/// Beside the list; its own length says nothing.
const COUNT: &str = "runtime_measurements_count";

#[derive(Debug, Clone)]
pub(crate) struct List(PathBuf);

impl List {
    /// The list that is named; else the kernel's, for a chip that the kernel itself measures into.
    pub(crate) fn of(tpm: &str, named: Option<&Path>) -> Option<Self> {
        match named {
            Some(path) => Some(Self(path.to_owned())),
            None if tpm.starts_with("device:") => Some(Self(KERNEL.into())),
            None => None,
        }
    }

    /// The whole of it; empty where there is none, or none that the agent may read. Blocks.
    pub(crate) fn read(&self) -> Vec<u8> {
        match self.try_read() {
            Ok(list) => list,
            Err(error) => {
                tracing::warn!(%error, path = %self.0.display(), "the IMA list is not sent");
                Vec::new()
            }
        }
    }

    fn try_read(&self) -> io::Result<Vec<u8>> {
        let most = attest_tpm::ima::LONGEST;
        let mut list = Vec::new();
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        File::open(&self.0)?.take(limit).read_to_end(&mut list)?;
        if list.len() > most {
            return Err(io::Error::other("it is longer than 32 MiB"));
        }
        Ok(list)
    }

    /// What changes when the list grows: the kernel's count, or the length of an ordinary file. Blocks.
    pub(crate) fn mark(&self) -> Option<u64> {
        match std::fs::read_to_string(self.0.with_file_name(COUNT)) {
            Ok(count) => count.trim().parse().ok(),
            Err(_) => std::fs::metadata(&self.0).ok().map(|file| file.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_grows_has_another_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let list = List::of("swtpm:/x", Some(&path)).unwrap();
        assert!(list.read().is_empty() && list.mark().is_none());
        std::fs::write(&path, b"12").unwrap();
        assert_eq!((list.read().len(), list.mark()), (2, Some(2)));
        // The kernel's own files have no length.
        std::fs::write(folder.path().join(COUNT), "7\n").unwrap();
        assert_eq!(list.mark(), Some(7));
    }

    #[test]
    fn the_kernels_list_is_of_no_use_for_an_emulator() {
        assert!(List::of("swtpm:/x", None).is_none());
        assert!(List::of("device:/dev/tpmrm0", None).is_some());
    }
}
