//! Gaps: of a gateway that was killed, of records that were taken out by whoever has the ledger's key, of counters
//! that were forged, and of ledgers that the server knows more of.

use crate::world::{START, World, id, intent, outcome, session};
use ledger::body::{Anchor, Body as _, Gap, Recovery, SessionEnd, Start, Stop};
use ledger::completeness::{Cause, Fold, Roots};
use ledger::{Base64, Checkpoint, Decimal, Digest, Frontier, Hash, RecordBuilder, Stamp, merkle};
use ledger_store::{Folder, Mirror, Options};
use proptest::prelude::*;
use record_index::{Complete, Error, Site, TimeRange, completeness};

const ALWAYS: TimeRange = TimeRange {
    since: None,
    until: None,
};

pub(crate) fn head(world: &World) -> Checkpoint {
    world.site().sources()[0].head().checkpoint.clone()
}

fn start(world: &mut World, epoch: u64) -> u64 {
    let head = head(world);
    let body = Start {
        program: "gateway".to_owned(),
        version: "1".to_owned(),
        epoch: epoch.into(),
        size: head.size.into(),
        root: head.root.into(),
    };
    world.put(body.record().actor("gateway", "self"))
}

fn stop() -> RecordBuilder {
    let body = Stop {
        reason: "shutdown".to_owned(),
    };
    body.record().actor("gateway", "self")
}

fn crash(from: u64, to: u64) -> RecordBuilder {
    let body = Gap {
        cause: "crash".to_owned(),
        from,
        to,
        lost: None,
        detail: "reads of the last flush interval, and ends of sessions".to_owned(),
    };
    body.record().actor("gateway", "self")
}

fn end(name: &str, operations: u64) -> RecordBuilder {
    let body = SessionEnd {
        session: name.to_owned(),
        reason: "closed".to_owned(),
        detail: String::new(),
        operations: operations.into(),
    };
    body.record()
        .actor("gateway", "self")
        .connection(name, operations)
}

fn reads(name: &str, counter: u64) -> RecordBuilder {
    intent(name, "shop/api", "select", &["shop/public/orders"], false).connection(name, counter)
}

/// A session of two reads, numbered as a gateway does; `without` are numbers that it leaves out.
fn used(world: &mut World, name: &str, without: &[u64]) {
    world.put(session(name, "shop/api", None).connection(name, 0));
    for counter in [1, 3] {
        let seq = head(world).size;
        if !without.contains(&counter) {
            world.put(reads(name, counter));
        }
        if !without.contains(&(counter + 1)) && !without.contains(&counter) {
            world.put(outcome(seq, "ok").connection(name, counter + 1));
        }
    }
    world.put(end(name, 5));
}

fn answers(site: &Site) -> Vec<Complete> {
    completeness(site, &ALWAYS, true).unwrap()
}

/// Of one ledger: causes, whether each is explained, and between which records it lies.
fn gaps(answer: &Complete) -> Vec<(Cause, bool, Option<u64>, Option<u64>)> {
    let found = answer.found.iter().map(|found| {
        let missing = &found.missing;
        (
            missing.cause,
            missing.explained,
            missing.after,
            missing.before,
        )
    });
    found.collect()
}

fn gaps_of(world: &World) -> Vec<(Cause, bool, Option<u64>, Option<u64>)> {
    gaps(&answers(&world.site())[0])
}

#[test]
fn a_whole_ledger_has_no_gaps_and_says_what_it_read() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    used(&mut world, "s1", &[]);
    // A read is written behind what its session waited for.
    world.put(session("s2", "shop/api", None).connection("s2", 0));
    world.put(end("s2", 2));
    world.put(reads("s2", 1));
    let seq = head(&world).size - 1;
    world.put(outcome(seq, "ok").actor("gateway", "self"));
    world.put(stop());
    start(&mut world, 2);
    // Still going on: nothing of it is missing.
    world.put(session("s3", "shop/api", None).connection("s3", 0));
    world.put(reads("s3", 1));
    let answers = answers(&world.site());
    let [answer] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(gaps(answer), []);
    assert_eq!(answer.unexplained(), 0);
    let read = answer.head.as_ref().unwrap();
    assert_eq!(read.checkpoint, head(&world));
    let counts = answer.counts;
    assert_eq!(
        (counts.records, counts.starts, counts.stops),
        (read.checkpoint.size, 2, 1)
    );
    assert_eq!((counts.sessions, counts.complete), (3, 4));
    assert_eq!((counts.open_sessions, counts.open_intents), (1, 1));
    assert_eq!(answer.anchored, None);
}

#[test]
fn a_clock_that_was_set_while_it_ran_is_told_and_nothing_is_missing() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    used(&mut world, "s1", &[]);
    let day = 86_400_000_u64;
    let last = head(&world).size;
    let mut mono = (START + day) * 1_000_000;
    let mut at = |wall: u64, ran: u64| {
        mono += ran * 1_000_000;
        let (name, stamp) = (format!("t{mono}"), Stamp { wall, mono });
        for record in [
            session(&name, "shop/api", None).connection(&name, 0),
            end(&name, 1),
        ] {
            world.put_as_is(record.at(stamp));
        }
    };
    // A day went by, and the clock was corrected gently; it is set back an hour; two seconds are no step; forward.
    let mut wall = START + day + 40_000;
    at(wall, 0);
    wall -= 3_600_000;
    at(wall, 0);
    wall += 11_500;
    at(wall, 10_000);
    wall += 30 * day;
    at(wall, 5_000);
    // Another boot, and what the next run writes ahead of its start: whatever their clocks say.
    mono += 1_000_000;
    wall += day;
    world.put_as_is(outcome(99, "unknown").at(Stamp { wall, mono }));
    world.put_as_is(crash(wall, wall + 5).at(Stamp { wall, mono }));
    start(&mut world, 2);
    let answers = answers(&world.site());
    let steps: Vec<_> = answers[0]
        .found
        .iter()
        .map(|found| &found.missing)
        .filter(|missing| missing.cause == Cause::Clock)
        .collect();
    let places = steps.iter().map(|step| (step.explained, step.before));
    assert_eq!(
        places.collect::<Vec<_>>(),
        [(true, Some(last + 2)), (true, Some(last + 6))]
    );
    assert_eq!(answers[0].unexplained(), 0);
    let said: Vec<_> = steps.iter().map(|step| step.detail.as_str()).collect();
    assert_eq!(said[0], "the clock was set back by 3600 s");
    assert!(
        said[1].starts_with("the clock was set forward by 259"),
        "{said:?}"
    );
}

#[test]
fn a_number_that_a_connection_lacks_is_a_gap_with_proof() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    used(&mut world, "s1", &[3, 4]);
    world.put(stop());
    let site = world.site();
    let answers = answers(&site);
    // begin, start, session-start, intent, outcome, session-end.
    assert_eq!(
        gaps(&answers[0]),
        [(Cause::Counter, false, Some(4), Some(5))]
    );
    assert_eq!(answers[0].unexplained(), 1);
    let found = &answers[0].found[0];
    assert_eq!(found.missing.lost, Some(2));
    let signer = world.signer();
    let proven: Vec<u64> = found
        .receipts
        .iter()
        .map(|receipt| {
            receipt.verify(signer.key()).unwrap();
            receipt.index
        })
        .collect();
    assert_eq!(proven, [4, 5]);
}

#[test]
fn a_forged_counter_is_told() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    world.put(session("s1", "shop/api", None).connection("s1", 0)); // 2
    world.put(outcome(0, "ok").connection("s1", 0)); // 3: a number twice
    world.put(end("s1", 9)); // 4: more than there were
    world.put(outcome(0, "ok").connection("s9", 2)); // 5: nothing before it
    world.put(stop());
    let mut found = gaps_of(&world);
    found.sort();
    let expected = [
        (Cause::Counter, false, None, Some(5)),
        (Cause::Counter, false, Some(2), Some(4)),
        (Cause::Repeated, false, Some(2), Some(3)),
    ];
    assert_eq!(found, expected);
}

/// A crash loses what waits to be written; it is no excuse for what is older.
#[test]
fn a_crash_explains_what_was_lost_in_its_last_moment_alone() {
    // The clock that nobody can set began anew with another boot.
    let killed = START + 600_000;
    let at = |wall: u64| Stamp {
        wall,
        mono: if wall > killed {
            (wall - killed) * 2_000_000
        } else {
            wall * 1_000_000
        },
    };
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    let put =
        |world: &World, record: RecordBuilder, wall: u64| world.put_as_is(record.at(at(wall)));
    for (name, wall) in [("late", killed - 30), ("early", killed - 60_000)] {
        put(
            &world,
            session(name, "shop/api", None).connection(name, 0),
            killed - 120_000,
        );
        // Number 1 was a read that waited; number 2 was durable at once.
        let seq = put(&world, reads(name, 2), wall);
        put(&world, outcome(seq, "ok").connection(name, 3), wall);
    }
    put(&world, outcome(99, "ok"), killed);
    put(&world, crash(killed, killed + 5_000), killed + 5_000);
    start(&mut world, 2);
    world.put(stop());
    let answers = answers(&world.site());
    let mut found = gaps(&answers[0]);
    found.sort();
    // The gap itself, the hole of `late`, which it accounts for, and that of `early`, which it does not.
    let explained: Vec<(Cause, bool)> = found.iter().map(|gap| (gap.0, gap.1)).collect();
    let expected = [
        (Cause::Gap, true),
        (Cause::Counter, false),
        (Cause::Counter, true),
    ];
    assert_eq!(explained, expected, "{found:?}");
    let early = answers[0]
        .found
        .iter()
        .find(|found| !found.missing.explained);
    assert!(early.unwrap().missing.detail.contains("early"));
    assert_eq!(answers[0].counts.cut_sessions, 2);
    // Of a time before it, nothing is told of the crash itself.
    let before = TimeRange {
        since: None,
        until: Some(START + 100_000),
    };
    let told = completeness(&world.site(), &before, false).unwrap();
    assert_eq!(gaps(&told[0]), []);
}

#[test]
fn a_run_without_an_end_is_a_gap() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    world.put(session("s1", "shop/api", None).connection("s1", 0));
    world.put(reads("s1", 1));
    start(&mut world, 2);
    world.put(stop());
    let causes: Vec<Cause> = gaps_of(&world).iter().map(|gap| gap.0).collect();
    assert_eq!(causes, [Cause::Run, Cause::Outcome, Cause::Session]);
    assert!(gaps_of(&world).iter().all(|gap| !gap.1));
}

/// Without its start, a run is none that could lack anything; without a later one, it seems to be over.
#[test]
fn a_start_that_was_taken_out_is_told() {
    let mut world = World::new("pg-1");
    start(&mut world, 1); // 1
    used(&mut world, "s1", &[]); // 2 to 7
    world.put(stop()); // 8
    start(&mut world, 2); // 9
    used(&mut world, "s2", &[]);
    world.put(stop());
    assert_eq!(gaps_of(&world), []);
    for (out, at) in [(1, 1), (9, 9)] {
        let without = forged(&world, |records| {
            records.remove(out);
            renumber(records);
        });
        let site = Site::open(without.path(), None).unwrap();
        let found = gaps(&answers(&site)[0]);
        assert!(
            found.contains(&(Cause::Run, false, Some(at - 1), Some(at))),
            "{found:?}"
        );
    }
}

#[test]
fn a_start_on_another_tree_is_told() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    world.put(stop());
    for (size, root, epoch) in [
        (1, Digest([9; 32]), 2),
        (9, Digest([9; 32]), 3),
        (0, Digest(merkle::empty_root()), 3),
    ] {
        let body = Start {
            program: "gateway".to_owned(),
            version: "1".to_owned(),
            epoch: Decimal(epoch),
            size: Decimal(size),
            root,
        };
        world.put(body.record().actor("gateway", "self"));
        world.put(stop());
    }
    let found = gaps_of(&world);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|gap| gap.0 == Cause::Start && !gap.1));
}

#[test]
fn a_recovery_accounts_for_what_it_gave_up() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    let stays = head(&world);
    let body = Recovery {
        old_size: Decimal(stays.size + 7),
        old_root: Digest([8; 32]),
        old_checkpoint: None,
        new_size: stays.size.into(),
        new_root: stays.root.into(),
        reason: "a backup".to_owned(),
        by: "uid:0".to_owned(),
        obeyed: None,
    };
    world.put(body.record().actor("uid:0", "peercred"));
    start(&mut world, 2);
    let answers = answers(&world.site());
    assert_eq!(
        gaps(&answers[0]),
        [(Cause::Recovery, true, Some(1), Some(2))]
    );
    assert_eq!(answers[0].found[0].missing.lost, Some(7));
}

/// What somebody with the ledger's key makes of it.
pub(crate) fn forged(world: &World, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> tempfile::TempDir {
    let reader = Folder::open(&world.path().join("ledger")).unwrap();
    let mut records = reader.reader().read(0..reader.reader().size()).unwrap();
    change(&mut records);
    let mut frontier = Frontier::new();
    for record in &records {
        frontier.push(merkle::leaf_hash(record));
    }
    let signer = world.signer();
    let note = signer.sign(&Checkpoint {
        origin: signer.key().origin().clone(),
        size: frontier.size(),
        root: frontier.root(),
    });
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        reserve_bytes: 0,
        ..Options::default()
    };
    let dir = folder.path().join("ledger");
    let mut mirror = Mirror::open(&dir, signer.key().clone(), &options).unwrap();
    mirror.append(0, &records, &note.unwrap()).unwrap();
    folder
}

pub(crate) fn renumber(records: &mut [Vec<u8>]) {
    for (index, record) in records.iter_mut().enumerate() {
        let text = String::from_utf8(std::mem::take(record)).unwrap();
        let (before, rest) = text.split_once("\"seq\":\"").unwrap();
        let (_, after) = rest.split_once('"').unwrap();
        *record = format!("{before}\"seq\":\"{index}\"{after}").into_bytes();
    }
}

/// Root on the gateway takes a record out and signs what is left: as it is, and numbered anew.
#[test]
fn a_record_that_was_taken_out_leaves_a_gap_whoever_signs() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    used(&mut world, "s1", &[]);
    world.put(stop());
    // The second read's intent.
    let as_it_is = forged(&world, |records| {
        records.remove(5);
    });
    let site = Site::open(as_it_is.path(), None).unwrap();
    let mut found = gaps(&answers(&site)[0]);
    found.sort();
    let expected = [
        (Cause::Sequence, false, Some(4), Some(5)),
        (Cause::Counter, false, Some(4), Some(5)),
    ];
    assert_eq!(found, expected);
    let anew = forged(&world, |records| {
        records.remove(5);
        renumber(records);
    });
    let site = Site::open(anew.path(), None).unwrap();
    let found = gaps(&answers(&site)[0]);
    assert_eq!(found, [(Cause::Counter, false, Some(4), Some(5))]);
    // Two that change places go back in number.
    let swapped = forged(&world, |records| records.swap(4, 5));
    let site = Site::open(swapped.path(), None).unwrap();
    let found = gaps(&answers(&site)[0]);
    assert!(
        found.iter().any(|gap| gap.0 == Cause::Sequence),
        "{found:?}"
    );
}

#[test]
fn a_record_that_was_taken_out_of_a_segment_is_no_ledger_any_more() {
    let mut world = World::new("pg-1");
    start(&mut world, 1);
    used(&mut world, "s1", &[]);
    world.close();
    let segments = world.path().join("ledger/segments");
    let path = std::fs::read_dir(segments)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let bytes = std::fs::read(&path).unwrap();
    let text = b"{\"v\":1,\"type\":\"outcome\"";
    let at = bytes
        .windows(text.len())
        .position(|window| window == text)
        .unwrap();
    let length = bytes[at..].iter().position(|byte| *byte == b'}').unwrap();
    std::fs::write(&path, [&bytes[..at], &bytes[at + length..]].concat()).unwrap();
    let refused = Site::open(world.path(), None)
        .and_then(|site| completeness(&site, &ALWAYS, false).map(|answers| answers.len()));
    assert!(
        matches!(refused, Err(Error::Ledger(_) | Error::Lied(_))),
        "{refused:?}"
    );
}

pub(crate) fn anchor(of: &World, size: u64, root: Hash) -> RecordBuilder {
    let body = Anchor {
        gateway: id("gateway/pg"),
        origin: of.signer().key().origin().to_string(),
        ledger_key: Base64(of.signer().key().public_key().spki_der().to_vec()),
        size: size.into(),
        root: root.into(),
        checkpoint: String::new(),
    };
    body.record().actor("server", "self")
}

/// Without its newest records a ledger is whole in itself: the server's knows that there were more.
#[test]
fn what_the_server_has_anchored_has_to_be_there() {
    let mut point = World::new("pg-1");
    start(&mut point, 1);
    used(&mut point, "s1", &[]);
    let (size, root) = (head(&point).size, head(&point).root);
    let early = Folder::open(&point.path().join("ledger")).unwrap();
    let early = early.reader().root(3).unwrap();
    point.put(stop());
    let both = |server: &World, folder: &std::path::Path| {
        let mut site = server.site();
        site.join(Site::open(folder, None).unwrap()).unwrap();
        let answers = answers(&site);
        assert_eq!(answers[0].ledger, "server");
        assert_eq!(gaps(&answers[0]), []);
        answers[1].clone()
    };
    let mut server = World::new("server");
    server.put(anchor(&point, 3, early));
    let newest = server.put(anchor(&point, size, root));
    let answer = both(&server, point.path());
    assert_eq!(gaps(&answer), []);
    assert_eq!(
        answer.anchored.map(|it| (it.size, it.record)),
        Some((size, newest))
    );

    // Cut by somebody with the key.
    let cut = forged(&point, |records| records.truncate(4));
    let answer = both(&server, cut.path());
    let anchors = |answer: &Complete| {
        let found = answer
            .found
            .iter()
            .filter(|found| found.missing.cause == Cause::Anchor);
        found
            .map(|found| (found.missing.after, found.missing.lost))
            .collect::<Vec<_>>()
    };
    assert_eq!(anchors(&answer), [(Some(3), Some(size - 4))]);
    // Written anew by somebody with the key.
    let other = forged(&point, |records| {
        records.remove(2);
        renumber(records);
    });
    let answer = both(&server, other.path());
    assert_eq!(anchors(&answer).len(), 1);
    // An anchor that goes back.
    server.put(anchor(&point, 3, early));
    let answer = both(&server, point.path());
    assert_eq!(anchors(&answer), [(Some(2), None)]);

    // Gone as a whole.
    let answers = answers(&server.site());
    assert_eq!(gaps(&answers[1]), [(Cause::Ledger, false, None, None)]);
    assert_eq!(answers[1].found[0].missing.lost, Some(3));
}

struct NoRoots;

impl Roots for NoRoots {
    type Error = std::convert::Infallible;

    fn root(&self, _size: u64) -> Result<Hash, Self::Error> {
        Ok([0; 32])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Numbers of connections in any order, some left out, some twice: exactly those are told.
    #[test]
    fn exactly_the_missing_numbers_are_told(
        order in Just((0_u64..40).collect::<Vec<_>>()).prop_shuffle(),
        left_out in proptest::collection::btree_set(0_u64..40, 0..6),
        twice in proptest::collection::btree_set(0_u64..40, 0..3),
    ) {
        let mut fold = Fold::new("example.org/pg-1", true, 0..=u64::MAX);
        let origin = ledger::Origin::new("example.org/pg-1").unwrap();
        let mut seq = 0;
        let mut take = |fold: &mut Fold, record: RecordBuilder| {
            let stamp = Stamp { wall: START + seq * 10_000, mono: seq };
            let sealed = record.seal(&origin, seq, stamp).unwrap();
            fold.take(sealed.bytes(), &NoRoots).unwrap();
            seq += 1;
        };
        let start = Start {
            program: String::new(), version: String::new(), epoch: Decimal(1), size: Decimal(0), root: Digest([0; 32]),
        };
        take(&mut fold, start.record().actor("gateway", "self"));
        for counter in order.iter().filter(|counter| !left_out.contains(counter)) {
            take(&mut fold, outcome(0, "ok").connection("s9", *counter));
            if twice.contains(counter) {
                take(&mut fold, outcome(0, "ok").connection("s9", *counter));
            }
        }
        take(&mut fold, outcome(0, "ok").connection("s9", 40));
        take(&mut fold, stop());
        let outlook = fold.finish();
        let lost: u64 = outlook.missing.iter()
            .filter(|missing| missing.cause == Cause::Counter)
            .map(|missing| missing.lost.unwrap()).sum();
        prop_assert_eq!(lost, left_out.len() as u64);
        let repeated = outlook.missing.iter().filter(|missing| missing.cause == Cause::Repeated).count();
        prop_assert_eq!(repeated, twice.difference(&left_out).count());
    }

    /// Whatever bytes a ledger holds, the fold says something of each and goes on.
    #[test]
    fn any_bytes_are_told_and_nothing_panics(
        records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 1..20),
    ) {
        let mut fold = Fold::new("example.org/pg-1", true, 0..=u64::MAX);
        for record in &records {
            fold.take(record, &NoRoots).unwrap();
        }
        let outlook = fold.finish();
        prop_assert_eq!(outlook.counts.records, records.len() as u64);
        prop_assert!(outlook.missing.iter().all(|missing| missing.cause == Cause::Unread));
    }
}
