//! Sessions that act for others: what a chain may do, what its records say, and attacks on saying it.

use crate::client::Client;
use crate::plane::Svid;
use crate::world::{World, estate, skipped};
use estate::EstateFiles;
use gateway::Delegation;

const PEOPLE: &str = r#"
[[identity]]
path = "people/ada"
kind = "person"
owner = "people team"
login = { issuer = "https://login.example.org", subject = "ada-1" }
[[identity]]
path = "people/bob"
kind = "person"
owner = "people team"
login = { issuer = "https://login.example.org", subject = "bob-1" }
[[identity]]
path = "people/eve"
kind = "person"
owner = "people team"
login = { issuer = "https://login.example.org", subject = "eve-1" }
[[identity]]
path = "agents/front"
kind = "ai-agent"
owner = "support"
"#;

const DELEGATIONS: &str = r#"
[[delegation]]
id = "ada works through the helper"
from = 'Identity::"people/ada"'
to = 'Identity::"agents/helper"'
max_ttl = "15m"
[[delegation]]
id = "ada works through the front"
from = 'Identity::"people/ada"'
to = 'Identity::"agents/front"'
actions = ["select"]
resources = ['Table::"shop/public/products"']
max_hops = 2
max_ttl = "15m"
[[delegation]]
id = "the front asks the helper"
from = 'Identity::"agents/front"'
to = 'Identity::"agents/helper"'
max_ttl = "15m"
[[delegation]]
id = "bob works through the helper"
from = 'Identity::"people/bob"'
to = 'Identity::"agents/helper"'
max_ttl = "15m"
"#;

/// The helper may read cards and orders, Ada cards, Bob neither.
const POLICIES: &str = r#"
@id("the helper reads")
permit (principal == Identity::"agents/helper", action == Action::"select",
  resource in Schema::"shop/public");
@id("ada reads cards")
permit (principal == Identity::"people/ada", action == Action::"select", resource == Table::"shop/public/cards");
"#;

pub(crate) fn people() -> EstateFiles {
    let mut files = estate();
    files.insert("identities/people.toml", PEOPLE);
    files.insert("delegations/people.toml", DELEGATIONS);
    files.insert("policies/people.cedar", POLICIES);
    files
}

/// Front may read cards as well, from a machine that joined by a TPM.
pub(crate) fn fronted() -> EstateFiles {
    let mut files = people();
    let path = "path = \"agents/front\"\n";
    let visible = format!("{path}visible = [\"machine.join\"]\n");
    files.insert("identities/people.toml", PEOPLE.replace(path, &visible));
    let products = "resources = ['Table::\"shop/public/products\"']\n";
    files.insert("delegations/people.toml", DELEGATIONS.replace(products, ""));
    let policy = "@id(\"front reads cards by tpm\")\n\
         permit (principal == Identity::\"agents/front\", action == Action::\"select\", resource == Table::\"shop/public/cards\")\n\
         when { context has machine && context.machine has join && context.machine.join == \"tpm\" };\n";
    files.insert("policies/people.cedar", format!("{POLICIES}{policy}"));
    files
}

async fn world() -> (World, Svid) {
    world_of(&people(), Delegation::Claimed).await
}

pub(crate) async fn world_of(files: &EstateFiles, delegation: Delegation) -> (World, Svid) {
    let world = World::start_with(&[], |config| config.delegation = delegation).await;
    world.apply(files).await;
    // The database enforces it as well, a moment later.
    let granted = "SELECT bool_and(has_table_privilege('trilith/agents/helper@pg-1/shop', t, 'SELECT')) FROM unnest(ARRAY['cards', 'orders', 'products']) t";
    for _ in 0..6_000 {
        if world
            .postgres
            .execute("shop", granted)
            .is_ok_and(|said| said == "t")
        {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let helper = world.plane.issue("agents/helper");
    (world, helper)
}

pub(crate) fn acting(chain: &str) -> String {
    format!("-c trilith.on_behalf_of={chain}")
}

async fn connect(world: &World, svid: &Svid, chain: &str) -> Client {
    let options = acting(chain);
    let connected = Client::try_connect(world, svid, &[("options", &options)]).await;
    connected.unwrap_or_else(|(sqlstate, said)| panic!("{chain}: {sqlstate} {said}"))
}

pub(crate) async fn refused(world: &World, svid: &Svid, more: &[(&str, &str)], code: &str) {
    match Client::try_connect(world, svid, more).await {
        Ok(_) => panic!("{more:?} was let in"),
        Err((sqlstate, said)) => {
            assert_eq!(sqlstate, "28000", "{said}");
            assert!(said.contains(code), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_what_each_of_its_chain_may() {
    if skipped("a_session_may_what_each_of_its_chain_may") {
        return;
    }
    let (world, helper) = world().await;
    let mut alone = Client::connect(&world, &helper).await;
    for table in ["cards", "orders", "products"] {
        let count = format!("SELECT count(*) FROM {table}");
        alone.simple(&count).await.unwrap();
    }
    let mut for_ada = connect(&world, &helper, "people/ada").await;
    assert_eq!(
        for_ada.simple("SELECT count(*) FROM cards").await.unwrap(),
        ["50"]
    );
    let (sqlstate, said) = for_ada.simple("SELECT note FROM orders").await.unwrap_err();
    assert_eq!(sqlstate, "42501");
    assert!(
        said.contains("POLICY-NONE") && said.contains("people/ada may not"),
        "the hop is named: {said}"
    );
    // What the person may and the agent may not is as little allowed.
    let mut for_bob = connect(&world, &helper, "spiffe://example.org/people/bob").await;
    let denied = for_bob.simple("SELECT number FROM cards").await;
    assert!(denied.unwrap_err().1.contains("people/bob may not"));
    // Over two delegations, each within what it was granted for.
    let mut far = connect(&world, &helper, "people/ada,agents/front").await;
    assert_eq!(
        far.simple("SELECT count(*) FROM products").await.unwrap(),
        ["1000"]
    );
    let (_, said) = far.simple("SELECT number FROM cards").await.unwrap_err();
    assert!(
        said.contains("DELEGATION-GRANT") && said.contains("agents/front"),
        "{said}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_says_for_whom_it_acts_and_every_record_repeats_it() {
    if skipped("psql_says_for_whom_it_acts_and_every_record_repeats_it") {
        return;
    }
    let (world, helper) = world().await;
    let mut command = std::process::Command::new(testkit::tool("psql").unwrap());
    command
        .args(["-XAt", "-v", "VERBOSITY=verbose"])
        .args([
            "-c",
            "SELECT count(*) FROM cards",
            "-c",
            "SELECT note FROM orders",
        ])
        .args(["-c", "SHOW trilith.on_behalf_of"])
        .envs(world.environment(&helper))
        .env("PGOPTIONS", acting("people/ada"));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let (rows, said) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(rows.trim(), "50", "{said}");
    assert!(
        said.contains("--on-behalf-of people/ada") && said.contains("people/ada may not"),
        "{said}"
    );
    let ada = r#""claimed_on_behalf_of":["spiffe://example.org/people/ada"]"#;
    for part in [
        r#""type":"session-start""#,
        r#""type":"intent""#,
        r#""type":"decision""#,
    ] {
        let records = world.recorded(part).await;
        assert!(
            records.iter().all(|record| record.contains(ada)),
            "{part}: {records:?}"
        );
    }
    // One who acts for nobody says nothing.
    let mut alone = Client::connect(&world, &helper).await;
    alone.simple("SELECT count(*) FROM orders").await.unwrap();
    let orders = world.recorded("shop/public/orders").await;
    let (of_ada, own): (Vec<_>, Vec<_>) = orders.iter().partition(|record| record.contains(ada));
    assert_eq!((of_ada.len(), own.len()), (1, 1), "{orders:?}");
    assert!(!own[0].contains("behalf"), "{own:?}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_acts_by_a_chain_that_is_not_its_own() {
    if skipped("nobody_acts_by_a_chain_that_is_not_its_own") {
        return;
    }
    let (world, helper) = world().await;
    let payments = world.plane.issue("payments/api");
    // A chain that others may use, and one that ends with them.
    for (chain, code) in [
        ("people/ada", "DELEGATION-NONE"),
        ("people/ada,agents/helper", "DELEGATION-HOPS"),
        ("people/ada,agents/front", "DELEGATION-NONE"),
    ] {
        let options = acting(chain);
        refused(&world, &payments, &[("options", &options)], code).await;
    }
    let cases = [
        ("people/eve", "DELEGATION-NONE"),
        ("people/nobody", "DELEGATION-NONE"),
        ("payments/api", "DELEGATION-NONE"),
        ("people/ada,people/bob", "DELEGATION-TO-PERSON"),
        // Granted from the front on, and from Ada to the front: not so far as this.
        ("people/bob,people/ada,agents/front", "DELEGATION"),
        ("agents/helper", "DELEGATION-CHAIN"),
        ("people/ada,people/ada", "DELEGATION-CHAIN"),
        ("spiffe://other.org/people/ada", "DELEGATION-CLAIM"),
        ("people/ada,", "DELEGATION-CLAIM"),
        ("", "DELEGATION-CLAIM"),
    ];
    for (chain, code) in cases {
        let options = acting(chain);
        refused(&world, &helper, &[("options", &options)], code).await;
    }
    // Nobody came in, so nobody's session began.
    assert!(world.records("session-start").is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_said_once_and_within_bounds() {
    if skipped("a_chain_is_said_once_and_within_bounds") {
        return;
    }
    let (world, helper) = world().await;
    let ada = acting("people/ada");
    let both = format!("{ada} {}", acting("people/bob"));
    refused(&world, &helper, &[("options", &both)], "DELEGATION-TWICE").await;
    let apart = [("trilith.on_behalf_of", "people/ada"), ("options", &ada)];
    refused(&world, &helper, &apart, "DELEGATION-TWICE").await;
    let twice = [("options", ada.as_str()), ("options", ada.as_str())];
    refused(&world, &helper, &twice, "DELEGATION-TWICE").await;
    let long = acting(&format!("people/{}", "a".repeat(2_000)));
    refused(&world, &helper, &[("options", &long)], "DELEGATION-CLAIM").await;
    // Beyond what a startup may be, nothing of it is read.
    let endless = acting(&"a".repeat(20_000));
    let (sqlstate, _) = Client::try_connect(&world, &helper, &[("options", &endless)])
        .await
        .err()
        .unwrap();
    assert_eq!(sqlstate, "08P01");
    // As a parameter of its own, as drivers other than libpq send it.
    let said = [("trilith.on_behalf_of", "people/ada")];
    let mut client = Client::try_connect(&world, &helper, &said).await.unwrap();
    assert!(client.simple("SELECT note FROM orders").await.is_err());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_changes_for_whom_a_session_acts() {
    if skipped("no_statement_changes_for_whom_a_session_acts") {
        return;
    }
    let (world, helper) = world().await;
    let mut client = connect(&world, &helper, "people/ada").await;
    for attempt in [
        "SET trilith.on_behalf_of = ''",
        "SET SESSION trilith.on_behalf_of TO 'people/bob'",
        "SET LOCAL trilith.on_behalf_of = 'people/bob'",
        "RESET trilith.on_behalf_of",
        "SELECT set_config('trilith.on_behalf_of', '', false)",
        "BEGIN; SET LOCAL trilith.on_behalf_of = ''; SELECT note FROM orders",
    ] {
        let (sqlstate, said) = client.simple(attempt).await.unwrap_err();
        assert_eq!(sqlstate, "42501", "{attempt}: {said}");
    }
    // What a pool sends between two of its users leaves the chain as it is.
    for clean in ["ROLLBACK", "RESET ALL", "DISCARD ALL"] {
        let _either = client.simple(clean).await;
        assert!(
            client.simple("SELECT note FROM orders").await.is_err(),
            "{clean}"
        );
    }
    // And nobody begins to act for somebody in the middle, so that records before and after would differ.
    let mut alone = Client::connect(&world, &helper).await;
    let (_, said) = alone
        .simple("SET trilith.on_behalf_of = 'people/ada'")
        .await
        .unwrap_err();
    assert!(
        said.contains("SQL-SETTING") && said.contains("when it begins"),
        "{said}"
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verdict_of_another_session_is_not_taken_over() {
    if skipped("a_verdict_of_another_session_is_not_taken_over") {
        return;
    }
    let (world, helper) = world().await;
    let mut alone = Client::connect(&world, &helper).await;
    let mut for_ada = connect(&world, &helper, "people/ada").await;
    let text = "PREPARE q AS SELECT note FROM orders WHERE id = 1";
    // Prepared and run by one who may, again and again, and by one whose chain may not in between.
    alone.simple(text).await.unwrap();
    for _ in 0..3 {
        assert_eq!(alone.simple("EXECUTE q").await.unwrap(), ["first"]);
        assert!(for_ada.simple(text).await.is_err());
        assert!(for_ada.simple("EXECUTE q").await.is_err());
    }
    let cards = "PREPARE c AS SELECT count(*) FROM cards";
    for client in [&mut alone, &mut for_ada] {
        client.simple(cards).await.unwrap();
        assert_eq!(client.simple("EXECUTE c").await.unwrap(), ["50"]);
    }
    // What is kept of a statement goes when Ada's right goes, and only for those who act for her.
    let mut files = people();
    let without = POLICIES.replace("people/ada", "people/eve");
    files.insert("policies/people.cedar", without);
    world.apply(&files).await;
    assert_eq!(alone.simple("EXECUTE c").await.unwrap(), ["50"]);
    let (_, said) = for_ada.simple("EXECUTE c").await.unwrap_err();
    assert!(said.contains("people/ada may not"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_the_estate_takes_its_delegation_away() {
    if skipped("a_session_ends_when_the_estate_takes_its_delegation_away") {
        return;
    }
    let (world, helper) = world().await;
    let mut for_ada = connect(&world, &helper, "people/ada").await;
    let mut for_bob = connect(&world, &helper, "people/bob").await;
    for_ada.simple("SELECT 1").await.unwrap();
    let mut files = people();
    let without = DELEGATIONS.replace("people/ada", "people/eve");
    files.insert("delegations/people.toml", without);
    world.apply(&files).await;
    let ended = world.recorded(r#""reason":"delegation""#).await;
    assert_eq!(ended.len(), 1, "{ended:?}");
    let gone = tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while for_ada.receive().await.is_ok() {}
    });
    gone.await.expect("the socket is closed");
    assert_eq!(for_bob.simple("SELECT 1").await.unwrap(), ["1"]);
    let options = acting("people/ada");
    refused(&world, &helper, &[("options", &options)], "DELEGATION-NONE").await;
    world.stop().await;
}
