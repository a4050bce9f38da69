//! What is cut out of a pack is refused, or the pack is not called complete.

use crate::judges::verify;
use crate::packs::{
    API, GATEWAY, HELPER, IDLE, World, accesses, bare, begin, intent, outcome, records, start,
    tiles, verdict, world,
};
use crate::support::SERVER;
use ledger::body::{Body, Gap};
use ledger::pack::{Doubt, Failure, PackBuilder, Question, Report};
use ledger::{HexDigest, RecordType};
use proptest::prelude::*;

/// A pack taken apart, as anybody can.
pub(crate) fn sections(pack: &[u8]) -> Vec<(String, Vec<u8>)> {
    let line = pack.iter().position(|byte| *byte == b'\n').unwrap();
    let head = std::str::from_utf8(&pack[..line]).unwrap();
    let table: usize = head.split(' ').nth(1).unwrap().parse().unwrap();
    let (table, mut rest) = pack[line + 1..].split_at(table);
    let lines = std::str::from_utf8(table).unwrap().lines();
    let mut sections = Vec::new();
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let length: usize = words.next().unwrap().parse().unwrap();
        let (content, after) = rest.split_at(length);
        sections.push((words.nth(1).unwrap().to_owned(), content.to_vec()));
        rest = after;
    }
    sections
}

/// And put together again, with digests that fit.
pub(crate) fn joined(sections: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut table = String::new();
    for (name, content) in sections {
        let digest = HexDigest::of(content);
        table += &format!("{} {digest} {name}\n", content.len());
    }
    let digest = HexDigest::of(table.as_bytes());
    let mut pack = format!("trilith-pack/1 {} {digest}\n{table}", table.len()).into_bytes();
    pack.extend(sections.iter().flat_map(|(_, content)| content));
    pack
}

/// The pack without the sections whose names begin so.
pub(crate) fn without(pack: &PackBuilder, prefixes: &[&str]) -> Vec<u8> {
    let mut sections = sections(&pack.build());
    let before = sections.len();
    sections.retain(|(name, _)| !prefixes.iter().any(|prefix| name.starts_with(prefix)));
    assert!(sections.len() < before, "{prefixes:?}");
    joined(&sections)
}

/// The pack with the content of one section replaced.
pub(crate) fn with(pack: &PackBuilder, name: &str, content: &[u8]) -> Vec<u8> {
    let mut sections = sections(&pack.build());
    let mut of_it = sections.iter_mut().filter(|(held, _)| held == name);
    of_it.next().unwrap().1 = content.to_vec();
    joined(&sections)
}

pub(crate) fn refused(world: &World, pack: &[u8]) -> Failure {
    verify(pack, &world.trust).expect_err("a cut went unnoticed")
}

pub(crate) fn shown(world: &World, pack: &[u8]) -> Report {
    verify(pack, &world.trust).unwrap()
}

/// Everything that can be asked of the sample ledgers and has an answer.
pub(crate) fn questions() -> Vec<Question> {
    let serial = "b2".to_owned();
    vec![
        accesses(API),
        accesses("agents/helper"),
        Question::Access {
            identity: API.to_owned(),
            resource: Some("shop/public/cards".to_owned()),
            newest: Some(1),
        },
        Question::Issuance { serial },
        Question::Record {
            ledger: "db1".to_owned(),
            index: 0,
        },
        Question::Record {
            ledger: SERVER.to_owned(),
            index: 7,
        },
    ]
}

#[test]
fn a_whole_pack_is_complete_and_no_record_can_be_cut_out_of_it() {
    let world = world();
    for question in questions() {
        let pack = world.pack(&question, true);
        let report = shown(&world, &pack.build());
        assert!(report.is_complete(), "{question}: {:?}", report.doubts);
        assert!(report.extents.iter().all(|extent| extent.complete));
        for item in &report.records {
            let name = format!("record/{}/{}", item.checkpoint, item.index);
            let sections = sections(&pack.build());
            let kept: Vec<_> = sections
                .into_iter()
                .filter(|(held, _)| *held != name)
                .collect();
            let failure = refused(&world, &joined(&kept));
            let anchor = item.record.kind().as_str() == "anchor";
            match failure.code {
                "PACK-RECORD-MISSING" => {
                    assert_eq!((failure.section, failure.record), (name, Some(item.index)));
                }
                code => assert_eq!((code, anchor), ("PACK-ANCHOR", true), "{failure}"),
            }
        }
    }
}

#[test]
fn what_the_answers_rest_on_cannot_be_cut_even_where_there_are_no_tiles() {
    let world = world();
    for question in questions() {
        let pack = world.pack(&question, false);
        let report = shown(&world, &pack.build());
        let one = matches!(question, Question::Record { .. });
        assert_eq!(report.is_complete(), one, "{question}");
        for item in report.records.iter().filter(|item| item.checkpoint == 0) {
            let name = format!("record/0/{}", item.index);
            let anchor = item.record.kind().as_str() == "anchor";
            let kept = without_exactly(&pack, &name);
            match verify(&kept, &world.trust) {
                Err(failure) if failure.code == "PACK-RECORD-MISSING" => {}
                Err(failure) => assert!(anchor || failure.code == "PACK-RECORD-STRAY"),
                Ok(report) => assert!(item.answers && !report.is_complete(), "{name}"),
            }
        }
    }
}

pub(crate) fn without_exactly(pack: &PackBuilder, name: &str) -> Vec<u8> {
    let mut sections = sections(&pack.build());
    sections.retain(|(held, _)| held != name);
    joined(&sections)
}

#[test]
fn cut_with_its_tiles_a_record_is_gone_and_the_pack_is_not_called_complete() {
    let world = world();
    let pack = world.pack(&accesses(API), true);
    let cut = without(
        &pack,
        &["record/1/1", "record/1/2", "record/1/6", "tiles/1/"],
    );
    let report = shown(&world, &cut);
    assert!(!report.is_complete());
    let complete: Vec<bool> = report
        .extents
        .iter()
        .map(|extent| extent.complete)
        .collect();
    assert_eq!(complete, [true, false, true]);
    let origin = GATEWAY.to_owned();
    assert_eq!(report.doubts, [Doubt::NoEntries { origin }]);
    assert_eq!(report.extents[1].matching, None);
    // The outcome without its intent is tied to nothing.
    let failure = refused(&world, &without(&pack, &["record/1/1", "tiles/1/"]));
    assert_eq!(
        (failure.code, failure.section.as_str()),
        ("PACK-RECORD-STRAY", "record/1/2")
    );
    // Tiles alone, without their entries, show nothing.
    let report = shown(&world, &without(&pack, &["tiles/1/tile/entries"]));
    assert_eq!(report.whole, [0, 1, 2]);
    assert!(!report.is_complete());
}

#[test]
fn a_gateway_cannot_be_left_out_as_a_whole() {
    let world = world();
    let pack = world.pack(&accesses(API), true);
    let cut = ["checkpoint/2", "tiles/2/", "record/0/8"];
    let failure = refused(&world, &without(&pack, &cut));
    assert_eq!(failure.code, "PACK-LEDGER-MISSING");
    assert_eq!(failure.record, Some(8));
    assert!(failure.message.contains(IDLE), "{failure}");
    // Nor with the server's tiles: then nobody can say which gateways there are.
    let report = shown(
        &world,
        &without(
            &pack,
            &["checkpoint/2", "tiles/2/", "record/0/8", "tiles/0/"],
        ),
    );
    let origin = SERVER.to_owned();
    assert_eq!(report.doubts, [Doubt::NoServerEntries { origin }]);
    assert!(report.extents[1].complete && !report.extents[0].complete);
}

#[test]
fn a_pack_under_an_older_anchor_says_where_it_ends() {
    let world = world();
    let mut early = world_until_first_anchor();
    early.server = world.server;
    let report = shown(&early, &early.pack(&accesses(API), true).build());
    assert_eq!(
        report.doubts,
        [Doubt::Early {
            origin: GATEWAY.to_owned(),
            size: 3,
            newest: 8,
            anchor: 7,
        }]
    );
    let extent = &report.extents[1];
    assert!(extent.entries && !extent.complete);
    assert_eq!(
        (extent.answers, extent.until),
        (3, Some(crate::support::STAMP.wall))
    );
}

/// The sample ledgers, of which db1 has its first three records.
fn world_until_first_anchor() -> World {
    let whole = world();
    let mut early = bare();
    for bytes in whole.gateway.records.iter().take(3) {
        early.gateway.append_bytes(bytes.clone());
    }
    for bytes in &whole.idle.records {
        early.idle.append_bytes(bytes.clone());
    }
    early
}

#[test]
fn a_record_that_does_not_answer_is_refused() {
    let world = world();
    let stray = |question: &Question, tiles, number: usize, index| {
        let mut pack = world.pack(question, tiles);
        pack.receipt(&world.ledgers()[number].receipt(index));
        let failure = refused(&world, &pack.build());
        (failure.code, failure.section, failure.record)
    };
    let told = |section: &str, index| ("PACK-RECORD-STRAY", section.to_owned(), Some(index));
    for tiles in [true, false] {
        assert_eq!(stray(&accesses(API), tiles, 1, 4), told("record/1/4", 4));
        assert_eq!(stray(&accesses(API), tiles, 0, 5), told("record/0/5", 5));
        // An anchor that no checkpoint of the pack needs.
        assert_eq!(stray(&accesses(API), tiles, 0, 6), told("record/0/6", 6));
        let serial = "a1".to_owned();
        let issuance = Question::Issuance { serial };
        assert_eq!(stray(&issuance, tiles, 0, 5), told("record/0/5", 5));
    }
    let serial = "a1".to_owned();
    let mut pack = world.pack(&Question::Issuance { serial }, true);
    pack.receipt(&world.server.receipt(7));
    pack.checkpoint(&world.gateway.note());
    let failure = refused(&world, &pack.build());
    assert_eq!(
        (failure.code, failure.section.as_str()),
        ("PACK-CHECKPOINT", "checkpoint/1")
    );
}

#[test]
fn a_pack_answers_the_question_that_it_states() {
    let world = world();
    let pack = world.pack(&accesses(API), true);
    let code = |question: &str| {
        let forged = with(&pack, "question.json", question.as_bytes());
        refused(&world, &forged).code
    };
    for question in questions().iter().skip(1) {
        let code = code(&question.to_json());
        assert!(
            [
                "PACK-RECORD-MISSING",
                "PACK-RECORD-STRAY",
                "PACK-CHECKPOINT"
            ]
            .contains(&code),
            "{question}: {code}"
        );
    }
    for question in [
        "",
        "{}",
        "[]",
        "{\"accesses\":\"spiffe://example.org/payments/api\"}",
        "{\"kind\":\"access\"}",
        "{\"kind\":\"access\",\"identity\":\"payments/api\",\"more\":1}",
        "{\"kind\":\"access\",\"identity\":\"payments/api\",\"resource\":null}",
        "{\"identity\":\"payments/api\",\"kind\":\"access\"}",
        "{\"kind\":\"access\", \"identity\":\"payments/api\"}",
        "{\"kind\":\"access\",\"identity\":\"payments/\\u001b[2Kapi\"}",
        "{\"kind\":\"access\",\"identity\":\"payments\\/api\"}",
        "{\"kind\":\"nothing\"}",
        "{\"kind\":\"record\",\"index\":1}",
        "{\"kind\":\"record\",\"ledger\":\"db9\",\"index\":1} ",
    ] {
        assert_eq!(code(question), "PACK-QUESTION", "{question}");
    }
    let long = format!(
        "{{\"kind\":\"issuance\",\"serial\":\"{}\"}}",
        "a".repeat(4_096)
    );
    assert_eq!(code(&long), "PACK-QUESTION");
    assert_eq!(code(&"{\"a\":".repeat(200_000)), "PACK-QUESTION");
}

#[test]
fn a_pack_without_the_one_record_that_is_asked_for_is_refused() {
    let world = world();
    for (ledger, index) in [("server", 9), ("db1", 8), ("db9", 0), ("", u64::MAX >> 11)] {
        let question = Question::Record {
            ledger: ledger.to_owned(),
            index,
        };
        for tiles in [true, false] {
            let failure = refused(&world, &world.pack(&question, tiles).build());
            assert!(
                ["PACK-RECORD-MISSING", "PACK-ANCHOR"].contains(&failure.code),
                "{question}: {failure}"
            );
        }
    }
}

#[test]
fn the_newest_are_the_newest_with_what_they_belong_to() {
    let world = world();
    let newest = |most| Question::Access {
        identity: API.to_owned(),
        resource: None,
        newest: Some(most),
    };
    let report = shown(&world, &world.pack(&newest(3), true).build());
    let at: Vec<u64> = report
        .records
        .iter()
        .filter(|item| item.checkpoint == 1)
        .map(|item| item.index)
        .collect();
    assert_eq!(at, [0, 1, 2, 6, 7]);
    assert_eq!(report.extents[1].matching, Some(5));
    assert!(report.is_complete());
    // Who asked for three is not shown two.
    let fewer = world.pack(&newest(2), true);
    let forged = with(&fewer, "question.json", newest(3).to_json().as_bytes());
    assert_eq!(refused(&world, &forged).code, "PACK-RECORD-MISSING");
}

#[test]
fn of_what_nobody_did_a_whole_pack_shows_just_that() {
    let world = world();
    let report = shown(&world, &world.pack(&accesses("nobody/here"), true).build());
    assert!(report.is_complete());
    assert!(
        report
            .records
            .iter()
            .all(|item| item.checkpoint == 0 && !item.answers)
    );
    assert!(!shown(&world, &world.pack(&accesses("nobody/here"), false).build()).is_complete());
}

#[test]
fn a_signature_line_that_nobody_vouches_for_is_refused() {
    let world = world();
    let pack = world.pack(&accesses(API), true);
    let line = |note: &str| format!("{note}\u{2014} witness.example/w AAAAAAAAAAAAAAAA\n");
    let forged = with(&pack, "checkpoint/0", line(&world.server.note()).as_bytes());
    let failure = refused(&world, &forged);
    assert_eq!(
        (failure.code, failure.section.as_str()),
        ("PACK-CHECKPOINT", "checkpoint/0")
    );
    let forged = with(
        &pack,
        "checkpoint/1",
        line(&world.gateway.note()).as_bytes(),
    );
    assert_eq!(refused(&world, &forged).code, "PACK-ANCHOR");
}

#[test]
fn two_checkpoints_of_one_ledger_are_refused() {
    let world = world();
    let mut pack = world.pack(&accesses(API), true);
    let early = world_until_first_anchor();
    pack.receipt(&world.server.receipt(6));
    pack.checkpoint(&early.gateway.note());
    let failure = refused(&world, &pack.build());
    assert_eq!(
        (failure.code, failure.section.as_str()),
        ("PACK-CHECKPOINT", "checkpoint/3")
    );
}

#[test]
fn what_cannot_be_read_or_reached_or_is_erased_is_told() {
    let mut world = world();
    // A record of a version to come.
    world.gateway.append_bytes(b"{\"v\":2}".to_vec());
    world.append(1, start(API, "s9", 77).record().actor(API, "x509"));
    world.anchor(1);
    let question = accesses(API);
    let mut pack = PackBuilder::new(&question, &world.server.note());
    tiles(0, &world.server, &mut pack);
    for (number, ledger) in [(1, &world.gateway), (2, &world.idle)] {
        pack.checkpoint(&ledger.note());
        tiles(number, ledger, &mut pack);
    }
    for index in [1, 2, 3, 4, 8, 9] {
        pack.receipt(&world.server.receipt(index));
    }
    for index in [0, 1, 2, 6, 7, 9] {
        pack.receipt(&world.gateway.receipt(index));
    }
    pack.blob(b"facts".to_vec());
    pack.blob(b"proof".to_vec());
    let report = shown(&world, &pack.build());
    let origin = || GATEWAY.to_owned();
    let expected = [
        Doubt::Unreadable {
            origin: origin(),
            index: 8,
        },
        Doubt::Beyond {
            origin: origin(),
            index: 9,
            names: 77,
        },
        Doubt::NoBlob {
            origin: SERVER.to_owned(),
            index: 2,
            sha256: HexDigest::of(b"{\"estate.toml\":\"...\"}"),
        },
    ];
    assert_eq!(report.doubts.len(), expected.len(), "{:?}", report.doubts);
    assert!(
        expected.iter().all(|doubt| report.doubts.contains(doubt)),
        "{:?}",
        report.doubts
    );
}

/// Ledgers in which two identities do this and that.
fn random_world(steps: &[(u8, bool, u8)]) -> World {
    let mut world = bare();
    world.append(0, begin(&world.server).record());
    world.append(0, verdict().record());
    world.append(0, verdict().record());
    let mut open = [None, None];
    for (step, helper, table) in steps.iter().copied() {
        let who = usize::from(helper);
        let id = [API, HELPER][who];
        let seq = world.gateway.records.len() as u64;
        let table = ["cards", "orders"][usize::from(table % 2)];
        let session: String = match &open[who] {
            Some(session) if step % 5 > 0 => String::clone(session),
            _ => {
                let session = format!("s{seq}");
                world.append(1, start(id, &session, 1).record().actor(id, "x509"));
                open[who] = Some(session);
                continue;
            }
        };
        let record = match step % 5 {
            1 | 2 => intent(&session, table).record(),
            3 => outcome(seq.saturating_sub(1)).record(),
            _ => Gap {
                cause: "crash".to_owned(),
                from: 0,
                to: 0,
                lost: None,
                detail: String::new(),
            }
            .record(),
        };
        world.append(1, record.actor(id, "x509"));
    }
    world.append(2, verdict().record());
    world.anchor(1);
    world.anchor(2);
    world
}

proptest! {
    #[test]
    fn of_any_whole_pack_no_record_can_be_cut(
        steps in prop::collection::vec((0..5_u8, any::<bool>(), any::<u8>()), 1..40),
        helper: bool,
        resource: Option<bool>,
        newest in prop::option::of(0..6_u64),
        cut: prop::sample::Index,
    ) {
        let world = random_world(&steps);
        let question = Question::Access {
            identity: [API, HELPER][usize::from(helper)].to_owned(),
            resource: resource.map(|cards| format!("shop/public/{}", if cards { "cards" } else { "orders" })),
            newest,
        };
        if world.gateway.records.is_empty() {
            return Ok(());
        }
        let pack = world.pack(&question, true);
        let report = shown(&world, &pack.build());
        let gaps = records(&world.gateway).filter(|(_, record)| record.kind() == RecordType::Gap);
        let gaps: Vec<Doubt> = gaps
            .map(|(index, _)| Doubt::Gap { origin: GATEWAY.to_owned(), index })
            .collect();
        prop_assert_eq!(&report.doubts, &gaps);
        let item = &report.records[cut.index(report.records.len())];
        let name = format!("record/{}/{}", item.checkpoint, item.index);
        let failure = refused(&world, &without_exactly(&pack, &name));
        prop_assert!(["PACK-RECORD-MISSING", "PACK-ANCHOR"].contains(&failure.code), "{failure}");
    }
}
