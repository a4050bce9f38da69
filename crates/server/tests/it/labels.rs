//! Blinded labels of a real ledger, over HTTP and without an account: each owner learns which records are his.

use crate::harness::{Fixture, PROGRAM, config_with, estate, program};
use crate::recovering::until;
use facts::Timestamp;
use monitor::Monitor;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Types of records that name a machine.
const OF_MACHINES: &[&str] = &[
    "token-created",
    "token-spent",
    "verdict",
    "issuance",
    "node-state",
];

fn key_file(folder: &Path, name: &str, seed: u8) {
    let path = folder.join(name);
    std::fs::write(&path, crypto::hex::encode(&[seed; 32])).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn told(fixture: &Fixture, name: &str) -> Result<BTreeSet<u64>, String> {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "[monitor]\nstate_dir = \"{}/state\"\n[log]\nkey = \"{}\"\nurls = [\"http://{}\"]\nentries = \"closed\"\n\
         [labels]\nname = \"{name}\"\nkey_file = \"{}/{name}.key\"\n",
        folder.path().display(),
        fixture.ledger_key().await,
        fixture.running().http_listen,
        fixture.dir.path().display(),
    );
    let mut monitor = Monitor::open(monitor::Config::parse(&text).unwrap()).unwrap();
    let seen = monitor.round(Timestamp::now()).await;
    let seen = seen.map_err(|failure| failure.finding().code.to_string())?;
    assert_eq!(seen.looked, seen.size);
    let alerts = monitor.waiting().iter();
    let told = alerts.map(|alert| {
        let text = serde_json::to_string(alert).unwrap();
        // A hash in base64 may have these letters.
        let named = |machine: &str| {
            text.contains(&format!("\"{machine}\"")) || text.contains(&format!("/{machine}\""))
        };
        assert!(!named("m1") && !named("m2"), "{text}");
        alert.record.as_ref().unwrap().index
    });
    Ok(told.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_of_a_running_server_recognise_their_machines_and_neither_learns_the_others() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seed) in [("ada.key", 1), ("bob.key", 2), ("eve.key", 3)] {
        key_file(dir.path(), name, seed);
    }
    let more = "[[label]]\nowner = \"ada\"\nkey_file = \"ada.key\"\nmachines = [\"m1\"]\n\
         [[label]]\nowner = \"bob\"\nkey_file = \"bob.key\"\nmachines = [\"m2\"]\n";
    let server = server::start(config_with(dir.path(), more)).await.unwrap();
    let server = Some(server);
    let fixture = Fixture { dir, server };
    fixture.apply(&estate()).await.unwrap();
    let _first = fixture.join("m1").await;
    let _second = fixture.join("m2").await;

    let records = fixture.records(OF_MACHINES).await;
    let of = |machine: &str| -> BTreeSet<u64> {
        let (plain, id) = (
            format!("\"{machine}\""),
            format!("/trilith/node/{machine}\""),
        );
        let names = records.iter().filter(|(_, record)| {
            let text = record.to_string();
            text.contains(&plain) || text.contains(&id)
        });
        names.map(|(index, _)| *index).collect()
    };
    let (ada, bob) = (told(&fixture, "ada").await, told(&fixture, "bob").await);
    assert_eq!(ada.unwrap(), of("m1"));
    assert_eq!(bob.unwrap(), of("m2"));
    assert!(
        of("m1").len() >= 3 && of("m1").is_disjoint(&of("m2")),
        "{records:?}"
    );
    assert_eq!(told(&fixture, "eve").await, Err("MONITOR-LABEL".to_owned()));
}

/// Of what a new version of the estate took away its owner was told nothing: a serial names nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_told_of_what_a_new_estate_takes_away() {
    let dir = tempfile::tempdir().unwrap();
    for (name, seed) in [("ada.key", 1), ("bob.key", 2)] {
        key_file(dir.path(), name, seed);
    }
    let more = "[[label]]\nowner = \"ada\"\nkey_file = \"ada.key\"\nidentities = [\"spiffe://example.org/payments/*\"]\n\
         [[label]]\nowner = \"bob\"\nkey_file = \"bob.key\"\nmachines = [\"m2\"]\n";
    let server = server::start(config_with(dir.path(), more)).await.unwrap();
    let server = Some(server);
    let fixture = Fixture { dir, server };
    fixture.apply(&estate()).await.unwrap();
    let machine = fixture.join("m1").await;
    let mut sync = machine.sync().await.unwrap();
    let facts = program(1000, PROGRAM);
    let (issued, _) = sync.ask("w1", &facts, Vec::new()).await.unwrap();
    let mut files = estate();
    let policies = files.0["policies/assume.cedar"].replace("== 1000", "== 1001");
    files.insert("policies/assume.cedar", policies);
    fixture.apply(&files).await.unwrap();
    until("what it does not grant is revoked", async || {
        !fixture.records(&["revocation"]).await.is_empty()
    })
    .await;
    let revoked = fixture.records(&["revocation"]).await;
    let [(index, record)] = revoked.as_slice() else {
        panic!("{revoked:?}");
    };
    let body = &record["body"];
    assert_eq!(body["target"]["kind"], "serial");
    assert_eq!(body["target"]["value"], issued.svids[0].serial.as_str());
    assert_eq!(body["whose"][0], "spiffe://example.org/payments/api");
    assert_eq!(body["node"], "m1");
    assert!(told(&fixture, "ada").await.unwrap().contains(index));
    assert!(!told(&fixture, "bob").await.unwrap().contains(index));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_owners_has_no_labels_and_one_with_an_open_key_does_not_start() {
    let fixture = Fixture::start().await;
    key_file(fixture.dir.path(), "ada.key", 1);
    assert_eq!(
        told(&fixture, "ada").await,
        Err("MONITOR-LABEL-MISSING".to_owned())
    );

    let dir = tempfile::tempdir().unwrap();
    key_file(dir.path(), "ada.key", 1);
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("ada.key"), open).unwrap();
    let more = "[[label]]\nowner = \"ada\"\nkey_file = \"ada.key\"\nmachines = [\"m1\"]\n";
    let refused = server::start(config_with(dir.path(), more)).await;
    let Err(server::StartError::Refused(finding)) = refused.map(drop) else {
        panic!("it started, or ended otherwise");
    };
    assert_eq!(finding.code, "LABEL-KEY");
}
