//! The table of statements and what they come to, as one file that a person can review:
//! `conformance.txt`. Evasions stand in it beside ordinary statements.

use super::catalog::{
    Catalog, Function, Reference, ReferentialAction as Action, Relation, RelationKind,
};
use super::resolve::{Declared, Environment, Refusal, resolve};
use estate::ResourceRef;
use expect_test::expect_file;
use std::fmt::Write as _;

struct Listed;

impl Declared for Listed {
    fn is_declared(&self, resource: &ResourceRef) -> bool {
        matches!(
            resource.path.as_str(),
            "shop/public/cards" | "shop/public/orders" | "shop/public/events_2025"
        )
    }
}

fn relation(oid: u32, name: &str, kind: RelationKind) -> Relation {
    Relation {
        oid,
        schema: "public".to_owned(),
        name: name.to_owned(),
        kind,
        partition: false,
        parents: vec![],
        children: vec![],
        definition: None,
        owned_by: None,
        opaque: false,
    }
}

fn view(oid: u32, name: &str, definition: &str) -> Relation {
    Relation {
        definition: Some(definition.to_owned()),
        ..relation(oid, name, RelationKind::View)
    }
}

fn child(oid: u32, name: &str, parent: u32, partition: bool) -> Relation {
    Relation {
        partition,
        parents: vec![parent],
        ..relation(oid, name, RelationKind::Table)
    }
}

fn function(schema: &str, name: &str, required: usize, most: usize) -> Function {
    Function {
        schema: schema.to_owned(),
        name: name.to_owned(),
        required,
        most: Some(most),
    }
}

fn shop() -> Catalog {
    let mut catalog = Catalog::new("shop", "1".to_owned(), 150_000);
    catalog.add_relation(relation(1, "cards", RelationKind::Table));
    catalog.add_relation(relation(2, "orders", RelationKind::Table));
    catalog.add_relation(view(
        3,
        "card_numbers",
        " SELECT cards.number FROM public.cards;",
    ));
    catalog.add_relation(view(
        4,
        "nested",
        " SELECT n.number FROM public.card_numbers n;",
    ));
    catalog.add_relation(Relation {
        children: vec![6, 7],
        ..relation(5, "events", RelationKind::Partitioned)
    });
    catalog.add_relation(child(6, "events_2025", 5, true));
    catalog.add_relation(child(7, "events_2026", 5, true));
    catalog.add_relation(Relation {
        children: vec![9],
        ..relation(8, "animals", RelationKind::Table)
    });
    catalog.add_relation(child(9, "dogs", 8, false));
    catalog.add_relation(Relation {
        kind: RelationKind::MaterializedView,
        ..view(10, "card_copy", " SELECT cards.id FROM public.cards;")
    });
    catalog.add_relation(Relation {
        owned_by: Some(2),
        ..relation(11, "orders_id_seq", RelationKind::Sequence)
    });
    catalog.add_relation(Relation {
        opaque: true,
        ..relation(12, "audited", RelationKind::Table)
    });
    catalog.add_relation(Relation {
        schema: "crm".to_owned(),
        ..relation(13, "cards", RelationKind::Table)
    });
    catalog.add_relation(view(
        14,
        "secrets",
        " SELECT pg_authid.rolpassword FROM pg_authid;",
    ));
    catalog.add_relation(view(15, "constant", " SELECT 1 AS one;"));
    for (oid, name) in [
        (20, "accounts"),
        (21, "transfers"),
        (22, "notes"),
        (23, "lines"),
    ] {
        catalog.add_relation(relation(oid, name, RelationKind::Table));
    }
    catalog.add_relation(view(
        24,
        "account_ids",
        " SELECT accounts.id FROM public.accounts;",
    ));
    for (from, to, on_delete, on_update) in [
        (21, 20, Action::Cascade, Action::Cascade),
        (22, 20, Action::Set, Action::Nothing),
        (23, 21, Action::Cascade, Action::Nothing),
        // A circle.
        (20, 23, Action::Cascade, Action::Nothing),
    ] {
        let reference = Reference {
            from,
            on_delete,
            on_update,
        };
        catalog.add_reference(to, reference);
    }
    catalog.add_function(function("public", "card_of", 1, 1));
    catalog.add_function(function("public", "lower", 1, 1));
    catalog.add_function(function("public", "dblink", 1, 3));
    catalog.add_opaque_type("cents".to_owned());
    catalog.add_cast(
        "text".to_owned(),
        "public".to_owned(),
        "card_text".to_owned(),
    );
    for name in ["card_text", "same", "distance", "not_less"] {
        catalog.add_function(function("public", name, 1, 2));
    }
    catalog.add_operator(">=".to_owned(), "public".to_owned(), "not_less".to_owned());
    catalog.add_operator("<->".to_owned(), "public".to_owned(), "distance".to_owned());
    for name in [
        "pg_read_file",
        "set_config",
        "query_to_xml",
        "lo_get",
        "lower",
        "count",
        "nextval",
        "pg_sleep",
        "upper",
        "current_setting",
    ] {
        catalog.add_system_function(name.to_owned());
    }
    for name in [
        "pg_class",
        "pg_authid",
        "pg_stat_activity",
        "pg_stats",
        "pg_settings",
    ] {
        catalog.add_system_relation("pg_catalog".to_owned(), name.to_owned());
    }
    catalog.add_system_relation("information_schema".to_owned(), "tables".to_owned());
    catalog
}

fn describe(text: &str) -> String {
    let catalog = shop();
    let search_path = ["public".to_owned()];
    let environment = Environment {
        catalog: &catalog,
        search_path: &search_path,
        declared: &Listed,
    };
    let mut out = String::new();
    match resolve(text, environment) {
        Err(Refusal::Syntax(message)) => writeln!(out, "    syntax: {message}").unwrap(),
        Err(Refusal::Denied(finding)) => {
            writeln!(out, "    refused {}: {}", finding.code, finding.message).unwrap();
        }
        Ok(statements) if statements.is_empty() => out.push_str("    nothing\n"),
        Ok(statements) => {
            for statement in statements {
                write!(out, "    {} {:?}", statement.verb, statement.effect).unwrap();
                if statement.coverage.as_str() != "parsed" {
                    write!(out, " {}", statement.coverage.as_str()).unwrap();
                }
                for access in &statement.accesses {
                    let path = access.resource.path.trim_start_matches("shop/");
                    write!(out, "; {} {}", access.action, path).unwrap();
                }
                for path in &statement.catalog_reads {
                    write!(out, "; catalog {}", path.trim_start_matches("shop/")).unwrap();
                }
                out.push('\n');
            }
        }
    }
    out
}

#[test]
fn every_statement_comes_to_what_the_table_says() {
    let mut out = String::new();
    for text in include_str!("statements.sql").lines() {
        if text.is_empty() || text.starts_with("--") {
            writeln!(out, "{text}").unwrap();
        } else {
            write!(out, "{text}\n{}", describe(text)).unwrap();
        }
    }
    expect_file!["conformance.txt"].assert_eq(&out);
}

#[test]
fn a_deeply_nested_statement_is_refused_without_a_crash() {
    for deep in [
        format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000)),
        format!("SELECT {}1", "- ".repeat(50_000)),
        format!("SELECT 1{}", " + 1".repeat(50_000)),
        format!("SELECT {}1{}", "(SELECT ".repeat(2_000), ")".repeat(2_000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(5_000)),
    ] {
        let described = describe(&deep);
        assert!(
            described.contains("SQL-TOO-DEEP") || described.contains("syntax"),
            "{}",
            described.chars().take(200).collect::<String>()
        );
    }
}

#[test]
fn a_relation_that_the_walk_missed_would_be_noticed() {
    use super::census::Census;
    let tree = pg_query::parse("SELECT count(*) FROM a JOIN b ON a.x = b.y", 0).unwrap();
    let node = tree.protobuf.stmts[0].stmt.as_ref().unwrap();
    let census = Census::of(node).unwrap();
    assert_eq!(
        (census.relations, census.functions, census.operators),
        (2, 1, 1)
    );
}

/// `=` of an extension's type: wherever the grammar implies it, its function is called.
#[test]
fn an_operator_that_the_grammar_implies_is_a_call() {
    let mut catalog = shop();
    catalog.add_operator("=".to_owned(), "public".to_owned(), "same".to_owned());
    let search_path = ["public".to_owned()];
    let environment = Environment {
        catalog: &catalog,
        search_path: &search_path,
        declared: &Listed,
    };
    for text in [
        "SELECT 1 WHERE 1 = 2",
        "SELECT 1 WHERE 1 IN (2, 3)",
        "SELECT 1 WHERE 1 IN (SELECT 2)",
        "SELECT 1 WHERE 1 = ANY (SELECT 2)",
        "SELECT CASE 1 WHEN 2 THEN 3 END",
        "SELECT 1 FROM orders JOIN cards USING (id)",
        "SELECT 1 FROM orders NATURAL JOIN cards",
        "SELECT NULLIF(1, 2)",
        "SELECT 1 IS DISTINCT FROM 2",
    ] {
        let resolved = resolve(text, environment).unwrap();
        let called = resolved[0]
            .accesses
            .iter()
            .any(|access| access.resource.path == "shop/public/same");
        assert!(called, "{text}");
    }
}

#[test]
fn what_the_catalogue_does_not_know_is_marked() {
    let catalog = shop();
    let search_path = ["public".to_owned()];
    let environment = Environment {
        catalog: &catalog,
        search_path: &search_path,
        declared: &Listed,
    };
    for (text, unknown) in [
        ("SELECT nextval('4111 1111 1111 1111')", 1),
        ("SELECT * FROM \"4111 1111 1111 1111\"", 1),
        ("SELECT * FROM pg_catalog.\"4111\"", 1),
        ("SELECT \"4111\"(1)", 1),
        ("SELECT \"4111\".lower(1)", 1),
        (
            "SELECT card_of(1), lower('x'), pg_read_file('x') FROM cards",
            0,
        ),
        ("SELECT nextval('orders_id_seq') FROM pg_class", 0),
    ] {
        let resolved = resolve(text, environment).unwrap();
        assert_eq!(resolved[0].unknown.len(), unknown, "{text}");
    }
}
