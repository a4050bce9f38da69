//! One measurement that a quote stands behind, with as much meaning as its digest proves.

use super::layout::Layout;
use crate::bank;
use crate::bytes::{shown, utf16};
use crate::efi::{Guid, image_path};
use crate::eventlog::{Event, Kind, Line, Said};

/// `EV_EVENT_TAG` of the kernel's EFI stub (Linux, `efistub.h`): tag, length, text.
const TAG_HEADER: usize = 8;

/// What was extended into a quoted PCR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement<const N: usize = 32> {
    /// Place of the event in the log, from 0.
    pub event: usize,
    pub pcr: u32,
    /// As the log says. Nothing proves it.
    pub kind: Kind,
    /// As extended: SHA-256, or what the bank has.
    pub digest: [u8; N],
    pub meaning: Meaning,
}

/// What is proven of a measurement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A separator: firmware hands over.
    Boundary,
    /// One of firmware's sentences.
    Action(String),
    Variable {
        vendor: Guid,
        name: String,
        value: Vec<u8>,
    },
    /// A line that GRUB ran or handed on. Which of both is not measured: what begins with a path is
    /// taken for a command line whatever the log calls it, as no command does.
    Grub(Line, String),
    /// Options for the kernel, in plain text.
    Text(String),
    /// The name of a section; its content follows in the same PCR.
    SectionName(String),
    /// The content of the section whose name was measured right before.
    Section(String),
    /// Data of the log, as text where it is text.
    Data(Option<String>),
    /// A program or file that is not in the log. The note is for people: nothing proves it.
    Elsewhere(Note),
}

/// What the log notes beside a digest of something that is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The kernel's options, measured by its EFI stub.
    LoadOptions,
    /// The initial ramdisk, measured by the kernel's EFI stub.
    Initrd,
    /// A path, a name, or nothing.
    Text(String),
}

impl<const N: usize> Measurement<N> {
    /// For findings.
    #[must_use]
    pub fn title(&self) -> String {
        format!("event {} (PCR {}, {})", self.event, self.pcr, self.kind)
    }

    /// What the log notes, for findings.
    pub(super) fn note(&self) -> String {
        match &self.meaning {
            Meaning::Elsewhere(Note::Text(text)) if !text.is_empty() => {
                format!(", noted as {}", shown(text))
            }
            Meaning::Elsewhere(Note::LoadOptions) => ", noted as the kernel's options".to_owned(),
            Meaning::Elsewhere(Note::Initrd) => ", noted as the initial ramdisk".to_owned(),
            _ => String::new(),
        }
    }

    /// Whether it is one of the sentences and marks that firmware puts into its own PCRs, where nothing
    /// else that is measured is a short sentence. Behind them GRUB measures its lines, and a line could
    /// be passed off as a sentence: nothing is routine there.
    pub(super) const fn is_routine(&self, layout: &Layout) -> bool {
        self.pcr < layout.loaders && matches!(self.meaning, Meaning::Boundary | Meaning::Action(_))
    }
}

/// The measurements of the events that `quoted` says yes to, in their order.
pub(super) fn measurements<'a, const N: usize>(
    events: impl Iterator<Item = &'a Event<'a>>,
    quoted: impl Fn(u32) -> bool,
) -> Vec<Measurement<N>> {
    let mut measurements: Vec<Measurement<N>> = Vec::new();
    for event in events.filter(|event| quoted(event.pcr)) {
        let Some(digest) = event
            .digest(bank::hash::<N>())
            .and_then(<[u8]>::as_array::<N>)
        else {
            continue;
        };
        let before = measurements
            .iter()
            .rev()
            .find(|one| one.pcr == event.pcr)
            .map(|one| &one.meaning);
        let meaning = meaning(event, digest, before);
        measurements.push(Measurement {
            event: event.index,
            pcr: event.pcr,
            kind: event.kind,
            digest: *digest,
            meaning,
        });
    }
    measurements
}

/// A separator is known by its digest, whatever the log calls it: what stands before it cannot be
/// moved behind it by another label.
fn is_boundary<const N: usize>(digest: &[u8; N]) -> bool {
    [[0x00; 4], [0xff; 4]]
        .iter()
        .any(|value| bank::digest::<N>(&[value]) == *digest)
}

fn meaning<const N: usize>(
    event: &Event<'_>,
    digest: &[u8; N],
    before: Option<&Meaning>,
) -> Meaning {
    if is_boundary(digest) {
        return Meaning::Boundary;
    }
    if let Some(Meaning::SectionName(name)) = before {
        return Meaning::Section(name.clone());
    }
    match event.said(bank::hash::<N>()) {
        Said::Action(text) => Meaning::Action(text.to_owned()),
        Said::Variable(variable) => Meaning::Variable {
            vendor: variable.vendor,
            name: variable.name,
            value: variable.value.to_vec(),
        },
        Said::Grub(Line::Command, text) if text.starts_with(['/', '(']) => {
            Meaning::Grub(Line::KernelCommandLine, text.to_owned())
        }
        Said::Grub(line, text) => Meaning::Grub(line, text.to_owned()),
        Said::Text(text) => Meaning::Text(text),
        Said::SectionName(name) => Meaning::SectionName(name),
        Said::Separator(_) | Said::Data | Said::VariableValue(_) => Meaning::Data(text(event.data)),
        // A contradicted event does not get here: the log was refused.
        Said::Elsewhere | Said::Contradicted | Said::Nothing => Meaning::Elsewhere(note(event)),
    }
}

/// UTF-16 or ASCII that a person can read.
fn text(data: &[u8]) -> Option<String> {
    let plain = |text: &str| !text.is_empty() && text.chars().all(|one| matches!(one, ' '..='~'));
    let ascii = str::from_utf8(data)
        .ok()
        .map(|text| text.trim_end_matches('\0').to_owned());
    ascii
        .filter(|text| plain(text))
        .or_else(|| utf16(data).filter(|text| plain(text)))
}

fn note(event: &Event<'_>) -> Note {
    match event.kind {
        Kind::BOOT_SERVICES_APPLICATION
        | Kind::BOOT_SERVICES_DRIVER
        | Kind::RUNTIME_SERVICES_DRIVER => Note::Text(image_path(event.data).unwrap_or_default()),
        Kind::EVENT_TAG => {
            let body = event.data.get(TAG_HEADER..).unwrap_or_default();
            match body.strip_suffix(&[0]).unwrap_or(body) {
                b"LOADED_IMAGE::LoadOptions" => Note::LoadOptions,
                b"Linux initrd" => Note::Initrd,
                _ => Note::Text(text(body).unwrap_or_default()),
            }
        }
        _ => Note::Text(text(event.data).unwrap_or_default()),
    }
}
