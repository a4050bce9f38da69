//! What a boot has that no rule of `[[boot]]` allows, for people: which event it is, and what would add it to the
//! rule that comes nearest. Nothing here decides.

use crate::allow::quoted;
use crate::refusal::Subject;
use crate::view::View;
use attest_tpm::boot::{Meaning, Measurement, Note};
use facts::Finding;

/// A finding of a rule's lists.
pub(crate) struct Listed {
    pub(crate) rule: String,
    /// What `trilith refs boot` is given so that the rule allows it; nothing where it should not.
    pub(crate) option: Option<String>,
    /// Whether it is for an import to allow: a unified kernel image goes by all of its sections.
    pub(crate) by_import: bool,
}

/// The option for `finding`, and the event that it is about.
pub(crate) fn of(rule: &str, finding: &Finding, view: &View<'_>) -> (Option<Subject>, Listed) {
    let event = event(finding, view);
    let observed = finding.observed.clone().unwrap_or_default();
    let digest = digest(&observed);
    let what = event
        .and_then(noted)
        .unwrap_or_else(|| "unnamed".to_owned());
    let part = |name: &str| {
        digest.map(|digest| format!("--{name} {}", quoted(&format!("{what}={digest}"))))
    };
    let option = match finding.code.as_ref() {
        "BOOT-IMAGE" if event.is_some_and(|one| one.pcr == 2) => part("driver"),
        "BOOT-IMAGE" => part("image"),
        "BOOT-AUTHORITY" => part("authority"),
        "BOOT-FILE" => part("file"),
        "BOOT-MOK" => part("mok"),
        "BOOT-CMDLINE" => event
            .and_then(line)
            .map(|line| format!("--command-line {line}")),
        "BOOT-GRUB" => event
            .and_then(text)
            .map(|text| format!("--grub-command {text}")),
        _ => None,
    };
    let index = event.map(|one| one.pcr).or_else(|| pcr(finding));
    let subject = index.map(|index| Subject::Pcr {
        index,
        event: event.map(|one| one.event),
        name: event.and_then(noted),
        digest: event.map(|one| crypto::hex::encode(&one.digest)),
    });
    let listed = Listed {
        rule: rule.to_owned(),
        option,
        by_import: finding.code == "BOOT-SECTION",
    };
    (subject, listed)
}

/// Findings begin with their event, or name it in brackets behind a section.
fn event<'a>(finding: &Finding, view: &View<'a>) -> Option<&'a Measurement> {
    let message = &finding.message;
    let rest = message.strip_prefix("event ").or_else(|| {
        let (_, rest) = message.split_once(" (event ")?;
        message.starts_with("section ").then_some(rest)
    })?;
    let number = leading(rest)?;
    let mut measured = view.measurements.iter();
    measured.find(|one| one.event == number)
}

/// What a finding is about that names no event.
fn pcr(finding: &Finding) -> Option<u32> {
    match finding.code.as_ref() {
        "BOOT-SECURE-BOOT" | "BOOT-DBX" | "BOOT-SBAT" => Some(7),
        "BOOT-IMAGE" => Some(4),
        _ => {
            let (_, rest) = finding.message.split_once("PCR ")?;
            u32::try_from(leading(rest)?).ok()
        }
    }
}

fn leading(text: &str) -> Option<usize> {
    let end = text
        .find(|one: char| !one.is_ascii_digit())
        .unwrap_or(text.len());
    text.get(..end)?.parse().ok()
}

fn digest(text: &str) -> Option<&str> {
    let is_digit = |one: u8| matches!(one, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == 64 && text.bytes().all(is_digit)).then_some(text)
}

/// What the log notes beside a digest. Whoever wrote the log may be hostile: it is a name and no more.
fn noted(one: &Measurement) -> Option<String> {
    let text = match &one.meaning {
        Meaning::Elsewhere(Note::Text(text)) if !text.is_empty() => text.clone(),
        Meaning::Elsewhere(Note::Initrd) => "initrd".to_owned(),
        Meaning::Elsewhere(Note::LoadOptions) | Meaning::Text(_) => "options".to_owned(),
        Meaning::Variable { name, .. } => name.clone(),
        Meaning::Section(name) => name.clone(),
        _ => return None,
    };
    let kept = |one: char| !one.is_control() && one != '=';
    Some(text.chars().filter(|one| kept(*one)).take(64).collect())
}

/// As the shell's word, without the path that GRUB puts before it. Where a digest alone was logged, the running
/// kernel knows the text.
fn line(one: &Measurement) -> Option<String> {
    match &one.meaning {
        Meaning::Grub(_, text) => plain(text.split_once(' ').map_or("", |(_, options)| options)),
        Meaning::Text(text) => plain(text),
        Meaning::Elsewhere(Note::LoadOptions) => Some("\"$(cat /proc/cmdline)\"".to_owned()),
        _ => None,
    }
}

fn text(one: &Measurement) -> Option<String> {
    match &one.meaning {
        Meaning::Grub(_, text) => plain(text),
        _ => None,
    }
}

fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.chars().any(char::is_control)).then(|| quoted(text))
}
