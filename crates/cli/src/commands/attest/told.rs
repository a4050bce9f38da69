//! Accounts and refusals, for people.

use crate::commands::ask::text;
use crate::output;
use appraise::{Account, Outline, Package, Refusal, Subject, Told, What};
use serde_json::Value;

pub(super) fn finding(finding: &Value) {
    output::line(format_args!(
        "  {}: {}",
        text(finding, "/code"),
        output::value(&text(finding, "/message"))
    ));
    for (name, pointer) in [
        ("expected", "/expected"),
        ("observed", "/observed"),
        ("next", "/next"),
    ] {
        if let Some(said) = finding.pointer(pointer).and_then(Value::as_str) {
            output::line(format_args!("    {name:9} {}", output::value(said)));
        }
    }
}

pub(super) fn refusal(refusal: &Refusal) {
    let found = &refusal.finding;
    output::line(format_args!(
        "  {}: {}",
        found.code,
        output::value(&found.message)
    ));
    let lines = [
        ("about", refusal.subject.as_ref().map(subject)),
        ("expected", found.expected.clone()),
        ("observed", found.observed.clone()),
        ("matches", refusal.would_match.as_ref().map(package)),
        ("note", refusal.note.clone()),
    ];
    for (name, said) in lines {
        if let Some(said) = said {
            output::line(format_args!("    {name:9} {}", output::value(&said)));
        }
    }
    if refusal.allow.is_empty() {
        if let Some(next) = &found.next {
            output::line(format_args!("    {:9} {}", "next", output::value(next)));
        }
        return;
    }
    output::line("    to allow it");
    for command in &refusal.allow {
        output::line(format_args!("      {}", output::value(command)));
    }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Pcr {
            index,
            event: Some(event),
            name,
            ..
        } => format!(
            "PCR {index}, event {event}{}",
            name.as_ref()
                .map(|name| format!(" ({name})"))
                .unwrap_or_default()
        ),
        Subject::Pcr { index, .. } => format!("PCR {index}"),
        Subject::File { entry, path, .. } => format!("file {path}, entry {entry} of the list"),
    }
}

/// What would have matched, who stands behind it, and when it counts.
fn package(package: &Package) -> String {
    let by = if package.signed_by.is_empty() {
        "nobody".to_owned()
    } else {
        package.signed_by.join(", ")
    };
    let lapsed = package.lapsed.as_ref();
    format!(
        "{} {}: {}, signed by {by}; generation {} for {}{}",
        if lapsed.is_some() {
            "that of"
        } else {
            "not that of the nearest,"
        },
        package.title(),
        package.source,
        package.generation,
        package.rings.join(", "),
        lapsed.map(|why| format!(", but {why}")).unwrap_or_default()
    )
}

pub(super) fn account(account: &Account) {
    if let Some(outline) = &account.outline {
        output::line(if account.quoted {
            "boot, as its TPM quoted it"
        } else {
            "boot, as files say; nobody signed it"
        });
        short(outline);
    }
    for (pcr, value) in &account.pcrs {
        let mut events = account.events.iter().filter(|told| told.pcr == *pcr);
        let matters = (2..=14).contains(pcr) && ![3, 5, 6].contains(pcr);
        if matters || events.clone().next().is_some() {
            output::line(format_args!("  PCR {pcr:<2} {value}"));
        }
        if !matters {
            let count = events.count();
            if count > 0 {
                output::line(format_args!("    {count} events of the firmware"));
            }
            continue;
        }
        events
            .by_ref()
            .filter(|told| !matches!(told.what, What::Separator | What::SectionName))
            .for_each(event);
        if *pcr == 11 && !account.phases.is_empty() {
            output::line(format_args!("    then {}", account.phases.join(" ")));
        }
    }
    if let Some(files) = &account.files {
        let violations = files.listed.iter().filter(|one| one.violation).count();
        output::line(format_args!(
            "files: {} entries from {} on, {}; {violations} violations, {} more not told",
            files.listed.len(),
            files.first,
            if files.verified {
                "as quoted"
            } else {
                "that nobody signed"
            },
            files.more,
        ));
    }
}

fn short(outline: &Outline) {
    let secure = match (outline.secure_boot, &outline.unknown) {
        (Some(true), _) => "on".to_owned(),
        (Some(false), _) => "off".to_owned(),
        (None, why) => format!("not known: {}", why.clone().unwrap_or_default()),
    };
    let loader = if outline.shim {
        format!("shim, then {}", outline.loader)
    } else {
        outline.loader.clone()
    };
    let lines = [
        ("Secure Boot", Some(secure)),
        ("started by", Some(loader)),
        ("firmware", outline.firmware.clone()),
        ("kernel", outline.kernel.clone()),
        ("version", outline.kernel_version.clone()),
        ("ramdisk", outline.initrd.clone()),
        ("options", outline.command_line.clone()),
        ("SBAT", outline.sbat.clone()),
        ("MOK", outline.mok.clone()),
    ];
    for (name, said) in lines {
        if let Some(said) = said {
            output::line(format_args!("  {name:12} {}", output::value(&said)));
        }
    }
    for authority in &outline.authorities {
        output::line(format_args!(
            "  {:12} {}",
            "allowed by",
            output::value(authority)
        ));
    }
}

fn event(told: &Told) {
    let text = told.text.as_ref().map(|text| format!(" = {text}"));
    let known = told.known.as_ref().map(|known| format!(", {known}"));
    output::line(format_args!(
        "    {:>3} {:<13} {}{}{}  {}{}",
        told.event,
        told.what.word(),
        output::value(&told.name),
        output::value(&text.unwrap_or_default()),
        output::value(&known.unwrap_or_default()),
        told.digest.get(..12).unwrap_or_default(),
        if told.proven { "" } else { " (noted)" },
    ));
}
