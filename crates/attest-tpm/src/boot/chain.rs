//! What was started after firmware: images, GRUB's lines, a unified kernel's sections, enrolled keys.
//!
//! All of it is the word of the programs that measured it, from the first image on.

use super::layout::Layout;
use super::measurement::{Meaning, Measurement, Note};
use super::secure_boot::Permission;
use super::verify::Boot;
use crate::bank;
use crate::bytes::shown;
use crate::efi::sha256_list;
use crate::eventlog::Line;
use std::collections::BTreeSet;

/// An image, by the digest that its signature covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image<const N: usize = 32> {
    pub event: usize,
    /// 4, or 2.
    pub pcr: u32,
    /// Authenticode, by the bank's function.
    pub digest: [u8; N],
    /// The path that the log notes; nothing proves it.
    pub path: Option<String>,
}

/// How the kernel was started, by what was measured. Which programs those are, the images say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loader {
    Grub,
    /// A unified kernel image: systemd-stub measured its sections.
    Uki,
    SystemdBoot,
    /// The kernel's own EFI stub and nothing else that measures.
    EfiStub,
    Unknown,
}

impl Loader {
    /// The PCRs by which it was told from the others.
    pub(super) const fn pcrs(self) -> &'static [u32] {
        match self {
            Self::Uki => &[11],
            Self::Grub => &[8, 11],
            Self::SystemdBoot => &[8, 11, 12],
            Self::EfiStub | Self::Unknown => &[8, 9, 11, 12],
        }
    }

    /// As facts have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grub => "grub",
            Self::Uki => "uki",
            Self::SystemdBoot => "systemd-boot",
            Self::EfiStub => "efi-stub",
            Self::Unknown => "unknown",
        }
    }
}

/// The kernel's command line, as far as a log says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandLine<const N: usize = 32> {
    /// GRUB's, with the kernel's path before it, or systemd's.
    Text { event: usize, text: String },
    /// Only a digest was logged: of the options in UTF-16, with or without a zero.
    Digest { event: usize, digest: [u8; N] },
}

/// What shim says of machine owner keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mok {
    /// None, or no shim.
    None,
    /// Only certificates that are built into this shim.
    Vendor,
    /// Lists that are not in the log: enrolled keys, or a vendor's own revocations.
    Other,
}

impl Mok {
    /// As facts have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Vendor => "vendor",
            Self::Other => "other",
        }
    }
}

impl<const N: usize> Boot<N> {
    /// Everything in PCR 4 and PCR 2 that is not one of firmware's sentences, in the order of each PCR.
    /// Drivers of add-in cards are among them.
    pub fn images(&self) -> impl Iterator<Item = Image<N>> {
        self.layout.images.iter().flat_map(|pcr| {
            let pcr = *pcr;
            self.of(pcr)
                .filter(|one| !self.is_routine(one) && !self.tables.contains(&one.event))
                .map(move |one| Image {
                    event: one.event,
                    pcr,
                    digest: one.digest,
                    path: match &one.meaning {
                        Meaning::Elsewhere(Note::Text(text)) if !text.is_empty() => {
                            Some(shown(text))
                        }
                        _ => None,
                    },
                })
        })
    }

    /// The sections of unified kernel images in PCR 11: name and digest of the content, in order.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &[u8; N])> {
        self.of(self.layout.sections)
            .filter_map(|one| match &one.meaning {
                Meaning::Section(name) => Some((name.as_str(), &one.digest)),
                _ => None,
            })
    }

    /// What GRUB ran and handed on, in order.
    pub fn grub(&self) -> impl Iterator<Item = (Line, &str)> {
        self.of(self.layout.lines)
            .filter_map(|one| match &one.meaning {
                Meaning::Grub(line, text) => Some((*line, text.as_str())),
                _ => None,
            })
    }

    /// Every command line that was measured, in the order of the log. One boot may measure the same
    /// one in several PCRs.
    #[must_use]
    pub fn command_lines(&self) -> Vec<CommandLine<N>> {
        let Layout {
            lines,
            options,
            files,
            ..
        } = self.layout;
        let lines = self.measurements.iter().filter_map(|one| {
            let (event, digest, pcr) = (one.event, one.digest, one.pcr);
            match &one.meaning {
                Meaning::Grub(Line::KernelCommandLine, text) if pcr == lines => {
                    Some(CommandLine::Text {
                        event,
                        text: text.clone(),
                    })
                }
                Meaning::Text(text) if pcr == lines || pcr == options => Some(CommandLine::Text {
                    event,
                    text: text.clone(),
                }),
                Meaning::Elsewhere(Note::LoadOptions) if pcr == files => {
                    Some(CommandLine::Digest { event, digest })
                }
                _ => None,
            }
        });
        lines.collect()
    }

    /// The command line, if the log has exactly one in plain text.
    #[must_use]
    pub fn command_line(&self) -> Option<String> {
        let texts: BTreeSet<String> = self
            .command_lines()
            .into_iter()
            .filter_map(|line| match line {
                CommandLine::Text { text, .. } => Some(text.trim().to_owned()),
                CommandLine::Digest { .. } => None,
            })
            .collect();
        match texts.len() {
            1 => texts.into_iter().next(),
            _ => None,
        }
    }

    #[must_use]
    pub fn loader(&self) -> Loader {
        let has = |pcr: u32, is: fn(&Meaning) -> bool| self.of(pcr).any(|one| is(&one.meaning));
        let is_text = |meaning: &Meaning| matches!(meaning, Meaning::Text(_));
        if self.sections().next().is_some() {
            Loader::Uki
        } else if self.grub().next().is_some() {
            Loader::Grub
        } else if has(self.layout.options, is_text) || has(self.layout.lines, is_text) {
            Loader::SystemdBoot
        } else if has(self.layout.files, |meaning| {
            matches!(
                meaning,
                Meaning::Elsewhere(Note::LoadOptions | Note::Initrd)
            )
        }) {
            Loader::EfiStub
        } else {
            Loader::Unknown
        }
    }

    /// Whether shim took part: it measured its variables, or its lists.
    #[must_use]
    pub fn has_shim(&self) -> bool {
        let of_shim = |one: &super::Authority| one.vendor == crate::efi::Guid::SHIM;
        self.authorities.iter().any(of_shim)
            || (self.layout.mok).is_some_and(|mok| self.of(mok).next().is_some())
    }

    /// shim's revocation level, if it measured exactly one.
    #[must_use]
    pub fn sbat(&self) -> Option<&str> {
        let mut levels = self.sbat_levels();
        let first = levels.next()?;
        levels.all(|level| level == first).then_some(first)
    }

    pub(super) fn sbat_levels(&self) -> impl Iterator<Item = &str> {
        self.authorities
            .iter()
            .filter_map(|one| match &one.permission {
                Permission::Sbat(text) => Some(text.as_str()),
                _ => None,
            })
    }

    /// Absent if PCR 14 was not quoted, or holds more than shim's lists.
    #[must_use]
    pub fn mok(&self) -> Option<Mok> {
        let lists = self.layout.mok?;
        self.pcrs.value(lists)?;
        let vendor: BTreeSet<[u8; N]> = self.vendor_lists().collect();
        let mut mok = Mok::None;
        for one in self.of(lists) {
            if no_keys::<N>().contains(&one.digest) {
                continue;
            }
            if !vendor.contains(&one.digest) {
                return Some(Mok::Other);
            }
            mok = Mok::Vendor;
        }
        Some(mok)
    }

    /// What shim measures into PCR 14 for each of its own certificates that PCR 7 shows.
    fn vendor_lists(&self) -> impl Iterator<Item = [u8; N]> {
        self.authorities
            .iter()
            .filter_map(|one| match &one.permission {
                Permission::Signature { list, .. } => {
                    list.as_ref().map(|list| bank::digest(&[list.as_slice()]))
                }
                _ => None,
            })
    }

    /// The digest of the kernel, as it was measured: the section of a unified image, whose name is proven;
    /// else the file that GRUB's line names, or the only image, which the log merely notes.
    #[must_use]
    pub fn kernel(&self) -> Option<Piece<N>> {
        if let Some(section) = self.only_section(".linux") {
            return Some(section);
        }
        let line = self.grub().find_map(|(line, text)| {
            (line == Line::KernelCommandLine).then(|| text.split(' ').next().unwrap_or_default())
        });
        if let Some(path) = line {
            return self.only_file(path);
        }
        let piece = |image: Image<N>| Piece::noted(image.digest, image.pcr);
        let mut images = self.images();
        match (images.next(), images.next()) {
            (Some(only), None) => Some(piece(only)),
            _ => None,
        }
    }

    /// The digest of the initial ramdisk: the section of a unified image, else what the kernel's stub
    /// measured, else the file that GRUB's line names.
    #[must_use]
    pub fn initrd(&self) -> Option<Piece<N>> {
        if let Some(section) = self.only_section(".initrd") {
            return Some(section);
        }
        let by_stub = |one: &&Measurement<N>| one.meaning == Meaning::Elsewhere(Note::Initrd);
        let files = self.layout.files;
        let mut by_stub = self.of(files).filter(by_stub).map(|one| one.digest);
        if let Some(first) = by_stub.next() {
            return by_stub
                .all(|other| other == first)
                .then_some(Piece::noted(first, files));
        }
        let mut lines = self
            .grub()
            .filter_map(|(_, text)| text.strip_prefix("initrd "));
        match (lines.next(), lines.next()) {
            (Some(path), None) => self.only_file(path.trim()),
            _ => None,
        }
    }

    fn only_section(&self, name: &str) -> Option<Piece<N>> {
        let mut found = self.sections().filter(|(one, _)| *one == name);
        match (found.next(), found.next()) {
            (Some((_, digest)), None) => Some(Piece {
                digest: *digest,
                is_named: true,
                pcr: self.layout.sections,
            }),
            _ => None,
        }
    }

    fn only_file(&self, path: &str) -> Option<Piece<N>> {
        let files = self.layout.files;
        let mut found = self.of(files).filter(|one| {
            matches!(&one.meaning, Meaning::Elsewhere(Note::Text(noted)) if noted.as_str() == path)
        });
        let first = found.next()?.digest;
        found
            .all(|other| other.digest == first)
            .then_some(Piece::noted(first, files))
    }
}

/// Part of what was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<const N: usize = 32> {
    pub digest: [u8; N],
    /// Whether the digest was measured under its name, rather than noted under it.
    pub is_named: bool,
    /// Where it was measured.
    pub pcr: u32,
}

impl<const N: usize> Piece<N> {
    const fn noted(digest: [u8; N], pcr: u32) -> Self {
        Self {
            digest,
            is_named: false,
            pcr,
        }
    }
}

/// What shim measures where nothing is enrolled: a list of one digest of zeros, and `MokListTrusted`.
pub(super) fn no_keys<const N: usize>() -> [[u8; N]; 2] {
    let empty = sha256_list(&[0; 32]).unwrap_or_default();
    [bank::digest(&[empty.as_slice()]), bank::digest(&[&[1]])]
}

/// How the kernel's stub sees options: in UTF-16, usually with a zero behind them.
pub(super) fn option_digests<const N: usize>(text: &str) -> [[u8; N]; 2] {
    let mut bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let without = bank::digest(&[bytes.as_slice()]);
    bytes.extend([0, 0]);
    [without, bank::digest(&[bytes.as_slice()])]
}
