//! A log server that means no good, or whose store is broken: each is refused by name, nothing of it is taken, and the
//! log is followed again once it tells the truth.

use crate::support::{Answer, Lie, Log, Site, WATCH, at, code, issuance, watching};
use monitor::Failure;

/// A lie about the paths that `about` takes.
fn lie(
    about: impl Fn(&str) -> bool + Send + Sync + 'static,
    said: impl Fn(Vec<u8>) -> Answer + Send + Sync + 'static,
) -> Lie {
    Box::new(move |path, truth| match (about(path), truth) {
        (true, Some(truth)) => said(truth),
        (_, truth) => Answer::Is(truth),
    })
}

fn checkpoint(path: &str) -> bool {
    path == "checkpoint"
}

fn hashes(path: &str) -> bool {
    path.starts_with("tile/0/")
}

fn bundles(path: &str) -> bool {
    path.starts_with("tile/entries/")
}

fn changed(change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static) -> impl Fn(Vec<u8>) -> Answer {
    move |mut bytes| {
        change(&mut bytes);
        Answer::Is(Some(bytes))
    }
}

fn flipped(mut bytes: Vec<u8>) -> Answer {
    // Not of a length.
    let middle = bytes.len() / 2 + 40;
    bytes[middle] ^= 1;
    Answer::Is(Some(bytes))
}

#[tokio::test]
async fn each_lie_has_its_name_and_nothing_of_it_is_taken() {
    let site = Site::new(Log::new("a", 300)).await;
    let (_folder, mut monitor) = watching(&site, "", WATCH).await;
    site.change(|log| {
        log.push(issuance(300, "payments/api", "m2"));
        log.grow("a", 900);
    });
    let swap = |bytes: &mut Vec<u8>| {
        // The first two records of a bundle change places.
        let first = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        let second = 2 + usize::from(u16::from_be_bytes([bytes[first], bytes[first + 1]]));
        bytes[..first + second].rotate_left(first);
    };
    let lies: Vec<(&str, &str, Lie)> = vec![
        (
            "a checkpoint without an end",
            "MONITOR-TOO-LARGE",
            lie(checkpoint, |_| Answer::Endless),
        ),
        (
            "a slow checkpoint",
            "MONITOR-SLOW",
            lie(checkpoint, |_| Answer::Drip),
        ),
        (
            "no checkpoint",
            "MONITOR-UNREACHABLE",
            lie(checkpoint, |_| Answer::Is(None)),
        ),
        (
            "an error",
            "MONITOR-UNREACHABLE",
            lie(checkpoint, |_| Answer::Status(500)),
        ),
        (
            "a redirect",
            "MONITOR-UNREACHABLE",
            lie(checkpoint, |_| Answer::Status(302)),
        ),
        (
            "no text",
            "MONITOR-CHECKPOINT",
            lie(checkpoint, changed(|note| note[0] = 0xff)),
        ),
        (
            "no note",
            "MONITOR-CHECKPOINT",
            lie(checkpoint, changed(|note| note.truncate(20))),
        ),
        (
            "another size",
            "MONITOR-CHECKPOINT",
            lie(checkpoint, |note| {
                let note = String::from_utf8(note).unwrap();
                Answer::Is(Some(note.replacen("\n900\n", "\n901\n", 1).into_bytes()))
            }),
        ),
        ("a flipped hash", "MONITOR-TILES", lie(hashes, flipped)),
        (
            "a flipped hash above",
            "MONITOR-TILES",
            lie(|path| path.starts_with("tile/1/"), flipped),
        ),
        (
            "a short tile",
            "MONITOR-WIDTH",
            lie(hashes, changed(|tile| tile.truncate(tile.len() - 32))),
        ),
        (
            "half a hash",
            "MONITOR-WIDTH",
            lie(hashes, changed(|tile| tile.truncate(tile.len() - 7))),
        ),
        (
            "an empty tile",
            "MONITOR-WIDTH",
            lie(hashes, changed(Vec::clear)),
        ),
        (
            "a long tile",
            "MONITOR-TOO-LARGE",
            lie(hashes, changed(|tile| tile.extend([0_u8; 32]))),
        ),
        (
            "a tile without an end",
            "MONITOR-TOO-LARGE",
            lie(hashes, |_| Answer::Endless),
        ),
        ("a slow tile", "MONITOR-SLOW", lie(hashes, |_| Answer::Drip)),
        (
            "no tile",
            "MONITOR-TILE-MISSING",
            lie(hashes, |_| Answer::Is(None)),
        ),
        ("a flipped record", "MONITOR-RECORDS", lie(bundles, flipped)),
        (
            "records that change places",
            "MONITOR-RECORDS",
            lie(bundles, changed(swap)),
        ),
        (
            "a short bundle",
            "MONITOR-WIDTH",
            lie(
                bundles,
                changed(|bundle| {
                    bundle.pop();
                }),
            ),
        ),
        (
            "a long bundle",
            "MONITOR-WIDTH",
            lie(bundles, changed(|bundle| bundle.extend([0_u8, 0]))),
        ),
        (
            "an empty bundle",
            "MONITOR-WIDTH",
            lie(bundles, changed(Vec::clear)),
        ),
        (
            "a bundle without an end",
            "MONITOR-TOO-LARGE",
            lie(bundles, |_| Answer::Endless),
        ),
        (
            "no bundle",
            "MONITOR-TILE-MISSING",
            lie(bundles, |_| Answer::Is(None)),
        ),
        (
            "pruned records",
            "MONITOR-PRUNED",
            lie(bundles, |_| Answer::Status(410)),
        ),
        (
            "records of nobody",
            "MONITOR-ENTRIES-CLOSED",
            lie(bundles, |_| Answer::Status(403)),
        ),
    ];
    for (what, expected, lie) in lies {
        site.lie(Some(lie));
        let round = monitor.round(at(1)).await;
        assert_eq!(code(&round), expected, "{what}: {round:?}");
        let finding = round.unwrap_err().finding().clone();
        assert!(finding.next.is_some(), "{what}: {finding}");
        assert!(
            monitor.waiting().is_empty(),
            "{what}: nothing is judged that is not the log's"
        );
    }
    site.lie(None);
    let seen = monitor.round(at(2)).await.unwrap();
    assert_eq!((seen.looked, monitor.waiting().len()), (900, 1));
}

#[tokio::test]
async fn a_log_that_becomes_shorter_is_told_and_the_longer_head_stays() {
    let site = Site::new(Log::new("a", 500)).await;
    let (folder, mut monitor) = watching(&site, "", WATCH).await;
    for size in [0, 1, 499] {
        site.show(Some(site.log().note_at(size)));
        let round = monitor.round(at(1)).await;
        assert_eq!(code(&round), "MONITOR-REGRESSED", "{size}");
        assert!(matches!(round, Err(Failure::Broken(_))));
    }
    // Also for another process on the same state.
    drop(monitor);
    let mut monitor = monitor::Monitor::open(crate::support::config(
        folder.path(),
        &[site.url()],
        "",
        WATCH,
    ))
    .unwrap();
    assert_eq!(code(&monitor.round(at(1)).await), "MONITOR-REGRESSED");
    site.show(None);
    assert_eq!(monitor.round(at(2)).await.unwrap().size, 500);
}

#[tokio::test]
async fn nobody_there_is_no_proof_of_anything_and_is_told_once_it_lasts() {
    let site = Site::new(Log::new("a", 5)).await;
    let (_folder, mut monitor) = watching(&site, "", WATCH).await;
    site.lie(Some(Box::new(|_, _| Answer::Status(503))));
    for (seconds, told) in [(0, 0), (300, 0), (599, 0), (600, 1), (900, 1)] {
        let round = monitor.round(at(seconds)).await;
        assert!(matches!(round, Err(Failure::Unreachable(_))));
        monitor.trouble(round.as_ref().err(), at(seconds)).unwrap();
        assert_eq!(monitor.waiting().len(), told, "after {seconds} s");
    }
    // Well again, and ill again: a trouble of its own.
    monitor.trouble(None, at(901)).unwrap();
    site.lie(Some(lie(checkpoint, |_| Answer::Endless)));
    for seconds in [902, 903] {
        let round = monitor.round(at(seconds)).await;
        monitor.trouble(round.as_ref().err(), at(seconds)).unwrap();
    }
    let codes: Vec<_> = monitor
        .waiting()
        .iter()
        .map(|alert| alert.finding.code.as_ref())
        .collect();
    assert_eq!(codes, ["MONITOR-UNREACHABLE", "MONITOR-TOO-LARGE"]);
}

/// A log that hands out its records as slowly as it may does not keep its head from being looked at.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_log_is_read_in_pieces() {
    let site = Site::new(Log::new("a", 2500)).await;
    site.lie(Some(lie(bundles, |truth| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        Answer::Is(Some(truth))
    })));
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::support::config(folder.path(), &[site.url()], "", WATCH);
    config.monitor.interval_s = 1;
    let mut monitor = monitor::Monitor::open(config).unwrap();
    // Ten bundles, of which three or four come in the time between two looks at the head.
    let mut looked = 0;
    while looked < 2500 {
        let seen = monitor.round(at(0)).await.unwrap();
        assert_eq!(seen.size, 2500);
        assert!(seen.looked > looked, "{} after {looked}", seen.looked);
        assert!(seen.looked < 2500 || looked > 0, "all of it at once");
        looked = seen.looked;
    }
}
