//! A private software TPM with its own manufacturer: `swtpm` and `swtpm_localca` from the distribution.
//!
//! Each [`Swtpm`] is a new chip by a new certificate authority; two chips of one manufacturer come from
//! [`Swtpm::sibling`]. The process dies with the value. Not for running programs: `trilith demo` starts
//! its own emulator.

mod cloud;
mod paravisor;

pub use cloud::Cloud;
pub use paravisor::{Attributes, Paravisor};

use crate::find;
use crate::mortal::{self, Parting};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[derive(Debug, thiserror::Error)]
pub enum SwtpmError {
    #[error("{0}")]
    Missing(String),
    #[error("could not prepare the emulator's folder")]
    Folder(#[from] io::Error),
    #[error("{program} failed: {output}")]
    Program { program: String, output: String },
    #[error("{0} holds no PEM certificate")]
    Certificate(PathBuf),
}

const EXTEND: &str = "tpm2_pcrextend";
/// Arguments of one call.
const AT_ONCE: usize = 64;
/// Longer than it takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running TPM emulator and the authority that certified its endorsement keys.
#[derive(Debug)]
pub struct Swtpm {
    folder: TempDir,
    authority: Arc<TempDir>,
    process: Option<Child>,
}

impl Swtpm {
    /// A new chip, certified by a new authority, running. Takes one or two seconds.
    ///
    /// # Errors
    /// When `swtpm`, `swtpm_setup` or `swtpm_localca` is missing or fails; the message holds what they
    /// printed.
    pub fn start() -> Result<Self, SwtpmError> {
        Self::manufacture(Arc::new(crate::temp_dir()?), true, "sha256")
    }

    /// As [`Swtpm::start`], with the bank of SHA-384 beside that of SHA-256.
    ///
    /// # Errors
    /// As [`Swtpm::start`].
    pub fn with_two_banks() -> Result<Self, SwtpmError> {
        Self::manufacture(Arc::new(crate::temp_dir()?), true, "sha256,sha384")
    }

    /// A new chip without certificates, as clouds make them. Its authority has certified nothing.
    ///
    /// # Errors
    /// As [`Swtpm::start`].
    pub fn uncertified() -> Result<Self, SwtpmError> {
        Self::manufacture(Arc::new(crate::temp_dir()?), false, "sha256")
    }

    /// As [`Swtpm::start`], for a test that has the chip measure: it says that it skips where the emulator or
    /// tpm2-tools are missing.
    #[must_use]
    pub fn for_test(test: &str) -> Option<Self> {
        let started = find::tools([EXTEND])
            .map_err(SwtpmError::Missing)
            .and_then(|_| Self::start());
        match started {
            Ok(chip) => Some(chip),
            Err(why) => {
                crate::skip(test, &why.to_string());
                None
            }
        }
    }

    /// Extends digests into PCRs of SHA-256, in order, by tpm2-tools.
    ///
    /// # Errors
    /// When `tpm2_pcrextend` is missing or fails.
    pub fn extend(&self, digests: &[(u32, [u8; 32])]) -> Result<(), SwtpmError> {
        let [program] = find::tools([EXTEND]).map_err(SwtpmError::Missing)?;
        for some in digests.chunks(AT_ONCE) {
            let words = some
                .iter()
                .map(|(pcr, digest)| format!("{pcr}:sha256={}", crypto::hex::encode(digest)));
            run(Command::new(&program)
                .env("TPM2TOOLS_TCTI", self.tcti())
                .args(words))?;
        }
        Ok(())
    }

    /// Extends digests into PCRs of SHA-384, of a chip that has that bank.
    ///
    /// # Errors
    /// When `tpm2_pcrextend` is missing or fails.
    pub fn extend_strong(&self, digests: &[(u32, [u8; 48])]) -> Result<(), SwtpmError> {
        let [program] = find::tools([EXTEND]).map_err(SwtpmError::Missing)?;
        let words = digests
            .iter()
            .map(|(pcr, digest)| format!("{pcr}:sha384={}", crypto::hex::encode(digest)));
        self.tool(&program, words)
    }

    /// Writes `bytes` to an index of the chip's non-volatile memory that everybody may read, and that is
    /// not there yet.
    ///
    /// # Errors
    /// When tpm2-tools are missing or fail.
    pub fn write(&self, index: u32, bytes: &[u8]) -> Result<(), SwtpmError> {
        let [define, write] =
            find::tools(["tpm2_nvdefine", "tpm2_nvwrite"]).map_err(SwtpmError::Missing)?;
        fs::write(self.folder.path().join("value"), bytes)?;
        let (index, size) = (format!("{index:#x}"), bytes.len().to_string());
        let attributes = "ownerread|ownerwrite|authread";
        self.tool(
            &define,
            [index.as_str(), "-C", "o", "-s", &size, "-a", attributes],
        )?;
        self.tool(&write, [index.as_str(), "-C", "o", "-i", "value"])
    }

    /// One of tpm2-tools, on this chip and in its folder.
    fn tool<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<(), SwtpmError> {
        run(Command::new(program)
            .current_dir(self.folder.path())
            .env("TPM2TOOLS_TCTI", self.tcti())
            .args(arguments))
    }

    /// Another chip, certified by the same authority.
    ///
    /// # Errors
    /// As [`Swtpm::start`].
    pub fn sibling(&self) -> Result<Self, SwtpmError> {
        Self::manufacture(Arc::clone(&self.authority), true, "sha256")
    }

    fn manufacture(
        authority: Arc<TempDir>,
        certified: bool,
        banks: &str,
    ) -> Result<Self, SwtpmError> {
        let [_, setup, localca] =
            find::tools(["swtpm", "swtpm_setup", "swtpm_localca"]).map_err(SwtpmError::Missing)?;
        let folder = crate::temp_dir()?;
        let state = folder.path().join("state");
        fs::create_dir(&state)?;
        let configuration = configure(folder.path(), authority.path(), &localca, banks)?;
        let certificates: &[&str] = if certified {
            &["--create-ek-cert", "--create-platform-cert", "--ecc"]
        } else {
            &["--ecc"]
        };
        run(Command::new(setup)
            .arg("--tpm2")
            .args(certificates)
            .args(["--lock-nvram", "--overwrite", "--tpmstate"])
            .arg(&state)
            .arg("--config")
            .arg(configuration))?;
        let mut chip = Self {
            folder,
            authority,
            process: None,
        };
        chip.power_on()?;
        Ok(chip)
    }

    /// Starts the process with an orderly TPM startup; does nothing while it runs.
    ///
    /// # Errors
    /// When `swtpm` does not start.
    pub fn power_on(&mut self) -> Result<(), SwtpmError> {
        if self.process.is_some() {
            return Ok(());
        }
        let socket = self.socket();
        // tpm2-tools' TCTI looks for the control channel at the server's path with `.ctrl`.
        let arguments = [
            "--flags".to_owned(),
            "not-need-init,startup-clear".to_owned(),
            "--server".to_owned(),
            format!("type=unixio,path={}", socket.display()),
            "--ctrl".to_owned(),
            format!("type=unixio,path={}.ctrl", socket.display()),
        ];
        self.launch(&arguments)
    }

    /// Starts `swtpm` on the chip's state, and waits until it listens.
    fn launch(&mut self, arguments: &[String]) -> Result<(), SwtpmError> {
        let state = self.folder.path().join("state");
        let ready = self.folder.path().join("pid");
        let log = self.folder.path().join("log");
        // Of a process that was killed.
        match fs::remove_file(&ready) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let output = fs::File::create(&log)?;
        let mut command = mortal::command(program()?, Parting::Kill)?;
        command
            .args(["socket", "--tpm2"])
            .args(arguments)
            .arg("--tpmstate")
            .arg(format!("dir={}", state.display()))
            .arg("--pid")
            .arg(format!("file={}", ready.display()))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let process = self.process.insert(mortal::spawn(command)?);
        let limit = Instant::now() + PATIENCE;
        // It writes its id once its sockets are there.
        while fs::metadata(&ready).map_or(true, |file| file.len() == 0) {
            if process.try_wait()?.is_some() || Instant::now() > limit {
                self.power_off();
                return Err(SwtpmError::Program {
                    program: "swtpm".to_owned(),
                    output: fs::read_to_string(&log).unwrap_or_default(),
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Starts the process as the chip of a virtual machine, which initialises it and ends it; cuts the power
    /// first if it runs. Returns the control socket, as QEMU's `tpmdev` takes it.
    ///
    /// # Errors
    /// When `swtpm` does not start.
    pub fn power_on_for_guest(&mut self) -> Result<PathBuf, SwtpmError> {
        self.power_off();
        let control = self.folder.path().join("guest.ctrl");
        self.launch(&[
            "--terminate".to_owned(),
            "--ctrl".to_owned(),
            format!("type=unixio,path={}", control.display()),
        ])?;
        Ok(control)
    }

    /// Cuts the power: SIGKILL, no orderly shutdown. When it returns the process is gone, and with it the lock of
    /// the chip's state, which the next one takes.
    pub fn power_off(&mut self) {
        if let Some(mut process) = self.process.take() {
            // Already gone is as good.
            let _gone = process.kill();
            let _gone = process.wait();
        }
    }

    /// The server's Unix socket: raw TPM frames, one client at a time.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("tpm.sock")
    }

    /// The folder of what it keeps without power: whoever copies it while the chip is off, and puts it back
    /// later, has put the chip back.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// As the agent's configuration names it.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("swtpm:{}", self.socket().display())
    }

    /// As tpm2-tools name it: the value of `TPM2TOOLS_TCTI`.
    #[must_use]
    pub fn tcti(&self) -> String {
        format!("swtpm:path={}", self.socket().display())
    }

    /// The manufacturer's root certificate, PEM.
    #[must_use]
    pub fn root_pem(&self) -> PathBuf {
        self.authority.path().join("swtpm-localca-rootca-cert.pem")
    }

    /// The certificate, signed by the root, that signs endorsement keys' certificates, PEM.
    #[must_use]
    pub fn issuer_pem(&self) -> PathBuf {
        self.authority.path().join("issuercert.pem")
    }

    /// # Errors
    /// When the file is gone or not a certificate.
    pub fn root_der(&self) -> Result<Vec<u8>, SwtpmError> {
        certificate(&self.root_pem())
    }

    /// # Errors
    /// When the file is gone or not a certificate.
    pub fn issuer_der(&self) -> Result<Vec<u8>, SwtpmError> {
        certificate(&self.issuer_pem())
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.power_off();
    }
}

/// The DER of the first certificate in a PEM file.
///
/// # Errors
/// When the file cannot be read or holds none.
pub fn certificate(pem: &Path) -> Result<Vec<u8>, SwtpmError> {
    let text = fs::read_to_string(pem)?;
    text.split_once("-----BEGIN CERTIFICATE-----")
        .and_then(|(_, rest)| rest.split_once("-----END CERTIFICATE-----"))
        .and_then(|(body, _)| {
            let body: String = body.split_whitespace().collect();
            crypto::base64::decode(&body).ok()
        })
        .ok_or_else(|| SwtpmError::Certificate(pem.to_owned()))
}

fn program() -> Result<PathBuf, SwtpmError> {
    let [program] = find::tools(["swtpm"]).map_err(SwtpmError::Missing)?;
    Ok(program)
}

fn configure(
    folder: &Path,
    authority: &Path,
    localca: &Path,
    banks: &str,
) -> Result<PathBuf, SwtpmError> {
    let (tool, ca) = (localca.display(), authority.display());
    let file = |name: &str| folder.join(name);
    fs::write(
        file("localca.conf"),
        format!(
            "statedir = {ca}\nsigningkey = {ca}/signkey.pem\n\
             issuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n"
        ),
    )?;
    fs::write(
        file("localca.options"),
        "--platform-manufacturer Trilith\n--platform-version 1\n--platform-model test\n",
    )?;
    fs::write(
        file("setup.conf"),
        format!(
            "create_certs_tool = {tool}\ncreate_certs_tool_config = {}\n\
             create_certs_tool_options = {}\nactive_pcr_banks = {banks}\n",
            file("localca.conf").display(),
            file("localca.options").display()
        ),
    )?;
    Ok(file("setup.conf"))
}

fn run(command: &mut Command) -> Result<(), SwtpmError> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(SwtpmError::Program {
        program: command.get_program().to_string_lossy().into_owned(),
        output: [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat(),
    })
}
