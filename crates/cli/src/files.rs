//! Files that the user named: read within a limit, written whole or not at all.

use crate::Failure;
use facts::Finding;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long somebody may take to begin to write into a pipe that was named.
const WRITER: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(20);

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
    let file = if kind.is_fifo() {
        pipe(path, &mut bytes)?
    } else {
        File::open(path).map_err(unreadable)?
    };
    let taken = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    file.take(limit.saturating_add(1).saturating_sub(taken))
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    let within = u64::try_from(bytes.len()).is_ok_and(|length| length <= limit);
    Ok(within.then_some(bytes))
}

/// The reading end of a pipe, once somebody has written into it: what was read by then is in `bytes`. Of a
/// pipe that nobody writes into, the kernel would wait for ever.
fn pipe(path: &Path, bytes: &mut Vec<u8>) -> Result<File, Failure> {
    let unreadable = |error: std::io::Error| Failure::unreadable(path, &error);
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut file = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)
        .map_err(unreadable)?;
    let begun = Instant::now();
    let mut first = [0; 4096];
    loop {
        match file.read(&mut first) {
            // There is no writer: none yet, or one that is gone.
            Ok(0) if begun.elapsed() < WRITER => std::thread::sleep(LOOK),
            Ok(0) => {
                return Err(Finding::new(
                    "CLI-PIPE",
                    format!("nobody writes into the pipe {}", path.display()),
                )
                .expected(format!("a writer within {} s", WRITER.as_secs()))
                .next("start what writes into it, or name the file itself")
                .into());
            }
            Ok(count) => {
                bytes.extend(first.iter().take(count));
                break;
            }
            // A writer takes its time, as one does that waits for its own input.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(error)),
        }
    }
    // From here on, reads wait for whoever writes, and end with the last of them.
    let flags = rustix::fs::fcntl_getfl(&file).map_err(|error| unreadable(error.into()))?;
    rustix::fs::fcntl_setfl(&file, flags.difference(OFlags::NONBLOCK))
        .map_err(|error| unreadable(error.into()))?;
    Ok(file)
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

    /// A pipe that nobody writes into was waited for without end.
    #[test]
    fn a_pipe_without_a_writer_is_refused_and_one_with_a_writer_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let begun = Instant::now();
        // Beside this thread: what waits without end is to fail.
        let (tells, told) = std::sync::mpsc::channel();
        let waited_for = path.clone();
        std::thread::spawn(move || tells.send(read(&waited_for, 5)));
        let refused = told.recv_timeout(3 * WRITER).unwrap().unwrap_err();
        assert_eq!(refused.findings()[0].code, "CLI-PIPE");
        assert!(begun.elapsed() >= WRITER);

        // Whoever comes late, writes in pieces and takes more time between them than to begin.
        let writing = path.clone();
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            let mut pipe = File::options().write(true).open(writing).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            for piece in [b"12", b"34"] {
                pipe.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(read(&path, 5).unwrap().as_deref(), Some(&b"1234"[..]));
        writer.join().unwrap();

        // As a shell hands over `<(command)`, and `/dev/stdin` of a pipeline: the writer may be done already.
        for (count, within) in [(5_usize, true), (6, false), (20_000, false)] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(&vec![b'x'; count]).unwrap();
            drop(writer);
            let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
            let bytes = read(Path::new(&format!("/dev/fd/{fd}")), 5).unwrap();
            assert_eq!(bytes.is_some(), within, "{count} bytes");
        }
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
