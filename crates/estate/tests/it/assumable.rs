//! The identities that a workload may become, as the index finds them, against asking of every identity by all
//! policies: random estates with templates, forbids and policies that err.

use crate::fixture::{compile, facts};
use estate::{Decision, Estate, EstateFiles, Identity};
use facts::{FactSet, Value, names};
use proptest::prelude::*;
use std::borrow::Cow;
use std::fmt::Write as _;

const IDENTITIES: usize = 8;
const GROUPS: usize = 4;
const KINDS: [&str; 3] = ["service", "job", "ai-agent"];
const TEMPLATES: [&str; 3] = [
    "units/{workload.unit}",
    "pools/{machine.pool}/jobs/{workload.unit}",
    "sources/{code.commit}",
];

/// One policy in numbers, each taken modulo what there is to choose.
type Draft = (bool, u8, u8, u8, u8, u8, u8);

/// A workload in numbers; 0 is a fact that is not there.
type Workload = (u8, u8, u8, u8, u8, u8);

fn estates() -> impl Strategy<Value = (Vec<Draft>, Vec<Workload>)> {
    (
        proptest::collection::vec(any::<Draft>(), 0..16),
        proptest::collection::vec(any::<Workload>(), 1..8),
    )
}

fn workload((pool, uid, unit, code, name, others): Workload) -> FactSet {
    let mut pairs: Vec<(&str, Value)> = Vec::new();
    let mut text = |name, choice: u8, of: &[&str]| {
        let chosen = usize::from(choice) % (of.len() + 1);
        if let Some(value) = chosen.checked_sub(1) {
            pairs.push((name, Value::from(of[value])));
        }
    };
    text(names::MACHINE_POOL, pool, &["p0", "p1"]);
    text(names::WORKLOAD_UNIT, unit, &["u0", "u1", "u0", "u1", "a/b"]);
    text(names::MACHINE_NAME, name, &["m0", "m1"]);
    text(
        names::CODE_SHA256,
        code,
        &[&"1".repeat(64), &"2".repeat(64), &"3".repeat(64)],
    );
    text(names::CODE_SOURCE, others, &["s0", "s1"]);
    text(names::CODE_COMMIT, others / 3, &["c0", "c1"]);
    match uid % 4 {
        0 => {}
        number => pairs.push((names::WORKLOAD_UID, Value::from(u32::from(number - 1)))),
    }
    match others / 9 % 3 {
        0 => {}
        1 => pairs.push((names::WORKLOAD_GROUPS, vec!["a".to_owned()].into())),
        _ => pairs.push((
            names::WORKLOAD_GROUPS,
            vec!["b".to_owned(), "c".to_owned()].into(),
        )),
    }
    match others / 27 % 3 {
        0 => {}
        number => pairs.push((names::MACHINE_BOOT_SECURE_BOOT, (number == 1).into())),
    }
    facts(&pairs)
}

fn condition(kind: u8, detail: u8) -> String {
    let two = detail % 2;
    let kind_name = KINDS[usize::from(detail) % KINDS.len()];
    let overflows = "principal has uid && 9223372036854775806 + principal.uid > 0";
    match kind % 19 {
        0 => "true".to_owned(),
        1 => format!("principal has uid && principal.uid == {two}"),
        2 => format!("principal has unit && \"u{two}\" == principal.unit"),
        3 => format!(
            "((principal has uid && principal.uid == {two}) || (principal has unit && principal.unit == \"u{two}\"))"
        ),
        4 => format!("principal has uid && principal has code && principal.code.known_as.contains(\"k{two}\")"),
        5 => "principal has uid && principal has code && principal.code.known_as.containsAny([\"k0\", \"k2\"])".to_owned(),
        6 => format!(
            "principal has unit && principal has code && principal.code has source && principal.code.source == \"s{two}\""
        ),
        7 => "principal has groups && principal.groups.containsAll([\"b\", \"c\"])".to_owned(),
        8 => format!("principal.machine has name && [\"m{two}\", \"m7\"].contains(principal.machine.name)"),
        // Overflows for uid 2.
        9 => overflows.to_owned(),
        10 => format!("{overflows} && principal has unit && principal.unit == \"u{two}\""),
        11 => format!("principal has unit && principal.unit == \"u{two}\" && {overflows}"),
        12 => format!("resource is Identity && resource.kind == \"{kind_name}\""),
        13 => format!("resource is Identity && resource.hasTag(\"team\") && resource.getTag(\"team\") == \"u{two}\""),
        14 => "resource is Identity && principal has unit && resource.owner == principal.unit".to_owned(),
        15 => "resource is Identity && principal has unit && resource.hasTag(\"team\") && principal.unit == resource.getTag(\"team\")".to_owned(),
        16 => format!("(if principal has uid then principal.uid != {two} else principal has unit)"),
        17 => "principal.machine has boot && principal.machine.boot has secure_boot && principal.machine.boot.secure_boot".to_owned(),
        // Of the two sides of the `||`, one is about the workload alone.
        _ => format!("resource is Identity && (principal in Pool::\"p{two}\" || resource.hasTag(\"team\"))"),
    }
}

fn policy(
    number: usize,
    (forbid, principal, resource, first, second, detail, unless): Draft,
) -> String {
    let pool = principal / 3 % 2;
    let (principal, placed) = match principal % 3 {
        0 => (format!("principal in Pool::\"p{pool}\""), String::new()),
        1 => (
            format!("principal is Workload in Pool::\"p{pool}\""),
            String::new(),
        ),
        _ => (
            "principal is Workload".to_owned(),
            format!("principal.machine has pool && principal.machine.pool == \"p{pool}\" && "),
        ),
    };
    let action = if detail % 3 == 0 {
        "action"
    } else {
        "action == Action::\"assume\""
    };
    let choice = usize::from(resource / 6);
    let resource = match resource % 6 {
        0 => format!("resource == Identity::\"i{}\"", choice % IDENTITIES),
        1 => format!(
            "resource == Identity::{:?}",
            TEMPLATES[choice % TEMPLATES.len()]
        ),
        2 | 3 => format!("resource in Group::\"g{}\"", choice % GROUPS),
        4 => "resource is Identity".to_owned(),
        _ => "resource".to_owned(),
    };
    let (first, second) = (condition(first, detail), condition(second, detail / 2));
    let unless = match unless % 4 {
        0 => " unless { principal has uid && principal.uid == 1 }",
        _ => "",
    };
    let effect = if forbid && number.is_multiple_of(3) {
        "forbid"
    } else {
        "permit"
    };
    format!(
        "@id(\"p{number}\")\n{effect} ({principal}, {action}, {resource}) when {{ {placed}{first} && {second} }}{unless};\n"
    )
}

fn estate(drafts: &[Draft]) -> Estate {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"t\"\n");
    let mut identities = String::new();
    for group in 0..GROUPS {
        let parents = group.checked_sub(1).map_or_else(String::new, |_| {
            format!("groups = [\"g{}\"]\n", (group - 1) / 2)
        });
        write!(identities, "[[group]]\nname = \"g{group}\"\n{parents}").unwrap();
    }
    let plain = (0..IDENTITIES).map(|number| format!("i{number}"));
    for (number, path) in plain.chain(TEMPLATES.map(str::to_owned)).enumerate() {
        let (kind, group) = (KINDS[number % 3], number % GROUPS);
        let owner = ["u0", "o1"][number % 2];
        write!(
            identities,
            "[[identity]]\npath = \"{path}\"\nkind = \"{kind}\"\nowner = \"{owner}\"\ngroups = [\"g{group}\"]\n"
        )
        .unwrap();
        if number % 2 == 0 {
            writeln!(identities, "labels = {{ team = \"u{}\" }}", number % 4 / 2).unwrap();
        }
    }
    files.insert("identities/i.toml", identities);
    let mut references = "[[pool]]\nname = \"p0\"\n[[pool]]\nname = \"p1\"\n".to_owned();
    for (name, digit) in [("k0", '1'), ("k1", '2'), ("k2", '2')] {
        let digest = digit.to_string().repeat(64);
        write!(
            references,
            "[[code]]\nname = \"{name}\"\nsha256 = [\"{digest}\"]\n"
        )
        .unwrap();
    }
    files.insert("references/r.toml", references);
    let drafts = drafts.iter().enumerate();
    let policies: String = drafts
        .map(|(number, draft)| policy(number, *draft))
        .collect();
    files.insert("policies/p.cedar", policies);
    compile(&files)
}

/// Paths, and the policies that give them.
fn shown(found: &[(Cow<'_, Identity>, Decision)]) -> Vec<(String, Vec<String>)> {
    let one = |(identity, decision): &(Cow<'_, Identity>, Decision)| {
        let mut ids = decision.policy_ids();
        ids.sort();
        (identity.path.clone(), ids)
    };
    found.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_reached_would_have_been_denied((drafts, workloads) in estates()) {
        let estate = estate(&drafts);
        for workload in workloads {
            let facts = self::workload(workload);
            let (found, plain) = (estate.assumable(&facts), estate.assumable_plainly(&facts));
            prop_assert_eq!(shown(&found), shown(&plain), "{:?}", facts);
            prop_assert_eq!(shown(&found), shown(&estate.assumable_one_by_one(&facts)), "{:?}", facts);
            // Each is what asking for it by its own path says as well.
            for (identity, _) in &found {
                prop_assert!(estate.assume(&facts, &identity.path).allow, "{} {:?}", identity.path, facts);
            }
        }
    }
}

/// That both find nothing would be the same as well: here something is found, by each way there is.
#[test]
fn each_way_to_file_a_permit_finds_what_it_gives() {
    let placed = "principal has uid && principal.uid == 0";
    for (resource, condition) in [
        ("resource == Identity::\"i0\"", placed),
        ("resource in Group::\"g0\"", placed),
        ("resource", placed),
        ("resource is Identity", "resource.kind == \"service\""),
        ("resource is Identity", "resource.owner == principal.unit"),
        (
            "resource",
            "resource.hasTag(\"team\") && resource.getTag(\"team\") == principal.unit",
        ),
        (
            "resource",
            "principal has code && principal.code.known_as.contains(\"k0\")",
        ),
        (
            "resource",
            "[\"u0\", \"u7\"].contains(principal.unit) || principal in Pool::\"p1\"",
        ),
    ] {
        let mut files = estate(&[]).files().clone();
        let text = format!(
            "permit (principal in Pool::\"p0\", action == Action::\"assume\", {resource}) when {{ principal has unit && {condition} }};"
        );
        files.insert("policies/p.cedar", text);
        let estate = compile(&files);
        let facts = facts(&[
            (names::MACHINE_POOL, "p0".into()),
            (names::WORKLOAD_UID, 0_u32.into()),
            (names::WORKLOAD_UNIT, "u0".into()),
            (names::CODE_SHA256, "1".repeat(64).into()),
        ]);
        let found = shown(&estate.assumable(&facts));
        assert!(
            found.iter().any(|(path, _)| path == "i0"),
            "{condition}: {found:?}"
        );
        assert_eq!(
            found,
            shown(&estate.assumable_plainly(&facts)),
            "{condition}"
        );
    }
}
