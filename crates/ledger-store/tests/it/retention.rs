//! Pruning: what is left is whole and proven, what is gone says by which record, and whatever happens in between, it is
//! done or not done.

use crate::fault_disk::{Fault, MemoryDisk};
use crate::support::{ORIGIN, draft, key, options, signer, text_of};
use crypto::Signer;
use ledger::body::{Begin, Body as _, Retention, Stop};
use ledger::merkle::{leaf_hash, verify_consistency, verify_inclusion};
use ledger::tile::{Kind, TilePath};
use ledger::{Base64, Code as _, Draft, LedgerKey};
use ledger_store::{Disk, Folder, Ledger, Options, Pruned, Reader, StoreError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Of some 40 records each.
const SEGMENT: u64 = 12_000;

fn small(disk: Option<&MemoryDisk>) -> Options {
    let mut options = Options {
        segment_bytes: SEGMENT,
        ..options()
    };
    if let Some(disk) = disk {
        options.disk = Arc::new(disk.clone());
    }
    options
}

fn open(dir: &Path, signer: &Arc<dyn Signer>) -> Result<Ledger, StoreError> {
    Ledger::open(dir, Arc::clone(signer), ORIGIN, &small(None))
}

/// `count` records, of which the first begins the ledger and each other says its index.
fn fill(ledger: &Ledger, count: u64) {
    let from = ledger.reader().size();
    let begin = Begin {
        trust_domain: "example.org".to_owned(),
        ledger_key: Base64(ledger.key().public_key().spki_der().to_vec()),
        format: "v1".to_owned(),
    };
    for first in (from..from + count).step_by(16) {
        let end = (first + 16).min(from + count);
        let one = |index: u64| match index {
            0 => begin.record().actor("test", "self").draft().unwrap(),
            index => draft(&index.to_string()),
        };
        let drafts = (first..end).map(one).collect();
        ledger.append_many(drafts).wait().unwrap();
    }
}

fn retention(minimum: u64) -> Draft {
    let body = Retention {
        minimum_index: minimum.into(),
        snapshot: None,
        policy: "a test".to_owned(),
        by: "uid:0".to_owned(),
    };
    body.record().actor("test", "self").draft().unwrap()
}

fn prune(ledger: &Ledger, keep: u64) -> Result<Option<Pruned>, StoreError> {
    ledger.prune(keep, |minimum| Ok(retention(minimum)))
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir.join("segments")).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// What is left verifies, whatever is gone says so, and the first record is there.
fn check(reader: &Reader, key: &LedgerKey, pruned: Pruned) {
    assert_eq!(reader.pruned(), Some(pruned));
    let head = reader.head();
    let (size, root) = (head.checkpoint.size, head.checkpoint.root);
    ledger::Checkpoint::open(&head.note, key).unwrap();
    let proven = |index: u64, record: &[u8]| {
        let proof = reader.inclusion(index, size).unwrap();
        verify_inclusion(&leaf_hash(record), index, size, &proof, &root).unwrap();
    };
    let begin: Begin = reader.record(0).unwrap().expect_body().unwrap();
    assert_eq!(begin.trust_domain, "example.org");
    proven(0, &reader.read(0..size).unwrap()[0]);
    assert_eq!(reader.read(0..size).unwrap().len(), 1);
    let mut at = pruned.minimum;
    while at < size {
        for record in reader.read(at..size).unwrap() {
            proven(at, &record);
            at += 1;
        }
    }
    let body: Retention = reader.record(pruned.record).unwrap().expect_body().unwrap();
    assert_eq!(body.minimum_index.0, pruned.minimum);
    // Of trees that are older than what is left, too: the hashes are all there.
    for old in [1, 100, pruned.minimum, size - 1] {
        let (proof, before) = (reader.consistency(old, size), reader.root(old));
        verify_consistency(old, &before.unwrap(), size, &root, &proof.unwrap()).unwrap();
    }
    for index in [1, pruned.minimum - 1] {
        for error in [
            reader.record(index).unwrap_err(),
            reader.read(index..size).unwrap_err(),
            reader.read_signed(index..size, 1 << 20).unwrap_err(),
            reader.receipt(index).unwrap_err(),
        ] {
            assert_eq!(error.code(), "LEDGER-PRUNED");
            let by = format!("record {index} is gone");
            assert!(error.to_string().starts_with(&by), "{error}");
            let by = format!("by record {}", pruned.record);
            assert!(error.to_string().ends_with(&by), "{error}");
        }
        reader.inclusion(index, size).unwrap();
    }
    // As c2sp.org/tlog-tiles has it: a bundle is refused if all of it is gone, and no other.
    for bundle in 0..size / 256 {
        let path = TilePath::full(Kind::Entries, bundle);
        let served = reader.tile(&path);
        assert_eq!(
            served.is_err(),
            (bundle + 1) * 256 <= pruned.minimum,
            "{path}"
        );
        let hashes = TilePath::full(Kind::Hashes(0), bundle);
        assert_eq!(reader.tile(&hashes).unwrap().unwrap().len(), 8192);
    }
}

#[test]
fn what_is_left_verifies_and_what_is_gone_says_so() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let key = key(&signer);
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 1_200);
    let before = segments(dir.path());
    // Not a whole bundle, or nothing of a whole segment.
    assert_eq!(prune(&ledger, 255).unwrap(), None);
    assert_eq!(ledger.reader().size(), 1_200);
    let planned = ledger.prunable(800).unwrap().unwrap();
    let pruned = prune(&ledger, 800).unwrap().unwrap();
    assert_eq!((pruned.minimum, pruned.record), (768, 1_200));
    assert_eq!(planned.minimum, 768);
    let gone: u64 = 12_000 * (before.len() - segments(dir.path()).len()) as u64;
    assert!(gone > 100_000 && planned.bytes > gone, "{planned:?}");
    check(ledger.reader(), &key, pruned);
    // Nothing more is old enough.
    assert_eq!(prune(&ledger, 800).unwrap(), None);
    drop(ledger);

    // For its owner, who goes on, and for whoever reads it from outside.
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 600);
    check(ledger.reader(), &key, pruned);
    let folder = Folder::open(dir.path()).unwrap();
    assert_eq!(folder.key(), &key);
    check(folder.reader(), &key, pruned);
    let again = prune(&ledger, 1_500).unwrap().unwrap();
    assert_eq!((again.minimum, again.record), (1_280, 1_801));
    drop(ledger);
    check(open(dir.path(), &signer).unwrap().reader(), &key, again);
    assert!(Folder::is_ledger(dir.path()));
}

fn prune_but(ledger: &Ledger, keep: u64, needed: &[u64]) -> Result<Option<Pruned>, StoreError> {
    let drafts = |minimum| Ok(vec![draft("before it"), retention(minimum)]);
    match ledger.prunable(keep)? {
        Some(prunable) => ledger.prune_but(prunable, needed, drafts),
        None => Ok(None),
    }
}

/// Tiling goes on while somebody looks at what could go, and at what of it is needed.
#[test]
fn no_more_goes_than_was_looked_at() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 600);
    let seen = ledger.prunable(600).unwrap().unwrap();
    fill(&ledger, 600);
    let more = ledger.prunable(1_200).unwrap().unwrap();
    assert!(more.minimum > seen.minimum, "{seen:?} {more:?}");
    let drafts = |minimum| Ok(vec![retention(minimum)]);
    let pruned = ledger.prune_but(seen, &[7], drafts).unwrap().unwrap();
    assert_eq!(pruned.minimum, seen.minimum);
    let reader = ledger.reader();
    for index in [7, seen.minimum, more.minimum - 1] {
        assert_eq!(text_of(reader, index), index.to_string());
    }
    let size = reader.size();
    for minimum in [seen.minimum, more.minimum + 1, 1 << 40] {
        let other = ledger_store::Prunable { minimum, ..more };
        let error = ledger.prune_but(other, &[], drafts).unwrap_err();
        assert_eq!(error.code(), "LEDGER-PRUNE", "{error}");
    }
    assert_eq!(reader.size(), size);
}

#[test]
fn what_is_needed_still_is_kept_and_nothing_else() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 1_200);
    let pruned = prune_but(&ledger, 800, &[700, 3, 300, 900])
        .unwrap()
        .unwrap();
    assert_eq!((pruned.minimum, pruned.record), (768, 1_201));
    assert_eq!(text_of(ledger.reader(), 1_200), "before it");
    let kept = |reader: &Reader, indices: &[u64]| {
        assert_eq!(reader.kept_beside(), indices);
        let size = reader.size();
        for index in indices {
            assert_eq!(text_of(reader, *index), index.to_string());
            assert_eq!(reader.read(*index..size).unwrap().len(), 1);
            reader
                .receipt(*index)
                .unwrap()
                .verify(&key(&signer))
                .unwrap();
        }
        let mut there = Vec::new();
        let mut at = reader.next_there(0);
        while at < 768 {
            reader.record(at).unwrap();
            there.push(at);
            at = reader.next_there(at + 1);
        }
        assert_eq!(there, [&[0], indices].concat());
        for gone in [1, 2, 4, 301, 699, 701] {
            assert_eq!(reader.record(gone).unwrap_err().code(), "LEDGER-PRUNED");
        }
    };
    kept(ledger.reader(), &[3, 300, 700]);
    ledger.close().unwrap();
    kept(Folder::open(dir.path()).unwrap().reader(), &[3, 300, 700]);
    let ledger = open(dir.path(), &signer).unwrap();
    kept(ledger.reader(), &[3, 300, 700]);
    fill(&ledger, 600);
    // What is needed no more goes with the next one; what an earlier one took is not needed again.
    let error = prune_but(&ledger, 1_500, &[5]).unwrap_err();
    assert_eq!(error.code(), "LEDGER-PRUNED");
    let again = prune_but(&ledger, 1_500, &[300, 1_000]).unwrap().unwrap();
    assert!(again.minimum > 1_000, "{again:?}");
    assert_eq!(ledger.reader().kept_beside(), [300, 1_000]);
    ledger.close().unwrap();

    // Another record in the place of one that is kept, half of one, or none at all.
    let apart = dir.path().join("apart");
    let good = std::fs::read(&apart).unwrap();
    let place = good.windows(5).position(|five| five == b"\"300\"").unwrap();
    let mut other = good.clone();
    other[place + 1] = b'4';
    for bad in [&other[..], &good[..good.len() - 1], &good[..5]] {
        std::fs::write(&apart, bad).unwrap();
        refused_owner(&open(dir.path(), &signer));
    }
    std::fs::remove_file(&apart).unwrap();
    let ledger = open(dir.path(), &signer).unwrap();
    assert!(ledger.reader().kept_beside().is_empty());
    let error = ledger.reader().record(300).unwrap_err();
    assert_eq!(error.code(), "LEDGER-PRUNED");
}

/// A folder restored without its file `apart` has what lives of it again from a copy, and takes nothing else.
#[test]
fn what_was_kept_and_is_lost_is_kept_again_and_nothing_else() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 1_200);
    let [three, seven] = [3, 700].map(|index| ledger.reader().record(index).unwrap().into_bytes());
    let keep = |ledger: &Ledger, index: u64, record: &[u8]| {
        ledger.keep_beside(BTreeMap::from([(index, record.to_vec())]))
    };
    let refused = keep(&ledger, 3, &three).unwrap_err();
    assert_eq!(refused.code(), "LEDGER-PRUNE");
    prune_but(&ledger, 800, &[3, 700]).unwrap().unwrap();
    ledger.close().unwrap();
    let apart = dir.path().join("apart");
    let before = std::fs::read(&apart).unwrap();
    std::fs::remove_file(&apart).unwrap();
    let ledger = open(dir.path(), &signer).unwrap();
    // In the place of another, the first one, and one that is in a segment.
    let begin = ledger.reader().record(0).unwrap().into_bytes();
    let there = ledger.reader().record(900).unwrap().into_bytes();
    for (index, record) in [(3, &seven), (4, &three), (0, &begin), (900, &there)] {
        keep(&ledger, index, record).unwrap_err();
        assert!(!apart.exists(), "record {index}");
    }
    keep(&ledger, 700, &seven).unwrap();
    assert_eq!(ledger.reader().kept_beside(), [700]);
    keep(&ledger, 3, &three).unwrap();
    assert_eq!(ledger.reader().kept_beside(), [3, 700]);
    assert_eq!(text_of(ledger.reader(), 3), "3");
    ledger.close().unwrap();
    assert_eq!(std::fs::read(&apart).unwrap(), before);
    let folder = Folder::open(dir.path()).unwrap();
    assert_eq!(folder.reader().kept_beside(), [3, 700]);
}

/// As [`cut_short_at_each_step_it_is_done_or_not_done`], of a ledger that was pruned before: what was kept then is kept
/// until what takes its place is.
#[test]
fn cut_short_at_each_step_nothing_that_is_needed_is_lost() {
    let signer = signer();
    let dir = Path::new("/ledger");
    let on = |disk: &MemoryDisk| Ledger::open(dir, Arc::clone(&signer), ORIGIN, &small(Some(disk)));
    let filled = || {
        let disk = MemoryDisk::default();
        let ledger = on(&disk).unwrap();
        fill(&ledger, 600);
        prune_but(&ledger, 512, &[7, 200]).unwrap().unwrap();
        fill(&ledger, 600);
        ledger.prunable(1_024).unwrap();
        ledger.close().unwrap();
        disk
    };
    let disk = filled();
    let ledger = on(&disk).unwrap();
    let opened = disk.operations();
    let done = prune_but(&ledger, 1_024, &[200, 900]).unwrap().unwrap();
    assert!(done.minimum > 900, "{done:?}");
    let operations = disk.operations() - opened;
    drop(ledger);
    for fault in [Fault::FailedAndStored, Fault::FailedNotStored, Fault::Short] {
        for after in 0..operations {
            let disk = filled();
            let ledger = on(&disk).unwrap();
            disk.fail(after, fault);
            drop(prune_but(&ledger, 1_024, &[200, 900]));
            drop(ledger);
            for disk in [disk.crash(|_| 0), disk.crash(|_| 3), disk.healed()] {
                let ledger = on(&disk).unwrap();
                let needed: &[u64] = match ledger.reader().pruned().unwrap() == done {
                    true => &[200, 900],
                    false => &[7, 200, 900],
                };
                for index in needed {
                    assert_eq!(text_of(ledger.reader(), *index), index.to_string());
                }
            }
        }
    }
}

/// Whoever writes to the folder takes away no record behind the ledger's back.
#[test]
fn nothing_is_gone_that_no_record_says() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let at = |name: &str| dir.path().join(name);
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 1_200);
    let begin = ledger.reader().record(0).unwrap().into_bytes();
    ledger.prunable(1_000).unwrap();
    ledger.close().unwrap();
    let refused = |what: &str| {
        let folder = Folder::open(dir.path()).map(|_| ()).unwrap_err();
        let owner = open(dir.path(), &signer).map(|_| ()).unwrap_err();
        for error in [folder, owner] {
            assert_eq!(error.code(), "LEDGER-SEGMENT-CORRUPT", "{what}: {error}");
            assert!(error.to_string().contains(what), "{what}: {error}");
        }
    };
    // An intent whose record never came, or that names one that says something else: everything stays.
    let claims = |claim: &str| std::fs::write(at("retention"), claim).unwrap();
    std::fs::write(at("begin"), &begin).unwrap();
    for claim in ["1200 768\n", "1100 768\n", "7 7\n", "x\n"] {
        claims(claim);
        let ledger = open(dir.path(), &signer).unwrap();
        assert_eq!(ledger.reader().pruned(), None, "{claim}");
        assert_eq!(text_of(ledger.reader(), 5), "5");
    }
    let away = dir.path().join("away");
    std::fs::rename(&segments(dir.path())[0], &away).unwrap();
    for claim in ["1200 768\n", "1100 768\n", ""] {
        claims(claim);
        refused("the first segment is missing");
    }
    std::fs::rename(
        &away,
        dir.path().join("segments/00000000000000000000.segment"),
    )
    .unwrap();

    let ledger = open(dir.path(), &signer).unwrap();
    let pruned = prune(&ledger, 1_000).unwrap().unwrap();
    drop(ledger);
    // More is gone than the record says.
    let all = segments(dir.path());
    std::fs::create_dir(&away).unwrap();
    let firsts: Vec<u64> = all
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().parse().unwrap())
        .collect();
    let more = firsts
        .iter()
        .position(|first| *first > pruned.minimum)
        .unwrap();
    assert!(more + 1 < all.len());
    for path in &all[..more] {
        std::fs::rename(path, away.join(path.file_name().unwrap())).unwrap();
    }
    refused("the first segment is missing");
    for path in &all[..more] {
        std::fs::rename(away.join(path.file_name().unwrap()), path).unwrap();
    }
    // Another first record.
    let other = String::from_utf8(begin)
        .unwrap()
        .replace("example.org\"", "example.com\"");
    std::fs::write(at("begin"), other).unwrap();
    let error = open(dir.path(), &signer).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().contains("not the first record"),
        "{error}"
    );
    std::fs::remove_file(at("begin")).unwrap();
    refused_owner(&open(dir.path(), &signer));
}

fn refused_owner(opened: &Result<Ledger, StoreError>) {
    let error = opened.as_ref().map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "LEDGER-SEGMENT-CORRUPT", "{error}");
}

/// Every change of the disk that pruning makes fails, in each way; and the power goes at each.
#[test]
fn cut_short_at_each_step_it_is_done_or_not_done() {
    let signer = signer();
    let key = key(&signer);
    let dir = Path::new("/ledger");
    let on = |disk: &MemoryDisk| Ledger::open(dir, Arc::clone(&signer), ORIGIN, &small(Some(disk)));
    let filled = || {
        let disk = MemoryDisk::default();
        let ledger = on(&disk).unwrap();
        fill(&ledger, 600);
        ledger.prunable(512).unwrap();
        ledger.close().unwrap();
        disk
    };
    let disk = filled();
    let ledger = on(&disk).unwrap();
    let opened = disk.operations();
    let done = prune(&ledger, 512).unwrap().unwrap();
    let operations = disk.operations() - opened;
    assert!(operations > 10, "{operations}");
    drop(ledger);
    let (mut yes, mut no) = (0, 0);
    for fault in [
        Fault::FailedAndStored,
        Fault::FailedNotStored,
        Fault::Short,
        Fault::Full,
    ] {
        for after in 0..operations {
            let disk = filled();
            let ledger = on(&disk).unwrap();
            disk.fail(after, fault);
            let said = prune(&ledger, 512);
            drop(ledger);
            for disk in [disk.crash(|_| 0), disk.crash(|_| 3), disk.healed()] {
                let ledger = on(&disk).unwrap();
                match ledger.reader().pruned() {
                    Some(pruned) => {
                        assert_eq!(pruned, done);
                        check(ledger.reader(), &key, pruned);
                        let names = disk.list(&dir.join("segments")).unwrap();
                        let first: u64 = names.iter().min().unwrap()[..20].parse().unwrap();
                        assert!(first > 256, "what is gone is not taken away: {first}");
                        yes += 1;
                    }
                    None => {
                        assert!(!matches!(said, Ok(Some(_))), "{fault:?} {after}");
                        for index in 1..600 {
                            assert_eq!(text_of(ledger.reader(), index), index.to_string());
                        }
                        // Nothing stands in the way of doing it after all, another record or not.
                        ledger.append(draft("between")).wait().unwrap();
                        let pruned = prune(&ledger, 512).unwrap().unwrap();
                        check(ledger.reader(), &key, pruned);
                        no += 1;
                    }
                }
            }
        }
    }
    assert!(yes > 20 && no > 20, "{yes} done, {no} not done");
}

#[test]
fn a_hash_of_what_is_gone_that_is_damaged_is_said_to_be() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 1_200);
    prune(&ledger, 800).unwrap().unwrap();
    ledger.close().unwrap();
    std::fs::write(dir.path().join("tile/0/001"), b"").unwrap();
    let folder = Folder::open(dir.path());
    let error = folder.map(|_| ()).unwrap_err();
    assert_eq!(error.code(), "LEDGER-TILES", "{error}");
}

/// What an administrator of the mirrored ledger says takes nothing away from who mirrors it.
#[test]
fn a_mirror_keeps_what_the_mirrored_ledger_has_pruned() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let ledger = open(&dir.path().join("own"), &signer).unwrap();
    fill(&ledger, 600);
    let path = dir.path().join("mirror");
    let mut mirror = ledger_store::Mirror::open(&path, key(&signer), &small(None)).unwrap();
    let take = |mirror: &mut ledger_store::Mirror, reader: &Reader| {
        let (held, head) = (mirror.reader().size(), reader.head());
        let records = reader.read(held..head.checkpoint.size).unwrap();
        mirror.append(held, &records, &head.note).unwrap();
    };
    take(&mut mirror, ledger.reader());
    prune(&ledger, 600).unwrap().unwrap();
    take(&mut mirror, ledger.reader());
    drop(mirror);
    let mirror = ledger_store::Mirror::open(&path, key(&signer), &small(None)).unwrap();
    let reader = mirror.reader();
    assert_eq!((reader.size(), reader.pruned()), (601, None));
    let stop: Stop = reader.record(5).unwrap().expect_body().unwrap();
    assert_eq!(stop.reason, "5");
}

/// What was pruned has its hashes in the tiles alone: one that is lost or changed is told as such, and not as damage of a
/// segment that is sound; with the tiles of a copy it opens again.
#[test]
fn a_pruned_ledger_whose_tiles_are_damaged_says_so_and_opens_with_those_of_a_copy() {
    let (dir, signer) = (tempfile::tempdir().unwrap(), signer());
    let at = |name: &str| dir.path().join(name);
    let ledger = open(dir.path(), &signer).unwrap();
    fill(&ledger, 1_200);
    prune(&ledger, 1_000).unwrap().unwrap();
    ledger.close().unwrap();
    let opened = || Folder::open(dir.path()).map(|_| ());
    opened().unwrap();
    for name in ["tile/0/001", "tiled"] {
        let sound = std::fs::read(at(name)).unwrap();
        let mut changed = sound.clone();
        changed[0] ^= 1;
        for bytes in [None, Some(changed)] {
            match bytes {
                None => std::fs::remove_file(at(name)).unwrap(),
                Some(bytes) => std::fs::write(at(name), bytes).unwrap(),
            }
            let owner = open(dir.path(), &signer).map(|_| ());
            for error in [opened().unwrap_err(), owner.unwrap_err()] {
                assert_eq!(error.code(), "LEDGER-TILES", "{name}: {error}");
                let told = error.to_string();
                assert!(told.contains("copy `tile` and `tiled`"), "{told}");
                assert!(!told.contains(".segment"), "{told}");
            }
        }
        std::fs::write(at(name), &sound).unwrap();
        opened().unwrap();
    }
}
