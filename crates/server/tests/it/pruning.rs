//! A real gateway's ledger, mirrored and anchored by a real server, is pruned: the mirror keeps all of it, the gateway
//! goes on, and a server that has lost the mirror cuts nobody off.

use crate::old_ledger::{ask, fill};
use crate::recovering::{Scene, until};
use ledger_store::Folder;
use std::path::PathBuf;

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
