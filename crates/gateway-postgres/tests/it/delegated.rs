//! Sessions that act for others by a delegation token: whose it is, how long it counts, and attacks on it.

use crate::acting::{acting, fronted, people, refused, world_of};
use crate::client::Client;
use crate::plane::Svid;
use crate::world::{World, skipped};
use facts::Timestamp;
use gateway::Delegation;
use ledger::body::{FactValue, TargetKind};
use spiffe_core::delegation::Narrowed;
use std::collections::BTreeMap;
use std::time::Duration;

fn by(token: &str) -> String {
    format!("-c trilith.delegation={token}")
}

async fn world() -> (World, Svid) {
    world_of(&people(), Delegation::default()).await
}

async fn connect(world: &World, svid: &Svid, token: &str) -> Client {
    let options = by(token);
    let connected = Client::try_connect(world, svid, &[("options", &options)]).await;
    connected.unwrap_or_else(|(sqlstate, said)| panic!("{sqlstate} {said}"))
}

/// Waits until the gateway has closed the client's socket.
async fn closed(client: &mut Client) {
    let gone = async { while client.receive().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), gone)
        .await
        .expect("the socket is closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_chain_decides_and_its_records_name_each_delegation() {
    if skipped("a_proven_chain_decides_and_its_records_name_each_delegation") {
        return;
    }
    let (world, helper) = world().await;
    let chain = ["people/ada", "agents/helper"];
    let (token, jtis) = world.plane.delegate(&chain, 900, &Narrowed::default());
    let mut client = connect(&world, &helper, &token).await;
    assert_eq!(
        client.simple("SELECT count(*) FROM cards").await.unwrap(),
        ["50"]
    );
    let (_, said) = client.simple("SELECT note FROM orders").await.unwrap_err();
    assert!(said.contains("people/ada may not"), "{said}");
    let proven = format!(
        r#""on_behalf_of":[{{"spiffe_id":"spiffe://example.org/people/ada","jti":"{}"}}]"#,
        jtis[0]
    );
    for part in [
        r#""type":"session-start""#,
        r#""type":"intent""#,
        r#""type":"decision""#,
    ] {
        for record in world.recorded(part).await {
            assert!(
                record.contains(&proven) && !record.contains("claimed_on_behalf_of"),
                "{record}"
            );
        }
    }
    // The token itself is nowhere.
    assert!(world.records(&token).is_empty());
    // Over two links, and only within what the token was narrowed to.
    let chain = ["people/ada", "agents/front", "agents/helper"];
    let narrow = Narrowed {
        actions: Some(vec!["select".to_owned()]),
        resources: Some(vec!["Table::\"shop/public/products\"".to_owned()]),
    };
    let (token, _) = world.plane.delegate(&chain, 900, &narrow);
    let mut client = connect(&world, &helper, &token).await;
    let count = "SELECT count(*) FROM products";
    assert_eq!(client.simple(count).await.unwrap(), ["1000"]);
    let chain = ["people/ada", "agents/helper"];
    let (token, _) = world.plane.delegate(&chain, 900, &narrow);
    let mut client = connect(&world, &helper, &token).await;
    let (_, said) = client
        .simple("SELECT count(*) FROM cards")
        .await
        .unwrap_err();
    assert!(said.contains("DELEGATION-SCOPE"), "{said}");
    world.stop().await;
}

/// Front may read cards from a machine that joined by a TPM. The helper's has, and that is not front's.
#[tokio::test(flavor = "multi_thread")]
async fn who_delegated_on_may_what_its_own_facts_let_it() {
    if skipped("who_delegated_on_may_what_its_own_facts_let_it") {
        return;
    }
    let (world, helper) = world_of(&fronted(), Delegation::default()).await;
    let chain = ["people/ada", "agents/front", "agents/helper"];
    let joined = |how: &str| {
        let how = FactValue::Text(how.to_owned());
        BTreeMap::from([("machine.join".to_owned(), how)])
    };
    let wide = Narrowed::default();
    let (token, jtis) = world.plane.delegate_by(&chain, 900, &wide, &joined("tpm"));
    let mut client = connect(&world, &helper, &token).await;
    let count = "SELECT count(*) FROM cards";
    assert_eq!(client.simple(count).await.unwrap(), ["50"]);
    let named = format!("\"jti\":\"{}\",\"issuance\":\"", jtis[1]);
    let starts = world.recorded(r#""type":"session-start""#).await;
    assert!(
        starts.iter().all(|record| record.contains(&named)),
        "{starts:?}"
    );
    let (token, _) = world
        .plane
        .delegate_by(&chain, 900, &wide, &joined("token"));
    let mut client = connect(&world, &helper, &token).await;
    let (_, said) = client.simple(count).await.unwrap_err();
    assert!(said.contains("agents/front may not"), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_with_its_delegate_and_as_it_was_signed() {
    if skipped("a_token_counts_with_its_delegate_and_as_it_was_signed") {
        return;
    }
    let (world, helper) = world().await;
    let chain = ["people/ada", "agents/helper"];
    let (token, _) = world.plane.delegate(&chain, 900, &Narrowed::default());
    // Stolen.
    let front = world.plane.issue("agents/front");
    let options = by(&token);
    let said = [("options", options.as_str())];
    refused(&world, &front, &said, "DELEGATION-TOKEN-PRESENTER").await;
    // Beside a chain that widens what it says, in either order.
    for both in [
        format!("{options} {}", acting("people/bob")),
        format!("{} {options}", acting("people/bob")),
        format!("{options} {options}"),
    ] {
        refused(&world, &helper, &[("options", &both)], "DELEGATION-TWICE").await;
    }
    // The word of whoever connects is no proof, and is taken where nobody asks for one.
    let told = acting("people/ada");
    refused(&world, &helper, &[("options", &told)], "DELEGATION-CLAIMED").await;
    // Changed.
    let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
    let last = parts[2].pop().unwrap();
    parts[2].insert(0, last);
    let forged = by(&parts.join("."));
    refused(&world, &helper, &[("options", &forged)], "DELEGATION-TOKEN").await;
    for garbage in ["", "e30.e30.AA", "..", "x"] {
        let options = by(garbage);
        let said = [("options", options.as_str())];
        refused(&world, &helper, &said, "DELEGATION-TOKEN-PARSE").await;
    }
    // Of one whom nobody lets act: what is signed is no right.
    let chain = ["people/eve", "agents/helper"];
    let (token, _) = world.plane.delegate(&chain, 900, &Narrowed::default());
    let options = by(&token);
    refused(&world, &helper, &[("options", &options)], "DELEGATION-NONE").await;
    assert!(world.records("session-start").is_empty());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_that_ends_ends_its_session() {
    if skipped("a_delegation_that_ends_ends_its_session") {
        return;
    }
    let (world, helper) = world().await;
    let chain = ["people/ada", "agents/helper"];
    let (token, _) = world.plane.delegate(&chain, 3, &Narrowed::default());
    let began = Timestamp::now();
    let mut client = connect(&world, &helper, &token).await;
    client.simple("SELECT count(*) FROM cards").await.unwrap();
    closed(&mut client).await;
    assert!(
        began.plus_secs(2) <= Timestamp::now(),
        "it was not cut early"
    );
    let ended = world.recorded(r#""reason":"delegation""#).await;
    assert_eq!(ended.len(), 1, "{ended:?}");
    let options = by(&token);
    let said = [("options", options.as_str())];
    refused(&world, &helper, &said, "DELEGATION-TOKEN-EXPIRED").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_that_is_revoked_cuts_all_that_rest_on_it() {
    if skipped("a_delegation_that_is_revoked_cuts_all_that_rest_on_it") {
        return;
    }
    let (world, helper) = world().await;
    let far = ["people/ada", "agents/front", "agents/helper"];
    let near = ["people/ada", "agents/helper"];
    let (far_token, far_jtis) = world.plane.delegate(&far, 900, &Narrowed::default());
    let (near_token, near_jtis) = world.plane.delegate(&near, 900, &Narrowed::default());
    let mut by_far = connect(&world, &helper, &far_token).await;
    let mut by_near = connect(&world, &helper, &near_token).await;
    let mut alone = Client::connect(&world, &helper).await;
    // The first link of the longer chain: what rests on it falls, and nothing else.
    world.plane.revoke(TargetKind::Serial, &far_jtis[0]);
    closed(&mut by_far).await;
    assert_eq!(by_near.simple("SELECT 1").await.unwrap(), ["1"]);
    let options = by(&far_token);
    let said = [("options", options.as_str())];
    refused(&world, &helper, &said, "DELEGATION-TOKEN-REVOKED").await;
    let ended = world.recorded(r#""reason":"delegation""#).await;
    assert_eq!(ended.len(), 1, "{ended:?}");
    // One that is in the middle of something.
    by_near
        .send(&crate::client::message(
            b'Q',
            b"SELECT count(*) FROM generate_series(1, 2000000000)\0",
        ))
        .await;
    world.plane.revoke(TargetKind::Serial, &near_jtis[0]);
    closed(&mut by_near).await;
    assert_eq!(alone.simple("SELECT 1").await.unwrap(), ["1"]);
    // A person whose identity is revoked takes her delegations with her.
    let (token, _) = world.plane.delegate(&near, 900, &Narrowed::default());
    let mut again = connect(&world, &helper, &token).await;
    world.plane.revoke(TargetKind::Identity, "people/ada");
    closed(&mut again).await;
    assert_eq!(alone.simple("SELECT 1").await.unwrap(), ["1"]);
    world.stop().await;
}
