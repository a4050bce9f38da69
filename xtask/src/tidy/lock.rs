//! What `Cargo.lock` may hold. `deny.toml` is the list of bans; cargo-deny reads the same file and checks
//! licences and advisories as well.

use super::Break;
use crate::shell::{Doing as _, Failure, Result};
use toml::{Table, Value};

/// Raising it is a reviewed line: say in the commit what the new packages are for.
const PACKAGES: usize = 380;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(lock: &str, deny: &str) -> Result<Vec<Break>> {
    let lock: Table = lock.parse().doing("Cargo.lock")?;
    let deny: Table = deny.parse().doing("deny.toml")?;
    let packages = list(&lock, "package").ok_or_else(|| Failure::new("Cargo.lock is empty"))?;
    let bans: Vec<_> = deny
        .get("bans")
        .and_then(Value::as_table)
        .and_then(|bans| list(bans, "deny"))
        .ok_or_else(|| Failure::new("deny.toml has no `bans.deny`"))?
        .iter()
        .filter_map(|ban| ban.get("crate")?.as_str())
        .collect();

    let mut breaks = Vec::new();
    if packages.len() > PACKAGES {
        breaks.push(Break::file(
            "Cargo.lock",
            format!("{} packages; the limit is {PACKAGES}", packages.len()),
        ));
    }
    for package in packages {
        let word = |key: &str| package.get(key).and_then(Value::as_str);
        let name = word("name").unwrap_or_default();
        if bans.contains(&name) {
            breaks.push(Break::file(
                "Cargo.lock",
                format!("{name} is banned by deny.toml"),
            ));
        }
        if word("source").is_some_and(|source| source != REGISTRY) {
            breaks.push(Break::file(
                "Cargo.lock",
                format!("{name} comes from elsewhere"),
            ));
        }
    }
    Ok(breaks)
}

fn list<'a>(table: &'a Table, key: &str) -> Option<&'a Vec<Value>> {
    table.get(key)?.as_array()
}

#[cfg(test)]
mod tests {
    use super::check;

    const DENY: &str = "[bans]\ndeny = [{ crate = \"ring\" }]\n";

    #[test]
    fn a_banned_package_and_an_unknown_source_are_found() {
        let lock = "[[package]]\nname = \"ring\"\n\n[[package]]\nname = \"x\"\nsource = \"git+https://a/b\"\n";
        let found = check(lock, DENY).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn growth_past_the_limit_is_found() {
        let lock = "[[package]]\nname = \"a\"\n".repeat(super::PACKAGES + 1);
        assert_eq!(check(&lock, DENY).unwrap().len(), 1);
    }
}
