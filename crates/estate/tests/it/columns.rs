//! Columns as resources: decided on where the estate says so, and nowhere else.

use crate::fixture::{compile, render};
use estate::{Action, ColumnMode, Estate, EstateFiles, Request, ResourceKind, ResourceRef};
use expect_test::expect;
use facts::FactSet;

const RESOURCES: &str = r#"
[[database]]
name = "shop"
owner = "platform team"
[database.labels]
region = "eu"
[[database.schema]]
name = "public"
[[database.schema.table]]
name = "customers"
classification = "internal"
[[database.schema.table.column]]
name = "id"
# No column is less restricted than its table.
classification = "public"
[[database.schema.table.column]]
name = "email"
classification = "pii"
[[database.schema.table.column]]
name = "a/b%"
[[database.schema.table]]
name = "orders"
classification = "internal"
[[database.schema.table]]
name = "nobody"
"#;

const POLICIES: &str = r#"
@id("analysts read what is internal")
permit (principal == Identity::"bi/report", action == Action::"select", resource in Database::"shop")
when { resource.classification == "internal" };
@id("support reads customers")
permit (principal == Identity::"crm/support", action in [Action::"select", Action::"update"],
  resource in Table::"shop/public/customers");
@id("the table alone")
permit (principal == Identity::"crm/count", action == Action::"select", resource == Table::"shop/public/customers");
@id("nobody writes addresses")
forbid (principal, action == Action::"update", resource is Column)
when { resource.classification == "pii" };
"#;

fn files(columns: &str, policies: &str) -> EstateFiles {
    let identity = |path: &str| {
        format!("[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"x\"\n")
    };
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        format!("trust_domain = \"example.org\"\n{columns}"),
    );
    files.insert(
        "identities/all.toml",
        ["bi/report", "crm/support", "crm/count"]
            .map(identity)
            .concat(),
    );
    files.insert("resources/shop.toml", RESOURCES);
    files.insert("policies/shop.cedar", policies);
    files
}

fn decided() -> Estate {
    compile(&files("columns = \"decided\"\n", POLICIES))
}

fn customers() -> ResourceRef {
    ResourceRef::table("shop/public/customers")
}

/// Decided by the index and by plain Cedar, which have to agree.
fn allows(estate: &Estate, principal: &str, action: Action, resource: &ResourceRef) -> bool {
    let request = Request {
        principal,
        action,
        resource: resource.clone(),
        facts: &FactSet::new(),
    };
    let decision = estate.decide(&request);
    assert_eq!(decision, estate.decide_plainly(&request), "{resource}");
    assert!(decision.errors.is_empty(), "{:?}", decision.errors);
    decision.allow
}

#[test]
fn a_column_is_decided_on_by_its_own_classification() {
    let estate = decided();
    assert_eq!(estate.settings().columns, ColumnMode::Decided);
    let orders = ResourceRef::table("shop/public/orders");
    let mut text = String::new();
    for (principal, action) in [
        ("bi/report", Action::Select),
        ("crm/support", Action::Select),
        ("crm/support", Action::Update),
        ("crm/count", Action::Select),
    ] {
        for resource in [
            customers(),
            customers().column("id"),
            customers().column("email"),
            customers().column("a/b%"),
            customers().column("new"),
            customers().column("ctid"),
            orders.column("any"),
            ResourceRef::table("shop/public/nobody").column("any"),
            ResourceRef::table("shop/public/unlisted").column("any"),
        ] {
            let word = if allows(&estate, principal, action, &resource) {
                "may"
            } else {
                "may not"
            };
            let path = resource.path.trim_start_matches("shop/public/");
            text.push_str(&format!("{principal} {word} {action} {path}\n"));
        }
    }
    expect![[r#"
        bi/report may select customers
        bi/report may select customers/id
        bi/report may not select customers/email
        bi/report may select customers/a%2Fb%25
        bi/report may not select customers/new
        bi/report may select customers/ctid
        bi/report may select orders/any
        bi/report may not select nobody/any
        bi/report may not select unlisted/any
        crm/support may select customers
        crm/support may select customers/id
        crm/support may select customers/email
        crm/support may select customers/a%2Fb%25
        crm/support may select customers/new
        crm/support may select customers/ctid
        crm/support may not select orders/any
        crm/support may not select nobody/any
        crm/support may not select unlisted/any
        crm/support may update customers
        crm/support may update customers/id
        crm/support may not update customers/email
        crm/support may update customers/a%2Fb%25
        crm/support may update customers/new
        crm/support may update customers/ctid
        crm/support may not update orders/any
        crm/support may not update nobody/any
        crm/support may not update unlisted/any
        crm/count may select customers
        crm/count may not select customers/id
        crm/count may not select customers/email
        crm/count may not select customers/a%2Fb%25
        crm/count may not select customers/new
        crm/count may not select customers/ctid
        crm/count may not select orders/any
        crm/count may not select nobody/any
        crm/count may not select unlisted/any
    "#]]
    .assert_eq(&text);
}

#[test]
fn owners_and_labels_come_from_the_table_and_classifications_only_where_stricter() {
    let estate = decided();
    let shown = |name: &str| {
        let info = estate.object(&customers().column(name));
        format!(
            "{} {} {:?} {:?}",
            info.classification, info.declared, info.owner, info.labels
        )
    };
    let inherited = r#"Some("platform team") {"region": "eu"}"#;
    assert_eq!(shown("id"), format!("internal true {inherited}"));
    assert_eq!(shown("email"), format!("pii true {inherited}"));
    assert_eq!(shown("new"), format!("restricted false {inherited}"));
    assert_eq!(estate.object(&customers()).classification, "internal");
    assert!(estate.undeclared(&customers().column("email")).is_none());
    assert!(estate.undeclared(&customers().column("new")).is_some());
}

#[test]
fn who_can_and_what_can_know_columns_and_roles_are_granted_tables() {
    let estate = decided();
    let who = |name: &str| -> Vec<String> {
        let answer = estate.who_can(Action::Select, &customers().column(name));
        assert!(answer.errors.is_empty());
        answer
            .accesses
            .into_iter()
            .map(|one| one.identity)
            .collect()
    };
    assert_eq!(who("id"), ["bi/report", "crm/support"]);
    assert_eq!(who("email"), ["crm/support"]);
    let what = estate.what_can("bi/report");
    let columns: Vec<&str> = what
        .accesses
        .iter()
        .filter(|one| one.resource.kind == ResourceKind::Column)
        .map(|one| one.resource.path.as_str())
        .collect();
    assert_eq!(
        columns,
        ["shop/public/customers/a%2Fb%25", "shop/public/customers/id"]
    );
    let grants = estate.grants("bi/report");
    assert!(!grants.is_empty());
    assert!(
        grants
            .iter()
            .all(|one| one.resource.kind != ResourceKind::Column)
    );
}

#[test]
fn where_columns_are_not_decided_on_nothing_is_asked_about_them() {
    let policies = POLICIES.split("@id(\"nobody writes").next().unwrap();
    let estate = compile(&files("", policies));
    assert!(!estate.decides_columns());
    // The most restricted column counts for the whole of it.
    assert!(!allows(&estate, "bi/report", Action::Select, &customers()));
    let answer = estate.who_can(Action::Select, &customers().column("id"));
    assert!(answer.accesses.is_empty());
    assert_eq!(answer.errors.len(), 1);
    let listed = estate.what_can("crm/support").accesses;
    assert!(
        listed
            .iter()
            .all(|one| one.resource.kind != ResourceKind::Column)
    );
    // A policy about columns would do nothing, so that it is refused.
    let problems = Estate::compile(&files("", POLICIES)).unwrap_err();
    let said = render(&problems);
    assert!(said.contains("policies/shop.cedar"), "{said}");
    assert!(said.contains("columns = \"decided\""), "{said}");
}

#[test]
fn a_policy_names_columns_that_are_declared() {
    let with = |name: &str| {
        let policy = format!(
            "forbid (principal, action == Action::\"select\", resource == Column::\"shop/public/customers/{name}\");"
        );
        Estate::compile(&files(
            "columns = \"decided\"\n",
            &format!("{POLICIES}{policy}"),
        ))
    };
    let estate = with("email").unwrap_or_else(|problems| panic!("{}", render(&problems)));
    assert!(!allows(
        &estate,
        "crm/support",
        Action::Select,
        &customers().column("email")
    ));
    let said = render(&with("emial").unwrap_err());
    assert!(said.contains("ESTATE-POLICY-NAME"), "{said}");
}

#[test]
fn a_column_has_the_attributes_that_its_table_has() {
    let mut files = files(
        "columns = \"decided\"\n",
        "permit (principal, action == Action::\"select\", resource) \
         when { resource.attributes has system && resource.attributes.system == \"crm\" };",
    );
    files.insert(
        "schema/own.cedarschema",
        "type TableAttributes = { system?: String };",
    );
    let resources = RESOURCES.replacen(
        "classification = \"internal\"",
        "classification = \"internal\"\nattributes = { system = \"crm\" }",
        1,
    );
    files.insert("resources/shop.toml", resources);
    let estate = compile(&files);
    assert!(allows(
        &estate,
        "bi/report",
        Action::Select,
        &customers().column("email")
    ));
    let orders = ResourceRef::table("shop/public/orders");
    assert!(!allows(
        &estate,
        "bi/report",
        Action::Select,
        &orders.column("any")
    ));
}

#[test]
fn a_permit_that_covers_no_column_is_remarked_on() {
    let remarks = |estate: &Estate| -> Vec<String> {
        let remarks = estate.lint().into_iter();
        remarks
            .filter(|one| one.problem.code.as_str() == "LINT-COLUMNS-UNCOVERED")
            .filter_map(|one| one.policy.map(|policy| policy.id))
            .collect()
    };
    assert_eq!(remarks(&decided()), ["the table alone"]);
    let policies = POLICIES.split("@id(\"nobody writes").next().unwrap();
    assert!(remarks(&compile(&files("", policies))).is_empty());
}

/// What a change takes away and what it adds, a line each.
fn told(old: &Estate, new: &Estate) -> String {
    let diff = estate::diff(old, new);
    assert!(diff.errors.is_empty(), "{:?}", diff.errors);
    let line = |mark: &str, access: &estate::Access| {
        let path = access.resource.path.trim_start_matches("shop/public/");
        format!("{mark} {} {} {path}\n", access.identity, access.action)
    };
    let lost = diff.narrowed.iter().filter_map(|one| one.before.as_ref());
    let lost: String = lost.map(|access| line("-", access)).collect();
    let won = diff.widened.iter().filter_map(|one| one.after.as_ref());
    let won: String = won.map(|access| line("+", access)).collect();
    format!("{lost}{won}")
}

/// Its author has not yet thought of columns.
fn by_table() -> EstateFiles {
    let policies = POLICIES.split("@id(\"nobody writes").next().unwrap();
    files("", policies)
}

#[test]
fn the_switch_to_columns_takes_away_what_no_column_is_covered_by() {
    let (old, new) = (compile(&by_table()), decided());
    expect![[r#"
        - crm/count select customers/*
        - crm/count select customers/a%2Fb%25
        - crm/count select customers/email
        - crm/count select customers/id
        - crm/support update customers/email
        + bi/report select customers
        + bi/report select customers/a%2Fb%25
        + bi/report select customers/id
    "#]]
    .assert_eq(&told(&old, &new));
    expect![[r#"
        - bi/report select customers
        - bi/report select customers/a%2Fb%25
        - bi/report select customers/id
        + crm/count select customers/*
        + crm/count select customers/a%2Fb%25
        + crm/count select customers/email
        + crm/count select customers/id
        + crm/support update customers/email
    "#]]
    .assert_eq(&told(&new, &old));
    let settings = estate::diff(&old, &new).settings;
    assert_eq!(settings.changed, ["columns: by-table before, decided now"]);
}

#[test]
fn the_switch_alone_takes_away_what_no_column_is_covered_by() {
    let mut files = by_table();
    let text = "permit (principal == Identity::\"crm/count\", action == Action::\"select\", \
                resource == Table::\"shop/public/orders\");\n\
                permit (principal == Identity::\"bi/report\", action == Action::\"select\", \
                resource is Table);";
    files.insert("policies/shop.cedar", text);
    let old = compile(&files);
    files.insert(
        "estate.toml",
        "trust_domain = \"example.org\"\ncolumns = \"decided\"\n",
    );
    let told = told(&old, &compile(&files));
    assert!(told.contains("- crm/count select orders/*\n"), "{told}");
    // Nor of tables that no file lists.
    for lost in ["*/*", "shop/*/*/*", "*/*/*/*", "nobody/*", "customers/id"] {
        assert!(
            told.contains(&format!("- bi/report select {lost}\n")),
            "{told}"
        );
    }
    assert!(!told.contains('+'), "{told}");
}

#[test]
fn a_table_that_lists_some_of_its_columns_loses_the_others() {
    let mut files = by_table();
    let resources = RESOURCES.replace("classification = \"pii\"", "");
    files.insert("resources/shop.toml", resources.clone());
    let old = compile(&files);
    files.insert(
        "estate.toml",
        "trust_domain = \"example.org\"\ncolumns = \"decided\"\n",
    );
    let new = compile(&files);
    let bi = |told: String| -> String {
        let lines = told.lines().filter(|line| line.contains("bi/report"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(bi(told(&old, &new)), "- bi/report select customers/*");
    // And so do those of a table whose first column is listed.
    let orders = "name = \"orders\"\nclassification = \"internal\"\n";
    let more = format!("{orders}[[database.schema.table.column]]\nname = \"id\"\n");
    files.insert("resources/shop.toml", resources.replace(orders, &more));
    assert_eq!(
        bi(told(&new, &compile(&files))),
        "- bi/report select orders/*"
    );
}

/// A version that was applied when `"` and `\` were written as they are kept the server from starting.
#[test]
fn a_recorded_version_names_what_it_declares_as_its_time_wrote_it() {
    let policies = r#"
permit (principal == Identity::"bi/report", action == Action::"select", resource in Schema::"shop/public");
forbid (principal, action == Action::"select", resource is Table)
when { resource == Table::"shop/public/a\"b\\c" };
forbid (principal, action == Action::"select", resource == Column::"shop/public/customers/d\"e");
"#;
    let mut files = files("columns = \"decided\"\n", policies);
    let more = r#"
[[database.schema.table.column]]
name = 'd"e'
[[database.schema.table]]
name = 'a"b\c'
classification = "internal"
[[database.schema.table]]
name = "orders"
"#;
    let (before, after) = RESOURCES
        .split_once("[[database.schema.table]]\nname = \"orders\"\n")
        .unwrap();
    files.insert("resources/shop.toml", format!("{before}{more}{after}"));
    files.insert(
        "invariants/odd.cedar",
        "never (principal == Identity::\"crm/support\", action == Action::\"delete\", resource == Table::\"shop/public/a\\\"b\\\\c\");",
    );
    let said = render(&Estate::compile(&files).unwrap_err());
    assert!(said.contains("ESTATE-POLICY-NAME"), "{said}");
    let recorded = Estate::compile_recorded(&files);
    let recorded = recorded.unwrap_or_else(|problems| panic!("{}", render(&problems)));
    let named = |names: &[&str]| ResourceRef::from_segments(ResourceKind::Table, names);
    let odd = named(&["shop", "public", "a\"b\\c"]);
    let reads = |resource: &ResourceRef| allows(&recorded, "bi/report", Action::Select, resource);
    assert!(reads(&named(&["shop", "public", "orders"])) && reads(&customers().column("id")));
    assert!(!reads(&odd), "what was forbidden is");
    assert!(!reads(&customers().column("d\"e")), "also of a column");
    // Of what is not declared nothing is guessed.
    files.insert(
        "policies/more.cedar",
        "forbid (principal, action, resource == Table::\"shop/public/x\\\"y\");",
    );
    let said = render(&Estate::compile_recorded(&files).unwrap_err());
    assert!(said.contains("ESTATE-POLICY-NAME"), "{said}");
}
