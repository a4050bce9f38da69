//! The index against plain Cedar over all policies, and the questions against brute force.

use crate::fixture::{compile, facts};
use estate::{Action, Estate, EstateFiles, Request, ResourceRef};
use facts::{FactSet, Value, names};
use proptest::prelude::*;
use std::fmt::Write as _;

const GROUPS: usize = 5;
pub(crate) const IDENTITIES: usize = 6;
const TABLES: usize = 6;
const KINDS: [&str; 3] = ["service", "job", "ai-agent"];
const CLASSES: [&str; 3] = ["public", "internal", "pii"];
pub(crate) const ACTIONS: [Action; 3] = [Action::Select, Action::Insert, Action::Update];

/// One policy in numbers, each taken modulo what there is to choose.
pub(crate) type Draft = (bool, u8, u8, u8, u8, u8);

pub(crate) fn drafts() -> impl Strategy<Value = Vec<Draft>> {
    proptest::collection::vec(any::<Draft>(), 0..24)
}

fn pick<'a>(from: &[&'a str], number: u8) -> &'a str {
    from[usize::from(number) % from.len()]
}

pub(crate) fn policy(
    number: usize,
    (forbid, principal, action, resource, condition, detail): Draft,
) -> String {
    let identity = usize::from(principal / 8) % IDENTITIES;
    let principal = match principal % 6 {
        0 | 1 => format!("principal == Identity::\"i{identity}\""),
        2 => format!("principal in Group::\"g{}\"", identity % GROUPS),
        3 => format!("principal is Identity in Group::\"g{}\"", identity % GROUPS),
        4 => "principal is Identity".to_owned(),
        _ => "principal".to_owned(),
    };
    let action = match action % 4 {
        0 => "action == Action::\"select\"",
        1 => "action in [Action::\"insert\", Action::\"select\"]",
        2 => "action == Action::\"update\"",
        _ => "action in [Action::\"select\", Action::\"insert\", Action::\"update\"]",
    };
    let table = usize::from(resource / 8) % TABLES;
    let resource = match resource % 6 {
        0 | 1 => format!("resource == Table::\"d/s{}/t{table}\"", table % 2),
        2 => format!("resource in Schema::\"d/s{}\"", table % 2),
        3 => "resource in Database::\"d\"".to_owned(),
        4 => "resource is Table".to_owned(),
        _ => "resource".to_owned(),
    };
    let (kind, class) = (pick(&KINDS, detail), pick(&CLASSES, detail / 3));
    let team = usize::from(detail) % 3;
    let condition = match condition % 15 {
        0 | 1 => String::new(),
        2 => format!("when {{ principal.kind == \"{kind}\" }}"),
        3 => format!(
            "when {{ resource.classification == \"{class}\" && principal.kind != \"{kind}\" }}"
        ),
        4 => format!(
            "when {{ principal.hasTag(\"team\") && principal.getTag(\"team\") == \"{team}\" }}"
        ),
        5 => "when { context.machine has join && context.machine.join == \"tpm\" }".to_owned(),
        6 => format!("unless {{ context.workload has uid && context.workload.uid == {team} }}"),
        // Overflows for uid 1 and 2, before the guard that follows it.
        7 => format!(
            "when {{ context.workload has uid && 9223372036854775806 + context.workload.uid > 0 && principal.kind == \"{kind}\" }}"
        ),
        // Overflows as well, after the guard.
        8 => format!(
            "when {{ principal.kind == \"{kind}\" && context.workload has uid && 9223372036854775806 + context.workload.uid > 0 }}"
        ),
        9 => format!(
            "when {{ principal.kind == \"{kind}\" || resource.classification == \"{class}\" }}"
        ),
        10 => format!(
            "when {{ principal.owner == \"o{team}\" }} unless {{ resource.classification == \"{class}\" }}"
        ),
        // A guard over facts: alone, and before and after what overflows.
        11 => format!(
            "when {{ principal.kind == \"{kind}\" && context.machine has join && context.machine.join == \"token\" }}"
        ),
        12 => "when { context.machine has join && context.machine.join == \"tpm\" && context.workload has uid && 9223372036854775806 + context.workload.uid > 0 }".to_owned(),
        13 => "when { context.workload has uid && 9223372036854775806 + context.workload.uid > 0 && context.machine has join && context.machine.join == \"tpm\" }".to_owned(),
        _ => format!("when {{ principal in Group::\"g{team}\" }}"),
    };
    let effect = effect(number, forbid);
    format!("@id(\"p{number}\")\n{effect} ({principal}, {action}, {resource}) {condition};\n")
}

/// A policy about becoming an identity.
fn assume_policy(
    number: usize,
    (forbid, principal, action, resource, condition, detail): Draft,
) -> String {
    let principal = match principal % 4 {
        0 | 1 => format!("principal in Pool::\"p{}\"", principal % 2),
        2 => format!("principal is Workload in Pool::\"p{}\"", detail % 2),
        _ => "principal is Workload".to_owned(),
    };
    let action = if action % 3 == 0 {
        "action"
    } else {
        "action == Action::\"assume\""
    };
    let identity = usize::from(resource / 4) % IDENTITIES;
    let resource = match resource % 4 {
        0 => format!("resource == Identity::\"i{identity}\""),
        1 => format!("resource in Group::\"g{}\"", identity % GROUPS),
        2 => "resource is Identity".to_owned(),
        _ => "resource".to_owned(),
    };
    let placed = format!(
        "principal.machine has pool && principal.machine.pool == \"p{}\"",
        detail % 2
    );
    let (kind, team) = (pick(&KINDS, detail), usize::from(detail) % 3);
    let condition = match condition % 6 {
        0 => placed,
        1 => format!("{placed} && principal has uid && principal.uid == {team}"),
        // Overflows for uid 1 and 2.
        2 => format!("{placed} && principal has uid && 9223372036854775806 + principal.uid > 0"),
        3 => format!("{placed} && resource is Identity && resource.kind == \"{kind}\""),
        4 => format!(
            "{placed} && resource is Identity && resource.hasTag(\"team\") && resource.getTag(\"team\") == \"{team}\""
        ),
        _ => format!("{placed} && resource is Identity && resource.owner == \"o{team}\""),
    };
    let effect = effect(number, forbid);
    format!(
        "@id(\"p{number}\")\n{effect} ({principal}, {action}, {resource}) when {{ {condition} }};\n"
    )
}

/// A policy about what administrators do.
fn admin_policy(
    number: usize,
    (forbid, principal, action, resource, condition, detail): Draft,
) -> String {
    let uid = [0, 1, 7][usize::from(principal / 8) % 3];
    let principal = match principal % 4 {
        0 => format!("principal == Admin::\"uid:{uid}\""),
        1 => format!("principal in Group::\"g{}\"", usize::from(detail) % GROUPS),
        2 => "principal is Admin".to_owned(),
        _ => format!(
            "principal is Admin in Group::\"g{}\"",
            usize::from(detail) % GROUPS
        ),
    };
    let (action, kinds) = match action % 4 {
        0 => (
            "action == Action::\"apply\"",
            [
                "resource == Estate::\"t\"",
                "resource is Estate",
                "resource",
            ],
        ),
        1 => (
            "action in [Action::\"apply\", Action::\"query\"]",
            ["resource == Estate::\"t\"", "resource", "resource"],
        ),
        2 => (
            "action == Action::\"revoke\"",
            [
                "resource == Identity::\"i1\"",
                "resource is Identity in Group::\"g1\"",
                "resource",
            ],
        ),
        _ => (
            "action in [Action::\"revoke\", Action::\"readmit\"]",
            [
                "resource == Machine::\"m1\"",
                "resource is Machine",
                "resource",
            ],
        ),
    };
    let resource = kinds[usize::from(resource) % 3];
    let condition = match condition % 4 {
        0 => format!("when {{ principal.uid == {uid} }}"),
        // Overflows for uid 7.
        1 => "when { principal.uid + 9223372036854775801 > 0 }".to_owned(),
        _ => String::new(),
    };
    let effect = effect(number, forbid);
    format!("@id(\"p{number}\")\n{effect} ({principal}, {action}, {resource}) {condition};\n")
}

fn effect(number: usize, forbid: bool) -> &'static str {
    if forbid && number.is_multiple_of(3) {
        "forbid"
    } else {
        "permit"
    }
}

fn ids(decision: &estate::Decision) -> Vec<String> {
    let mut ids: Vec<String> = decision
        .policy_ids()
        .iter()
        .map(ToString::to_string)
        .collect();
    ids.sort();
    ids
}

/// Workloads in either pool and in none.
fn workloads() -> Vec<FactSet> {
    let mut workloads = Vec::new();
    for pool in [Some("p0"), Some("p1"), None] {
        for uid in [None, Some(0_u32), Some(2)] {
            let mut pairs: Vec<(&str, Value)> = Vec::new();
            pairs.extend(pool.map(|pool| (names::MACHINE_POOL, Value::from(pool))));
            pairs.extend(uid.map(|uid| (names::WORKLOAD_UID, Value::from(uid))));
            workloads.push(facts(&pairs));
        }
    }
    workloads
}

pub(crate) fn estate(drafts: &[Draft]) -> Estate {
    with_policies(drafts, policy)
}

fn with_policies(drafts: &[Draft], policy: fn(usize, Draft) -> String) -> Estate {
    compile(&files(drafts, policy))
}

pub(crate) fn files(drafts: &[Draft], policy: fn(usize, Draft) -> String) -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"t\"\nclassifications = [\"public\", \"internal\", \"pii\"]\n\
         [[administrator]]\nuid = 0\ngroups = [\"g1\"]\n[[administrator]]\nuid = 1\ngroups = [\"g4\"]\n",
    );
    let mut identities = String::new();
    for group in 0..GROUPS {
        let parents = if group == 0 {
            String::new()
        } else {
            format!("groups = [\"g{}\"]\n", (group - 1) / 2)
        };
        write!(identities, "[[group]]\nname = \"g{group}\"\n{parents}").unwrap();
    }
    for number in 0..IDENTITIES {
        let (kind, group) = (KINDS[number % 3], number % GROUPS);
        write!(
            identities,
            "[[identity]]\npath = \"i{number}\"\nkind = \"{kind}\"\nowner = \"o{}\"\ngroups = [\"g{group}\"]\nvisible = [\"machine.join\", \"workload.uid\"]\n",
            number % 2
        )
        .unwrap();
        if number % 2 == 0 {
            writeln!(identities, "labels = {{ team = \"{}\" }}", number % 3).unwrap();
        }
    }
    files.insert("identities/i.toml", identities);
    let mut resources = "[[database]]\nname = \"d\"\n".to_owned();
    for schema in 0..2 {
        write!(resources, "[[database.schema]]\nname = \"s{schema}\"\n").unwrap();
        for table in (0..TABLES).filter(|table| table % 2 == schema) {
            let class = CLASSES[table % 3];
            write!(
                resources,
                "[[database.schema.table]]\nname = \"t{table}\"\nclassification = \"{class}\"\n"
            )
            .unwrap();
        }
    }
    files.insert("resources/r.toml", resources);
    files.insert(
        "references/p.toml",
        "[[pool]]\nname = \"p0\"\n[[pool]]\nname = \"p1\"\n[[machine]]\nname = \"m1\"\npool = \"p0\"\n",
    );
    let policies: String = drafts
        .iter()
        .enumerate()
        .map(|(number, draft)| policy(number, *draft))
        .collect();
    files.insert("policies/p.cedar", policies);
    files
}

fn sessions() -> Vec<FactSet> {
    let mut sessions = vec![FactSet::new()];
    for uid in [0_u32, 2] {
        for join in ["tpm", "token"] {
            sessions.push(facts(&[
                (names::WORKLOAD_UID, uid.into()),
                (names::MACHINE_JOIN, Value::from(join)),
            ]));
        }
    }
    sessions
}

/// Declared tables, and one that is not.
pub(crate) fn tables() -> Vec<ResourceRef> {
    let declared = (0..TABLES).map(|table| format!("d/s{}/t{table}", table % 2));
    declared
        .chain(["d/s0/unlisted".to_owned()])
        .map(ResourceRef::table)
        .collect()
}

fn requests(sessions: &[FactSet]) -> Vec<(String, Action, ResourceRef, &FactSet)> {
    let mut requests = Vec::new();
    for number in 0..IDENTITIES {
        for action in ACTIONS {
            for table in tables() {
                for facts in sessions {
                    requests.push((format!("i{number}"), action, table.clone(), facts));
                }
            }
        }
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_index_decides_as_plain_cedar_does(drafts in drafts()) {
        let estate = estate(&drafts);
        let sessions = sessions();
        // A different part of all requests for each estate.
        let part = drafts.iter().map(|draft| usize::from(draft.5)).sum::<usize>() % 17;
        for (principal, action, resource, facts) in requests(&sessions).into_iter().skip(part).step_by(17) {
            let request = Request { principal: &principal, action, resource, facts };
            let (indexed, plain) = (estate.decide(&request), estate.decide_plainly(&request));
            prop_assert_eq!(indexed.allow, plain.allow, "{:?}", request);
            prop_assert_eq!(indexed.errors.is_empty(), plain.errors.is_empty(), "{:?}", request);
            // Beside an error, Cedar names what else it found; the denial is the same.
            if plain.errors.is_empty() && (plain.allow || !plain.policies.is_empty()) {
                prop_assert_eq!(ids(&indexed), ids(&plain), "{:?}", request);
            }
        }
    }

    #[test]
    fn the_index_grants_identities_as_plain_cedar_does(drafts in drafts()) {
        let estate = with_policies(&drafts, assume_policy);
        for facts in workloads() {
            for number in 0..IDENTITIES {
                let path = format!("i{number}");
                let (indexed, plain) = (estate.assume(&facts, &path), estate.assume_plainly(&facts, &path));
                prop_assert_eq!(indexed.allow, plain.allow, "{} {:?}", path, facts);
                prop_assert_eq!(indexed.errors.is_empty(), plain.errors.is_empty(), "{} {:?}", path, facts);
                if plain.allow {
                    prop_assert_eq!(ids(&indexed), ids(&plain), "{} {:?}", path, facts);
                }
            }
        }
    }

    #[test]
    fn the_index_lets_administrators_do_as_plain_cedar_does(drafts in drafts()) {
        let estate = with_policies(&drafts, admin_policy);
        let whole = ResourceRef::estate("t");
        // 7 is declared nowhere.
        for uid in [0, 1, 7] {
            for (action, resource) in [
                (Action::Apply, whole.clone()),
                (Action::Query, whole.clone()),
                (Action::Revoke, ResourceRef::identity("i1")),
                (Action::Revoke, ResourceRef::identity("i2")),
                (Action::Revoke, ResourceRef::machine("m1")),
                (Action::Readmit, ResourceRef::machine("m1")),
            ] {
                let indexed = estate.decide_admin(uid, action, &resource);
                let plain = estate.decide_admin_plainly(uid, action, &resource);
                prop_assert_eq!(indexed.allow, plain.allow, "{} {} {}", uid, action, resource);
                prop_assert_eq!(indexed.errors.is_empty(), plain.errors.is_empty(), "{} {} {}", uid, action, resource);
                prop_assert_eq!(ids(&indexed), ids(&plain), "{} {} {}", uid, action, resource);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, ..ProptestConfig::default() })]

    #[test]
    fn who_can_and_what_can_are_what_brute_force_finds(drafts in drafts()) {
        let estate = estate(&drafts);
        let sessions = sessions();
        let mut whats = Vec::new();
        for number in 0..IDENTITIES {
            let what = estate.what_can(&format!("i{number}"));
            prop_assert!(what.errors.iter().all(|error| error.contains("errs")), "{:?}", what.errors);
            whats.push(what);
        }
        for action in ACTIONS {
            for resource in tables() {
                let who = estate.who_can(action, &resource);
                let shown = if resource.path.ends_with("unlisted") { resource.parent().unwrap() } else { resource.clone() };
                for (number, what) in whats.iter().enumerate() {
                    let principal = format!("i{number}");
                    let by_who = who.accesses.iter().find(|access| access.identity == principal);
                    let by_what = what.accesses.iter().find(|access| access.action == action && access.resource == shown);
                    prop_assert_eq!(by_who.map(|access| &access.when), by_what.map(|access| &access.when));
                    let allowed: Vec<bool> = sessions
                        .iter()
                        .map(|facts| estate.decide(&Request { principal: &principal, action, resource: resource.clone(), facts }).allow)
                        .collect();
                    match by_who {
                        None => prop_assert!(allowed.iter().all(|allow| !allow)),
                        Some(access) if access.is_unconditional() => prop_assert!(allowed.iter().all(|allow| *allow)),
                        Some(_) => {}
                    }
                }
            }
        }
    }
}
