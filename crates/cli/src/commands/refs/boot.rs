//! `refs boot`: makes a rule of `[[boot]]`, or adds to one what may boot. The file is JSON, as imports write it.

use super::{first, named, read, rings, time, write_whole};
use crate::arguments::{BootArguments, Global, SecureBootArgument};
use crate::{Failure, output};
use anyhow::Context as _;
use facts::Finding;
use references::{BootRule, Digest, Part, ReferenceFile, SecureBoot};
use serde_json::json;

pub(super) fn boot(arguments: &BootArguments, global: &Global) -> Result<(), Failure> {
    let path = &arguments.file;
    let mut file = if path.exists() {
        let text = String::from_utf8(read(path)?)
            .with_context(|| format!("{} is no text", path.display()))?;
        if !text.trim_start().starts_with('{') {
            return Err(Finding::new(
                "REF-CHANGE-FORM",
                format!("{} is not JSON, as imports write it", path.display()),
            )
            .expected("a file that trilith refs wrote, or a new one")
            .next("add to the [[boot]] rule by hand, or name another file")
            .into());
        }
        ReferenceFile::parse(&text).map_err(|findings| named(path, findings))?
    } else {
        ReferenceFile::default()
    };
    let known = file
        .boots
        .iter_mut()
        .find(|rule| rule.name == arguments.rule);
    let told = if let Some(rule) = known {
        change(rule, arguments)?;
        rule.clone()
    } else {
        let mut rule = BootRule {
            name: arguments.rule.clone(),
            ..BootRule::default()
        };
        change(&mut rule, arguments)?;
        if rule.rings.is_empty() {
            return Err(Failure::usage(
                "a new rule needs the rings that it is for: --ring",
            ));
        }
        file.boots.push(rule.clone());
        rule
    };
    let findings = file.check();
    if !findings.is_empty() {
        return Err(first(findings));
    }
    write_whole(path, file.to_json().as_bytes())?;
    rings::warn(path, &told.rings);
    if global.json {
        output::json(&json!({ "file": path, "rule": told }));
        return Ok(());
    }
    output::line(format_args!(
        "{}: boot rule {} for {}: {} images, {} command lines, {} files, {} unified images, parts of {}",
        path.display(),
        told.name,
        told.rings.join(", "),
        told.images.len(),
        told.command_lines.len(),
        told.files.len(),
        told.sections.len(),
        if told.from.is_empty() {
            "no artefact".to_owned()
        } else {
            told.from.join(", ")
        },
    ));
    Ok(())
}

fn change(rule: &mut BootRule, arguments: &BootArguments) -> Result<(), Failure> {
    add(&mut rule.rings, &arguments.rings);
    add(&mut rule.from, &arguments.from);
    add(&mut rule.command_lines, &arguments.command_lines);
    add(&mut rule.grub_commands, &arguments.grub_commands);
    for (list, given) in [
        (&mut rule.images, &arguments.images),
        (&mut rule.drivers, &arguments.drivers),
        (&mut rule.authorities, &arguments.authorities),
        (&mut rule.dbx, &arguments.dbx),
        (&mut rule.mok, &arguments.mok),
        (&mut rule.files, &arguments.files),
    ] {
        for text in given {
            let part = part(text)?;
            if list.iter().all(|one| one.sha256 != part.sha256) {
                list.push(part);
            }
        }
    }
    for text in &arguments.sbat {
        let (component, level) = text.split_once('=').unwrap_or((text.as_str(), ""));
        let level = level
            .parse()
            .map_err(|_| Failure::usage(format!("{text:?} is no COMPONENT=LEVEL")))?;
        rule.sbat.insert(component.to_owned(), level);
    }
    rule.unjudged.extend(&arguments.unjudged);
    if let Some(asked) = arguments.secure_boot {
        rule.secure_boot = match asked {
            SecureBootArgument::Required => SecureBoot::Required,
            SecureBootArgument::Any => SecureBoot::Any,
        };
    }
    let at = |text: &Option<String>| text.as_deref().map(time).transpose();
    rule.valid_from = at(&arguments.valid_from)?.or(rule.valid_from);
    rule.valid_until = at(&arguments.valid_until)?.or(rule.valid_until);
    Ok(())
}

fn add(list: &mut Vec<String>, given: &[String]) {
    for text in given {
        if !list.contains(text) {
            list.push(text.clone());
        }
    }
}

/// `WHAT=SHA256`, or the digest alone.
fn part(text: &str) -> Result<Part, Failure> {
    let (what, digest) = text.rsplit_once('=').unwrap_or(("", text));
    let digest = digest
        .parse::<Digest>()
        .map_err(|error| Failure::usage(format!("{text:?}: {error}")))?;
    Ok(Part::new(what, digest))
}
