//! A witness does not start on a state that it cannot believe: it would sign what it has signed otherwise before.

use crate::support::{LIMITS, Log, ask, cosigner, hash, logs, open, size, status};
use ledger_store::RealDisk;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use witness::{StoreError, Witness};

/// A folder with a log at 7.
fn begun() -> (tempfile::TempDir, Log) {
    let (folder, log) = (tempfile::tempdir().unwrap(), Log::honest());
    let witness = open(Arc::new(RealDisk), folder.path(), false, &logs(&[&log])).unwrap();
    ask(&witness, &log.request(0, 7)).unwrap();
    (folder, log)
}

fn start(folder: &Path, keys: bool, log: &Log) -> Result<Witness, StoreError> {
    open(Arc::new(RealDisk), folder, keys, &logs(&[log]))
}

fn code(folder: &Path, log: &Log) -> String {
    let refused = start(folder, true, log).err().expect("it starts");
    let finding = refused.finding();
    assert!(finding.next.is_some(), "{finding}");
    finding.code.into_owned()
}

fn state(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join(hash().to_string())
}

#[test]
fn no_changed_or_cut_state_is_believed() {
    let (folder, log) = begun();
    let path = state(&folder);
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(5) {
        let mut changed = good.clone();
        changed[at] ^= 1;
        std::fs::write(&path, &changed).unwrap();
        assert_eq!(
            code(folder.path(), &log),
            "WITNESS-STATE-UNREADABLE",
            "byte {at}"
        );
        std::fs::write(&path, &good[..at]).unwrap();
        assert_eq!(
            code(folder.path(), &log),
            "WITNESS-STATE-UNREADABLE",
            "cut at {at}"
        );
    }
    // That of another log.
    let other = Log::new("log.example/b", 1, "record", 7);
    std::fs::write(&path, &good).unwrap();
    let elsewhere = folder
        .path()
        .join(ledger::witness::origin_hash(&other.origin).to_string());
    std::fs::copy(&path, &elsewhere).unwrap();
    assert_eq!(code(folder.path(), &log), "WITNESS-STATE-UNREADABLE");
    std::fs::remove_file(elsewhere).unwrap();
    assert_eq!(size(&start(folder.path(), true, &log).unwrap()), Some(7));
}

/// The digest is mended; our own line is over another root.
#[test]
fn a_state_whose_own_line_does_not_verify_is_not_believed() {
    let (folder, log) = begun();
    let note = ledger::Note::parse(&log.note(7).to_string()).unwrap();
    let other = Log::forked();
    let mut forged = other.note(7);
    forged
        .merge(vec![cosigner().cosign(&log.at(7), 5).unwrap()])
        .unwrap();
    let forged = witness::Standing::new(forged, 5).unwrap();
    std::fs::write(state(&folder), forged.file()).unwrap();
    assert_eq!(code(folder.path(), &log), "WITNESS-STATE-UNREADABLE");
    // One of keys that are not ours any more is.
    let old = witness::Standing::new(note, 5).unwrap();
    std::fs::write(state(&folder), old.file()).unwrap();
    assert_eq!(size(&start(folder.path(), true, &log).unwrap()), Some(7));
}

#[test]
fn a_state_that_is_gone_is_missed() {
    let (folder, log) = begun();
    let path = state(&folder);
    let good = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code(folder.path(), &log), "WITNESS-STATE-MISSING");
    std::fs::write(&path, good).unwrap();
    // The list of them as well, or all of it: there are keys.
    let roster = folder.path().join("roster");
    let listed = std::fs::read(&roster).unwrap();
    std::fs::remove_file(&roster).unwrap();
    assert_eq!(code(folder.path(), &log), "WITNESS-STATE-MISSING");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(code(folder.path(), &log), "WITNESS-STATE-MISSING");
    std::fs::write(&roster, &listed[..listed.len() - 1]).unwrap();
    assert_eq!(code(folder.path(), &log), "WITNESS-STATE-UNREADABLE");
    // Without keys it is a new witness, in an empty folder.
    std::fs::remove_file(&roster).unwrap();
    assert_eq!(size(&start(folder.path(), false, &log).unwrap()), None);
}

#[test]
fn a_state_is_of_one_process() {
    let (folder, log) = begun();
    let running = start(folder.path(), true, &log).unwrap();
    assert_eq!(code(folder.path(), &log), "WITNESS-STATE-IN-USE");
    drop(running);
    assert_eq!(size(&start(folder.path(), true, &log).unwrap()), Some(7));
}

#[test]
fn a_log_that_comes_back_goes_on_where_it_was() {
    let (folder, log) = begun();
    let other = Log::new("log.example/b", 2, "record", 20);
    let witness = start(folder.path(), true, &other).unwrap();
    assert_eq!(status(&witness, &log.request(7, 13)).0, 404);
    assert!(witness.latest(&hash()).is_none());
    drop(witness);
    // With another key of its own, as well.
    let mut changed = Log::honest();
    let opened = Witness::open(Arc::new(RealDisk), folder.path(), true).unwrap();
    changed.rekey(3);
    let witness = opened
        .witness(vec![cosigner()], &logs(&[&changed]), LIMITS)
        .unwrap();
    assert_eq!(status(&witness, &log.request(7, 13)).0, 403);
    assert_eq!(status(&witness, &changed.request(0, 13)), (409, Some(7)));
    assert_eq!(status(&witness, &changed.request(7, 13)), (200, None));
}

#[test]
fn leftovers_of_a_write_that_was_cut_off_are_no_state() {
    let (folder, log) = begun();
    for name in [
        format!("{}.tmp", hash()),
        "roster.tmp".to_owned(),
        format!("{}.fork.tmp", hash()),
    ] {
        std::fs::write(folder.path().join(name), "half").unwrap();
    }
    let witness = start(folder.path(), true, &log).unwrap();
    assert_eq!(status(&witness, &log.request(7, 13)), (200, None));
}
