//! The table of statements and what they come to, as one file that a person can review:
//! `conformance.txt`. Evasions stand in it beside ordinary statements.

use super::catalog::{
    Catalog, Function, Reference, ReferentialAction as Action, Relation, RelationKind,
};
use super::resolve::{Declared, Environment, Limits, Refusal, resolve};
use super::views::Views;
use estate::ResourceRef;
use expect_test::expect_file;
use std::fmt::Write as _;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    tokens: 250_000,
    statements: 100,
};

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
        columns: vec![],
        owned_by: None,
        opaque: false,
        opaque_read: false,
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
        opaque: true,
        opaque_read: true,
        ..relation(16, "guarded", RelationKind::Table)
    });
    catalog.add_relation(Relation {
        children: vec![18],
        ..relation(17, "measures", RelationKind::Partitioned)
    });
    catalog.add_relation(Relation {
        opaque: true,
        ..child(18, "measures_2026", 17, true)
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
        "jsonb_to_recordset",
        "lower",
        "count",
        "nextval",
        "pg_sleep",
        "upper",
        "current_setting",
        "pg_table_size",
    ] {
        catalog.add_system_function(name.to_owned());
    }
    for name in [
        "pg_class",
        "pg_authid",
        "pg_stat_activity",
        "pg_stats",
        "pg_sequences",
        "pg_settings",
        "pg_namespace",
    ] {
        catalog.add_system_relation("pg_catalog".to_owned(), name.to_owned());
    }
    catalog.add_system_relation("information_schema".to_owned(), "tables".to_owned());
    catalog
}

fn describe(text: &str) -> String {
    let catalog = shop();
    let search_path = ["public".to_owned()];
    let views = Views::default();
    let environment = Environment {
        catalog: &catalog,
        search_path: &search_path,
        declared: &Listed,
        role: None,
        views: &views,
    };
    let mut out = String::new();
    match resolve(text, environment, LIMITS) {
        Err(Refusal::Syntax(message)) => writeln!(out, "    syntax: {message}").unwrap(),
        Err(Refusal::Denied(finding) | Refusal::Oversized(finding)) => {
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
    let views = Views::default();
    let environment = Environment {
        catalog: &catalog,
        search_path: &search_path,
        declared: &Listed,
        role: None,
        views: &views,
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
        let resolved = resolve(text, environment, LIMITS).unwrap();
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
    let views = Views::default();
    let environment = Environment {
        catalog: &catalog,
        search_path: &search_path,
        declared: &Listed,
        role: None,
        views: &views,
    };
    for (text, unknown) in [
        ("SELECT nextval('\"4111 1111 1111 1111\"')", 1),
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
        let resolved = resolve(text, environment, LIMITS).unwrap();
        assert_eq!(resolved[0].unknown.len(), unknown, "{text}");
    }
}

/// Views that refer twice to the one before, `levels` of them: `v1` to `v{levels}`.
fn doubling(levels: u32) -> Catalog {
    let mut catalog = shop();
    for level in 1..=levels {
        let below = if level == 1 {
            "public.cards".to_owned()
        } else {
            format!("public.v{}", level - 1)
        };
        let definition = format!(" SELECT a.id FROM {below} a, {below} b;");
        catalog.add_relation(view(1_000 + level, &format!("v{level}"), &definition));
    }
    catalog
}

/// What reading `text` touches, and the steps that it took to work out the views.
fn with_views(
    catalog: &Catalog,
    text: &str,
    views: &Views,
) -> Result<Vec<super::Resolved>, Refusal> {
    let search_path = ["public".to_owned()];
    let environment = Environment {
        catalog,
        search_path: &search_path,
        declared: &Listed,
        role: None,
        views,
    };
    resolve(text, environment, LIMITS)
}

#[test]
fn views_that_refer_twice_to_one_another_cost_a_walk_each() {
    let steps = |levels: u32| {
        let (catalog, views) = (doubling(levels), Views::default());
        let resolved = with_views(&catalog, &format!("SELECT * FROM v{levels}"), &views).unwrap();
        let touched: Vec<String> = resolved[0]
            .tables()
            .map(|table| table.path.clone())
            .collect();
        assert_eq!(touched, ["shop/public/cards"]);
        // Another session finds them all.
        let (all, again) = (
            views.steps(),
            format!("SELECT * FROM v{levels} JOIN v7 USING (id)"),
        );
        with_views(&catalog, &again, &views).unwrap();
        assert_eq!(views.steps(), all);
        all
    };
    // So few levels that a walk for each time a view is named, 2^10 of them, ends and is told.
    assert!(steps(10) <= 10 * 40);
    let (some, twice) = (steps(40), steps(80));
    assert!(some <= 40 * 40, "{some}");
    assert!(twice <= 2 * some + 40, "{some} {twice}");
    // Longer than any stack.
    assert!(steps(5_000) <= 5_000 * 40);
}

#[test]
fn a_view_that_leads_to_itself_is_refused() {
    let mut catalog = shop();
    for (oid, name, other) in [
        (100, "hen", "egg"),
        (101, "egg", "hen"),
        (102, "self", "self"),
    ] {
        catalog.add_relation(view(oid, name, &format!(" SELECT 1 FROM public.{other};")));
    }
    for name in ["hen", "egg", "self"] {
        let refused = with_views(
            &catalog,
            &format!("SELECT * FROM {name}"),
            &Views::default(),
        );
        let Err(Refusal::Denied(finding)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(finding.code, "SQL-VIEW");
    }
}

#[test]
fn a_statement_that_leads_to_too_much_is_refused() {
    let mut catalog = shop();
    // Each comparison may be any of these.
    for number in 0..2_000 {
        catalog.add_operator(
            "=".to_owned(),
            "public".to_owned(),
            format!("same_{number}"),
        );
    }
    let text = format!("SELECT 1 WHERE {}", vec!["1 = 2"; 200].join(" AND "));
    let refused = with_views(&catalog, &text, &Views::default());
    let Err(Refusal::Denied(finding)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(finding.code, "SQL-TOO-MUCH-WORK");
    assert!(finding.next.is_some());
    let less = format!("SELECT 1 WHERE {}", vec!["1 = 2"; 20].join(" AND "));
    with_views(&catalog, &less, &Views::default()).unwrap();
}

#[test]
fn an_inheritance_by_many_ways_costs_each_table_once() {
    let mut catalog = shop();
    // Two of each generation, each a child of both before it.
    let pair = |level: u32| [1_000 + 2 * level, 1_001 + 2 * level];
    for level in 0..200 {
        for oid in pair(level) {
            let parents = level.checked_sub(1).map(pair);
            let children = if level < 199 {
                pair(level + 1).to_vec()
            } else {
                vec![]
            };
            catalog.add_relation(Relation {
                parents: parents.into_iter().flatten().collect(),
                children,
                ..relation(oid, &format!("t{oid}"), RelationKind::Table)
            });
        }
    }
    for name in ["t1000", "t1398"] {
        let text = format!("SELECT * FROM {name}");
        with_views(&catalog, &text, &Views::default()).unwrap();
    }
}

#[test]
fn too_much_text_is_refused_before_it_is_parsed() {
    let (catalog, views) = (shop(), Views::default());
    let refused = |text: &str| match with_views(&catalog, text, &views) {
        Err(Refusal::Oversized(finding)) => {
            assert!(finding.next.is_some());
            finding.code.to_string()
        }
        other => format!("{other:?}"),
    };
    assert_eq!(
        refused(&format!("SELECT '{}'", "x".repeat(1 << 20))),
        "SQL-TOO-LONG"
    );
    assert_eq!(
        refused(&format!("SELECT {}1", "1,".repeat(130_000))),
        "SQL-TOO-MUCH"
    );
    assert_eq!(refused(&"SELECT 1;".repeat(101)), "SQL-TOO-MANY");
    assert_eq!(
        refused(&format!("{}SELECT 1", "SELECT 1;".repeat(100))),
        "SQL-TOO-MANY"
    );
    with_views(&catalog, &"SELECT 1;".repeat(100), &views).unwrap();
    // Not what stands in a literal.
    with_views(
        &catalog,
        &format!("SELECT '{}'", "1;,".repeat(100_000)),
        &views,
    )
    .unwrap();
    // As pg_dump writes them: a thousand rows of ten columns.
    let row = "(12345,'some text',\'\',3.14159,'2026-01-02 03:04:05',true,NULL,'x',42,'the end')"
        .replace('\\', "");
    let text = format!("INSERT INTO orders VALUES {}", vec![row; 1_000].join(",\n"));
    with_views(&catalog, &text, &views).unwrap();
}
