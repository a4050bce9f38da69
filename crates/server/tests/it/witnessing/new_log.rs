//! A backup is restored under witnesses, who never cosign a shorter ledger of one name: it goes on as a new log, which
//! they cosign once they know its key, and packs show the quorum and the gap.

use super::Scene;
use crate::harness::{config_with, get};
use crate::surviving::copy;
use server::Why;

#[tokio::test(flavor = "multi_thread")]
async fn what_witnesses_would_never_cosign_again_goes_on_as_a_log_that_they_do() {
    let mut scene = Scene::set().await;
    scene.witnessed().await;
    let first = scene.fixture.ledger_key().await;
    let data = scene.fixture.dir.path().join("data");
    let backup = scene.fixture.dir.path().join("backup");
    scene.fixture.stop().await;
    copy(&data, &backup);
    scene.go_on().await;
    scene.fixture.token("m1").await;
    let seen = scene.witnessed().await;
    scene.fixture.stop().await;
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);

    // In place it is refused, and the refusal says what to do.
    scene.go_on().await;
    let request = proto::v1::RecoverRequest {
        reason: "the disk was lost".to_owned(),
    };
    let refused = scene
        .fixture
        .admin()
        .await
        .recover(request)
        .await
        .unwrap_err();
    let refused = crate::harness::finding(&refused);
    assert_eq!(refused.code, "SERVER-WITNESSED-RECOVERY");
    assert!(
        refused.to_string().contains("trilith server new-log"),
        "{refused}"
    );
    scene.fixture.stop().await;

    let config = config_with(scene.fixture.dir.path(), &scene.more);
    let why = Why {
        reason: "the disk was lost",
        by: "uid:0",
        give_up: true,
    };
    let begun = server::new_log(&config, why).unwrap();
    assert!(begun.size < seen && begun.given_up >= Some(seen));
    scene.go_on().await;
    // They know the old log alone: nothing of the new one is witnessed, and nothing of it is served.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let (_, served) = get(scene.fixture.running().http_listen, "/checkpoint").await;
    assert!(served.starts_with("example.org/server\n"), "{served}");
    for witness in &scene.witnesses {
        witness.with(|inner| {
            inner.log = Some(begun.key.clone());
            inner.last = None;
        });
    }
    let size = scene.witnessed().await;
    assert!(size > begun.size);
    let pack = scene.pack(begun.index).await;
    let trust = |key: &ledger::LedgerKey| ledger::pack::Trust {
        trust_domain: crate::harness::DOMAIN.to_owned(),
        ledger_key: key.clone(),
        x509_authorities: Vec::new(),
        policy: Some(scene.policy.clone()),
    };
    for key in [&first, &begun.key] {
        let report = ledger::pack::verify(&pack, &trust(key)).unwrap();
        assert!(report.quorum.unwrap().reached);
    }
    assert_eq!(
        scene.witnesses[0].with(|inner| inner.conflicts),
        0,
        "no shorter ledger of one name"
    );
    let told = scene.fixture.records(&["gap"]).await;
    assert!(
        told.iter()
            .any(|(_, gap)| gap["body"]["cause"] == "recovery"),
        "{told:?}"
    );
}
