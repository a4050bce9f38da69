//! What an honest log comes to: every record is looked at once, and nothing else is asked for than has to be.

use crate::support::{
    Log, ORIGIN, Site, WATCH, at, code, config, erasure, fixed_key, issuance, watching,
};
use ledger::Base64;
use ledger::body::{Begin, Body as _, Stop};
use ledger_store::{Ledger, Options};
use monitor::{Kind, Monitor};

#[tokio::test]
async fn every_size_is_followed_and_each_record_is_looked_at_once() {
    let site = Site::new(Log::new("a", 1)).await;
    let (_folder, mut monitor) = watching(&site, "", WATCH).await;
    let mut theirs = 0;
    for size in [2, 3, 255, 256, 257, 511, 512, 700, 1300, 1301, 3000] {
        site.change(|log| {
            // One of theirs in each step, where it may not be.
            let seq = log.size();
            log.push(issuance(seq, "payments/api", "m2"));
            log.grow("a", size);
        });
        theirs += 1;
        let seen = monitor.round(at(1)).await.unwrap();
        let size = site.log().size();
        assert_eq!((seen.size, seen.looked), (size, size));
        assert_eq!(monitor.waiting().len(), theirs, "at {size}");
    }
    let told = monitor
        .waiting()
        .iter()
        .map(|alert| alert.record.as_ref().unwrap().index);
    let told: Vec<u64> = told.collect();
    assert_eq!(told, [1, 2, 3, 255, 256, 257, 511, 512, 700, 1300, 1301]);
    site.asked();
    monitor.round(at(2)).await.unwrap();
    assert_eq!(
        site.asked(),
        ["checkpoint"],
        "nothing is new, and nothing else is asked for"
    );
}

#[tokio::test]
async fn what_is_expected_is_not_told_and_what_is_not_says_why() {
    let mut log = Log::new("a", 5);
    log.push(issuance(5, "payments/api", "m1"));
    log.push(issuance(6, "billing/api", "m2"));
    log.push(issuance(7, "payments/api", "m2"));
    let record = log.entries[7].clone();
    let site = Site::new(log).await;
    let (_folder, monitor) = watching(&site, "", WATCH).await;
    let [alert] = monitor.waiting() else {
        panic!("{:?}", monitor.waiting());
    };
    assert_eq!(
        (alert.kind, alert.finding.code.as_ref()),
        (Kind::Unexpected, "MONITOR-UNEXPECTED")
    );
    assert_eq!(alert.id, "example.org/server:7:payments");
    let told = alert.record.as_ref().unwrap();
    assert_eq!(told.about, ["identity spiffe://example.org/payments/api"]);
    assert_eq!(
        alert.finding.observed.as_deref(),
        Some(
            "identity spiffe://example.org/payments/api; by or for spiffe://example.org/trilith/node/m2"
        )
    );
    assert_eq!(told.text.as_ref().unwrap().as_bytes(), record);
    assert_eq!(
        told.leaf_hash,
        crypto::base64::encode(&ledger::merkle::leaf_hash(&record))
    );
}

/// An erasure names nobody: it is about whom the records are about whose contents are gone.
#[tokio::test]
async fn an_erasure_is_told_to_whom_it_takes_something_from() {
    let mut log = Log::new("a", 300);
    log.push(issuance(300, "payments/api", "m1"));
    log.push(issuance(301, "billing/api", "m1"));
    let site = Site::new(log).await;
    // Also by who began to look after these records were made.
    for begin in ["", "begin = \"now\""] {
        site.change(|log| {
            let seq = log.size();
            log.push(erasure(seq, &[301, 5]));
        });
        let (_folder, mut monitor) = watching(&site, begin, WATCH).await;
        site.change(|log| {
            let seq = log.size();
            log.push(erasure(seq, &[301, 300]));
            log.grow("a", 700);
        });
        monitor.round(at(1)).await.unwrap();
        let [alert] = monitor.waiting() else {
            panic!("{:?}", monitor.waiting());
        };
        let told = alert.record.as_ref().unwrap();
        assert_eq!(told.record_type.as_deref(), Some("erasure"));
        assert_eq!(told.about, ["identity spiffe://example.org/payments/api"]);
        assert!(told.text.as_ref().unwrap().contains("case 7"));
    }
    // Who expects it is not told.
    let allowed = format!("{WATCH}[[watch.allow]]\nrecords = [\"erasure\"]\n");
    let (_folder, monitor) = watching(&site, "", &allowed).await;
    assert!(monitor.waiting().is_empty(), "{:?}", monitor.waiting());
    // What is not served any more, and what is too much to look at, may have been anybody's.
    site.change(|log| {
        let seq = log.size();
        log.push(erasure(seq, &[2]));
    });
    site.lie(Some(Box::new(|path, truth| match path {
        "tile/entries/000" => crate::support::Answer::Is(None),
        _ => crate::support::Answer::Is(truth),
    })));
    let (_folder, mut monitor) = watching(&site, "begin = \"now\"", WATCH).await;
    site.change(|log| {
        let seq = log.size();
        log.push(erasure(seq, &[2]));
        log.push(erasure(seq + 1, &(256..356).collect::<Vec<u64>>()));
    });
    monitor.round(at(2)).await.unwrap();
    assert_eq!(monitor.waiting().len(), 2, "{:?}", monitor.waiting());
    for alert in monitor.waiting() {
        let told = alert.record.as_ref().unwrap();
        assert!(
            told.about
                .iter()
                .any(|about| about.contains("not looked at"))
        );
    }
    // An earlier record that was exchanged is no record of this log.
    site.lie(Some(Box::new(|path, truth| {
        let truth = truth.map(|mut bytes| {
            if path == "tile/entries/000" {
                bytes[40] ^= 1;
            }
            bytes
        });
        crate::support::Answer::Is(truth)
    })));
    site.change(|log| {
        let seq = log.size();
        log.push(erasure(seq, &[0]));
    });
    assert_eq!(code(&monitor.round(at(3)).await), "MONITOR-TILES");
}

#[tokio::test]
async fn it_may_begin_with_what_comes_and_still_holds_the_log_to_what_was() {
    let mut log = Log::new("a", 300);
    log.push(issuance(300, "payments/api", "m2"));
    let site = Site::new(log).await;
    let (_folder, mut monitor) = watching(&site, "begin = \"now\"", WATCH).await;
    assert!(monitor.waiting().is_empty());
    assert!(
        site.asked()
            .iter()
            .all(|path| !path.starts_with("tile/entries"))
    );
    site.change(|log| log.push(issuance(301, "payments/api", "m3")));
    let seen = monitor.round(at(1)).await.unwrap();
    assert_eq!((seen.looked, monitor.waiting().len()), (302, 1));
    let mut other = Log::new("b", 301);
    other.grow("b", 400);
    site.change(|log| *log = other);
    assert_eq!(code(&monitor.round(at(2)).await), "MONITOR-FORK");
}

#[tokio::test]
async fn without_records_the_history_alone_is_watched() {
    let site = Site::new(Log::new("a", 700)).await;
    site.lie(Some(Box::new(|path, truth| {
        match path.starts_with("tile/entries") {
            true => crate::support::Answer::Status(403),
            false => crate::support::Answer::Is(truth),
        }
    })));
    let (_folder, mut monitor) = watching(&site, "entries = \"closed\"", "").await;
    site.change(|log| log.grow("a", 900));
    assert_eq!(monitor.round(at(1)).await.unwrap().looked, 900);
    // Who expects records is told that there are none.
    let folder = tempfile::tempdir().unwrap();
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], "", WATCH)).unwrap();
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-ENTRIES-CLOSED");
}

#[tokio::test]
async fn entries_of_other_logs_are_hashed_and_mean_nothing() {
    let mut log = Log::default();
    for n in 0..300_usize {
        log.push(vec![0xff; 40_000 * usize::from(n == 7) + n]);
    }
    let site = Site::new(log).await;
    let (_folder, monitor) = watching(&site, "entries = \"opaque\"", "").await;
    assert!(monitor.waiting().is_empty());
    // Where they are said to be records, that they are none is told.
    let (_folder, monitor) = watching(&site, "", WATCH).await;
    let first = &monitor.waiting()[0];
    assert_eq!(first.finding.code, "MONITOR-UNREADABLE");
    assert_eq!(first.record.as_ref().unwrap().record_type, None);
}

#[tokio::test]
async fn a_partial_tile_that_is_gone_is_taken_from_the_full_one() {
    let site = Site::new(Log::new("a", 300)).await;
    let shown = site.log().note_at(270);
    site.show(Some(shown));
    site.lie(Some(Box::new(|path, truth| {
        match path.contains(".p/") && !path.starts_with("tile/1/") {
            true => crate::support::Answer::Is(None),
            false => crate::support::Answer::Is(truth),
        }
    })));
    site.change(|log| log.grow("a", 600));
    let (_folder, mut monitor) = watching(&site, "", WATCH).await;
    assert_eq!(monitor.round(at(1)).await.unwrap().looked, 270);
}

#[tokio::test]
async fn a_folder_is_read_as_its_owner_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(
        &folder.path().join("ledger"),
        fixed_key(1),
        ORIGIN,
        &Options {
            reserve_bytes: 0,
            ..Options::default()
        },
    );
    let ledger = ledger.unwrap();
    let append = |count: u64| {
        let draft = |n| {
            Stop {
                reason: format!("{n}"),
            }
            .record()
            .actor("a", "self")
            .draft()
            .unwrap()
        };
        ledger
            .append_many((0..count).map(draft).collect())
            .wait()
            .unwrap();
    };
    let begin = Begin {
        trust_domain: "example.org".to_owned(),
        ledger_key: Base64(fixed_key(1).public_key().spki_der().to_vec()),
        format: "trilith-ledger-v1".to_owned(),
    };
    let begin = begin.record().actor("a", "self").draft().unwrap();
    ledger.append(begin).wait().unwrap();
    append(300);
    let more = format!("folder = \"{}\"", folder.path().join("ledger").display());
    let mut monitor = Monitor::open(config(folder.path(), &[], &more, WATCH)).unwrap();
    let first = monitor.round(at(0)).await.unwrap();
    assert_eq!(first.looked, first.size);
    append(300);
    assert_eq!(monitor.round(at(1)).await.unwrap().looked, first.size + 300);

    // Static files, as an object store has them.
    let files = folder.path().join("files");
    let log = Log::new("a", 700);
    write_static(&log, &files);
    let other = folder.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let more = format!("folder = \"{}\"", files.display());
    let mut monitor = Monitor::open(config(&other, &[], &more, WATCH)).unwrap();
    assert_eq!(monitor.round(at(0)).await.unwrap().looked, 700);
    std::fs::write(files.join("checkpoint"), vec![b'x'; 300_000]).unwrap();
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-TOO-LARGE");
    std::fs::remove_file(files.join("checkpoint")).unwrap();
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-UNREACHABLE");
}

fn write_static(log: &Log, folder: &std::path::Path) {
    use ledger::tile::{Kind, TilePath};
    let kinds = (0..8).map(Kind::Hashes).chain([Kind::Entries]);
    for path in kinds.flat_map(|kind| TilePath::all(kind, log.size())) {
        let file = folder.join(path.to_string());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, log.tile(&path).unwrap()).unwrap();
    }
    std::fs::write(folder.join("checkpoint"), log.note()).unwrap();
}
