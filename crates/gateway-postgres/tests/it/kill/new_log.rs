//! The key of the gateway's ledger is replaced between a crash under load and the next start, and the command is killed
//! at any moment: whoever connects to the database afterwards is served and recorded as before.

use super::{connect, file, gateway, loading, started, whole};
use crate::world::{Site, followed, skipped};
use gateway::Core;
use ledger::body::KeyRotation;
use ledger::{Checkpoint, RecordType};
use std::path::Path;
use std::time::Duration;

const FOLDER: &str = "TRILITH_NEW_LOG_FOLDER";
const ROUNDS: u64 = 12;

/// Not a test of its own: what the killed command runs.
#[test]
fn command() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        gateway_postgres::new_log(Path::new(&folder), "each year", "uid:0").unwrap();
    }
}

/// How many files a folder has, or how long a file is.
fn look(path: &Path) -> u64 {
    match std::fs::read_dir(path) {
        Ok(names) => names.count() as u64,
        Err(_) => std::fs::metadata(path).map_or(0, |file| file.len()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_log_between_two_starts_loses_nothing_and_neither_does_one_that_is_killed() {
    if skipped("a_new_log_between_two_starts_loses_nothing_and_neither_does_one_that_is_killed") {
        return;
    }
    let site = Site::start(testkit::port::free().unwrap()).await;
    let config = site.folder.path().join("gateway.toml");
    std::fs::write(&config, file(&site)).unwrap();
    let payments = site.plane.issue("payments/api");
    let data = &site.config.gateway.data_dir;
    let mut acknowledged = 0;
    for _ in 0..3 {
        let mut process = gateway(&config);
        let writer = loading(connect(&site, &payments).await).await;
        let running = gateway_postgres::new_log(data, "each year", "uid:0").unwrap_err();
        assert_eq!(running.code, "GATEWAY-NEW-LOG-RUNNING");
        tokio::time::sleep(Duration::from_millis(150)).await;
        process.kill().unwrap();
        process.wait().unwrap();
        acknowledged += writer.await.unwrap();
        let begun = gateway_postgres::new_log(data, "each year", "uid:0").unwrap();
        assert!(!begun.already);
    }
    let (mut cut_short, mut done) = (0, 0);
    for round in 0..ROUNDS {
        // Once there was a start, the command begins another log.
        let core = Core::open(site.config.gateway.clone()).await.unwrap();
        core.close().await.unwrap();
        // At some moment, or as soon as one of its steps is seen.
        let step =
            ["keys", "keys/lineage", "ledger/lineage"].get(usize::try_from(round).unwrap() % 4);
        let seen = || step.map(|step| look(&data.join(step)));
        let before = seen();
        let mut command = started("kill::new_log::command", FOLDER, data);
        if step.is_none() {
            tokio::time::sleep(Duration::from_millis(2 * round)).await;
        }
        while step.is_some() && seen() == before && command.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        command.kill().unwrap();
        command.wait().unwrap();
        // Where it was cut short, nothing starts before it is done.
        let before = Core::open(site.config.gateway.clone()).await;
        match before {
            Ok(core) => {
                done += 1;
                core.close().await.unwrap();
            }
            Err(error) => {
                cut_short += 1;
                let error = error.to_string();
                assert!(error.contains("GATEWAY-NEW-LOG-UNFINISHED"), "{error}");
                let begun = gateway_postgres::new_log(data, "each year", "uid:0").unwrap();
                assert!(!begun.already);
            }
        }
    }
    assert!(cut_short > 0, "none was killed in time");
    assert_eq!(cut_short + done, ROUNDS);

    let core = Core::open(site.config.gateway.clone()).await.unwrap();
    followed(&core).await;
    let reader = core.reader().clone();
    let key = ledger_store::Folder::open(&data.join("ledger"))
        .unwrap()
        .key()
        .clone();
    let head = reader.head();
    assert_eq!(Checkpoint::open(&head.note, &key).unwrap(), head.checkpoint);
    let (mut lasting, mut links) = (0, Vec::new());
    for index in 0..reader.size() {
        let record = reader.record(index).unwrap();
        match record.kind() {
            RecordType::Outcome => {
                let outcome: ledger::body::Outcome = record.expect_body().unwrap();
                lasting += u64::from(
                    outcome.result == "ok" && outcome.transaction.as_deref() == Some("I"),
                );
            }
            RecordType::KeyRotation => links.push(record.expect_body::<KeyRotation>().unwrap()),
            _ => {}
        }
    }
    assert!(
        lasting >= acknowledged && acknowledged > 0,
        "{lasting} of {acknowledged}"
    );
    assert!(links.len() > 3, "{}", links.len());
    assert_eq!(
        links,
        ledger::lineage::links(&key),
        "each link is in the ledger, once"
    );
    core.close().await.unwrap();
    drop(reader);

    // And it goes on serving.
    let mut process = gateway(&config);
    let writer = loading(connect(&site, &payments).await).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(writer.await.unwrap() > 0);
    drop(Core::open(site.config.gateway.clone()).await.unwrap());
    whole(&site);
}
