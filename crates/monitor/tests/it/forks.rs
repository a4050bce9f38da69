//! Two histories under one key: whoever shows the second one, it is told, and the misbehaviour proves it to anybody.

use crate::support::{Log, Site, WATCH, at, code, config, key, watching};
use ledger::witness::origin_hash;
use monitor::{Failure, Misbehaviour, Monitor};

/// A second history that goes its own way from record `from` on.
fn forked(from: u64, size: u64) -> Log {
    let mut log = Log::new("a", from);
    log.grow("b", size);
    log
}

fn misbehaviour(failure: Failure) -> Misbehaviour {
    match failure {
        Failure::Misbehaved(finding, misbehaviour) => {
            assert_eq!(finding.code, "MONITOR-FORK");
            *misbehaviour
        }
        other => panic!("{other}"),
    }
}

/// It proves the fork, and nothing that is changed in it still does.
fn proves(misbehaviour: &Misbehaviour) {
    let (first, second) = misbehaviour.verify().unwrap();
    assert!(first.size <= second.size && first.root != second.root);
    let (_, bytes) = misbehaviour.file();
    assert_eq!(&Misbehaviour::parse(&bytes).unwrap(), misbehaviour);
    let mut changes: Vec<Misbehaviour> = Vec::new();
    let mut change = |change: &dyn Fn(&mut Misbehaviour)| {
        let mut changed = misbehaviour.clone();
        change(&mut changed);
        changes.push(changed);
    };
    change(&|it| it.first.note = it.second.note.clone());
    change(&|it| it.second.note = it.first.note.clone());
    change(&|it| it.root = ledger::Digest(first.root));
    change(&|it| it.root = ledger::Digest([7; 32]));
    change(&|it| it.proof.push(ledger::Digest([7; 32])));
    change(&|it| it.origin = "example.org/other".to_owned());
    change(&|it| it.key = it.key.replace("server", "other"));
    change(&|it| it.first.note = it.first.note.replacen('\n', "\n1", 1));
    for changed in changes {
        assert!(changed.verify().is_err(), "{changed:?}");
    }
}

#[tokio::test]
async fn a_log_that_forks_from_what_was_seen_is_caught_at_every_size() {
    for (kept, from, size) in [
        (300, 0, 300),
        (300, 299, 300),
        (300, 299, 301),
        (256, 255, 700),
        (257, 100, 1025),
        (1, 0, 2),
    ] {
        let site = Site::new(Log::new("a", kept)).await;
        let (folder, mut monitor) = watching(&site, "", WATCH).await;
        site.change(|log| *log = forked(from, size));
        let failure = monitor.round(at(1)).await.unwrap_err();
        let path = monitor.trouble(Some(&failure), at(1)).unwrap().unwrap();
        let misbehaviour = misbehaviour(failure);
        assert_eq!(
            Misbehaviour::parse(&std::fs::read(&path).unwrap()).unwrap(),
            misbehaviour
        );
        assert!(path.starts_with(folder.path()));
        proves(&misbehaviour);
        assert_eq!(misbehaviour.second.by, site.url());
        // It stays so, however often it is asked; the alert is told once.
        let again = monitor.round(at(2)).await.unwrap_err();
        monitor.trouble(Some(&again), at(2)).unwrap();
        assert_eq!(monitor.waiting().len(), 1);
    }
}

#[tokio::test]
async fn two_addresses_that_show_two_histories_are_caught_whichever_is_longer() {
    for (first, second) in [(300, 300), (300, 500), (500, 300)] {
        let one = Site::new(Log::new("a", first)).await;
        let other = Site::new(forked(200, second)).await;
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), &[one.url(), other.url()], "", WATCH);
        let mut monitor = Monitor::open(config).unwrap();
        proves(&misbehaviour(monitor.round(at(0)).await.unwrap_err()));
        // One history, at another size, is no fork.
        other.change(|log| *log = Log::new("a", second));
        assert_eq!(monitor.round(at(1)).await.unwrap().agree, 1);
    }
}

#[tokio::test]
async fn a_witness_that_saw_another_history_shows_the_split_view() {
    let hash = origin_hash(crate::support::ORIGIN);
    let seen_by_witness = forked(200, 300);
    let witness = Site::new(seen_by_witness.clone()).await;
    let site = Site::new(Log::new("a", 400)).await;
    let folder = tempfile::tempdir().unwrap();
    let more = format!("witnesses = [\"{}\"]", witness.url());
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], &more, WATCH)).unwrap();
    let found = misbehaviour(monitor.round(at(0)).await.unwrap_err());
    assert!(witness.asked().contains(&format!("{hash}/checkpoint")));
    assert_eq!(found.first.by, format!("witness {}", witness.url()));
    proves(&found);

    // Ahead of the log: it is remembered, and compared once the log has come so far.
    let folder = tempfile::tempdir().unwrap();
    site.change(|log| *log = Log::new("a", 250));
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], &more, WATCH)).unwrap();
    assert_eq!(monitor.round(at(0)).await.unwrap().agree, 0);
    drop(monitor);
    // Also where the witness is gone by then, and by another process.
    drop(witness);
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], "", WATCH)).unwrap();
    site.change(|log| log.grow("a", 350));
    proves(&misbehaviour(monitor.round(at(1)).await.unwrap_err()));
}

#[tokio::test]
async fn an_old_view_is_told_by_what_a_witness_has_seen() {
    let log = Log::new("a", 400);
    let witness = Site::new(log.clone()).await;
    let site = Site::new(log.clone()).await;
    site.show(Some(log.note_at(300)));
    let folder = tempfile::tempdir().unwrap();
    let more = format!("witnesses = [\"{}\"]", witness.url());
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], &more, WATCH)).unwrap();
    monitor.round(at(0)).await.unwrap();
    monitor.round(at(599)).await.unwrap();
    assert_eq!(code(&monitor.round(at(600)).await), "MONITOR-BEHIND");
    site.show(None);
    assert_eq!(monitor.round(at(601)).await.unwrap().agree, 1);
}

#[tokio::test]
async fn a_witness_that_is_wrong_is_no_fault_of_the_log() {
    let site = Site::new(Log::new("a", 40)).await;
    let witness = Site::new(Log::new("a", 40)).await;
    witness.show(Some("something else\n".to_owned()));
    let folder = tempfile::tempdir().unwrap();
    let more = format!(
        "witnesses = [\"{}\", \"http://127.0.0.1:9\"]",
        witness.url()
    );
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], &more, WATCH)).unwrap();
    let seen = monitor.round(at(0)).await.unwrap();
    let codes: Vec<_> = seen.notes.iter().map(|note| note.code.as_ref()).collect();
    assert_eq!(codes, ["MONITOR-WITNESS", "MONITOR-UNREACHABLE"]);
    assert!(key().to_string().starts_with("example.org/server+"));
}

/// Whatever is changed in a file: it proves the same, or nothing, and nothing panics.
#[tokio::test]
async fn no_byte_of_a_proof_makes_it_show_something_else() {
    let site = Site::new(Log::new("a", 300)).await;
    let (_folder, mut monitor) = watching(&site, "", WATCH).await;
    site.change(|log| *log = forked(200, 700));
    let misbehaviour = misbehaviour(monitor.round(at(1)).await.unwrap_err());
    let (_, good) = misbehaviour.file();
    let proved = misbehaviour.verify().unwrap();
    let mut same = 0;
    for place in 0..good.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut bad = good.clone();
            bad[place] ^= change;
            let Ok(read) = Misbehaviour::parse(&bad) else {
                continue;
            };
            if let Ok(found) = read.verify() {
                assert_eq!(
                    (found, &read.key),
                    (proved.clone(), &misbehaviour.key),
                    "byte {place}"
                );
                same += 1;
            }
        }
    }
    assert!(same > 0, "where it was seen may be written otherwise");
    for bytes in [&b""[..], b"{}", b"[]", b"\xff", b"{\"v\":1}"] {
        assert!(Misbehaviour::parse(bytes).is_err());
    }
}
