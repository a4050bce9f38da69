//! Merges of files as people write them.

use super::*;
use crate::found::{Api, Database, Schema, Scope, ToolServer};
use expect_test::{Expect, expect};

const SHOP: &str = include_str!("../../../../examples/estate-shop/resources/shop.toml");

fn estate(file: &str, text: &str) -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"example.org\"\n");
    files.insert(format!("resources/{file}"), text);
    files
}

fn database(tables: &[(&str, &[&str])], functions: &[&str]) -> Found {
    let schema = Schema {
        tables: tables
            .iter()
            .map(|(table, columns)| {
                let columns = columns.iter().map(|name| (*name).to_owned());
                ((*table).to_owned(), columns.collect())
            })
            .collect(),
        functions: functions.iter().map(|name| (*name).to_owned()).collect(),
        ..Schema::default()
    };
    Found::Database(Database {
        name: "shop".to_owned(),
        schemas: [("public".to_owned(), schema)].into(),
        scope: Scope::default(),
    })
}

fn tools(tools: &[(&str, &str)]) -> Found {
    Found::ToolServer(ToolServer {
        name: "notes".to_owned(),
        tools: tools
            .iter()
            .map(|(name, digest)| ((*name).to_owned(), format!("sha256:{digest}")))
            .collect(),
    })
}

fn merged(files: &EstateFiles, found: &Found, options: Options) -> Outcome {
    merge(files, found, &options).unwrap()
}

/// The only text, and that everything of before stands in it, in order, if nothing was pruned.
fn text(files: &EstateFiles, found: &Found, options: Options, expected: &Expect) -> Outcome {
    let outcome = merged(files, found, options);
    assert!(outcome.changes.len() < 2);
    let after = outcome.changes.first().map_or("", |change| &change.after);
    if let Some(before) = outcome.changes.first().and_then(|one| one.before.as_ref())
        && !options.prune
        && !options.accept_changed
    {
        let mut rest = after.chars();
        assert!(before.chars().all(|c| rest.any(|other| other == c)));
    }
    expected.assert_eq(after);
    outcome
}

fn paths(items: &[crate::report::Item]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn an_empty_estate_gets_a_file_with_everything_unclassified() {
    let found = database(&[("a\"b/c", &["id", "mail"]), ("cards", &[])], &["area"]);
    let files = estate("other.toml", "");
    let outcome = text(
        &files,
        &found,
        Options::default(),
        &expect![[r#"
            # Begun by trilith resources sync. Classifications, owners, labels and groups are yours to write.

            [[database]]
            name = "shop"

            [[database.schema]]
            name = "public"

            [[database.schema.table]]
            name = "a\"b/c"
            [[database.schema.table.column]]
            name = "id"
            [[database.schema.table.column]]
            name = "mail"

            [[database.schema.table]]
            name = "cards"

            [[database.schema.function]]
            name = "area"
        "#]],
    );
    assert_eq!(outcome.changes[0].file, "resources/shop.toml");
    assert_eq!(outcome.changes[0].before, None);
    assert_eq!(
        paths(&outcome.report.unclassified),
        [
            "table shop/public/a%22b%2Fc",
            "table shop/public/cards",
            "function shop/public/area"
        ]
    );
    assert_eq!(outcome.report.added.len(), 7);
}

/// The example, as people wrote it: what they classified stays, what is new beside it is the most restricted.
#[test]
fn what_people_wrote_stays_and_what_is_new_beside_it_is_restricted() {
    let files = estate("shop.toml", SHOP);
    let found = database(
        &[
            ("cards", &["number"]),
            ("customers", &["id", "email", "phone"]),
            ("orders", &["id"]),
            ("order_totals", &["total"]),
            ("invoices", &["id"]),
        ],
        &[],
    );
    let outcome = merged(&files, &found, Options::default());
    let report = &outcome.report;
    // Nobody classified the schema: a new table in it has no classification.
    assert_eq!(paths(&report.unclassified), ["table shop/public/invoices"]);
    // Of `customers` somebody listed columns: another is not simply as the table is.
    assert_eq!(
        paths(&report.restricted),
        ["column shop/public/customers/phone"]
    );
    // The system's schemas were not looked at.
    assert_eq!(paths(&report.gone), ["table shop/public/products"]);
    assert!(report.removed.is_empty() && report.needs_attention());
    let after = &outcome.changes[0].after;
    expect![[r#"
        [[database.schema.table]]
        name = "customers"
        classification = "internal"
        [[database.schema.table.column]]
        name = "id"
        [[database.schema.table.column]]
        name = "email"
        classification = "pii"

        # New, found by trilith resources sync; nobody has classified it yet.
        [[database.schema.table.column]]
        name = "phone"
        classification = "restricted"

        [[database.schema.table]]
        name = "orders"
        classification = "internal"
        [[database.schema.table.column]]
        name = "id"
    "#]]
    .assert_eq(
        after
            .get(
                after
                    .find("[[database.schema.table]]\nname = \"customers\"")
                    .unwrap()
                    ..after
                        .find("\n[[database.schema.table]]\nname = \"order_totals\"")
                        .unwrap(),
            )
            .unwrap(),
    );
    // A second run has nothing to do.
    let mut again = files.clone();
    again.insert("resources/shop.toml", after.clone());
    let second = merged(&again, &found, Options::default());
    assert_eq!(second.changes, []);
    assert_eq!(second.report.added, []);

    let inherit = Options {
        inherit: true,
        ..Options::default()
    };
    let outcome = merged(&files, &found, inherit);
    assert_eq!(outcome.report.restricted, []);
    let restricted = "classification = \"restricted\"";
    assert!(!outcome.changes[0].after.contains(restricted));
}

#[test]
fn pruning_takes_out_what_is_gone_with_all_that_is_in_it_and_nothing_else() {
    let files = estate(
        "shop.toml",
        "# Ours.\n[[database]]\nname = \"shop\"\n\n[[database.schema]]\nname = \"public\"\n\n# Old.\n\
         [[database.schema.table]]\nname = \"old\" # gone\n[database.schema.table.labels]\na = \"b\"\n\
         [[database.schema.table.column]]\nname = \"id\"\n\n[[resource]]\nkind = \"Api\"\nname = \"x\"\n\n\
         [[database.schema.table]]\nname = \"cards\"\ncolumn = [{ name = \"id\" }, { name = \"pan\" }, { name = \"x\" }]\n",
    );
    let found = database(&[("cards", &["pan", "new"])], &[]);
    let prune = Options {
        prune: true,
        ..Options::default()
    };
    let outcome = text(
        &files,
        &found,
        prune,
        &expect![[r#"
            # Ours.
            [[database]]
            name = "shop"

            [[database.schema]]
            name = "public"

            # Old.

            [[resource]]
            kind = "Api"
            name = "x"

            [[database.schema.table]]
            name = "cards"
            column = [{ name = "pan" }, { name = "new" }]
        "#]],
    );
    assert_eq!(
        paths(&outcome.report.removed),
        [
            "column shop/public/cards/id",
            "column shop/public/cards/x",
            "table shop/public/old"
        ]
    );
    assert!(!outcome.report.needs_attention());
}

#[test]
fn lists_in_brackets_and_files_of_other_systems_are_added_to_as_they_are_written() {
    let files = estate(
        "shop.toml",
        "[[database]]\r\nname = \"shop\"\r\nschema = [\r\n  { name = \"public\", table = [\r\n    \
         { name = \"cards\", column = [] }, # cards\r\n    { name = \"users\" },\r\n  ] },\r\n]",
    );
    let found = database(
        &[("cards", &["id"]), ("users", &["id"]), ("x", &["y"])],
        &["f"],
    );
    let outcome = merged(&files, &found, Options::default());
    expect![[r#"
        [[database]]
        name = "shop"
        schema = [
          { name = "public", table = [
            { name = "cards", column = [{ name = "id" }] }, # cards
            { name = "users", column = [{ name = "id" }] },
            { name = "x", column = [{ name = "y" }] },
          ], function = [{ name = "f" }] },
        ]"#]]
    .assert_eq(&outcome.changes[0].after.replace("\r\n", "\n"));
    assert!(!outcome.changes[0].after.replace("\r\n", "").contains('\n'));
}

/// Two of the end of a list were taken out, and a comma of each side was left.
#[test]
fn what_is_taken_out_of_brackets_leaves_its_comment_and_no_comma() {
    let file = |list: &str| {
        format!(
            "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n\
             [[database.schema.table]]\nname = \"t\"\ncolumn = {list}\n"
        )
    };
    let prune = Options {
        prune: true,
        ..Options::default()
    };
    for (before, columns, after) in [
        (
            "[{ name = 'a' }, { name = 'b' }, { name = 'c' }]",
            "a",
            "[{ name = 'a' }]",
        ),
        (
            "[{ name = 'a' }, { name = 'b' }, { name = 'c' }]",
            "b",
            "[{ name = 'b' }]",
        ),
        (
            "[{ name = 'a' }, { name = 'b' }, { name = 'c' }]",
            "c",
            "[{ name = 'c' }]",
        ),
        ("[{ name = 'a' }, { name = 'b' }]", "", "[]"),
        (
            "[{ name = 'a' }, { name = 'b' }]",
            "d",
            "[{ name = \"d\" }]",
        ),
        (
            "[\n  { name = 'a' }, # A\n  { name = 'b' }, # B\n  { name = 'c' }, # C\n]",
            "a",
            "[\n  { name = 'a' }, # A\n  # B\n  # C\n]",
        ),
        (
            "[\n  { name = 'a' }, # A\n  { name = 'b' },\n  { name = 'c' } # C\n]",
            "ad",
            "[\n  { name = 'a' },\n  { name = \"d\" }, # A\n   # C\n]",
        ),
        (
            "[\n  # all\n  { name = 'a' },\n  { name = 'b' },\n]",
            "d",
            "[{ name = \"d\" }\n  # all\n]",
        ),
    ] {
        let columns: Vec<String> = columns.chars().map(String::from).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let found = database(&[("t", &columns)], &[]);
        let outcome = merged(&estate("shop.toml", &file(before)), &found, prune);
        assert_eq!(outcome.changes[0].after, file(after), "{before}");
    }
}

#[test]
fn a_partition_is_kept_where_it_is_declared_and_not_added() {
    let files = estate(
        "shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\n[[database.schema.table]]\nname = \"y1\"\n",
    );
    let Found::Database(mut found) = database(&[("y1", &[]), ("y2", &[])], &[]) else {
        unreachable!()
    };
    let schema = found.schemas.get_mut("public").unwrap();
    schema.governed = ["y1".to_owned(), "y2".to_owned()].into();
    let outcome = merged(&files, &Found::Database(found), Options::default());
    assert_eq!(outcome.changes, []);
    assert_eq!((outcome.report.gone.len(), outcome.report.kept), (0, 3));
}

#[test]
fn only_schemas_that_were_looked_at_can_be_gone() {
    let files = estate(
        "shop.toml",
        "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"a\"\n[[database.schema]]\nname = \"b\"\n",
    );
    let gone = |only: Option<&str>| {
        let found = Found::Database(Database {
            name: "shop".to_owned(),
            schemas: BTreeMap::new(),
            scope: Scope {
                only: only.map(|only| [only.to_owned()].into()),
                system: false,
            },
        });
        paths(&merged(&files, &found, Options::default()).report.gone)
    };
    assert_eq!(gone(Some("a")), ["schema shop/a"]);
    assert_eq!(gone(None), ["schema shop/a", "schema shop/b"]);
}

#[test]
fn tools_are_pinned_and_a_changed_definition_waits_for_a_person() {
    let files = estate(
        "tools.toml",
        "[[resource]]\nkind = \"ToolServer\"\nname = \"notes\"\nclassification = \"internal\"\n\n\
         [[resource]]\nkind = \"Tool\"\nname = \"notes/read\"\nlabels = { team = \"a\" } # hers\n\n\
         [[resource]]\nkind = \"Tool\"\nname = \"notes/plain\"\n\n\
         [[resource]]\nkind = \"Tool\"\nname = \"notes/dotted\"\nlabels.team = \"a\"\n\n\
         [[resource]]\nkind = \"Tool\"\nname = \"notes/headed\"\n[resource.labels]\nteam = \"a\"\n\n\
         [[resource]]\nkind = \"Tool\"\nname = \"notes/changed\"\nlabels = { definition = \"sha256:old\" }\n\n\
         [[resource]]\nkind = \"Tool\"\nname = \"other/gone\"\n",
    );
    let found = tools(&[
        ("read", "1"),
        ("plain", "2"),
        ("dotted", "3"),
        ("headed", "4"),
        ("changed", "5"),
        ("new/one", "6"),
    ]);
    let outcome = text(
        &files,
        &found,
        Options::default(),
        &expect![[r#"
            [[resource]]
            kind = "ToolServer"
            name = "notes"
            classification = "internal"

            [[resource]]
            kind = "Tool"
            name = "notes/read"
            labels = { team = "a", definition = "sha256:1" } # hers

            [[resource]]
            kind = "Tool"
            name = "notes/plain"
            labels = { definition = "sha256:2" }

            [[resource]]
            kind = "Tool"
            name = "notes/dotted"
            labels.team = "a"
            labels.definition = "sha256:3"

            [[resource]]
            kind = "Tool"
            name = "notes/headed"
            [resource.labels]
            team = "a"
            definition = "sha256:4"

            [[resource]]
            kind = "Tool"
            name = "notes/changed"
            labels = { definition = "sha256:old" }

            # New, found by trilith resources sync; nobody has classified it yet.
            [[resource]]
            kind = "Tool"
            name = "notes/new%2Fone"
            classification = "restricted"
            labels = { definition = "sha256:6" }

            [[resource]]
            kind = "Tool"
            name = "other/gone"
        "#]],
    );
    let report = &outcome.report;
    assert_eq!(report.pinned.len(), 4);
    assert_eq!(report.gone, []);
    assert_eq!(report.changed[0].item.path, "notes/changed");
    assert!(!report.changed[0].accepted && report.needs_attention());

    let accept = Options {
        accept_changed: true,
        ..Options::default()
    };
    let outcome = merged(&files, &found, accept);
    assert!(
        outcome.changes[0]
            .after
            .contains("definition = \"sha256:5\"")
    );
    assert!(!outcome.changes[0].after.contains("sha256:old"));
    assert!(!outcome.report.needs_attention());
}

#[test]
fn routes_are_named_as_policies_name_them() {
    let files = estate(
        "x.toml",
        "[[resource]]\nkind = \"Route\"\nname = \"billing/*/admin\"\n",
    );
    let routes = [("GET", "/v1/a"), ("POST", "/")];
    let found = Found::Api(Api {
        name: "billing".to_owned(),
        routes: routes
            .map(|(method, path)| (method.to_owned(), path.to_owned()))
            .into(),
    });
    let outcome = text(
        &files,
        &found,
        Options::default(),
        &expect![[r#"
            [[resource]]
            kind = "Route"
            name = "billing/*/admin"

            [[resource]]
            kind = "Api"
            name = "billing"

            [[resource]]
            kind = "Route"
            name = "billing/GET/v1/a"

            [[resource]]
            kind = "Route"
            name = "billing/POST/"
        "#]],
    );
    assert_eq!(outcome.report.gone, []);
}

#[test]
fn what_no_estate_can_declare_is_left_out_and_told() {
    let found = database(&[("a\nb", &[]), ("", &[]), ("ok", &["\u{1b}[2J"])], &[]);
    let outcome = merged(&estate("x.toml", ""), &found, Options::default());
    let names: Vec<&str> = outcome
        .report
        .refused
        .iter()
        .map(|refused| refused.name.as_str())
        .collect();
    assert_eq!(names, ["", "a\nb", "\u{1b}[2J"]);
    assert_eq!(outcome.report.added.len(), 3);
    assert!(outcome.report.needs_attention());
}

#[test]
fn each_refusal_has_its_code() {
    let code = |files: &EstateFiles, found: &Found| {
        let refused = merge(files, found, &Options::default()).unwrap_err();
        assert!(refused.next.is_some());
        refused.code.into_owned()
    };
    let found = database(&[("a", &[])], &[]);
    assert_eq!(code(&estate("x.toml", "["), &found), "SYNC-TOML");
    let json = r#"{"database":[{"name":"shop"}]}"#;
    assert_eq!(code(&estate("x.json", json), &found), "SYNC-JSON");
    assert_eq!(code(&EstateFiles::new(), &found), "SYNC-ESTATE-FILE");
    let nameless = Found::Api(Api::default());
    assert_eq!(code(&estate("x.toml", ""), &nameless), "SYNC-NAME");
    let json = r#"{"resource":[{"kind":"Tool","name":"notes/a"}]}"#;
    assert_eq!(code(&estate("x.json", json), &tools(&[])), "SYNC-JSON");
    // Of something else, JSON is another's business.
    merge(&estate("x.json", json), &found, &Options::default()).unwrap();
}

mod any {
    use super::*;
    use proptest::prelude::*;

    fn names() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[a-c\"\\\\'.\\[\\]{}#= é\u{202e}/%]{1,4}", 0..5)
    }

    fn tables() -> impl Strategy<Value = BTreeMap<String, Vec<String>>> {
        let columns = names().prop_map(|names| {
            let names: std::collections::BTreeSet<String> = names.into_iter().collect();
            names.into_iter().collect::<Vec<_>>()
        });
        proptest::collection::btree_map("[a-c\"\\\\'.\\[\\]{}#= é/%]{1,4}", columns, 0..5)
    }

    fn found(tables: BTreeMap<String, Vec<String>>, functions: Vec<String>) -> Found {
        let schema = Schema {
            tables,
            functions: functions.into_iter().collect(),
            ..Schema::default()
        };
        Found::Database(Database {
            name: "shop".to_owned(),
            schemas: [("public".to_owned(), schema)].into(),
            scope: Scope::default(),
        })
    }

    fn written(files: &EstateFiles, outcome: &Outcome) -> EstateFiles {
        let mut files = files.clone();
        for change in &outcome.changes {
            files.insert(change.file.as_str(), change.after.as_str());
        }
        files
    }

    /// The same in brackets, with a comment behind each table.
    fn in_brackets(found: &Found) -> String {
        let Found::Database(database) = found else {
            unreachable!()
        };
        let mut tables = String::new();
        for (name, columns) in database.schemas.values().flat_map(|schema| &schema.tables) {
            let columns = columns
                .iter()
                .map(|name| format!("{{ name = {} }}", crate::edit::quoted(name)));
            let columns = columns.collect::<Vec<_>>().join(", ");
            let name = crate::edit::quoted(name);
            tables.push_str(&format!(
                "\n  {{ name = {name}, column = [{columns}] }}, # its"
            ));
        }
        format!(
            "[[database]]\nname = \"shop\"\n[[database.schema]]\nname = \"public\"\ntable = [{tables}\n]\n"
        )
    }

    /// Tables with their columns, and functions, by the parser that the estate uses.
    fn declared(files: &EstateFiles) -> BTreeMap<String, Vec<String>> {
        fn list<'a>(value: &'a toml::Table, key: &str) -> Vec<&'a toml::Table> {
            let list = value.get(key).and_then(toml::Value::as_array);
            list.into_iter()
                .flatten()
                .filter_map(toml::Value::as_table)
                .collect()
        }
        let name = |value: &toml::Table| value["name"].as_str().unwrap().to_owned();
        let file: toml::Table = files.0["resources/shop.toml"].parse().unwrap();
        let mut declared = BTreeMap::new();
        for database in list(&file, "database") {
            for schema in list(database, "schema") {
                for table in list(schema, "table") {
                    let mut columns: Vec<String> =
                        list(table, "column").into_iter().map(name).collect();
                    columns.sort();
                    declared.insert(format!("table {}", name(table)), columns);
                }
                for function in list(schema, "function") {
                    declared.insert(format!("function {}", name(function)), Vec::new());
                }
            }
        }
        declared
    }

    /// Some of a text is another.
    fn changed(text: &str, at: usize, length: usize, by: &str) -> String {
        let mut start = at % (text.len() + 1);
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = (start + length).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let (before, after) = (text.get(..start).unwrap(), text.get(end..).unwrap());
        format!("{before}{by}{after}")
    }

    proptest! {
        /// One state after another: each merge is whole, a second of the same does nothing, and a pruned file
        /// declares what one made anew declares.
        #[test]
        fn merges_follow_what_is_there(
            first in tables(), second in tables(), functions in names(), brackets in any::<bool>(),
        ) {
            let empty = estate("x.toml", "");
            let first = found(first, Vec::new());
            let second = found(second, functions);
            let begun = if brackets {
                estate("shop.toml", &in_brackets(&first))
            } else {
                written(&empty, &merged(&empty, &first, Options::default()))
            };
            let prune = Options { prune: true, inherit: true, ..Options::default() };
            let both = written(&begun, &merged(&begun, &second, Options::default()));
            prop_assert_eq!(&merged(&both, &second, Options::default()).changes, &[]);
            let pruned = written(&both, &merged(&both, &second, prune));
            prop_assert!(merged(&pruned, &second, prune).report.gone.is_empty());
            // At once comes to the same.
            let at_once = written(&begun, &merged(&begun, &second, prune));
            let anew = written(&empty, &merged(&empty, &second, Options::default()));
            prop_assert_eq!(declared(&pruned), declared(&anew));
            prop_assert_eq!(declared(&at_once), declared(&anew));
        }

        /// Whatever stands in a file, it is refused, or kept and added to.
        #[test]
        fn any_text_is_refused_or_kept(
            text in 0..2_usize, changes in proptest::collection::vec(
                (any::<usize>(), 0..30_usize, "[\\[\\]{}\"'.=,#a \n]{0,6}"), 1..4,
            ),
        ) {
            let second = found([("cards".to_owned(), vec!["x".to_owned()])].into(), Vec::new());
            let mut text = if text == 0 { SHOP.to_owned() } else { in_brackets(&second) };
            for (at, length, by) in changes {
                text = changed(&text, at, length, &by);
            }
            let files = estate("shop.toml", &text);
            for prune in [false, true] {
                let options = Options { prune, ..Options::default() };
                match merge(&files, &second, &options) {
                    Ok(outcome) => {
                        let after = written(&files, &outcome);
                        prop_assert_eq!(merged(&after, &second, options).changes, vec![]);
                    }
                    Err(finding) => prop_assert!(
                        ["SYNC-TOML", "SYNC-EDIT"].contains(&finding.code.as_ref()), "{}", finding
                    ),
                }
            }
        }

        /// Whatever a document says, it is refused, or its routes are names.
        #[test]
        fn any_document_is_refused_or_described(
            at in any::<usize>(), length in 0..12_usize, by in "[{}\":,/$#a-c0\\[\\]]{0,8}",
        ) {
            let document = r##"{"openapi":"3.2.0","servers":[{"url":"https://a.example/v1"}],
                "paths":{"/a/{b}":{"get":{},"additionalOperations":{"COPY":{}}},
                "/c":{"$ref":"#/components/pathItems/c"}},"components":{"pathItems":{"c":{"put":{}}}}}"##;
            let document = changed(document, at, length, &by);
            if let Ok(api) = crate::routes(document.as_bytes(), "billing", None) {
                for (method, path) in &api.routes {
                    let route = format!("Route::\"billing/{method}{path}\"");
                    prop_assert!(route.parse::<::estate::ResourceRef>().is_ok(), "{}", route);
                }
            }
        }
    }
}
