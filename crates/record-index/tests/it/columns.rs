//! Columns that records name: found, counted, and decided again where an estate decides on them.

use crate::searching::ALL as EVERYWHERE;
use crate::world::{World, intent_to, issuance, session, shop_files};
use estate::{Estate, EstateFiles};
use record_index::{
    Asked, Change, Filter, Site, TimeRange, accesses_verified, replay, search, unused,
};
use std::ops::ControlFlow;

const CUSTOMERS: &str = "shop/public/customers";
const ALL: TimeRange = TimeRange {
    since: None,
    until: None,
};

/// The shop, with a policy that covers columns.
fn files(settings: &str) -> EstateFiles {
    let mut files = shop_files();
    let estate = format!("{settings}{}", files.0["estate.toml"]);
    files.insert("estate.toml", estate);
    files.insert(
        "policies/columns.cedar",
        "@id(\"payments reads what is internal of customers\")\npermit (\n  principal == Identity::\"payments/api\",\n  \
         action == Action::\"select\",\n  resource in Table::\"shop/public/customers\"\n) when { resource.classification == \"internal\" };\n",
    );
    files
}

fn compile(files: &EstateFiles) -> Estate {
    Estate::compile(files).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// Customers read: their numbers, their addresses, all of them, how many, and more than there is room for.
fn site(server: &mut World, gateway: &mut World) -> Site {
    server.apply(&files(""), "uid:0");
    let api = server.put(issuance("payments/api", "m1", "aa"));
    gateway.put(session("s1", "payments/api", Some(api)));
    for columns in [&["id"][..], &["email", "id"], &["*"], &[]] {
        gateway.put(intent_to(
            "s1",
            "payments/api",
            "select",
            CUSTOMERS,
            columns,
        ));
    }
    gateway.put(intent_to("s1", "payments/api", "select", "", &["*"]));
    let mut site = server.site();
    site.join(gateway.site()).unwrap();
    site.catch_up().unwrap();
    site
}

#[test]
fn a_column_is_found_where_it_may_have_been_touched() {
    let (mut server, mut gateway) = (World::new("server"), World::new("pg-1"));
    let site = site(&mut server, &mut gateway);
    let found = |resource: &str| {
        let filter = Filter {
            resource: Some(resource.to_owned()),
            types: vec!["intent".to_owned()],
            ..Filter::default()
        };
        let mut count = 0;
        search(&site, &filter, &EVERYWHERE, |_| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        count
    };
    // By its name, by all of its table's, and by those that there was no room for.
    assert_eq!(found("shop/public/customers/id"), 4);
    assert_eq!(found("Column::\"shop/public/customers/email\""), 3);
    assert_eq!(found("shop/public/customers/phone"), 2);
    assert_eq!(found("shop/public/customers/*"), 4);
    // The table, and what was cut.
    assert_eq!(found(CUSTOMERS), 5);
    let of = Asked {
        of: Some("shop/public/customers/email".to_owned()),
        ..Asked::default()
    };
    let rows = accesses_verified(&site, &of, true).unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (row.kind, row.resource.as_str(), row.count))
        .collect();
    assert_eq!(
        rows,
        [
            ("read", "Column::\"shop/public/customers/*\"", 1),
            ("read", "Column::\"shop/public/customers/email\"", 1)
        ]
    );
}

#[test]
fn an_estate_that_decides_on_columns_is_replayed_by_them() {
    let (mut server, mut gateway) = (World::new("server"), World::new("pg-1"));
    let site = site(&mut server, &mut gateway);
    // By table nothing is asked about columns, and nothing is counted twice.
    let by_table = replay(&site, &compile(&files("")), ALL).unwrap();
    assert!(
        by_table
            .changed
            .iter()
            .all(|one| !one.resource.starts_with("Column"))
    );
    assert!(
        by_table
            .not_replayed
            .iter()
            .all(|one| !one.resource.starts_with("Column"))
    );

    let decided = compile(&files("columns = \"decided\"\n"));
    let replayed = replay(&site, &decided, ALL).unwrap();
    let denied: Vec<_> = replayed
        .changed
        .iter()
        .filter(|one| one.resource.starts_with("Column"))
        .map(|one| (one.change, one.resource.as_str()))
        .collect();
    assert_eq!(
        denied,
        [(Change::Denied, "Column::\"shop/public/customers/email\"")]
    );
    let untold: Vec<_> = replayed
        .not_replayed
        .iter()
        .map(|one| (one.resource.as_str(), one.why.as_str()))
        .filter(|(resource, _)| resource.starts_with("Column"))
        .collect();
    assert!(
        untold.contains(&(
            "Column::\"shop/public/customers/*\"",
            "the record does not say which columns"
        )),
        "{untold:?}"
    );
    // Who read all columns used the right to each.
    let found = unused(&site, &decided, ALL).unwrap();
    let idle: Vec<_> = found
        .grants
        .iter()
        .filter(|grant| grant.identity == "payments/api" && grant.resource.starts_with("Column"))
        .filter(|grant| grant.resource.contains("customers"))
        .collect();
    assert!(idle.is_empty(), "{idle:?}");
}

/// A table that is closed takes its columns with it, whatever gives these.
#[test]
fn a_closed_table_denies_its_columns_when_they_are_decided_again() {
    let (mut server, mut gateway) = (World::new("server"), World::new("pg-1"));
    let site = site(&mut server, &mut gateway);
    let mut files = files("columns = \"decided\"\n");
    files.insert(
        "policies/closed.cedar",
        "@id(\"customers are closed\")\nforbid (\n  principal,\n  action == Action::\"select\",\n  \
         resource == Table::\"shop/public/customers\"\n);\n",
    );
    let closed = compile(&files);
    let replayed = replay(&site, &closed, ALL).unwrap();
    let denied: Vec<&str> = replayed
        .changed
        .iter()
        .filter(|one| one.change == Change::Denied)
        .map(|one| one.resource.as_str())
        .filter(|resource| resource.starts_with("Column"))
        .collect();
    assert_eq!(
        denied,
        [
            "Column::\"shop/public/customers/email\"",
            "Column::\"shop/public/customers/id\""
        ]
    );
    // Where it is closed already, nothing of a column is new: its table says it.
    server.apply(&files, "uid:0");
    let mut shut = server.site();
    shut.join(gateway.site()).unwrap();
    shut.catch_up().unwrap();
    let replayed = replay(&shut, &closed, ALL).unwrap();
    let denied = replayed.changed.iter();
    let denied: Vec<&str> = denied.map(|one| one.resource.as_str()).collect();
    assert!(
        denied.contains(&"Table::\"shop/public/customers\"")
            && !denied.iter().any(|one| one.starts_with("Column")),
        "{denied:?}"
    );
    // Nobody has what nobody can use.
    let found = unused(&site, &closed, ALL).unwrap();
    let had = found.grants.iter().any(|grant| {
        grant.action == "select"
            && grant
                .resource
                .starts_with("Column::\"shop/public/customers/")
    });
    assert!(!had, "{:?}", found.grants);
}
