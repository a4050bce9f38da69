//! Who has what a pruning takes away: a mirror that shows it now, and a copy that grows with the ledger.

use super::{DAY, archive, blob, code, fill, old_world, prune, prune_within};
use crate::harness::finding;
use crate::packs::{pack, verified};
use crate::recovering::{Scene, payments};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use facts::Timestamp;
use ledger::tile::{Kind, TilePath};
use ledger::{Cosigner, ForeignCheckpoint, Note};
use ledger_store::Folder;
use proto::v1::PackRequest;
use server::{Config, PruneBounds};
use std::process::Command;
use std::sync::{Arc, Mutex};

/// What a mirror shows to every reader.
struct Shelf {
    folder: Folder,
    /// Its checkpoint, if it is there.
    note: Mutex<Option<String>>,
    /// Of a bundle it has something else.
    damaged: Mutex<Option<u64>>,
    /// This bundle it has not.
    lost: Mutex<Option<u64>>,
}

async fn checkpoint(State(shelf): State<Arc<Shelf>>) -> Response {
    match shelf.note.lock().unwrap().clone() {
        Some(note) => note.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn tile(
    State(shelf): State<Arc<Shelf>>,
    Path((_, path)): Path<(String, String)>,
) -> Response {
    let path: TilePath = format!("tile/{path}").parse().unwrap();
    let is = |index: &Mutex<Option<u64>>| {
        let index = *index.lock().unwrap();
        index.is_some_and(|index| TilePath::at(Kind::Entries, index, u64::MAX) == Some(path))
    };
    if is(&shelf.lost) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut bytes = shelf.folder.reader().tile(&path).unwrap().unwrap();
    if is(&shelf.damaged) {
        bytes[9] ^= 1;
    }
    bytes.into_response()
}

impl Shelf {
    async fn open(scene: &Scene) -> (Arc<Self>, String) {
        let copied = archive(scene, "mirror");
        let shelf = Arc::new(Self {
            folder: Folder::open(&copied.join("ledger")).unwrap(),
            note: Mutex::default(),
            damaged: Mutex::default(),
            lost: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new()
            .route("/mirror/{log}/checkpoint", get(checkpoint))
            .route("/mirror/{log}/tile/{*path}", get(tile))
            .with_state(Arc::clone(&shelf));
        tokio::spawn(async move { axum::serve(listener, router).await });
        (shelf, url)
    }
}

/// A line that was kept says that somebody signed once: a plain witness has no record, and a mirror may have died since.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_shows_what_goes_now_and_a_line_that_was_kept_counts_for_nothing() {
    let mut scene = old_world().await;
    scene.fixture.stop().await;
    fill(&scene, 18_000);
    let (shelf, url) = Shelf::open(&scene).await;
    let dir = scene.fixture.dir.path();
    let cosigner = |name: &str| {
        let key = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        Cosigner::new(name, Arc::new(key)).unwrap()
    };
    let (witness, mirror) = (cosigner("witness.example/1"), cosigner("mirror.example/1"));
    let policy = format!(
        "witness w {} http://127.0.0.1:1/\nwitness m {} {url}\nquorum w\n",
        witness.key(),
        mirror.key()
    );
    std::fs::write(dir.join("witnesses.policy"), policy).unwrap();
    let named = |mirror: &str| {
        let mut text = std::fs::read_to_string(dir.join("server.toml")).unwrap();
        text.push_str(&format!(
            "[witnesses]\npolicy = \"witnesses.policy\"\nmirrors = [\"{mirror}\"]\n"
        ));
        let path = dir.join("witnessed.toml");
        std::fs::write(&path, text).unwrap();
        Config::load(&path).unwrap()
    };
    let config = named("mirror.example/1");
    let head = shelf.folder.reader().head();
    let checkpoint = ForeignCheckpoint {
        origin: head.checkpoint.origin.to_string(),
        size: head.checkpoint.size,
        root: head.checkpoint.root,
        extensions: Vec::new(),
    };
    let now = Timestamp::now().as_millis() / 1_000;
    let cosigned = |by: &[&Cosigner]| {
        let mut note = Note::parse(&head.note).unwrap();
        let lines = by.iter().map(|one| one.cosign(&checkpoint, now).unwrap());
        note.merge(lines.collect()).unwrap();
        note.to_string()
    };
    let refused = |config: &Config| assert_eq!(code(prune(config, None, true)), "PRUNE-NOT-COPIED");

    // As an earlier run kept it, of a witness that is named a mirror, and of a mirror that has nothing any more.
    std::fs::write(
        scene.data().join("witnessed"),
        cosigned(&[&witness, &mirror]),
    )
    .unwrap();
    refused(&named("witness.example/1"));
    refused(&named("mirror.example/1"));
    for by in [
        &[&witness][..],
        &[&witness, &cosigner("mirror.example/1")][..],
    ] {
        *shelf.note.lock().unwrap() = Some(cosigned(by));
        refused(&config);
    }
    *shelf.note.lock().unwrap() = Some(cosigned(&[&mirror]));
    let plan = prune(&config, None, false).unwrap();
    // One bundle of all that go, wherever it is.
    let bundles = plan.minimum / 256;
    assert!(bundles > 65, "{bundles}");
    for index in [0, 1, bundles / 2, bundles / 2 + 1, bundles - 1] {
        *shelf.damaged.lock().unwrap() = Some(index);
        refused(&config);
        *shelf.damaged.lock().unwrap() = None;
    }
    *shelf.lost.lock().unwrap() = Some(bundles / 2);
    refused(&config);
    *shelf.lost.lock().unwrap() = None;
    let heard = Mutex::new(Vec::new());
    let bounds = PruneBounds {
        told: &|read, of| heard.lock().unwrap().push((read, of)),
        ..PruneBounds::default()
    };
    let done = prune_within(&config, None, true, &bounds).unwrap();
    let (size, minimum) = (checkpoint.size, done.minimum);
    assert_eq!(heard.lock().unwrap().last(), Some(&(minimum, minimum)));
    assert_eq!(
        done.holder,
        format!(
            "at the mirror mirror.example/1, which has {size} records: all of the first {minimum} were read there"
        )
    );
    assert!(done.records.is_some());
}

async fn refused(scene: &Scene, question: &str) -> String {
    let request = PackRequest {
        question: question.to_owned(),
        ..PackRequest::default()
    };
    let asked = scene.fixture.admin().await.pack(request).await;
    finding(&asked.map(drop).unwrap_err()).code.into_owned()
}

/// The second year: the copy of before the first pruning is grown, and what it does not reach the server has itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_pruning_goes_by_the_copy_that_was_grown() {
    let mut scene = old_world().await;
    let kept = payments(&scene.machine, "kept").await;
    scene.fixture.stop().await;
    let config = scene.config.clone();
    let copied = archive(&scene, "archive");
    let first = prune(&config, Some(&copied), true).unwrap();
    let (stands, _) = first.records.unwrap();
    fill(&scene, 1_200);
    scene.start().await;
    scene.fixture.join("m7").await;
    scene.fixture.stop().await;

    // The copy ends before the second snapshot, whose records are here.
    let second = server::snapshot(&config, super::BY).unwrap();
    let checked = server::check_snapshots(&config, &copied, false).unwrap();
    assert_eq!(checked.sound, [stands, second.index]);
    std::fs::remove_file(blob(&scene, &second.blob)).unwrap();
    let restored = server::check_snapshots(&config, &copied, true).unwrap();
    assert_eq!(restored.restored, [second.index]);
    // It does not have what goes now, and a copy of what is left not what has gone.
    let young = archive(&scene, "young");
    for copy in [&copied, &young] {
        assert_eq!(code(prune(&config, Some(copy), false)), "SNAPSHOT-COPY");
    }
    assert_eq!(
        code(server::check_snapshots(&config, &young, false)),
        "SNAPSHOT-COPY"
    );

    // As docs/operate/pruning.md says.
    let short = scene.fixture.dir.path().join("short");
    crate::surviving::copy(&copied, &short);
    let grow = Command::new("cp")
        .args(["-a", "--remove-destination"])
        .args([&scene.data().join("."), &copied])
        .status();
    assert!(grow.unwrap().success());
    let third = prune(&config, Some(&copied), true).unwrap();
    assert!(third.minimum > first.minimum, "{third:?}");
    let (newest, _) = third.records.unwrap();
    let checked = server::check_snapshots(&config, &copied, false).unwrap();
    assert_eq!(checked.sound.last(), Some(&newest));
    // What is checked by nobody is not said to be sound.
    assert_eq!(
        code(server::check_snapshots(&config, &short, false)),
        "SNAPSHOT-COPY"
    );
    let whole = Folder::open(&copied.join("ledger")).unwrap();
    assert_eq!(whole.reader().pruned(), None);
    assert!(whole.reader().record(5).is_ok());

    // ------------------------------------------------------------ packs of what lives
    scene.start().await;
    let fixture = &scene.fixture;
    let serial = &kept.svid.serial;
    let issuance = format!("{{\"kind\":\"issuance\",\"serial\":\"{serial}\"}}");
    assert!(!verified(fixture, &issuance).await.records.is_empty());
    let lifetime = "{\"kind\":\"lifetime\",\"identity\":\"payments/api\"}";
    assert!(!verified(fixture, lifetime).await.records.is_empty());
    // It is declared nowhere, and lives.
    pack(
        fixture,
        "{\"kind\":\"access\",\"identity\":\"trilith/server\"}",
    )
    .await;
    // Of others nobody here knows whether they ever were.
    let end = Timestamp::now().as_millis() + DAY;
    for question in [
        "{\"kind\":\"access\",\"identity\":\"payments/gone\"}".to_owned(),
        "{\"kind\":\"issuance\",\"serial\":\"00\"}".to_owned(),
        format!("{{\"kind\":\"period\",\"ledger\":\"server\",\"from\":0,\"to\":{end}}}"),
    ] {
        assert_eq!(
            refused(&scene, &question).await,
            "LEDGER-PRUNED",
            "{question}"
        );
    }
    scene.fixture.stop().await;
    scene.close_gateway().await;
}
