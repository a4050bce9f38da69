//! Reference values: computed from files on this machine, written to one file, and looked up. Nothing is
//! fetched but images of registries that are listed, and the server is asked for the boots that it has approved alone.

mod approvals;
mod boot;
mod change;
mod code;
mod debian;
mod images;
mod ipe;
mod oci;
mod rings;

use crate::arguments::{FindArguments, GenerationArguments, Global, ImportCommand, RefsCommand};
use crate::runtime::block_on;
use crate::{Failure, output};
use anyhow::Context as _;
use facts::{Finding, Timestamp};
use references::uefi::UefiVariables;
use references::{
    Artefact, At, Digest, Found, Generation, Known, ReferenceFile, References, Source, moment,
    rfc3339,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;

/// No kernel package, image layer or UKI that is worth importing is larger.
const LARGEST_INPUT: u64 = 4 << 30;

pub(crate) fn run(command: RefsCommand, global: &Global) -> Result<(), Failure> {
    match command {
        RefsCommand::Import(ImportCommand::Debian(arguments)) => debian::import(&arguments, global),
        RefsCommand::Import(ImportCommand::Uki(arguments)) => images::uki(&arguments, global),
        RefsCommand::Import(ImportCommand::Kernel(arguments)) => images::kernel(&arguments, global),
        RefsCommand::Import(ImportCommand::Uefi(arguments)) => images::uefi(&arguments, global),
        RefsCommand::Import(ImportCommand::Oci(arguments)) => oci::import(&arguments, global),
        RefsCommand::Import(ImportCommand::Slsa(arguments)) => images::slsa(&arguments, global),
        RefsCommand::Import(ImportCommand::Code(arguments)) => code::import(&arguments, global),
        RefsCommand::Boot(arguments) => boot::boot(&arguments, global),
        RefsCommand::Ipe(arguments) => ipe::emit(&arguments, global),
        RefsCommand::Find(arguments) => find(&arguments, global),
        RefsCommand::Approvals(arguments) => block_on(1, approvals::show(arguments, global)),
        RefsCommand::Change(arguments) => change::change(&arguments, global),
    }
}

/// A generation of these values, written whole or not at all.
fn write(
    arguments: &GenerationArguments,
    mut sources: Vec<Source>,
    artefacts: Vec<Artefact>,
    global: &Global,
) -> Result<(), Failure> {
    let now = Timestamp::now();
    let time = |text: &Option<String>| text.as_deref().map(time).transpose();
    let stem = arguments.output.file_stem().and_then(|stem| stem.to_str());
    let name = arguments.generation.as_deref().or(stem);
    sources.dedup_by(|one, other| one.id == other.id);
    let mut generation = Generation {
        name: name.unwrap_or_default().to_owned(),
        rings: arguments.rings.clone(),
        valid_from: time(&arguments.valid_from)?.unwrap_or(now),
        valid_until: time(&arguments.valid_until)?,
        imported_at: now,
        sources,
        artefacts,
    };
    generation.sort();
    let file = ReferenceFile {
        generations: vec![generation],
        ..ReferenceFile::default()
    };
    if let Some(finding) = file.check().into_iter().next() {
        return Err(finding.into());
    }
    let text = file.to_json();
    write_whole(&arguments.output, text.as_bytes())?;
    rings::warn(&arguments.output, &arguments.rings);
    report(arguments, &file, &text, global);
    Ok(())
}

fn report(arguments: &GenerationArguments, file: &ReferenceFile, text: &str, global: &Global) {
    let Some(generation) = file.generations.first() else {
        return;
    };
    let artefacts = &generation.artefacts;
    let files: usize = artefacts.iter().map(|artefact| artefact.files.len()).sum();
    let pcrs: usize = artefacts.iter().map(|artefact| artefact.pcrs.len()).sum();
    if global.json {
        output::json(&json!({
            "file": arguments.output,
            "generation": generation.name,
            "rings": generation.rings,
            "valid_from": moment::text(generation.valid_from),
            "valid_until": generation.valid_until.map(moment::text),
            "artefacts": artefacts.len(),
            "files": files,
            "pcrs": pcrs,
            "sources": generation.sources,
            "sha256": Digest::of(text.as_bytes()),
        }));
        return;
    }
    for source in &generation.sources {
        let by = source.signed_by.join(", ");
        output::line(format_args!(
            "{}, signed by {}",
            source.name,
            if by.is_empty() { "nobody" } else { &by }
        ));
    }
    for artefact in artefacts {
        for pcr in &artefact.pcrs {
            output::line(format_args!(
                "{} {}: PCR {} {}",
                artefact.name, artefact.version, pcr.index, pcr.sha256
            ));
        }
        for missing in &artefact.unpredicted {
            output::note(format_args!(
                "{} {}: no PCR {}: {}",
                artefact.name, artefact.version, missing.index, missing.why
            ));
        }
    }
    output::line(format_args!(
        "{}: generation {} of {} artefacts, {files} files, {pcrs} PCR values",
        arguments.output.display(),
        generation.name,
        artefacts.len(),
    ));
}

fn find(arguments: &FindArguments, global: &Global) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in &arguments.files {
        let bytes = read(path)?;
        let text =
            String::from_utf8(bytes).with_context(|| format!("{} is no text", path.display()))?;
        let file = ReferenceFile::parse(&text).map_err(|findings| named(path, findings))?;
        files.push(file);
    }
    let references = References::new(files).map_err(first)?;
    let now = arguments.at.as_deref().map(time).transpose()?;
    let now = now.unwrap_or_else(Timestamp::now);
    let rings: BTreeSet<&str> = match &arguments.ring {
        Some(ring) => BTreeSet::from([ring.as_str()]),
        None => every_ring(&references),
    };
    let mut ats = rings.into_iter().map(|ring| At { now, ring });
    let found = if let Ok(digest) = arguments.what.parse::<Digest>() {
        find_digest(&references, &digest, ats, global)?
    } else if arguments.what.starts_with('/') {
        find_path(&references, &arguments.what, &mut ats, global)
    } else {
        return Err(Failure::usage("name a SHA-256 or an absolute path"));
    };
    if found {
        return Ok(());
    }
    let ring = arguments.ring.as_deref().unwrap_or("any");
    Err(
        Finding::new("REF-NOT-FOUND", "no generation holds this, here and now")
            .expected(format!(
                "a value of ring {ring} that holds at {}",
                moment::text(now)
            ))
            .observed(&arguments.what)
            .next("import what it belongs to (trilith refs import --help says how)")
            .into(),
    )
}

fn every_ring(references: &References) -> BTreeSet<&str> {
    let rings = references.generations().iter().flat_map(|one| &one.rings);
    rings.map(String::as_str).collect()
}

/// Good in one ring is good; else why it is not.
fn find_digest<'a>(
    references: &References,
    digest: &Digest,
    ats: impl Iterator<Item = At<'a>>,
    global: &Global,
) -> Result<bool, Failure> {
    let mut refused = None;
    for at in ats {
        match references.look_up(digest, at) {
            Known::Good(found) => {
                print(&found, global);
                return Ok(true);
            }
            Known::Lapsed(found, _) => {
                let path = found.file.map_or("/", |file| file.path.as_str());
                refused = references.judge_file(path, digest, at).err();
            }
            Known::Unknown => {}
        }
    }
    refused.map_or(Ok(false), |finding| Err(finding.into()))
}

fn find_path<'a>(
    references: &References,
    path: &str,
    ats: &mut dyn Iterator<Item = At<'a>>,
    global: &Global,
) -> bool {
    let mut shown = BTreeSet::new();
    for at in ats {
        for found in references.nearest(path, at) {
            if shown.insert((found.generation.name.clone(), found.label())) {
                print(&found, global);
            }
        }
    }
    !shown.is_empty()
}

fn print(found: &Found<'_>, global: &Global) {
    let source = found.source();
    if global.json {
        output::json(&json!({
            "generation": found.generation.name,
            "rings": found.generation.rings,
            "artefact": found.artefact.name,
            "version": found.artefact.version,
            "architecture": found.artefact.architecture,
            "sha256": found.file.map_or(found.artefact.sha256, |file| file.sha256),
            "file": found.file,
            "source": source,
        }));
        return;
    }
    let sha256 = found.file.map_or(found.artefact.sha256, |file| file.sha256);
    output::line(format_args!("{sha256}  {}", found.label()));
    if let Some(source) = source {
        output::line(format_args!(
            "  generation {} for {}, {}, signed by {}",
            found.generation.name,
            found.generation.rings.join(", "),
            source.name,
            if source.signed_by.is_empty() {
                "nobody".to_owned()
            } else {
                source.signed_by.join(", ")
            }
        ));
    }
}

fn time(text: &str) -> Result<Timestamp, Failure> {
    let wrong = || Failure::usage(format!("{text:?} is no time such as 2026-07-11T00:00:00Z"));
    rfc3339(text).ok_or_else(wrong)
}

fn first(findings: Vec<Finding>) -> Failure {
    let first = findings.into_iter().next();
    first.map_or_else(|| Failure::usage("no finding"), Failure::from)
}

fn named(path: &Path, findings: Vec<Finding>) -> Failure {
    output::note(format_args!("{}:", path.display()));
    first(findings)
}

/// A file of at most 4 GiB.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    crate::files::read(path, LARGEST_INPUT)?.ok_or_else(|| {
        Finding::new(
            "CLI-FILE-SIZE",
            format!("{} has more than 4 GiB", path.display()),
        )
        .next("name the file itself: no package, image or list is that large")
        .into()
    })
}

/// The name of the file, for people.
fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The files of a folder, in order of their names.
fn folder(path: &Path) -> Result<Vec<(String, std::path::PathBuf)>, Failure> {
    let unreadable = |error: std::io::Error| Failure::unreadable(path, &error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() {
            files.push((file_name(&path), path));
        }
    }
    files.sort();
    Ok(files)
}

/// A copy of efivarfs, or an OVMF_VARS file.
fn variables(path: &Path) -> Result<UefiVariables, Failure> {
    if path.is_file() {
        return Ok(UefiVariables::from_varstore(&read(path)?)?);
    }
    let mut variables = UefiVariables::new();
    for (name, file) in folder(path)? {
        variables.add_efivarfs(&name, &read(&file)?)?;
    }
    Ok(variables)
}

pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: std::io::Error| crate::files::unwritable(path, &error);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Progress, on a terminal and in a log alike one line a thing.
fn progress(text: impl std::fmt::Display, global: &Global) {
    if !global.json {
        output::note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_a_finding() {
        let absent = Path::new("/nonexistent");
        for refused in [
            read(absent).unwrap_err(),
            folder(absent).unwrap_err(),
            variables(absent).unwrap_err(),
        ] {
            let finding = &refused.findings()[0];
            assert_eq!(finding.code, "CLI-FILE");
            assert!(finding.next.is_some());
        }
        let refused = write_whole(&absent.join("file"), b"1").unwrap_err();
        assert_eq!(refused.findings()[0].code, "CLI-WRITE");
    }
}
