//! A boot, told event by event: what was measured, what it is called, and how far that is proven.

use crate::files::Files;
use crate::naming::Naming;
use crate::view::View;
use attest_tpm::boot::{Meaning, Measurement, Note, Permission};
use attest_tpm::efi::{Content, Guid, parse_signature_lists};
use attest_tpm::eventlog::Line;
use crypto::hex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest value of a variable that is told as it is.
const SHORT: usize = 8;
/// Entries of one signature list that are told by name.
const MOST_ENTRIES: usize = 2_048;

/// What a machine booted and ran, for people and for comparison with another. Nothing is decided by it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Whether a TPM's signature stands behind it; else it is what files say.
    pub quoted: bool,
    pub outline: Option<Outline>,
    /// Index to value, of the SHA-256 bank.
    pub pcrs: BTreeMap<u32, String>,
    /// In the order of the log.
    pub events: Vec<Told>,
    /// By which systemd has gone on in PCR 11.
    pub phases: Vec<String>,
    /// What the kernel measured since.
    pub files: Option<Files>,
}

/// The boot in short.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Outline {
    pub loader: String,
    pub shim: bool,
    pub secure_boot: Option<bool>,
    /// Why Secure Boot is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    pub firmware: Option<String>,
    /// Whose certificates or digests let images start.
    pub authorities: Vec<String>,
    /// Date of shim's revocation list.
    pub sbat: Option<String>,
    pub mok: Option<String>,
    /// What reference values call it, else its digest.
    pub kernel: Option<String>,
    /// As `6.1.0-56-amd64`, if a path or a package says it.
    pub kernel_version: Option<String>,
    pub initrd: Option<String>,
    pub command_line: Option<String>,
}

/// What kind of thing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Firmware,
    Separator,
    Action,
    Variable,
    Authority,
    Sbat,
    Image,
    CommandLine,
    GrubCommand,
    File,
    Initrd,
    SectionName,
    Section,
    Mok,
}

impl What {
    /// For people.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Separator => "separator",
            Self::Action => "action",
            Self::Variable => "variable",
            Self::Authority => "authority",
            Self::Sbat => "SBAT level",
            Self::Image => "image",
            Self::CommandLine => "command line",
            Self::GrubCommand => "GRUB command",
            Self::File => "file",
            Self::Initrd => "initial ramdisk",
            Self::SectionName => "name of a section",
            Self::Section => "section",
            Self::Mok => "MOK list",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Its place in the log, from 0.
    pub event: usize,
    pub pcr: u32,
    pub kind: String,
    pub what: What,
    /// By which it is found again in another boot: `.cmdline`, `db`, a path.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of a list of signatures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<String>,
    pub digest: String,
    /// Whether the digest is of what is told here; else the log merely notes it.
    pub proven: bool,
    /// What reference values call the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<String>,
}

impl Account {
    /// Of a boot, its digests named by `naming`.
    #[must_use]
    pub fn of(view: &View<'_>, naming: &Naming<'_>) -> Self {
        let events = view.measurements.iter();
        let events: Vec<Told> = events.map(|one| told(one, view, naming)).collect();
        let pcrs = view.values().into_iter();
        Self {
            quoted: view.is_quoted(),
            outline: Some(outline(view, naming, &events)),
            pcrs: pcrs
                .map(|(pcr, value)| (pcr, hex::encode(&value)))
                .collect(),
            events,
            phases: view.phases.iter().map(|word| (*word).to_owned()).collect(),
            files: None,
        }
    }

    #[must_use]
    pub fn with_files(self, files: Option<Files>) -> Self {
        Self { files, ..self }
    }
}

fn outline(view: &View<'_>, naming: &Naming<'_>, events: &[Told]) -> Outline {
    let short = view.outline();
    let (secure_boot, unknown) = match short.secure_boot {
        Ok(on) => (Some(on), None),
        Err(why) => (None, Some(why)),
    };
    let named = |piece: Option<attest_tpm::boot::Piece>| {
        piece.map(|piece| {
            let known = naming.file(&piece.digest);
            known.unwrap_or_else(|| hex::encode(&piece.digest))
        })
    };
    let kernel = named(short.kernel);
    let authorities = events.iter().filter(|told| told.what == What::Authority);
    Outline {
        loader: short.loader.name().to_owned(),
        shim: short.shim,
        secure_boot,
        unknown,
        firmware: short.firmware,
        authorities: authorities.filter_map(|told| told.text.clone()).collect(),
        sbat: short.sbat.as_deref().and_then(sbat_date),
        mok: short.mok.map(|mok| mok.name().to_owned()),
        kernel_version: kernel_version(kernel.as_deref(), short.command_line.as_deref(), events),
        kernel,
        initrd: named(short.initrd),
        command_line: short.command_line,
    }
}

/// shim's list begins with `sbat,1,DATE`.
fn sbat_date(text: &str) -> Option<String> {
    let first = text.lines().next()?;
    first.split(',').nth(2).map(str::to_owned)
}

/// After `vmlinuz-` or `linux-image-`, wherever that stands first.
fn kernel_version(kernel: Option<&str>, line: Option<&str>, events: &[Told]) -> Option<String> {
    let noted = events.iter().flat_map(|told| {
        let texts = [told.known.as_deref(), told.text.as_deref()];
        texts.into_iter().flatten().chain([told.name.as_str()])
    });
    [kernel, line]
        .into_iter()
        .flatten()
        .chain(noted)
        .find_map(version_in)
}

/// Of the kernel that was started, without anybody's names.
pub(crate) fn kernel_version_of(view: &View<'_>) -> Option<String> {
    let naming = Naming::default();
    let events = view.measurements.iter();
    let events: Vec<Told> = events.map(|one| told(one, view, &naming)).collect();
    kernel_version(None, view.outline().command_line.as_deref(), &events)
}

pub(crate) fn version_in(text: &str) -> Option<String> {
    ["vmlinuz-", "linux-image-"].into_iter().find_map(|before| {
        let (_, rest) = text.split_once(before)?;
        // Whoever wrote the line may be hostile, and the version goes into commands: it is as packages write it.
        let is_part = |one: char| one.is_ascii_alphanumeric() || "._+~-".contains(one);
        let version = rest.split(|one| !is_part(one)).next()?;
        let version = version.strip_suffix(".efi").unwrap_or(version);
        let is_version = version.starts_with(|one: char| one.is_ascii_digit());
        is_version.then(|| version.to_owned())
    })
}

/// What is told of one measurement, before its digest is named.
struct Words {
    what: What,
    name: String,
    text: Option<String>,
    entries: Vec<String>,
    proven: bool,
}

fn words(what: What, name: impl Into<String>, text: Option<String>, proven: bool) -> Words {
    Words {
        what,
        name: name.into(),
        text,
        entries: Vec::new(),
        proven,
    }
}

pub(crate) fn told(one: &Measurement, view: &View<'_>, naming: &Naming<'_>) -> Told {
    let Words {
        what,
        name,
        text,
        entries,
        proven,
    } = meaning(one, view);
    let known = match what {
        What::Separator | What::Action | What::SectionName => None,
        _ => naming.event(one.pcr, &one.digest),
    };
    Told {
        event: one.event,
        pcr: one.pcr,
        kind: one.kind.to_string(),
        what,
        name,
        text,
        entries,
        digest: hex::encode(&one.digest),
        proven,
        known,
    }
}

fn meaning(one: &Measurement, view: &View<'_>) -> Words {
    match &one.meaning {
        Meaning::Boundary => words(What::Separator, "separator", None, true),
        Meaning::Action(text) => words(What::Action, text, None, true),
        Meaning::Variable {
            vendor,
            name,
            value,
        } => variable(one, view, *vendor, name, value),
        Meaning::Grub(Line::Command, text) => {
            let first = text.split(' ').next().unwrap_or_default();
            words(What::GrubCommand, first, Some(text.clone()), true)
        }
        Meaning::Grub(Line::KernelCommandLine, text) => {
            words(What::CommandLine, "kernel", Some(text.clone()), true)
        }
        Meaning::Grub(Line::ModuleCommandLine, text) => {
            words(What::CommandLine, "module", Some(text.clone()), true)
        }
        Meaning::Text(text) => words(What::CommandLine, "options", Some(text.clone()), true),
        Meaning::SectionName(name) => words(What::SectionName, name, None, true),
        Meaning::Section(name) => words(What::Section, name, None, true),
        Meaning::Data(text) => words(
            elsewhere(one.pcr),
            one.kind.to_string(),
            text.clone(),
            text.is_some(),
        ),
        Meaning::Elsewhere(Note::LoadOptions) => words(
            What::CommandLine,
            "options of the kernel's stub",
            None,
            false,
        ),
        Meaning::Elsewhere(Note::Initrd) => words(What::Initrd, "initrd", None, false),
        Meaning::Elsewhere(Note::Text(text)) => {
            let name = if text.is_empty() {
                one.kind.to_string()
            } else {
                text.clone()
            };
            words(elsewhere(one.pcr), name, None, false)
        }
    }
}

/// What stands in a PCR without being in the log.
const fn elsewhere(pcr: u32) -> What {
    match pcr {
        2 | 4 => What::Image,
        8 | 9 | 12 | 13 => What::File,
        14 => What::Mok,
        _ => What::Firmware,
    }
}

fn variable(one: &Measurement, view: &View<'_>, vendor: Guid, name: &str, value: &[u8]) -> Words {
    let mut authorities = view.authorities().iter();
    let authority = authorities.find(|authority| authority.event == one.event);
    match authority.map(|authority| &authority.permission) {
        Some(Permission::Signature { content, .. }) => {
            return words(What::Authority, name, Some(entry(content)), true);
        }
        Some(Permission::Sbat(text)) => {
            return words(What::Sbat, name, Some(text.trim().to_owned()), true);
        }
        _ => {}
    }
    let mut told = words(What::Variable, name, None, true);
    let is_list = vendor == Guid::IMAGE_SECURITY || matches!(name, "PK" | "KEK");
    match parse_signature_lists(value) {
        Ok(entries) if is_list => {
            told.text = Some(format!("{} entries", entries.len()));
            let entries = entries.iter().take(MOST_ENTRIES);
            told.entries = entries.map(|one| entry(&one.content)).collect();
        }
        _ if name == "SecureBoot" => {
            told.text = Some(if value == [1] { "on" } else { "off" }.to_owned());
        }
        _ if value.len() <= SHORT => told.text = Some(hex::encode(value)),
        _ => told.text = Some(format!("{} bytes", value.len())),
    }
    told
}

/// A certificate by its subject, an image by its digest.
fn entry(content: &Content) -> String {
    match content {
        Content::Certificate {
            sha256,
            subject: Some(subject),
        } => format!("{subject} (certificate {})", hex::encode(sha256)),
        Content::Certificate { sha256, .. } => format!("certificate {}", hex::encode(sha256)),
        Content::Image(sha256) => format!("image {}", hex::encode(sha256)),
        Content::Other { kind, sha256 } => format!("{kind} {}", hex::encode(sha256)),
    }
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn a_kernels_version_stands_behind_its_name() {
        for (text, version) in [
            (
                "/boot/vmlinuz-6.1.0-56-amd64 root=/dev/sda1",
                "6.1.0-56-amd64",
            ),
            ("linux-image-6.12.9-amd64 6.12.9-1 /boot/x", "6.12.9-amd64"),
            ("\\EFI\\Linux\\vmlinuz-6.1.0.efi", "6.1.0"),
            ("/vmlinuz-6.1$(reboot) quiet", "6.1"),
            ("/vmlinuz-6\"; reboot", "6"),
        ] {
            assert_eq!(version_in(text).as_deref(), Some(version), "{text}");
        }
        for text in ["/vmlinuz", "linux-image-amd64 6.1", ""] {
            assert_eq!(version_in(text), None, "{text}");
        }
    }
}
