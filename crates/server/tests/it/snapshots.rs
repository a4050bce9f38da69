//! Snapshots and pruning of the server's own ledger: with a world in it that has everything, the state is the same
//! whatever it is computed from; what lives goes on; and what is gone is told.

mod holders;
mod killed;
mod named;

use crate::erasing::{ADA, erase, of, with_ada};
use crate::harness::{Fixture, estate, estate_of_two, finding, get};
use crate::recovering::{Scene, admitted, payments, until};
use crate::surviving::copy;
use crypto::Custody as _;
use custody::FileCustody;
use facts::Timestamp;
use ledger::body::{self, Body as _};
use ledger::{Digest, HexDigest, Stamp};
use ledger_store::{Blobs, Folder, Ledger, Options, RealDisk};
use proto::v1;
use server::{Config, Prune, PruneBounds, Pruning, StartError, Why};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DAY: u64 = 24 * 60 * 60 * 1000;
const BY: &str = "uid:7";

async fn revoke(fixture: &Fixture, kind: &str, value: &str) {
    let request = v1::RevokeRequest {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: "left".to_owned(),
    };
    fixture.admin().await.revoke(request).await.unwrap();
}

/// Estates, machines, issuances, revocations, tokens, an anchor and an erasure.
async fn world() -> Scene {
    let scene = Scene::prepared(|_| ()).await;
    let fixture = &scene.fixture;
    fixture.apply(&with_ada(estate())).await.unwrap();
    fixture.apply(&estate()).await.unwrap();
    erase(fixture, of(ADA, true)).await.unwrap();
    for node in ["m2", "m3", "m4"] {
        fixture.join(node).await;
    }
    let cut = payments(&scene.machine, "cut").await;
    revoke(fixture, "serial", &cut.svid.serial).await;
    revoke(fixture, "machine", "m4").await;
    fixture.token("m5").await;
    until("the gateway's ledger is anchored", async || {
        !fixture.records(&["anchor"]).await.is_empty()
    })
    .await;
    scene
}

fn code<T: std::fmt::Debug>(refused: Result<T, StartError>) -> String {
    let finding = refused.unwrap_err().finding();
    assert!(finding.next.is_some(), "{finding}");
    finding.code.into_owned()
}

fn new_log(config: &Config) {
    let why = Why {
        reason: "for a test",
        by: BY,
        give_up: false,
    };
    server::new_log(config, why).unwrap();
}

fn archive(scene: &Scene, name: &str) -> PathBuf {
    let path = scene.fixture.dir.path().join(name);
    copy(&scene.data(), &path);
    path
}

fn blob(scene: &Scene, digest: &str) -> PathBuf {
    scene
        .data()
        .join("blobs")
        .join(digest.get(..2).unwrap())
        .join(digest)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_a_snapshot_and_what_came_after_is_that_of_all_records() {
    let mut scene = world().await;
    scene.fixture.stop().await;
    new_log(&scene.config);
    scene.start().await;
    scene.fixture.stop().await;
    let config = scene.config.clone();
    let first = server::snapshot(&config, BY).unwrap();
    assert!(!first.already);
    let again = server::snapshot(&config, "uid:8").unwrap();
    assert_eq!(
        (again.already, again.index, &again.blob),
        (true, first.index, &first.blob)
    );
    scene.start().await;
    revoke(&scene.fixture, "identity", "payments/api").await;
    scene.fixture.join("m6").await;
    let (index, record) = scene.fixture.records(&["snapshot"]).await.remove(0);
    assert_eq!(index, first.index);
    assert_eq!(record["actor"], BY);
    assert_eq!(record["auth"], "uid");
    assert_eq!(record["body"]["size"], first.records.to_string());
    scene.fixture.stop().await;

    let live = server::state_digest(&config).unwrap();
    let begun = server::rebuild(&config).unwrap();
    assert_eq!(
        (begun.snapshot, begun.refused.len()),
        (Some(first.index), 0)
    );
    assert_eq!(begun.rebuilt, live);
    let all = server::rebuild_from_first(&config).unwrap();
    assert_eq!((all.rebuilt, all.snapshot), (live, Some(first.index)));
    // Byte for byte: the state that was computed from a snapshot, written again, is what all records give.
    server::rebuild(&config).unwrap();
    let second = server::snapshot(&config, BY).unwrap();
    assert!(!second.already && second.records > first.records);
    let copied = archive(&scene, "archive");
    let checked = server::check_snapshots(&config, &copied, false).unwrap();
    assert_eq!(checked.sound, [first.index, second.index]);
    assert_eq!(checked.records, second.records);
    let bytes = std::fs::read(blob(&scene, &second.blob)).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    for row in [
        "node",
        "svid",
        "token",
        "revocation",
        "estate",
        "bundle",
        "gateway",
    ] {
        assert!(text.contains(&format!("\n[\"{row}\",")), "{row}: {text}");
    }
    for row in ["erased ", "link ", "clock"] {
        assert!(text.contains(&format!("\n[\"meta\",\"{row}")), "{row}");
    }
    scene.start().await;
    scene.followed().await;
    scene.fixture.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_used_is_left_aside_and_one_that_is_false_is_found() {
    let mut scene = world().await;
    scene.fixture.stop().await;
    let config = scene.config.clone();
    let copied = archive(&scene, "archive");
    let made = server::snapshot(&config, BY).unwrap();
    let live = server::state_digest(&config).unwrap();
    let path = blob(&scene, &made.blob);
    let good = std::fs::read(&path).unwrap();
    let mut changed = good.clone();
    changed[40] ^= 1;
    for bad in [None, Some(&changed[..]), Some(&good[..100])] {
        match bad {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let begun = server::rebuild(&config).unwrap();
        assert_eq!(begun.rebuilt, live);
        assert_eq!(begun.snapshot, None);
        assert_eq!(begun.refused[0].code, "SNAPSHOT-LOST");
        // It said that all is well, before a restore that had no blob.
        let checked = server::check_snapshots(&config, &copied, false).unwrap();
        assert_eq!(
            (&checked.sound, &checked.lost),
            (&vec![made.index], &vec![made.index])
        );
        assert_eq!(checked.finding().unwrap().code, "SNAPSHOT-LOST");
    }
    std::fs::remove_file(&path).unwrap();
    let made_again = server::check_snapshots(&config, &copied, true).unwrap();
    assert_eq!(made_again.restored, [made.index]);
    assert_eq!(made_again.finding(), None);
    let checked = server::check_snapshots(&config, &copied, false).unwrap();
    assert_eq!(checked.finding(), None);
    assert_eq!(std::fs::read(&path).unwrap(), good);

    // Whoever has the ledger's key records what he likes.
    let forge = |bytes: &[u8], size: Option<u64>, root: Option<Digest>, format: &str| {
        let blobs = Blobs::open(&scene.data().join("blobs"), 1 << 24, Arc::new(RealDisk));
        let state = blobs.unwrap().put(bytes).unwrap();
        let ledger = server_ledger(&scene);
        let applied = ledger.reader().size();
        let size = size.unwrap_or(applied);
        let of_it = || Digest(ledger.reader().root(size.min(applied)).unwrap());
        let body = body::Snapshot {
            size: size.into(),
            root: root.unwrap_or_else(of_it),
            state,
            format: format.to_owned(),
        };
        let draft = body.record().actor(BY, "uid").draft().unwrap();
        let index = ledger.append(draft).wait().unwrap().index();
        ledger.close().unwrap();
        index
    };
    let text = String::from_utf8(good).unwrap();
    let of = |size: u64| {
        let (_, rest) = text.split_once('\n').unwrap();
        format!("[\"trilith.dev/state/v2\",{size}]\n{rest}")
    };
    let size = || {
        Folder::open(&scene.data().join("ledger"))
            .unwrap()
            .reader()
            .size()
    };
    let format = "trilith.dev/state/v2";
    // One that forgets a revocation is used by the server that has its key to itself: whoever has the records finds it.
    let forgetful: String = of(size())
        .lines()
        .filter(|line| !line.starts_with("[\"revocation\","))
        .map(|line| format!("{line}\n"))
        .collect();
    let index = forge(forgetful.as_bytes(), None, None, format);
    assert_eq!(server::rebuild(&config).unwrap().snapshot, Some(index));
    let copied = archive(&scene, "archive-2");
    let refused = server::check_snapshots(&config, &copied, false)
        .unwrap_err()
        .finding();
    assert_eq!(refused.code, "SNAPSHOT-FALSE");
    assert!(
        refused.message.contains(&format!("record {index} ")),
        "{refused}"
    );
    assert_eq!(code(server::rebuild_from_first(&config)), "SNAPSHOT-FALSE");
    // What is in the database then is what the records give.
    let honest = server::state_digest(&config).unwrap();
    std::fs::remove_file(blob(
        &scene,
        &HexDigest::of(forgetful.as_bytes()).to_string(),
    ))
    .unwrap();
    assert_eq!(server::rebuild(&config).unwrap().rebuilt, honest);
    for (index, code) in [
        (forge(b"{}", None, None, format), "SNAPSHOT-FALSE"),
        (
            forge(of(7).as_bytes(), None, None, format),
            "SNAPSHOT-FALSE",
        ),
        (
            forge(of(size() + 9).as_bytes(), Some(size() + 9), None, format),
            "SNAPSHOT-FALSE",
        ),
        (
            forge(of(size()).as_bytes(), None, Some(Digest([7; 32])), format),
            "SNAPSHOT-FALSE",
        ),
        (
            forge(of(size()).as_bytes(), None, None, "trilith.dev/state/v0"),
            "SNAPSHOT-FORMAT",
        ),
    ] {
        let begun = server::rebuild(&config).unwrap();
        let named = format!("record {index} ");
        let refused = begun
            .refused
            .iter()
            .find(|finding| finding.message.contains(&named));
        assert_eq!(refused.unwrap().code, code, "record {index}");
        assert_eq!(begun.snapshot, Some(made.index));
    }
    scene.start().await;
    scene.fixture.stop().await;
}

/// The fold of then was another one. It was said that whoever made the record had stolen the ledger's key.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_an_earlier_format_is_left_out_and_no_lie() {
    let mut scene = world().await;
    scene.fixture.stop().await;
    let config = scene.config.clone();
    let before = server::state_digest(&config).unwrap();
    let earlier = b"[\"trilith.dev/state/v1\",3]\n";
    let state = Blobs::open(&scene.data().join("blobs"), 1 << 24, Arc::new(RealDisk))
        .unwrap()
        .put(earlier)
        .unwrap();
    let ledger = server_ledger(&scene);
    let size = ledger.reader().size();
    let body = body::Snapshot {
        size: size.into(),
        root: Digest(ledger.reader().root(size).unwrap()),
        state,
        format: "trilith.dev/state/v1".to_owned(),
    };
    let draft = body.record().actor(BY, "uid").draft().unwrap();
    let index = ledger.append(draft).wait().unwrap().index();
    ledger.close().unwrap();
    let begun = server::rebuild_from_first(&config).unwrap();
    assert_eq!(begun.refused.len(), 1);
    assert_eq!(begun.refused[0].code, "SNAPSHOT-FORMAT");
    assert!(begun.refused[0].next.is_some());
    assert_eq!(begun.rebuilt.records, before.records + 1);
    let begun = server::rebuild(&config).unwrap();
    assert_eq!((begun.snapshot, begun.refused.len()), (None, 1));
    // One that is newer stands beside it, and is compared.
    let made = server::snapshot(&config, BY).unwrap();
    let copied = archive(&scene, "archive");
    std::fs::remove_file(blob(&scene, &made.blob)).unwrap();
    let checked = server::check_snapshots(&config, &copied, true).unwrap();
    assert_eq!(checked.others, [index]);
    assert_eq!(checked.sound, [made.index]);
    assert_eq!(checked.restored, [made.index]);
    assert_eq!(checked.finding(), None);
    assert_eq!(server::rebuild(&config).unwrap().snapshot, Some(made.index));
}

/// As whoever has its key opens it, with small segments.
fn server_ledger(scene: &Scene) -> Ledger {
    ledger_under(scene, ledger_store::system_clock)
}

fn ledger_under(scene: &Scene, clock: fn() -> Stamp) -> Ledger {
    let keys = scene.fixture.dir.path().join("keys/ledger");
    let signer = FileCustody::open(&keys).unwrap().load("ledger").unwrap();
    let options = Options {
        segment_bytes: 30_000,
        reserve_bytes: 0,
        clock,
        ..Options::default()
    };
    let dir = scene.data().join("ledger");
    Ledger::open(&dir, signer.unwrap(), "example.org/server", &options).unwrap()
}

/// Records that say nothing, in small segments.
fn fill(scene: &Scene, count: u64) {
    fill_under(scene, count, ledger_store::system_clock);
}

fn fill_under(scene: &Scene, count: u64, clock: fn() -> Stamp) {
    let ledger = ledger_under(scene, clock);
    let act = body::Admin {
        principal: BY.to_owned(),
        action: "status".to_owned(),
        resource: "server".to_owned(),
        allow: false,
        policies: Vec::new(),
        detail: "x".repeat(60),
    };
    for _ in 0..count.div_ceil(16) {
        let draft = || act.clone().record().actor(BY, "uid").draft().unwrap();
        let drafts = std::iter::repeat_with(draft).take(16).collect();
        ledger.append_many(drafts).wait().unwrap();
    }
    ledger.close().unwrap();
}

/// A month from now, all that is there is old.
pub(crate) fn prune(
    config: &Config,
    copy: Option<&Path>,
    really: bool,
) -> Result<Pruning, StartError> {
    prune_within(config, copy, really, &PruneBounds::default())
}

fn prune_within(
    config: &Config,
    copy: Option<&Path>,
    really: bool,
    bounds: &PruneBounds<'_>,
) -> Result<Pruning, StartError> {
    let now = Timestamp::now().as_millis();
    let ask = Prune {
        before: Timestamp::from_millis(now + 2 * DAY),
        reason: "case 7",
        by: BY,
        now: Timestamp::from_millis(now + 30 * DAY),
        copy,
        really,
    };
    // What is there is of today.
    let bounds = PruneBounds {
        ahead_ms: u64::MAX,
        ..*bounds
    };
    server::prune_within(config, &ask, &bounds)
}

/// A world whose first part is in a segment that may go.
async fn old_world() -> Scene {
    let mut scene = world().await;
    scene.fixture.stop().await;
    fill(&scene, 1_200);
    scene.start().await;
    scene.fixture.join("m6").await;
    scene
}

/// A ledger of the same name and as long, of which nothing is this one's.
#[tokio::test(flavor = "multi_thread")]
async fn what_goes_was_read_from_a_copy_of_this_very_ledger() {
    let mut scene = old_world().await;
    scene.fixture.stop().await;
    let mut other = old_world().await;
    other.fixture.stop().await;
    let plan = prune(&scene.config, Some(&archive(&scene, "archive")), false).unwrap();
    let longer = prune(&other.config, Some(&archive(&other, "archive")), false).unwrap();
    assert!(longer.minimum >= 512 && plan.minimum >= 512);
    fill(&other, 600);
    for copied in [other.data(), other.fixture.dir.path().join("archive")] {
        assert_eq!(
            code(prune(&scene.config, Some(&copied), true)),
            "SNAPSHOT-COPY"
        );
    }
    // Of a folder that was pruned itself, although what is left of it is this ledger's.
    let copied = archive(&scene, "archive-2");
    prune(&scene.config, Some(&copied), true).unwrap();
    let pruned = archive(&scene, "pruned");
    std::fs::remove_dir_all(scene.data()).unwrap();
    copy(&copied, &scene.data());
    std::fs::remove_file(scene.fixture.dir.path().join("keys/ledger/highest-head")).unwrap();
    assert_eq!(
        code(prune(&scene.config, Some(&pruned), true)),
        "SNAPSHOT-COPY"
    );
}

fn in_1970() -> Stamp {
    let now = ledger_store::system_clock();
    Stamp {
        wall: 60_000 + now.mono / 1_000_000,
        ..now
    }
}

fn in_ten_days() -> Stamp {
    let now = ledger_store::system_clock();
    Stamp {
        wall: now.wall + 10 * DAY,
        ..now
    }
}

/// By their own clock they were old on the day that they were made.
#[tokio::test(flavor = "multi_thread")]
async fn young_records_do_not_go_by_a_clock_that_stood_back() {
    let mut scene = world().await;
    scene.fixture.stop().await;
    fill_under(&scene, 1_200, in_1970);
    fill_under(&scene, 16, in_ten_days);
    let copied = archive(&scene, "archive");
    for really in [false, true] {
        let refused = prune(&scene.config, Some(&copied), really);
        assert_eq!(code(refused), "PRUNE-CLOCK");
    }
    let folder = Folder::open(&scene.data().join("ledger")).unwrap();
    assert_eq!(folder.reader().pruned(), None);
}

async fn shown(fixture: &Fixture, index: u64) -> Result<u64, String> {
    let request = v1::RecordsRequest {
        ledger: "server".to_owned(),
        from_index: index,
        limit: 1,
        ..v1::RecordsRequest::default()
    };
    let stream = fixture.admin().await.records(request).await;
    let mut stream = stream
        .map_err(|status| finding(&status).code.into_owned())?
        .into_inner();
    match stream.message().await {
        Ok(item) => Ok(item.unwrap().index),
        Err(status) => Err(finding(&status).code.into_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pruned_server_goes_on_and_tells_what_is_gone() {
    let mut scene = old_world().await;
    let kept = payments(&scene.machine, "kept").await;
    scene.followed().await;
    let (evidence, _) = scene.fixture.records(&["verdict"]).await.remove(0);
    scene.fixture.stop().await;
    let config = scene.config.clone();
    let before = server::state_digest(&config).unwrap();
    let size = before.records;

    // ------------------------------------------------------------ who has it
    assert_eq!(code(prune(&config, None, true)), "PRUNE-NOT-COPIED");
    assert_eq!(
        code(prune(&config, Some(&scene.data()), true)),
        "PRUNE-NOT-COPIED"
    );
    let nowhere = scene.fixture.dir.path().join("keys");
    for (folder, said) in [
        (nowhere.clone(), "it has no folder `segments`"),
        (nowhere.join("none"), "there is no such folder"),
    ] {
        let refused = prune(&config, Some(&folder), true).unwrap_err().finding();
        assert_eq!(refused.code, "SNAPSHOT-COPY");
        assert!(refused.observed.unwrap().contains(said), "{said}");
    }
    let gateway = scene.gateway.data_dir.clone();
    assert_eq!(code(prune(&config, Some(&gateway), true)), "SNAPSHOT-COPY");
    let now = Timestamp::now();
    let young = Prune {
        before: now,
        reason: "",
        by: BY,
        now,
        copy: None,
        really: false,
    };
    assert_eq!(code(server::prune(&config, &young)), "PRUNE-YOUNG");
    // By a clock that is ahead, what is of this morning is old.
    let ahead = |days: u64| Timestamp::from_millis(now.as_millis() + days * DAY);
    let copied = archive(&scene, "archive");
    for really in [false, true] {
        let wrong = Prune {
            before: ahead(2),
            now: ahead(30),
            really,
            copy: Some(&copied),
            ..young
        };
        assert_eq!(code(server::prune(&config, &wrong)), "PRUNE-CLOCK");
    }
    let plan = prune(&config, Some(&copied), false).unwrap();
    assert!(plan.records.is_none() && plan.minimum >= 512, "{plan:?}");
    assert!(
        plan.kept_bytes > 0 && plan.kept_bytes < plan.bytes && plan.snapshot_bytes > 0,
        "{plan:?}"
    );
    assert!(
        plan.kept["machines"] >= 4 && plan.kept["revocations"] >= 1,
        "{plan:?}"
    );
    // More than may be kept, with what stands before each record; and a snapshot that is too large.
    let default = PruneBounds::default();
    let little = PruneBounds {
        kept_bytes: plan.kept_bytes,
        ..default
    };
    let small = PruneBounds {
        snapshot_bytes: plan.snapshot_bytes - 1,
        ..default
    };
    for (bounds, refused) in [(little, "PRUNE-HELD"), (small, "SNAPSHOT-LARGE")] {
        for really in [false, true] {
            let pruned = prune_within(&config, Some(&copied), really, &bounds);
            assert_eq!(code(pruned), refused);
        }
    }
    assert!(!scene.data().join("ledger/apart").exists());
    assert_eq!(server::state_digest(&config).unwrap(), before);

    // ------------------------------------------------------------ it goes
    let done = prune(&config, Some(&copied), true).unwrap();
    assert_eq!(done.records, Some((size, size + 1)));
    assert_eq!((done.minimum, &done.kept), (plan.minimum, &plan.kept));
    let beside = std::fs::metadata(scene.data().join("ledger/apart")).unwrap();
    assert!(beside.len() >= plan.kept_bytes, "{plan:?}");
    let first = std::fs::read_dir(scene.data().join("ledger/segments")).unwrap();
    let first = first
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .min();
    assert!(first.unwrap().get(..20).unwrap().parse::<u64>().unwrap() > 0);
    let live = server::state_digest(&config).unwrap();
    assert_eq!(code(prune(&config, Some(&copied), true)), "PRUNE-NOTHING");

    // ------------------------------------------------------------ from what the state is computed
    let begun = server::rebuild(&config).unwrap();
    assert_eq!((begun.snapshot, &begun.rebuilt), (Some(size), &live));
    assert_eq!(code(server::rebuild_from_first(&config)), "SERVER-SNAPSHOT");
    assert_eq!(server::rebuild(&config).unwrap().rebuilt, live);
    let checked = server::check_snapshots(&config, &copied, false).unwrap();
    assert_eq!(checked.sound, [size]);
    let folder = Folder::open(&scene.data().join("ledger")).unwrap();
    let record = folder.reader().record(size).unwrap();
    let snapshot: body::Snapshot = record.expect_body().unwrap();
    let retention: body::Retention = folder
        .reader()
        .record(size + 1)
        .unwrap()
        .expect_body()
        .unwrap();
    assert_eq!(retention.snapshot.unwrap().0, size);
    assert_eq!(retention.by, BY);
    let place = std::fs::canonicalize(&copied).unwrap();
    assert!(
        retention
            .policy
            .contains(&format!("in the copy {} of ", place.display()))
    );
    assert!(
        retention.policy.ends_with(": case 7"),
        "{}",
        retention.policy
    );
    let path = blob(&scene, &snapshot.state.sha256.to_string());
    let held = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let refused = server::rebuild(&config).unwrap_err().finding();
    assert_eq!(refused.code, "SERVER-SNAPSHOT");
    let refused = refused.to_string();
    assert!(
        refused.contains("--copy FOLDER") && !refused.contains("--from-first-record"),
        "{refused}"
    );
    // What was there goes on being there.
    assert_eq!(server::state_digest(&config).unwrap(), live);
    assert_eq!(code(server::rebuild_from_first(&config)), "SERVER-SNAPSHOT");
    assert_eq!(server::state_digest(&config).unwrap(), live);
    assert!(!scene.data().join("state.new.sqlite").exists());
    assert_eq!(
        code(server::check_snapshots(&config, &scene.data(), true)),
        "SNAPSHOT-COPY"
    );
    let restored = server::check_snapshots(&config, &copied, true).unwrap();
    assert_eq!(restored.restored, [size]);
    assert_eq!(std::fs::read(&path).unwrap(), held);
    assert_eq!(server::rebuild(&config).unwrap().rebuilt, live);
    drop(folder);
    let apart = scene.data().join("ledger/apart");
    let beside = std::fs::read(&apart).unwrap();
    std::fs::remove_file(&apart).unwrap();
    assert_eq!(code(server::state_digest(&config)), "SERVER-KEPT");
    // A check says so before a start does, and the copy has it.
    let checked = server::check_snapshots(&config, &copied, false).unwrap();
    assert_eq!(checked.finding().unwrap().code, "SERVER-KEPT");
    assert!(!apart.exists());
    let again = server::check_snapshots(&config, &copied, true).unwrap();
    assert_eq!(again.finding(), None);
    assert!(!again.kept_again.is_empty() && !again.kept_again.contains(&0));
    assert_eq!(std::fs::read(&apart).unwrap(), beside);
    assert_eq!(server::rebuild(&config).unwrap().rebuilt, live);
    for restore in [false, true] {
        let checked = server::check_snapshots(&config, &copied, restore).unwrap();
        assert_eq!((checked.finding(), checked.kept_again), (None, Vec::new()));
    }

    // ------------------------------------------------------------ and it goes on
    scene.start().await;
    let fixture = &scene.fixture;
    let number = || std::fs::metadata(scene.data().join("state.sqlite")).map(|it| it.ino());
    let database = number().unwrap();
    assert_eq!(code(server::rebuild(&config)), "SERVER-RUNNING");
    assert_eq!(number().unwrap(), database);
    scene.followed().await;
    admitted(scene.core(), &kept).await.unwrap();
    let status = fixture.status().await;
    assert_eq!(status["ledger"]["pruned"]["record"], size + 1, "{status}");
    scene.fixture.join("m7").await;
    payments(&scene.machine, "more").await;
    revoke(fixture, "machine", "m2").await;
    fixture.apply(&estate_of_two()).await.unwrap();
    let reader = Folder::open(&scene.data().join("ledger")).unwrap();
    let beside = reader.reader().kept_beside();
    let gone = (1..done.minimum)
        .find(|index| !beside.contains(index))
        .unwrap();
    assert_eq!(shown(fixture, gone).await, Err("LEDGER-PRUNED".to_owned()));
    assert_eq!(shown(fixture, beside[0]).await, Ok(beside[0]));
    let left = fixture.records(&[]).await;
    assert!(left.iter().any(|(index, _)| *index == beside[0]));
    assert!(left.iter().all(|(index, _)| *index != gone));
    for (index, expected) in [(gone, Some("LEDGER-PRUNED")), (evidence, None)] {
        let question = format!("{{\"kind\":\"record\",\"ledger\":\"server\",\"index\":{index}}}");
        let asked = fixture
            .admin()
            .await
            .pack(v1::PackRequest {
                question,
                ..v1::PackRequest::default()
            })
            .await;
        let refused = asked.err().map(|status| finding(&status).code.into_owned());
        assert_eq!(refused.as_deref(), expected, "record {index}");
    }
    let http = fixture.running().http_listen;
    let (status, said) = get(http, "/tile/entries/000").await;
    assert_eq!(status, 410);
    assert!(said.starts_with("LEDGER-PRUNED: "), "{said}");
    assert_eq!(get(http, "/tile/0/000").await.0, 200);
    let plan = erase(fixture, of("payments/api", false)).await;
    let told = match plan {
        Ok(plan) => plan["pruned"].as_str().unwrap().to_owned(),
        Err(status) => finding(&status).to_string(),
    };
    assert!(told.contains("pruned") || told.contains("ERASE"), "{told}");

    // ------------------------------------------------------------ also after a restart without its database
    scene.fixture.stop().await;
    for suffix in ["", "-wal", "-shm"] {
        drop(std::fs::remove_file(
            scene.data().join(format!("state.sqlite{suffix}")),
        ));
    }
    scene.start().await;
    scene.followed().await;
    scene.fixture.stop().await;
    let live = server::state_digest(&config).unwrap();
    assert_eq!(server::rebuild_state(&config).unwrap(), live);
    new_log(&config);
    scene.start().await;
    scene.followed().await;
    scene.fixture.stop().await;
    scene.close_gateway().await;
}
