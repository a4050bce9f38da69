//! `add-entries` of c2sp.org/tlog-mirror: what a log makes of its entries, what a mirror reads, and what it refuses.

use crate::support::{Memory, SERVER, naive_root};
use crate::vectors::compare;
use ledger::Code as _;
use ledger::merkle::{Hash, leaf_hash};
use ledger::mirror::{Answer, INFO_TYPE, Incoming, Info, MirrorError, Package, Span, Upload};
use serde_json::json;

const SIZE: u64 = 700;

fn log(size: u64) -> (Memory, Vec<Hash>) {
    let mut log = Memory::new(SERVER, 1);
    for n in 0..size {
        log.append_bytes(format!("entry {n}").into_bytes());
    }
    let leaves = log.records.iter().map(|record| leaf_hash(record)).collect();
    (log, leaves)
}

fn package(log: &Memory, span: Span, size: u64) -> Package {
    let entries = &log.records[span.start as usize..span.end as usize];
    let Ok(package) = Package::build(span, entries, size, log);
    package.unwrap()
}

fn request(log: &Memory, upload: &Upload) -> Vec<u8> {
    let packages = upload
        .spans()
        .map(|span| package(log, span, upload.end()).bytes());
    [vec![upload.bytes()], packages.collect()].concat().concat()
}

/// All packages of a request, as they come in pieces of `step` bytes.
fn read(request: &[u8], step: usize) -> Result<(Vec<Package>, bool), MirrorError> {
    let (mut incoming, mut packages) = (Incoming::new(), Vec::new());
    for piece in request.chunks(step) {
        incoming.push(piece);
        while let Some(package) = incoming.package()? {
            packages.push(package);
        }
    }
    Ok((packages, incoming.is_whole()))
}

#[test]
fn every_part_of_a_log_arrives_as_it_was_sent() {
    let (log, leaves) = log(SIZE);
    for end in [1, 2, 255, 256, 257, 511, 512, 513, 600, SIZE] {
        let root = naive_root(&leaves[..end as usize]);
        for start in [0, 1, 3, 128, 255, 256, 257, 300, 512, 599, SIZE] {
            let Ok(upload) = Upload::new(SERVER, start, end, b"ticket".to_vec()) else {
                assert!(start > end);
                continue;
            };
            let sent = request(&log, &upload);
            let read_head = Upload::parse(&sent).unwrap().unwrap();
            assert_eq!(read_head, (upload.clone(), upload.bytes().len()));
            for step in [1, 7, 4096, sent.len()] {
                let (packages, whole) = read(&sent, step).unwrap();
                assert!(whole);
                let mut next = start;
                for package in &packages {
                    let span = package.span();
                    assert_eq!(span.start, next);
                    assert!(span.first % 256 == 0 && span.end <= span.first + 256);
                    next = span.end;
                    let before = &leaves[span.first as usize..span.start as usize];
                    package.verify(before, end, &root).unwrap();
                    assert_eq!(
                        package.leaves(),
                        &leaves[span.start as usize..span.end as usize]
                    );
                }
                assert_eq!(next, end);
                let expected = end.div_ceil(256) - start / 256;
                assert_eq!(
                    packages.len() as u64,
                    if start == end { 0 } else { expected }
                );
            }
        }
    }
}

/// Every byte of a package counts, and it belongs where it stands and to that checkpoint alone.
#[test]
fn no_changed_or_moved_package_is_of_the_log() {
    let (log, leaves) = log(SIZE);
    let (end, whole) = (SIZE, naive_root(&leaves));
    let upload = Upload::new(SERVER, 508, end, Vec::new()).unwrap();
    let head = upload.bytes();
    for span in upload.spans() {
        let alone = Upload::new(SERVER, span.start, end, Vec::new())
            .unwrap()
            .bytes();
        let good = package(&log, span, end);
        let before = leaves[span.first as usize..span.start as usize].to_vec();
        for at in 0..good.bytes().len() {
            let mut changed = good.bytes();
            changed[at] ^= 1;
            let sent = [alone.clone(), changed].concat();
            if let Ok((packages, _)) = read(&sent, sent.len())
                && let Some(package) = packages.first()
            {
                assert!(package.verify(&before, end, &whole).is_err(), "byte {at}");
            }
        }
        // Another bundle's hashes, one too many, a log that ends before it, another root.
        let mut other = before.clone();
        other.push(leaves[0]);
        assert!(good.verify(&other, end, &whole).is_err());
        if let Some(first) = other.first_mut() {
            first[0] ^= 1;
        }
        other.pop();
        assert_eq!(
            good.verify(&other, end, &whole).is_err(),
            !before.is_empty()
        );
        assert!(good.verify(&before, span.end - 1, &whole).is_err());
        assert!(good.verify(&before, end, &leaves[0]).is_err());
        assert!(good.verify(&before, 0, &whole).is_err());
    }
    // Cut anywhere: what is whole before the cut comes, nothing else does, and no end is claimed.
    let sent = request(&log, &upload);
    for cut in 0..sent.len() {
        let (packages, whole) = read(&sent[..cut], 512).unwrap();
        assert!(!whole, "cut at {cut}");
        assert_eq!(
            packages.is_empty(),
            cut < head.len() + package(&log, upload.span(508).unwrap(), end).bytes().len()
        );
    }
}

#[test]
fn what_is_no_request_is_refused_before_it_is_held() {
    // A proof of more than 63 hashes; the entry before it is empty.
    let upload = Upload::new(SERVER, 0, 1, Vec::new()).unwrap();
    let sent = [upload.bytes(), vec![0, 0, 64]].concat();
    assert_eq!(read(&sent, 1).unwrap_err().code(), "LEDGER-MIRROR-REQUEST");
    for (origin, start, end) in [("", 0, 1), (SERVER, 2, 1)] {
        assert!(Upload::new(origin, start, end, Vec::new()).is_err());
    }
    assert!(Upload::new(SERVER, 0, 1, vec![0; 65_536]).is_err());
    let mut backwards = Upload::new(SERVER, 1, 1, Vec::new()).unwrap().bytes();
    backwards[2 + SERVER.len() + 7] = 2;
    assert!(Upload::parse(&backwards).is_err());
    assert!(
        Upload::parse(&[
            0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        ])
        .is_err()
    );
    // The last bundle that there can be.
    let last = Upload::new(SERVER, u64::MAX - 3, u64::MAX, Vec::new()).unwrap();
    let spans: Vec<Span> = last.spans().collect();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].end, u64::MAX);
    // What comes behind the last package is not held.
    let (log, _) = log(3);
    let upload = Upload::new(SERVER, 0, 3, Vec::new()).unwrap();
    let sent = [request(&log, &upload), vec![7; 100_000]].concat();
    let (packages, whole) = read(&sent, 1000).unwrap();
    assert!(whole && packages.len() == 1);
}

#[test]
fn an_answer_has_one_spelling() {
    for (size, next, ticket) in [
        (0, 0, &b""[..]),
        (7, 5, b"a ticket"),
        (u64::MAX, 1, &[0; 300]),
    ] {
        let info = Info {
            size,
            next,
            ticket: ticket.to_vec(),
        };
        assert_eq!(info.to_string().parse::<Info>(), Ok(info.clone()));
        for status in [202, 409] {
            let answer =
                Answer::parse(status, Some(INFO_TYPE), info.to_string().as_bytes()).unwrap();
            assert_eq!((answer.status(), answer.body()), (status, info.to_string()));
        }
    }
    for text in [
        "",
        "1\n2\n",
        "1\n2\n\n\n",
        "01\n2\n\n",
        "1\n2\nx\n",
        "1\n2\n",
        "1 \n2\n\n",
        "1\n2\n\nmore\n",
    ] {
        assert!(text.parse::<Info>().is_err(), "{text:?}");
    }
    let long = Info {
        size: 1,
        next: 1,
        ticket: vec![0; 65_536],
    };
    assert!(long.to_string().parse::<Info>().is_err());
    assert!(Answer::parse(200, None, b"").is_err());
    assert_eq!(
        Answer::parse(409, None, b"1\n2\n\n"),
        Ok(Answer::Refused { status: 409 })
    );
}

#[test]
fn the_published_uploads_are_what_this_version_makes() {
    let (log, leaves) = log(300);
    let upload = Upload::new(SERVER, 250, 290, b"a ticket".to_vec()).unwrap();
    let packages: Vec<_> = upload
        .spans()
        .map(|span| {
            let package = package(&log, span, 290);
            json!({
                "first": span.first, "start": span.start, "end": span.end,
                "package": crypto::base64::encode(&package.bytes()),
            })
        })
        .collect();
    let info = Info {
        size: 290,
        next: 256,
        ticket: b"a ticket".to_vec(),
    };
    let vectors = json!({
        "entries": "the ASCII texts `entry 0`, `entry 1`, ...",
        "root": crypto::base64::encode(&naive_root(&leaves[..290])),
        "origin": SERVER, "upload_start": 250, "upload_end": 290, "ticket": "a ticket",
        "header": crypto::base64::encode(&upload.bytes()),
        "packages": packages,
        "info": info.to_string(),
    });
    compare("mirror", &vectors);
}
