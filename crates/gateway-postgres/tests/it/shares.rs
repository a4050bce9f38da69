//! How many sessions one may have, against a real database that has few.

use crate::client::Client;
use crate::plane::Svid;
use crate::world::{World, followed, skipped};
use gateway::Core;
use gateway_postgres::run_with;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

async fn refused(world: &World, svid: &Svid, part: &str) {
    let Err((sqlstate, message)) = Client::try_connect(world, svid, &[]).await else {
        panic!("there was a place for {}", svid.id);
    };
    assert_eq!(sqlstate, "53300", "{message}");
    assert!(message.contains(part), "{message}");
}

async fn sessions(world: &World, svid: &Svid, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        clients.push(Client::connect(world, svid).await);
    }
    clients
}

#[tokio::test(flavor = "multi_thread")]
async fn one_identity_does_not_take_every_connection_of_the_database() {
    if skipped("one_identity_does_not_take_every_connection_of_the_database") {
        return;
    }
    // 15, of which 3 are reserved and 2 the gateway's: ten, and five for each.
    let settings = ["max_connections = 15", "superuser_reserved_connections = 3"];
    let world = World::start_with(&settings, |_| {}).await;
    let payments = world.plane.issue("payments/api");
    let agent = world.plane.issue("agents/helper");
    let other = world.plane.issue("gateway/pg");
    let mut agents = sessions(&world, &agent, 5).await;
    refused(
        &world,
        &agent,
        "too many sessions of agents/helper in shop: max_sessions_per_identity allows 5",
    )
    .await;
    // Another SVID is the same identity.
    let again = world.plane.issue("agents/helper");
    refused(&world, &again, "GATEWAY-SESSIONS-IDENTITY").await;
    let held = sessions(&world, &payments, 5).await;
    // Now the database is full, and says no itself to nobody.
    refused(&world, &other, "GATEWAY-SESSIONS-DATABASE").await;
    for client in &mut agents {
        assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    }
    world.postgres.execute("shop", "SELECT 1").unwrap();
    // A place that is given back is there at once, though the database may count it for a moment yet.
    for _ in 0..20 {
        agents.pop();
        let connecting = async {
            loop {
                match Client::try_connect(&world, &agent, &[]).await {
                    Ok(client) => return client,
                    // The gateway has not seen the end of the one that was dropped.
                    Err((_, message)) => {
                        assert!(message.contains("GATEWAY-SESSIONS-IDENTITY"), "{message}");
                    }
                }
            }
        };
        agents.push(connecting.await);
    }
    drop((agents, held));
    assert!(!world.postgres.log().contains("too many clients"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_the_database_bears_is_not_promised() {
    if skipped("more_than_the_database_bears_is_not_promised") {
        return;
    }
    let settings = ["max_connections = 10", "superuser_reserved_connections = 3"];
    let world = World::start_with(&settings, |config| {
        config.listen.max_sessions_per_identity = Some(100);
        config.databases[0].max_sessions = Some(100);
    })
    .await;
    let payments = world.plane.issue("payments/api");
    let held = sessions(&world, &payments, 5).await;
    refused(&world, &payments, "allows 5").await;
    drop(held);
    // Somebody else has taken what there is: the client is told that it is the database which is full.
    let take = || {
        let mut psql = Command::new(testkit::tool("psql").unwrap());
        psql.args(["-XAtq", "-U", "trilith_gateway", "-d", "shop", "-h"])
            .arg(world.postgres.socket_folder())
            .args(["-c", "SELECT pg_sleep(60)"])
            .env("PGPASSWORD", "maintenance")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        psql.spawn().unwrap()
    };
    let mut others: Vec<_> = (0..8).map(|_| take()).collect();
    let full = async {
        for _ in 0..1_200 {
            if let Err(refused) = Client::try_connect(&world, &payments, &[]).await {
                return refused;
            }
            // A place that the sessions before still held is taken as soon as it is free.
            for other in &mut others {
                if other.try_wait().unwrap().is_some() {
                    *other = take();
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("there was always a place left");
    };
    let (sqlstate, message) = full.await;
    assert_eq!(sqlstate, "53300", "{message}");
    assert!(message.contains("GATEWAY-DATABASE-FULL"), "{message}");
    for mut other in others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_has_no_more_connections_past_the_gateway_either() {
    if skipped("a_role_has_no_more_connections_past_the_gateway_either") {
        return;
    }
    let world = World::start_with(&[], |config| {
        config.listen.max_sessions_per_identity = Some(2);
    })
    .await;
    let payments = world.plane.issue("payments/api");
    let held = sessions(&world, &payments, 1).await;
    let limits = "SELECT string_agg(DISTINCT rolconnlimit::text, ',') FROM pg_roles WHERE rolname LIKE 'trilith/%'";
    assert_eq!(world.postgres.execute("shop", limits).unwrap(), "2");
    // Whoever has learnt the role's password comes without asking the gateway.
    world
        .postgres
        .execute(
            "shop",
            "ALTER ROLE \"trilith/payments/api@pg-1/shop\" PASSWORD 'stolen'",
        )
        .unwrap();
    let direct = |sql: &str| {
        let mut psql = Command::new(testkit::tool("psql").unwrap());
        psql.args([
            "-XAtq",
            "-U",
            "trilith/payments/api@pg-1/shop",
            "-d",
            "shop",
            "-h",
        ])
        .arg(world.postgres.socket_folder())
        .args(["-c", sql])
        .env("PGPASSWORD", "stolen")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
        psql
    };
    let mut first = direct("SELECT pg_sleep(60)").spawn().unwrap();
    let busy =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'trilith/payments/api@pg-1/shop'";
    while world.postgres.execute("shop", busy).unwrap() != "2" {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let second = direct("SELECT 1").output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("too many connections for role"), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
    drop(held);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_exists_gets_the_limit_too() {
    if skipped("a_role_that_exists_gets_the_limit_too") {
        return;
    }
    let world = World::start_with(&[], |config| {
        config.listen.max_sessions_per_identity = Some(7);
    })
    .await;
    Client::connect(&world, &world.plane.issue("payments/api")).await;
    world
        .postgres
        .execute(
            "shop",
            "ALTER ROLE \"trilith/payments/api@pg-1/shop\" CONNECTION LIMIT -1",
        )
        .unwrap();
    // The next estate is an occasion to put everything right.
    world.apply(&crate::world::estate_without_cards()).await;
    let limit =
        "SELECT rolconnlimit FROM pg_roles WHERE rolname = 'trilith/payments/api@pg-1/shop'";
    for _ in 0..3_000 {
        if world.postgres.execute("shop", limit).unwrap() == "7" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(world.postgres.execute("shop", limit).unwrap(), "7");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_before_one_database_leave_each_other_alone() {
    if skipped("two_gateways_before_one_database_leave_each_other_alone") {
        return;
    }
    let mut world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let mut first = Client::connect(&world, &payments).await;
    let verifiers = "SELECT rolname, md5(rolpassword), rolconnlimit FROM pg_authid WHERE rolname LIKE 'trilith/payments/%' ORDER BY 1";
    let before = world.postgres.execute("shop", verifiers).unwrap();
    assert_eq!(before.lines().count(), 1, "{before}");

    let mut config = world.config.clone();
    config.gateway.name = "pg-2".to_owned();
    config.gateway.data_dir = world.folder.path().join("second");
    config.listen.max_sessions_per_identity = Some(3);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let core = Core::open(config.gateway.clone()).await.unwrap();
    followed(&core).await;
    let (stop, stopping) = watch::channel(false);
    let serving = Arc::clone(&core);
    let second = tokio::spawn(async move { run_with(&config, serving, listener, stopping).await });

    let one = std::mem::replace(&mut world.address, address);
    let mut other = Client::connect(&world, &payments).await;
    assert_eq!(other.simple("SELECT 1").await.unwrap(), ["1"]);
    let after = world.postgres.execute("shop", verifiers).unwrap();
    assert!(after.starts_with(&before), "{before}\n{after}");
    assert!(
        after
            .lines()
            .nth(1)
            .is_some_and(|role| role.ends_with("|3")),
        "{after}"
    );
    // Nor does the next estate: each looks after its own.
    world.apply(&crate::world::estate_without_cards()).await;
    for address in [one, address] {
        world.address = address;
        let mut client = Client::connect(&world, &payments).await;
        assert_eq!(client.simple("SELECT 1").await.unwrap(), ["1"]);
    }
    let then = world.postgres.execute("shop", verifiers).unwrap();
    assert_eq!(then, after);
    assert_eq!(first.simple("SELECT 1").await.unwrap(), ["1"]);
    stop.send(true).unwrap();
    second.await.unwrap().unwrap();
    drop(core);
    world.stop().await;
}
