//! What holds today, tried by more threads than one.

use estate::{Estate, EstateFiles, Today};
use std::fmt::Write as _;

/// Enough requests that they are worth threads: 30 identities and 60 tables, two actions.
fn crowd(condition: &str) -> Estate {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"example.org\"\n");
    let mut identities = String::new();
    for number in 0..30 {
        let kind = if number % 3 == 0 {
            "ai-agent"
        } else {
            "service"
        };
        writeln!(
            identities,
            "[[identity]]\npath = \"crowd/i{number}\"\nkind = \"{kind}\"\nowner = \"us\"\n\
             visible = [\"machine.join\"]"
        )
        .unwrap();
    }
    files.insert("identities/crowd.toml", identities);
    let mut tables =
        "[[database]]\nname = \"d\"\n[[database.schema]]\nname = \"public\"\n".to_owned();
    for number in 0..60 {
        writeln!(tables, "[[database.schema.table]]\nname = \"t{number}\"").unwrap();
    }
    files.insert("resources/d.toml", tables);
    files.insert(
        "policies/all.cedar",
        format!(
            "@id(\"everybody\") permit (principal is Identity, \
             action in [Action::\"select\", Action::\"insert\"], resource is Table){condition};"
        ),
    );
    files.insert(
        "invariants/all.cedar",
        "@id(\"no agent touches anything\") never (principal is Identity, \
         action in [Action::\"select\", Action::\"insert\"], resource is Table)\n\
         when { principal.kind == \"ai-agent\" };\n\
         @id(\"services read everything\") always (principal is Identity, \
         action == Action::\"select\", resource is Table)\n\
         when { principal.kind == \"service\" };\n",
    );
    Estate::compile(&files).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn any_number_of_threads_finds_the_same_in_the_same_order() {
    let facts = " when { context.machine has join && context.machine.join == \"tpm\" }";
    let nobody = " when { principal.owner == \"others\" }";
    for condition in ["", facts, nobody] {
        let estate = crowd(condition);
        let mut found = 0;
        for invariant in estate.invariants() {
            let one = estate.holds_today(invariant);
            found += match &one {
                Today::Broken { by } => by.len(),
                Today::Open { on, .. } => on.len(),
                Today::Holds { .. } => 0,
            };
            for threads in [0, 2, 3, 64] {
                let many = estate.holds_today_by(invariant, threads);
                assert_eq!(many, one, "{condition} by {threads}");
            }
        }
        assert!(found > 1_000, "{condition}: {found}");
    }
}
