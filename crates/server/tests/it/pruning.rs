//! A real gateway's ledger, mirrored and anchored by a real server, is pruned: the mirror keeps all of it, the gateway
//! goes on, and a server that has lost the mirror cuts nobody off.

use crate::recovering::{Scene, until};
use crypto::{Algorithm, Custody as _};
use custody::FileCustody;
use facts::{Finding, Timestamp};
use gateway::retention::{Prune, Pruning, prune};
use ledger::body::{self, Body as _, Coverage};
use ledger::{Base64, Digest, RecordBuilder, Stamp};
use ledger_store::{Folder, Ledger, Options};
use std::path::{Path, PathBuf};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Ten days ago.
fn old() -> Stamp {
    let now = ledger_store::system_clock();
    Stamp {
        wall: now.wall - 10 * DAY,
        ..now
    }
}

/// What a run of ten days ago left in `data_dir`: `sessions` of four records each, in small segments.
fn fill(data_dir: &Path, origin: &str, sessions: u64) {
    let custody = FileCustody::open(&data_dir.join("keys")).unwrap();
    let signer = custody
        .load_or_generate("ledger", Algorithm::Ed25519)
        .unwrap();
    let options = Options {
        segment_bytes: 30_000,
        reserve_bytes: 0,
        clock: old,
        ..Options::default()
    };
    let ledger = Ledger::open(&data_dir.join("ledger"), signer, origin, &options).unwrap();
    let put = |record: RecordBuilder| record.actor("trilith gateway", "self").draft().unwrap();
    let begin = body::Begin {
        trust_domain: "example.org".to_owned(),
        ledger_key: Base64(ledger.key().public_key().spki_der().to_vec()),
        format: "v1".to_owned(),
    };
    let start = body::Start {
        program: "trilith gateway".to_owned(),
        version: String::new(),
        epoch: ledger.epoch().into(),
        size: 0.into(),
        root: Digest(ledger::merkle::empty_root()),
    };
    let first = vec![put(begin.record()), put(start.record())];
    ledger.append_many(first).wait().unwrap();
    for number in 0..sessions {
        let session = format!("s{number}");
        let seq = ledger.reader().size();
        let begun = body::SessionStart {
            session: session.clone(),
            spiffe_id: "spiffe://example.org/payments/api".to_owned(),
            serial: "aa".to_owned(),
            issuance: None,
            resource: "postgres:shop".to_owned(),
            role: "r".to_owned(),
            application: String::new(),
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        let intent = body::Intent {
            session: session.clone(),
            statement: "fp:1".to_owned(),
            actions: vec![body::ActionOn {
                action: "select".to_owned(),
                resources: vec!["Table::\"shop/public/orders\"".to_owned()],
                more: None,
                columns: Vec::new(),
            }],
            decision: format!("pg:{}", seq + 1),
            policies: Vec::new(),
            coverage: Coverage::Complete,
            more_policies: None,
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        let outcome = body::Outcome {
            intent: (seq + 1).into(),
            result: "ok".to_owned(),
            sqlstate: None,
            rows: None,
            tag: None,
            transaction: None,
        };
        let ended = body::SessionEnd {
            session,
            reason: "closed".to_owned(),
            detail: String::new(),
            operations: 1.into(),
        };
        let drafts = [
            begun.record(),
            intent.record(),
            outcome.record(),
            ended.record(),
        ];
        ledger.append_many(drafts.map(put).into()).wait().unwrap();
    }
    let stop = body::Stop {
        reason: "shutdown".to_owned(),
    };
    ledger.append(put(stop.record())).wait().unwrap();
    ledger.close().unwrap();
}

fn ask(data_dir: &Path, days: u64, really: bool) -> Result<Pruning, Finding> {
    let now = Timestamp::now();
    let before = Timestamp::from_millis(now.as_millis() - days * DAY);
    prune(
        data_dir,
        &Prune {
            before,
            reason: "case 7",
            by: "uid:0",
            now,
            really,
        },
    )
}

fn mirror(scene: &Scene) -> Option<PathBuf> {
    let entries = std::fs::read_dir(scene.data().join("mirrors")).ok()?;
    let mut mirrors = entries.map(|entry| entry.unwrap().path());
    mirrors.find(|path| Folder::is_ledger(path))
}

/// Records of the gateway's ledger that the server has.
fn mirrored(scene: &Scene) -> u64 {
    let opened = mirror(scene).and_then(|path| Folder::open(&path).ok());
    opened.map_or(0, |folder| folder.reader().size())
}

async fn caught_up(scene: &Scene) {
    until(
        "the server mirrors all of the gateway's ledger",
        async || mirrored(scene) == scene.core().reader().size(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_gateway_goes_on_and_the_server_keeps_all_of_its_ledger() {
    let origin = "example.org/gateway/pg";
    let mut scene = Scene::prepared(|data_dir| fill(data_dir, origin, 200)).await;
    let data_dir = scene.gateway.data_dir.clone();
    caught_up(&scene).await;
    until("the gateway notes what is anchored", async || {
        data_dir.join("anchored.json").exists()
    })
    .await;
    scene.close_gateway().await;
    let done = ask(&data_dir, 5, true).unwrap();
    assert!(done.minimum >= 512, "{done:?}");
    let record = done.record.unwrap();

    // The retention record reaches the server as any other, and takes nothing away there.
    scene.open_gateway().await;
    assert_eq!(scene.core().reader().pruned().unwrap().record, record);
    caught_up(&scene).await;
    scene.followed().await;
    let folder = Folder::open(&mirror(&scene).unwrap()).unwrap();
    assert_eq!(folder.reader().pruned(), None);
    let said = folder.reader().record(record).unwrap();
    assert_eq!(said.kind().as_str(), "retention");
    folder.reader().receipt(5).unwrap();

    // The mirror is lost: what was pruned cannot be sent again. The server's revocations are heard all the same.
    scene.fixture.stop().await;
    std::fs::remove_dir_all(scene.data().join("mirrors")).unwrap();
    scene.start().await;
    scene.followed().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    scene.followed().await;
    assert_eq!(mirrored(&scene), 0);
    scene.close_gateway().await;
}
