//! An export leaves no ledger out without a word: one whose mirror is gone or shorter than the server says, one that is
//! damaged, and an older copy of one that is there as a whole.

use crate::world::{World, copy};
use export::{Cursor, Error, Exported, Format, Options, Secrets, Sink};
use ledger::{Record, RecordType};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A server with a gateway, whose 300 records it has mirrored and anchored.
struct Site {
    server: World,
    gateway: World,
}

impl Site {
    fn new() -> Self {
        let mut site = Self {
            server: World::called("example.org/server"),
            gateway: World::with(299),
        };
        site.mirror();
        let anchors = vec![site.gateway.anchor(200), site.gateway.anchor(300)];
        site.server.put(anchors);
        site
    }

    fn mirrors(&self) -> PathBuf {
        self.server.beside("mirrors/one")
    }

    fn mirror(&self) {
        copy(&self.gateway.beside("ledger"), &self.mirrors());
    }

    /// As it was when it had so many records.
    fn cut(&self, short: &World) {
        std::fs::remove_dir_all(self.mirrors()).unwrap();
        copy(&short.beside("ledger"), &self.mirrors());
    }

    fn options(&self) -> Options {
        self.server.options(Format::Ocsf)
    }
}

async fn with(cursor: &Path, out: &Path, options: &Options) -> Result<Exported, Error> {
    let to = format!("file:{}", out.display());
    let cursor = Cursor::open(cursor, "ocsf", &to)?;
    let sink = Sink::open(&to, Format::Ocsf, &Secrets::default())?;
    let stop = CancellationToken::new();
    let run = export::run(options, cursor, sink, &stop);
    tokio::time::timeout(Duration::from_secs(60), run)
        .await
        .expect("it ends")
}

async fn anew(options: &Options) -> Result<Exported, Error> {
    let folder = tempfile::tempdir().unwrap();
    with(
        &folder.path().join("cursor"),
        &folder.path().join("out"),
        options,
    )
    .await
}

fn broken(result: Result<Exported, Error>) -> String {
    let error = result.unwrap_err();
    assert!(error.is_broken(), "{error}");
    error.finding().code.into_owned()
}

#[tokio::test]
async fn a_ledger_that_the_server_anchors_and_that_is_not_here_is_told() {
    let site = Site::new();
    let options = site.options();
    let whole = anew(&options).await.unwrap();
    assert_eq!(whole.records, 3 + 300);

    // Without its first segment, which takes it out of what is found; then without anything.
    let first = site.mirrors().join("segments/00000000000000000000.segment");
    std::fs::remove_file(first).unwrap();
    assert_eq!(broken(anew(&options).await), "EXPORT-MIRROR");
    std::fs::remove_dir_all(site.mirrors()).unwrap();
    assert_eq!(broken(anew(&options).await), "EXPORT-MIRROR");
    // What follows tells it as well, and not for ever.
    let mut follow = options.clone();
    follow.follow = true;
    assert_eq!(broken(anew(&follow).await), "EXPORT-MIRROR");
    // The gateway's own folder has it.
    let mut both = options.clone();
    both.folders.push(site.gateway.path().to_owned());
    assert_eq!(anew(&both).await.unwrap().records, 303);
    // What is asked for by name is there.
    let mut one = options.clone();
    one.ledgers = vec!["server".to_owned()];
    assert_eq!(anew(&one).await.unwrap().records, 3);
}

#[tokio::test]
async fn a_mirror_that_is_shorter_than_its_anchor_is_told_also_when_the_anchor_was_exported_before()
{
    let site = Site::new();
    let mut options = site.options();
    let folder = tempfile::tempdir().unwrap();
    let (cursor, out) = (folder.path().join("cursor"), folder.path().join("out"));
    // The server's alone, which passes the anchors.
    options.ledgers = vec!["server".to_owned()];
    assert_eq!(with(&cursor, &out, &options).await.unwrap().records, 3);
    let kept = std::fs::read_to_string(&cursor).unwrap();
    let known = "\"example.org/pg-1\":{\"size\":300,";
    assert!(kept.contains(known), "{kept}");
    options.ledgers.clear();
    // Another history as long as half of it: shorter than the anchor says.
    site.cut(&World::with(150));
    for ledgers in [vec![], vec!["pg-1".to_owned()]] {
        options.ledgers = ledgers;
        let told = with(&cursor, &out, &options).await;
        assert_eq!(broken(told), "EXPORT-MIRROR");
        std::fs::write(&cursor, &kept).unwrap();
    }
    // As long, and another one.
    site.cut(&World::with(299));
    assert_eq!(broken(with(&cursor, &out, &options).await), "EXPORT-MIRROR");
}

/// An export of this version from the folder of a later server.
#[tokio::test]
async fn an_anchor_that_cannot_be_read_is_told_after_everything_that_is_here() {
    let mut site = Site::new();
    let later = serde_json::json!({"origin": "example.org/pg-9", "zz": "of the next version"});
    let later = Record::builder(RecordType::Anchor, &later);
    site.server.put(vec![later.actor("test", "self")]);
    let mut options = site.options();
    let folder = tempfile::tempdir().unwrap();
    let (cursor, out) = (folder.path().join("cursor"), folder.path().join("out"));
    // Also when the cursor stands behind it.
    for _ in 0..2 {
        let told = with(&cursor, &out, &options).await.unwrap_err();
        assert_eq!(told.finding().code, "EXPORT-ANCHOR-UNREAD");
        assert!(!told.is_broken(), "{told}");
        let exported = std::fs::read_to_string(&out).unwrap();
        assert_eq!(exported.lines().count(), 4 + 300);
    }
    // What follows tells it as well, and not for ever.
    options.follow = true;
    let told = with(&cursor, &out, &options).await.unwrap_err();
    assert_eq!(told.finding().code, "EXPORT-ANCHOR-UNREAD");
    options.follow = false;
    // What is asked for by name is there.
    options.ledgers = vec!["server".to_owned(), "pg-1".to_owned()];
    assert_eq!(with(&cursor, &out, &options).await.unwrap().records, 0);
}

#[tokio::test]
async fn a_ledger_that_the_cursor_knows_and_that_is_not_here_is_told() {
    let site = Site::new();
    // Its anchors are not in it: nothing but the cursor knows the other ledger.
    let alone = World::called("example.org/server");
    copy(&site.mirrors(), &alone.beside("mirrors/one"));
    let mut options = alone.options(Format::Ocsf);
    let folder = tempfile::tempdir().unwrap();
    let (cursor, out) = (folder.path().join("cursor"), folder.path().join("out"));
    assert_eq!(with(&cursor, &out, &options).await.unwrap().records, 301);
    std::fs::remove_dir_all(alone.beside("mirrors")).unwrap();
    let told = with(&cursor, &out, &options).await;
    assert_eq!(broken(told), "EXPORT-LEDGER-CHANGED");
    options.ledgers = vec!["server".to_owned()];
    assert_eq!(with(&cursor, &out, &options).await.unwrap().records, 0);
}

#[tokio::test]
async fn what_follows_does_not_go_on_for_ever_without_a_ledger_that_is_damaged() {
    let site = Site::new();
    let segments = site.server.beside("ledger/segments");
    let first = segments.join("00000000000000000000.segment");
    let sound = std::fs::read(&first).unwrap();
    let mut options = site.options();
    options.follow = true;
    // From the start, and the server's own.
    let mut bytes = sound.clone();
    // In the first commit's checkpoint, behind its records.
    let text = b"example.org/server\n1\n";
    let at = bytes.windows(text.len()).position(|window| window == text);
    bytes[at.unwrap()] ^= 1;
    std::fs::write(&first, &bytes).unwrap();
    assert_eq!(broken(anew(&options).await), "EXPORT-LEDGER");
    std::fs::write(&first, &sound).unwrap();

    // Later, while it runs.
    let damage = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        std::fs::write(&first, [&bytes[..], b"and more"].concat()).unwrap();
    });
    assert_eq!(broken(anew(&options).await), "EXPORT-LEDGER");
    damage.await.unwrap();
}

#[tokio::test]
async fn of_one_ledger_in_two_folders_the_longer_is_taken_whatever_the_order() {
    let mut world = World::with(100);
    let stale = tempfile::tempdir().unwrap();
    copy(&world.beside("ledger"), &stale.path().join("ledger"));
    world.grow(200);
    let mut options = world.options(Format::Ocsf);
    options.folders = vec![stale.path().to_owned(), world.path().to_owned()];
    for _ in 0..2 {
        assert_eq!(anew(&options).await.unwrap().records, 301);
        options.folders.reverse();
    }
    // Of one name and another history.
    let other = World::with(300);
    options.folders.push(other.path().to_owned());
    assert_eq!(broken(anew(&options).await), "EXPORT-TWO");
}
