//! Gateways' ledgers of a server under witnesses: what no witness has seen anchored is shown to nobody.

use super::{Mood, Scene};
use crate::anchoring::{anchored, fill, open};
use crate::follower::Gateway;
use crate::harness::get;
use crate::recovering::until;
use serde_json::Value;
use std::sync::Arc;

/// Size of the one ledger that is listed, and what its checkpoint and anchor are answered with.
async fn shown(scene: &Scene) -> Option<(u64, String)> {
    let http = scene.fixture.running().http_listen;
    let (_, list) = get(http, "/ledgers").await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let name = list["ledgers"][0]["name"].as_str()?.to_owned();
    let (_, note) = get(http, &format!("/ledgers/{name}/checkpoint")).await;
    let size = note.lines().nth(1)?.parse().ok()?;
    let (_, proof) = get(http, &format!("/ledgers/{name}/anchor")).await;
    Some((size, proof))
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_gateways_ledger_only_what_witnesses_have_seen_anchored_is_shown() {
    let scene = Scene::set().await;
    let mut gateway = Gateway::connect(&scene.fixture, 2000).await.unwrap();
    gateway.hello(0, Vec::new()).await;
    let dir = scene.fixture.dir.path().join("own");
    let own = open(&dir, Arc::clone(&gateway.signer) as _);
    fill(&own, 1);
    let first = own.reader().size();
    assert_eq!(anchored(&mut gateway, &own, 0).await, Ok(first));
    let mut proof = String::new();
    until("the first anchor is witnessed", async || {
        let Some((size, shown)) = shown(&scene).await else {
            return false;
        };
        proof = shown;
        size == first
    })
    .await;
    // The anchor is under a checkpoint that the quorum has cosigned.
    let proof: ledger::ProofFile = proof.parse().unwrap();
    assert!(scene.size(&proof.checkpoint).await > Some(proof.index));

    // The witnesses hear nothing: the next anchors stand in the ledger, and are shown to nobody.
    scene.moods([Mood::Silent; 3]);
    for _ in 0..3 {
        fill(&own, 1);
        let size = own.reader().size();
        assert_eq!(anchored(&mut gateway, &own, 0).await, Ok(size));
    }
    let last = own.reader().size();
    let status = scene.fixture.status().await;
    assert_eq!(status["gateways"][0]["size"].as_u64(), Some(last));
    assert_eq!(shown(&scene).await.unwrap().0, first);
    scene.moods([Mood::Good; 3]);
    until("the last anchor is witnessed", async || {
        shown(&scene).await.is_some_and(|(size, _)| size == last)
    })
    .await;
}
