//! The example estate, changed where a test needs it, and the solver.

use estate::{Estate, EstateFiles};
use estate_prove::Options;
use std::fs;
use std::path::Path;
use std::time::Duration;

pub(crate) fn shop_files() -> EstateFiles {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/estate-shop");
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
    Estate::compile(files).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The shop with these files on top.
pub(crate) fn shop_with(changes: &[(&str, &str)]) -> Estate {
    let mut files = shop_files();
    for (path, text) in changes {
        files.insert(*path, *text);
    }
    compile(&files)
}

/// The shop in which nothing guards what the policies say of AI agents.
pub(crate) fn shop_without_the_guard() -> EstateFiles {
    let mut files = shop_files();
    let text = &files.0["policies/shop.cedar"];
    let (unguarded, _) = text.split_once("@id(\"an AI agent never touches").unwrap();
    let unguarded = unguarded.to_owned();
    files.insert("policies/shop.cedar", unguarded);
    files
}

/// More time than a solver needs on a machine that is busy with something else: what a test says never depends on how
/// long it takes. Tests of the bounds set their own.
pub(crate) fn patient(options: Options) -> Options {
    const PATIENCE: Duration = Duration::from_secs(600);
    Options {
        start: PATIENCE,
        question: PATIENCE,
        total: PATIENCE,
        ..options
    }
}

/// The real solver, or `None` after saying loudly that the test is skipped.
pub(crate) fn cvc5(test: &str) -> Option<Options> {
    let options = patient(Options::with_solver(std::env::var_os("CVC5")));
    let found = std::process::Command::new(&options.solver)
        .arg("--version")
        .output()
        .is_ok();
    if !found {
        testkit::skip(test, "cvc5 is neither at $CVC5 nor on PATH");
    }
    found.then_some(options)
}
