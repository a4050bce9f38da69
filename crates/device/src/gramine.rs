//! The quote of an enclave of SGX, through the files that Gramine has in each
//! (Gramine documentation, "Attestation and Secret Provisioning").
//!
//! The library below the program asks the processor and Intel's quoting enclave. Not here: what the quote is worth
//! (`attest-tee`).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where Gramine has the files.
pub const FILES: &str = "/dev/attestation";

/// Quotes have some 5 KiB.
const LONGEST: u64 = 32 * 1024;

/// The files are of the whole process: one question at a time.
static ASKING: Mutex<()> = Mutex::new(());

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("Gramine's {path:?}")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the enclave has attestation {0:?}, which makes no quote that is understood")]
    Kind(String),
    #[error("Gramine's quote is empty, or longer than 32 KiB")]
    Size,
}

/// A quote of this enclave with `data` in its report, by the files in `folder`. Blocks.
///
/// # Errors
/// [`Error`].
pub fn quote(folder: &Path, data: &[u8; 64]) -> Result<Vec<u8>, Error> {
    let _alone = ASKING.lock().unwrap_or_else(PoisonError::into_inner);
    let kind = read(folder, "attestation_type")?;
    let kind = String::from_utf8_lossy(&kind).trim().to_owned();
    if kind != "dcap" {
        return Err(Error::Kind(kind.chars().take(32).collect()));
    }
    let path = folder.join("user_report_data");
    let write = || {
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.write_all(data)
    };
    write().map_err(|source| Error::File {
        path: path.clone(),
        source,
    })?;
    let quote = read(folder, "quote")?;
    let length = u64::try_from(quote.len()).unwrap_or(u64::MAX);
    (1..=LONGEST)
        .contains(&length)
        .then_some(quote)
        .ok_or(Error::Size)
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>, Error> {
    let path = folder.join(name);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(source) => Err(Error::File { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(kind: &str, quote: &[u8]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("attestation_type", kind.as_bytes()),
            ("user_report_data", &[][..]),
            ("quote", quote),
        ] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        folder
    }

    #[test]
    fn the_question_is_written_and_the_quote_read() {
        let folder = files("dcap\n", &[9; 4_000]);
        assert_eq!(quote(folder.path(), &[7; 64]).unwrap(), [9; 4_000]);
        let asked = std::fs::read(folder.path().join("user_report_data")).unwrap();
        assert_eq!(asked, [7; 64]);
    }

    #[test]
    fn an_enclave_that_makes_no_quote_says_so() {
        let asked = |folder: &tempfile::TempDir| quote(folder.path(), &[7; 64]).unwrap_err();
        let none = asked(&files("none", &[9; 4]));
        assert!(none.to_string().contains("\"none\""), "{none}");
        assert!(matches!(asked(&files("dcap", &[])), Error::Size));
        assert!(matches!(asked(&files("dcap", &[0; 40_000])), Error::Size));
        let nowhere = quote(Path::new("/nonexistent/attestation"), &[7; 64]);
        assert!(matches!(nowhere, Err(Error::File { .. })));
    }
}
