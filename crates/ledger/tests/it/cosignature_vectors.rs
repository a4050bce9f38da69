//! The published vectors of cosignatures, policies and witness requests. ML-DSA-44 signs with randomness, so
//! that its lines are held to verify, and everything else to be the same bytes; with `BLESS=1` they are written.

use crate::support::{Memory, SERVER, cosigned, pq_witness, witness};
use crate::vectors::{b64, compare, dir};
use ledger::ProofFile;
use ledger::merkle::{consistency_proof, leaf_hash};
use ledger::pack::{Trust, verify};
use ledger::witness::{AddCheckpoint, Answer};
use ledger::{Code, Cosigner, CosignerKey, ForeignCheckpoint, LedgerKey, LogKey, Note, Policy};
use serde_json::{Value, json};

const TIME: u64 = 1_795_312_969;

fn ledger(size: usize) -> Memory {
    let mut ledger = Memory::new(SERVER, 1);
    for n in 0..size {
        ledger.append_bytes(format!("record {n}").into_bytes());
    }
    ledger
}

fn held(name: &str) -> Option<Value> {
    if std::env::var_os("BLESS").is_some() {
        return None;
    }
    let text = std::fs::read(dir().join(name)).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}

/// The value at `pointer` of the held file, or as it is made where it is written.
fn kept(held: Option<&Value>, pointer: &str, make: impl FnOnce() -> String) -> String {
    match held {
        Some(held) => held
            .pointer(pointer)
            .and_then(Value::as_str)
            .expect(pointer)
            .to_owned(),
        None => make(),
    }
}

#[test]
fn the_published_cosignatures_are_what_this_version_makes() {
    let held = held("cosignatures.json");
    let held = held.as_ref();
    let ledger = ledger(5);
    let note = ledger.note();
    let (ed, pq) = (witness(11), pq_witness(12));
    let ed_note = cosigned(&note, &[&ed], TIME);
    let pq_note = kept(held, "/valid/1/note", || cosigned(&note, &[&pq], TIME));
    let untimed = kept(held, "/valid/2/note", || cosigned(&note, &[&pq], 0));
    let verified = |key: &CosignerKey, note: &str| key.verify(&Note::parse(note).unwrap());
    let valid: Vec<Value> = [
        ("ed25519", &ed, &ed_note, TIME),
        ("ml-dsa-44", &pq, &pq_note, TIME),
        ("ml-dsa-44 without a time", &pq, &untimed, 0),
    ]
    .into_iter()
    .map(|(name, cosigner, note, time)| {
        let found = verified(cosigner.key(), note).unwrap().unwrap();
        assert_eq!((found.time, found.scheme), (time, cosigner.key().scheme()));
        json!({"name": name, "key": cosigner.key().to_string(), "note": note, "time": time})
    })
    .collect();
    let other = Cosigner::new("witness.example/other", crate::support::fixed_pq_key(12)).unwrap();
    let moved = {
        let mut note = Note::parse(&pq_note).unwrap();
        note.signatures[1].name = other.key().name().to_owned();
        note.signatures[1].id = other.key().id();
        note.to_string()
    };
    let retimed = |note: &str| {
        let mut note = Note::parse(note).unwrap();
        note.signatures[1].bytes[7] ^= 1;
        note.to_string()
    };
    let size = |note: &str| note.replace("\n5\n", "\n6\n");
    let refused: Vec<Value> = [
        ("another size, ed25519", ed.key(), size(&ed_note)),
        ("another size, ml-dsa-44", pq.key(), size(&pq_note)),
        ("another time, ed25519", ed.key(), retimed(&ed_note)),
        ("another time, ml-dsa-44", pq.key(), retimed(&pq_note)),
        (
            "the same key under another name, ml-dsa-44",
            other.key(),
            moved,
        ),
    ]
    .into_iter()
    .map(|(name, key, note)| {
        let error = verified(key, &note).unwrap_err();
        json!({"name": name, "key": key.to_string(), "note": note, "code": error.code()})
    })
    .collect();
    let seeds = json!({"ed25519": crypto::hex::encode(&[11; 32]), "ml-dsa-44": crypto::hex::encode(&[12; 32])});
    compare(
        "cosignatures",
        &json!({
            "log_key": ledger.key().to_string(), "seeds": seeds,
            "valid": valid, "refused": refused,
        }),
    );
}

/// URLs stand in them because some readers want one at each witness.
fn policy_lines(quorum: &str) -> String {
    let mut text = String::from("# Two operators.\n");
    for seed in 11..14 {
        let key = witness(seed).key().to_string();
        text.push_str(&format!("witness w{seed} {key} https://w{seed}.example/\n"));
    }
    text.push_str(&format!(
        "witness pq12 {} https://pq12.example/\n",
        pq_witness(12).key()
    ));
    text + quorum
}

#[test]
fn the_published_policies_are_judged_as_they_say() {
    let held = held("policies.json");
    let held = held.as_ref();
    let note = ledger(5).note();
    let (w11, w12, w13, pq12, stranger) = (
        witness(11),
        witness(12),
        witness(13),
        pq_witness(12),
        witness(16),
    );
    let two_levels = "group x 2 w11 w12\ngroup y any w13 pq12\ngroup both all x y\nquorum both\n";
    let cases: Vec<(&str, &str, Vec<Vec<&Cosigner>>)> = vec![
        ("none", "quorum none\n", vec![vec![], vec![&w11]]),
        (
            "one witness",
            "quorum w12\n",
            vec![vec![&w12], vec![&w11], vec![]],
        ),
        (
            "any",
            "group g any w11 w12\nquorum g\n",
            vec![vec![&w12], vec![&w13], vec![&stranger]],
        ),
        (
            "all",
            "group g all w11 pq12\nquorum g\n",
            vec![vec![&w11, &pq12], vec![&pq12]],
        ),
        (
            "threshold",
            "group g 2 w11 w12 w13\nquorum g\n",
            vec![
                vec![&w11, &w13],
                vec![&w12, &stranger],
                vec![&w11, &w12, &w13],
            ],
        ),
        (
            "groups of groups",
            two_levels,
            vec![
                vec![&w11, &w12, &w13],
                vec![&w11, &w12],
                vec![&w11, &w13, &pq12],
                vec![&pq12, &w12, &w11],
            ],
        ),
    ];
    let judged: Vec<Value> = cases
        .iter()
        .enumerate()
        .map(|(at, (name, quorum, notes))| {
            let text = policy_lines(quorum);
            let policy: Policy = text.parse().unwrap();
            let notes = notes.iter().enumerate().map(|(n, by)| {
                let pointer = format!("/judged/{at}/notes/{n}/note");
                let note = kept(held, &pointer, || cosigned(&note, by, TIME));
                let quorum = policy.judge(&Note::parse(&note).unwrap()).unwrap();
                let names: Vec<_> = quorum
                    .cosignatures
                    .iter()
                    .map(|one| one.name.clone())
                    .collect();
                json!({"note": note, "reached": quorum.reached, "witnesses": names})
            });
            json!({"name": name, "policy": text, "notes": notes.collect::<Vec<_>>()})
        })
        .collect();
    let refused: Vec<Value> = [
        ("no quorum", policy_lines("")),
        ("two quorums", policy_lines("quorum w11\nquorum w11\n")),
        ("a name that is not defined", policy_lines("quorum w9\n")),
        (
            "a group before its member",
            policy_lines("group g any h\ngroup h any w11\nquorum g\n"),
        ),
        (
            "a member of two groups",
            policy_lines("group g any w11\ngroup h any w11\nquorum g\n"),
        ),
        (
            "a threshold above the members",
            policy_lines("group g 2 w11\nquorum g\n"),
        ),
        (
            "a threshold of zero",
            policy_lines("group g 0 w11\nquorum g\n"),
        ),
        ("a carriage return", policy_lines("quorum w11\r\n")),
        (
            "one key twice",
            policy_lines(&format!("witness again {}\nquorum w11\n", w11.key())),
        ),
        (
            "a log's key for a witness",
            policy_lines(&format!("witness log {}\nquorum w11\n", ledger(0).key())),
        ),
    ]
    .into_iter()
    .map(|(name, text)| {
        let error = text.parse::<Policy>().unwrap_err();
        json!({"name": name, "policy": text, "code": error.code()})
    })
    .collect();
    compare("policies", &json!({"judged": judged, "refused": refused}));
}

#[test]
fn the_published_witness_requests_and_proofs_are_what_this_version_makes() {
    let held = held("witness.json");
    let held = held.as_ref();
    let (old, new) = (ledger(5), ledger(13));
    let Ok(proof) = consistency_proof(5, 13, &new);
    let note = Note::parse(&new.note()).unwrap();
    let request = AddCheckpoint::new(5, proof.unwrap(), note.clone()).unwrap();
    let first = AddCheckpoint::new(0, vec![], Note::parse(&old.note()).unwrap()).unwrap();
    let checkpoint = ForeignCheckpoint::from(&new.checkpoint());
    let made = || {
        let by = [&witness(11), &pq_witness(12)];
        let lines = by.map(|one| one.cosign(&checkpoint, TIME).unwrap());
        Answer::Cosigned(lines.to_vec()).body()
    };
    let body = kept(held, "/answers/0/body", made);
    let answers: Vec<Value> = [
        (200, None, body.clone()),
        (409, Some("text/x.tlog.size"), "5\n".to_owned()),
        (422, None, String::new()),
    ]
    .into_iter()
    .map(|(status, kind, body)| {
        let answer = Answer::parse(status, kind, body.as_bytes()).unwrap();
        assert_eq!(answer.body(), body);
        json!({"status": status, "content_type": kind, "body": body})
    })
    .collect();

    let policy: Policy = policy_lines("group g all w11 pq12\nquorum g\n")
        .parse()
        .unwrap();
    let Answer::Cosigned(lines) = Answer::parse(200, None, body.as_bytes()).unwrap() else {
        panic!("lines");
    };
    let mut whole = note;
    whole.merge(lines).unwrap();
    let file = ProofFile {
        checkpoint: whole.to_string(),
        ..new.receipt(6).to_proof_file()
    };
    let log: LedgerKey = new.key().clone();
    let leaf = leaf_hash(b"record 6");
    let verified = file
        .verify(&leaf, &[&LogKey::Note(log)], Some(&policy))
        .unwrap();
    assert!(verified.quorum.unwrap().reached);
    let trust = Trust {
        trust_domain: "example.org".to_owned(),
        ledger_key: new.key().clone(),
        x509_authorities: Vec::new(),
        policy: Some(policy),
    };
    let world = crate::witnessed::under_policy();
    let pack = kept(held, "/pack/pack", || {
        let note = cosigned(&world.server.note(), &[&witness(11), &pq_witness(15)], TIME);
        b64(&crate::witnessed::pack_under(&world, &note))
    });
    let report = verify(&crypto::base64::decode(&pack).unwrap(), &world.trust).unwrap();
    assert!(report.is_complete());
    let witnesses = report.quorum.unwrap().cosignatures;
    let witnesses: Vec<String> = witnesses.into_iter().map(|one| one.name).collect();
    compare(
        "witness",
        &json!({
            "records": "the ASCII texts `record 0`, `record 1`, ...",
            "log_key": new.key().to_string(),
            "witnesses": [witness(11).key().to_string(), pq_witness(12).key().to_string()],
            "requests": [
                {"name": "first", "body": first.to_string()},
                {"name": "from 5 to 13", "body": request.to_string()},
            ],
            "answers": answers,
            "pack": {"pack": pack, "trust": serde_json::to_value(&world.trust).unwrap(), "witnesses": witnesses},
            "trust": serde_json::to_value(&trust).unwrap(),
            "tlog_proof": {"leaf_hash": b64(&leaf), "proof": file.to_string()},
        }),
    );
}
