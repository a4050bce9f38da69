//! Mirrors of other ledgers, and blobs.

use crate::ledger_basics::copy;
use crate::support::{check_whole, draft, key, open, options, signer};
use ledger::{Code, HexDigest};
use ledger_store::{Blobs, Mirror, RealDisk};
use std::sync::Arc;

#[test]
fn a_mirror_keeps_only_what_the_checkpoint_covers() {
    let (source, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let signer = signer();
    let ledger = open(source.path(), &signer).unwrap();
    let mut mirror = Mirror::open(dir.path(), key(&signer), &options()).unwrap();
    for round in 0..5_u64 {
        let drafts = (0..130).map(|n| draft(&format!("{round}/{n}")));
        ledger.append_many(drafts.collect()).wait().unwrap();
        let (held, head) = (mirror.reader().size(), ledger.reader().head());
        let size = head.checkpoint.size;
        let records = ledger.reader().read(held..size).unwrap();

        let proof = ledger.reader().consistency(held, size).unwrap();
        mirror.extends(&head.note, &proof).unwrap();
        if held > 0 {
            assert!(mirror.extends(&head.note, &[]).is_err());
        }
        let mut changed = records.clone();
        changed[7] = records[8].clone();
        let error = mirror.append(held, &changed, &head.note).unwrap_err();
        assert_eq!(error.code(), "LEDGER-MIRROR");
        let error = mirror
            .append(held + 1, &records[1..], &head.note)
            .unwrap_err();
        assert_eq!(error.code(), "LEDGER-MIRROR-POSITION");
        let error = mirror.append(held, &records[1..], &head.note).unwrap_err();
        assert_eq!(error.code(), "LEDGER-MIRROR");
        let forged = head.note.replace("\n\n", "\n\n\n");
        assert!(mirror.append(held, &records, &forged).is_err());

        mirror.append(held, &records, &head.note).unwrap();
        assert_eq!(mirror.reader().head(), head);
        if round == 2 {
            drop(mirror);
            mirror = Mirror::open(dir.path(), key(&signer), &options()).unwrap();
        }
    }
    check_whole(&mirror.reader(), &key(&signer));
    let receipt = mirror.reader().receipt(300).unwrap();
    receipt.verify(&key(&signer)).unwrap();
}

#[test]
fn a_forked_ledger_does_not_extend_a_mirror() {
    let (one, two, dir) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let signer = signer();
    let ledger = open(one.path(), &signer).unwrap();
    ledger.append(draft("common")).wait().unwrap();
    copy(one.path(), two.path());
    ledger.append(draft("true")).wait().unwrap();
    let fork = open(two.path(), &signer).unwrap();
    fork.append(draft("false")).wait().unwrap();

    let mut mirror = Mirror::open(dir.path(), key(&signer), &options()).unwrap();
    let records = ledger.reader().read(0..2).unwrap();
    mirror
        .append(0, &records, &ledger.reader().head().note)
        .unwrap();
    fork.append(draft("more")).wait().unwrap();
    let records = fork.reader().read(2..3).unwrap();
    let error = mirror
        .append(2, &records, &fork.reader().head().note)
        .unwrap_err();
    assert_eq!(error.code(), "LEDGER-MIRROR");
    let proof = fork.reader().consistency(2, 3).unwrap();
    assert!(mirror.extends(&fork.reader().head().note, &proof).is_err());
}

#[test]
fn blobs_are_what_their_name_says() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = Blobs::open(dir.path(), 1000, Arc::new(RealDisk)).unwrap();
    let blob = blobs.put(b"evidence").unwrap();
    assert_eq!(blobs.put(b"evidence").unwrap(), blob);
    assert_eq!(blob.length.0, 8);
    assert_eq!(blobs.get(&blob.sha256).unwrap().unwrap(), b"evidence");
    assert_eq!(blobs.get(&HexDigest([0; 32])).unwrap(), None);
    assert_eq!(
        blobs.put(&[0; 1001]).unwrap_err().code(),
        "LEDGER-BLOB-SIZE"
    );

    let name = blob.sha256.to_string();
    let path = dir.path().join(&name[..2]).join(&name);
    std::fs::write(&path, b"forged!!").unwrap();
    assert_eq!(blobs.get(&blob.sha256).unwrap(), None);
    blobs.put(b"evidence").unwrap();
    assert_eq!(blobs.get(&blob.sha256).unwrap().unwrap(), b"evidence");

    // More than there are files open at once, one of them twice, and one that is there.
    let mut many: Vec<Vec<u8>> = (0_u8..200).map(|number| vec![number; 9]).collect();
    many.extend([vec![7; 9], b"evidence".to_vec()]);
    blobs.put_all(&many).unwrap();
    for bytes in &many {
        let found = blobs.get(&HexDigest::of(bytes)).unwrap();
        assert_eq!(found.unwrap(), *bytes);
    }
    many.push(vec![0; 1001]);
    assert_eq!(blobs.put_all(&many).unwrap_err().code(), "LEDGER-BLOB-SIZE");
}

#[test]
fn what_is_read_ends_where_the_tree_was_signed_so_that_a_mirror_can_keep_it() {
    let (source, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let signer = signer();
    let ledger = open(source.path(), &signer).unwrap();
    let mut mirror = Mirror::open(dir.path(), key(&signer), &options()).unwrap();
    for round in 0..20_u64 {
        let drafts = (0..37).map(|n| draft(&format!("{round}/{n}")));
        ledger.append_many(drafts.collect()).wait().unwrap();
    }
    let (reader, size) = (ledger.reader(), ledger.reader().size());
    let record = reader.read(0..1).unwrap().remove(0).len();
    // Less than a commit: records without a note, which end nowhere in particular.
    let (records, note) = reader.read_signed(0..size, 10 * record).unwrap();
    assert!(records.len() < 37 && note.is_none(), "{}", records.len());
    // From the middle of a commit to its end.
    let (rest, note) = reader.read_signed(10..37, 1 << 20).unwrap();
    assert_eq!((rest.len(), note.is_some()), (27, true));
    // The end of what was asked for is the end of no commit.
    let (records, note) = reader.read_signed(0..36, 1 << 20).unwrap();
    assert_eq!((records.len(), note.is_some()), (36, false));
    let (none, note) = reader.read_signed(size..size + 5, 1 << 20).unwrap();
    assert_eq!((none.len(), note.is_some()), (0, false));
    // Several commits, as far as they fit; each step can be kept.
    let mut steps = 0;
    while mirror.reader().size() < size {
        let held = mirror.reader().size();
        let (records, note) = reader.read_signed(held..size, 100 * record).unwrap();
        mirror.append(held, &records, &note.unwrap()).unwrap();
        steps += 1;
    }
    assert!(steps > 5, "{steps}");
    check_whole(&mirror.reader(), &key(&signer));
}
