//! The ledger goes on as a new log under a real gateway: its key is replaced, or what is left of it is a backup. What
//! the old key signs then counts nowhere, and what was lost is told.

mod refusing;

use super::{Scene, admitted, own_records, payments, recover, tree, until};
use crate::harness::{DOMAIN, Fixture, finding};
use crate::surviving::copy;
use crypto::Custody as _;
use ledger::body::{Gap, KeyRotation, Recovery};
use ledger::lineage::{self, Link};
use ledger::{Checkpoint, Code as _, LedgerSigner, RecordType};
use proto::v1::PackRequest;
use server::{NewLog, StartError, Why};
use std::path::PathBuf;

const FIRST: &str = "example.org/server";
const SECOND: &str = "example.org/server@2";
const THIRD: &str = "example.org/server@3";

fn why(give_up: bool) -> Why<'static> {
    Why {
        reason: "for a test",
        by: "uid:0",
        give_up,
    }
}

fn code(refused: Result<NewLog, StartError>) -> String {
    refused.unwrap_err().finding().code.to_string()
}

impl Scene {
    fn keys(&self) -> PathBuf {
        self.fixture.dir.path().join("keys/ledger")
    }

    fn new_log(&self, give_up: bool) -> Result<NewLog, StartError> {
        server::new_log(&self.config, why(give_up))
    }

    /// The signer of a log, as whoever has read the key's file has it.
    fn stolen(&self, name: &str, origin: &str) -> LedgerSigner {
        let custody = custody::FileCustody::open(&self.keys()).unwrap();
        LedgerSigner::new(origin, custody.load(name).unwrap().unwrap()).unwrap()
    }

    /// The data directory is what it was at the last backup.
    fn put_back(&self) {
        std::fs::remove_dir_all(self.data()).unwrap();
        copy(&self.fixture.dir.path().join("backup"), &self.data());
    }

    fn follows(&self) -> String {
        self.core().following().ledger_key().origin().to_string()
    }
}

async fn pack(fixture: &Fixture, index: u64) -> Vec<u8> {
    let question = format!("{{\"kind\":\"record\",\"ledger\":\"\",\"index\":{index}}}");
    let asked = fixture
        .admin()
        .await
        .pack(PackRequest {
            question,
            ..PackRequest::default()
        })
        .await;
    let mut stream = asked.unwrap().into_inner();
    let mut pack = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        pack.extend_from_slice(&chunk.data);
    }
    pack
}

fn trust(key: &ledger::LedgerKey) -> ledger::pack::Trust {
    ledger::pack::Trust {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: key.clone(),
        x509_authorities: Vec::new(),
        policy: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_ledger_key_is_replaced_and_what_it_signs_then_counts_nowhere() {
    let mut scene = Scene::set().await;
    let kept = payments(&scene.machine, "kept").await;
    scene.followed().await;
    let pin = scene.fixture.status().await["pin"].clone();
    scene.fixture.stop().await;
    let thief = scene.stolen("ledger", FIRST);
    let begun = scene.new_log(false).unwrap();
    assert_eq!((begun.was.origin().as_str(), begun.given_up), (FIRST, None));
    assert_eq!(begun.key.origin().as_str(), SECOND);
    assert_eq!(
        begun.index, begun.size,
        "the first record of the new log says so"
    );
    scene.start().await;
    until("the gateway follows the new log", async || {
        scene.follows() == SECOND
    })
    .await;
    scene.followed().await;

    // ------------------------------------------------------------ nothing that was issued is lost
    admitted(scene.core(), &kept).await.unwrap();
    let new = payments(&scene.machine, "new").await;
    until("what is issued now comes in", async || {
        admitted(scene.core(), &new).await.is_ok()
    })
    .await;
    let status = scene.fixture.status().await;
    assert_eq!(status["ledger"]["origin"], SECOND);
    assert_eq!(status["ledger"]["lineage"][0]["reason"], "for a test");
    assert_eq!(status["pin"], pin, "who joins later needs no other pin");
    let rotations = scene.fixture.records(&["key-rotation"]).await;
    let (index, rotation) = rotations.last().unwrap();
    assert_eq!((*index, &rotation["origin"]), (begun.size, &SECOND.into()));
    let rotation: KeyRotation = serde_json::from_value(rotation["body"].clone()).unwrap();
    assert_eq!(Link::open(&rotation).unwrap().size, begun.size);
    let pack = pack(&scene.fixture, begun.size - 1).await;
    for key in [&begun.was, &begun.key] {
        ledger::pack::verify(&pack, &trust(key)).unwrap();
    }

    // ------------------------------------------------------------ the thief
    let (size, _) = scene.core().following().head();
    let origin = thief.key().origin().clone();
    let (size, root) = (size + 1, [9; 32]);
    let forged = thief.sign(&Checkpoint { origin, size, root }).unwrap();
    let following = scene.core().following().clone();
    let refused = following
        .take_checkpoint(&forged, size - 1, &[])
        .unwrap_err();
    assert_eq!(refused.code, "FOLLOW-CHECKPOINT");
    assert!(
        refused.to_string().contains("LEDGER-CHECKPOINT-ENDED"),
        "{refused}"
    );
    let theirs = LedgerSigner::new(SECOND, thief_key()).unwrap();
    let second = Link::sign(&thief, &theirs, (begun.size, [0; 32]), "").unwrap();
    let refused = following.succeed(&lineage::to_json(&[second])).unwrap_err();
    assert_eq!(refused.code, "FOLLOW-LINEAGE-FORKED");
    let mut unsigned = rotation;
    unsigned.new_signature = unsigned.old_signature.clone();
    let refused = following
        .succeed(&lineage::to_json(&[unsigned]))
        .unwrap_err();
    assert_eq!(refused.code, "FOLLOW-LINEAGE");
    drop(following);

    // ------------------------------------------------------------ and both start again
    scene.close_gateway().await;
    scene.open_gateway().await;
    assert_eq!(scene.follows(), SECOND, "also before it hears the server");
    scene.followed().await;
    admitted(scene.core(), &kept).await.unwrap();
    scene.fixture.stop().await;
    let before = server::state_digest(&scene.config).unwrap();
    assert_eq!(server::rebuild_state(&scene.config).unwrap(), before);
    // The old key may be destroyed.
    std::fs::remove_file(scene.keys().join("ledger.pk8")).unwrap();
    scene.start().await;
    scene.followed().await;
}

fn thief_key() -> std::sync::Arc<dyn crypto::Signer> {
    std::sync::Arc::new(crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on_as_a_new_log_that_says_what_was_given_up() {
    let mut scene = Scene::set().await;
    let kept = payments(&scene.machine, "kept").await;
    scene.followed().await;
    scene.back_up().await;
    let late = payments(&scene.machine, "late").await;
    scene.followed().await;
    until("it is let in", async || {
        admitted(scene.core(), &late).await.is_ok()
    })
    .await;
    scene.fixture.stop().await;
    scene.put_back();
    assert_eq!(
        code(scene.new_log(false)),
        "SERVER-BEHIND-PEER",
        "nobody said so"
    );
    let begun = scene.new_log(true).unwrap();
    // With what the server of before recorded in its last moments.
    let abandoned = scene.core().following().head();
    assert!(
        begun.size < abandoned.0 && begun.given_up >= Some(abandoned.0),
        "{begun:?}"
    );
    scene.start().await;
    assert_eq!(scene.fixture.status().await["signing"], "allowed");

    until("the gateway follows the new log", async || {
        scene.follows() == SECOND
    })
    .await;
    scene.followed().await;
    until("the gateway has the whole state", async || {
        admitted(scene.core(), &kept).await.is_ok()
    })
    .await;
    let refused = admitted(scene.core(), &late).await.unwrap_err();
    assert!(
        refused.starts_with("FOLLOW-") || refused == "SVID-RECEIPT-LEDGER",
        "{refused}"
    );
    // The gap, for good: in the server's ledger, and in the gateway's own.
    let told = scene.fixture.records(&["gap", "recovery"]).await;
    let gap = told
        .iter()
        .find(|(_, record)| record["type"] == "gap")
        .unwrap();
    let gap: Gap = serde_json::from_value(gap.1["body"].clone()).unwrap();
    assert_eq!(gap.cause, "recovery");
    assert_eq!(gap.lost.unwrap().0, begun.given_up.unwrap() - begun.size);
    assert!(gap.from > 0 && gap.from < gap.to);
    let own: Recovery = own_records(scene.core(), RecordType::Recovery)[0]
        .expect_body()
        .unwrap();
    assert_eq!(own.old_size.0, abandoned.0);
    assert!(own.old_checkpoint.unwrap().starts_with(FIRST));
    let new = payments(&scene.machine, "new").await;
    until("what is issued now comes in", async || {
        admitted(scene.core(), &new).await.is_ok()
    })
    .await;
    scene.close_gateway().await;
    scene.open_gateway().await;
    scene.followed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_log_that_has_ended_goes_on_as_a_third() {
    let mut scene = Scene::set().await;
    scene.followed().await;
    scene.back_up().await;
    payments(&scene.machine, "one").await;
    scene.followed().await;
    scene.fixture.stop().await;
    scene.new_log(false).unwrap();
    scene.start().await;
    until("the gateway follows the second log", async || {
        scene.follows() == SECOND
    })
    .await;
    payments(&scene.machine, "two").await;
    scene.followed().await;
    scene.fixture.stop().await;
    scene.put_back();
    // In place it would go on without the record of the link.
    scene.start().await;
    let refused = finding(&recover(&scene.fixture).await.unwrap_err());
    assert_eq!(refused.code, "SERVER-LINEAGE-RECOVERY");
    assert!(refused.to_string().contains("new-log"), "{refused}");
    scene.fixture.stop().await;
    let begun = scene.new_log(true).unwrap();
    assert_eq!(
        (begun.was.origin().as_str(), begun.key.origin().as_str()),
        (SECOND, THIRD)
    );
    scene.start().await;
    until("the gateway follows the third log", async || {
        scene.follows() == THIRD
    })
    .await;
    scene.followed().await;
    // The link whose record was lost is told again: packs lead from the first key.
    assert_eq!(
        scene.fixture.status().await["ledger"]["lineage"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let (size, _) = tree(&scene.fixture).await;
    let pack = pack(&scene.fixture, size.as_u64().unwrap() - 1).await;
    let first = ledger::LedgerKey::new(
        FIRST,
        scene.stolen("ledger", FIRST).key().public_key().clone(),
    );
    let report = ledger::pack::verify(&pack, &trust(&first.unwrap())).unwrap();
    assert_eq!(report.checkpoints[0].origin.as_str(), THIRD);
    let followed = scene.core().following().ledger_key();
    assert_eq!(
        followed.end_of(FIRST),
        followed.end_of(SECOND),
        "both ended where the third goes on"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_short_at_any_step_it_goes_on_where_it_was() {
    let mut scene = Scene::set().await;
    scene.followed().await;
    scene.fixture.stop().await;
    let saved = scene.fixture.dir.path().join("saved");
    copy(&scene.data(), &scene.fixture.dir.path().join("backup"));
    copy(&scene.keys(), &saved);
    let first = scene.new_log(false).unwrap();

    // After the link, before the first record of the new log.
    scene.put_back();
    std::fs::copy(
        saved.join("highest-head"),
        scene.keys().join("highest-head"),
    )
    .unwrap();
    let refused = server::start(scene.config.clone()).await;
    let refused = refused.err().unwrap().finding();
    assert_eq!(refused.code, "SERVER-NEW-LOG-UNFINISHED");
    assert!(
        refused.to_string().contains("trilith server new-log"),
        "{refused}"
    );
    let again = scene.new_log(false).unwrap();
    assert_eq!((&again.key, again.index), (&first.key, first.index));
    scene.start().await;
    until("the gateway follows the new log", async || {
        scene.follows() == SECOND
    })
    .await;
    scene.fixture.stop().await;

    // After the key, before the link: the key was never used, and another one is made.
    std::fs::copy(
        scene.keys().join(key_file(&scene, "ledger-2")),
        scene
            .keys()
            .join(key_file(&scene, "ledger-2").replace("ledger-2", "ledger-3")),
    )
    .unwrap();
    let third = scene.new_log(false).unwrap();
    assert_eq!(third.key.origin().as_str(), "example.org/server@4");
    // Two at once: the second is refused.
    scene.start().await;
    assert_eq!(code(scene.new_log(false)), "SERVER-RUNNING");
    scene.followed().await;
    scene.fixture.stop().await;

    // Links that do not lead to the key are no reason to sign with another one.
    let lineage = scene.keys().join("lineage");
    let links = std::fs::read_to_string(&lineage).unwrap();
    std::fs::write(&lineage, links.replacen("for a test", "for another", 1)).unwrap();
    scene.start().await;
    scene.fixture.stop().await;
    std::fs::write(
        &lineage,
        links.replacen("ledger-succession-v1", "ledger-succession-v2", 1),
    )
    .unwrap();
    let refused = server::start(scene.config.clone()).await;
    assert_eq!(refused.err().unwrap().finding().code, "SERVER-LINEAGE");
}

/// The file of a key, as custody names it.
fn key_file(scene: &Scene, name: &str) -> String {
    let files = std::fs::read_dir(scene.keys()).unwrap();
    let mut names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .find(|file| file.starts_with(&format!("{name}.")))
        .unwrap()
}

#[test]
fn there_is_no_new_log_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = crate::harness::config(dir.path());
    assert_eq!(
        code(server::new_log(&config, why(false))),
        "SERVER-NEW-LOG-EMPTY"
    );
    assert_eq!(lineage::LineageError::Format.code(), "LEDGER-LINK-FORMAT");
}
