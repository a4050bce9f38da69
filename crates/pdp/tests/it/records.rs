//! The questions to records over HTTP: paged, streamed, recorded, and asked of ledgers that are only read.

use crate::ask::lines;
use crate::ledgers::{
    For, World as Ledger, acting, intent, issuance, session, shop_files, without,
};
use crate::world::{World, this_process};
use ledger::RecordType;
use pdp::records::Kind;
use pdp::{RecordsConfig, Right};
use serde_json::{Value, json};
use std::path::Path;

const CARDS: &str = "shop/public/cards";

/// A server's ledger with an estate, and a gateway's with twelve accesses.
fn ledgers() -> (Ledger, Ledger) {
    let mut server = Ledger::new("server");
    server.apply(&without(&shop_files(), "payments reads cards"), "uid:0");
    server.apply(&shop_files(), "uid:7");
    let api = server.put(issuance("payments/api", "m1", "aa"));
    let mut gateway = Ledger::new("pg-1");
    gateway.put(session("s1", "payments/api", Some(api)));
    for _ in 0..10 {
        gateway.put(intent("s1", "payments/api", "select", &[CARDS], false));
    }
    let ada = For::Told(&["people/ada"]);
    let (read, refused) = ([("select", CARDS)], [("update", "shop/public/orders")]);
    acting(
        &mut gateway,
        "told",
        ("payments/api", api),
        &ada,
        &read,
        &refused,
    );
    (server, gateway)
}

async fn world(server: &Ledger, gateway: &Ledger, may: &[Right]) -> World {
    let folders = vec![server.path().to_owned(), gateway.path().to_owned()];
    World::configured(|config| {
        config.processes = vec![this_process(may)];
        config.records = Some(RecordsConfig {
            folders,
            index: None,
        });
    })
    .await
}

async fn paged(world: &World, kind: Kind, body: &Value, limit: u64) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), Value::Null);
    loop {
        let mut body = body.clone();
        body["limit"] = json!(limit);
        if !after.is_null() {
            body["after"] = after;
        }
        let (status, page) = world.post(kind.path(), &body).await;
        assert_eq!(status, 200, "{page}");
        let lines = page["lines"].as_array().unwrap().clone();
        assert_eq!(page["page"]["count"], lines.len());
        assert!(lines.len() as u64 <= limit);
        found.extend(lines);
        after = page["page"]["next"].clone();
        if after.is_null() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_streams_of_records_come_to_the_same() {
    let (server, gateway) = ledgers();
    let world = world(&server, &gateway, &[Right::Records]).await;
    let month = json!(1);
    for (kind, body, most) in [
        (Kind::Search, json!({"resource": CARDS}), 12),
        (Kind::Search, json!({"on_behalf_of": "people/ada"}), 5),
        (Kind::Accesses, json!({}), 3),
        (Kind::History, json!({"resource": CARDS}), 1),
        (Kind::Unused, json!({"since": month}), 5),
        (
            Kind::Replay,
            json!({"files": without(&shop_files(), "payments reads cards").0, "since": month}),
            2,
        ),
    ] {
        let (status, whole) = world.post(kind.path(), &body).await;
        assert_eq!(status, 200, "{whole}");
        let all = whole["lines"].as_array().unwrap().clone();
        assert!(!all.is_empty(), "{kind:?}: {whole}");
        if kind != Kind::Unused {
            assert_eq!(all.len(), most, "{kind:?}: {whole}");
        }
        assert!(whole["page"]["next"].is_null());
        assert_eq!(whole["searched"].as_array().unwrap().len(), 2);
        for limit in [1, 2, 5] {
            assert_eq!(paged(&world, kind, &body, limit).await, all, "{kind:?}");
        }
        let streamed = lines(&world, kind.path(), &body).await;
        let (end, told) = streamed.split_last().unwrap();
        assert_eq!(told, all, "{kind:?}");
        assert_eq!(end["end"]["count"], all.len());
        assert!(end["end"]["next"].is_null(), "{end}");
        assert_eq!(end["end"]["summary"], whole["summary"]);
        // Cut, it says where it goes on, in a stream as well.
        let mut cut = body.clone();
        cut["limit"] = json!(1);
        let cut = lines(&world, kind.path(), &cut).await;
        assert_eq!(cut.len(), 2, "{cut:?}");
        if all.len() > 1 {
            let mut rest = body.clone();
            rest["after"] = cut[1]["end"]["next"].clone();
            let rest = lines(&world, kind.path(), &rest).await;
            assert_eq!(rest[..rest.len() - 1], all[1..], "{kind:?}");
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_say_what_the_ledgers_say() {
    let (server, gateway) = ledgers();
    let world = world(&server, &gateway, &[Right::Records]).await;
    let ask = |kind: Kind, body: Value| {
        let world = &world;
        async move {
            let (status, answer) = world.post(kind.path(), &body).await;
            assert_eq!(status, 200, "{answer}");
            answer
        }
    };
    let of_ada = json!({"on_behalf_of": "people/ada", "receipts": true});
    let accesses = ask(Kind::Accesses, of_ada.clone()).await;
    let rows = accesses["lines"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{accesses}");
    let ada = json!(["spiffe://example.org/people/ada"]);
    for row in rows {
        assert_eq!(row["access"]["claimed_on_behalf_of"], ada, "{row}");
        assert_eq!(row["access"]["receipts"].as_array().unwrap().len(), 2);
    }
    let found = ask(Kind::Search, of_ada).await;
    let first = &found["lines"][0]["record"];
    assert_eq!(first["record"]["type"], "session-start", "{first}");
    let proof = first["receipt"].as_str().unwrap();
    assert!(proof.starts_with("c2sp.org/tlog-proof@v1"), "{proof}");
    let history = json!({"principal": "payments/api", "action": "select", "resource": CARDS});
    let history = ask(Kind::History, history).await;
    // Denied by the first version, so nothing became other before the second.
    assert_eq!(history["lines"].as_array().unwrap().len(), 1, "{history}");
    assert_eq!(history["lines"][0]["change"]["author"], "uid:7");
    assert_eq!(history["summary"]["versions"], 2);
    let files = without(&shop_files(), "payments reads cards").0;
    let replay = ask(Kind::Replay, json!({"files": files, "since": 1})).await;
    let changed = &replay["lines"][0]["changed"];
    assert_eq!(
        (&changed["change"], &changed["count"]),
        (&json!("denied"), &json!(10)),
        "{replay}"
    );
    let unused = ask(Kind::Unused, json!({"since": 1})).await;
    assert_eq!(unused["summary"]["observed"], 11, "{unused}");
    let read = unused["lines"].as_array().unwrap().iter().any(|line| {
        let grant = &line["grant"];
        grant["identity"] == "payments/api"
            && grant["action"] == "select"
            && grant["resource"].as_str().unwrap().contains(CARDS)
    });
    assert!(!read, "{unused}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_meanwhile_is_told_behind_the_cursor() {
    let (server, mut gateway) = ledgers();
    let world = world(&server, &gateway, &[Right::Records]).await;
    let body = json!({"ledger": "pg-1", "types": ["intent"], "limit": 8});
    let (_, page) = world.post(Kind::Search.path(), &body).await;
    gateway.put(intent("s1", "payments/api", "select", &[CARDS], false));
    let mut next = body;
    next["after"] = page["page"]["next"].clone();
    let (status, page) = world.post(Kind::Search.path(), &next).await;
    assert_eq!(status, 200, "{page}");
    // Of eleven before and one since, four are left.
    assert_eq!(page["page"], json!({"count": 4, "next": null}), "{page}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_records_say_is_for_whoever_has_that_right_and_is_recorded() {
    let (server, gateway) = ledgers();
    let others = [Right::Evaluate, Right::Search, Right::StateFacts];
    let unnamed = world(&server, &gateway, &others).await;
    for kind in Kind::ALL {
        let (status, answer) = unnamed.post(kind.path(), &json!({"files": {}})).await;
        assert_eq!(status, 403, "{kind:?}");
        assert!(
            answer.as_str().unwrap().starts_with("PDP-CALLER-RIGHT"),
            "{answer}"
        );
    }
    assert!(unnamed.records(RecordType::Admin).is_empty());
    unnamed.stop().await;
    let asking = world(&server, &gateway, &[Right::Records]).await;
    let body = json!({"on_behalf_of": "people/ada"});
    asking.post(Kind::Search.path(), &body).await;
    let asked = asking.records(RecordType::Admin);
    let body: ledger::body::Admin = asked[0].expect_body().unwrap();
    assert_eq!(body.action, "ask/search");
    assert!(body.resource.contains("people/ada"), "{body:?}");
    asking.stop().await;
    // Without [records] there are none.
    let without = World::configured(|config| {
        config.processes = vec![this_process(&[Right::Records])];
    })
    .await;
    let (status, answer) = without.post(Kind::Search.path(), &json!({})).await;
    assert_eq!(status, 404);
    assert!(
        answer.as_str().unwrap().starts_with("QUESTION-NO-RECORDS"),
        "{answer}"
    );
    without.stop().await;
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_are_read_and_left_as_they_were() {
    let (server, gateway) = ledgers();
    let before = (files(server.path()), files(gateway.path()));
    let world = world(&server, &gateway, &[Right::Records]).await;
    for kind in [Kind::Search, Kind::Accesses, Kind::Unused] {
        let (status, answer) = world.post(kind.path(), &json!({})).await;
        assert_eq!(status, 200, "{answer}");
    }
    assert!((files(server.path()), files(gateway.path())) == before);
    // The indices are the decision point's own.
    let kept = files(&world.folder.path().join("pdp/records"));
    assert!(kept.iter().any(|(name, _)| name.ends_with(".sqlite")));
    // A folder that is gone is no answer.
    let path = gateway.path().to_owned();
    drop(gateway);
    assert!(!path.exists());
    let (status, answer) = world.post(Kind::Search.path(), &json!({})).await;
    assert_eq!(status, 503, "{answer}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_of_records_has_a_code_and_a_next_step() {
    let (server, gateway) = ledgers();
    let world = world(&server, &gateway, &[Right::Records]).await;
    let (_, page) = world
        .post(
            Kind::Search.path(),
            &json!({"identity": "payments/api", "limit": 1}),
        )
        .await;
    let cursor = page["page"]["next"].as_str().unwrap().to_owned();
    let deep = "[".repeat(10_000);
    for (kind, body, status, code) in [
        (
            Kind::Search,
            json!({"identity": "other", "after": cursor}).to_string(),
            400,
            "QUESTION-CURSOR",
        ),
        (
            Kind::Accesses,
            json!({"after": cursor}).to_string(),
            400,
            "QUESTION-CURSOR",
        ),
        (
            Kind::Search,
            json!({"after": "zz"}).to_string(),
            400,
            "QUESTION-CURSOR",
        ),
        (
            Kind::Search,
            json!({"after": "00".repeat(60_000)}).to_string(),
            400,
            "QUESTION-CURSOR",
        ),
        (
            Kind::Search,
            json!({"ledger": "pg-9"}).to_string(),
            404,
            "LEDGER-UNKNOWN",
        ),
        (
            Kind::Search,
            json!({"types": ["moon"]}).to_string(),
            400,
            "RECORD-TYPE",
        ),
        (
            Kind::Search,
            json!({"decision": "perhaps"}).to_string(),
            400,
            "RECORDS-DECISION",
        ),
        (
            Kind::Search,
            json!({"since": -1}).to_string(),
            400,
            "QUESTION-REQUEST",
        ),
        (
            Kind::Search,
            json!({"who": "me"}).to_string(),
            400,
            "QUESTION-REQUEST",
        ),
        (Kind::Search, deep, 400, "QUESTION-REQUEST"),
        (
            Kind::History,
            json!({}).to_string(),
            400,
            "QUESTION-REQUEST",
        ),
        (
            Kind::History,
            json!({"principal": "a", "policy": "p"}).to_string(),
            400,
            "QUESTION-REQUEST",
        ),
        (
            Kind::History,
            json!({"principal": "a", "action": "select"}).to_string(),
            400,
            "QUESTION-REQUEST",
        ),
        (
            Kind::History,
            json!({"principal": "a/../b"}).to_string(),
            400,
            "PDP-SUBJECT",
        ),
        (
            Kind::History,
            json!({"resource": "a/b/c/d/e"}).to_string(),
            400,
            "QUESTION-RESOURCE",
        ),
        (Kind::Replay, json!({}).to_string(), 400, "QUESTION-REQUEST"),
        (
            Kind::Replay,
            json!({"files": {"estate.toml": "x"}}).to_string(),
            422,
            "QUESTION-ESTATE",
        ),
    ] {
        let answer = world.send(kind.path(), &[], body.as_bytes()).await;
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, status, "{shown}: {}", answer.body);
        assert!(answer.body.starts_with(code), "{shown}: {}", answer.body);
    }
    world.stop().await;
}
