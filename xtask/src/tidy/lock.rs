//! What other people's packages may be here. `deny.toml` is the list of bans; cargo-deny reads the same
//! file and checks licences and advisories as well.

use super::Break;
use crate::shell::{Doing as _, Failure, Result, read};
use crate::workspace::{cargo, read_text};
use std::collections::BTreeSet;
use toml::{Table, Value};

/// Raising it is a reviewed line: say in the commit what the new packages are for.
const PACKAGES: usize = 450;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the lock file, and what of it is really built: the lock also names optional packages of others
/// that no feature turns on.
pub(super) fn check() -> Result<Vec<Break>> {
    let mut breaks = locked(&read_text("Cargo.lock")?)?;
    let mut tree = cargo(&["tree", "--workspace", "--prefix=none", "--format={p}"]);
    breaks.extend(banned(&read(&mut tree)?, &read_text("deny.toml")?)?);
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

/// `built` has a line `name vVERSION …` for each package.
fn banned(built: &str, deny: &str) -> Result<Vec<Break>> {
    let deny: Table = deny.parse().doing("deny.toml")?;
    let bans = deny
        .get("bans")
        .and_then(Value::as_table)
        .and_then(|bans| list(bans, "deny"))
        .ok_or_else(|| Failure::new("deny.toml has no `bans.deny`"))?;
    let names: BTreeSet<_> = built
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    Ok(bans
        .iter()
        .filter_map(|ban| ban.get("crate")?.as_str())
        .filter(|name| names.contains(name))
        .map(|name| Break::file("Cargo.lock", format!("{name} is banned by deny.toml")))
        .collect())
}

fn list<'a>(table: &'a Table, key: &str) -> Option<&'a Vec<Value>> {
    table.get(key)?.as_array()
}

#[cfg(test)]
mod tests {
    use super::{banned, locked};

    #[test]
    fn a_banned_package_is_found() {
        let deny = "[bans]\ndeny = [{ crate = \"ring\" }]\n";
        assert_eq!(
            banned("rustls v0.23.1\nring v0.17.14\n", deny)
                .unwrap()
                .len(),
            1
        );
        assert!(
            banned("rustls v0.23.1\nstring v1.0.0\n", deny)
                .unwrap()
                .is_empty()
        );
        assert!(banned("ring v0.17.14\n", "").is_err());
    }

    #[test]
    fn an_unknown_source_and_growth_past_the_limit_are_found() {
        let lock = "[[package]]\nname = \"x\"\nsource = \"git+https://a/b\"\n";
        assert_eq!(locked(lock).unwrap().len(), 1);
        let lock = "[[package]]\nname = \"a\"\n".repeat(super::PACKAGES + 1);
        assert_eq!(locked(&lock).unwrap().len(), 1);
    }
}
