//! A unified kernel image on systemd-stub: PCR 4, 9 and 11 (UAPI.5 specification; systemd-stub(7);
//! `src/fundamental/uki.c` for the order of sections).

use super::{EfiStub, boot_loader};
use crate::bytes::slice;
use crate::generation::{PcrValue, Unpredicted};
use crate::pcr::Pcr;
use crate::{Digest, pe};
use facts::Finding;

/// Sections in the order in which the stub measures them, and the first version that does.
const MEASURED: &[(&str, u32)] = &[
    (".linux", 252),
    (".osrel", 252),
    (".cmdline", 252),
    (".initrd", 252),
    (".ucode", 256),
    (".splash", 252),
    (".dtb", 252),
    (".uname", 254),
    (".sbat", 254),
    (".pcrpkey", 252),
];
/// Which of these is measured depends on the machine that boots.
const BY_MACHINE: &[&str] = &[".profile", ".dtbauto", ".hwids", ".efifw"];
/// The stub hands these to the kernel as initrds that it makes itself.
const MORE_INITRDS: &[&str] = &[".ucode", ".pcrsig", ".pcrpkey"];
const OLDEST: u32 = 252;
/// From here on the stub always makes an initrd of its own.
const OWN_INITRD: u32 = 257;
const MAGIC: &str = "#### LoaderInfo: systemd-stub ";
/// Kernels take 2 KiB.
const LONGEST_CMDLINE: usize = 64 * 1024;

/// A stage of the boot that systemd measures into PCR 11 from the running system
/// (systemd-pcrphase.service(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Only the stub has measured.
    Stub,
    EnterInitrd,
    LeaveInitrd,
    Sysinit,
    Ready,
}

const PHASES: [(Phase, &str); 4] = [
    (Phase::EnterInitrd, "enter-initrd"),
    (Phase::LeaveInitrd, "leave-initrd"),
    (Phase::Sysinit, "sysinit"),
    (Phase::Ready, "ready"),
];

/// A parsed UKI.
#[derive(Debug, Clone)]
pub struct Uki {
    /// Major version of its stub.
    pub stub: u32,
    pub authenticode: Digest,
    /// Section and SHA-256 of its content, in the order in which they are measured.
    pub sections: Vec<(String, Digest)>,
    cmdline: Option<Vec<u8>>,
    initrd: Option<Digest>,
    own_initrds: bool,
}

fn refused(what: &str) -> Finding {
    Finding::new("REF-UKI", "the boot of this image cannot be predicted")
        .expected("a UKI on systemd-stub 252 or later whose sections are the same on every machine")
        .observed(what)
        .next("build the image with ukify or objcopy as docs/operate/reference-values.md shows")
}

impl Uki {
    /// # Errors
    /// `REF-PE…` for the image, `REF-UKI` when its measurements depend on more than the image.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        let image = pe::Image::parse(bytes)?;
        let stub = stub_version(&image)?;
        let unknown = |name: &&str| image.section(name).is_ok_and(|found| found.is_some());
        if let Some(name) = BY_MACHINE.iter().find(|name| unknown(name)) {
            return Err(refused(&format!("a section {name}")));
        }
        let mut sections = Vec::new();
        let (mut cmdline, mut initrd) = (None, None);
        for (name, since) in MEASURED {
            let Some(section) = image.section(name)? else {
                continue;
            };
            if section.virtual_size == 0 || stub < *since {
                // 253 measured some of these in some builds: nothing is said of it.
                if stub == 253 && section.virtual_size > 0 {
                    return Err(refused("systemd-stub 253 with sections of later versions"));
                }
                continue;
            }
            let digest = section
                .digest()
                .ok_or_else(|| refused("a section of which most is not in the image"))?;
            match *name {
                ".cmdline" => {
                    let loaded = section.loaded(LONGEST_CMDLINE);
                    let too_long = || refused("a command line of more than 64 KiB");
                    cmdline = Some(loaded.ok_or_else(too_long)?);
                }
                ".initrd" => initrd = Some(digest),
                _ => {}
            }
            sections.push(((*name).to_owned(), digest));
        }
        if sections.first().is_none_or(|(name, _)| name != ".linux") {
            return Err(refused("no section .linux"));
        }
        let more = MORE_INITRDS.iter().any(unknown);
        Ok(Self {
            stub,
            authenticode: image.authenticode(),
            sections,
            cmdline,
            initrd,
            own_initrds: more || stub >= OWN_INITRD,
        })
    }

    /// PCR 4 when firmware starts the image itself.
    #[must_use]
    pub fn pcr4(&self) -> PcrValue {
        boot_loader(("UKI", self.authenticode), &[])
    }

    /// The command line, as text: as the section holds it, which its digest is of, and as the kernel gets it. None
    /// if it comes from outside the image.
    #[must_use]
    pub fn command_lines(&self) -> Vec<String> {
        let text = self.cmdline.as_deref().map(str::from_utf8);
        let Some(Ok(text)) = text else {
            return Vec::new();
        };
        let given: String = text
            .trim_end_matches('\0')
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        let mut lines = vec![text.to_owned()];
        for line in [given.trim().to_owned(), given] {
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
        lines
    }

    /// PCR 11 after `phase`.
    #[must_use]
    pub fn pcr11(&self, phase: Phase) -> PcrValue {
        sections_pcr11(&self.sections, phase)
    }

    /// PCR 9 under Secure Boot, where the command line can only be the image's own.
    ///
    /// # Errors
    /// Why it cannot be said.
    pub fn pcr9(&self) -> Result<PcrValue, Unpredicted> {
        let not = |why: &str| Unpredicted {
            index: 9,
            why: why.to_owned(),
        };
        if self.own_initrds {
            return Err(not("the stub hands over initrds that it makes at boot"));
        }
        let cmdline = self
            .cmdline
            .as_deref()
            .ok_or_else(|| not("the command line comes from outside the image"))?;
        let cmdline = str::from_utf8(cmdline)
            .ok()
            .map(|text| text.trim_end_matches('\0'))
            .filter(|text| text.is_ascii())
            .ok_or_else(|| not("the command line is not ASCII"))?;
        // Control characters become spaces; later stubs also cut spaces at both ends.
        let cmdline: String = cmdline
            .chars()
            .map(|letter| if letter.is_control() { ' ' } else { letter })
            .collect();
        if self.stub > OLDEST && cmdline.trim() != cmdline {
            return Err(not("the command line begins or ends with white space"));
        }
        let stub = EfiStub {
            cmdline: &cmdline,
            initrd: self.initrd,
        };
        Ok(stub.pcr9())
    }
}

/// PCR 11 of the measured `sections`, in the order in which they are measured: for each its name with a
/// terminating zero, then its content.
#[must_use]
pub fn sections_pcr11(sections: &[(String, Digest)], phase: Phase) -> PcrValue {
    let mut pcr = Pcr::new(11);
    for (name, digest) in sections {
        pcr = pcr
            .measure(format!("name of {name}"), format!("{name}\0").as_bytes())
            .extend(name.as_str(), *digest);
    }
    let reached = PHASES.iter().position(|(known, _)| *known == phase);
    for (_, word) in PHASES
        .iter()
        .take(reached.map_or(0, |position| position + 1))
    {
        pcr = pcr.measure(format!("phase {word}"), word.as_bytes());
    }
    pcr.finish()
}

/// The stub says its version in `.sdmagic`.
fn stub_version(image: &pe::Image<'_>) -> Result<u32, Finding> {
    let section = image
        .section(".sdmagic")?
        .ok_or_else(|| refused("no section .sdmagic: not systemd-stub"))?;
    let head = slice(section.raw, 0, section.raw.len().min(128)).unwrap_or_default();
    let text = String::from_utf8_lossy(head);
    let version = text
        .split_once(MAGIC)
        .map(|(_, rest)| {
            rest.chars()
                .take_while(char::is_ascii_digit)
                .collect::<String>()
        })
        .and_then(|digits| digits.parse::<u32>().ok())
        .ok_or_else(|| refused("a .sdmagic that names no version of systemd-stub"))?;
    if version < OLDEST {
        return Err(refused("a systemd-stub before 252"));
    }
    Ok(version)
}
