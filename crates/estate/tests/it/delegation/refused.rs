//! What is no grant and no person, and is refused where it stands.

use super::office;
use crate::fixture::render;
use estate::Estate;

fn problems(file: &str, from: &str, to: &str) -> String {
    let mut files = office();
    let text = files.0[file].replacen(from, to, 1);
    assert_ne!(text, files.0[file], "{from}");
    files.insert(file, text);
    match Estate::compile(&files) {
        Ok(_) => "no problem".to_owned(),
        Err(problems) => render(&problems),
    }
}

#[test]
fn what_delegates_nothing_is_refused_where_it_stands() {
    let file = "delegations/d.toml";
    for (from, to, code) in [
        (
            "Group::\"staff\"",
            "Group::\"stuff\"",
            "d.toml:4:8: ESTATE-DELEGATION: no group `stuff`",
        ),
        ("'Group::\"staff\"'", "'staff'", "names no party"),
        (
            "Identity::\"agents/reader\"",
            "Identity::\"people/bob\"",
            "is a person",
        ),
        (
            "Identity::\"agents/reader\"",
            "Identity::\"agents/raeder\"",
            "(did you mean `Identity::\"agents/reader\"`?)",
        ),
        ("max_hops = 2", "max_hops = 0", "max_hops is 1 to 7"),
        ("max_hops = 2", "max_hops = 8", "max_hops is 1 to 7"),
        (
            "max_ttl = \"1h\"",
            "max_ttl = \"25h\"",
            "max_ttl is at most 24h",
        ),
        ("\"select\"", "\"apply\"", "`apply` is no use of a resource"),
        (
            "Schema::\"shop/public\"",
            "Estate::\"example.org\"",
            "nothing that identities use",
        ),
        (
            "the assistant has a reader",
            "staff work through assistants",
            "ESTATE-DUPLICATE",
        ),
        ("max_hops", "max_hop", "ESTATE-DECLARATION"),
    ] {
        let got = problems(file, from, to);
        assert!(got.contains(code), "{to}: {got}");
    }
}

#[test]
fn two_people_are_not_one_and_only_people_log_in() {
    let file = "identities/i.toml";
    for (from, to, code) in [
        ("bob-2", "ada-1", "ESTATE-DUPLICATE"),
        (
            "https://login.example.org",
            "http://login.example.org",
            "ESTATE-LOGIN",
        ),
        (
            "https://login.example.org",
            "https://login.example.org?x=1",
            "ESTATE-LOGIN",
        ),
        (
            "https://login.example.org",
            "https://ada@login.example.org",
            "ESTATE-LOGIN",
        ),
        ("ada-1", "", "ESTATE-LOGIN"),
        ("ada-1", "\u{430}da", "ESTATE-LOGIN"),
        ("kind = \"person\"", "kind = \"service\"", "only a person"),
    ] {
        let got = problems(file, from, to);
        assert!(got.contains(code), "{to}: {got}");
    }
}
