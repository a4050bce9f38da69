//! Into a file: whole lines, in order, from where the cursor stands; and the ledger that a cursor is of.

use crate::world::{World, copy, index, lines};
use export::{Cursor, Error, Exported, Format, Secrets, Sink};
use std::io::Write as _;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn code(result: Result<Exported, Error>) -> String {
    result.unwrap_err().finding().code.into_owned()
}

#[tokio::test]
async fn an_export_goes_on_where_the_last_one_ended() {
    let mut world = World::with(1_500);
    let out = world.beside("out");
    let to = format!("file:{}", out.display());
    let first = world.export(&to, Format::CloudEvents).await.unwrap();
    assert_eq!((first.records, first.retries), (1_501, 0));
    let again = world.export(&to, Format::CloudEvents).await.unwrap();
    assert_eq!(again.records, 0);
    world.grow(3);
    let more = world.export(&to, Format::CloudEvents).await.unwrap();
    assert_eq!(more.records, 3);
    let events = lines(&std::fs::read(&out).unwrap());
    let indices: Vec<u64> = events.iter().map(index).collect();
    assert_eq!(indices, (0..world.size()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_half_line_is_taken_away_and_comes_again() {
    let world = World::with(3);
    let out = world.beside("out");
    std::fs::write(&out, "{\"kept\":1}\n{\"half\":").unwrap();
    let to = format!("file:{}", out.display());
    world.export(&to, Format::Ocsf).await.unwrap();
    let events = lines(&std::fs::read(&out).unwrap());
    assert_eq!(events.len(), 5);
    assert_eq!(events[0]["kept"], 1);
    assert_eq!(index(&events[1]), 0);
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_begun_anew() {
    let mut world = World::with(3);
    let out = world.beside("out");
    let to = format!("file:{}", out.display());
    let cursor = Cursor::open(&world.beside("cursor"), "ocsf", &to).unwrap();
    let sink = Sink::open(&to, Format::Ocsf, &Secrets::default()).unwrap();
    let mut options = world.options(Format::Ocsf);
    options.follow = true;
    let stop = CancellationToken::new();
    let (stopping, seen) = (stop.clone(), out.clone());
    let running = tokio::spawn(async move { export::run(&options, cursor, sink, &stopping).await });
    let has = async |count: usize| {
        for _ in 0..6_000 {
            let bytes = std::fs::read(&seen).unwrap_or_default();
            if bytes.iter().filter(|byte| **byte == b'\n').count() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {count} lines");
    };
    has(4).await;
    std::fs::rename(&out, world.beside("out.1")).unwrap();
    // It follows what is recorded while it runs.
    world.grow(2);
    has(2).await;
    stop.cancel();
    assert_eq!(running.await.unwrap().unwrap().records, 6);
    let events = lines(&std::fs::read(&out).unwrap());
    assert_eq!(events.iter().map(index).collect::<Vec<_>>(), [4, 5]);
}

#[tokio::test]
async fn a_cursor_of_another_ledger_is_refused() {
    let world = World::with(9);
    let to = format!("file:{}", world.beside("out").display());
    world.export(&to, Format::Ocsf).await.unwrap();
    for (count, what) in [(9, "others in their place"), (2, "a shorter one")] {
        let mut other = World::with(count);
        other.close();
        std::fs::copy(world.beside("cursor"), other.beside("cursor")).unwrap();
        let exported = other.export(&to, Format::Ocsf).await;
        assert!(matches!(&exported, Err(Error::Broken(_))), "{what}");
        assert_eq!(code(exported), "EXPORT-LEDGER-CHANGED", "{what}");
    }
}

#[tokio::test]
async fn a_record_that_was_changed_on_disk_is_not_handed_on() {
    let mut world = World::with(400);
    world.close();
    let segments = std::fs::read_dir(world.path().join("ledger/segments")).unwrap();
    let mut changed = false;
    for segment in segments {
        let path = segment.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let text = b"number 7:";
        if let Some(at) = bytes.windows(text.len()).position(|window| window == text) {
            bytes[at + 7] = b'8';
            std::fs::write(&path, bytes).unwrap();
            changed = true;
        }
    }
    assert!(changed);
    let to = format!("file:{}", world.beside("out").display());
    let exported = world.export(&to, Format::CloudEvents).await;
    let code = code(exported);
    assert!(
        ["EXPORT-LEDGER", "EXPORT-LEDGER-RECORD"].contains(&code.as_str()),
        "{code}"
    );
    let out = std::fs::read_to_string(world.beside("out")).unwrap();
    assert_eq!(out, "");
}

#[tokio::test]
async fn one_ledger_is_taken_alone_and_one_that_is_not_there_is_told() {
    let world = World::with(3);
    let mirrors = world.beside("mirrors");
    std::fs::create_dir(&mirrors).unwrap();
    copy(&world.beside("ledger"), &mirrors.join("one"));
    let exported = async |names: &[&str]| {
        let sink = Sink::open("file:/dev/null", Format::Ocsf, &Secrets::default());
        assert!(sink.is_err(), "a device is no file");
        let to = format!("file:{}", world.beside("out").display());
        let sink = Sink::open(&to, Format::Ocsf, &Secrets::default()).unwrap();
        let mut options = world.options(Format::Ocsf);
        options.ledgers = names.iter().map(|name| (*name).to_owned()).collect();
        let stop = CancellationToken::new();
        export::run(&options, Cursor::unkept(), sink, &stop).await
    };
    // Both are of one origin: the folder's own is taken, and its mirror passed over.
    assert_eq!(exported(&[]).await.unwrap().records, 4);
    assert_eq!(exported(&["pg-1"]).await.unwrap().records, 4);
    assert_eq!(
        code(exported(&["pg-1", "pg-9"]).await),
        "EXPORT-LEDGER-UNKNOWN"
    );
}

#[tokio::test]
async fn sinks_that_cannot_be_are_refused() {
    let world = World::with(1);
    for (to, expected) in [
        ("kafka:broker:9092", "EXPORT-SINK-NAME"),
        ("http://collector.example.org/", "EXPORT-SINK-NAME"),
        ("http://192.0.2.1/", "EXPORT-SINK-NAME"),
        ("https://user:secret@example.org/", "EXPORT-SINK-NAME"),
        ("syslog:log.example.org:601", "EXPORT-SINK-NAME"),
        ("syslog:127.0.0.1", "EXPORT-SINK-NAME"),
        ("file:", "EXPORT-SINK-NAME"),
        ("", "EXPORT-SINK-NAME"),
        ("file:/dev/null", "EXPORT-SINK-FILE"),
        ("file:/no/such/folder/out", "EXPORT-SINK-FILE"),
    ] {
        drop(std::fs::remove_file(world.beside("cursor")));
        assert_eq!(code(world.export(to, Format::Ocsf).await), expected, "{to}");
    }
    let long = world.beside("long");
    let mut file = std::fs::File::create(&long).unwrap();
    file.write_all(&vec![b'x'; 2 << 20]).unwrap();
    drop(std::fs::remove_file(world.beside("cursor")));
    let to = format!("file:{}", long.display());
    assert_eq!(
        code(world.export(&to, Format::Ocsf).await),
        "EXPORT-SINK-FILE"
    );
    // Nobody's file was cut.
    assert_eq!(std::fs::metadata(&long).unwrap().len(), 2 << 20);
}
