//! The example estate, small estates of one file, and facts.

use estate::{Estate, EstateFiles, Problem};
use facts::{FactSet, Source, Timestamp, Value, names};
use std::fs;
use std::path::Path;

/// `examples/estate-shop` as it stands in the repository.
pub(crate) fn shop_files() -> EstateFiles {
    example("estate-shop")
}

/// An estate of `examples/` as it stands in the repository.
pub(crate) fn example(name: &str) -> EstateFiles {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let root = examples.join(name);
    let mut files = EstateFiles::new();
    read(&root, "", &mut files);
    files
}

fn read(folder: &Path, prefix: &str, files: &mut EstateFiles) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read(&entry.path(), &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

pub(crate) fn shop() -> Estate {
    compile(&shop_files())
}

pub(crate) fn compile(files: &EstateFiles) -> Estate {
    Estate::compile(files).unwrap_or_else(|problems| panic!("{}", render(&problems)))
}

pub(crate) fn render(problems: &[Problem]) -> String {
    problems
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect()
}

/// The problems of the shop with `text` in `path`, one a line.
pub(crate) fn problems_with(path: &str, text: &str) -> String {
    let mut files = shop_files();
    files.insert(path, text);
    match Estate::compile(&files) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => render(&problems),
    }
}

/// The shop with `text` added as one more policy file.
pub(crate) fn shop_with_policy(text: &str) -> Estate {
    let mut files = shop_files();
    files.insert("policies/extra.cedar", text);
    compile(&files)
}

pub(crate) fn facts(pairs: &[(&str, Value)]) -> FactSet {
    let mut facts = FactSet::new();
    for (name, value) in pairs {
        facts.state(name, value.clone(), Source::Verified, Timestamp::EPOCH);
    }
    facts
}

/// A process in the demo pool under uid 0 whose executable has the digest of 64 times `digit`.
pub(crate) fn workload(digit: char) -> FactSet {
    facts(&[
        (names::MACHINE_NAME, "m1".into()),
        (names::MACHINE_POOL, "demo".into()),
        (names::WORKLOAD_UID, 0_u32.into()),
        (names::CODE_SHA256, digit.to_string().repeat(64).into()),
    ])
}
