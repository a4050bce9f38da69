//! What a change touches, and what breaks an invariant today, against asking about everything.

use crate::equivalence::{Draft, drafts, files, policy};
use crate::fixture::compile;
use estate::{Access, Action, Estate, EstateFiles, ResourceRef, Today, diff};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What beside policies may differ: a file, a text in it, and what stands there instead.
const CHANGES: [(&str, &str, &str); 10] = [
    ("estate.toml", "trust_domain", "trust_domain"),
    // What nobody classified is as restricted as the last.
    (
        "estate.toml",
        "\"internal\", \"pii\"]",
        "\"pii\", \"internal\"]",
    ),
    ("identities/i.toml", "kind = \"service\"", "kind = \"job\""),
    ("identities/i.toml", "owner = \"o1\"", "owner = \"o0\""),
    (
        "identities/i.toml",
        "labels = { team = \"2\" }",
        "labels = { team = \"1\" }",
    ),
    // A group above others moves with all of them.
    (
        "identities/i.toml",
        "name = \"g2\"\ngroups = [\"g0\"]",
        "name = \"g2\"\ngroups = [\"g1\"]",
    ),
    (
        "identities/i.toml",
        "[[group]]\nname = \"g4\"",
        "[[identity]]\npath = \"new\"\nkind = \"job\"\nowner = \"o1\"\ngroups = [\"g4\"]\n\
         visible = [\"machine.join\", \"workload.uid\"]\n[[group]]\nname = \"g4\"",
    ),
    (
        "resources/r.toml",
        "classification = \"public\"",
        "classification = \"pii\"",
    ),
    (
        "resources/r.toml",
        "[[database.schema]]\nname = \"s1\"",
        "[[database.schema.table]]\nname = \"new\"\nclassification = \"public\"\n\
         [[database.schema]]\nname = \"s1\"",
    ),
    (
        "resources/r.toml",
        "[[database.schema]]\nname = \"s0\"",
        "[[database.schema]]\nname = \"s0\"\nclassification = \"public\"",
    ),
];

fn changed(mut files: EstateFiles, change: usize) -> EstateFiles {
    let (file, from, to) = CHANGES[change % CHANGES.len()];
    let text = &files.0[file];
    assert!(text.contains(from), "{file} has no {from}");
    let text = text.replacen(from, to, 1);
    files.insert(file, text);
    files
}

type Key = (String, Action, ResourceRef);

fn everything(estate: &Estate) -> BTreeMap<Key, Access> {
    let paths = estate.identities();
    let accesses = paths.flat_map(|identity| estate.what_can(&identity.path).accesses);
    accesses
        .map(|access| {
            let key = (
                access.identity.clone(),
                access.action,
                access.resource.clone(),
            );
            (key, access)
        })
        .collect()
}

fn conditions(access: Option<&Access>) -> Option<[BTreeSet<&str>; 3]> {
    let access = access?;
    Some(
        [&access.when, &access.unless, &access.if_defined].map(|list| {
            list.iter()
                .map(|residual| residual.condition.as_str())
                .collect()
        }),
    )
}

fn key(access: &Access) -> Key {
    (
        access.identity.clone(),
        access.action,
        access.resource.clone(),
    )
}

/// Which accesses a diff tells of, and which differ when everything is asked.
fn told_and_differing(old: &Estate, new: &Estate) -> (BTreeSet<Key>, BTreeSet<Key>) {
    let told = diff(old, new);
    let changes = told.widened.iter().chain(&told.narrowed);
    let told = changes.map(|change| {
        let access = change.before.as_ref().or(change.after.as_ref());
        key(access.expect("a change has a side"))
    });
    let (before, after) = (everything(old), everything(new));
    let all: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
    let differing = all
        .into_iter()
        .filter(|key| conditions(before.get(*key)) != conditions(after.get(*key)));
    (told.collect(), differing.cloned().collect())
}

const CLASSES: [&str; 3] = ["public", "internal", "pii"];
const KINDS: [&str; 3] = ["service", "job", "ai-agent"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_diff_tells_of_every_access_that_differs_and_of_no_other(
        drafts in drafts(), more in proptest::collection::vec(any::<Draft>(), 0..3),
        dropped in any::<usize>(), change in 0..CHANGES.len(),
    ) {
        let old = compile(&files(&drafts, policy));
        let mut after = drafts.clone();
        if !after.is_empty() && dropped % 2 == 0 {
            after.remove(dropped % drafts.len());
        }
        after.extend(more);
        let new = compile(&changed(files(&after, policy), change));
        for (from, to) in [(&old, &new), (&new, &old)] {
            let (told, differing) = told_and_differing(from, to);
            prop_assert_eq!(told, differing);
        }
        // The entities alone.
        let moved = compile(&changed(files(&drafts, policy), change));
        let (told, differing) = told_and_differing(&old, &moved);
        prop_assert_eq!(told, differing);
    }

    #[test]
    fn what_breaks_an_invariant_today_is_what_everything_that_can_be_done_shows(
        drafts in drafts(), class in 0..3_usize, kind in 0..3_usize,
    ) {
        let (class, kind) = (CLASSES[class], KINDS[kind]);
        let mut files = files(&drafts, policy);
        let text = format!(
            "@id(\"one\") never (principal, action in [Action::\"select\", Action::\"insert\", Action::\"update\"], resource is Table)\n\
             when {{ principal.kind == \"{kind}\" && resource.classification == \"{class}\" }};\n\
             @id(\"the same by other words\") never (principal, action in [Action::\"select\", Action::\"insert\", Action::\"update\"], resource is Table)\n\
             unless {{ principal.kind != \"{kind}\" || resource.classification != \"{class}\" }};\n"
        );
        files.insert("invariants/i.cedar", text);
        let estate = compile(&files);
        let everything = everything(&estate);
        let matching = everything.values().filter(|access| {
            let by_kind = estate.identity(&access.identity).unwrap().kind.as_str() == kind;
            let declared = estate.objects().find(|object| object.resource == access.resource);
            // What no file lists is as restricted as can be.
            let of = declared.map_or("pii", |object| object.classification.as_str());
            by_kind && of == class && [Action::Select, Action::Insert, Action::Update].contains(&access.action)
        });
        let (certain, open): (Vec<_>, Vec<_>) = matching.partition(|access| access.is_unconditional());
        let keys = |list: &[&Access]| -> BTreeSet<Key> { list.iter().map(|access| key(access)).collect() };
        for invariant in estate.invariants() {
            let found = |list: &[estate::Breach]| -> BTreeSet<Key> {
                list.iter()
                    .map(|breach| {
                        let path = breach.principal.trim_start_matches("Identity::\"").trim_end_matches('"');
                        (path.to_owned(), breach.action, breach.resource.clone())
                    })
                    .collect()
            };
            match estate.holds_today(invariant) {
                Today::Holds { .. } => prop_assert!(certain.is_empty() && open.is_empty()),
                Today::Broken { by } => prop_assert_eq!(found(&by), keys(&certain)),
                Today::Open { on, because } => {
                    prop_assert!(because.is_empty(), "{:?}", because);
                    prop_assert!(certain.is_empty());
                    prop_assert_eq!(found(&on), keys(&open));
                }
            }
        }
    }
}
