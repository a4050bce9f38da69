//! Packs as somebody would bend them, judged twice. The digests of the table are mended each time, so that what
//! answers is the check behind them.

use crate::completeness::{joined, questions, sections, without};
use crate::judges::verify;
use crate::packs::{API, DOMAIN, GATEWAY, accesses, bare, begin, outcome, start, tiles, world};
use crate::support::{Memory, SERVER, fixed_key};
use ledger::body::Body as _;
use ledger::pack::{Answers, PackBuilder, Question, Trust};
use ledger::{LedgerKey, Record, RecordType};
use std::collections::BTreeSet;

pub(crate) type Sections = [(String, Vec<u8>)];
type Change<'a> = dyn Fn(&mut Vec<(String, Vec<u8>)>) + 'a;

/// Each section dropped, doubled, moved, given another's name or content, cut, extended, and changed in some bytes.
pub(crate) fn bent(sections: &Sections) -> Vec<Vec<u8>> {
    let mut packs = Vec::new();
    let mut bend = |change: &Change<'_>| {
        let mut sections = sections.to_vec();
        change(&mut sections);
        packs.push(joined(&sections));
    };
    for at in 0..sections.len() {
        let (next, length) = ((at + 1) % sections.len(), sections[at].1.len());
        bend(&|sections| drop(sections.remove(at)));
        bend(&|sections| sections.insert(at, sections[at].clone()));
        bend(&|sections| sections.swap(at, next));
        bend(&|sections| sections[at].1 = sections[next].1.clone());
        bend(&|sections| {
            let content = std::mem::take(&mut sections[at].1);
            sections[at].1 = std::mem::replace(&mut sections[next].1, content);
        });
        bend(&|sections| sections[at].1.truncate(length - 1));
        bend(&|sections| sections[at].1.clear());
        bend(&|sections| sections[at].1.push(b'\n'));
        for name in [
            "",
            "record/1/x",
            "record/9/0",
            "checkpoint/7",
            "blob/0",
            "tiles/0/tile/0/001",
        ] {
            bend(&|sections| sections[at].0 = name.to_owned());
        }
        for byte in (0..length)
            .step_by(11)
            .chain(length.saturating_sub(33)..length)
        {
            bend(&|sections| sections[at].1[byte] ^= 1 << (byte % 8));
        }
    }
    for added in [
        "checkpoint/3",
        "checkpoint/9",
        "record/0/99",
        "record/1/0",
        "record/4/0",
        "tiles/0/tile/0/001",
        "tiles/1/tile/1/000",
        "tiles/2/tile/entries/000",
        "tiles/3/tile/entries/000",
        "certificate/5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
        "blob/5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9",
    ] {
        for content in [
            &b"0"[..],
            b"",
            &sections[1].1,
            &[0; 64],
            &[0, 2, b'{', b'}'],
        ] {
            bend(&|sections| sections.push((added.to_owned(), content.to_vec())));
            bend(&|sections| {
                sections.push((added.to_owned(), content.to_vec()));
                sections.sort_by_key(|(name, _)| order(name));
            });
        }
    }
    packs
}

/// Near enough to the order of a pack.
fn order(name: &str) -> (usize, usize, String) {
    let kinds = [
        "question",
        "checkpoint",
        "record",
        "tiles",
        "blob",
        "certificate",
    ];
    let kind = kinds
        .iter()
        .position(|kind| name.starts_with(kind))
        .unwrap_or_default();
    (kind, name.len(), name.to_owned())
}

#[test]
fn both_judges_say_the_same_of_every_bent_pack() {
    let world = world();
    let mut codes = BTreeSet::new();
    let access = world.pack(&accesses(API), true);
    for pack in [
        access.build(),
        without(&access, &["tiles/1/tile/entries", "tiles/0/"]),
        world.pack(&questions()[3], true).build(),
        world.pack(&accesses(API), false).build(),
    ] {
        verify(&pack, &world.trust).unwrap();
        for bent in bent(&sections(&pack)) {
            if let Err(failure) = verify(&bent, &world.trust) {
                codes.insert(failure.code);
            }
        }
    }
    // Every check between the container and completeness has had its turn.
    for code in [
        "PACK-FORMAT",
        "PACK-QUESTION",
        "PACK-CHECKPOINT",
        "PACK-ANCHOR",
        "PACK-TILE",
        "PACK-BLOB",
        "PACK-CERTIFICATE",
        "PACK-RECORD-MISSING",
        "PACK-RECORD-STRAY",
        "LEDGER-NOTE-FORMAT",
        "LEDGER-NOTE-SIGNATURE",
        "LEDGER-NOTE-UNSIGNED",
        "LEDGER-PROOF-ROOT",
        "LEDGER-PROOF-LENGTH",
        "LEDGER-PROOF-INDEX",
        "LEDGER-TILE-MISSING",
        "LEDGER-TILE-CORRUPT",
        "LEDGER-TILE-ROOT",
        "LEDGER-BUNDLE-CORRUPT",
    ] {
        assert!(codes.contains(code), "{code} of {codes:?}");
    }
}

/// Bytes changed anywhere, with and without mended digests. `TRILITH_PACK_MUTATIONS` asks for more of them.
#[test]
fn both_judges_say_the_same_of_packs_changed_at_random() {
    let asked = std::env::var("TRILITH_PACK_MUTATIONS").ok();
    let count: u64 = asked.map_or(3_000, |count| count.parse().unwrap());
    let world = world();
    let packs: Vec<Vec<u8>> = questions()
        .iter()
        .flat_map(|question| [true, false].map(|tiles| world.pack(question, tiles).build()))
        .collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).unwrap() % below.max(1)
    };
    let told: &[&[u8]] = &[
        b"0",
        b"9",
        b"\n",
        b" ",
        b"\"",
        b"\\",
        b"{",
        b"}",
        b"[",
        b",",
        b"+",
        b"/",
        b"\x00",
        b"\x1f",
        b"\x7f",
        b"\xff",
        b"\xc2\x85",
        "\u{2014} ".as_bytes(),
        "\u{ffff}".as_bytes(),
        b"18446744073709551616",
        b"null",
        b"\\u0000",
        b"\\u0041",
        b"-0",
        b"1e9",
        b"record/0/",
        b"\n\n",
        b"tile/",
    ];
    for _ in 0..count {
        let pack = &packs[random(packs.len())];
        let mend = random(4) > 0;
        let mut sections = if mend {
            sections(pack)
        } else {
            vec![(String::new(), pack.clone())]
        };
        for _ in 0..=random(3) {
            let at = random(sections.len());
            let content = if random(8) == 0 && mend {
                let name = std::mem::take(&mut sections[at].0);
                let mut name = name.into_bytes();
                let place = random(name.len());
                name[place] = b"0123456789/.xpatr"[random(17)];
                sections[at].0 = String::from_utf8(name).unwrap();
                continue;
            } else {
                &mut sections[at].1
            };
            let place = random(content.len());
            match random(6) {
                0 if !content.is_empty() => content[place] ^= 1 << random(8),
                1 if !content.is_empty() => content[place] = u8::try_from(random(256)).unwrap(),
                2 => content.truncate(place),
                3 => drop(
                    content.drain(place..(place + 1 + random(9)).min(content.len()).max(place)),
                ),
                4 => {
                    let new = told[random(told.len())];
                    let end = (place + new.len() * random(2))
                        .min(content.len())
                        .max(place);
                    content.splice(place..end, new.iter().copied());
                }
                _ => {
                    let copied = content[place..(place + random(40)).min(content.len())].to_vec();
                    content.splice(place..place, copied);
                }
            }
        }
        let bytes = if mend {
            joined(&sections)
        } else {
            sections.remove(0).1
        };
        drop(verify(&bytes, &world.trust));
    }
}

const H: &str = "\"00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa00aa\"";
const G: &str = "\"AKoAqgCqAKoAqgCqAKoAqgCqAKoAqgCqAKoAqgCqAKo=\"";
const BLOB: &str = "{\"sha256\":H,\"length\":\"3\"}";
const FINDING: &str =
    "{\"code\":\"A-B\",\"message\":\"m\",\"expected\":\"e\",\"observed\":\"o\",\"next\":\"n\"}";
const COUNTED: &str = "{\"chip\":H,\"resets\":1,\"restarts\":2,\"clock\":\"3\",\"firmware\":\"4\"}";
const ACTIONS: &str = "[{\"action\":\"select\",\"resources\":[\"a\"],\
    \"more\":{\"count\":\"9\",\"sha256\":H},\"columns\":[\"a/b\"]}]";

/// A body of each type with every field. `H` and the like stand for the constants.
pub(crate) const BODIES: &[(&str, &str)] = &[
    (
        "begin",
        r#"{"trust_domain":"example.org","ledger_key":"AAAA","format":"v1"}"#,
    ),
    (
        "start",
        r#"{"program":"p","version":"1","epoch":"1","size":"2","root":G}"#,
    ),
    ("stop", r#"{"reason":"é\n\u0001"}"#),
    (
        "gap",
        r#"{"cause":"crash","from":1,"to":2,"lost":"3","detail":""}"#,
    ),
    (
        "bundle",
        r#"{"sequence":"1","x509_authorities":["AAAA"],"jwt_authorities":[{"kid":"k","spki":"AAAA"}],"blob":BLOB}"#,
    ),
    (
        "key-rotation",
        r#"{"what":"jwt","old":"AAAA","new":null,"old_signature":"AA==","new_signature":null,"reason":"r","statement":"s\n"}"#,
    ),
    (
        "estate-version",
        r#"{"version":H,"blob":BLOB,"parent":H,"author":"a","message":"m","proof_index":"1","floor":"2"}"#,
    ),
    (
        "proof",
        r#"{"version":H,"outcome":"proved","invariants":[{"id":"i","any_data":"proved","today":"holds","text":H}],"blob":BLOB,"millis":7,"approval_index":"3"}"#,
    ),
    (
        "verdict",
        r#"{"node":"n","outcome":"refused","facts_blob":BLOB,"evidence":[{"kind":"tpm-quote","sha256":H,"length":"1"}],"facts":[{"name":"a","value":["x"],"source":"hardware"},{"name":"b","value":-1,"source":"verified"}],"findings":[FINDING],"ar4si":"hw2"}"#,
    ),
    (
        "attested",
        r#"{"node":"n","from":1,"to":2,"answers":"3","resets":1,"restarts":2,"pcrs":H,"entries":"4","estate":H,"counted":COUNTED}"#,
    ),
    (
        "join-refused",
        r#"{"method":"tpm","peer":G,"findings":[FINDING],"count":"2"}"#,
    ),
    (
        "issuance",
        r#"{"kind":"x509","spiffe_id":"spiffe://example.org/payments/api","serial":"a1","tbs":G,"issuer":G,"key":G,"not_before":1,"not_after":2,"node":"m1","verdict":"3","evidence_time":4,"policies":["p"],"commit":G,"facts":{"a":true,"b":"x"},"replaces":"a0","ar4si":"hw2"}"#,
    ),
    (
        "assume-refused",
        r#"{"spiffe_id":"s","node":"n","verdict":"1","findings":[FINDING],"policies":["p"],"facts_blob":BLOB,"count":"2"}"#,
    ),
    (
        "token-created",
        r#"{"token":H,"node":"n","pool":"p","expires":1}"#,
    ),
    ("token-spent", r#"{"token":H,"node":"n","key":H}"#),
    (
        "node-state",
        r#"{"node":"n","state":"joined","generation":"1","renewal":H,"key":H,"verdict":"2","counted":COUNTED}"#,
    ),
    ("lock", r#"{"node":"n","finding":FINDING,"generation":"1"}"#),
    (
        "readmit",
        r#"{"node":"n","reason":"r","by":"b","generation":"1"}"#,
    ),
    (
        "revocation",
        r#"{"target":{"kind":"machine","value":"v"},"reason":"r","by":"b","whose":["w"],"node":"n"}"#,
    ),
    (
        "intent",
        r#"{"session":"s0","statement":"f","actions":ACTIONS,"decision":"s.1","policies":["p"],"coverage":"parsed-only","more_policies":{"count":"9","sha256":H},"claimed_on_behalf_of":["c"],"on_behalf_of":[{"spiffe_id":"a","jti":"j","issuance":"5"}]}"#,
    ),
    (
        "outcome",
        r#"{"intent":"1","result":"ok","sqlstate":"00000","rows":"1","tag":"SELECT 1","transaction":"I"}"#,
    ),
    (
        "decision",
        r#"{"session":"s0","statement":"f","actions":ACTIONS,"decision":"s.1","allow":false,"policies":["p"],"findings":["A-B"],"coverage":"blind","more_policies":{"count":"9","sha256":H},"about":{"spiffe_id":"spiffe://example.org/payments/api","issuance":"4","stated":{"a":1,"b":["x"]},"claimed_on_behalf_of":["c"],"on_behalf_of":[{"spiffe_id":"a","jti":"j","issuance":"5"}]},"claimed_on_behalf_of":["c"],"on_behalf_of":[{"spiffe_id":"a","jti":"j","issuance":"5"}]}"#,
    ),
    (
        "session-start",
        r#"{"session":"s9","spiffe_id":"spiffe://example.org/payments/api","serial":"a1","issuance":"4","resource":"r","role":"r","application":"a","claimed_on_behalf_of":["c"],"on_behalf_of":[{"spiffe_id":"a","jti":"j","issuance":"5"}]}"#,
    ),
    (
        "session-end",
        r#"{"session":"s0","reason":"closed","detail":"","operations":"2"}"#,
    ),
    (
        "anchor",
        r#"{"gateway":"g","origin":"example.org/gateway/db3","ledger_key":"AAAA","size":"1","root":G,"checkpoint":"c\n"}"#,
    ),
    (
        "admin",
        r#"{"principal":"p","action":"a","resource":"r","allow":true,"policies":["p"],"detail":"d"}"#,
    ),
    (
        "snapshot",
        r#"{"size":"1","root":G,"state":BLOB,"format":"f"}"#,
    ),
    (
        "retention",
        r#"{"minimum_index":"1","snapshot":"2","policy":"p","by":"b"}"#,
    ),
    (
        "recovery",
        r#"{"old_size":"1","old_root":G,"old_checkpoint":"c","new_size":"2","new_root":G,"reason":"r","by":"b","obeyed":"3"}"#,
    ),
    (
        "seal-approval",
        r#"{"ring":"r","epoch":"1","label":"l","pcrs":[{"index":7,"sha256":H}],"policy":H,"policy_ref":H,"key":"AAAA","signature":"AAAA"}"#,
    ),
    (
        "delegation",
        r#"{"jti":"j","tbs":G,"issuer":G,"not_before":1,"not_after":2,"chain":["a","b"],"rests_on":["k"],"actions":["select"],"resources":null,"node":"m1"}"#,
    ),
    (
        "invariant-approval",
        r#"{"version":H,"base":H,"base_index":"1","subject":BLOB,"changes":2,"signatures":[{"author":"a","key":"AAAA","expires":1,"signature":"AAAA"}]}"#,
    ),
    (
        "misbehaviour",
        r#"{"origin":"o","ledger_key":"AAAA","by":"g","kind":"rollback","proved":false,"first":{"size":"2","root":G,"note":BLOB},"second":{"size":"1","root":G,"note":BLOB},"detail":"d"}"#,
    ),
    (
        "erasure",
        r#"{"reason":"case 7","by":"uid:0","erased":[{"kind":"opening","sha256":H,"record":"4"}]}"#,
    ),
    (
        "erasure",
        r#"{"reason":"r","by":"b","erased":[],"subject":BLOB,"signatures":[{"author":"a","key":"AAAA","expires":1,"signature":"AAAA"}]}"#,
    ),
];

pub(crate) fn sample(kind: &str, body: &str, origin: &str) -> String {
    let mut body = body.to_owned();
    for (name, text) in [
        ("FINDING", FINDING),
        ("COUNTED", COUNTED),
        ("ACTIONS", ACTIONS),
        ("BLOB", BLOB),
        (":H", &format!(":{H}")),
        (":G", &format!(":{G}")),
    ] {
        body = body.replace(name, text);
    }
    format!(
        "{{\"v\":1,\"type\":\"{kind}\",\"origin\":\"{origin}\",\"seq\":\"1\",\"actor\":\"a\",\"auth\":\"x\",\
         \"time\":{{\"wall\":\"1795312969123\",\"mono\":\"5\"}},\"estate\":{{\"version\":{G},\"index\":\"2\"}},\
         \"engines\":{{\"cedar\":\"4\"}},\"conn\":{{\"id\":\"c\",\"counter\":\"4\"}},\"body\":{body}}}"
    )
}

/// The strings, numbers and words of a JSON text, as places in it.
fn tokens(text: &str) -> Vec<std::ops::Range<usize>> {
    let (bytes, mut at, mut tokens) = (text.as_bytes(), 0, Vec::new());
    while at < bytes.len() {
        let from = at;
        at += 1;
        match bytes[from] {
            b'"' => {
                while bytes[at] != b'"' {
                    at += 1 + usize::from(bytes[at] == b'\\');
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                while !matches!(bytes[at], b',' | b'}' | b']') {
                    at += 1;
                }
            }
            _ => continue,
        }
        tokens.push(from..at);
    }
    tokens
}

/// The text with each token replaced by this and that; each member left out, doubled, moved or joined by another.
pub(crate) fn variants(text: &str, from: usize) -> Vec<String> {
    let mut variants = vec![
        text.to_owned(),
        text.replacen("\"body\":{", "\"body\":{\"zz\":1,", 1),
    ];
    for token in tokens(text).into_iter().filter(|token| token.start >= from) {
        for new in [
            "null",
            "true",
            "\"\"",
            "\"x\"",
            "\"0\"",
            "\"01\"",
            "\"+1\"",
            "0",
            "-1",
            "-0",
            "1.0",
            "4294967296",
            "9007199254740991",
            "9007199254740992",
            "[]",
            "{}",
            "[null]",
            "\"18446744073709551616\"",
            "\"\\u007f\"",
            "\"\u{fdd0}\"",
            "\"AB==\"",
            "\"\\ud800\"",
            "NaN",
        ] {
            let mut changed = text.to_owned();
            changed.replace_range(token.clone(), new);
            variants.push(changed);
        }
        // `"key":value,` as far as the next token but one.
        let rest = &text[token.start..];
        if let Some(end) = rest.find(',') {
            let member = &rest[..=end];
            variants.push(text.replacen(member, "", 1));
            variants.push(text.replacen(member, &member.repeat(2), 1));
            if let Some(next) = rest[end + 1..].find(',') {
                let second = &rest[end + 1..=end + 1 + next];
                variants.push(text.replacen(
                    &format!("{member}{second}"),
                    &format!("{second}{member}"),
                    1,
                ));
            }
        }
    }
    for deep in [11, 12, 13, 14, 15, 16, 2_000] {
        let nested = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
        variants.push(text.replacen("\"body\":{", &format!("\"body\":{{\"zz\":{nested},"), 1));
    }
    variants.push(text.replacen("\"engines\":{\"cedar\":\"4\"},", "", 1));
    variants.push(format!("{text} "));
    variants
}

pub(crate) fn body_of(record: &str) -> usize {
    record.find("\"body\":{").unwrap() + 8
}

/// The server's record 0 is this one, and is asked for.
fn of_one(record: &str) -> (Vec<u8>, Trust) {
    let mut world = bare();
    world.server.append_bytes(record.as_bytes().to_vec());
    let question = Question::Record {
        ledger: String::new(),
        index: 0,
    };
    let mut pack = PackBuilder::new(&question, &world.server.note());
    pack.receipt(&world.server.receipt(0));
    (pack.build(), world.trust)
}

#[test]
fn both_judges_know_every_type_of_record_and_every_form_of_its_body() {
    let kinds: Vec<&str> = BODIES.iter().map(|(kind, _)| *kind).collect();
    let known: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
    let lacks: Vec<_> = known.iter().filter(|kind| !kinds.contains(kind)).collect();
    assert!(
        lacks.is_empty(),
        "give {lacks:?} a body here, and a form in verifiers/python/record_shapes.txt"
    );
    for (kind, body) in BODIES {
        let text = sample(kind, body, SERVER);
        let (pack, trust) = of_one(&text);
        match verify(&pack, &trust) {
            Ok(_) => {}
            // Of the right shape, and refused for what they say.
            Err(failure) => assert!(
                matches!(
                    failure.code,
                    "PACK-TRUST" | "PACK-ANCHOR" | "PACK-RECORD-MISSING"
                ),
                "{kind}: {failure}"
            ),
        }
        // The envelope is the same of all.
        let from = if *kind == "stop" { 0 } else { body_of(&text) };
        for changed in variants(&text, from) {
            let (pack, trust) = of_one(&changed);
            drop(verify(&pack, &trust));
        }
    }
}

/// Entries are read more leniently than the pack's records: what they say is looked at, not their form.
#[test]
fn both_judges_read_the_same_in_entries() {
    for (kind, body) in BODIES {
        let access = matches!(
            *kind,
            "intent" | "outcome" | "decision" | "session-start" | "session-end"
        );
        if !access && !matches!(*kind, "begin" | "anchor" | "issuance") {
            continue;
        }
        let origin = if access { GATEWAY } else { SERVER };
        let text = sample(kind, body, origin);
        for changed in variants(&text, body_of(&text)) {
            let mut world = bare();
            world.append(0, begin(&world.server).record());
            for record in [
                start(API, "s0", 1).record(),
                crate::packs::intent("s0", "cards").record(),
            ] {
                world.append(1, record.actor(API, "x509"));
            }
            let ledger = if access {
                &mut world.gateway
            } else {
                &mut world.server
            };
            ledger.append_bytes(changed.into_bytes());
            world.append(1, outcome(1).record());
            world.anchor(1);
            let serial = "a1".to_owned();
            for question in [accesses(API), Question::Issuance { serial }] {
                let (server, gateway) = (&world.server, &world.gateway);
                let mut pack = PackBuilder::new(&question, &server.note());
                tiles(0, server, &mut pack);
                answer(&question, server, true, &mut pack);
                if matches!(question, Question::Access { .. }) {
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

/// Adds the records of a ledger that answer.
pub(crate) fn answer(question: &Question, ledger: &Memory, server: bool, pack: &mut PackBuilder) {
    let mut answers = Answers::new(question, DOMAIN, ledger.origin().as_str(), server);
    for (index, bytes) in (0..).zip(&ledger.records) {
        if let Ok(record) = Record::parse(bytes) {
            answers.see(index, &record);
        }
    }
    for index in answers.indices() {
        pack.receipt(&ledger.receipt(index));
    }
}

#[test]
fn both_judges_say_the_same_of_what_an_anchor_states() {
    let mut gateway = Memory::new(GATEWAY, 2);
    gateway.append(outcome(1).record());
    let spki = gateway.key().public_key().spki_der().to_vec();
    let judged = |change: &dyn Fn(&mut ledger::body::Anchor)| {
        let mut world = bare();
        let mut anchor = crate::packs::anchor(&gateway);
        change(&mut anchor);
        world.append(0, anchor.record());
        let question = Question::Record {
            ledger: String::new(),
            index: 0,
        };
        let mut pack = PackBuilder::new(&question, &world.server.note());
        pack.receipt(&world.server.receipt(0));
        verify(&pack.build(), &world.trust).map_or_else(|failure| failure.code, |_| "")
    };
    let mut codes = BTreeSet::from([judged(&|_| ())]);
    for at in 0..spki.len() {
        codes.insert(judged(&|anchor| anchor.ledger_key.0[at] ^= 1 << (at % 8)));
    }
    for at in 0..gateway.note().len() {
        for byte in [b'\n', b'+', b' ', b'A', b'='] {
            codes.insert(judged(&|anchor| {
                let mut note = anchor.checkpoint.clone().into_bytes();
                note[at] = byte;
                anchor.checkpoint = String::from_utf8_lossy(&note).into_owned();
            }));
        }
    }
    for filled in [0, 1, 0xee, 0xff] {
        codes.insert(judged(&|anchor| anchor.ledger_key.0[12..].fill(filled)));
    }
    codes.insert(judged(&|anchor| anchor.ledger_key.0.clear()));
    codes.insert(judged(&|anchor| anchor.size = ledger::Decimal(7)));
    codes.insert(judged(&|anchor| anchor.root.0[3] ^= 1));
    let long = "o".repeat(256);
    for origin in [
        "",
        "a b",
        "a+b",
        "a\u{2003}b",
        "\u{85}",
        "\u{1c}",
        "é",
        &long,
        &long[..255],
    ] {
        codes.insert(judged(&|anchor| {
            anchor.origin = origin.to_owned();
            let key = LedgerKey::new(origin, fixed_key(2).public_key().clone());
            if key.is_ok() {
                let mut own = Memory::new(origin, 2);
                own.append(outcome(1).record());
                *anchor = crate::packs::anchor(&own);
            }
        }));
    }
    let line = gateway.note().lines().last().unwrap().to_owned();
    for (lines, text) in [
        (1, line.as_str()),
        (63, "\u{2014} w AAAAAAE="),
        (64, "\u{2014} w AAAAAAE="),
        (1, "\u{2014} w AAAAAA=="),
        (1, "x"),
    ] {
        codes.insert(judged(&|anchor| {
            anchor.checkpoint += &format!("{text}\n").repeat(lines)
        }));
    }
    for code in [
        "",
        "PACK-ANCHOR",
        "LEDGER-NOTE-FORMAT",
        "LEDGER-NOTE-UNSIGNED",
        "LEDGER-NOTE-SIGNATURE",
    ] {
        assert!(codes.contains(code), "{code:?} of {codes:?}");
    }
}
