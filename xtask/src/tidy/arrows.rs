//! Which crate may use which. The same picture stands in the code map of `docs/ARCHITECTURE.md`;
//! a new arrow is a design decision and changes both.

use super::Break;
use crate::workspace::{Dependency, Package};
use std::collections::{BTreeMap, BTreeSet};

const MAP: &str = "docs/ARCHITECTURE.md";

/// Crate, and the crates of ours that its running code may use. Tests may use any.
const ARROWS: &[(&str, &[&str])] = &[
    ("facts", &[]),
    ("crypto", &[]),
    ("proto", &[]),
    ("listen", &[]),
    ("ledger", &["crypto"]),
    ("ledger-store", &["crypto", "ledger"]),
    ("custody", &["crypto", "ledger", "ledger-store"]),
    ("spiffe", &["crypto", "facts", "ledger"]),
    ("svid-tls", &["crypto", "facts", "spiffe"]),
    ("link", &["facts", "proto", "spiffe", "svid-tls"]),
    ("oidc", &["crypto", "facts"]),
    ("identity", &["crypto", "facts", "ledger", "spiffe"]),
    ("attest", &["crypto", "facts"]),
    ("attest-tpm", &["attest", "crypto", "facts"]),
    ("attest-tee", &["attest", "crypto", "facts"]),
    ("endorsements", &["attest-tee", "crypto", "facts"]),
    ("attest-code", &["attest", "crypto", "facts", "ledger"]),
    ("references", &["crypto", "facts"]),
    ("appraise", &["attest-tpm", "crypto", "facts", "references"]),
    ("device", &["attest-tpm", "crypto"]),
    ("workload-api", &["facts", "proto"]),
    ("estate", &["attest-code", "crypto", "facts", "references"]),
    ("estate-prove", &["estate"]),
    ("store", &[]),
    (
        "recheck",
        &[
            "appraise",
            "attest",
            "attest-tee",
            "attest-tpm",
            "crypto",
            "estate",
            "facts",
            "ledger",
            "spiffe",
        ],
    ),
    (
        "record-index",
        &[
            "crypto",
            "estate",
            "estate-prove",
            "facts",
            "ledger",
            "ledger-store",
            "recheck",
            "spiffe",
            "store",
        ],
    ),
    (
        "export",
        &["crypto", "facts", "ledger", "ledger-store", "listen"],
    ),
    (
        "monitor",
        &[
            "crypto",
            "custody",
            "facts",
            "ledger",
            "ledger-store",
            "listen",
        ],
    ),
    ("objects", &["crypto", "facts", "ledger", "ledger-store"]),
    ("discovery", &["crypto", "estate", "facts"]),
    ("registry", &["attest-code", "crypto", "facts"]),
    (
        "gateway",
        &[
            "crypto",
            "custody",
            "estate",
            "facts",
            "ledger",
            "ledger-store",
            "link",
            "listen",
            "proto",
            "spiffe",
            "svid-tls",
        ],
    ),
    (
        "gateway-postgres",
        &[
            "crypto", "estate", "facts", "gateway", "ledger", "listen", "svid-tls",
        ],
    ),
    (
        "pdp",
        &[
            "crypto",
            "device",
            "estate",
            "facts",
            "gateway",
            "ledger",
            "listen",
            "proto",
            "record-index",
            "spiffe",
            "svid-tls",
            "workload-api",
        ],
    ),
    (
        "agent",
        &[
            "attest",
            "attest-code",
            "attest-tpm",
            "crypto",
            "device",
            "facts",
            "ledger",
            "link",
            "listen",
            "proto",
            "spiffe",
            "svid-tls",
            "workload-api",
        ],
    ),
    (
        "server",
        &[
            "appraise",
            "attest",
            "attest-tee",
            "attest-tpm",
            "crypto",
            "custody",
            "endorsements",
            "estate",
            "estate-prove",
            "facts",
            "identity",
            "ledger",
            "ledger-store",
            "listen",
            "objects",
            "oidc",
            "proto",
            "recheck",
            "record-index",
            "references",
            "spiffe",
            "store",
            "svid-tls",
        ],
    ),
    (
        "witness",
        &[
            "crypto",
            "custody",
            "facts",
            "ledger",
            "ledger-store",
            "listen",
        ],
    ),
    (
        "cli",
        &[
            "agent",
            "appraise",
            "attest-code",
            "attest-tee",
            "attest-tpm",
            "crypto",
            "custody",
            "device",
            "discovery",
            "endorsements",
            "estate",
            "estate-prove",
            "export",
            "facts",
            "gateway-postgres",
            "ledger",
            "link",
            "monitor",
            "oidc",
            "pdp",
            "proto",
            "recheck",
            "record-index",
            "references",
            "registry",
            "server",
            "spiffe",
            "svid-tls",
            "witness",
        ],
    ),
    ("trilith", &["cli"]),
    ("trilith-agent", &["agent"]),
    ("demo-workloads", &[]),
    ("testkit", &["crypto", "facts", "references"]),
    (
        "hostile",
        &[
            "attest",
            "attest-code",
            "attest-tee",
            "attest-tpm",
            "crypto",
            "facts",
            "gateway-postgres",
            "ledger",
            "objects",
            "oidc",
            "references",
            "spiffe",
            "testkit",
            "witness",
        ],
    ),
    ("xtask", &[]),
    ("codegen", &[]),
];

/// Somebody else's crate that only its owners may name.
const CONFINED: &[(&str, &[&str])] = &[
    ("aws-lc-rs", &["crypto"]),
    ("aws-lc-sys", &[]),
    ("cedar-policy", &["estate", "estate-prove"]),
    ("cedar-policy-core", &[]),
    ("cedar-policy-symcc", &["estate-prove"]),
    ("pg_query", &["gateway-postgres"]),
    ("rusqlite", &["store"]),
    ("protox", &["codegen"]),
];

/// Checks manifests against the table, and the document against the table.
pub(super) fn check(packages: &[Package], architecture: &str) -> Vec<Break> {
    let allowed: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut breaks = Vec::new();
    for package in packages {
        let manifest = format!("{}/Cargo.toml", package.folder);
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            breaks.push(Break::file(
                &manifest,
                "the crate is not in xtask/src/tidy/arrows.rs",
            ));
            continue;
        };
        breaks.extend(check_package(package, &manifest, allowed));
    }
    for (name, _) in ARROWS {
        if !packages.iter().any(|package| package.name == *name) {
            breaks.push(Break::file(
                "xtask/src/tidy/arrows.rs",
                format!("there is no crate `{name}`"),
            ));
        }
    }
    breaks.extend(check_map(architecture));
    breaks
}

fn check_package(package: &Package, manifest: &str, allowed: &[&str]) -> Vec<Break> {
    let mut breaks = Vec::new();
    for dependency in &package.dependencies {
        let name = dependency.name.as_str();
        if dependency.ours && !dependency.dev && !allowed.contains(&name) {
            breaks.push(Break::file(
                manifest,
                format!(
                    "{} may not use {name}: not an arrow of the house",
                    package.name
                ),
            ));
        }
        let owners = CONFINED.iter().find(|(confined, _)| *confined == name);
        if let Some((_, owners)) = owners
            && !dependency.dev
            && !owners.contains(&package.name.as_str())
        {
            breaks.push(Break::file(
                manifest,
                format!("{name} is named by {} only", owners.join(" and ")),
            ));
        }
    }
    for name in allowed {
        let uses = |dependency: &Dependency| dependency.name == *name && !dependency.dev;
        if !package.dependencies.iter().any(uses) {
            breaks.push(Break::file(
                manifest,
                format!("{} does not use {name}: an arrow less", package.name),
            ));
        }
    }
    breaks
}

/// The rows of the code map: `| crate | what | uses |`.
fn check_map(architecture: &str) -> Vec<Break> {
    let mut breaks = Vec::new();
    let mut drawn = BTreeSet::new();
    for (index, line) in architecture.lines().enumerate() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", name, _, uses, ""] = cells.as_slice() else {
            continue;
        };
        let Some(name) = name
            .strip_prefix('`')
            .and_then(|name| name.strip_suffix('`'))
        else {
            continue;
        };
        let uses: BTreeSet<_> = uses
            .split_whitespace()
            .filter(|word| *word != "–")
            .collect();
        let expected = ARROWS.iter().find(|(crate_name, _)| *crate_name == name);
        let Some((_, expected)) = expected else {
            breaks.push(Break::at(
                MAP,
                index + 1,
                format!("there is no crate `{name}`"),
            ));
            continue;
        };
        drawn.insert(name);
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        if uses != expected {
            let words: Vec<_> = expected.into_iter().collect();
            breaks.push(Break::at(
                MAP,
                index + 1,
                format!("`{name}` uses: {}", words.join(" ")),
            ));
        }
    }
    for (name, _) in ARROWS {
        if !drawn.contains(name) {
            breaks.push(Break::file(MAP, format!("`{name}` is not in the code map")));
        }
    }
    breaks
}

#[cfg(test)]
mod tests {
    use super::{ARROWS, CONFINED, check};
    use crate::workspace::{Dependency, Package};
    use std::collections::BTreeSet;

    fn package(name: &str, dependency: &str, ours: bool, dev: bool) -> Package {
        Package {
            name: name.to_owned(),
            folder: format!("crates/{name}"),
            dependencies: vec![Dependency {
                name: dependency.to_owned(),
                identifier: dependency.replace('-', "_"),
                dev,
                ours,
            }],
            examples: Vec::new(),
        }
    }

    fn complaints(package: Package) -> Vec<String> {
        let manifest = format!("{}/Cargo.toml", package.folder);
        check(&[package], "")
            .into_iter()
            .filter(|broken| broken.file == manifest && !broken.what.contains("an arrow less"))
            .map(|broken| broken.what)
            .collect()
    }

    #[test]
    fn an_arrow_upwards_is_refused() {
        assert!(complaints(package("ledger", "crypto", true, false)).is_empty());
        assert!(complaints(package("ledger", "testkit", true, true)).is_empty());
        assert_eq!(
            complaints(package("ledger", "server", true, false)).len(),
            1
        );
    }

    #[test]
    fn a_confined_crate_is_refused_outside_its_owner() {
        assert_eq!(
            complaints(package("server", "rusqlite", false, false)).len(),
            1
        );
        assert!(complaints(package("store", "rusqlite", false, false)).is_empty());
    }

    #[test]
    fn arrows_point_downwards_only() {
        // The table is in order: a crate comes after all that it uses.
        let mut seen = BTreeSet::new();
        for (name, uses) in ARROWS {
            assert!(
                uses.iter().all(|used| seen.contains(used)),
                "{name} uses what comes later"
            );
            assert!(seen.insert(name));
        }
    }

    #[test]
    fn the_slim_agent_reaches_neither_policy_nor_state() {
        let mut reached = BTreeSet::from(["trilith-agent"]);
        for (name, uses) in ARROWS.iter().rev() {
            if reached.contains(name) {
                reached.extend(uses.iter());
            }
        }
        for (confined, owners) in CONFINED {
            let allowed = confined.starts_with("aws-lc");
            assert!(
                allowed || owners.iter().all(|owner| !reached.contains(owner)),
                "the slim agent reaches {confined}"
            );
        }
    }
}
