//! shim, GRUB and kernel as Debian signs them, on a machine with Microsoft's keys.

use super::pieces::{CMDLINE, Pieces};
use std::path::{Path, PathBuf};
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

    /// Boots it: GRUB's configuration and the initramfs are the machine's own, and nobody signs them.
    pub(crate) fn boot(&self, pieces: &Pieces) -> Guest {
        let at = |name: &str| pieces.path(name);
        pieces.initramfs().write(&at("initrd")).expect("an initrd");
        let configuration = format!(
            "set timeout=0\nsearch --set=root --file /vmlinuz\nlinux /vmlinuz {CMDLINE}\n\
             initrd /initrd\nboot\n"
        );
        std::fs::write(at("grub.cfg"), configuration).expect("written");
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
