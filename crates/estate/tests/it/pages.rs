//! Answers one after another: equal to asking of every pair, wherever they are cut.

use crate::equivalence::{ACTIONS, IDENTITIES, drafts, estate, tables};
use crate::fixture::{compile, example};
use estate::{
    Access, Accesses, Action, Answer, Cursor, CursorError, Estate, EstateFiles, ResourceRef,
};
use proptest::prelude::*;
use std::fmt::Write as _;

/// Whole, and in pages of `limit` that look at little each; every page is asked for anew, as a client would.
fn paged<'a>(
    ask: impl Fn() -> Accesses<'a>,
    limit: usize,
    evaluations: usize,
) -> (Vec<Access>, Vec<String>) {
    let (mut accesses, mut errors, mut after) = (Vec::new(), Vec::new(), None::<String>);
    for _ in 0..100_000 {
        let mut asked = ask();
        if let Some(cursor) = &after {
            asked = asked.after(&cursor.parse().unwrap()).unwrap();
        }
        let page = asked.page(limit, evaluations);
        assert!(page.accesses.len() + page.errors.len() <= limit);
        accesses.extend(page.accesses);
        errors.extend(page.errors);
        match page.next {
            None => return (accesses, errors),
            next => after = next,
        }
    }
    panic!("the pages do not come to an end");
}

/// The errors of a whole answer may leave out those of policies that could not have allowed anything.
fn same(found: &Answer, plain: &Answer) -> Result<(), TestCaseError> {
    prop_assert_eq!(&found.accesses, &plain.accesses);
    for error in &found.errors {
        prop_assert!(plain.errors.contains(error), "{}", error);
    }
    Ok(())
}

fn all_alike(
    estate: &Estate,
    principals: &[String],
    resources: &[ResourceRef],
    actions: &[Action],
) -> Result<(), TestCaseError> {
    for principal in principals {
        let whole = estate.what_can(principal);
        same(&whole, &estate.what_can_plainly(principal))?;
        for (limit, evaluations) in [(1, 1_000), (2, 1), (7, 3), (1_000, 1_000_000)] {
            let (accesses, errors) = paged(|| estate.accesses_of(principal), limit, evaluations);
            prop_assert_eq!(&accesses, &whole.accesses, "{} by {}", principal, limit);
            prop_assert_eq!(&errors, &whole.errors, "{} by {}", principal, limit);
        }
    }
    for action in actions {
        for resource in resources {
            let whole = estate.who_can(*action, resource);
            same(&whole, &estate.who_can_plainly(*action, resource))?;
            let (accesses, errors) = paged(|| estate.accesses_to(*action, resource), 2, 2);
            prop_assert_eq!(&accesses, &whole.accesses, "{} {}", action, resource);
            prop_assert_eq!(&errors, &whole.errors, "{} {}", action, resource);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn pages_come_to_what_asking_of_every_pair_does(drafts in drafts()) {
        let estate = estate(&drafts);
        let principals: Vec<_> = (0..IDENTITIES).map(|number| format!("i{number}")).collect();
        all_alike(&estate, &principals, &tables(), &ACTIONS)?;
    }
}

/// Own kinds, tool servers and APIs, templates, groups of resources, conditions over what resources lie in and
/// over what only they have.
#[test]
fn the_examples_are_answered_as_asking_of_every_pair_does() {
    for name in ["estate-shop", "estate-storage"] {
        let mut files = example(name);
        files.insert(
            "policies/zz-pages.cedar",
            "@id(\"pages: anything that is owned\")\n\
             permit (principal is Identity, action, resource) when { resource has owner && resource.owner == principal.owner };\n\
             @id(\"pages: never the most restricted\")\n\
             forbid (principal is Identity, action, resource is Table) when { resource.classification == \"restricted\" };\n",
        );
        let estate = compile(&files);
        let principals: Vec<String> = estate
            .identities()
            .map(|identity| identity.path.clone())
            .collect();
        let uses: Vec<Action> = estate.uses().collect();
        let resources: Vec<ResourceRef> = estate.used_resources();
        for principal in &principals {
            let whole = estate.what_can(principal);
            same(&whole, &estate.what_can_plainly(principal)).unwrap();
            assert!(!whole.accesses.is_empty(), "{name} {principal}");
        }
        for action in uses {
            let applies = |one: &&ResourceRef| estate.resource_kinds(action).contains(&one.kind);
            let some: Vec<ResourceRef> =
                resources.iter().filter(applies).take(4).cloned().collect();
            all_alike(&estate, &principals, &some, &[action]).unwrap();
        }
    }
}

fn many(tables: usize) -> Estate {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"t\"\nclassifications = [\"public\", \"pii\"]\n",
    );
    let mut identities = String::new();
    for number in 0..50 {
        write!(
            identities,
            "[[identity]]\npath = \"i{number:02}\"\nkind = \"service\"\nowner = \"o{}\"\nvisible = [\"machine.join\"]\n",
            number % 3
        )
        .unwrap();
    }
    files.insert("identities/i.toml", identities);
    let mut resources =
        "[[database]]\nname = \"d\"\n[[database.schema]]\nname = \"s\"\n".to_owned();
    for number in 0..tables {
        let class = if number.is_multiple_of(2) {
            "public"
        } else {
            "pii"
        };
        write!(
            resources,
            "[[database.schema.table]]\nname = \"t{number:05}\"\nclassification = \"{class}\"\n"
        )
        .unwrap();
    }
    files.insert("resources/r.toml", resources);
    files.insert(
        "policies/p.cedar",
        "@id(\"reads what is public\")\npermit (principal == Identity::\"i00\", action == Action::\"select\", resource in Schema::\"d/s\") when { resource.classification == \"public\" };\n\
         @id(\"reads by tpm\")\npermit (principal == Identity::\"i01\", action == Action::\"select\", resource in Schema::\"d/s\") when { context has machine && context.machine has join && context.machine.join == \"tpm\" };\n\
         @id(\"writes one\")\npermit (principal == Identity::\"i02\", action == Action::\"insert\", resource == Table::\"d/s/t00000\");\n",
    );
    compile(&files)
}

/// Two thousand tables cost as many evaluations as there are different ones, not two thousand.
#[test]
fn what_is_alike_is_evaluated_once() {
    let estate = many(2_000);
    for (principal, accesses, most) in [
        ("i00", 1_000, 3),
        ("i01", 2_001, 3),
        ("i02", 1, 1),
        ("i03", 0, 0),
    ] {
        let mut asked = estate.accesses_of(principal);
        let found = asked.by_ref().filter(Result::is_ok).count();
        assert_eq!(found, accesses, "{principal}");
        assert!(
            asked.evaluations() <= most,
            "{principal}: {}",
            asked.evaluations()
        );
    }
    let mut who = estate.accesses_to(Action::Select, &ResourceRef::table("d/s/t00000"));
    assert_eq!(who.by_ref().count(), 2, "i00 and i01");
    assert!(who.evaluations() <= 2, "{}", who.evaluations());
}

#[test]
fn a_page_says_that_there_is_more_exactly_when_there_is() {
    let estate = many(10);
    let page = estate.accesses_of("i00").page(5, 1_000);
    assert_eq!((page.accesses.len(), page.next), (5, None));
    let page = estate.accesses_of("i00").page(4, 1_000);
    assert_eq!(page.accesses.len(), 4);
    let cursor: Cursor = page.next.unwrap().parse().unwrap();
    let rest = estate
        .accesses_of("i00")
        .after(&cursor)
        .unwrap()
        .page(4, 1_000);
    assert_eq!((rest.accesses.len(), rest.next), (1, None));
    // Of one question by one version, and of no other.
    let other = estate.accesses_of("i01").after(&cursor);
    assert_eq!(other.err(), Some(CursorError::Question));
    let changed = many(11);
    let changed = changed.accesses_of("i00").after(&cursor);
    assert_eq!(changed.err(), Some(CursorError::Estate));
}

/// Wherever a made-up cursor points, an answer comes to its end.
#[test]
fn a_cursor_that_points_anywhere_ends() {
    let estate = many(10);
    let good = estate.accesses_of("i00").cursor().to_string();
    let (digests, _) = good.split_at(good.len() - "0.0.0.0".len());
    for place in [
        "0.0.9999999999",
        "0.9999999999.0",
        "9999999999.0.0",
        "0.5.3",
        "1.1.1",
    ] {
        let cursor: Cursor = format!("{digests}0.{place}").parse().unwrap();
        let asked = estate.accesses_of("i00").after(&cursor).unwrap();
        assert!(asked.count() <= 5, "{place}");
    }
    // Other lists are of other questions.
    let other: Cursor = format!("{digests}1.0.0.0").parse().unwrap();
    assert!(estate.accesses_of("i00").after(&other).is_err());
}

#[test]
fn what_cannot_be_asked_is_one_error_and_no_page_more() {
    let estate = many(1);
    let page = estate.accesses_of("nobody").page(1, 1);
    assert_eq!(
        (page.accesses.len(), page.errors.len(), page.next),
        (0, 1, None)
    );
    let page = estate
        .accesses_to(Action::Execute, &ResourceRef::table("d/s/t00000"))
        .page(9, 9);
    assert_eq!(
        (page.accesses.len(), page.errors.len(), page.next),
        (0, 1, None)
    );
}
