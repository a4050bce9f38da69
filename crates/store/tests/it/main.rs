//! The store against a real database file.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use store::{Change, Kept, MetaRow, Projector, Snapshot, Store, SvidRow, TokenRow};

fn svid(index: u64) -> SvidRow {
    SvidRow {
        index,
        serial: format!("{index:040x}"),
        spiffe_id: "spiffe://example.org/payments/api".to_owned(),
        kind: "x509".to_owned(),
        node: "m1".to_owned(),
        key: "00".repeat(32),
        not_before: 1,
        not_after: 2,
        estate: index.is_multiple_of(2).then_some(index),
    }
}

/// A projector whose whole state is a hundred SVIDs after as many records.
fn start(path: &std::path::Path, store: Option<Store>) -> Projector {
    let whole = || {
        let svids = (0..100).map(svid).collect();
        let whole = Snapshot {
            svids,
            ..Snapshot::default()
        };
        (100, whole)
    };
    let path = path.to_owned();
    Projector::start(Kept { path, store }, Box::new(whole)).unwrap()
}

fn written(projector: &Projector) {
    let begun = std::time::Instant::now();
    while let Err(error) = projector.flush() {
        assert!(begun.elapsed().as_secs() < 90, "{error}");
        std::thread::yield_now();
    }
}

/// A write error once ended the thread, and the server with it.
#[test]
fn what_the_database_does_not_take_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    let projector = start(&path, Some(Store::open(&path).unwrap()));
    projector
        .absorb(1, vec![Change::Svid(svid(0).into())])
        .unwrap();
    projector.flush().unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    let refuse = "CREATE TRIGGER full BEFORE INSERT ON svid BEGIN SELECT RAISE(ABORT, 'full'); END";
    other.execute_batch(refuse).unwrap();
    for index in 1..50 {
        projector
            .absorb(index + 1, vec![Change::Svid(svid(index).into())])
            .unwrap();
    }
    projector.flush().unwrap_err();
    other.execute_batch("DROP TRIGGER full").unwrap();
    written(&projector);
    drop(projector);
    let (applied, snapshot) = Store::open(&path).unwrap().load().unwrap();
    assert_eq!(applied, 50);
    assert_eq!(snapshot.svids, (0..50).map(svid).collect::<Vec<_>>());
}

/// More than is kept, or a database that could not even be opened: the whole state is written.
#[test]
fn a_database_that_lacks_too_much_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("not there yet");
    let path = folder.join("state.sqlite");
    let projector = start(&path, None);
    for index in 0..100 {
        // What comes late is in the whole already.
        let change = Change::SvidGone(index);
        projector.absorb(index + 1, vec![change]).unwrap();
    }
    projector.flush().unwrap_err();
    std::fs::create_dir(&folder).unwrap();
    written(&projector);
    projector.absorb(101, vec![Change::SvidGone(0)]).unwrap();
    projector.finish().unwrap();
    let (applied, snapshot) = Store::open(&path).unwrap().load().unwrap();
    assert_eq!(applied, 101);
    assert_eq!(snapshot.svids, (1..100).map(svid).collect::<Vec<_>>());
}

#[test]
fn a_file_that_is_no_database_any_more_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    std::fs::write(
        &path,
        "not a database, and longer than a header".repeat(100),
    )
    .unwrap();
    let projector = start(&path, None);
    written(&projector);
    projector.finish().unwrap();
    let (applied, _) = Store::open(&path).unwrap().load().unwrap();
    assert_eq!(applied, 100);
}

#[test]
fn what_is_absorbed_is_loaded_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    let projector = start(&path, Some(Store::open(&path).unwrap()));
    for index in (0..100).rev() {
        projector
            .absorb(100 - index, vec![Change::Svid(svid(index).into())])
            .unwrap();
    }
    projector
        .absorb(101, vec![Change::SvidGone(7), Change::SvidGone(1000)])
        .unwrap();
    projector.flush().unwrap();
    projector.finish().unwrap();

    let (applied, snapshot) = Store::open(&path).unwrap().load().unwrap();
    assert_eq!(applied, 101);
    let expected: Vec<SvidRow> = (0..100).filter(|index| *index != 7).map(svid).collect();
    assert_eq!(snapshot.svids, expected);
    assert!(
        snapshot.meta.is_empty(),
        "`applied` is not part of the state"
    );
}

#[test]
fn a_change_that_fails_leaves_nothing_of_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    let mut store = Store::open(&path).unwrap();
    let mut beyond = svid(1);
    beyond.not_after = u64::MAX;
    let batch = [Change::Svid(svid(0).into()), Change::Svid(beyond.into())];
    store.absorb(2, &batch).unwrap_err();
    let (applied, snapshot) = store.load().unwrap();
    assert_eq!((applied, snapshot.svids.len()), (0, 0));
}

#[test]
fn rows_are_replaced_by_key_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(&dir.path().join("state.sqlite")).unwrap();
    let mut token = TokenRow {
        hash: "aa".to_owned(),
        node: "m1".to_owned(),
        pool: "web".to_owned(),
        expires: 9,
        created: 3,
        spent: None,
        key: None,
    };
    store.absorb(1, &[Change::Token(token.clone())]).unwrap();
    token.spent = Some(4);
    let meta = MetaRow {
        key: "clock".to_owned(),
        value: "1".to_owned(),
    };
    store
        .absorb(2, &[Change::Token(token.clone()), Change::Meta(meta)])
        .unwrap();
    let (_, snapshot) = store.load().unwrap();
    assert_eq!(snapshot.tokens, [token]);
    assert_eq!(snapshot.meta.len(), 1);
    store
        .absorb(3, &[Change::TokenGone("aa".to_owned())])
        .unwrap();
    assert!(store.load().unwrap().1.tokens.is_empty());
}

#[test]
fn a_database_of_another_schema_is_emptied() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.sqlite");
    Store::open(&path)
        .unwrap()
        .absorb(5, &[Change::Svid(svid(0).into())])
        .unwrap();
    // `user_version` stands big-endian at offset 60 of the file header.
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[60..64].copy_from_slice(&77u32.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let (applied, snapshot) = Store::open(&path).unwrap().load().unwrap();
    assert_eq!((applied, snapshot.svids.len()), (0, 0));
}
