//! What a guest runs: busybox, the node agent, the kernel's modules, and a first program that takes commands.

use super::run::{at, output, program, read, write};
use super::{GuestError, Kernel, Lab, cpio::Archive};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Loads the modules, sets up the network, and obeys one line after the other from the second serial port.
/// There is no system manager, no `/etc/passwd` and no disk.
const INIT: &str = r#"#!/bin/sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /mnt /var
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
export PATH=/bin HOME=/
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t securityfs securityfs /sys/kernel/security
mount -t tmpfs -o mode=755 tmpfs /run
[ -f /etc/ima-policy ] && cat /etc/ima-policy > /sys/kernel/security/ima/policy
while read -r module; do insmod "/modules/$module"; done < /modules/order
ifconfig lo 127.0.0.1 up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up
stty -F /dev/ttyS1 raw -echo
exec < /dev/ttyS1 > /dev/ttyS1 2> /dev/ttyS1
echo "GUEST-READY $(uname -r) $(cut -d ' ' -f 1 /proc/uptime)"
while read -r line; do
    eval "$line"
    echo "GUEST-DONE $?"
done
poweroff -f
"#;
/// What a guest has on its buses.
const MODULES: &[&str] = &["virtio_pci", "virtio_net", "virtio_blk"];

/// An initramfs that is being put together.
#[derive(Debug)]
pub struct Initramfs {
    archive: Archive,
    /// Folders and files that are there.
    present: BTreeSet<String>,
    /// Absolute path and SHA-256 of each file.
    files: Vec<(String, [u8; 32])>,
}

impl Initramfs {
    /// What every guest has.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn new(lab: &Lab, kernel: &Kernel) -> Result<Self, GuestError> {
        let mut this = Self {
            archive: Archive::default(),
            present: BTreeSet::new(),
            files: Vec::new(),
        };
        this.folder("dev");
        // The kernel opens it for the first program.
        this.archive.device("dev/console", 5, 1);
        this.program("/bin/busybox", &lab.busybox)?;
        this.archive.link("bin/sh", "busybox");
        this.content("/bin/trilith-agent", 0o755, &read(&lab.agent)?);
        this.content("/init", 0o755, INIT.as_bytes());
        let mut order = String::new();
        for (name, module) in kernel.modules(MODULES)? {
            this.content(&format!("/modules/{name}.ko"), 0o644, &module);
            order.push_str(&format!("{name}.ko\n"));
        }
        this.content("/modules/order", 0o644, order.as_bytes());
        Ok(this)
    }

    /// Puts `bytes` at the absolute `path`; what is there already stays.
    pub fn content(&mut self, path: &str, mode: u32, bytes: &[u8]) {
        let path = path.trim_start_matches('/');
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder);
        }
        if self.present.insert(path.to_owned()) {
            self.archive.file(path, mode, bytes);
            self.files.push((format!("/{path}"), crypto::sha256(bytes)));
        }
    }

    /// Absolute path and SHA-256 of each file so far: what a kernel that measures will find in it.
    #[must_use]
    pub fn files(&self) -> &[(String, [u8; 32])] {
        &self.files
    }

    /// A program of the host at `path`, with the libraries that it asks for where it looks for them.
    ///
    /// # Errors
    /// When it or a library cannot be read.
    pub fn program(&mut self, path: &str, file: &Path) -> Result<(), GuestError> {
        self.content(path, 0o755, &read(file)?);
        for library in libraries(file)? {
            let name = library.to_string_lossy().into_owned();
            self.content(&name, 0o755, &read(&library)?);
        }
        Ok(())
    }

    /// Writes it to `path`, compressed as Debian's kernels take it.
    ///
    /// # Errors
    /// When `zstd` or a file fails.
    pub fn write(self, path: &Path) -> Result<(), GuestError> {
        let plain = path.with_extension("cpio");
        write(&plain, &self.archive.finish())?;
        let mut zstd = program("zstd")?;
        zstd.args(["-q", "-f", "-12", "-o"]).arg(path).arg(plain);
        output(&mut zstd).map(drop)
    }

    fn folder(&mut self, path: &str) {
        if self.present.contains(path) {
            return;
        }
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
        self.present.insert(path.to_owned());
        self.archive.directory(path);
    }
}

/// The absolute paths that `ldd` names: libraries, and the loader. None for a static program, where it fails.
fn libraries(file: &Path) -> Result<Vec<PathBuf>, GuestError> {
    let said = program("ldd")?
        .arg(file)
        .output()
        .map_err(|source| at(file, source))?;
    let said = String::from_utf8_lossy(&said.stdout);
    let words = said.split_whitespace();
    Ok(words
        .filter(|word| word.starts_with('/') && !word.ends_with(':'))
        .map(PathBuf::from)
        .collect())
}
