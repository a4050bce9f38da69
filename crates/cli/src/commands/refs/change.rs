//! When and where a generation holds. What it holds is what was imported.

use super::{first, named, read, rings, time, write_whole};
use crate::arguments::{ChangeArguments, Global};
use crate::{Failure, output};
use anyhow::Context as _;
use facts::Finding;
use references::{Generation, ReferenceFile, moment};
use serde_json::json;

pub(super) fn change(arguments: &ChangeArguments, global: &Global) -> Result<(), Failure> {
    let path = &arguments.file;
    let text =
        String::from_utf8(read(path)?).with_context(|| format!("{} is no text", path.display()))?;
    if !text.trim_start().starts_with('{') {
        return Err(Finding::new(
            "REF-CHANGE-FORM",
            format!("{} is not JSON, as imports write it", path.display()),
        )
        .expected("a file that trilith refs import wrote")
        .next("change valid_from, valid_until or rings of the generation by hand")
        .into());
    }
    let mut file = ReferenceFile::parse(&text).map_err(|findings| named(path, findings))?;
    let from = arguments.valid_from.as_deref().map(time).transpose()?;
    let until = arguments.valid_until.as_deref().map(time).transpose()?;
    let generation = chosen(&mut file, arguments)?;
    if let Some(from) = from {
        generation.valid_from = from;
    }
    generation.valid_until = until.or(generation.valid_until);
    for ring in &arguments.add_rings {
        if !generation.rings.contains(ring) {
            generation.rings.push(ring.clone());
        }
    }
    let told = generation.clone();
    let findings = file.check();
    if !findings.is_empty() {
        return Err(first(findings));
    }
    write_whole(path, file.to_json().as_bytes())?;
    rings::warn(path, &arguments.add_rings);
    if global.json {
        output::json(&json!({
            "file": path,
            "generation": told.name,
            "rings": told.rings,
            "valid_from": moment::text(told.valid_from),
            "valid_until": told.valid_until.map(moment::text),
        }));
        return Ok(());
    }
    let until = told.valid_until.map_or_else(
        || "until somebody ends it".to_owned(),
        |until| format!("until {}", moment::text(until)),
    );
    output::line(format_args!(
        "{}: generation {} for {}, from {} {until}",
        path.display(),
        told.name,
        told.rings.join(", "),
        moment::text(told.valid_from),
    ));
    Ok(())
}

fn chosen<'a>(
    file: &'a mut ReferenceFile,
    arguments: &ChangeArguments,
) -> Result<&'a mut Generation, Failure> {
    let names: Vec<String> = file
        .generations
        .iter()
        .map(|one| one.name.clone())
        .collect();
    let wanted = match (&arguments.generation, names.as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => only.clone(),
        (None, _) => return Err(Failure::usage("name one with --generation")),
    };
    let found = file.generations.iter_mut().find(|one| one.name == wanted);
    found.ok_or_else(|| {
        Finding::new("REF-NOT-FOUND", "the file has no generation of that name")
            .expected(names.join(", "))
            .observed(wanted)
            .next("name one of these with --generation")
            .into()
    })
}
