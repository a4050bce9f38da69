//! What a witness cosigns, and what it refuses: every status of c2sp.org/tlog-witness, and that nothing that is
//! refused changes what stands.

use crate::fault_disk::MemoryDisk;
use crate::support::{
    FOLDER, LIMITS, Log, ORIGIN, TIME, ask, cosigner, hash, logs, moment, open, pq_cosigner, size,
    status,
};
use ledger::witness::AddCheckpoint;
use ledger::{Code as _, LogKey, Note};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use witness::{Limits, Moment, Rate, Refused, Witness};

fn witness(log: &Log) -> (MemoryDisk, Witness) {
    let disk = MemoryDisk::default();
    let witness = open(
        Arc::new(disk.clone()),
        Path::new(FOLDER),
        false,
        &logs(&[log]),
    )
    .unwrap();
    (disk, witness)
}

#[test]
fn a_log_is_cosigned_as_it_grows_and_its_last_checkpoint_is_served() {
    let log = Log::honest();
    let disk = MemoryDisk::default();
    let keys = [pq_cosigner(), cosigner()];
    let opened = Witness::open(Arc::new(disk), Path::new(FOLDER), false).unwrap();
    let witness = opened
        .witness(keys.to_vec(), &logs(&[&log]), LIMITS)
        .unwrap();
    assert_eq!((witness.latest(&hash()), size(&witness)), (None, None));
    let mut old = 0;
    for new in [0, 0, 1, 7, 7, 8, 64, 70] {
        let cosigned = ask(&witness, &log.request(old, new)).unwrap();
        assert_eq!((&*cosigned.origin, cosigned.size), (ORIGIN, new));
        let mut note = log.note(new);
        note.merge(cosigned.lines.clone()).unwrap();
        for key in keys.iter().map(ledger::Cosigner::key) {
            assert_eq!(key.verify(&note).unwrap().unwrap().time, TIME);
        }
        // The same lines, and the log's.
        let served = witness.latest(&hash()).unwrap();
        assert_eq!(*served, *note.to_string());
        assert_eq!(size(&witness), Some(new));
        old = new;
    }
}

#[test]
fn every_refusal_has_its_status_and_changes_nothing() {
    let (log, forked) = (Log::honest(), Log::forked());
    let (disk, witness) = witness(&log);
    ask(&witness, &log.request(0, 7)).unwrap();
    let (before, served) = (disk.operations(), witness.latest(&hash()));
    let stranger = Log::new(ORIGIN, 2, "record", 70);
    let other = Log::new("log.example/unknown", 1, "record", 70);
    let bent = |old, new, bend: &dyn Fn(&mut Note)| {
        let mut note = log.note(new);
        bend(&mut note);
        AddCheckpoint::new(old, log.prove(old, new), note)
            .unwrap()
            .to_string()
    };
    let request = |old, proof, note| AddCheckpoint::new(old, proof, note).unwrap().to_string();
    let garbage = vec![[9; 32]];
    for (what, request, expected) in [
        ("nothing", String::new(), (400, None)),
        ("no request", "old x\n\nx\n".to_owned(), (400, None)),
        (
            "an old size above",
            request(8, vec![], log.note(7)),
            (400, None),
        ),
        ("by a stranger", stranger.request(7, 13), (403, None)),
        (
            "unsigned",
            bent(7, 13, &|note| note.signatures[0].id ^= 1),
            (403, None),
        ),
        (
            "badly signed",
            bent(7, 13, &|note| note.signatures[0].bytes[0] ^= 1),
            (403, None),
        ),
        (
            "signed twice",
            bent(7, 13, &|note| {
                note.signatures.push(note.signatures[0].clone())
            }),
            (403, None),
        ),
        (
            "of another text",
            bent(7, 13, &|note| note.text = forked.at(13).text()),
            (403, None),
        ),
        ("unknown", other.request(0, 7), (404, None)),
        ("a smaller old size", log.request(6, 13), (409, Some(7))),
        ("a larger old size", log.request(8, 13), (409, Some(7))),
        ("from nothing", log.request(0, 7), (409, Some(7))),
        ("back", log.request(5, 5), (409, Some(7))),
        ("a fork", forked.request(7, 13), (422, None)),
        ("no proof", request(7, vec![], log.note(13)), (422, None)),
        (
            "a proof where none is",
            request(7, garbage.clone(), log.note(7)),
            (422, None),
        ),
        (
            "garbage",
            request(7, garbage.clone(), log.note(13)),
            (422, None),
        ),
    ] {
        assert_eq!(status(&witness, &request), expected, "{what}");
        assert_eq!(witness.latest(&hash()), served, "{what}");
        let finding = ask(&witness, &request).unwrap_err().finding();
        assert!(finding.next.is_some(), "{finding}");
    }
    // INVARIANT: what is refused costs no write.
    assert_eq!(disk.operations(), before);
    assert_eq!(status(&witness, &log.request(7, 13)), (200, None));
}

#[test]
fn an_empty_log_has_the_root_of_the_empty_tree() {
    let log = Log::honest();
    let (_disk, witness) = witness(&log);
    let mut wrong = log.at(0);
    wrong.root = [1; 32];
    let request = AddCheckpoint::new(0, vec![], log.sign(&wrong))
        .unwrap()
        .to_string();
    assert_eq!(status(&witness, &request), (422, None));
    let proved = AddCheckpoint::new(0, vec![[1; 32]], log.note(7))
        .unwrap()
        .to_string();
    assert_eq!(status(&witness, &proved), (422, None));
    assert_eq!(status(&witness, &log.request(0, 0)), (200, None));
    // It stands, and is as good as nothing.
    assert_eq!(status(&witness, &log.request(0, 7)), (200, None));
}

#[test]
fn two_roots_of_one_size_are_never_signed_and_the_second_is_kept() {
    let (log, forked) = (Log::honest(), Log::forked());
    let (disk, witness) = witness(&log);
    ask(&witness, &log.request(0, 7)).unwrap();
    let before = disk.operations();
    let request = AddCheckpoint::new(7, vec![], forked.note(7))
        .unwrap()
        .to_string();
    let Err(Refused::Refusal { refusal, fork }) = ask(&witness, &request) else {
        panic!("it is cosigned");
    };
    assert_eq!(
        (refusal.code(), fork.as_deref()),
        ("LEDGER-WITNESS-INCONSISTENT", Some(ORIGIN))
    );
    let after = disk.operations();
    assert!(after > before);
    let path = Path::new(FOLDER).join(format!("{}.fork", hash()));
    let kept = ledger_store::read_file(&disk, &path, 1 << 20)
        .unwrap()
        .unwrap();
    assert_eq!(kept, forked.note(7).to_string().into_bytes());
    // Once: a log that goes on with it fills no disk. Whatever size it says, the second history is seen.
    assert!(matches!(
        ask(&witness, &request),
        Err(Refused::Refusal { fork: None, .. })
    ));
    assert_eq!(status(&witness, &forked.request(0, 7)), (409, Some(7)));
    assert_eq!(disk.operations(), after);
    // And its first history is still cosigned; which of them is true is not for a witness to say.
    assert_eq!(status(&witness, &log.request(7, 13)), (200, None));
}

#[test]
fn a_second_history_is_kept_whatever_size_it_begins_from() {
    let (log, forked) = (Log::honest(), Log::forked());
    let (_disk, witness) = witness(&log);
    ask(&witness, &log.request(0, 7)).unwrap();
    let asked = ask(&witness, &forked.request(0, 7));
    assert!(matches!(asked, Err(Refused::Refusal { fork: Some(_), .. })));
    // Of nobody but the log.
    let stranger = Log::new(ORIGIN, 2, "another", 70);
    let asked = ask(&witness, &stranger.request(0, 7));
    assert!(matches!(asked, Err(Refused::Refusal { fork: None, .. })));
}

#[test]
fn lines_of_others_are_neither_needed_nor_kept() {
    let log = Log::honest();
    let (_disk, witness) = witness(&log);
    let stranger = Log::new("stranger.example", 3, "record", 7);
    let mut note = log.note(7);
    note.merge(stranger.note(7).signatures).unwrap();
    let request = AddCheckpoint::new(0, vec![], note).unwrap().to_string();
    ask(&witness, &request).unwrap();
    let served = Note::parse(&witness.latest(&hash()).unwrap()).unwrap();
    let names: Vec<&str> = served
        .signatures
        .iter()
        .map(|line| line.name.as_str())
        .collect();
    assert_eq!(names, [ORIGIN, "witness.example/1"]);
}

#[test]
fn an_origin_with_spaces_extension_lines_and_two_keys_are_cosigned() {
    let log = Log::new("go.sum database tree", 4, "record", 20);
    let mut both = logs(&[&log]);
    let second = Log::new("go.sum database tree", 5, "record", 20);
    both.add(&second.origin, LogKey::Note(second.key()))
        .unwrap();
    let disk = Arc::new(MemoryDisk::default());
    let witness = open(disk, Path::new(FOLDER), false, &both).unwrap();
    let mut checkpoint = log.at(7);
    checkpoint.extensions = vec!["extension 1".to_owned()];
    let mut note = log.sign(&checkpoint);
    let request = |note: &Note| {
        AddCheckpoint::new(0, vec![], note.clone())
            .unwrap()
            .to_string()
    };
    // One of its keys is enough; a bad line of the other is not nothing.
    let mut bent = note.clone();
    bent.merge(second.note(7).signatures).unwrap();
    assert_eq!(status(&witness, &request(&bent)).0, 403);
    note.merge(second.sign(&checkpoint).signatures).unwrap();
    let cosigned = ask(&witness, &request(&note)).unwrap();
    note.merge(cosigned.lines).unwrap();
    assert!(cosigner().key().verify(&note).unwrap().is_some());
    let served = witness.latest(&ledger::witness::origin_hash("go.sum database tree"));
    assert_eq!(*served.unwrap(), *note.to_string());
}

#[test]
fn times_do_not_go_back_and_are_never_zero() {
    let log = Log::honest();
    let (_disk, witness) = witness(&log);
    let at = |unix, old, new| {
        let now = Moment { unix, ..moment() };
        let asked = witness.add_checkpoint(log.request(old, new).as_bytes(), now);
        asked.map(|cosigned| {
            let (time, _) = cosigned.lines[0].bytes.split_first_chunk::<8>().unwrap();
            u64::from_be_bytes(*time)
        })
    };
    assert!(matches!(at(0, 0, 3), Err(Refused::Clock)));
    assert_eq!(at(50, 0, 3).unwrap(), 50);
    // As of 40 there was a smaller one.
    assert_eq!(at(40, 3, 5).unwrap(), 50);
    assert_eq!(at(0, 5, 6).unwrap(), 50);
    assert_eq!(at(60, 6, 7).unwrap(), 60);
}

#[test]
fn a_log_grows_as_fast_as_it_may_and_a_repeat_is_no_growth() {
    let (log, other) = (Log::honest(), Log::new("log.example/b", 6, "record", 20));
    let disk = MemoryDisk::default();
    let limits = Limits {
        log: Rate {
            per_second: 1,
            burst: 2,
        },
        repeat: Duration::from_secs(10),
        ..LIMITS
    };
    let opened = Witness::open(Arc::new(disk.clone()), Path::new(FOLDER), false).unwrap();
    let witness = opened
        .witness(vec![cosigner()], &logs(&[&log, &other]), limits)
        .unwrap();
    let begun = moment();
    let ask = |after: u64, request: String| {
        let clock = begun.clock + Duration::from_secs(after);
        let unix = begun.unix + after;
        witness.add_checkpoint(request.as_bytes(), Moment { unix, clock })
    };
    ask(0, log.request(0, 3)).unwrap();
    let first = ask(0, log.request(3, 5)).unwrap();
    let Err(Refused::Busy { wait, .. }) = ask(0, log.request(5, 6)) else {
        panic!("it is cosigned");
    };
    assert_eq!(wait, Duration::from_secs(1));
    // Somebody sends the public one again and again: the same lines, no write, and nobody is kept out by it.
    let before = disk.operations();
    for _ in 0..100 {
        let again = ask(0, log.request(5, 5)).unwrap();
        assert_eq!((again.new, &again.lines), (false, &first.lines));
    }
    assert_eq!(disk.operations(), before);
    ask(0, other.request(0, 3)).unwrap();
    ask(1, log.request(5, 6)).unwrap();
    // After a while a repeat says a new time.
    let again = ask(30, log.request(6, 6)).unwrap();
    assert!(again.new && again.lines != first.lines);
}

#[test]
fn a_log_without_a_key_of_its_name_is_not_taken_for_another() {
    // The same key, under two origins: each has its own history.
    let (one, two) = (
        Log::new("one.example", 1, "a", 20),
        Log::new("two.example", 1, "b", 20),
    );
    let disk = Arc::new(MemoryDisk::default());
    let witness = open(disk, Path::new(FOLDER), false, &logs(&[&one, &two])).unwrap();
    for log in [&one, &two] {
        ask(&witness, &log.request(0, 7)).unwrap();
        ask(&witness, &log.request(7, 20)).unwrap();
    }
    // A line under the name of one says nothing of a checkpoint of the other.
    let mut note = one.note(20);
    note.text = two.at(20).text();
    let request = AddCheckpoint::new(20, vec![], note).unwrap().to_string();
    assert_eq!(status(&witness, &request).0, 403);
}
