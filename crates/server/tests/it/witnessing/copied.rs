//! Packs of a copy whose server has witnesses: they are made under the newest checkpoint that the copy has cosigned, and
//! a copy that ends before that is refused.

use super::Scene;
use crate::harness::DOMAIN;
use crate::surviving::copy;
use ledger::pack::{Question, Trust, verify};
use record_index::packs::Copied;
use std::path::PathBuf;

fn first() -> Question {
    Question::read(b"{\"kind\":\"record\",\"ledger\":\"server\",\"index\":0}").unwrap()
}

impl Scene {
    async fn copied(&mut self, name: &str) -> PathBuf {
        let path = self.fixture.dir.path().join(name);
        self.fixture.stop().await;
        copy(&self.fixture.dir.path().join("data"), &path);
        self.go_on().await;
        path
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_of_a_copy_stands_under_what_witnesses_have_seen() {
    let mut scene = Scene::set().await;
    scene.witnessed().await;
    let trust = Trust {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: scene.fixture.ledger_key().await,
        x509_authorities: Vec::new(),
        policy: Some(scene.policy.clone()),
    };
    let early = scene.copied("early").await;
    let pack = Copied::open(std::slice::from_ref(&early), &trust).unwrap();
    let report = verify(&pack.pack(first(), true).unwrap(), &trust).unwrap();
    assert!(report.quorum.as_ref().unwrap().reached && report.is_complete());

    // Whoever asks for no witnesses reads no lines of theirs.
    let bare = Trust {
        policy: None,
        ..trust.clone()
    };
    let pack = Copied::open(std::slice::from_ref(&early), &bare).unwrap();
    let report = verify(&pack.pack(first(), true).unwrap(), &bare).unwrap();
    assert!(report.quorum.is_none());

    // The end of the ledger was dropped, and what witnesses cosigned lies beside it.
    scene.fixture.join("m1").await;
    scene.witnessed().await;
    let late = scene.copied("late").await;
    Copied::open(std::slice::from_ref(&late), &trust).unwrap();
    std::fs::remove_dir_all(late.join("ledger")).unwrap();
    copy(&early.join("ledger"), &late.join("ledger"));
    for trust in [&trust, &bare] {
        let refused = Copied::open(std::slice::from_ref(&late), trust).map(|_| ());
        let finding = refused.unwrap_err().finding();
        assert_eq!(finding.code, "PACK-COPY-SHORT", "{finding}");
    }
}
