//! shim, GRUB and kernel as Debian signs them, on a machine with Microsoft's keys.

use super::pieces::{CMDLINE, Pieces};
use references::Digest;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::debian;
use testkit::guest::{Guest, disk, firmware};

const SHIM: (&str, &str) = ("shim-signed", "usr/lib/shim/shimx64.efi.signed");
const GRUB: (&str, &str) = (
    "grub-efi-amd64-signed",
    "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
);

/// The packages, and the two images out of them that are not the kernel.
pub(crate) struct Debian {
    debs: Vec<PathBuf>,
    shim: PathBuf,
    grub: PathBuf,
}

impl Debian {
    /// With the kernel of `pieces`. The reason to skip, if something is not to be had.
    pub(crate) fn chain(pieces: &Pieces) -> Result<Self, String> {
        debian::lists()?;
        debian::keyring()?;
        let mut debs = vec![pieces.kernel.deb.clone()];
        let mut file = |(package, path): (&str, &str)| {
            let deb = debian::package(package, None)?;
            let files = debian::unpacked(&deb)?;
            debs.push(deb);
            Ok::<_, String>(files.join(path))
        };
        let (shim, grub) = (file(SHIM)?, file(GRUB)?);
        Ok(Self { debs, shim, grub })
    }

    /// What booting it gives, from the packages and the machine's variables.
    pub(crate) fn predict(&self, pieces: &Pieces) -> String {
        let folder = pieces.path("debs");
        std::fs::create_dir(&folder).expect("a folder");
        for deb in &self.debs {
            let name = deb.file_name().expect("a name");
            std::fs::copy(deb, folder.join(name)).expect("a copy");
        }
        let variables = firmware::microsoft_variables();
        let [folder, variables] =
            [&folder, &variables].map(|path| path.to_str().expect("UTF-8").to_owned());
        pieces.import(&["debian", "--debs", &folder, "--uefi", &variables])
    }

    /// GRUB's configuration and the initramfs are the machine's own, and nobody signs them.
    pub(crate) fn own(pieces: &Pieces) {
        let at = |name: &str| pieces.path(name);
        pieces.initramfs().write(&at("initrd")).expect("an initrd");
        let configuration = format!(
            "set timeout=0\nsearch --set=root --file /vmlinuz\nlinux /vmlinuz {CMDLINE}\n\
             initrd /initrd\nboot\n"
        );
        std::fs::write(at("grub.cfg"), configuration).expect("written");
    }

    /// `predicted`, and a rule by which the owner's part may be this and nothing else: `line` for the kernel, the
    /// initramfs and GRUB's configuration as they stand on the disk.
    pub(crate) fn ruled(pieces: &Pieces, predicted: &str, line: &str) -> String {
        let file = pieces.path("ruled.json");
        std::fs::write(&file, predicted).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_trilith"));
        command.args(["refs", "boot"]).arg(&file);
        command.args([
            "--rule",
            "shop",
            "--ring",
            "guests",
            "--from",
            "shim-grub-linux",
        ]);
        command.args(["--sbat", "shim=4", "--command-line", line]);
        for name in ["initrd", "grub.cfg"] {
            let bytes = std::fs::read(pieces.path(name)).expect("the owner's part");
            command.args(["--file", &format!("{name}={}", Digest::of(&bytes))]);
        }
        let ran = command.output().expect("it runs");
        assert!(ran.status.success(), "{ran:?}");
        std::fs::read_to_string(file).expect("the references")
    }

    /// Boots it with [`Debian::own`]'s files.
    pub(crate) fn boot(&self, pieces: &Pieces) -> Guest {
        let at = |name: &str| pieces.path(name);
        let kernel = pieces.kernel.image();
        let files: [(&str, &Path); 5] = [
            ("/EFI/BOOT/BOOTX64.EFI", &self.shim),
            ("/EFI/BOOT/grubx64.efi", &self.grub),
            ("/EFI/debian/grub.cfg", &at("grub.cfg")),
            ("/vmlinuz", &kernel),
            ("/initrd", &at("initrd")),
        ];
        disk::efi(&at("debian.esp"), 64, &files).expect("a disk");
        let variables = firmware::microsoft_variables();
        pieces.boot_from("debian", &variables, &[&at("debian.esp")])
    }
}
