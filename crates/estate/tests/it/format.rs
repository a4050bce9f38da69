//! Formatting loses nothing: not a comment, not a meaning, and nothing the second time.

use crate::fixture::{compile, shop_files};
use estate::{EstateFiles, format};
use expect_test::expect;
use proptest::prelude::*;

fn formatted(files: &EstateFiles) -> EstateFiles {
    let mut written = EstateFiles::new();
    for (path, text) in &files.0 {
        let formatted = format(path, text).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert!(formatted.left.is_empty(), "{:?}", formatted.left);
        written.insert(path, formatted.text);
    }
    written
}

fn comments(text: &str) -> Vec<String> {
    let mut comments: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_once("//"))
        .map(|(_, comment)| comment.trim().to_owned())
        .collect();
    comments.sort();
    comments
}

#[test]
fn the_example_means_the_same_and_keeps_its_comments() {
    let files = shop_files();
    let written = formatted(&files);
    let (before, after) = (compile(&files), compile(&written));
    let diff = estate::diff(&before, &after);
    for widened in [diff.widened, diff.narrowed] {
        assert!(widened.is_empty(), "{widened:?}");
    }
    assert!(after.run_tests().iter().all(|test| test.passed));
    for (path, text) in &files.0 {
        assert_eq!(comments(text), comments(&written.0[path]), "{path}");
    }
    assert_eq!(formatted(&written), written);
}

#[test]
fn one_policy_of_each_form() {
    let text = "// Head.\n\n@id(\"a\")@owner(\"b\")permit(principal in Group::\"shop\",action in[Action::\"select\",Action::\"insert\"],\
                resource in Schema::\"shop/public\")when{[\"public\",\"internal\"].contains(resource.classification)&&\
                // why\nprincipal.kind==\"service\"}unless{principal.owner==\"x\"}; // end\n";
    expect![[r#"
        // Head.

        @id("a")
        @owner("b")
        permit (
          principal in Group::"shop",
          action in [Action::"select", Action::"insert"],
          resource in Schema::"shop/public"
        )
        when
        {
          ["public", "internal"].contains(resource.classification) && // why
          principal.kind == "service"
        }
        unless { principal.owner == "x" }; // end
    "#]]
    .assert_eq(&format("policies/a.cedar", text).unwrap().text);
}

/// Whatever becomes of the statement, no comment of it is lost.
#[test]
fn comments_wherever_there_may_be_one() {
    let text = "@id( // a\n\"x\" // b\n) // c\npermit // d\n( // e\nprincipal // f\nis // g\nIdentity, // h\naction // i\nin // j\n\
                [ // k\nAction::\"select\" // l\n, Action::\"insert\"] // m\n, resource // n\n) // o\nwhen // p\n{ // q\n\
                principal.kind // r\n. // s\ncontains( // t\n1 // u\n) // v\n} // w\n; // z\n";
    let formatted = format("policies/x.cedar", text).unwrap();
    let letters = |text: &str| {
        let mut letters = comments(text);
        letters.dedup();
        letters.concat()
    };
    assert_eq!(
        letters(&formatted.text),
        letters(text),
        "{}",
        formatted.text
    );
    let again = format("policies/x.cedar", &formatted.text).unwrap();
    assert_eq!(again, formatted);
    let left: String = formatted
        .left
        .iter()
        .map(|problem| format!("{problem}\n"))
        .collect();
    expect![[""]].assert_eq(&left);
}

/// Pieces that a person could write: conditions, comments wherever white space may be, texts that look like
/// comments.
fn statement() -> impl Strategy<Value = String> {
    let space = prop_oneof![
        Just(" ".to_owned()),
        Just("\n".to_owned()),
        Just("\n\n\n".to_owned()),
        Just(" // one; \"two\n".to_owned()),
        Just("\n  // { three\n".to_owned()),
    ];
    let part = prop_oneof![
        Just("principal.kind == \"// ; }\""),
        Just("resource.classification like \"a\\\"*\""),
        Just("(1 < 2 || !(3 == 4))"),
        Just("[\"a\", \"b\"].contains(principal.kind)"),
        Just("context has code && context.code.known_as.contains(\"x\")"),
        Just("if true then principal has owner else {a: 1}.a == 1"),
    ];
    let annotation = prop_oneof![Just("@id(\"never // say\")"), Just("@note"), Just("")];
    let word = prop_oneof![Just("permit"), Just("forbid")];
    let clause = (
        prop_oneof![Just("when"), Just("unless")],
        space.clone(),
        part,
        space.clone(),
    )
        .prop_map(|(word, before, part, after)| format!("{word} {{{before}{part}{after}}}"));
    (
        annotation,
        space.clone(),
        word,
        space.clone(),
        proptest::collection::vec((clause, space.clone()), 0..3),
        space,
    )
        .prop_map(|(annotation, one, word, two, clauses, after)| {
            let clauses: String = clauses
                .into_iter()
                .map(|(clause, space)| format!("{clause}{space}"))
                .collect();
            format!(
                "{annotation}{one}{word}{two}(principal is Identity, action, resource){two}{clauses};{after}"
            )
        })
}

proptest! {
    #[test]
    fn whatever_is_written_keeps_its_comments_and_is_at_rest(
        statements in proptest::collection::vec(statement(), 0..4),
        invariants in any::<bool>(),
    ) {
        let mut text = statements.concat();
        let mut path = "policies/x.cedar";
        if invariants {
            path = "invariants/x.cedar";
            text = text.replace("permit", "always").replace("forbid", "never");
        }
        let once = format(path, &text).unwrap();
        let counted = |text: &str| ["one; \"two", "{ three"].map(|comment| text.matches(comment).count());
        prop_assert_eq!(counted(&text), counted(&once.text), "{}", once.text);
        let twice = format(path, &once.text).unwrap();
        prop_assert_eq!(&twice.text, &once.text);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[ -~\n]{0,80}", word in "(policies|invariants)/x.cedar|x.toml") {
        let _answer = format(&word, &text);
    }
}
