//! What the documentation shows compiles.

use crate::fixture::{problems_with, render, shop_files};
use estate::Estate;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_policy_that_the_documentation_shows_compiles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    markdown(&root.join("docs"), &mut pages);
    let mut seen = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for snippet in snippets(&text) {
            let begins = |word: &&str| snippet.trim_start().starts_with(*word);
            let folder = if snippet.contains("never (") || snippet.contains("always (") {
                "invariants"
            } else if ["@", "permit", "forbid"].iter().any(begins) {
                "policies"
            } else {
                continue;
            };
            seen += 1;
            let file = format!("{folder}/documented.cedar");
            let problems = if snippet.contains("Column") {
                by_column(&file, snippet)
            } else {
                problems_with(&file, snippet)
            };
            // Its names are those of the page's own estate.
            let wrong: Vec<_> = problems
                .lines()
                .filter(|line| line.contains(": ESTATE-") && !line.contains("ESTATE-POLICY-NAME"))
                .collect();
            assert!(wrong.is_empty(), "{}: {wrong:?}\n{snippet}", page.display());
        }
    }
    assert!(seen >= 3, "{seen} policies found");
}

/// As [`problems_with`], of the shop where it decides on columns.
fn by_column(path: &str, text: &str) -> String {
    let mut files = shop_files();
    let settings = format!("columns = \"decided\"\n{}", files.0["estate.toml"]);
    files.insert("estate.toml", settings);
    files.insert(path, text);
    match Estate::compile(&files) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => render(&problems),
    }
}

fn markdown(folder: &Path, pages: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            markdown(&path, pages);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
}

/// The bodies of the fenced blocks marked `cedar`.
fn snippets(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("```cedar\n").skip(1);
    after.filter_map(|rest| rest.split_once("```").map(|(body, _)| body))
}
