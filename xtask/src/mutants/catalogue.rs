//! What `tests/mutants/*.toml` says, and whether it still fits the code. Runs nothing.

use crate::shell::{Doing as _, Failure, Result};
use crate::workspace::read_text;
use std::collections::BTreeSet;
use std::fmt;
use toml::{Table, Value};

pub(crate) const FOLDER: &str = "tests/mutants/";
pub(crate) const THREATS: &str = "docs/THREAT_MODEL.md";

/// All entries, in the order of the files.
pub(crate) struct Catalogue {
    pub(crate) mutants: Vec<Mutant>,
}

/// One check taken out of the running code.
#[derive(Debug)]
pub(crate) struct Mutant {
    pub(crate) name: String,
    /// The file that describes it.
    pub(crate) origin: String,
    /// More than one where two checks stand behind each other.
    pub(crate) edits: Vec<Edit>,
    /// Each of them has to fail.
    pub(crate) fails: Vec<Test>,
}

/// One change of a file, relative to the root.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) file: String,
    /// Occurs exactly once in the file.
    pub(crate) find: String,
    pub(crate) replace: String,
}

/// A test by the file that it stands in, as the threat model links it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Test {
    /// Relative to the root.
    pub(crate) file: String,
    pub(crate) function: String,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.file, self.function)
    }
}

/// How many of the linked attack tests are known to fail without their check.
pub(crate) struct Coverage {
    pub(crate) linked: usize,
    pub(crate) without: Vec<String>,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = self.linked - self.without.len();
        write!(
            f,
            "{with} of {} linked attack tests have a mutant",
            self.linked
        )
    }
}

impl Catalogue {
    /// Reads every file of the folder among the tracked `files`.
    pub(crate) fn read(files: &[String]) -> Result<Self> {
        let mut mutants: Vec<Mutant> = Vec::new();
        for file in files {
            if !file.starts_with(FOLDER) || !file.ends_with(".toml") {
                continue;
            }
            for mutant in parse(file, &read_text(file)?)? {
                if mutants.iter().any(|other| other.name == mutant.name) {
                    let name = &mutant.name;
                    return Err(Failure::new(format!("{file}: there is another `{name}`")));
                }
                mutants.push(mutant);
            }
        }
        Ok(Self { mutants })
    }

    /// What no longer fits the code, with the file of the entry: an edit whose text does not occur exactly
    /// once, a test that is not there.
    pub(crate) fn misfits(&self, read: impl Fn(&str) -> Option<String>) -> Vec<(String, String)> {
        let mut misfits = Vec::new();
        for mutant in &self.mutants {
            let name = &mutant.name;
            let mut misfit = |what| misfits.push((mutant.origin.clone(), what));
            for edit in &mutant.edits {
                let count = read(&edit.file).map_or(0, |text| text.matches(&edit.find).count());
                if count != 1 {
                    let file = &edit.file;
                    misfit(format!("{name}: its text occurs {count} times in {file}"));
                }
            }
            for test in &mutant.fails {
                let text = read(&test.file);
                if !text.is_some_and(|text| defines(&text, &test.function)) {
                    misfit(format!("{name}: there is no test {test}"));
                }
            }
        }
        misfits
    }

    /// Counts the tests that the threat model links, each once.
    pub(crate) fn coverage(&self, threats: &str) -> Coverage {
        let linked: BTreeSet<Test> = threats.lines().filter_map(link).collect();
        let without = linked
            .iter()
            .filter(|test| !self.mutants.iter().any(|m| m.fails.contains(test)))
            .map(ToString::to_string)
            .collect();
        Coverage {
            linked: linked.len(),
            without,
        }
    }
}

impl Mutant {
    /// True for its name, its file without folder and ending, and the folder of a crate it changes.
    pub(crate) fn is(&self, which: &str) -> bool {
        let origin = self.origin.trim_start_matches(FOLDER);
        let folder = format!("{}/", which.trim_end_matches('/'));
        which == self.name
            || which == origin.trim_end_matches(".toml")
            || self.edits.iter().any(|edit| edit.file.starts_with(&folder))
    }

    /// By what to sort: the packages of its tests, then the file that it changes.
    pub(crate) fn place(&self) -> (Option<&str>, Option<&str>) {
        let test = self.fails.first().map(|test| test.file.as_str());
        let package = test.and_then(|file| file.split('/').nth(1));
        (package, self.edits.first().map(|edit| edit.file.as_str()))
    }
}

/// True if `text` defines the function. Tests have no parameters that say more.
pub(crate) fn defines(text: &str, function: &str) -> bool {
    text.contains(&format!("fn {function}("))
}

/// The test of a line ``- [`function`](../path/of/file.rs): what it tries``.
pub(crate) fn link(line: &str) -> Option<Test> {
    let (function, rest) = line
        .trim_start()
        .strip_prefix("- [`")?
        .split_once("`](../")?;
    let (file, _) = rest.split_once(')')?;
    Some(Test {
        file: file.to_owned(),
        function: function.to_owned(),
    })
}

fn parse(origin: &str, text: &str) -> Result<Vec<Mutant>> {
    let table: Table = text.parse().doing(origin)?;
    known_keys(&table, &["mutant"]).doing(origin)?;
    let entries = table.get("mutant").and_then(Value::as_array);
    let entries = entries.ok_or_else(|| Failure::new(format!("{origin}: holds no [[mutant]]")))?;
    entries
        .iter()
        .map(|entry| mutant(origin, entry).doing(origin))
        .collect()
}

/// `name`, `fails`, and either `file`, `find` and `replace` or a list of them called `edits`.
fn mutant(origin: &str, entry: &Value) -> Result<Mutant, String> {
    let table = entry.as_table().ok_or("`mutant` is a list of tables")?;
    let name = word(table, "name")?;
    let said = |what: String| format!("{name}: {what}");
    let edits = match table.get("edits") {
        None => {
            known_keys(table, &["name", "file", "find", "replace", "fails"]).map_err(said)?;
            vec![edit(table).map_err(said)?]
        }
        Some(edits) => {
            known_keys(table, &["name", "edits", "fails"]).map_err(said)?;
            let edits = edits.as_array().ok_or("`edits` is a list of tables")?;
            let edits = edits.iter().map(|one| {
                let table = one.as_table().ok_or("an edit is a table")?;
                known_keys(table, &["file", "find", "replace"])?;
                edit(table)
            });
            edits.collect::<Result<_, String>>().map_err(said)?
        }
    };
    let fails = table.get("fails").and_then(Value::as_array);
    let fails = fails.ok_or_else(|| said("`fails` is a list of tests".to_owned()))?;
    let fails = fails
        .iter()
        .map(|test| named_test(test).map_err(said))
        .collect::<Result<Vec<_>, String>>()?;
    if edits.is_empty() || fails.is_empty() {
        return Err(said("needs an edit and a test that fails".to_owned()));
    }
    Ok(Mutant {
        name: name.clone(),
        origin: origin.to_owned(),
        edits,
        fails,
    })
}

fn edit(table: &Table) -> Result<Edit, String> {
    let edit = Edit {
        file: word(table, "file")?,
        find: word(table, "find")?,
        replace: match table.get("replace").and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => return Err("`replace` is a text".to_owned()),
        },
    };
    if edit.find == edit.replace {
        return Err("`find` and `replace` are the same".to_owned());
    }
    if !edit.file.ends_with(".rs") || edit.file.contains("/tests/") {
        return Err(format!("`{}` is no running code", edit.file));
    }
    Ok(edit)
}

/// `crates/x/tests/it/file.rs::function`.
fn named_test(value: &Value) -> Result<Test, String> {
    let test = value.as_str().and_then(|text| text.split_once("::"));
    match test {
        Some((file, function)) if file.ends_with(".rs") => Ok(Test {
            file: file.to_owned(),
            function: function.to_owned(),
        }),
        _ => Err(format!("a test is `path/of/file.rs::function`: {value}")),
    }
}

fn word(table: &Table, key: &str) -> Result<String, String> {
    match table.get(key).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("`{key}` is missing or no text")),
    }
}

fn known_keys(table: &Table, known: &[&str]) -> Result<(), String> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("`{key}` is not understood here")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Catalogue, link, parse};

    const ENTRY: &str = r#"
        [[mutant]]
        name = "a"
        file = "crates/x/src/lib.rs"
        find = "if wrong {"
        replace = "if false {"
        fails = ["crates/x/tests/it/a.rs::attack"]
    "#;

    fn catalogue(text: &str) -> Catalogue {
        Catalogue {
            mutants: parse("tests/mutants/x.toml", text).unwrap(),
        }
    }

    #[test]
    fn an_entry_that_no_longer_fits_is_named() {
        let fitting = |path: &str| match path {
            "crates/x/src/lib.rs" => Some("if wrong { refuse() }".to_owned()),
            _ => Some("fn attack() {}".to_owned()),
        };
        let catalogue = catalogue(ENTRY);
        assert!(catalogue.misfits(fitting).is_empty());
        // Neither there, nor there twice.
        assert_eq!(catalogue.misfits(|_| None).len(), 2);
        let twice = |_: &str| Some("fn attack() { if wrong {} if wrong {} }".to_owned());
        let misfits = catalogue.misfits(twice);
        assert_eq!(misfits.len(), 1);
        assert!(misfits.first().unwrap().1.contains("2 times"));
    }

    #[test]
    fn an_entry_that_says_too_little_or_too_much_is_refused() {
        for (from, to) in [
            ("name = \"a\"", ""),
            ("find = \"if wrong {\"", ""),
            ("replace = \"if false {\"", "replace = \"if wrong {\""),
            ("::attack", ""),
            ("[\"crates/x/tests/it/a.rs::attack\"]", "[]"),
            ("name = \"a\"", "name = \"a\"\nwhy = \"b\""),
            // Taking the test apart shows nothing of the check.
            ("crates/x/src/lib.rs", "crates/x/tests/it/a.rs"),
        ] {
            let text = ENTRY.replace(from, to);
            assert_ne!(text, ENTRY);
            assert!(parse("x.toml", &text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_linked_test_is_covered_by_the_entry_that_names_it() {
        let page = "- [`attack`](../crates/x/tests/it/a.rs): one.\n\
                    - [`attack`](../crates/x/tests/it/a.rs): the same elsewhere.\n\
                    - [`other`](../crates/x/tests/it/a.rs): two.\n";
        assert_eq!(link(page).unwrap().function, "attack");
        let coverage = catalogue(ENTRY).coverage(page);
        assert_eq!(coverage.linked, 2);
        assert_eq!(coverage.without, ["crates/x/tests/it/a.rs::other"]);
    }
}
