//! A real gateway's ledger, mirrored and anchored by a real server, is pruned: the mirror keeps all of it, the gateway
//! goes on, and a server that has lost the mirror cuts nobody off.

use crate::old_ledger::{ask, fill};
use crate::packs::verified;
use crate::recovering::{Scene, until};
use facts::Timestamp;
use ledger_store::Folder;
use monitor::Monitor;
use record_index::{Complete, Site, TimeRange, completeness};
use std::path::{Path, PathBuf};

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

/// A monitor of the gateway's ledger in a folder, whose state is that of this name.
fn watching(scene: &Scene, state: &str, folder: &Path) -> Monitor {
    let key = Folder::open(folder).unwrap().key().to_string();
    let text = format!(
        "[monitor]\nstate_dir = \"{}\"\n[log]\nkey = \"{key}\"\nfolder = \"{}\"\n",
        scene.fixture.dir.path().join(state).display(),
        folder.display(),
    );
    Monitor::open(monitor::Config::parse(&text).unwrap()).unwrap()
}

/// What `trilith ledger completeness --folder DIR` says of the gateway's ledger, or why it does not.
fn complete(folder: &Path) -> Result<Complete, String> {
    let indices = tempfile::tempdir().unwrap();
    let mut site = Site::open(folder, Some(indices.path())).unwrap();
    site.catch_up().unwrap();
    let all = TimeRange {
        since: None,
        until: None,
    };
    let answers = completeness(&site, &all, false);
    let answers = answers.map_err(|error| error.finding().code.into_owned())?;
    let theirs = answers
        .into_iter()
        .find(|one| one.origin == "example.org/gateway/pg");
    Ok(theirs.unwrap())
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
    let own = data_dir.join("ledger");
    let now = Timestamp::now;
    let mut early = watching(&scene, "early", &own);
    let looked = early.round(now()).await.unwrap().looked;
    assert!(looked > 800, "{looked}");
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

    // Packs of what is gone at the gateway are made from the mirror, whole.
    let question = "{\"kind\":\"record\",\"ledger\":\"pg\",\"index\":5}";
    let report = verified(&scene.fixture, question).await;
    assert!(report.is_complete(), "{:?}", report.doubts);
    // Who counts asks the server, and is told so by the gateway's folder.
    assert_eq!(complete(&data_dir).unwrap_err(), "RECORDS-PRUNED");
    let answer = complete(&scene.data()).unwrap();
    assert_eq!(answer.counts.complete, 200, "{:?}", answer.counts);
    assert_eq!(answer.unexplained(), 0, "{:?}", answer.found);
    assert!(
        answer
            .anchored
            .is_some_and(|anchored| anchored.size > record)
    );
    // A monitor that had looked goes on; one that had not is told, and finds all of it at the server.
    let more = early.round(now()).await.unwrap().looked;
    assert!(more > looked && more > record, "{more}");
    let failure = watching(&scene, "late", &own)
        .round(now())
        .await
        .unwrap_err();
    assert_eq!(failure.finding().code, "MONITOR-PRUNED");
    let kept = mirror(&scene).unwrap();
    let all = watching(&scene, "late", &kept).round(now()).await.unwrap();
    assert!(all.looked > record && all.looked == all.size, "{all:?}");

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
