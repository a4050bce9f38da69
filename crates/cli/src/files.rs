//! Files that the user named: read within a limit, written whole or not at all.

use crate::Failure;
use facts::Finding;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// The bytes of a regular file, or of what comes through a pipe, which may be `/dev/stdin`. `None`: there
/// are more than `limit`. Devices, which may have no end or act when they are opened, are not opened.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, Failure> {
    let unreadable = |error: std::io::Error| Failure::unreadable(path, &error);
    let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
    if !kind.is_file() && !kind.is_fifo() {
        return Err(Finding::new(
            "CLI-FILE-KIND",
            format!("{} is neither a file nor a pipe", path.display()),
        )
        .expected("a regular file, or a pipe such as /dev/stdin")
        .next("name the file itself")
        .into());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(unreadable)?
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let within = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    Ok(within.then_some(bytes))
}

/// The file is there whole or not at all.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |error| unwritable(path, &error);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// A file or folder that was named and cannot be written.
pub(crate) fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Finding::new(
        "CLI-WRITE",
        format!("cannot write {}: {error}", path.display()),
    )
    .next("name a path in a folder that exists, that you may write to and that has room")
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_more_than_the_limit_is_not_read_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"12345").unwrap();
        assert_eq!(read(&path, 5).unwrap().as_deref(), Some(&b"12345"[..]));
        assert_eq!(read(&path, 4).unwrap(), None);
        // The kernel says that this file has no byte.
        assert!(read(Path::new("/proc/self/maps"), 64).unwrap().is_none());
        let refused = read(Path::new("/dev/zero"), 4).unwrap_err();
        assert_eq!(refused.findings()[0].code, "CLI-FILE-KIND");
    }

    #[test]
    fn what_cannot_be_written_is_a_finding_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let refused = write(&folder.path().join("no/such/file"), b"1").unwrap_err();
        let finding = &refused.findings()[0];
        assert_eq!(finding.code, "CLI-WRITE");
        assert!(finding.next.is_some());
        // A folder stands where the file should be.
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        assert!(write(&taken, b"1").is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
