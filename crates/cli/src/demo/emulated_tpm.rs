//! A private `swtpm` with a CA of its own. Its root becomes a reference value of the demo's estate, where
//! it is marked as emulated: it is never among the vendor roots.

use super::process::{self, Daemon, Parting};
use anyhow::Context as _;
use facts::Finding;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct EmulatedTpm {
    pub(crate) daemon: Daemon,
    socket: PathBuf,
    root: PathBuf,
}

impl EmulatedTpm {
    /// Makes a TPM with an EK certificate under `directory` and starts it.
    pub(crate) fn start(directory: &Path, logs: &Path) -> anyhow::Result<Self> {
        for program in ["swtpm", "swtpm_setup", "swtpm_localca"] {
            installed(program, std::env::var_os("PATH").as_deref())?;
        }
        let state = directory.join("state");
        let ca = directory.join("ca");
        std::fs::create_dir_all(&state)?;
        std::fs::create_dir_all(&ca)?;
        let path = |path: &Path| path.display().to_string();
        let local_ca = directory.join("localca.conf");
        std::fs::write(
            &local_ca,
            format!(
                "statedir = {ca}\nsigningkey = {ca}/signkey.pem\nissuercert = {ca}/issuercert.pem\ncertserial = {ca}/certserial\n",
                ca = path(&ca)
            ),
        )?;
        let options = directory.join("localca.options");
        std::fs::write(
            &options,
            "--platform-manufacturer Trilith\n--platform-version 1\n--platform-model demo\n",
        )?;
        let setup = directory.join("setup.conf");
        std::fs::write(
            &setup,
            format!(
                "create_certs_tool = /usr/bin/swtpm_localca\ncreate_certs_tool_config = {}\ncreate_certs_tool_options = {}\n",
                path(&local_ca),
                path(&options)
            ),
        )?;
        process::run(
            Command::new("swtpm_setup")
                .args([
                    "--tpm2",
                    "--create-ek-cert",
                    "--lock-nvram",
                    "--overwrite",
                    "--tpmstate",
                ])
                .arg(&state)
                .arg("--config")
                .arg(&setup)
                // swtpm_setup refuses to run as root unless it may stay root.
                .args(["--runas", "root"]),
        )
        .or_else(|_| {
            process::run(
                Command::new("swtpm_setup")
                    .args([
                        "--tpm2",
                        "--create-ek-cert",
                        "--lock-nvram",
                        "--overwrite",
                        "--tpmstate",
                    ])
                    .arg(&state)
                    .arg("--config")
                    .arg(&setup),
            )
        })?;

        let socket = directory.join("tpm.sock");
        let mut swtpm = process::mortal("swtpm", Parting::Kill);
        swtpm
            .args(["socket", "--tpm2", "--tpmstate"])
            .arg(format!("dir={}", path(&state)))
            .arg("--server")
            .arg(format!("type=unixio,path={}", path(&socket)))
            .arg("--ctrl")
            .arg(format!("type=unixio,path={}.ctrl", path(&socket)))
            .args(["--flags", "not-need-init,startup-clear"]);
        let daemon = Daemon::start("swtpm", swtpm, logs)?;
        Ok(Self {
            daemon,
            socket,
            root: ca.join("swtpm-localca-rootca-cert.pem"),
        })
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// As the agent's configuration names it.
    pub(crate) fn address(&self) -> String {
        format!("swtpm:{}", self.socket.display())
    }

    /// Root and issuer of its EK certificate, PEM.
    pub(crate) fn root_pem(&self) -> anyhow::Result<String> {
        let mut pem = String::new();
        for path in [&self.root, &self.root.with_file_name("issuercert.pem")] {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            // Certificates only: the tool writes a description in front of them.
            let begin = text.find("-----BEGIN").unwrap_or_default();
            pem.push_str(text.get(begin..).unwrap_or_default());
        }
        Ok(pem)
    }
}

/// Whether the search path has `program`; whoever lacks it is told what brings it.
fn installed(program: &str, path: Option<&OsStr>) -> Result<(), Finding> {
    let folders = path.map(std::env::split_paths).into_iter().flatten();
    // Where Debian has it, also for users whose PATH leaves it out.
    let mut folders = folders.chain([PathBuf::from("/usr/bin")]);
    if folders.any(|folder| folder.join(program).is_file()) {
        return Ok(());
    }
    Err(Finding::new(
        "DEMO-SWTPM",
        "the emulated TPM of the demo is not installed",
    )
    .expected(format!("{program} on the PATH"))
    .next("apt install swtpm swtpm-tools"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_lacks_the_emulator_is_told_which_packages_bring_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().as_os_str());
        let missing = installed("swtpm_of_nobody", path).unwrap_err();
        assert_eq!(
            missing.next.as_deref(),
            Some("apt install swtpm swtpm-tools")
        );
        std::fs::write(folder.path().join("swtpm_of_nobody"), "").unwrap();
        installed("swtpm_of_nobody", path).unwrap();
    }
}
