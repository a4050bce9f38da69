//! What holds today, without a solver: for a start, and for whoever changes what is declared.

use estate::{Estate, EstateFiles, Today};
use estate_prove::standing_blocking;

const INVARIANTS: &str = "\
@id(\"holds\")
never (principal is Identity, action == Action::\"truncate\", resource is Table);
@id(\"broken\")
never (principal is Identity, action == Action::\"select\", resource is Table) when { resource.classification == \"restricted\" };
@id(\"its given is broken\")
never (principal is Identity, action == Action::\"delete\", resource is Table) given { resource.hasTag(\"team\") };
@id(\"open, and asked of any data\")
never (principal is Identity, action == Action::\"insert\", resource is Table);
@id(\"open, and asked of today\") @proof(\"today\")
never (principal is Identity, action == Action::\"insert\", resource is Table);
";

fn files(classification: &str, labels: &str) -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"example.org\"\n");
    files.insert(
        "identities/i.toml",
        "[[identity]]\npath = \"a\"\nkind = \"service\"\nowner = \"us\"\nvisible = [\"machine.join\"]\n",
    );
    files.insert(
        "resources/r.toml",
        format!(
            "[[database]]\nname = \"shop\"\nclassification = \"public\"\n[[database.schema]]\nname = \"public\"\n\
             [[database.schema.table]]\nname = \"cards\"\nclassification = \"{classification}\"\n{labels}"
        ),
    );
    files.insert(
        "policies/p.cedar",
        "permit (principal == Identity::\"a\", action == Action::\"select\", resource in Schema::\"shop/public\");\n\
         permit (principal == Identity::\"a\", action == Action::\"insert\", resource == Table::\"shop/public/cards\")\n\
         when { context.machine has join && context.machine.join == \"tpm\" };\n",
    );
    files.insert("invariants/i.cedar", INVARIANTS);
    files
}

fn broken(files: &EstateFiles) -> Vec<String> {
    let estate = Estate::compile(files).unwrap_or_else(|problems| panic!("{problems:?}"));
    let standing = standing_blocking(&estate);
    assert_eq!(standing.len(), 5);
    let broken = standing.iter().filter(|one| one.is_broken());
    broken.map(ToString::to_string).collect()
}

#[test]
fn what_is_declared_breaks_an_invariant_or_what_its_proof_takes_for_granted() {
    let found = broken(&files("restricted", ""));
    expect_test::expect![[r#"
        invariants/i.cedar:3 "broken": Identity::"a" select Table::"shop/public/cards"
        invariants/i.cedar:5 "its given is broken": Identity::"a" delete Database::"shop", and 3 more
        invariants/i.cedar:9 "open, and asked of today": Identity::"a" insert Table::"shop/public/cards""#]].assert_eq(&found.join("\n"));
    let found = broken(&files("public", "labels = { team = \"cards\" }\n"));
    expect_test::expect![[r#"
        invariants/i.cedar:5 "its given is broken": Identity::"a" delete Database::"shop", and 2 more
        invariants/i.cedar:9 "open, and asked of today": Identity::"a" insert Table::"shop/public/cards""#]].assert_eq(&found.join("\n"));
}

/// One that depends on facts is neither broken nor said to hold.
#[test]
fn what_depends_on_facts_is_open() {
    let estate = Estate::compile(&files("public", "")).unwrap();
    let standing = standing_blocking(&estate);
    let of = |id: &str| standing.iter().find(|one| one.invariant.id == id).unwrap();
    assert!(matches!(of("holds").today, Today::Holds { .. }));
    for id in ["open, and asked of any data", "open, and asked of today"] {
        assert!(matches!(of(id).today, Today::Open { .. }), "{id}");
    }
    assert!(!of("open, and asked of any data").is_broken());
}
