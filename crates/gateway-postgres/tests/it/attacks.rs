//! Attacks on DESIGN's invariants 1 and 5 through this gateway, and hostile bytes before and after
//! TLS. Each fails if the check that it is aimed at is removed.

use crate::client::{Client, message, startup, tls};
use crate::plane::Svid;
use crate::world::{World, skipped};
use crypto::{Algorithm, KeyPair};
use facts::Timestamp;
use ledger::{Checkpoint, LedgerSigner, Receipt};
use spiffe_core::{Serial, TrustDomain};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

async fn refused(world: &World, svid: &Svid, code: &str) {
    let Err((sqlstate, message)) = Client::try_connect(world, svid, &[]).await else {
        panic!("{code} was let in");
    };
    assert_eq!(sqlstate, "28000", "{message}");
    assert!(message.contains(code), "{message}");
}

/// What the thief of the CA key signs: `path` over a key of its own, with `receipt` or without.
fn forged(world: &World, path: &str, serial: Option<&str>, receipt: Option<&Receipt>) -> Svid {
    let now = Timestamp::now();
    let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
    let issuer = world.plane.authority.issuer(now).unwrap();
    let spiffe_id = TrustDomain::new(crate::plane::DOMAIN)
        .unwrap()
        .identity(path)
        .unwrap();
    let serial: Serial = serial.map_or_else(
        || Serial::from_random(crypto::random()),
        |text| text.parse().unwrap(),
    );
    let params = spiffe_core::LeafParams {
        spiffe_id: spiffe_id.clone(),
        public_key: crypto::Signer::public_key(key.as_ref()).clone(),
        serial,
        not_before: now.minus_secs(10),
        not_after: now.plus_secs(3600),
        dns_names: Vec::new(),
    };
    let tbs = issuer.leaf(&params).unwrap();
    let unsigned = receipt.map_or_else(
        || tbs.without_receipt(),
        |receipt| tbs.with_receipt(&receipt.encode().unwrap()),
    );
    let leaf = unsigned.sign(issuer.signer().as_ref()).unwrap();
    let receipt = receipt
        .cloned()
        .unwrap_or_else(|| world.plane.issue("payments/api").receipt);
    Svid {
        id: spiffe_id.to_string(),
        chain: vec![leaf, issuer.certificate().to_vec()],
        key,
        serial: serial.to_string(),
        receipt,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ca_key_alone_mints_nobody() {
    if skipped("the_ca_key_alone_mints_nobody") {
        return;
    }
    let world = World::start().await;
    let genuine = world.plane.issue("payments/api");
    Client::connect(&world, &genuine).await;
    refused(
        &world,
        &forged(&world, "payments/api", None, None),
        "SVID-RECEIPT-MISSING",
    )
    .await;
    let copied = forged(
        &world,
        "payments/api",
        Some(&genuine.serial),
        Some(&genuine.receipt),
    );
    refused(&world, &copied, "SVID-RECEIPT-KEY").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_under_a_forked_checkpoint_is_refused() {
    if skipped("a_receipt_under_a_forked_checkpoint_is_refused") {
        return;
    }
    let world = World::start().await;
    // The thief has the ledger's key as well, and keeps a history of his own for this one record.
    let folder = world.folder.path().join("server-keys");
    let custody = custody::FileCustody::open(&folder).unwrap();
    let signer = crypto::Custody::load(&custody, "ledger").unwrap().unwrap();
    let signer = LedgerSigner::new(&format!("{}/server", crate::plane::DOMAIN), signer).unwrap();
    let published = world.plane.ledger.reader().size();
    for size in [published, 3] {
        let mut svid = world.plane.issue_unpublished("payments/api");
        let mut receipt = svid.receipt.clone();
        // A tree of the same size whose last leaf is the thief's: every other leaf may stay.
        let mut frontier = ledger::Frontier::default();
        for index in 0..size - 1 {
            frontier.push(ledger::merkle::leaf_hash(&index.to_be_bytes()));
        }
        frontier.push(ledger::merkle::leaf_hash(&receipt.record));
        let checkpoint = Checkpoint {
            origin: signer.key().origin().clone(),
            size,
            root: frontier.root(),
        };
        receipt.index = size - 1;
        receipt.checkpoint = signer.sign(&checkpoint).unwrap();
        receipt.proof = proof_of_last(size);
        receipt.verify(signer.key()).expect("the fork is well made");
        // The certificate commits to its record, so it is signed again under the forged receipt.
        svid = resigned(&world, &svid, &receipt);
        let Err((sqlstate, message)) = Client::try_connect(&world, &svid, &[]).await else {
            panic!("the fork at {size} was let in");
        };
        assert_eq!(sqlstate, "28000");
        assert!(
            message.contains("FOLLOW-FORKED") || message.contains("FOLLOW-CHECKPOINT-UNKNOWN"),
            "{message}"
        );
    }
    world.stop().await;
}

/// Siblings of the last of `size` leaves that are the numbers 0, 1, ….
fn proof_of_last(size: u64) -> Vec<ledger::Hash> {
    fn root(from: u64, to: u64) -> ledger::Hash {
        let mut frontier = ledger::Frontier::default();
        for index in from..to {
            frontier.push(ledger::merkle::leaf_hash(&index.to_be_bytes()));
        }
        frontier.root()
    }
    fn path(from: u64, to: u64, out: &mut Vec<ledger::Hash>) {
        if to - from == 1 {
            return;
        }
        let mut half = 1;
        while half * 2 < to - from {
            half *= 2;
        }
        path(from + half, to, out);
        out.push(root(from, from + half));
    }
    let mut out = Vec::new();
    path(0, size, &mut out);
    out
}

/// The TBS without receipt of `svid` again, with `receipt`: what is in the record still matches.
fn resigned(world: &World, svid: &Svid, receipt: &Receipt) -> Svid {
    let issuance: ledger::body::Issuance = ledger::Record::parse(&receipt.record)
        .unwrap()
        .expect_body()
        .unwrap();
    let issuer = world.plane.authority.issuer(Timestamp::now()).unwrap();
    let params = spiffe_core::LeafParams {
        spiffe_id: svid.id.parse().unwrap(),
        public_key: crypto::Signer::public_key(svid.key.as_ref()).clone(),
        serial: svid.serial.parse().unwrap(),
        not_before: Timestamp::from_secs(issuance.not_before),
        not_after: Timestamp::from_secs(issuance.not_after),
        dns_names: Vec::new(),
    };
    let tbs = issuer.leaf(&params).unwrap();
    assert_eq!(tbs.sha256(), issuance.tbs.0, "the same certificate");
    let leaf = tbs
        .with_receipt(&receipt.encode().unwrap())
        .sign(issuer.signer().as_ref())
        .unwrap();
    Svid {
        chain: vec![leaf, issuer.certificate().to_vec()],
        receipt: receipt.clone(),
        ..svid.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_certificate_no_session() {
    if skipped("no_certificate_no_session") {
        return;
    }
    let world = World::start().await;
    let mut command = std::process::Command::new(testkit::tool("psql").unwrap());
    command.args(["-XAt", "-c", "SELECT 1"]).env_clear();
    for (name, value) in world.environment(&world.plane.issue("payments/api")) {
        if !name.starts_with("PGSSLCERT") && !name.starts_with("PGSSLKEY") {
            command.env(name, value);
        }
    }
    let output = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    assert!(!output.status.success());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cleartext_is_refused_and_tls_cannot_be_stuffed() {
    if skipped("cleartext_is_refused_and_tls_cannot_be_stuffed") {
        return;
    }
    let world = World::start().await;
    let mut tcp = TcpStream::connect(world.address).await.unwrap();
    tcp.write_all(&startup(&[("user", "postgres"), ("database", "shop")]))
        .await
        .unwrap();
    let mut said = Vec::new();
    tcp.read_to_end(&mut said).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("TLS only"));
    // CVE-2021-23214: what is sent in cleartext after the request must not count as said under TLS.
    let mut tcp = TcpStream::connect(world.address).await.unwrap();
    let mut stuffed = vec![0, 0, 0, 8, 4, 210, 22, 47];
    stuffed.extend(startup(&[("user", "x"), ("database", "shop")]));
    tcp.write_all(&stuffed).await.unwrap();
    let mut said = Vec::new();
    let _reset = tcp.read_to_end(&mut said).await;
    assert!(!said.windows(4).any(|window| window == b"shop"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_and_oversized_bytes_end_the_connection_and_nothing_else() {
    if skipped("malformed_and_oversized_bytes_end_the_connection_and_nothing_else") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    // Where bytes are left unread, the end may overtake what is said.
    for (bytes, told) in [
        (&[0xff; 64][..], ""),
        (&[0, 0, 0, 7, 1, 2, 3][..], ""),
        (&[0, 0, 0, 0][..], "08P01"),
        (
            &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2][..],
            "",
        ),
        (&[0, 0, 0, 9, 0, 3, 0, 0, 1][..], "08P01"),
        (&[0, 0, 0, 8, 0, 2, 0, 0][..], "08P01"),
    ] {
        let mut tcp = TcpStream::connect(world.address).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let mut said = Vec::new();
        let _reset = tcp.read_to_end(&mut said).await;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(told), "{bytes:?}: {said}");
    }
    for bytes in [
        b"Q\x7f\xff\xff\xff".to_vec(),
        b"Q\0\0\0\x03".to_vec(),
        message(b'Q', b"no end"),
        message(b'P', b"no end"),
        message(b'B', b""),
        message(b'E', b"x"),
        message(b'C', b""),
        message(b'C', b"?x\0"),
        message(b'?', b""),
        message(b'Q', b"SELECT '\xff'\0"),
    ] {
        let mut client = Client::connect(&world, &payments).await;
        client.send(&bytes).await;
        let mut sqlstate = String::new();
        while let Ok((tag, body)) = client.receive().await {
            if tag == b'E' {
                sqlstate = crate::client::error(&body).0;
            }
        }
        assert_eq!(sqlstate, "08P01", "{bytes:?}");
    }
    let mut tls = tls(&world, &payments).await.unwrap();
    // At its length, and not when its time is over.
    tls.write_all(&[0, 0, 0xff, 0xff]).await.unwrap();
    let mut said = Vec::new();
    let _reset = tls.read_to_end(&mut said).await;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("08P01"), "{said}");
    assert_eq!(world.psql(&payments, "SELECT 1;").await, "1\n");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_not_waited_for() {
    if skipped("who_says_nothing_is_not_waited_for") {
        return;
    }
    let world = World::start().await;
    // The world's handshake takes six seconds at most; without that limit this would never end.
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    slow.write_all(&[0, 0, 0]).await.unwrap();
    let mut unfinished = tls(&world, &world.plane.issue("payments/api"))
        .await
        .unwrap();
    let mut said = Vec::new();
    for stream in [&mut silent, &mut slow] {
        let _reset = stream.read_to_end(&mut said).await;
    }
    let _reset = unfinished.read_to_end(&mut said).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_parameters_that_change_the_rules_are_refused() {
    if skipped("startup_parameters_that_change_the_rules_are_refused") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    for (name, value) in [
        ("options", "-c session_preload_libraries=x"),
        ("options", "-c role=postgres"),
        ("options", "-c standard_conforming_strings=off"),
        ("client_encoding", "SJIS"),
        ("role", "postgres"),
        ("replication", "database"),
        ("search_path", "pg_temp, public"),
        ("row_security", "off"),
        // PostgreSQL cuts it to 63 bytes.
        ("search_path", &format!("{}, public", "l".repeat(64))),
        ("options", &format!("-c search_path={}", "l".repeat(64))),
        ("synchronous_commit", "off"),
        ("synchronous_commit", "LOCAL"),
        ("options", "-c synchronous_commit=remote_write"),
    ] {
        let Err((sqlstate, message)) =
            Client::try_connect(&world, &payments, &[(name, value)]).await
        else {
            panic!("{name}={value} was let in");
        };
        assert_eq!(sqlstate, "42501", "{name}={value}: {message}");
    }
    let mut client = Client::try_connect(
        &world,
        &payments,
        &[
            ("search_path", "pg_catalog, public"),
            ("options", "-c statement_timeout=9s"),
        ],
    )
    .await
    .unwrap();
    assert_eq!(
        client.simple("SHOW search_path").await.unwrap(),
        ["\"pg_catalog\", \"public\""]
    );
    assert_eq!(
        client.simple("SHOW statement_timeout").await.unwrap(),
        ["9s"]
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_not_admitted_holds_no_place_of_a_session() {
    if skipped("whoever_is_not_admitted_holds_no_place_of_a_session") {
        return;
    }
    let world = World::start().await;
    let payments = world.plane.issue("payments/api");
    let mut before = Client::connect(&world, &payments).await;
    // The world has 20 places for handshakes; beyond them the oldest gives way at once.
    let begun = std::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..30 {
        silent.push(TcpStream::connect(world.address).await.unwrap());
    }
    for stream in &mut silent[..10] {
        let _reset = stream.read(&mut [0]).await;
    }
    // And not when their time was over.
    let time = std::time::Duration::from_secs(world.config.listen.handshake_timeout_s);
    assert!(begun.elapsed() < time, "{:?}", begun.elapsed());
    assert_eq!(before.simple("SELECT 1").await.unwrap(), ["1"]);
    for mut stream in silent {
        let _reset = stream.read_to_end(&mut Vec::new()).await;
    }
    Client::connect(&world, &payments).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_another_encoding_is_refused() {
    if skipped("a_database_in_another_encoding_is_refused") {
        return;
    }
    let world = World::start().await;
    world
        .postgres
        .execute(
            "postgres",
            "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        )
        .unwrap();
    let mut config = world.config.clone();
    config.databases[0].database = "latin".to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_stop, stopping) = tokio::sync::watch::channel(false);
    let running = gateway_postgres::run_with(&config, Arc::clone(&world.core), listener, stopping);
    let refused = tokio::time::timeout(std::time::Duration::from_secs(60), running)
        .await
        .expect("it does not run");
    let Err(gateway_postgres::RunError::Refused(finding)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(finding.code, "GATEWAY-ENCODING");
    assert_eq!(finding.observed.as_deref(), Some("LATIN1"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_that_double_at_each_level_are_decided_on_as_fast_as_others() {
    if skipped("views_that_double_at_each_level_are_decided_on_as_fast_as_others") {
        return;
    }
    let world = World::start().await;
    let mut views = String::from("CREATE VIEW v0 AS SELECT number FROM cards;");
    for level in 1..=40 {
        let below = level - 1;
        views.push_str(&format!(
            "CREATE VIEW v{level} AS SELECT a.number FROM v{below} a, v{below} b;"
        ));
    }
    world.postgres.execute("shop", &views).unwrap();
    let mut client = Client::connect(&world, &world.plane.issue("agents/helper")).await;
    // The database would not come to an end of what it names.
    let mut said = String::new();
    for _ in 0..1_200 {
        let refused = client.simple("SELECT * FROM v40").await.unwrap_err();
        assert_eq!(refused.0, "42501");
        said = refused.1;
        // Until the catalogue is read again, the view is one that nobody knows.
        if said.contains("cards") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let on_cards = "select on Table::\"shop/public/cards\"";
    assert!(said.contains(on_cards), "{said}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_in_one_message_is_denied_with_what_to_do() {
    if skipped("too_much_in_one_message_is_denied_with_what_to_do") {
        return;
    }
    let world = World::start().await;
    let mut client = Client::connect(&world, &world.plane.issue("payments/api")).await;
    let before = world.records("\"type\":\"intent\"").len();
    for (text, code) in [
        ("SELECT 1;".repeat(100_000), "SQL-TOO-MANY"),
        (format!("SELECT {}1", "1,".repeat(100_000)), "SQL-TOO-MUCH"),
    ] {
        let (sqlstate, said) = client.simple(&text).await.unwrap_err();
        assert_eq!(sqlstate, "42501");
        assert!(
            said.contains(code) && said.contains("gateway.toml"),
            "{said}"
        );
        let (sqlstate, said) = client.parse("", &text).await.unwrap_err();
        assert_eq!(sqlstate, "42501");
        assert!(said.contains(code), "{said}");
    }
    assert_eq!(world.records("\"type\":\"intent\"").len(), before);
    // What people send passes.
    let rows = vec!["('a note of some words')"; 2_000].join(",\n");
    let insert = format!("INSERT INTO orders (note) VALUES {rows}");
    client.simple(&insert).await.unwrap();
    client.simple(&"SELECT 1;".repeat(500)).await.unwrap();
    let kept = client.simple("SELECT count(*) FROM orders").await;
    assert_eq!(kept.unwrap(), ["2002"]);
    world.stop().await;
}
