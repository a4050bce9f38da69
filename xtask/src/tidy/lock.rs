//! What other people's packages may be here. `deny.toml` is the list of bans; cargo-deny reads the same
//! file and checks advisories as well.

mod licence;

use super::Break;
use crate::shell::{Doing as _, Failure, Result, read};
use crate::workspace::{cargo, read_text};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Raising it is a reviewed line: say in the commit what the new packages are for.
const PACKAGES: usize = 486;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the lock file, and what of it is really built: the lock also names optional packages of others
/// that no feature turns on.
pub(super) fn check() -> Result<Vec<Break>> {
    let mut breaks = locked(&read_text("Cargo.lock")?)?;
    let mut tree = cargo(&["tree", "--workspace", "--prefix=none", "--format={p}|{l}"]);
    breaks.extend(built(&read(&mut tree)?, &read_text("deny.toml")?)?);
    Ok(breaks)
}

fn locked(lock: &str) -> Result<Vec<Break>> {
    let lock: Table = lock.parse().doing("Cargo.lock")?;
    let packages = list(&lock, "package").ok_or_else(|| Failure::new("Cargo.lock is empty"))?;
    let mut breaks = Vec::new();
    if packages.len() > PACKAGES {
        breaks.push(Break::file(
            "Cargo.lock",
            format!("{} packages; the limit is {PACKAGES}", packages.len()),
        ));
    }
    for package in packages {
        let word = |key: &str| package.get(key).and_then(Value::as_str);
        if word("source").is_some_and(|source| source != REGISTRY) {
            let name = word("name").unwrap_or_default();
            breaks.push(Break::file(
                "Cargo.lock",
                format!("{name} comes from elsewhere"),
            ));
        }
    }
    Ok(breaks)
}

/// `tree` has a line `name vVERSION …|LICENCE` for each package.
fn built(tree: &str, deny: &str) -> Result<Vec<Break>> {
    let deny: Table = deny.parse().doing("deny.toml")?;
    let section = |name: &str, key: &str| {
        deny.get(name)
            .and_then(Value::as_table)
            .and_then(|section| list(section, key))
            .ok_or_else(|| Failure::new(format!("deny.toml has no `{name}.{key}`")))
    };
    let bans: Vec<_> = section("bans", "deny")?
        .iter()
        .filter_map(|ban| ban.get("crate")?.as_str())
        .collect();
    let licences: Vec<_> = section("licenses", "allow")?
        .iter()
        .filter_map(Value::as_str)
        .collect();

    let mut breaks = Vec::new();
    let packages: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split_once('|'))
        .collect();
    for (package, licence) in packages {
        let name = package.split(' ').next().unwrap_or_default();
        if bans.contains(&name) {
            breaks.push(Break::file(
                "Cargo.lock",
                format!("{name} is banned by deny.toml"),
            ));
        }
        // cargo marks what it has shown before.
        let licence = licence.trim_end_matches(" (*)");
        if !licence::is_allowed(licence, &licences) {
            let what = format!("{name} is licensed {licence:?}, which deny.toml does not allow");
            breaks.push(Break::file("Cargo.lock", what));
        }
    }
    Ok(breaks)
}

fn list<'a>(table: &'a Table, key: &str) -> Option<&'a Vec<Value>> {
    table.get(key)?.as_array()
}

#[cfg(test)]
mod tests {
    use super::{built, locked};

    #[test]
    fn a_banned_package_and_an_unlisted_licence_are_found() {
        let deny = "bans.deny = [{ crate = \"ring\" }]\nlicenses.allow = [\"MIT\"]\n";
        assert!(
            built("string v1.0.0|MIT\nours v0.1.0 (/x)|MIT (*)\n", deny)
                .unwrap()
                .is_empty()
        );
        assert_eq!(built("ring v0.17.14|MIT\n", deny).unwrap().len(), 1);
        assert_eq!(built("other v1.0.0|GPL-3.0\n", deny).unwrap().len(), 1);
        assert!(built("ring v0.17.14|MIT\n", "").is_err());
    }

    #[test]
    fn an_unknown_source_and_growth_past_the_limit_are_found() {
        let lock = "[[package]]\nname = \"x\"\nsource = \"git+https://a/b\"\n";
        assert_eq!(locked(lock).unwrap().len(), 1);
        let lock = "[[package]]\nname = \"a\"\n".repeat(super::PACKAGES + 1);
        assert_eq!(locked(&lock).unwrap().len(), 1);
    }
}
