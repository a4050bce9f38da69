//! Reports of confidential hardware, through the kernel's configfs-tsm
//! (Linux, Documentation/ABI/testing/configfs-tsm-report).
//!
//! A question is a folder of its own, which is removed whatever comes of it. Nothing here judges a report:
//! `attest-tee` does, on the other side.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Where the kernel has the folders, with its configfs in the usual place.
pub const REPORTS: &str = "/sys/kernel/config/tsm/report";
/// The event log that a firmware's CCEL table points at (UEFI 2.10, section 38).
pub const EVENT_LOG: &str = "/sys/firmware/acpi/tables/data/CCEL";

/// Reports have 1 to 8 kilobytes, certificate tables and event logs less than what is taken.
const LONGEST_REPORT: usize = 32 * 1024;
const LONGEST_AUXILIARY: usize = 64 * 1024;
const LONGEST_EVENT_LOG: usize = 1 << 20;
const LONGEST_TEXT: usize = 64;

/// Questions until one is answered, and the pause after the first.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(20);

/// What the hardware said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The kernel's driver: `sev_guest`, `tdx_guest`.
    pub provider: String,
    /// SEV-SNP's attestation report, TDX's quote.
    pub report: Vec<u8>,
    /// What the host added: for SEV-SNP its table of certificates. Often empty.
    pub auxiliary: Vec<u8>,
}

impl Report {
    /// `sev-snp` or `tdx`; nothing else is understood.
    #[must_use]
    pub fn kind(&self) -> Option<&'static str> {
        match self.provider.as_str() {
            "sev_guest" => Some("sev-snp"),
            "tdx_guest" => Some("tdx"),
            _ => None,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("no question can be put in {root:?}")]
    Entry {
        root: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{attribute} of the report")]
    Attribute {
        attribute: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("{attribute} is longer than {most} bytes")]
    TooLong {
        attribute: &'static str,
        most: usize,
    },
    #[error("the kernel's {attribute} cannot be read: {problem}")]
    Answer {
        attribute: &'static str,
        problem: &'static str,
    },
    #[error("somebody else asked through the same entry")]
    Raced,
    #[error("the event log {path:?}")]
    EventLog {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether the same question may be answered a moment later.
    fn passes(&self) -> bool {
        let busy = |error: &io::Error| {
            matches!(
                error.kind(),
                ErrorKind::WouldBlock
                    | ErrorKind::ResourceBusy
                    | ErrorKind::Interrupted
                    | ErrorKind::TimedOut
                    | ErrorKind::AlreadyExists
            )
        };
        match self {
            Self::Entry { source, .. } | Self::Attribute { source, .. } => busy(source),
            Self::Raced => true,
            Self::TooLong { .. } | Self::Answer { .. } | Self::EventLog { .. } => false,
        }
    }
}

/// Asks the hardware for a report of `data`, in a new folder below `root`. Blocks, for a second and more where
/// firmware is busy.
///
/// # Errors
/// [`Error`]; what passes is tried again before.
pub fn report(root: &Path, data: &[u8; 64]) -> Result<Report, Error> {
    let mut pause = PAUSE;
    for _ in 1..TRIES {
        match ask(root, data) {
            Err(error) if error.passes() => thread::sleep(pause),
            answer => return answer,
        }
        pause = pause.saturating_mul(2);
    }
    ask(root, data)
}

/// The event log of this boot. Blocks.
///
/// # Errors
/// [`Error::EventLog`], [`Error::TooLong`].
pub fn event_log(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::EventLog {
        path: path.to_owned(),
        source,
    };
    capped(path, LONGEST_EVENT_LOG)
        .map_err(failed)?
        .ok_or(Error::TooLong {
            attribute: "the event log",
            most: LONGEST_EVENT_LOG,
        })
}

fn ask(root: &Path, data: &[u8; 64]) -> Result<Report, Error> {
    let entry = Entry::make(root)?;
    let provider = entry.text("provider")?;
    let before = entry.number("generation")?;
    let mut written = 1_u64;
    // Below a service module a guest may not speak as the most privileged level, which is the default.
    if let Some(floor) = entry.optional("privlevel_floor", LONGEST_TEXT)?
        && let Some(floor) = number(&floor)
        && floor > 0
    {
        entry.write("privlevel", floor.to_string().as_bytes())?;
        written = 2;
    }
    entry.write("inblob", data)?;
    let report = entry.bytes("outblob", LONGEST_REPORT)?;
    let auxiliary = entry
        .optional("auxblob", LONGEST_AUXILIARY)?
        .unwrap_or_default();
    // The kernel counts what is written: more than we wrote is another's question, less is a question that
    // it did not take.
    if entry.number("generation")? != before.wrapping_add(written) {
        return Err(Error::Raced);
    }
    if report.is_empty() {
        return Err(Error::Answer {
            attribute: "outblob",
            problem: "it is empty",
        });
    }
    Ok(Report {
        provider,
        report,
        auxiliary,
    })
}

/// A folder for one question. Dropped, it is gone.
struct Entry(PathBuf);

impl Drop for Entry {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == ErrorKind::ResourceBusy => thread::sleep(PAUSE),
                _ => return,
            }
        }
    }
}

impl Entry {
    fn make(root: &Path) -> Result<Self, Error> {
        let name = crypto::hex::encode(&crypto::random::<8>());
        let path = root.join(format!("trilith-{name}"));
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(Error::Entry {
                root: root.to_owned(),
                source,
            }),
        }
    }

    /// One write; the kernel takes it when the file is closed.
    fn write(&self, attribute: &'static str, bytes: &[u8]) -> Result<(), Error> {
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .open(self.0.join(attribute))?;
            file.write_all(bytes)
        };
        write().map_err(|source| Error::Attribute { attribute, source })
    }

    fn bytes(&self, attribute: &'static str, most: usize) -> Result<Vec<u8>, Error> {
        capped(&self.0.join(attribute), most)
            .map_err(|source| Error::Attribute { attribute, source })?
            .ok_or(Error::TooLong { attribute, most })
    }

    /// `None` where this hardware has no such attribute.
    fn optional(&self, attribute: &'static str, most: usize) -> Result<Option<Vec<u8>>, Error> {
        match self.bytes(attribute, most) {
            Err(Error::Attribute { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Ok(None)
            }
            read => read.map(Some),
        }
    }

    fn text(&self, attribute: &'static str) -> Result<String, Error> {
        let text = String::from_utf8(self.bytes(attribute, LONGEST_TEXT)?);
        text.map(|text| text.trim().to_owned())
            .map_err(|_| Error::Answer {
                attribute,
                problem: "it is no text",
            })
    }

    fn number(&self, attribute: &'static str) -> Result<u64, Error> {
        number(&self.bytes(attribute, LONGEST_TEXT)?).ok_or(Error::Answer {
            attribute,
            problem: "it is no number",
        })
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// `None` if there is more than `most` bytes.
fn capped(path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok((bytes.len() <= most).then_some(bytes))
}
