//! A log that goes on as another, and a witness whose operator says so: the new log is held to what was cosigned of the
//! old one, and nothing more of that is cosigned.

use crate::fault_disk::MemoryDisk;
use crate::support::{FOLDER, Log, ask, fixed_key, logs, open, status};
use ledger::lineage::{self, Link};
use ledger::witness::origin_hash;
use ledger::{LedgerKey, LedgerSigner, LogKey};
use std::path::Path;
use std::sync::Arc;
use witness::{Logs, Refused, Witness};

const FIRST: &str = "example.org/server";
const SECOND: &str = "example.org/server@2";

fn first(what: &str) -> Log {
    Log::new(FIRST, 1, what, 70)
}

fn second(what: &str) -> Log {
    Log::new(SECOND, 2, what, 90)
}

/// The second log's key, with a link from the first's over its first `size` records.
fn followed(size: u64) -> LedgerKey {
    let signer = |origin, seed| LedgerSigner::new(origin, fixed_key(seed)).unwrap();
    let (old, new) = (signer(FIRST, 1), signer(SECOND, 2));
    let root = first("record").at(size).root;
    let link = Link::sign(&old, &new, (size, root), "each year").unwrap();
    lineage::follow(old.key(), &[link]).unwrap()
}

fn told(size: u64) -> Logs {
    let mut logs = Logs::new();
    logs.add(SECOND, LogKey::Note(second("record").key()))
        .unwrap();
    logs.follow(&followed(size)).unwrap();
    logs
}

/// A witness that has cosigned so many records of the first log, and was told then that it ended with `end`.
fn witness(cosigned: Option<u64>, end: u64) -> Witness {
    let disk = MemoryDisk::default();
    let start =
        |keys, logs: &Logs| open(Arc::new(disk.clone()), Path::new(FOLDER), keys, logs).unwrap();
    let log = first("record");
    let before = start(false, &logs(&[&log]));
    if let Some(size) = cosigned {
        ask(&before, &log.request(0, size)).unwrap();
    }
    drop(before);
    start(cosigned.is_some(), &told(end))
}

#[test]
fn a_new_log_is_cosigned_as_it_goes_on_from_what_was_cosigned() {
    let (honest, other) = (second("record"), second("another"));
    let witness = witness(Some(30), 40);
    // From nothing, which is where a log of that name would begin, it hears where to prove from.
    assert_eq!(status(&witness, &honest.request(0, 50)), (409, Some(30)));
    assert_eq!(status(&witness, &other.request(0, 50)), (409, Some(30)));
    assert_eq!(status(&witness, &other.request(30, 50)), (422, None));
    assert_eq!(ask(&witness, &honest.request(30, 50)).unwrap().size, 50);
    assert_eq!(ask(&witness, &honest.request(50, 60)).unwrap().size, 60);
    assert_eq!(status(&witness, &other.request(30, 70)), (409, Some(60)));
}

#[test]
fn nothing_more_is_cosigned_of_a_log_that_ended() {
    let witness = witness(Some(30), 40);
    let log = first("record");
    for (old, new) in [(30, 30), (30, 35), (30, 40), (30, 41), (0, 5)] {
        let refused = ask(&witness, &log.request(old, new)).unwrap_err();
        assert!(matches!(refused, Refused::Ended { .. }), "{new}");
        assert_eq!(refused.finding().code, "WITNESS-LOG-ENDED");
        assert_eq!(status(&witness, &log.request(old, new)), (403, None));
    }
    // Also before the new log has come; and what was cosigned of the old one is there for whoever asks.
    let served = witness.latest(&origin_hash(FIRST)).unwrap();
    assert!(served.starts_with(&format!("{FIRST}\n30\n")), "{served}");
    assert!(witness.latest(&origin_hash(SECOND)).is_none());
}

#[test]
fn a_log_that_was_not_seen_is_held_to_its_link() {
    let (honest, other) = (second("record"), second("another"));
    let witness = witness(None, 40);
    assert_eq!(status(&witness, &honest.request(0, 50)), (409, Some(40)));
    assert_eq!(status(&witness, &other.request(40, 50)), (422, None));
    assert_eq!(ask(&witness, &honest.request(40, 50)).unwrap().size, 50);
}

#[test]
fn what_was_cosigned_is_given_up_by_both_keys_and_by_nobody_else() {
    let (honest, other) = (second("record"), second("another"));
    let witness = witness(Some(60), 40);
    assert_eq!(status(&witness, &honest.request(0, 50)), (409, Some(40)));
    assert_eq!(status(&witness, &other.request(40, 50)), (422, None));
    assert_eq!(ask(&witness, &honest.request(40, 50)).unwrap().size, 50);
}

#[test]
fn two_lineages_of_one_log_are_no_configuration() {
    let mut logs = told(40);
    let signer = |origin, seed| LedgerSigner::new(origin, fixed_key(seed)).unwrap();
    let (old, thief) = (signer(FIRST, 1), signer(SECOND, 9));
    let link = Link::sign(&old, &thief, (40, [0; 32]), "").unwrap();
    let forged = lineage::follow(old.key(), &[link]).unwrap();
    assert_eq!(logs.follow(&forged).unwrap_err().code, "WITNESS-LOG");
    // The same again changes nothing.
    told(40).follow(&followed(40)).unwrap();
}
