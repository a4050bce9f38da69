//! What counts as taking something from an invariant.

use crate::fixture::{compile, cvc5, shop_files};
use estate::{EstateFiles, GovernedKind};
use estate_prove::{Options, governed_blocking, prove_blocking};

const FILE: &str = "invariants/shop.cedar";

fn changes(options: &Options, new: &EstateFiles) -> Vec<(GovernedKind, String)> {
    changes_of(options, &shop_files(), new)
}

fn changes_of(
    options: &Options,
    old: &EstateFiles,
    new: &EstateFiles,
) -> Vec<(GovernedKind, String)> {
    let (old, new) = (compile(old), compile(new));
    let report = prove_blocking(&new, options);
    let found = governed_blocking(Some(&old), &new, &report, options);
    found
        .into_iter()
        .map(|one| (one.change.kind, one.change.of))
        .collect()
}

/// The shop with other words in its file of invariants.
fn with(change: impl Fn(&str) -> String) -> EstateFiles {
    let mut files = shop_files();
    let text = change(&files.0[FILE]);
    assert_ne!(text, files.0[FILE]);
    files.insert(FILE, text);
    files
}

const AGENT: &str = "no AI agent ever reads or writes personal data";

fn weakened(id: &str) -> Vec<(GovernedKind, String)> {
    vec![(GovernedKind::Weakened, id.to_owned())]
}

#[test]
fn what_says_the_same_or_more_takes_nothing_away() {
    let Some(options) = cvc5("what_says_the_same_or_more") else {
        return;
    };
    assert_eq!(changes(&options, &shop_files()), []);
    // Another policy, another note, another place, another file.
    let noted = with(|text| {
        format!(
            "// Moved.\n\n{}",
            text.replace("@owner(\"data protection\")", "@owner(\"dpo\")")
        )
    });
    assert_eq!(changes(&options, &noted), []);
    let mut moved = shop_files();
    let text = moved.0.remove(FILE).unwrap();
    moved.insert("invariants/elsewhere.cedar", text);
    assert_eq!(changes(&options, &moved), []);
    // More is forbidden than before, and by another name.
    let stronger = with(|text| {
        text.replace(
            " && resource.classification == \"pii\" };",
            " && [\"pii\", \"restricted\"].contains(resource.classification) };",
        )
    });
    assert_eq!(changes(&options, &stronger), []);
    let renamed = with(|text| text.replace(AGENT, "agents keep out"));
    assert_eq!(changes(&options, &renamed), []);
    // One cut in two, which together say it.
    let cut = with(|text| {
        let (head, rest) = text.split_once("  action in [\n").unwrap();
        let (_, tail) = rest.split_once("  ],\n").unwrap();
        let reads = format!("{head}  action == Action::\"select\",\n{tail}");
        let (one, others) = reads.split_once("@id(\"only payments").unwrap();
        let (_, only) = one.split_once("never (").unwrap();
        let writes = only.replace(
            "action == Action::\"select\"",
            "action in [Action::\"insert\", Action::\"update\", Action::\"delete\", Action::\"truncate\"]",
        );
        format!("{one}@id(\"nor writes\")\nnever ({writes}@id(\"only payments{others}")
    });
    assert_eq!(changes(&options, &cut), []);
}

#[test]
fn each_way_to_say_less_is_found() {
    let Some(options) = cvc5("each_way_to_say_less") else {
        return;
    };
    let scope = with(|text| {
        text.replacen(
            "    Action::\"select\", Action::\"insert\"",
            "    Action::\"insert\"",
            1,
        )
    });
    assert_eq!(changes(&options, &scope), weakened(AGENT));
    let condition = with(|text| {
        text.replacen(
            "principal.kind == \"ai-agent\"",
            "principal.kind == \"ai-agent\" && principal.owner != \"ops\"",
            1,
        )
    });
    assert_eq!(changes(&options, &condition), weakened(AGENT));
    let given = with(|text| {
        text.replacen(
            "resource.classification == \"pii\" };",
            "resource.classification == \"pii\" }\ngiven { principal.owner != \"ops\" };",
            1,
        )
    });
    assert_eq!(changes(&options, &given), weakened(AGENT));
    let today = with(|text| {
        text.replacen(
            "@owner(\"data protection\")",
            "@owner(\"data protection\")\n@proof(\"today\")",
            1,
        )
    });
    assert_eq!(changes(&options, &today), weakened(AGENT));
    let kind = with(|text| {
        text.replace(
            "principal.kind == \"service\"",
            "principal.kind == \"service\" && principal.owner == \"x\"",
        )
    });
    assert_eq!(
        changes(&options, &kind),
        weakened("payments can always write orders")
    );
    let gone = with(|text| {
        let (before, rest) = text.split_once("@id(\"payments can always").unwrap();
        let (_, after) = rest.split_once("@id(\"only payments-api").unwrap();
        format!("{before}@id(\"only payments-api{after}")
    });
    assert_eq!(
        changes(&options, &gone),
        [(
            GovernedKind::Removed,
            "payments can always write orders".to_owned()
        )]
    );
    let mut all = shop_files();
    all.0.remove(FILE);
    let all = changes(&options, &all);
    assert!(
        all.len() >= 3 && all.iter().all(|(kind, _)| *kind == GovernedKind::Removed),
        "{all:?}"
    );
}

/// Nobody is let off because the solver is.
#[test]
fn a_change_that_cannot_be_compared_counts_as_a_weakening() {
    let options = Options::with_solver(Some("/nonexistent/cvc5".into()));
    let stronger =
        with(|text| text.replace("principal.kind == \"service\"", "principal.kind != \"x\""));
    let found = changes(&options, &stronger);
    assert!(
        found.contains(&(
            GovernedKind::Weakened,
            "payments can always write orders".to_owned()
        )),
        "{found:?}"
    );
    assert!(
        found.contains(&(GovernedKind::Unknown, AGENT.to_owned())),
        "{found:?}"
    );
}

#[test]
fn an_exception_that_is_added_or_widened_is_a_weakening() {
    let Some(options) = cvc5("an_exception_that_is_added") else {
        return;
    };
    let except = |condition: &str| {
        with(|text| {
            text.replacen(
                "resource.classification == \"pii\" };",
                &format!("resource.classification == \"pii\" }}\nexcept {{ {condition} }};"),
                1,
            )
        })
    };
    let one = except("principal has uid && principal.uid == 7");
    assert_eq!(changes(&options, &one), weakened(AGENT));
    assert_eq!(changes_of(&options, &one, &one), []);
    let other = except("principal has uid && principal.uid < 7");
    assert_eq!(changes_of(&options, &one, &other), weakened(AGENT));
    assert_eq!(
        changes_of(&options, &one, &shop_files()),
        [],
        "none at all says more"
    );
}

#[test]
fn once_there_are_two_authors_a_third_is_for_two_to_make() {
    let author = |name: &str| {
        use std::fmt::Write as _;
        let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        let spki = crypto::Signer::public_key(&key).spki_der().to_vec();
        let mut text = String::new();
        write!(
            text,
            "[[author]]\nname = \"{name}\"\nkey = \"\"\"\n-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n\"\"\"\n",
            crypto::base64::encode(&spki)
        )
        .unwrap();
        text
    };
    let options = Options::with_solver(Some("/nonexistent/cvc5".into()));
    let of = |authors: &[&String]| {
        let mut files = shop_files();
        files.0.remove(FILE);
        let all: String = authors.iter().map(|one| one.as_str()).collect();
        let text = format!("{}\n{all}", files.0["estate.toml"]);
        files.insert("estate.toml", text);
        files
    };
    let (ada, bob, eve) = (author("ada"), author("bob"), author("eve"));
    let changed =
        |before: &[&String], after: &[&String]| changes_of(&options, &of(before), &of(after));
    assert_eq!(changed(&[], &[&ada, &bob]), [], "the first two");
    assert_eq!(
        changed(&[&ada], &[&ada, &bob]),
        [],
        "before there are two nobody could sign"
    );
    let author_of = |name: &str| vec![(GovernedKind::Author, name.to_owned())];
    assert_eq!(
        changed(&[&ada, &bob], &[&ada, &bob, &eve]),
        author_of("eve")
    );
    assert_eq!(changed(&[&ada, &bob], &[&ada]), author_of("bob"));
    let other = author("bob");
    assert_eq!(changed(&[&ada, &bob], &[&ada, &other]), author_of("bob"));
}
