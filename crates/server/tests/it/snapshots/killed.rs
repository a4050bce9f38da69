//! Snapshots and prunings that are killed in the middle: nothing is lost, and the next one does it.

use super::{BY, archive, fill, old_world, prune};
use crate::recovering::Scene;
use crate::surviving::copy;
use ledger_store::Folder;
use server::Config;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const CHILD: &str = "TRILITH_TEST_SNAPSHOT_CONFIG";

/// Not a test of its own: what is killed.
#[test]
fn child_act() {
    let Ok(path) = std::env::var(CHILD) else {
        return;
    };
    let path = Path::new(&path);
    let config = Config::load(path).unwrap();
    match std::env::var_os("TRILITH_TEST_SNAPSHOT_COPY") {
        Some(copy) => drop(prune(&config, Some(Path::new(&copy)), true)),
        None => drop(server::snapshot(&config, BY)),
    }
}

/// What is written on the way, in the order in which it is.
const STEPS: [&str; 4] = [
    "data/blobs",
    "data/ledger/apart",
    "data/ledger/segments",
    "keys/ledger/highest-head",
];

/// Kills it as soon as the disk shows one of its steps, or at some moment. Whether it was cut short after a step.
fn cut_short(scene: &Scene, copy: Option<&Path>, round: u64) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["snapshots::killed::child_act", "--exact"])
        .env(CHILD, scene.fixture.dir.path().join("server.toml"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    if let Some(copy) = copy {
        command.env("TRILITH_TEST_SNAPSHOT_COPY", copy);
    }
    let step = usize::try_from(round).unwrap() % (STEPS.len() + 1);
    if let Some(step) = STEPS.get(step) {
        let step = scene.fixture.dir.path().join(step);
        return testkit::killed::at_change(&mut command, &step).unwrap();
    }
    let mut child = command.spawn().unwrap();
    std::thread::sleep(Duration::from_millis(round * 7));
    drop(child.kill());
    child.wait().unwrap();
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_a_snapshot_or_a_pruning_loses_nothing() {
    let mut scene = old_world().await;
    scene.fixture.stop().await;
    scene.close_gateway().await;
    let config = scene.config.clone();
    let mut cut = 0;
    for round in 0..30 {
        // After a snapshot with nothing behind it there is nothing to do.
        fill(&scene, 1);
        cut += u64::from(cut_short(&scene, None, round));
        let live = server::state_digest(&config).unwrap();
        assert_eq!(server::rebuild(&config).unwrap().rebuilt, live);
        assert_eq!(server::rebuild_from_first(&config).unwrap().rebuilt, live);
    }
    assert!(cut > 0, "no snapshot was killed in the middle");
    let copied = archive(&scene, "archive");
    let before = server::state_digest(&config).unwrap();
    let kept = ["data", "keys"].map(|name| {
        let place = scene.fixture.dir.path().join(name);
        let kept = scene.fixture.dir.path().join(format!("kept-{name}"));
        copy(&place, &kept);
        (place, kept)
    });
    cut = 0;
    for round in 0..30 {
        for (place, kept) in &kept {
            std::fs::remove_dir_all(place).unwrap();
            copy(kept, place);
        }
        cut += u64::from(cut_short(&scene, Some(&copied), round));
        let live = server::state_digest(&config).unwrap();
        assert_eq!(server::rebuild(&config).unwrap().rebuilt, live);
        let folder = Folder::open(&scene.data().join("ledger")).unwrap();
        match folder.reader().pruned() {
            None => assert_eq!(live, before),
            Some(pruned) => {
                assert_eq!(live.records, before.records + 2);
                assert_eq!(pruned.record, before.records + 1);
            }
        }
    }
    assert!(cut > 0, "no pruning was killed in the middle");
    drop(prune(&config, Some(&copied), true));
    let folder = Folder::open(&scene.data().join("ledger")).unwrap();
    assert!(folder.reader().pruned().is_some());
    scene.start().await;
    scene.fixture.join("m8").await;
    scene.fixture.stop().await;
}
