//! What an event's digest proves of the words beside it.
//!
//! Some events measure their own data, some measure part of it, and some measure something that is not
//! in the log at all, a program or a file, and carry a note. Only the first two kinds say anything.
//! The rules are those of the Platform Firmware Profile 1.06, section 10.4.1, of GRUB, shim and
//! systemd, and of what firmware in the field does beside them.

use super::{Event, Kind, Log};
use crate::bytes::utf16;
use crate::efi::Variable;
use crypto::Hash;
use facts::Finding;

/// Actions are short sentences. A longer one could be a program that is passed off as one.
const LONGEST_ACTION: usize = 128;
/// Findings about lies are not repeated more often than this.
const MOST_LIES: usize = 8;

/// What was measured, as far as the digest proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said<'a> {
    /// Nothing: the event is not extended.
    Nothing,
    /// The end of what firmware does before it hands over, or an error (any other value than 0 and
    /// 0xffffffff).
    Separator(&'a [u8]),
    /// One of firmware's sentences, printable.
    Action(&'a str),
    /// A variable, its name and vendor included.
    Variable(Variable<'a>),
    /// A variable's value. Its name is only noted.
    VariableValue(Variable<'a>),
    /// A line of GRUB's. Its text is measured; what kind of line it is, is only noted.
    Grub(Line, &'a str),
    /// UTF-16 text: options that systemd's boot loader or stub hands to the kernel.
    Text(String),
    /// The name of a section of a unified kernel image. The next event in the same PCR is its content.
    SectionName(String),
    /// The event's data, whatever it means.
    Data,
    /// Something that is not in the log.
    Elsewhere,
    /// The type says that the digest is of the data, and it is not.
    Contradicted,
}

/// What GRUB measures to PCR 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Line {
    Command,
    KernelCommandLine,
    ModuleCommandLine,
}

/// What stands before a line in the data; whether the zero after it is measured with it.
/// GRUB 2.04 and later, then Red Hat's 2.02.
const LINES: [(&str, Line, bool); 5] = [
    ("grub_cmd: ", Line::Command, false),
    ("kernel_cmdline: ", Line::KernelCommandLine, false),
    ("module_cmdline: ", Line::ModuleCommandLine, false),
    ("grub_cmd ", Line::Command, true),
    ("grub_kernel_cmdline ", Line::KernelCommandLine, false),
];

impl<'a> Event<'a> {
    /// What the digest in the bank of `hash` proves; [`Said::Contradicted`] where it is missing.
    #[must_use]
    pub fn said(&self, hash: Hash) -> Said<'a> {
        if !self.is_measured() {
            return Said::Nothing;
        }
        let Some(digest) = self.digest(hash) else {
            return Said::Contradicted;
        };
        let data = self.data;
        let of = |parts: &[&[u8]]| hash.digest(parts) == digest;
        match self.kind {
            Kind::SEPARATOR if of(&[data]) => Said::Separator(data),
            Kind::EFI_ACTION | Kind::ACTION if of(&[data]) => action(data),
            Kind::VARIABLE_DRIVER_CONFIG if of(&[data]) => variable(data),
            Kind::VARIABLE_AUTHORITY => authority(data, of),
            Kind::VARIABLE_BOOT | Kind::VARIABLE_BOOT2 => boot_variable(data, of),
            Kind::GPT_EVENT | Kind::OMIT_BOOT_DEVICE_EVENTS if of(&[data]) => Said::Data,
            Kind::SEPARATOR
            | Kind::EFI_ACTION
            | Kind::ACTION
            | Kind::VARIABLE_DRIVER_CONFIG
            | Kind::GPT_EVENT
            | Kind::OMIT_BOOT_DEVICE_EVENTS => Said::Contradicted,
            Kind::IPL => ipl(data, of),
            _ if of(&[data]) => Said::Data,
            _ => Said::Elsewhere,
        }
    }
}

impl Log<'_> {
    /// The events whose data is not what was measured though their type says so: someone wrote the log
    /// who did not write the PCRs.
    #[must_use]
    pub fn contradictions(&self, hash: Hash) -> Vec<Finding> {
        let mut lies = self
            .measured()
            .filter(|event| event.said(hash) == Said::Contradicted);
        let mut findings: Vec<Finding> = lies
            .by_ref()
            .take(MOST_LIES)
            .map(|event| contradiction(event, hash))
            .collect();
        let more = lies.count();
        if let (Some(last), true) = (findings.last_mut(), more > 0) {
            last.message.push_str(&format!("; so do {more} more"));
        }
        findings
    }
}

fn contradiction(event: &Event<'_>, hash: Hash) -> Finding {
    let measured = event.digest(hash).unwrap_or_default();
    Finding::new(
        "EVENTLOG-DATA",
        format!(
            "{} claims data that was not what was measured",
            event.title()
        ),
    )
    .expected(format!(
        "data whose {hash} is {}",
        crypto::hex::encode(measured)
    ))
    .observed(format!(
        "{} bytes whose {hash} is {}",
        event.data.len(),
        crypto::hex::encode(&hash.digest(&[event.data]))
    ))
    .next("treat the machine as tampered with: firmware measures and logs the same bytes")
}

/// What no program can pass for: short and printable. Anything else is measured data without a meaning.
fn action(data: &[u8]) -> Said<'_> {
    let text = data.strip_suffix(&[0]).unwrap_or(data);
    let printable = text.iter().all(|byte| matches!(byte, b' '..=b'~'));
    match str::from_utf8(text) {
        Ok(text) if printable && text.len() <= LONGEST_ACTION => Said::Action(text),
        _ => Said::Data,
    }
}

fn variable(data: &[u8]) -> Said<'_> {
    Variable::parse(data).map_or(Said::Data, |(variable, _)| Said::Variable(variable))
}

/// Shims before 15.4 log a byte more than they measure, behind the variable. The variable itself is
/// measured whole.
fn authority(data: &[u8], of: impl Fn(&[&[u8]]) -> bool) -> Said<'_> {
    if of(&[data]) {
        return variable(data);
    }
    let (Some((_, shorter)), Some((variable, length))) = (data.split_last(), Variable::parse(data))
    else {
        return Said::Contradicted;
    };
    if length <= shorter.len() && of(&[shorter]) {
        Said::Variable(variable)
    } else {
        Said::Contradicted
    }
}

/// Firmware either measures the whole variable or, more often, its value alone.
fn boot_variable(data: &[u8], of: impl Fn(&[&[u8]]) -> bool) -> Said<'_> {
    if of(&[data]) {
        return variable(data);
    }
    match Variable::parse(data) {
        Some((variable, _)) if of(&[variable.value]) => Said::VariableValue(variable),
        _ => Said::Contradicted,
    }
}

fn ipl(data: &[u8], of: impl Fn(&[&[u8]]) -> bool) -> Said<'_> {
    let text = str::from_utf8(data).map(|text| text.strip_suffix('\0').unwrap_or(text));
    for (before, line, zero) in LINES {
        if let Some(line_text) = text.ok().and_then(|text| text.strip_prefix(before)) {
            let end: &[u8] = if zero { &[0] } else { &[] };
            return if of(&[line_text.as_bytes(), end]) {
                Said::Grub(line, line_text)
            } else {
                Said::Contradicted
            };
        }
    }
    if let Some(text) = utf16(
        data.strip_suffix(&[0])
            .filter(|_| data.len() % 2 == 1)
            .unwrap_or(data),
    ) {
        // systemd-stub measures a section's name in ASCII with its zero, and logs it in UTF-16.
        if text.starts_with('.') && text.is_ascii() && of(&[text.as_bytes(), &[0]]) {
            return Said::SectionName(text);
        }
        // systemd-boot 245 and before logs a byte less than it measures.
        if of(&[data]) || of(&[data, &[0]]) {
            return Said::Text(text);
        }
    }
    if of(&[data]) {
        Said::Data
    } else {
        Said::Elsewhere
    }
}
