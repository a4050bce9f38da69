//! Proofs about columns, by both solvers: an invariant speaks of columns as of any other resource.

use crate::fixture::compile;
use crate::peers::z3;
use estate::EstateFiles;
use estate_prove::{Report, Result, Witness, prove_blocking, witnesses_blocking};

const INTERNAL: &str = "@id(\"analysts read what is internal\")\n\
    permit (principal == Identity::\"bi/report\", action == Action::\"select\", resource in Schema::\"shop/public\")\n\
    when { resource.classification == \"internal\" };\n";
const ALL: &str = "@id(\"every column\")\n\
    permit (principal == Identity::\"bi/report\", action == Action::\"select\", resource is Column);\n";
const CLOSED: &str = "@id(\"tables are closed\")\n\
    forbid (principal, action == Action::\"select\", resource is Table);\n";

const INVARIANTS: &str = r#"
@id("no column of personal data is read")
@owner("data protection")
never (principal is Identity, action == Action::"select", resource is Column)
when { resource.classification == "pii" };
@id("no table of personal data is read")
@owner("data protection")
never (principal is Identity, action == Action::"select", resource is Table)
when { resource.classification == "pii" };
@id("nothing of customers that is personal is read")
@owner("data protection")
never (principal is Identity, action == Action::"select", resource in Table::"shop/public/customers")
when { resource.classification == "pii" };
@id("addresses are not read")
@owner("data protection")
never (principal is Identity, action == Action::"select", resource == Column::"shop/public/customers/email")
when { resource.classification == "pii" };
"#;

fn files(policies: &[&str], invariants: &str) -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "columns = \"decided\"\ntrust_domain = \"example.org\"\nclassifications = [\"public\", \"internal\", \"pii\"]\n",
    );
    files.insert(
        "identities/bi.toml",
        "[[identity]]\npath = \"bi/report\"\nkind = \"service\"\nowner = \"analysts\"\n",
    );
    files.insert(
        "resources/shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
         [[database.schema.table]]\nname = \"customers\"\nclassification = \"internal\"\n\
         [[database.schema.table.column]]\nname = \"id\"\n\
         [[database.schema.table.column]]\nname = \"email\"\nclassification = \"pii\"\n",
    );
    files.insert("policies/bi.cedar", policies.concat());
    files.insert("invariants/bi.cedar", invariants);
    files
}

/// What is said of each invariant, by its id.
fn of(report: &Report) -> Vec<(&str, String)> {
    let each = report.invariants.iter();
    each.map(|one| (one.invariant.id.as_str(), one.result.to_string()))
        .collect()
}

#[test]
fn what_is_never_of_columns_is_proved_and_broken_by_a_permit_on_columns_alone() {
    let Some(options) =
        z3("what_is_never_of_columns_is_proved_and_broken_by_a_permit_on_columns_alone")
    else {
        return;
    };
    let proved = prove_blocking(&compile(&files(&[INTERNAL], INVARIANTS)), &options);
    assert!(proved.is_accepted(), "{:?}", of(&proved));
    assert_eq!(proved.engines.solvers, 2);
    assert!(
        proved
            .invariants
            .iter()
            .all(|one| matches!(one.result, Result::Proved)),
        "{:?}",
        of(&proved)
    );
    // By what gives columns and no table: those that speak of columns are broken, by one of them.
    let broken = prove_blocking(&compile(&files(&[INTERNAL, ALL], INVARIANTS)), &options);
    for (id, said) in of(&broken) {
        if id == "no table of personal data is read" {
            assert_eq!(said, "proved", "{id}");
        } else {
            assert!(said.starts_with("broken: "), "{id}: {said}");
            assert!(said.contains("Column"), "{id}: {said}");
            assert!(said.contains("\"every column\""), "{id}: {said}");
        }
    }
}

/// The page says so: what an invariant says of a column it says of that alone.
#[test]
fn what_is_always_of_columns_says_nothing_of_their_tables() {
    let Some(options) = z3("what_is_always_of_columns_says_nothing_of_their_tables") else {
        return;
    };
    let invariants = "@id(\"columns can always be read\")\n@owner(\"analysts\")\n\
        always (principal == Identity::\"bi/report\", action == Action::\"select\", resource is Column)\n\
        when { resource.classification == \"internal\" };\n";
    let open = compile(&files(&[INTERNAL, ALL], invariants));
    let closed = compile(&files(&[INTERNAL, ALL, CLOSED], invariants));
    for estate in [&open, &closed] {
        let report = prove_blocking(estate, &options);
        assert!(report.is_accepted(), "{:?}", of(&report));
    }
    let none = compile(&files(&[INTERNAL], invariants));
    let report = prove_blocking(&none, &options);
    assert!(!report.is_accepted(), "{:?}", of(&report));
}

#[test]
fn a_witness_of_a_change_may_be_a_column() {
    let Some(options) = z3("a_witness_of_a_change_may_be_a_column") else {
        return;
    };
    let old = compile(&files(&[INTERNAL], INVARIANTS));
    let new = compile(&files(&[INTERNAL, ALL], INVARIANTS));
    let said = witnesses_blocking(&old, &new, &options).unwrap();
    match said.newly_allowed {
        Witness::Found { witness, .. } => {
            assert!(witness.text.contains("Column"), "{}", witness.text);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(said.newly_denied, Witness::Proved { .. }));
}
