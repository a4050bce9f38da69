//! How bytes reach the chip: a Unix or TCP socket with raw frames (swtpm), or the kernel's device.

use super::Error;
use super::frame::announced;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// The command and response buffer of PC Client TPMs.
pub(super) const LONGEST: usize = 4096;
const HEADER: usize = 10;
/// Longer than the slowest command of the PC Client profile (an RSA key) takes on chips in use.
const TIMEOUT: Duration = Duration::from_secs(120);
const LONGEST_EVENT_LOG: u64 = 1 << 20;

/// Where a TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// `swtpm:/path/to.sock`
    Unix(PathBuf),
    /// `swtpm-tcp:host:port`
    Tcp(String),
    /// `device:/dev/tpmrm0`, which the kernel shares out, or `device:/dev/tpm0`, which it does not.
    Device(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let unknown = || Error::Address(text.to_owned());
        let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
        match scheme {
            "swtpm" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "swtpm-tcp" if rest.contains(':') => Ok(Self::Tcp(rest.to_owned())),
            "device" if rest.starts_with('/') => Ok(Self::Device(rest.into())),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "swtpm:{}", path.display()),
            Self::Tcp(peer) => write!(f, "swtpm-tcp:{peer}"),
            Self::Device(path) => write!(f, "device:{}", path.display()),
        }
    }
}

impl Address {
    /// Whether a resource manager keeps others' contexts apart from ours.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Self::Device(path) if device_name(path).starts_with("tpmrm"))
    }

    pub(super) fn event_log(&self) -> io::Result<Option<Vec<u8>>> {
        let Self::Device(path) = self else {
            return Ok(None);
        };
        let number = device_name(path).trim_start_matches(|letter: char| !letter.is_ascii_digit());
        let log = format!("/sys/kernel/security/tpm{number}/binary_bios_measurements");
        let file = match File::open(log) {
            Ok(file) => file,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(LONGEST_EVENT_LOG + 1).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > LONGEST_EVENT_LOG) {
            return Err(io::Error::other("the event log is longer than a mebibyte"));
        }
        Ok(Some(bytes))
    }
}

fn device_name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

/// An open connection. After an error it is out of step with the chip and answers nothing more.
#[derive(Debug)]
pub(super) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Device(File),
    Broken,
}

impl Connection {
    pub(super) fn open(address: &Address) -> io::Result<Self> {
        match address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Self::Unix(stream))
            }
            Address::Tcp(peer) => {
                let stream = TcpStream::connect(peer.as_str())?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            // Non-blocking, so that the kernel runs the command while we wait with a limit.
            Address::Device(path) => OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default())
                .open(path)
                .map(Self::Device),
        }
    }

    /// Sends one command and reads the one response to it.
    pub(super) fn transact(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let outcome = match self {
            Self::Unix(stream) => over_stream(stream, command),
            Self::Tcp(stream) => over_stream(stream, command),
            Self::Device(file) => over_device(file, command),
            Self::Broken => Err(io::Error::from(io::ErrorKind::NotConnected)),
        };
        if outcome.is_err() {
            *self = Self::Broken;
        }
        outcome
    }
}

fn over_stream(stream: &mut (impl Read + Write), command: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(command)?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let length = usize::try_from(announced(header)).unwrap_or(usize::MAX);
    let body = length
        .checked_sub(HEADER)
        .filter(|_| length <= LONGEST)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut response = header.to_vec();
    response.resize(HEADER + body, 0);
    if let Some(rest) = response.get_mut(HEADER..) {
        stream.read_exact(rest)?;
    }
    Ok(response)
}

/// The kernel takes a whole command in one write and hands out a whole response in one read.
fn over_device(file: &mut File, command: &[u8]) -> io::Result<Vec<u8>> {
    if file.write(command)? != command.len() {
        return Err(io::Error::from(io::ErrorKind::WriteZero));
    }
    let limit = Timespec::try_from(TIMEOUT).map_err(io::Error::other)?;
    let mut events = [PollFd::new(file, PollFlags::IN)];
    if poll(&mut events, Some(&limit))? == 0 {
        return Err(io::Error::from(io::ErrorKind::TimedOut));
    }
    let mut response = vec![0; LONGEST];
    let length = file.read(&mut response)?;
    response.truncate(length);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_back_as_written() {
        for text in [
            "swtpm:/run/a.sock",
            "swtpm-tcp:127.0.0.1:2321",
            "device:/dev/tpmrm0",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in ["", "swtpm:relative", "device:", "tpm", "swtpm-tcp:host"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn only_the_resource_manager_is_shared() {
        let shared = |text: &str| text.parse::<Address>().unwrap().is_shared();
        assert!(shared("device:/dev/tpmrm0"));
        assert!(!shared("device:/dev/tpm0"));
        assert!(!shared("swtpm:/tmp/tpmrm0"));
    }

    /// A peer that announces more than a TPM's buffer, or less than a header, is refused before
    /// anything is allocated for it.
    #[test]
    fn announced_lengths_are_bounded() {
        struct Peer(io::Cursor<Vec<u8>>);
        impl Read for Peer {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Write for Peer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for length in [0u32, 9, 4097, u32::MAX] {
            let mut bytes = vec![0x80, 1];
            bytes.extend(length.to_be_bytes());
            bytes.extend([0; 4]);
            let error = over_stream(&mut Peer(io::Cursor::new(bytes)), b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{length}");
        }
    }

    /// A socket pair stands for the kernel's device: whole commands in, whole responses out.
    #[test]
    fn a_device_is_asked_once_and_answers_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let chip = std::thread::spawn(move || {
            let mut command = [0; 12];
            theirs.read_exact(&mut command).unwrap();
            theirs
                .write_all(&[0x80, 1, 0, 0, 0, 10, 0, 0, 0, 0])
                .unwrap();
            command
        });
        let mut device = File::from(std::os::fd::OwnedFd::from(ours));
        let response = over_device(&mut device, &[7; 12]).unwrap();
        assert_eq!(response.len(), 10);
        assert_eq!(chip.join().unwrap(), [7; 12]);
        // The chip is gone now: an error, not a wait.
        assert!(over_device(&mut device, &[7; 12]).is_err());
    }
}
