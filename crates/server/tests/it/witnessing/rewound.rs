//! A server that is restored as a whole, with the folder of its ledger's key, does not know that it was. Its witnesses do,
//! and they are asked before anything is signed.

use super::{Mood, Scene, restore};
use crate::harness::{config_with, finding};
use crate::recovering::until;
use crate::surviving::copy;
use proto::v1::TokenCreateRequest;
use server::{Prune, Why};
use std::path::Path;

fn size(dir: &Path) -> u64 {
    let folder = ledger_store::Folder::open(&dir.join("data/ledger")).unwrap();
    folder.reader().size()
}

impl Scene {
    async fn backed_up(&mut self) {
        self.fixture.stop().await;
        let dir = self.fixture.dir.path();
        std::fs::create_dir(dir.join("backup")).unwrap();
        for folder in ["data", "keys"] {
            copy(&dir.join(folder), &dir.join("backup").join(folder));
        }
    }

    fn restored(&self) {
        let dir = self.fixture.dir.path();
        for folder in ["data", "keys"] {
            restore(dir, folder);
        }
    }

    async fn signing(&self) -> serde_json::Value {
        self.fixture.status().await["signing"].clone()
    }

    async fn refused(&self) -> String {
        let token = TokenCreateRequest {
            node: "m9".to_owned(),
            pool: "demo".to_owned(),
            ttl_s: 60,
        };
        let refused = self.fixture.admin().await.token_create(token).await;
        finding(&refused.unwrap_err()).code.into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restored_whole_signs_nothing_that_its_witnesses_would_contradict() {
    let mut scene = Scene::set().await;
    scene.witnessed().await;
    scene.backed_up().await;
    scene.go_on().await;
    scene.fixture.token("m1").await;
    let seen = scene.witnessed().await;
    scene.fixture.stop().await;
    scene.restored();
    let dir = scene.fixture.dir.path().to_owned();
    let before = size(&dir);
    assert!(before < seen);
    scene.go_on().await;
    // From the first moment on, and not even that it started is recorded.
    assert_eq!(scene.signing().await["code"], "SERVER-BEHIND-PEER");
    assert_eq!(scene.refused().await, "SERVER-BEHIND-PEER");
    assert_eq!(scene.head().await, before);
    scene.fixture.stop().await;
    assert_eq!(size(&dir), before);

    // It is remembered beside the key: the next start does not need them.
    scene.moods([Mood::Silent; 3]);
    scene.go_on().await;
    assert_eq!(scene.signing().await["code"], "SERVER-BEHIND-PEER");
    assert_eq!(scene.head().await, before);
    scene.fixture.stop().await;

    // A new log is not begun either without giving up what they have seen, and with it says what that was: also where
    // the folder of the key does not know.
    scene.restored();
    scene.moods([Mood::Good; 3]);
    let config = config_with(&dir, &scene.more);
    // Nor is a snapshot recorded, or anything pruned.
    let (now, none) = (facts::Timestamp::now(), facts::Timestamp::from_millis(1));
    let prune = Prune {
        before: none,
        reason: "it is old",
        by: "uid:0",
        now,
        copy: None,
        really: true,
    };
    let refused = server::snapshot(&config, "uid:0").map(drop).unwrap_err();
    assert_eq!(refused.finding().code, "SERVER-BEHIND-PEER");
    scene.restored();
    let refused = server::prune(&config, &prune).map(drop).unwrap_err();
    assert_eq!(refused.finding().code, "SERVER-BEHIND-PEER");
    assert_eq!(size(&dir), before);
    scene.restored();
    let why = |give_up| Why {
        reason: "the disk was lost",
        by: "uid:0",
        give_up,
    };
    let refused = server::new_log(&config, why(false)).err().unwrap();
    assert_eq!(refused.finding().code, "SERVER-BEHIND-PEER");
    let begun = server::new_log(&config, why(true)).unwrap();
    assert_eq!(begun.size, before);
    assert!(begun.given_up >= Some(seen), "{begun:?}");
}

/// From before its last new log, of which the log that it thinks to have ended with exactly what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restored_whole_from_before_a_new_log_is_told_by_enough_witnesses() {
    let mut scene = Scene::set().await;
    scene.witnessed().await;
    scene.backed_up().await;
    let dir = scene.fixture.dir.path().to_owned();
    let config = config_with(&dir, &scene.more);
    let why = Why {
        reason: "each year",
        by: "uid:0",
        give_up: false,
    };
    let witnesses = scene.witnesses.clone();
    let old: Vec<_> = witnesses
        .iter()
        .map(|it| it.with(|inner| (inner.log.clone(), inner.last.clone())))
        .collect();
    let begun = server::new_log(&config, why).unwrap();
    for witness in &witnesses {
        witness.with(|inner| (inner.log, inner.last) = (Some(begun.key.clone()), None));
    }
    scene.go_on().await;
    scene.witnessed().await;
    scene.fixture.stop().await;
    // A real one has both.
    let next = ledger::witness::origin_hash(begun.key.origin().as_str()).to_string();
    let newest: Vec<String> = witnesses
        .iter()
        .map(|witness| witness.with(|inner| inner.last.take().unwrap().2))
        .collect();
    // Of the old log what they had seen before it ended, and of the new one what it has come to.
    let shows = |which: &[usize]| {
        for (at, witness) in witnesses.iter().enumerate() {
            let shown = which.contains(&at).then(|| newest[at].clone());
            witness.with(|inner| {
                (inner.log, inner.last) = old[at].clone();
                inner.later = shown.map(|note| (next.clone(), note));
            });
        }
    };

    // One alone stops nobody: the key of the other log is not known here, and says nothing.
    shows(&[0]);
    scene.restored();
    scene.go_on().await;
    assert_eq!(scene.signing().await, "allowed");
    scene.fixture.stop().await;

    shows(&[0, 2]);
    scene.restored();
    let before = size(&dir);
    scene.go_on().await;
    assert_eq!(scene.signing().await["code"], "SERVER-LINEAGE-WITNESSED");
    assert_eq!(scene.refused().await, "SERVER-LINEAGE-WITNESSED");
    assert_eq!(scene.head().await, before);
    scene.fixture.stop().await;
    // A second succession by one key would leave nobody with a log to follow.
    let twice = server::new_log(&config, why).err().unwrap();
    assert_eq!(twice.finding().code, "SERVER-LINEAGE-WITNESSED");

    // Who was silent at the start is asked again.
    shows(&[0, 2]);
    scene.restored();
    scene.moods([Mood::Silent; 3]);
    scene.go_on().await;
    assert_eq!(scene.signing().await, "allowed");
    scene.moods([Mood::Good; 3]);
    until("the server is stopped", async || {
        scene.signing().await["code"] == "SERVER-LINEAGE-WITNESSED"
    })
    .await;
    scene.fixture.stop().await;

    // Whoever stands between answers that they have seen nothing, and has nothing cosigned: they are asked on.
    shows(&[]);
    scene.restored();
    scene.moods([Mood::Forging; 3]);
    scene.go_on().await;
    assert_eq!(scene.signing().await, "allowed");
    let status = scene.fixture.status().await;
    assert_eq!(status["witnesses"]["since_start"], false);
    shows(&[0, 2]);
    until("the server is stopped, whoever stood between", async || {
        scene.signing().await["code"] == "SERVER-LINEAGE-WITNESSED"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_holds_begins_with_nothing_that_its_witnesses_do_not_cosign_now() {
    let mut scene = Scene::set().await;
    scene.witnessed().await;
    scene.backed_up().await;
    scene.more.push_str("hold = true\n");
    let dir = scene.fixture.dir.path().to_owned();
    let refused = async |scene: &Scene, moods| {
        let before = size(&dir);
        scene.moods(moods);
        let config = config_with(&dir, &scene.more);
        let refused = server::start(config).await.err().unwrap();
        assert_eq!(refused.finding().code, "SERVER-UNWITNESSED", "{moods:?}");
        assert_eq!(size(&dir), before);
    };
    // Nobody answers, one of the two that are enough does, or somebody in their place.
    refused(&scene, [Mood::Silent; 3]).await;
    refused(&scene, [Mood::Good, Mood::Silent, Mood::Silent]).await;
    refused(&scene, [Mood::Forging; 3]).await;
    // Whoever stands between could show for a year what clocks that are ahead have signed once.
    refused(&scene, [Mood::Ahead, Mood::Silent, Mood::Ahead]).await;
    scene.moods([Mood::Good, Mood::Silent, Mood::Good]);
    scene.go_on().await;
    assert_eq!(scene.signing().await, "allowed");
    scene.moods([Mood::Good; 3]);
    scene.fixture.token("m1").await;
    scene.witnessed().await;
    let status = scene.fixture.status().await;
    assert_eq!(status["witnesses"]["since_start"], true);
    scene.fixture.stop().await;

    // Restored whole: old answers let nothing begin, and true ones say why.
    scene.restored();
    refused(&scene, [Mood::Forging; 3]).await;
    let config = config_with(&dir, &scene.more);
    let snapshot = server::snapshot(&config, "uid:0").map(drop).unwrap_err();
    assert_eq!(snapshot.finding().code, "SERVER-UNWITNESSED");
    let prune = Prune {
        before: facts::Timestamp::from_millis(1),
        reason: "it is old",
        by: "uid:0",
        now: facts::Timestamp::now(),
        copy: None,
        really: true,
    };
    let pruned = server::prune(&config, &prune).map(drop).unwrap_err();
    assert_eq!(pruned.finding().code, "SERVER-UNWITNESSED");
    scene.moods([Mood::Good; 3]);
    scene.go_on().await;
    assert_eq!(scene.signing().await["code"], "SERVER-BEHIND-PEER");
}

/// At a start nobody here can know whether the clock is right; who asks them is told.
#[tokio::test(flavor = "multi_thread")]
async fn witnesses_tell_a_server_that_its_clock_is_ahead() {
    let mut scene = Scene::set().await;
    let told = async |scene: &Scene| {
        let status = scene.fixture.status().await;
        status["witnesses"]["clock_ahead_s"].as_i64().unwrap()
    };
    scene.witnessed().await;
    assert_eq!(told(&scene).await, 0);
    scene.fixture.stop().await;
    let config = config_with(scene.fixture.dir.path(), &scene.more);
    let ahead = || {
        let mut reading = server::system_clock();
        reading.stamp.wall += 400 * 86_400_000;
        reading
    };
    let wrong = server::start_by(config, ahead).await.unwrap();
    scene.fixture.server = Some(wrong);
    until("it is told", async || told(&scene).await > 399 * 86_400).await;
    scene.fixture.stop().await;
    scene.go_on().await;
    scene.witnessed().await;
    assert_eq!(told(&scene).await, 0);
    scene.fixture.stop().await;
}
