//! Columns, judged by PostgreSQL: a role that has rights on the columns that the resolver names and on no other may
//! run the statement, and may not once any one of these is taken away.
//!
//! The corpus has to come out exactly so. Of statements made at random the first half has to hold of every one: what
//! the resolver names may be more than is needed, and never less.

use super::access::{Access, Resolved};
use super::catalog::{Catalog, Relation, RelationKind};
use super::resolve::{Declared, Environment, Limits, resolve};
use super::views::Views;
use crate::upstream::{Address, Admin, AdminError, Login, snapshot};
use estate::ResourceRef;
use expect_test::expect_file;
use std::fmt::Write as _;
use std::sync::Arc;
use testkit::postgres::Postgres;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    tokens: 50_000,
    statements: 100,
};

/// No statement names `spare`: a right to it is one to a table of which no column is needed.
const SCHEMA: &str = "
CREATE TABLE a (id int PRIMARY KEY, x int, y text, spare int);
CREATE TABLE b (id int PRIMARY KEY, x int, z text, spare int);
CREATE TYPE pair AS (one int, two int);
CREATE TABLE c (k int PRIMARY KEY, p pair, list int[], at date, spare int);
CREATE VIEW v AS SELECT a.id, a.x + b.x AS total FROM a JOIN b ON a.id = b.id;
CREATE VIEW w AS SELECT id, y FROM a;
CREATE ROLE probe;
GRANT USAGE ON SCHEMA public TO probe;
";

/// With what PostgreSQL 15 reads; one statement a line.
const CORPUS: &str = include_str!("columns.sql");

/// Views are resources of their own here, as what an estate declares is.
struct EveryOne;

impl Declared for EveryOne {
    fn is_declared(&self, _: &ResourceRef) -> bool {
        true
    }
}

fn by_hand() -> Catalog {
    let mut catalog = Catalog::new("shop", "1".to_owned(), 150_000);
    let view_v =
        "SELECT a.id, (a.x + b.x) AS total FROM (public.a JOIN public.b ON ((a.id = b.id)))";
    for (oid, name, columns, definition) in [
        (1, "a", "id x y spare", None),
        (2, "b", "id x z spare", None),
        (3, "c", "k p list at spare", None),
        (4, "v", "id total", Some(view_v)),
        (5, "w", "id y", Some("SELECT a.id, a.y FROM public.a")),
    ] {
        catalog.add_relation(Relation {
            oid,
            schema: "public".to_owned(),
            name: name.to_owned(),
            kind: definition.map_or(RelationKind::Table, |_| RelationKind::View),
            partition: false,
            parents: vec![],
            children: vec![],
            definition: definition.map(str::to_owned),
            columns: columns.split(' ').map(Arc::from).collect(),
            owned_by: None,
            opaque: false,
            opaque_read: false,
        });
    }
    catalog
}

fn resolved(text: &str, catalog: &Catalog) -> Resolved {
    let search_path = ["public".to_owned()];
    let views = Views::default();
    let environment = Environment {
        catalog,
        search_path: &search_path,
        declared: &EveryOne,
        role: None,
        views: &views,
    };
    resolve(text, environment, LIMITS)
        .unwrap_or_else(|refusal| panic!("{text}: {refusal:?}"))
        .remove(0)
}

fn table(access: &Access) -> &str {
    access.resource.path.rsplit('/').next().unwrap()
}

fn corpus() -> impl Iterator<Item = &'static str> {
    CORPUS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("--"))
}

#[test]
fn every_statement_has_the_columns_that_the_table_says() {
    let catalog = by_hand();
    let mut out = String::new();
    for text in CORPUS.lines() {
        writeln!(out, "{text}").unwrap();
        if text.is_empty() || text.starts_with("--") {
            continue;
        }
        for (access, columns) in &resolved(text, &catalog).columns {
            let names: Vec<&str> = columns.names.iter().map(|name| &**name).collect();
            let all = if columns.all { " all:" } else { "" };
            let names = names.join(" ");
            writeln!(
                out,
                "    {} {}{all} ({names})",
                access.action,
                table(access)
            )
            .unwrap();
        }
    }
    expect_file!["columns.txt"].assert_eq(&out);
}

/// One right, as GRANT words it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Right {
    text: String,
    /// Without it the statement is refused.
    needed: bool,
}

fn rights(resolved: &Resolved) -> Vec<Right> {
    let mut rights = Vec::new();
    for access in &resolved.accesses {
        let named = resolved.names.iter().any(|name| name.name == table(access));
        // What views and foreign keys do, they do as their owner.
        if !named {
            continue;
        }
        let privilege = access.action.as_str();
        let on = table(access);
        let Some(columns) = resolved.columns.get(access) else {
            let text = format!("{privilege} ON {on}");
            rights.push(Right { text, needed: true });
            continue;
        };
        // A right to any column is one to the table: system columns are none of it, and views have no `spare`.
        let system = |name: &Arc<str>| matches!(&**name, "ctid" | "xmin");
        let any = match on {
            "v" | "w" => ("id", false),
            _ => ("spare", false),
        };
        let spare = columns.names.iter().all(system).then_some(any);
        let names = columns.names.iter().map(|name| (&**name, true));
        for (name, needed) in names.chain(spare) {
            let text = format!("{privilege} ({name}) ON {on}");
            rights.push(Right { text, needed });
        }
    }
    rights
}

/// What the server says to the role with these rights: nothing, or an SQLSTATE.
async fn ask<'a>(
    admin: &mut Admin,
    text: &str,
    rights: impl Iterator<Item = &'a Right>,
) -> Option<String> {
    let mut script = "BEGIN;".to_owned();
    for right in rights {
        write!(script, "GRANT {} TO probe;", right.text).unwrap();
    }
    let explain = if text.starts_with("COPY") {
        ""
    } else {
        "EXPLAIN "
    };
    write!(script, "SET LOCAL ROLE probe; {explain}{text}").unwrap();
    let answer = admin.query(&script).await;
    admin.query("ROLLBACK").await.unwrap();
    match answer {
        Ok(_) => None,
        Err(AdminError::Statement { sqlstate, .. }) => Some(sqlstate),
        Err(error) => panic!("{text}: {error}"),
    }
}

async fn start(postgres: &Postgres) -> (Admin, Catalog) {
    postgres
        .execute("postgres", "CREATE DATABASE shop")
        .unwrap();
    postgres.execute("shop", SCHEMA).unwrap();
    let user = postgres.execute("shop", "SELECT current_user").unwrap();
    let address = Address::Unix {
        socket: postgres.socket(),
    };
    let mut admin = Admin::connect(&address, user.trim(), "shop", &Login::Peer)
        .await
        .unwrap();
    let catalog = snapshot(&mut admin, "shop").await.unwrap();
    admin.query("SET search_path = public").await.unwrap();
    (admin, catalog)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_asks_for_the_columns_that_are_named_and_for_no_others() {
    let name = "postgresql_asks_for_the_columns_that_are_named_and_for_no_others";
    if let Some(what) = Postgres::missing() {
        return testkit::skip(name, &what);
    }
    let postgres = Postgres::start().unwrap();
    let (mut admin, catalog) = start(&postgres).await;
    let mut wrong = String::new();
    let mut refusals = 0;
    for text in corpus() {
        // COPY FROM waits for rows where it is allowed.
        if text.starts_with("COPY") && text.contains("FROM STDIN") {
            continue;
        }
        let resolved = resolved(text, &catalog);
        let rights = rights(&resolved);
        if let Some(sqlstate) = ask(&mut admin, text, rights.iter()).await {
            writeln!(wrong, "{text}\n    {sqlstate} with {rights:?}").unwrap();
        }
        for right in rights.iter().filter(|right| right.needed) {
            let others = rights.iter().filter(|other| *other != right);
            match ask(&mut admin, text, others).await.as_deref() {
                Some("42501") => refusals += 1,
                other => writeln!(wrong, "{text}\n    {other:?} without {}", right.text).unwrap(),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(refusals > 100, "{refusals}");
}

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }
}

/// A statement of parts that fit more often than not.
fn statement(dice: &mut Dice) -> String {
    let condition = query_part(dice, 2);
    match dice.roll(10) {
        0 => format!("DELETE FROM a AS t WHERE {condition}"),
        1 => format!("UPDATE a SET x = {condition} WHERE {}", query_part(dice, 1))
            .replace("t.", "a."),
        2 => format!("INSERT INTO b (id, x) {}", query(dice, 2, Some(2))),
        3 => format!(
            "INSERT INTO a (id, x) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET x = excluded.x + a.{} RETURNING {}",
            dice.pick(&["x", "id", "spare"]),
            dice.pick(&["id", "y", "*", "a"]),
        ),
        _ => query(dice, 3, None),
    }
}

/// A condition or value, in which queries may stand.
fn query_part(dice: &mut Dice, depth: usize) -> String {
    let column = dice.pick(&["id", "x", "y", "z", "t.id", "t.x", "u.id", "u.x", "id", "x"]);
    if depth > 0 && dice.roll(4) == 0 {
        return format!("({}) IS NOT NULL", shadowed(dice, depth - 1));
    }
    match dice.roll(if depth == 0 { 4 } else { 7 }) {
        0 => format!("{column} IS NOT NULL"),
        1 => format!("{column}::text = '1'"),
        2 => "true".to_owned(),
        3 => format!("coalesce({column}::text, '') <> ''"),
        4 => format!("EXISTS ({})", query(dice, depth - 1, None)),
        5 => format!("{column}::text IN ({})", query(dice, depth - 1, Some(1))),
        _ => format!(
            "({}) AND {}",
            query_part(dice, depth - 1),
            query_part(dice, depth - 1)
        ),
    }
}

/// A query for one value, among what hides names of the queries around it, or no longer does.
fn shadowed(dice: &mut Dice, depth: usize) -> String {
    let column = |dice: &mut Dice| {
        dice.pick(&[
            "id", "x", "y", "z", "k", "ctid", "t.id", "t.x", "t.y", "u.x", "u.z", "t.ctid", "j.y",
            "one",
        ])
    };
    let value = column(dice);
    let from = match dice.roll(20) {
        0 => "(a AS t JOIN c AS u ON true) AS j".to_owned(),
        1 => "(c AS u JOIN b AS t ON true) AS t".to_owned(),
        2 => "(a AS t JOIN b AS u ON true) AS j(one, b2, b3, b4, b5, b6, b7, b8)".to_owned(),
        3 => "(a AS t JOIN b AS u ON true) AS j(one, b2, b3, b4)".to_owned(),
        4 => "(a AS t JOIN b AS u USING (id)) AS j(one)".to_owned(),
        5 => "(a AS t JOIN b AS u USING (id) AS m) AS j".to_owned(),
        6 => "((a AS t JOIN b AS u ON true) AS u(one) JOIN c AS t ON true) AS j".to_owned(),
        7 => "(a AS t JOIN c AS u ON true) AS j NATURAL JOIN b".to_owned(),
        8 => "a AS t JOIN c AS u ON true".to_owned(),
        9 => format!("c AS t TABLESAMPLE bernoulli(length({value}::text))"),
        10 => format!("a AS t TABLESAMPLE system(length({value}::text))"),
        11 => format!("c AS t, unnest(ARRAY[{value}::text]) AS n"),
        12 => format!("c, ROWS FROM (generate_series(1, 2), unnest(ARRAY[{value}::text])) AS n"),
        13 => format!("c AS t JOIN LATERAL (SELECT {value} AS one) AS n ON {value}::text = '1'"),
        14 => format!("a AS t, (SELECT {value} AS one) AS n"),
        15 => format!("a AS t, b AS q JOIN c AS u ON {value}::text = '1'"),
        16 => format!("(VALUES ({value}::text), (NULL)) AS n(y)"),
        17 => "b AS t(ctid, one)".to_owned(),
        18 => "(SELECT id AS ctid, x AS y FROM b) AS t".to_owned(),
        _ => from(dice, depth.min(1)),
    };
    let value = column(dice);
    let rest = match dice.roll(8) {
        0 => format!(" ORDER BY {} LIMIT 1", column(dice)),
        1 => format!(" LIMIT length({}::text)", column(dice)),
        2 => format!(" WHERE {}::text = '1' LIMIT 1", column(dice)),
        _ => " LIMIT 1".to_owned(),
    };
    match dice.roll(8) {
        0 => format!("SELECT count(*)::text FROM {from}"),
        1 => format!("SELECT max({value}::text) FROM {from}"),
        2 => format!("SELECT {value}::text AS x FROM {from} GROUP BY {value}{rest}"),
        3 => format!("SELECT count(*) OVER (PARTITION BY {value})::text FROM {from}{rest}"),
        4 => format!("WITH q AS (SELECT {value}::text AS one) SELECT one FROM q{rest}"),
        _ => format!("SELECT {value}::text FROM {from}{rest}"),
    }
}

fn query(dice: &mut Dice, depth: usize, width: Option<usize>) -> String {
    let targets = match width {
        Some(count) => {
            let one = |dice: &mut Dice| dice.pick(&["id", "x", "t.id", "t.x", "1", "(SELECT 1)"]);
            let all: Vec<String> = (0..count)
                .map(|_| match count {
                    1 => format!("{}::text", one(dice)),
                    _ => one(dice).to_owned(),
                })
                .collect();
            all.join(", ")
        }
        None => dice
            .pick(&[
                "*",
                "t.*",
                "t",
                "id",
                "x",
                "t.x",
                "count(*)",
                "1",
                "t.id AS x",
                "count(t)",
                "u.*",
                "t.ctid",
                "row(t.*)",
                "t.id + 1 AS n",
                "ctid",
            ])
            .to_owned(),
    };
    let from = from(dice, depth);
    let mut text = format!("SELECT {targets} FROM {from}");
    if dice.roll(2) == 0 {
        write!(text, " WHERE {}", query_part(dice, depth.saturating_sub(1))).unwrap();
    }
    if dice.roll(4) == 0 && width.is_none() {
        write!(
            text,
            " ORDER BY {}",
            dice.pick(&["id", "x", "t.id", "1", "n"])
        )
        .unwrap();
    }
    if dice.roll(8) == 0 {
        return format!("WITH q AS (SELECT id, x FROM b) {text}");
    }
    text
}

fn from(dice: &mut Dice, depth: usize) -> String {
    match dice.roll(if depth == 0 { 3 } else { 13 }) {
        0 => "a AS t".to_owned(),
        1 => "b t".to_owned(),
        2 => "w AS t".to_owned(),
        3 => "a t, b u".to_owned(),
        4 => "a t JOIN b u USING (id)".to_owned(),
        5 => "a t NATURAL JOIN b u".to_owned(),
        6 => format!("a t LEFT JOIN b u ON {}", query_part(dice, depth - 1)),
        7 => format!("({}) AS t", query(dice, depth - 1, Some(2))),
        8 => format!("a u, LATERAL ({}) AS t", query(dice, depth - 1, None)),
        9 => "q AS t".to_owned(),
        10 => "a AS t(x, id)".to_owned(),
        11 => dice
            .pick(&[
                "(a JOIN b USING (id)) AS t",
                "(a t JOIN c u ON true) AS j",
                "b AS t(one, ctid)",
                "a AS t(one, ctid, x)",
            ])
            .to_owned(),
        _ => format!(
            "b u JOIN ({}) AS t ON {}",
            query(dice, depth - 1, None),
            query_part(dice, 0)
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_column_that_is_not_named() {
    let name = "no_statement_reads_a_column_that_is_not_named";
    if let Some(what) = Postgres::missing() {
        return testkit::skip(name, &what);
    }
    let postgres = Postgres::start().unwrap();
    let (mut admin, catalog) = start(&postgres).await;
    let every: Vec<Right> = ["a", "b", "c", "v", "w"]
        .iter()
        .map(|table| Right {
            text: format!("ALL ON {table}"),
            needed: false,
        })
        .collect();
    let (mut valid, mut exact) = (0, 0);
    let mut wrong = String::new();
    for seed in 0..3_000_u64 {
        let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let text = statement(&mut dice);
        // What the server would not run in any case says nothing.
        if ask(&mut admin, &text, every.iter()).await.is_some() {
            continue;
        }
        valid += 1;
        let resolved = resolved(&text, &catalog);
        let rights = rights(&resolved);
        let answer = ask(&mut admin, &text, rights.iter()).await;
        if let Some(sqlstate) = answer {
            writeln!(wrong, "seed {seed}: {text}\n    {sqlstate} with {rights:?}").unwrap();
            continue;
        }
        let mut all_needed = true;
        for right in rights.iter().filter(|right| right.needed) {
            let others = rights.iter().filter(|other| *other != right);
            all_needed &= ask(&mut admin, &text, others).await.is_some();
        }
        exact += usize::from(all_needed);
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(valid > 500, "{valid}");
    // What nobody refers to, as some expressions of WITH here, PostgreSQL does not read:
    // 1280 of 1403 came out exactly when this was measured.
    assert!(exact * 10 > valid * 8, "{exact} of {valid}");
}
