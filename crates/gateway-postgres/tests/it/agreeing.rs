//! What is said of columns, by every question and by a decision point, is what the gateway does about statements that
//! touch them: over estates of any policies about tables and columns.

use crate::client::Client;
use crate::columns::RESOURCES;
use crate::world::{World, estate, skipped};
use estate::{Access, Action, Estate, EstateFiles, Request, ResourceRef};
use facts::{FactSet, Timestamp};
use pdp::{Decider, Known, Question};
use testkit::mutation::Random;

const ROUNDS: usize = 12;
const IDENTITIES: [&str; 2] = ["payments/api", "agents/helper"];
const COLUMNS: [(&str, &str); 4] = [
    ("cards", "id"),
    ("cards", "number"),
    ("orders", "id"),
    ("orders", "note"),
];

fn policy(number: usize, random: &mut Random) -> String {
    let mut of = |choices: &[&'static str]| choices[random.below(choices.len())];
    let effect = of(&["permit", "permit", "permit", "forbid"]);
    let principal = of(&[
        "principal == Identity::\"payments/api\"",
        "principal == Identity::\"agents/helper\"",
        "principal is Identity",
    ]);
    let action = of(&[
        "action == Action::\"select\"",
        "action in [Action::\"insert\", Action::\"update\"]",
        "action in [Action::\"select\", Action::\"insert\", Action::\"update\"]",
    ]);
    let resource = of(&[
        "resource == Table::\"shop/public/cards\"",
        "resource in Table::\"shop/public/cards\"",
        "resource in Table::\"shop/public/orders\"",
        "resource == Column::\"shop/public/cards/number\"",
        "resource == Column::\"shop/public/orders/note\"",
        "resource is Column",
        "resource is Table",
        "resource in Schema::\"shop/public\"",
        "resource",
    ]);
    let condition = of(&[
        "",
        "",
        "when { resource.classification == \"internal\" }",
        "unless { resource.classification == \"pii\" }",
    ]);
    format!("@id(\"p{number}\")\n{effect} ({principal}, {action}, {resource}) {condition};\n")
}

fn files(policies: &str) -> EstateFiles {
    let mut files = estate();
    let settings = files.0["estate.toml"].clone();
    files.insert("estate.toml", format!("columns = \"decided\"\n{settings}"));
    files.insert("resources/shop.toml", RESOURCES);
    files.insert("policies/shop.cedar", policies);
    files
}

/// It touches the one column, and by the one action: a condition of an update would select.
fn statement(action: Action, table: &str, column: &str) -> String {
    match action {
        Action::Select => format!("SELECT {column} FROM {table} LIMIT 0"),
        Action::Insert => format!("INSERT INTO {table} ({column}) SELECT NULL WHERE false"),
        _ => format!("UPDATE {table} SET {column} = NULL"),
    }
}

/// What the questions say: decided, explained, who can, what can, and at a decision point.
fn said(
    estate: &Estate,
    decider: &Decider,
    who: &str,
    action: Action,
    column: &ResourceRef,
) -> [bool; 5] {
    let facts = FactSet::new();
    let request = Request {
        principal: who,
        action,
        resource: column.clone(),
        facts: &facts,
    };
    let question = Question {
        subject: who.to_owned(),
        action,
        resource: column.clone(),
        facts: Known::Nothing,
        on_behalf_of: None,
    };
    let can = |accesses: Vec<Access>| {
        let mut accesses = accesses.iter();
        accesses.any(|one| one.identity == who && one.action == action && one.resource == *column)
    };
    let answered = decider.decide(&question, Timestamp::now()).unwrap();
    [
        estate.decide(&request).allow,
        estate.why(&request).decision.allow,
        can(estate.who_can(action, column).accesses),
        can(estate.what_can(who).accesses),
        answered.decision.allow,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_about_columns_are_what_the_gateway_decides() {
    if skipped("answers_about_columns_are_what_the_gateway_decides") {
        return;
    }
    let world = World::start().await;
    let mut clients = Vec::new();
    for who in IDENTITIES {
        let client = Client::connect(&world, &world.plane.issue(who)).await;
        clients.push((who, client));
    }
    let mut random = Random::new(20);
    // How often a statement was let through, and how often a column was denied for its table.
    let (mut through, mut of_table) = (0, 0);
    for _ in 0..ROUNDS {
        let policies: String = (0..6).map(|number| policy(number, &mut random)).collect();
        let files = files(&policies);
        let compiled = || {
            let compiled = Estate::compile(&files);
            compiled.unwrap_or_else(|problems| panic!("{problems:?}\n{policies}"))
        };
        let (estate, decider) = (compiled(), Decider::of(compiled()));
        world.apply(&files).await;
        for (who, client) in &mut clients {
            for (table, name) in COLUMNS {
                for action in [Action::Select, Action::Insert, Action::Update] {
                    let column = ResourceRef::table(format!("shop/public/{table}")).column(name);
                    let sql = statement(action, table, name);
                    let answer = client.simple(&sql).await;
                    // Whatever PostgreSQL says of it, the gateway has forwarded it.
                    let denied = matches!(&answer, Err((_, message))
                        if message.contains("permission denied by trilith"));
                    let said = said(&estate, &decider, who, action, &column);
                    assert_eq!(said, [!denied; 5], "{who}: {sql}: {answer:?}\n{policies}");
                    through += usize::from(!denied);
                    let facts = FactSet::new();
                    let decided = estate.decide(&Request {
                        principal: who,
                        action,
                        resource: column,
                        facts: &facts,
                    });
                    of_table += usize::from(decided.of_table.is_some());
                }
            }
        }
    }
    assert!(through > 10 && of_table > 5, "{through} {of_table}");
    world.stop().await;
}
