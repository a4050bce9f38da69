//! The document that AWS's hypervisor signs about an instance's NitroTPM, by AWS's own program.
//!
//! The request goes through the chip by a vendor command of AWS's, over the raw device and a buffer in non-volatile
//! memory. `nitro-tpm-attest`, of NitroTPM-Tools, speaks it: user data from a file, the document to standard output.
//! Not here: what the document is worth (`attest-tee`).

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Documents have some 5 KiB.
const LONGEST: u64 = 32 * 1024;
/// The chip makes keys for the question, which takes seconds.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0} does not run")]
    Run(String, #[source] io::Error),
    #[error("{program} ended with {status}: {said}")]
    Failed {
        program: String,
        status: String,
        /// The beginning of what it wrote to standard error.
        said: String,
    },
    #[error("{0} did not end within 30 s")]
    Slow(String),
    #[error("{0} returned nothing, or more than 32 KiB")]
    Size(String),
}

/// A document that carries `user_data`, by `program`: `/usr/bin/nitro-tpm-attest`. Blocks for as long as the chip
/// takes, up to half a minute.
///
/// # Errors
/// [`Error`].
pub fn document(program: &Path, user_data: &[u8; 64]) -> Result<Vec<u8>, Error> {
    let name = program.display().to_string();
    let failed = |source| Error::Run(name.clone(), source);
    let mut child = Command::new(program)
        .args(["--user-data", "/dev/stdin"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut asked) = child.stdin.take() {
        // One that does not read says why itself.
        drop(asked.write_all(user_data));
    }
    let read = |stream: Option<Box<dyn io::Read + Send>>| {
        let (send, receive) = mpsc::channel();
        if let Some(stream) = stream {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let read = stream.take(LONGEST + 1).read_to_end(&mut bytes);
                drop(send.send(read.map(|_| bytes)));
            });
        }
        receive
    };
    let answer = read(child.stdout.take().map(|stream| Box::new(stream) as _));
    let said = read(child.stderr.take().map(|stream| Box::new(stream) as _));
    let Ok(document) = answer.recv_timeout(PATIENCE) else {
        drop(child.kill());
        drop(child.wait());
        return Err(Error::Slow(name));
    };
    let document = document.map_err(failed)?;
    let status = end(&mut child).map_err(failed)?;
    if !status.success() {
        let said = said.recv_timeout(PATIENCE).ok().and_then(Result::ok);
        let said = said.unwrap_or_default();
        return Err(Error::Failed {
            program: name,
            status: status.to_string(),
            said: String::from_utf8_lossy(said.get(..256).unwrap_or(&said)).into_owned(),
        });
    }
    let fits = u64::try_from(document.len()).is_ok_and(|length| (1..=LONGEST).contains(&length));
    fits.then_some(document).ok_or(Error::Size(name))
}

/// It has closed its output: whatever it still does is not waited for.
fn end(child: &mut std::process::Child) -> io::Result<std::process::ExitStatus> {
    for _ in 0..50 {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill()?;
    child.wait()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(text: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        testkit::script(&folder.path().join("attest"), text).unwrap();
        folder
    }

    fn asked(text: &str) -> Result<Vec<u8>, Error> {
        document(&program(text).path().join("attest"), &[7; 64])
    }

    #[test]
    fn user_data_go_in_and_the_document_comes_out() {
        let echoed = asked(r#"[ "$1" = --user-data ] && cat "$2""#).unwrap();
        assert_eq!(echoed, [7; 64]);
    }

    #[test]
    fn a_program_that_fails_says_why_and_half_a_document_is_none() {
        let failed = asked("printf half; echo no such device >&2; exit 3").unwrap_err();
        assert!(failed.to_string().contains("no such device"), "{failed}");
        assert!(matches!(asked("exit 0"), Err(Error::Size(_))));
        assert!(matches!(
            asked("head -c 40000 /dev/zero"),
            Err(Error::Size(_) | Error::Failed { .. })
        ));
        let missing = document(Path::new("/nonexistent/attest"), &[7; 64]);
        assert!(matches!(missing, Err(Error::Run(..))));
    }
}
