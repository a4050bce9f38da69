//! Sessions, lifetimes, ranges, periods, changes of the estate and verdicts: which records answer, and that none
//! of them can be cut out of a pack. Every pack here is judged twice.

use crate::completeness::{joined, refused, sections, shown, with, without, without_exactly};
use crate::judges::verify;
use crate::packs::{
    API, DOMAIN, ESTATE, GATEWAY, HELPER, IDLE, NEWER, World, accesses, bare, begin, intent,
    outcome, start, tiles, world,
};
use crate::support::{SERVER, STAMP};
use crate::tampered::{BODIES, answer, bent, body_of, sample, variants};
use ledger::body::{self, BlobRef, Body as _, Target, TargetKind};
use ledger::pack::{Answers, Doubt, PackBuilder, Question};
use ledger::{Decimal, Digest, HexDigest, Record, RecordBuilder, RecordType, Stamp};
use proptest::prelude::*;

fn verdict(node: &str) -> RecordBuilder {
    let verdict = body::Verdict {
        node: node.to_owned(),
        facts_blob: None,
        ..crate::packs::verdict()
    };
    verdict.record()
}

fn node_state(node: &str, verdict: Option<u64>) -> RecordBuilder {
    let state = body::NodeState {
        node: node.to_owned(),
        state: "renewed".to_owned(),
        generation: Decimal(1),
        renewal: HexDigest::of(b"x"),
        key: HexDigest::of(b"x"),
        verdict: verdict.map(Decimal),
        counted: None,
    };
    state.record()
}

fn issuance(id: &str, serial: &str, node: &str, verdict: u64) -> RecordBuilder {
    let issuance = body::Issuance {
        spiffe_id: id.to_owned(),
        serial: serial.to_owned(),
        node: node.to_owned(),
        verdict: Decimal(verdict),
        ..crate::support::issuance()
    };
    issuance.record()
}

fn assume_refused(id: &str, verdict: Option<u64>) -> RecordBuilder {
    let refused = body::AssumeRefused {
        spiffe_id: Some(id.to_owned()),
        node: "m9".to_owned(),
        verdict: verdict.map(Decimal),
        findings: Vec::new(),
        policies: Vec::new(),
        facts_blob: None,
        count: Decimal(1),
    };
    refused.record()
}

fn revocation(kind: TargetKind, value: &str, reason: &str) -> RecordBuilder {
    let value = value.to_owned();
    let revocation = body::Revocation {
        target: Target { kind, value },
        reason: reason.to_owned(),
        by: "uid:0".to_owned(),
        whose: Vec::new(),
        node: None,
    };
    revocation.record()
}

fn admin(resource: &str, detail: &str) -> RecordBuilder {
    let act = body::Admin {
        principal: "Admin::\"uid:0\"".to_owned(),
        action: "a".to_owned(),
        resource: resource.to_owned(),
        allow: true,
        policies: Vec::new(),
        detail: detail.to_owned(),
    };
    act.record()
}

fn estate_version(version: &[u8], parent: Option<&[u8]>, proof: u64) -> RecordBuilder {
    let version = body::EstateVersion {
        version: HexDigest::of(version),
        blob: BlobRef::of(version),
        parent: parent.map(HexDigest::of),
        author: "uid:0".to_owned(),
        message: "m".to_owned(),
        proof_index: Some(Decimal(proof)),
        floor: Decimal(0),
    };
    version.record()
}

fn proof(version: &[u8]) -> RecordBuilder {
    let proof = body::Proof {
        version: HexDigest::of(version),
        outcome: "proved".to_owned(),
        invariants: Vec::new(),
        blob: None,
        millis: 1,
        approval_index: None,
    };
    proof.record()
}

fn delegation(chain: &[&str]) -> RecordBuilder {
    let delegation = body::Delegation {
        jti: "j".to_owned(),
        tbs: Digest::of(b"x"),
        issuer: Digest::of(b"x"),
        not_before: 1,
        not_after: 2,
        chain: chain.iter().map(|&link| link.to_owned()).collect(),
        rests_on: Vec::new(),
        actions: None,
        resources: None,
        node: "m1".to_owned(),
    };
    delegation.record()
}

fn lock(node: &str) -> RecordBuilder {
    let finding = body::Finding {
        code: "A-B".to_owned(),
        message: "m".to_owned(),
        expected: None,
        observed: None,
        next: None,
    };
    let node = node.to_owned();
    let generation = Decimal(1);
    let lock = body::Lock {
        node,
        finding,
        generation,
    };
    lock.record()
}

fn readmit(node: &str) -> RecordBuilder {
    let readmit = body::Readmit {
        node: node.to_owned(),
        reason: "r".to_owned(),
        by: "b".to_owned(),
        generation: Decimal(1),
    };
    readmit.record()
}

fn gap() -> RecordBuilder {
    let gap = body::Gap {
        cause: "crash".to_owned(),
        from: 1,
        to: 2,
        lost: None,
        detail: String::new(),
    };
    gap.record()
}

fn started() -> RecordBuilder {
    let start = body::Start {
        program: "p".to_owned(),
        version: "1".to_owned(),
        epoch: Decimal(1),
        size: Decimal(1),
        root: Digest::of(b"x"),
    };
    start.record()
}

fn stop() -> RecordBuilder {
    let reason = "r".to_owned();
    body::Stop { reason }.record()
}

/// The sample ledgers, and after what they have:
/// the server's 9 to 25, a renewal, a change of the estate and some ends; db1's 8 to 16, a session that was cut
/// short. Each record is a second after the one before.
fn wide() -> World {
    let mut world = world();
    let newer = HexDigest::of(NEWER).to_string();
    let node = "spiffe://example.org/node/m1";
    let server = [
        verdict(node), // 9
        node_state("m1", Some(9)),
        issuance(API, "a2", "m1", 9),
        assume_refused(API, Some(9)), // 12
        proof(NEWER),
        admin("estate", &format!("version {newer}: more")),
        estate_version(NEWER, Some(ESTATE), 13), // 15
        revocation(
            TargetKind::Serial,
            "a2",
            &format!("estate {newer} does not grant it"),
        ),
        admin("estate:15", "1 SVIDs revoked"),
        delegation(&[HELPER, API]), // 18
        revocation(TargetKind::Identity, HELPER, "left"),
        revocation(TargetKind::Machine, "m1", "stolen"),
        lock("m1"), // 21
        readmit("m2"),
        admin(&format!("identity:{API}"), "restored"),
        verdict("spiffe://example.org/node/m2"), // 24
        issuance(HELPER, "b3", "m2", 24),
    ];
    for record in server {
        world.tick();
        world.append(0, record);
    }
    let gateway = [
        start(API, "s7", 4).record(), // 8
        intent("s7", "cards").record(),
        start(HELPER, "s8", 5).record(),
        intent("s8", "cards").record(),
        outcome(9).record(), // 12
        outcome(11).record(),
        gap(),
        started(), // 15
        gap(),
    ];
    for record in gateway {
        world.tick();
        world.append(1, record.actor(API, "x509"));
    }
    world.anchor(1);
    world
}

impl World {
    fn tick(&mut self) {
        self.now.wall += 1_000;
    }
}

fn session(ledger: &str, session: &str) -> Question {
    let (ledger, session) = (ledger.to_owned(), session.to_owned());
    Question::Session { ledger, session }
}

fn lifetime(identity: &str) -> Question {
    let identity = identity.to_owned();
    Question::Lifetime { identity }
}

fn range(ledger: &str, from: u64, to: u64) -> Question {
    let ledger = ledger.to_owned();
    Question::Range { ledger, from, to }
}

fn period(ledger: Option<&str>, from: u64, to: u64) -> Question {
    let ledger = ledger.map(str::to_owned);
    let (from, to) = (STAMP.wall + from, STAMP.wall + to);
    Question::Period { ledger, from, to }
}

fn change(version: &[u8]) -> Question {
    let version = HexDigest::of(version);
    Question::Estate { version }
}

/// Each question with the places of its answers, by number of checkpoint. `None`: of every ledger.
fn cases() -> Vec<(Question, Vec<(u64, u64)>)> {
    let at =
        |number: u64, places: &[u64]| places.iter().map(|at| (number, *at)).collect::<Vec<_>>();
    vec![
        (session("db1", "s0"), at(1, &[0, 1, 2, 6, 7])),
        // Cut short: the gap and the start say so. What was after the start is another's.
        (session(GATEWAY, "s7"), at(1, &[8, 9, 12, 14, 15])),
        (session("db1", "nobody"), Vec::new()),
        (
            lifetime("payments/api"),
            at(0, &[4, 9, 10, 11, 12, 16, 18, 20, 21, 23]),
        ),
        (lifetime(HELPER), at(0, &[5, 9, 10, 18, 19, 20, 21, 25])),
        (lifetime("nobody/here"), Vec::new()),
        (change(NEWER), at(0, &[2, 13, 14, 15, 16, 17])),
        (change(ESTATE), at(0, &[1, 2])),
        (Question::Verdict { index: 9 }, at(0, &[9, 10, 11, 12])),
        (Question::Verdict { index: 3 }, at(0, &[3, 4, 5])),
        // With the session that they belong to.
        (range("db1", 3, 6), at(1, &[0, 3, 4, 5, 6])),
        (range("", 0, 0), at(0, &[0])),
        (range("server", 20, 24), at(0, &[20, 21, 22, 23, 24])),
        (period(Some("server"), 2_000, 5_000), at(0, &[10, 11, 12])),
        (period(Some("db1"), 18_000, 20_000), at(1, &[8, 9])),
        (
            period(None, 17_000, 19_000),
            [at(0, &[25]), at(1, &[8])].concat(),
        ),
        (period(None, 90_000, 99_000), Vec::new()),
    ]
}

#[test]
fn each_question_is_answered_by_its_records_and_no_other() {
    let world = wide();
    for (question, expected) in cases() {
        let report = shown(&world, &world.pack(&question, true).build());
        assert!(report.is_complete(), "{question}: {:?}", report.doubts);
        let records = report.records.iter().filter(|item| item.answers);
        // The places in the pack: db1 is checkpoint 1 wherever it is.
        let found: Vec<(u64, u64)> = records.map(|item| (item.checkpoint, item.index)).collect();
        assert_eq!(found, expected, "{question}");
        let text = question.to_json();
        assert_eq!(Question::parse(text.as_bytes()), Some(question));
    }
}

#[test]
fn no_record_of_any_answer_can_be_cut() {
    let world = wide();
    for (question, _) in cases() {
        let pack = world.pack(&question, true);
        let report = shown(&world, &pack.build());
        for item in &report.records {
            let name = format!("record/{}/{}", item.checkpoint, item.index);
            let failure = refused(&world, &without_exactly(&pack, &name));
            let anchor = item.record.kind() == RecordType::Anchor;
            assert!(
                failure.code == "PACK-RECORD-MISSING" || failure.code == "PACK-ANCHOR" && anchor,
                "{question}: {failure}"
            );
        }
    }
}

#[test]
fn without_the_entries_only_what_is_asked_for_by_place_is_complete() {
    let world = wide();
    for (question, _) in cases() {
        let pack = world.pack(&question, false);
        let report = shown(&world, &pack.build());
        let by_place = matches!(question, Question::Range { .. });
        assert_eq!(report.is_complete(), by_place, "{question}");
    }
    // A session's own ledger is not enough: only the server's entries tell of a newer anchor.
    let pack = world.pack(&session("db1", "s0"), true);
    let report = shown(&world, &without(&pack, &["tiles/0/"]));
    let origin = SERVER.to_owned();
    assert_eq!(report.doubts, [Doubt::NoServerEntries { origin }]);
}

#[test]
fn a_ledger_that_is_asked_about_cannot_be_left_out_or_ended_early() {
    let world = wide();
    let whole = |question: &Question| world.pack(question, true);
    let everywhere = whole(&period(None, 0, 99_000));
    let failure = refused(
        &world,
        &without(
            &everywhere,
            &["checkpoint/2", "tiles/2/", "record/2/", "record/0/8"],
        ),
    );
    // The anchor of db2 answers as well, so that its record is missed first.
    assert_eq!(failure.code, "PACK-RECORD-MISSING");
    let quiet = whole(&period(None, 90_000, 99_000));
    let failure = refused(
        &world,
        &without(&quiet, &["checkpoint/2", "tiles/2/", "record/0/8"]),
    );
    assert_eq!(
        (failure.code, failure.record),
        ("PACK-LEDGER-MISSING", Some(8))
    );
    assert!(failure.message.contains(IDLE), "{failure}");
    for question in [
        session("db1", "s7"),
        range("db1", 0, 3),
        period(Some("db1"), 0, 1),
    ] {
        let pack = without(
            &whole(&question),
            &["checkpoint/1", "tiles/1/", "record/1/"],
        );
        assert_eq!(
            refused(&world, &pack).section,
            "question.json",
            "{question}"
        );
    }
    // An older checkpoint of the gateway, which is anchored too, ends before the session does.
    let mut early = wide();
    early.gateway = crate::support::Memory::new(GATEWAY, 2);
    for bytes in world.gateway.records.iter().take(8) {
        early.gateway.append_bytes(bytes.clone());
    }
    for (question, known) in [(session("db1", "s0"), true), (session("db1", "s7"), false)] {
        let report = shown(&world, &early.pack(&question, true).build());
        let early = report
            .doubts
            .iter()
            .any(|doubt| matches!(doubt, Doubt::Early { .. }));
        assert!(early && report.doubts.len() == 1, "{:?}", report.doubts);
        assert_eq!(report.records.iter().any(|item| item.answers), known);
    }
}

#[test]
fn whoever_asks_for_a_verdict_is_shown_no_other_record() {
    let world = wide();
    for (index, code) in [(4, "PACK-RECORD-MISSING"), (99, "PACK-RECORD-MISSING")] {
        for tiles in [true, false] {
            let failure = refused(
                &world,
                &world.pack(&Question::Verdict { index }, tiles).build(),
            );
            assert_eq!((failure.code, failure.record), (code, Some(index)));
        }
    }
    let pack = world.pack(
        &Question::Record {
            ledger: String::new(),
            index: 4,
        },
        true,
    );
    let asked = Question::Verdict { index: 4 }.to_json();
    let failure = refused(&world, &with(&pack, "question.json", asked.as_bytes()));
    assert!(failure.message.contains("is none"), "{failure}");
}

#[test]
fn a_question_has_one_spelling_and_bounds() {
    let world = wide();
    let pack = world.pack(&range("db1", 3, 6), false);
    let hash = HexDigest::of(NEWER);
    let upper = hash.to_string().to_uppercase();
    for question in [
        r#"{"kind":"session","session":"s0"}"#.to_owned(),
        r#"{"kind":"session","session":"s0","ledger":"db1"}"#.to_owned(),
        r#"{"kind":"session","ledger":"db1","session":"s\u00010"}"#.to_owned(),
        r#"{"kind":"lifetime"}"#.to_owned(),
        r#"{"kind":"lifetime","identity":7}"#.to_owned(),
        r#"{"kind":"range","ledger":"db1","from":4,"to":3}"#.to_owned(),
        r#"{"kind":"range","ledger":"db1","from":0,"to":10000}"#.to_owned(),
        r#"{"kind":"range","ledger":"db1","from":-1,"to":3}"#.to_owned(),
        r#"{"kind":"range","from":1,"to":3}"#.to_owned(),
        r#"{"kind":"range","ledger":"db1","from":1.0,"to":3}"#.to_owned(),
        r#"{"kind":"range","ledger":"db1","from":"1","to":"3"}"#.to_owned(),
        r#"{"kind":"range","ledger":"db1","from":1,"to":18446744073709551616}"#.to_owned(),
        r#"{"kind":"period","ledger":null,"from":1,"to":3}"#.to_owned(),
        r#"{"kind":"period","from":3,"to":3}"#.to_owned(),
        r#"{"kind":"period","from":3,"to":2}"#.to_owned(),
        r#"{"kind":"estate","version":"current"}"#.to_owned(),
        format!(r#"{{"kind":"estate","version":"{upper}"}}"#),
        r#"{"kind":"verdict","index":"9"}"#.to_owned(),
        r#"{"kind":"verdict","index":9,"ledger":""}"#.to_owned(),
        r#"{"kind":"verdict"}"#.to_owned(),
    ] {
        let failure = refused(&world, &with(&pack, "question.json", question.as_bytes()));
        assert_eq!(failure.code, "PACK-QUESTION", "{question}");
    }
    for (from, to) in [(u64::MAX, u64::MAX), (u64::MAX - 9, u64::MAX), (0, 9_999)] {
        let question = range("db1", from, to).to_json();
        let failure = refused(&world, &with(&pack, "question.json", question.as_bytes()));
        assert_eq!(failure.code, "PACK-RECORD-MISSING", "{question}");
    }
}

#[test]
fn both_judges_say_the_same_of_every_bent_answer() {
    let world = wide();
    let picked = [
        session("db1", "s7"),
        change(NEWER),
        period(None, 17_000, 19_000),
    ];
    for question in picked {
        let sections = sections(&world.pack(&question, false).build());
        for bent in bent(&sections) {
            drop(verify(&bent, &world.trust));
        }
    }
    // And each question in the place of each other.
    let questions: Vec<Question> = cases().into_iter().map(|(question, _)| question).collect();
    let mut refused = 0;
    for question in &questions {
        let sections = sections(&world.pack(question, true).build());
        for other in &questions {
            let mut sections = sections.clone();
            sections[0].1 = other.to_json().into_bytes();
            let verdict = verify(&joined(&sections), &world.trust);
            assert!(question != other || verdict.is_ok(), "{question}");
            refused += usize::from(verdict.is_err());
        }
    }
    // But for what is silent in both, and a verdict that a time holds as well.
    assert!(
        refused > questions.len() * (questions.len() - 4),
        "{refused}"
    );
}

/// As `both_judges_read_the_same_in_entries`, for what the folds of this file look at.
#[test]
fn both_judges_read_the_same_of_each_form_of_what_answers() {
    let version = HexDigest([0xab; 32]);
    for (kind, body) in BODIES {
        let of_gateway = matches!(
            *kind,
            "gap" | "stop" | "session-start" | "session-end" | "outcome" | "intent"
        );
        let of_server = matches!(
            *kind,
            "verdict"
                | "attested"
                | "issuance"
                | "assume-refused"
                | "node-state"
                | "lock"
                | "revocation"
                | "admin"
                | "delegation"
                | "estate-version"
                | "proof"
        );
        if !of_gateway && !of_server {
            continue;
        }
        let origin = if of_gateway { GATEWAY } else { SERVER };
        let text = sample(kind, body, origin);
        for changed in variants(&text, body_of(&text)) {
            let mut world = bare();
            world.append(0, begin(&world.server).record());
            world.append(0, issuance(API, "a1", "n", 0));
            world.append(0, verdict("n"));
            for record in [start(API, "s0", 1).record(), intent("s0", "cards").record()] {
                world.append(1, record.actor(API, "x509"));
            }
            let ledger = if of_gateway {
                &mut world.gateway
            } else {
                &mut world.server
            };
            ledger.append_bytes(changed.into_bytes());
            world.append(1, outcome(1).record());
            world.append(0, revocation(TargetKind::Serial, "a1", "r"));
            world.append(0, node_state("n", Some(2)));
            world.anchor(1);
            let questions = match of_gateway {
                true => vec![session("db1", "s0")],
                false => vec![
                    lifetime(API),
                    Question::Estate { version },
                    Question::Verdict { index: 2 },
                ],
            };
            for question in questions {
                let (server, gateway) = (&world.server, &world.gateway);
                let mut pack = PackBuilder::new(&question, &server.note());
                tiles(0, server, &mut pack);
                answer(&question, server, true, &mut pack);
                if of_gateway {
                    let number = pack.checkpoint(&gateway.note());
                    tiles(number, gateway, &mut pack);
                    answer(&question, gateway, false, &mut pack);
                    pack.receipt(&server.receipt(server.records.len() as u64 - 1));
                }
                drop(verify(&pack.build(), &world.trust));
            }
        }
    }
}

/// Ledgers in which this and that happens to two identities on two machines.
fn random_world(steps: &[(u8, bool, u8)]) -> World {
    let mut world = bare();
    world.append(0, begin(&world.server).record());
    world.append(0, verdict("spiffe://example.org/node/m0"));
    world.append(0, estate_version(ESTATE, None, 0));
    world.append(0, verdict("m1"));
    let mut versions = 0_u8;
    for (step, other, more) in steps.iter().copied() {
        world.now.wall = world
            .now
            .wall
            .saturating_add_signed(i64::from(more) * 8 - 500);
        let id = [API, HELPER][usize::from(other)];
        let machine = format!("m{}", more % 3);
        let known = u64::from(more) % world.server.records.len() as u64;
        let name = format!("s{}", more % 4);
        match step {
            0 => world.append(
                0,
                issuance(id, &format!("x{}", more % 5), &machine, 1 + known % 3),
            ),
            1 => world.append(0, verdict(&machine)),
            2 => world.append(0, node_state(&machine, (more % 4 > 0).then_some(known))),
            3 => world.append(0, assume_refused(id, (more % 2 > 0).then_some(known))),
            4 => world.append(
                0,
                revocation(TargetKind::Serial, &format!("x{}", more % 5), "r"),
            ),
            5 => world.append(0, revocation(TargetKind::Machine, &machine, "r")),
            6 => world.append(0, revocation(TargetKind::Identity, id, "r")),
            7 => {
                let parent = [ESTATE, NEWER][usize::from(versions % 2)];
                versions += 1;
                let version = [ESTATE, NEWER][usize::from(versions % 2)];
                world.append(0, estate_version(version, Some(parent), known));
            }
            8 => world.append(0, proof([ESTATE, NEWER][usize::from(more % 2)])),
            9 if other => world.append(0, lock(&machine)),
            9 => world.append(0, readmit(&machine)),
            10 => world.append(0, admin(&format!("estate:{known}"), "d")),
            11 => world.append(0, delegation(&[id])),
            12 => world.append(1, start(id, &name, 1).record().actor(id, "x509")),
            13 => world.append(1, intent(&name, "cards").record().actor(id, "x509")),
            14 => world.append(1, outcome(u64::from(more) % 40).record().actor(id, "x509")),
            15 => world.append(1, stop()),
            16 => {
                let end = body::SessionEnd {
                    session: name,
                    reason: "r".to_owned(),
                    detail: String::new(),
                    operations: Decimal(1),
                };
                world.append(1, end.record());
            }
            _ => world.append(1, started()),
        }
    }
    world.append(1, verdict("m0"));
    world.append(2, verdict("m0"));
    world.anchor(1);
    world.anchor(2);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn of_any_whole_answer_no_record_can_be_cut(
        steps in prop::collection::vec((0..18_u8, any::<bool>(), any::<u8>()), 1..60),
        asked in 0..7_u8,
        first in any::<prop::sample::Index>(),
        more in any::<u8>(),
        cut: prop::sample::Index,
    ) {
        let world = random_world(&steps);
        let verdicts: Vec<u64> = (0..)
            .zip(&world.server.records)
            .filter(|(_, bytes)| Record::parse(bytes).unwrap().kind() == RecordType::Verdict)
            .map(|(index, _)| index)
            .collect();
        let ledger = ["server", "db1", "db2"][usize::from(more % 3)];
        let question = match asked {
            0 => session("db1", &format!("s{}", more % 4)),
            1 => lifetime([API, HELPER][usize::from(more % 2)]),
            2 => change([ESTATE, NEWER][usize::from(more % 2)]),
            3 => Question::Verdict { index: *first.get(&verdicts) },
            4 => {
                let size = world.ledgers()[usize::from(more % 3)].records.len();
                let from = first.index(size);
                let to = (from + usize::from(more % 7)).min(size - 1);
                range(ledger, from as u64, to as u64)
            }
            _ => {
                let ledger = (asked == 5).then(|| ledger.to_owned());
                let from = STAMP.wall - 2_000 + first.index(10_000) as u64;
                Question::Period { ledger, from, to: from + 1 + u64::from(more) * 20 }
            }
        };
        let pack = world.pack(&question, true);
        let report = shown(&world, &pack.build());
        prop_assert!(report.is_complete(), "{question}: {:?}", report.doubts);
        if report.records.is_empty() {
            return Ok(());
        }
        let item = &report.records[cut.index(report.records.len())];
        let name = format!("record/{}/{}", item.checkpoint, item.index);
        let failure = refused(&world, &without_exactly(&pack, &name));
        prop_assert!(["PACK-RECORD-MISSING", "PACK-ANCHOR"].contains(&failure.code), "{failure}");
    }
}

/// A clock that was set back: time is the records', and not their order.
#[test]
fn a_period_goes_by_the_records_times() {
    let mut world = wide();
    world.now = Stamp {
        wall: STAMP.wall + 2_500,
        ..STAMP
    };
    world.append(1, intent("s7", "late").record().actor(API, "x509"));
    world.anchor(1);
    let report = shown(
        &world,
        &world.pack(&period(Some("db1"), 2_000, 3_000), true).build(),
    );
    let at: Vec<u64> = report
        .records
        .iter()
        .filter(|item| item.answers)
        .map(|item| item.index)
        .collect();
    assert_eq!(at, [17]);
    let mut answers = Answers::new(&accesses(API), DOMAIN, GATEWAY, false);
    assert!(!answers.see(0, &Record::parse(&world.gateway.records[3]).unwrap()));
}

/// Of a pack that was taken apart: names and contents.
type Sections = Vec<(String, Vec<u8>)>;

/// Ledgers whose trees have tiles of hashes of tiles.
#[test]
fn both_judges_say_the_same_of_ledgers_of_many_tiles() {
    for size in [256, 257, 511, 600] {
        let mut world = world();
        while world.gateway.records.len() < size {
            let record = match world.gateway.records.len() % 100 {
                0 => start(API, "s7", 4).record(),
                1 => intent("s7", "cards").record(),
                _ => gap(),
            };
            world.append(1, record);
        }
        world.anchor(1);
        let pack = world.pack(&range("db1", 254, 256.min(size as u64 - 1)), false);
        assert!(shown(&world, &pack.build()).is_complete());
        let pack = world.pack(&session("db1", "s0"), true);
        let report = shown(&world, &pack.build());
        assert!(report.is_complete(), "{:?}", report.doubts);
        let sections = sections(&pack.build());
        let tiles = sections.iter().enumerate();
        let tiles = tiles.filter(|(_, (name, _))| name.starts_with("tiles/1/"));
        for (at, (name, content)) in tiles {
            let mut packs = Vec::new();
            let mut bend = |change: &dyn Fn(&mut Sections)| {
                let mut sections = sections.clone();
                change(&mut sections);
                packs.push(joined(&sections));
            };
            bend(&|sections| drop(sections.remove(at)));
            bend(&|sections| sections[at].1.truncate(content.len() - 32));
            bend(&|sections| sections[at].1.extend([0; 32]));
            for place in [0, content.len() / 2, content.len() - 1] {
                bend(&|sections| sections[at].1[place] ^= 1);
            }
            for pack in packs {
                let verdict = verify(&pack, &world.trust);
                // Without the one bundle there are no entries, and the pack is not complete.
                let whole = verdict.is_ok_and(|report| report.is_complete());
                assert!(!whole, "{name} of {size}");
            }
        }
    }
}
