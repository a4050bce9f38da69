//! PCR 8, 9, 12, 13 and 14: command lines, files, shim's lists.

use super::Judge;
use super::Sought;
use super::miss::Miss;
use crate::boot::Meaning;
use crate::boot::chain::{no_keys, option_digests};
use crate::boot::measurement::{Measurement, Note};
use crate::boot::secure_boot::Permission;
use crate::bytes::shown;
use crate::eventlog::Line;
use crate::reference::Value;
use crypto::hex;
use std::collections::{BTreeMap, BTreeSet};

const LINES: u32 = 8;
const FILES: u32 = 9;
const OPTIONS: u32 = 12;
const EXTENSIONS: u32 = 13;
const MOK: u32 = 14;
const IMPORT_LINE: &str = "if it is to be allowed, run trilith refs import with this command line";

impl<const N: usize> Judge<'_, N> {
    /// Each command line that the log shows is one that is allowed. Behind a digest that is noted as a file another
    /// may hide: this refuses what is seen, and vouches for nothing.
    pub(super) fn seen_lines(&mut self) {
        if !self.is_open(LINES) || self.references.command_lines.is_empty() {
            return;
        }
        let (boot, references) = (self.boot, self.references);
        let lines = references.command_lines.iter();
        let options: BTreeMap<[u8; N], &str> = lines
            .flat_map(|line| option_digests(&line.value).map(|digest| (digest, &*line.value)))
            .collect();
        // What GRUB hands to a kernel is its line in another form.
        let handed = boot
            .grub()
            .filter(|(line, _)| *line == Line::KernelCommandLine);
        let handed: BTreeSet<[u8; N]> = handed
            .flat_map(|(_, text)| option_digests(&format!("BOOT_IMAGE={text}")))
            .collect();
        for one in &boot.measurements {
            match &one.meaning {
                Meaning::Grub(Line::KernelCommandLine, text) => {
                    self.line(one, text, path_and_options(text));
                }
                Meaning::Text(text) if one.pcr == boot.layout.options => {
                    self.line(one, text, None);
                }
                Meaning::Elsewhere(Note::LoadOptions) if !handed.contains(&one.digest) => {
                    self.digest_of_line(one, options.get(&one.digest).copied());
                }
                _ => {}
            }
        }
    }

    /// `line` is the one that the digest is of, if it is of one that is known.
    fn digest_of_line(&mut self, one: &Measurement<N>, line: Option<&str>) {
        let miss = Miss {
            code: "BOOT-CMDLINE",
            message: format!("{}: the kernel's command line is not allowed", one.title()),
            observed: hex::encode(&one.digest),
            next: IMPORT_LINE,
        };
        self.require(
            &self.references.command_lines,
            |value| line == Some(value.as_str()),
            |value| shown(value),
            miss,
        );
    }

    /// `options` is the line without the kernel's path.
    fn line(&mut self, one: &Measurement<N>, text: &str, options: Option<&str>) {
        let miss = Miss {
            code: "BOOT-CMDLINE",
            message: format!("{}: the kernel's command line is not allowed", one.title()),
            observed: shown(text.trim()),
            next: IMPORT_LINE,
        };
        let options = options.map(str::trim);
        self.require(
            &self.references.command_lines,
            |value| value.trim() == text.trim() || options == Some(value.trim()),
            |value| shown(value),
            miss,
        );
    }
}

impl<'a> Judge<'a> {
    /// PCR 8: every line that went to a kernel is allowed, and every command if commands are listed.
    pub(super) fn command_lines(&mut self) {
        let references = self.references;
        if self.is_open(LINES) && self.has_list(LINES) {
            let boot = self.boot;
            for one in boot.of(LINES) {
                match &one.meaning {
                    Meaning::Grub(Line::Command, text) => self.command(one, text),
                    Meaning::Grub(_, text) => self.line(one, text, path_and_options(text)),
                    Meaning::Text(text) => self.line(one, text, None),
                    _ if self.boot.is_routine(one) => {}
                    _ => self.unreadable(one),
                }
            }
        }
        // Where files alone are listed, a line is none of them: `files` passes it over.
        let listed = !references.command_lines.is_empty();
        let spoken_of = listed || self.has_list(OPTIONS) && !self.is_pinned(OPTIONS);
        if self.is_open(OPTIONS) && spoken_of {
            let boot = self.boot;
            for one in boot.of(OPTIONS) {
                if let Meaning::Text(text) = &one.meaning {
                    self.line(one, text, None);
                }
            }
        }
    }

    fn command(&mut self, one: &Measurement, text: &str) {
        let allowed = &self.references.grub_commands;
        if allowed.is_empty() {
            return;
        }
        let miss = Miss {
            code: "BOOT-GRUB",
            message: format!("{}: GRUB ran a command that is not allowed", one.title()),
            observed: shown(text),
            next: "if it is to be allowed, run trilith refs import with this configuration of GRUB",
        };
        self.require(allowed, |value| value == text, |value| shown(value), miss);
    }

    /// PCR 9, 12 and 13: every file and every digest of a command line is accounted for.
    pub(super) fn files(&mut self) {
        self.section_line();
        let explained = self.explained();
        let lines = self.references.command_lines.iter();
        let options: BTreeMap<[u8; 32], &str> = lines
            .flat_map(|line| option_digests(&line.value).map(|digest| (digest, &*line.value)))
            .collect();
        for pcr in [FILES, OPTIONS, EXTENSIONS] {
            if !self.is_open(pcr) || !self.has_list(pcr) {
                continue;
            }
            let boot = self.boot;
            for one in boot.of(pcr) {
                let is_line = pcr == OPTIONS && matches!(one.meaning, Meaning::Text(_));
                if self.boot.is_routine(one) || is_line || explained.contains(&one.digest) {
                    continue;
                }
                self.file(one, options.get(&one.digest).copied());
            }
        }
    }

    /// Whether the section of a unified image is a command line that is allowed: then its text is known.
    fn section_line(&mut self) {
        let boot = self.boot;
        let mut sections = boot
            .sections()
            .filter(|(name, _)| *name == ".cmdline")
            .peekable();
        if sections.peek().is_none() {
            return;
        }
        // Once for all sections: a log may have thousands.
        let lines = self.references.command_lines.iter().rev();
        let lines: BTreeMap<[u8; 32], &'a Value<String>> = lines
            .filter(|value| value.window.holds(self.now))
            .map(|value| (crypto::sha256(value.value.as_bytes()), value))
            .collect();
        for (_, digest) in sections {
            if let Some(value) = lines.get(digest) {
                self.misses.matched(value);
                self.command_line = Some(&value.value);
            }
        }
    }

    /// Digests that something already judged explains: what GRUB hands to a kernel is its line in
    /// another form; what a unified image unpacks are its sections.
    fn explained(&self) -> BTreeSet<[u8; 32]> {
        let mut explained = BTreeSet::new();
        if !self.references.command_lines.is_empty() && self.is_open(LINES) {
            for (line, text) in self.boot.grub() {
                if line == Line::KernelCommandLine {
                    explained.extend(option_digests(&format!("BOOT_IMAGE={text}")));
                }
            }
        }
        if !self.references.sections.is_empty() && self.is_open(11) {
            explained.extend(self.boot.sections().map(|(_, digest)| *digest));
        }
        explained
    }

    /// `options` is the command line that the digest is of, if it is of one that is known.
    fn file(&mut self, one: &Measurement, options: Option<&str>) {
        let references = self.references;
        match self.seek(&references.command_lines, |line| options == Some(line)) {
            Sought::Found(value) => {
                self.command_line = Some(&value.value);
                return;
            }
            Sought::Lapsed(value) => return self.lapsed_line(one, value),
            Sought::Absent => {}
        }
        let miss = |code, what: &str, next| Miss {
            code,
            message: format!("{}: {what}{}", one.title(), one.note()),
            observed: hex::encode(&one.digest),
            next,
        };
        if one.meaning == Meaning::Elsewhere(Note::LoadOptions) {
            let miss = miss(
                "BOOT-CMDLINE",
                "the kernel's command line is none that is allowed",
                IMPORT_LINE,
            );
            self.misses
                .absent(miss, &references.command_lines, |value| shown(value));
            return;
        }
        let miss = miss(
            "BOOT-FILE",
            "a file was loaded that is not among the reference values",
            "if it is to be allowed, run trilith refs import with its package or file",
        );
        self.require(
            &references.files,
            |value| *value == one.digest,
            |value| hex::encode(value),
            miss,
        );
    }

    fn lapsed_line(&mut self, one: &Measurement, value: &'a Value<String>) {
        let miss = Miss {
            code: "BOOT-CMDLINE",
            message: format!(
                "{}: the kernel's command line is not allowed now",
                one.title()
            ),
            observed: shown(&value.value),
            next: IMPORT_LINE,
        };
        self.misses.lapsed(miss, value);
    }

    /// PCR 14: nothing is enrolled, or what is enrolled is allowed.
    pub(super) fn mok(&mut self) {
        if !self.is_open(MOK) || self.is_pinned(MOK) && self.references.mok.is_empty() {
            return;
        }
        let vendor: BTreeSet<[u8; 32]> = self.allowed_lists().collect();
        let boot = self.boot;
        for one in boot.of(MOK) {
            if self.boot.is_routine(one)
                || no_keys::<32>().contains(&one.digest)
                || vendor.contains(&one.digest)
            {
                continue;
            }
            let miss = Miss {
                code: "BOOT-MOK",
                message: format!(
                    "{}: shim has a list of keys that is not allowed{}",
                    one.title(),
                    one.note()
                ),
                observed: hex::encode(&one.digest),
                next: "look at it with mokutil --list-enrolled; if it is to be allowed, run trilith \
                       refs import with this shim or key",
            };
            self.require(
                &self.references.mok,
                |value| *value == one.digest,
                |value| hex::encode(value),
                miss,
            );
        }
    }

    /// shim's list of a certificate that is an authority anyway adds nothing.
    fn allowed_lists(&self) -> impl Iterator<Item = [u8; 32]> {
        let allowed: BTreeSet<&[u8; 32]> = self
            .references
            .authorities
            .iter()
            .filter(|value| value.window.holds(self.now))
            .map(|value| &value.value)
            .collect();
        self.boot
            .authorities
            .iter()
            .filter_map(move |one| match &one.permission {
                Permission::Signature {
                    content,
                    list: Some(list),
                } if allowed.contains(content.digest()) => Some(crypto::sha256(list)),
                _ => None,
            })
    }
}

fn path_and_options(line: &str) -> Option<&str> {
    line.split_once(' ').map(|(_, options)| options)
}
